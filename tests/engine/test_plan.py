"""Keys: what a unit depends on is in its key, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stackfeat.config import RunConfig
from stackfeat.engine.graph import build_graph
from stackfeat.engine.jobs import Averaging, Sources
from stackfeat.engine.plan import Plan, make_plan
from stackfeat.engine.recipes import AlignEmitRecipe, DiagnoseRecipe, EmitRecipe, EmitView, key_of
from stackfeat.engine.scoring import diagnose_jobs
from stackfeat.members.options import VERSIONS as FIT_VERSIONS
from stackfeat.members.settings import RunSettings

LEVELS: dict[str, Any] = {
    "base": {
        "mlp": {"net": "mlp", "train": {"epochs": 5}},
        "gbm": {"estimator": "lightgbm.LGBMClassifier"},
    },
    "meta": {"m": {"estimator": "gated_linear", "inputs": ["base/*/*"]}},
    "final": {
        "soft": {"vote": "soft", "inputs": ["meta/*"]},
        "best": {"vote": "greedy", "inputs": ["*/*/proba"]},
    },
}
SETTINGS = RunSettings(threads=1, loss="cross_entropy", metric="log_loss")


def plan(levels: dict[str, Any] = LEVELS, settings: dict[str, Any] | None = None, **sources: Any) -> Plan:
    config = RunConfig(task="multiclass", metric="log_loss", data={"train": "a.csv"}, levels=levels)
    values = {
        "samples": "s",
        "test": "t",
        "folds": "f",
        "n_folds": 3,
        "n_repeats": 1,
        "is_time": False,
        "seed": 42,
    }
    chosen = replace(SETTINGS, **(settings or {}))
    given = Sources(settings=chosen, source_hash=lambda name: None, **(values | sources))
    return make_plan(build_graph(config.levels, "multiclass"), given)


def with_option(path: str, value: Any) -> dict[str, Any]:
    import copy

    levels = copy.deepcopy(LEVELS)
    *owners, last = path.split(".")
    place = levels
    for name in owners:
        place = place[name]
    place[last] = value
    return levels


def changed(before: Plan, after: Plan) -> set[str]:
    return {
        member
        for (member, repeat, fold), key in before.fits.items()
        if after.fits.get((member, repeat, fold)) != key
    }


def test_a_new_meta_learner_trains_no_base_member_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan()
    monkeypatch.setitem(FIT_VERSIONS, "gated_linear", FIT_VERSIONS["gated_linear"] + 1)
    assert changed(before, plan()) == {"meta/m", "final/soft", "final/best"}


@pytest.mark.parametrize(
    ("stage", "concerned"),
    [
        ("gate", {"meta/trees", "final/soft", "final/best", "final/prior"}),
        ("prior_vote", {"final/prior"}),
        ("greedy_vote", {"final/best"}),
        ("weighted_vote", {"final/weighted"}),
    ],
)
def test_a_new_version_of_a_choice_concerns_the_members_that_make_it(
    monkeypatch: pytest.MonkeyPatch, stage: str, concerned: set[str]
) -> None:
    trees = {"estimator": "lightgbm.LGBMClassifier"}
    levels = with_option("meta.trees", {**trees, "inputs": ["base/*/*"]})
    levels["meta"]["open"] = {**trees, "inputs": ["base/*/*"], "gate": False}
    levels["meta"]["plain"] = {**trees, "inputs": ["base/*/proba"]}
    levels["final"]["hard"] = {"vote": "hard", "inputs": ["base/*/proba"]}
    levels["final"]["prior"] = {"vote": "hard", "tie": "prior", "inputs": ["meta/*"]}
    levels["final"]["weighted"] = {"vote": "weighted", "inputs": ["base/*/proba"]}
    before = plan(levels)
    monkeypatch.setitem(FIT_VERSIONS, stage, FIT_VERSIONS[stage] + 1)
    assert changed(before, plan(levels)) == concerned


def test_every_unit_has_a_key_of_its_own() -> None:
    made = plan()
    keys = [*made.fits.values(), *made.emits.values(), *made.aligns.values(), *made.align_emits.values()]
    assert len(set(keys)) == len(keys)
    assert set(made.fits) >= {("base/mlp", 0, 2), ("meta/m", 0, "all"), ("final/best", 0, 0)}
    assert ("base/mlp", 0, "all") not in made.fits


def test_jobs_come_after_all_that_they_read() -> None:
    made = plan()
    done = {"s", "t", "f"}
    for wave in (wave for waves in made.waves.values() for wave in waves):
        for job in wave:
            for step in job.steps:
                recipe = step.to_json()
                needed = [place[0] for block in recipe.get("blocks", ()) for place in block["oof"] if place]
                needed += [place[0] for view in recipe.get("views", ()) for place in view["blocks"]]
                needed += recipe.get("fits", [])
                needed += [recipe[name] for name in ("reference",) if recipe.get(name)]
                assert set(needed) <= done
        done |= {step.key for job in wave for step in job.steps}


def test_an_option_of_a_member_changes_it_and_what_reads_it() -> None:
    assert changed(plan(), plan(with_option("base.gbm.params", {"n_estimators": 7}))) == {
        "base/gbm",
        "meta/m",
        "final/soft",
        "final/best",
    }


def test_training_keys_do_not_depend_on_test_rows() -> None:
    for averaging in ("late", "early", "refit"):
        before, after = plan(averaging=averaging), plan(test="other", averaging=averaging)
        assert changed(before, after) == set()
        assert before.aligns == after.aligns and before.align_refits == after.align_refits
    before, after = plan(), plan(test="other")
    assert before.emits["base/mlp", 0, 0] != after.emits["base/mlp", 0, 0]


def test_the_metric_is_in_the_keys_of_fitted_votes_only() -> None:
    assert changed(plan(), plan(settings={"metric": "accuracy"})) == {"final/best"}


def test_the_gate_is_in_the_keys_of_meta_learners_only() -> None:
    assert changed(plan(), plan(settings={"gate_se": 2.0})) == {"meta/m", "final/soft", "final/best"}


def test_another_member_changes_nothing_but_its_readers() -> None:
    import copy

    levels = copy.deepcopy(LEVELS)
    levels["base"]["more"] = {"estimator": "sklearn.svm.SVC"}
    assert changed(plan(), plan(levels)) == {"meta/m", "final/soft", "final/best"}


def test_options_that_a_vote_does_not_use_are_not_in_its_key() -> None:
    assert changed(plan(), plan(with_option("final.soft.picks", 7))) == set()
    assert changed(plan(), plan(with_option("final.best.picks", 7))) == {"final/best"}


def test_seeds_differ_by_member_repeat_and_fold() -> None:
    made = plan(n_repeats=2)
    seeds = [job.steps[0].to_json()["seed"] for job in made.jobs() if job.what == "fit"]
    assert len(set(seeds)) == len(seeds)


def test_without_test_rows_nothing_is_emitted_and_fits_and_maps_are_the_same() -> None:
    made = plan(test=None)
    assert not made.emits and not made.align_emits
    assert made.fits == plan().fits and made.aligns == plan().aligns


def test_time_folds_lose_one_fold_for_each_fitted_level() -> None:
    made = plan(is_time=True)
    folds = {fold for member, _, fold in made.fits if member == "final/best" and fold != "all"}
    assert folds == {2}
    assert made.oof_places("meta/m/proba", 0)[0] is None


NESTED = {
    "base": LEVELS["base"],
    "meta": {"m": {"estimator": "lightgbm.LGBMClassifier", "inputs": ["base/*/proba", "table"]}},
}


def test_a_nested_member_trains_on_models_that_saw_neither_fold() -> None:
    made = plan(NESTED, n_rows=500)
    pairs = {made.fits[unit]: unit for unit in made.fits if "-" in str(unit[2])}
    assert {unit[2] for unit in pairs.values()} == {"0-1", "0-2", "1-2"}
    for job in made.jobs():
        if job.member != "meta/m" or job.fold == "all":
            continue
        for block in job.steps[0].to_json()["blocks"]:
            for fold, (key, array) in enumerate(block["oof"]):
                if fold == job.fold:
                    assert key == made.fits[block["name"].rsplit("/", 1)[0], 0, fold]
                else:
                    left_out = pairs[key][2].split("-")
                    assert {str(fold), str(job.fold)} == set(left_out) and array == f"oof{fold}/proba"


def test_members_are_nested_on_few_rows_or_when_asked() -> None:
    def has_pairs(nested: object, **sources: Any) -> bool:
        import copy

        levels = copy.deepcopy(NESTED)
        levels["meta"]["m"]["nested"] = nested
        return any("-" in str(fold) for _, _, fold in plan(levels, **sources).fits)

    assert has_pairs("auto", n_rows=500) and has_pairs(True, n_rows=50_000) and has_pairs(True)
    assert not has_pairs("auto", n_rows=50_000) and not has_pairs("auto") and not has_pairs(False, n_rows=500)
    assert not has_pairs(True, n_rows=500, is_time=True) and not has_pairs(True, n_rows=500, n_folds=2)
    assert not any("-" in str(fold) for _, _, fold in plan(n_rows=500).fits), "no raw columns, nothing nested"


@pytest.mark.parametrize(
    ("inputs", "gate", "is_nested"),
    [
        (["base/*/proba", "base/*/*@aligned"], False, True),
        (["base/*/proba", "base/*/*@aligned"], True, False),
        (["base/*/proba", "base/*/*@geometry"], False, False),
        (["base/*/*@aligned"], False, False),
        (["base/*/proba"], False, False),
    ],
)
def test_ungated_activations_beside_predictions_are_nested_as_raw_columns_are(
    inputs: list[str], gate: bool, is_nested: bool
) -> None:
    member = {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": inputs, "gate": gate}
    made = plan({"base": LEVELS["base"], "meta": {"m": member}}, n_rows=500)
    assert any("-" in str(fold) for _, _, fold in made.fits) is is_nested


def emitted(made: Plan, member: str, fold: object) -> list[dict[str, Any]]:
    """Views that a fit says something of, as its emit recipe lists them."""
    key = made.emits[member, 0, fold]
    (recipe,) = [step.to_json() for job in made.jobs() for step in job.steps if step.key == key]
    return list(recipe["views"])


def test_averaging_changes_what_is_said_of_test_rows_and_no_fit_of_a_fold() -> None:
    late, early, refit = (plan(averaging=mode) for mode in ("late", "early", "refit"))
    assert late.fits == early.fits and late.aligns == early.aligns == refit.aligns
    assert set(refit.fits) - set(late.fits) == {("base/mlp", 0, "all"), ("base/gbm", 0, "all")}
    assert all(refit.fits[unit] == key for unit, key in late.fits.items())
    assert {unit for unit in early.emits if unit[0] == "meta/m"} == {("meta/m", 0, "all")}
    keys = [made.emits["meta/m", 0, "all"] for made in (late, early, refit)]
    assert len(set(keys)) == 3


def test_an_early_mean_is_read_where_a_late_run_reads_each_view() -> None:
    late, early, refit = (plan(averaging=mode) for mode in ("late", "early", "refit"))
    assert [view["fold"] for view in emitted(late, "meta/m", "all")] == [0, 1, 2]
    (mean,) = emitted(early, "meta/m", "all")
    assert mean["fold"] == "mean"
    assert list(mean["blocks"][0]) == [view["blocks"][0] for view in emitted(late, "meta/m", "all")]
    (whole,) = emitted(refit, "meta/m", "all")
    assert whole["fold"] == "refit"
    assert tuple(whole["blocks"][0]) == (refit.emits["base/mlp", 0, "all"], "viewrefit/proba")
    # No fold model is asked about test rows: the refit's map is fitted on training rows.
    assert {fold for _, _, fold in refit.emits} == {"all"}


def test_keys_of_late_runs_are_those_of_stores_filled_before_other_averages_were_built() -> None:
    view = EmitView.of(0, [[("k", "a")], [("l", "b")]])
    emit = EmitRecipe(fit="f", samples="s", raw=("table",), views=(view,))
    assert emit.key == "f256b942a8faf0c2ac7cb5c111dc6a89b96bdcce742888c90a3f8723d94aa51d"
    mapped = AlignEmitRecipe(align="a", emit="e", tap="t", fold=0).to_json()
    # Version 2 since a tap may have several parts; nothing else in the recipe has changed.
    assert (
        key_of({**mapped, "version": 1}) == "1ad5c67d147e13616095fc5e0b8539de887a631ceb820205da82e2a1f53a84d0"
    )
    diagnosed = DiagnoseRecipe(
        block="b", oof=(("k", "a"),), views=(), align=None, samples="s", folds="f", seed=1
    )
    assert "averaging" not in diagnosed.to_json()
    assert Averaging("mean", "all", False).to_json() == {
        "average": "mean",
        "chain": "all",
        "last_view": False,
    }


def test_a_block_is_diagnosed_on_test_rows_in_the_averaging_in_use() -> None:
    seen = {}
    for mode in ("late", "early", "refit"):
        made = plan(averaging=mode)
        (step,) = diagnose_jobs(made)["base/mlp/penultimate@geometry"].steps
        recipe = step.to_json()
        seen[mode] = recipe.get("averaging"), [place[1] for place in recipe["views"]]
    folds = [f"view{fold}/penultimate@geometry" for fold in range(3)]
    assert seen == {
        "late": (None, folds),
        "early": ("early", folds),
        "refit": ("refit", ["viewrefit/penultimate@geometry"]),
    }


def test_held_out_rows_take_the_fits_and_views_of_test_rows_and_are_never_anchors() -> None:
    for mode in ("late", "early", "refit"):
        alone, made = plan(averaging=mode), plan(averaging=mode, holdout="h")
        held = made.held
        assert held is not None and held.sources.test == "h"
        assert (made.fits, made.aligns, made.emits) == (alone.fits, alone.aligns, alone.emits)
        assert held.test_maps is made.test_maps and held.align_emits.keys() == made.align_emits.keys()
        recipes = {step.key: step.to_json() for job in made.jobs() for step in job.steps}
        assert {recipes[key]["samples"] for key in held.emits.values()} == {"h"}
        for unit, key in held.emits.items():
            views = [view["fold"] for view in recipes[key]["views"]]
            assert views == [view["fold"] for view in recipes[made.emits[unit]]["views"]]
        assert made.emits.keys() == held.emits.keys()
