"""Several targets and label sets: noise stays at chance, and no kind knows the labels of its own rows.

Noise of a row is shared by its targets, so that what is said of one target would tell of another if it had seen it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.datasets import load_diabetes

from stackfeat.engine import worker
from tests.honesty.redrawn import LIMIT, Law, advantages, of_stack

NAMES = ("a", "b", "c")
SHARED = 0.8
"""The correlation of the noise of two targets of a row."""
CHANGED = 1

Given = dict[str, Any]
GIVEN: dict[str, Given] = {
    "multilabel": {"task": "multilabel", "metric": "log_loss", "data": {"target": list(NAMES)}},
    "regression": {"task": "regression", "metric": "arrmse", "data": {"target": list(NAMES)}},
}


def shared_noise(n_rows: int, rng: np.random.Generator) -> np.ndarray:
    own, common = rng.normal(size=(n_rows, len(NAMES))), rng.normal(size=(n_rows, 1))
    return np.asarray(SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own)


def labels_of(task: str, scores: np.ndarray) -> np.ndarray:
    return (scores > 0).astype(int) if task == "multilabel" else scores


def losses(task: str, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    if task == "regression":
        return np.asarray(((y - prediction) ** 2).mean(axis=1))
    right = np.where(y > 0, prediction, 1 - prediction)
    return np.asarray(-np.log(np.clip(right, 1e-6, None)).mean(axis=1))


class TargetsLaw(Law):
    """Normal targets with correlated errors; its values are their means, or probabilities of being above 0."""

    @property
    def task(self) -> str:
        return "multilabel" if self.values.min() > 0 and self.values.max() < 1 else "regression"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        is_value = self.task == "regression"
        means = self.values if is_value else norm.ppf(self.values)
        return labels_of(self.task, means + shared_noise(len(means), rng))

    def labelled(self, y: np.ndarray) -> pd.DataFrame:
        return self.columns.assign(**dict(zip(NAMES, y.T, strict=True)))

    def losses(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return losses(self.task, y, prediction)


def law_of(task: str, n_rows: int) -> TargetsLaw:
    columns = load_diabetes(as_frame=True).data.iloc[:, :8].add_prefix("x ")
    law = Law.over(columns.loc[:, columns.nunique() > 5], len(NAMES), n_rows)
    means = np.log(law.values)
    means -= means.mean(axis=0)
    return TargetsLaw(law.columns, norm.cdf(means) if task == "multilabel" else means)


def kinds(task: str, rounds: int = 8, epochs: int = 2) -> dict[str, Any]:
    """A member of every kind: fitted for all targets at once, and for each by itself."""
    is_value = task == "regression"
    suffix, output = ("Regressor", "prediction") if is_value else ("Classifier", "proba")
    linear = {"estimator": f"sklearn.linear_model.{'Ridge' if is_value else 'LogisticRegression'}"}
    small = {"num_leaves": 5, "min_child_samples": 5}
    boosted = f"lightgbm.LGBM{suffix}"
    reads, everything = [f"base/*/{output}"], [f"*/*/{output}"]
    forest = {"n_estimators": rounds, "min_samples_leaf": 3}
    train = {"epochs": epochs, "batch_size": 32, "lr": 0.02}
    return {
        "base": {
            "boosted": {"estimator": boosted, "params": {**small, "n_estimators": rounds}},
            "open": {"estimator": boosted, "params": {**small, "learning_rate": 0.3}},
            "forest": {"estimator": f"sklearn.ensemble.ExtraTrees{suffix}", "params": forest},
            "linear": linear,
            "net": {"net": "mlp", "params": {"hidden": [8]}, "train": train},
            "early": {"net": "mlp", "params": {"hidden": [8]}, "train": {**train, "patience": 1}},
        },
        "meta": {
            "linear": {**linear, "inputs": reads},
            "gate": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            "boosted": {"estimator": boosted, "params": {**small, "n_estimators": rounds}, "inputs": reads},
        },
        "final": {vote: {"vote": vote, "inputs": everything} for vote in ("soft", "weighted", "greedy")},
    }


def noise(task: str, n_rows: int, seed: int, prefix: str = "r") -> pd.DataFrame:
    """Rows whose targets mean nothing."""
    rng = np.random.default_rng([seed, n_rows])
    columns = pd.DataFrame(rng.normal(size=(n_rows, 5)), columns=[f"x{j}" for j in range(5)])
    y = labels_of(task, shared_noise(n_rows, rng))
    return columns.assign(id=[f"{prefix}{i}" for i in range(n_rows)], **dict(zip(NAMES, y.T, strict=True)))


def better_than_constants(task: str, frame: pd.DataFrame, constant: Any, said: pd.DataFrame) -> float:
    """How much less is lost than by constants, in its standard errors."""
    y = frame[list(NAMES)].to_numpy()
    told = said.loc[frame["id"], list(NAMES)].to_numpy()
    gain = losses(task, y, np.broadcast_to(constant, y.shape)) - losses(task, y, told)
    return float(gain.mean() / (gain.std() / len(y) ** 0.5)) if gain.any() else 0.0


def gains(arena: Any, task: str, n_seeds: int, n_rows: int, **sizes: int) -> pd.DataFrame:
    """How much less members lose on noise than constants that know it, over seeds, in standard errors."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in range(n_seeds):
        train, test = noise(task, n_rows, seed), noise(task, 2 * n_rows, seed, "t")
        ran = arena.run(
            kinds(task, **sizes),
            train,
            test.drop(columns=list(NAMES)),
            seed=seed,
            folds={"n": 3},
            **GIVEN[task],
        )
        own, law = train[list(NAMES)].mean().to_numpy(), 0.5 if task == "multilabel" else 0.0
        for member in ran.members:
            for part, *judged in (
                ("oof", train, own, ran.oof(member)),
                ("test", test, law, ran.test(member)),
            ):
                found.setdefault((member, part), []).append(better_than_constants(task, *judged))
    lines = [(member, part, np.mean(z) * len(z) ** 0.5) for (member, part), z in found.items()]
    return pd.DataFrame(lines, columns=["member", "part", "z"])


@pytest.mark.parametrize("task", GIVEN)
def test_noise_is_predicted_no_better_than_by_constants(arena: Any, task: str) -> None:
    table = gains(arena, task, n_seeds=1, n_rows=120)
    print(table.to_string())
    assert (table["z"] <= LIMIT).all(), table.to_string()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", GIVEN)
def test_more_noise_is_predicted_no_better_either(arena: Any, task: str) -> None:
    table = gains(arena, task, n_seeds=8, n_rows=400, rounds=40, epochs=20)
    print(table.to_string())
    assert (table["z"] <= LIMIT).all(), table.to_string()


@pytest.mark.parametrize("task", GIVEN)
def test_no_kind_knows_labels_of_its_own_rows(arena: Any, task: str) -> None:
    law = law_of(task, 200)
    assert law.task == task
    table = advantages(law, of_stack(arena, kinds(task), law, **GIVEN[task]), n_draws=1)
    print(table.to_string())
    assert (table["z"].abs() <= LIMIT).all(), table.to_string()


def too_bad(measured: str) -> pytest.MarkDecorator:
    """Mark a case whose scores were measured to be too bad, not too good, by more than the limit."""
    return pytest.mark.xfail(raises=AssertionError, reason=f"pessimistic: {measured}")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "task",
    [
        pytest.param("multilabel", marks=too_bad("meta.gate -.0103 ± .0025, meta.linear -.0093 ± .0025")),
        pytest.param("regression", marks=too_bad("meta.gate -.043 ± .013, meta.linear -.042 ± .013")),
    ],
)
def test_no_kind_knows_labels_of_its_own_rows_over_twenty_draws(arena: Any, task: str) -> None:
    """What is said of all targets makes meta-learners pessimistic on so few rows, unless they are nested."""
    law = law_of(task, 400)
    table = advantages(law, of_stack(arena, kinds(task, 40, 10), law, **GIVEN[task]), n_draws=20)
    print(table.to_string())
    if (table["z"] > LIMIT).any():
        pytest.fail(table.to_string())
    assert (table["z"] >= -LIMIT).all(), table.to_string()


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("task", GIVEN)
def test_nested_meta_learners_score_on_labels_as_on_redraws(arena: Any, task: str) -> None:
    law, every = law_of(task, 400), kinds(task, 40)
    base = {name: every["base"][name] for name in ("boosted", "linear", "forest")}
    linear = {**every["meta"]["linear"], "nested": True}
    gate = {**linear, "estimator": "gated_linear"}
    levels = {"base": base, "meta": {"linear": linear, "gate": gate}}
    table = advantages(law, of_stack(arena, levels, law, **GIVEN[task]), n_draws=20)
    print(table.to_string())
    assert (table["z"].abs() <= LIMIT).all(), table.to_string()


@pytest.mark.parametrize("task", GIVEN)
def test_labels_of_a_fold_change_nothing_that_base_members_say_of_it(arena: Any, task: str) -> None:
    train = noise(task, 90, 0).assign(given=np.arange(90) % 3)
    inside = (train["given"] == CHANGED).to_numpy()
    changed = train.copy()
    own = train.loc[inside, list(NAMES)]
    changed.loc[inside, list(NAMES)] = 1 - own if task == "multilabel" else -3 * own + 1
    options = {**GIVEN[task], "data": {**GIVEN[task]["data"], "fold": "given"}}
    levels = {"base": kinds(task)["base"]}
    first, second = (arena.run(levels, frame, **options) for frame in (train, changed))
    for member in first.members:
        before, after = (ran.oof(member).loc[train["id"], list(NAMES)].to_numpy() for ran in (first, second))
        np.testing.assert_array_equal(before[inside], after[inside], err_msg=member)
        assert (before[~inside] != after[~inside]).any(), member


@pytest.mark.parametrize("task", GIVEN)
def test_a_column_made_of_one_target_is_caught(arena: Any, task: str) -> None:
    train = noise(task, 120, 0)
    train["leak"] = train["b"] + 0.3 * np.random.default_rng(1).normal(size=120)
    ran = arena.run(
        {"base": {"boosted": kinds(task)["base"]["boosted"]}}, train, folds={"n": 3}, **GIVEN[task]
    )
    own = train[list(NAMES)].mean().to_numpy()
    assert better_than_constants(task, train, own, ran.oof("base.boosted")) > LIMIT


@pytest.mark.parametrize("task", GIVEN)
def test_rows_predicted_by_a_model_that_saw_them_are_caught(
    arena: Any, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    def all_rows(recipe: Any, folds: Any, covered: Any) -> tuple[np.ndarray, np.ndarray | None]:
        held_out = None if recipe.fold == "all" else folds.splits[recipe.repeat][recipe.fold][1]
        return np.arange(folds.n_rows), held_out

    monkeypatch.setattr(worker, "row_sets", all_rows)
    train, every = noise(task, 120, 0), kinds(task)
    levels = {
        "base": {"forest": every["base"]["forest"]},
        "meta": {"linear": every["meta"]["linear"]},
        "final": {"soft": every["final"]["soft"]},
    }
    ran = arena.run(levels, train, folds={"n": 3}, **GIVEN[task])
    own = train[list(NAMES)].mean().to_numpy()
    known = {member: better_than_constants(task, train, own, ran.oof(member)) for member in ran.members}
    assert len(known) == 3
    assert min(known.values()) > LIMIT, known
