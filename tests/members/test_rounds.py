"""Rounds of boosting: by hand with the libraries themselves, on rows that are divided as the folds are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.utils.validation import has_fit_parameter

from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.errors import DataError, MemberError
from stackfeat.members import estimator as member_module
from stackfeat.members import rounds as rounds_module
from stackfeat.members.estimator import EstimatorMember, FittedEstimator
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.rounds import (
    MOST_POINTS,
    RATE,
    best_rounds,
    find_rounds,
    usable_splits,
    validation_curve,
)
from stackfeat.members.settings import EstimatorSettings, RunSettings
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.meta.gating.estimator_gate import gate_blocks
from stackfeat.tasks.task import Task

SEED = 5
VALUES = Task("regression")
CLASSES = Task("multiclass", ("a", "b", "c"))


def rows_of(n: int, task: Task, **roles: Any) -> tuple[Samples, np.ndarray]:
    """Rows whose target depends on two of three columns and much noise."""
    random = np.random.default_rng(1)
    X = random.normal(size=(n, 3))
    signal = X[:, 0] + 0.5 * X[:, 1] ** 2 + random.normal(size=n)
    y = np.digitize(signal, [-0.3, 1.0]) if task.classes else signal
    names = np.arange(n).astype(str)
    table = Table(X, ("a", "b", "c"), np.empty((n, 0), dtype=np.int32), (), ())
    return Samples(ids=names, inputs={"table": table}, y=y, task=task, **roles), X


def context_of(samples: Samples, kind: str = "kfold", **settings: Any) -> FitContext[EstimatorSettings]:
    inner = InnerSplits(samples, np.arange(samples.n_rows), kind, SEED)
    given = EstimatorSettings(**{"threads": 1, "seeds": 1, **settings})
    return FitContext(samples.task, samples.labels, samples.weight, None, inner, SEED, given)


def fitted_on(samples: Samples, context: FitContext[EstimatorSettings], name: str, **options: Any) -> Any:
    rows = Rows(samples.n_rows, samples.inputs, (), samples.ids, np.arange(samples.n_rows))
    return EstimatorMember(EstimatorOptions(estimator=name, **options)).fit(rows, context)


def held_out(X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Validation rows as LightGBM's `fit` calls them: from 4.7 on eval_set is deprecated."""
    takes_both = has_fit_parameter(LGBMRegressor(), "eval_X")
    return {"eval_X": X, "eval_y": y} if takes_both else {"eval_set": [(X, y)]}


def hand_rounds(made: Any, X: np.ndarray, y: np.ndarray, parts: tuple[np.ndarray, np.ndarray]) -> int:
    """Rounds by LightGBM's own early stopping."""
    made.fit(X[parts[0]], y[parts[0]], **held_out(X[parts[1]], y[parts[1]]))
    return int(made.best_iteration_)


def test_few_rows_get_the_median_of_three_inner_splits_and_are_all_fitted_on() -> None:
    samples, X = rows_of(300, VALUES)
    context = context_of(samples)
    fitted = fitted_on(samples, context, "lightgbm.LGBMRegressor", params={"num_leaves": 5})
    common = {"num_leaves": 5, "learning_rate": RATE, "random_state": SEED, "verbosity": -1, "n_jobs": 1}
    found = [
        hand_rounds(
            LGBMRegressor(n_estimators=5000, early_stopping_rounds=50, **common),
            X,
            samples.y,
            context.inner(0.15, draw),
        )
        for draw in range(3)
    ]
    assert len(set(found)) == 3, "a case that tells the median from the first"
    median = sorted(found)[1]
    assert fitted.report()["rounds"] == {
        "params": {"learning_rate": RATE, "n_estimators": median},
        "splits": found,
        "most": 5000,
    }
    by_hand = LGBMRegressor(n_estimators=median, **common).fit(X, samples.y)
    rows = Rows(samples.n_rows, samples.inputs, (), samples.ids, np.arange(samples.n_rows))
    np.testing.assert_array_equal(fitted.emit(rows)["prediction"][:, 0], by_hand.predict(X))


def test_many_rows_get_one_inner_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_module, "FEW_ROWS", 300)
    for n, expected in ((299, 3), (300, 1)):
        samples, _ = rows_of(n, CLASSES)
        assert len(usable_splits(context_of(samples, "stratified"), 0.15)) == expected


@pytest.mark.parametrize("rate", [0.3, 0.1])
def test_a_given_rate_is_kept_and_makes_the_search_as_patient(rate: float) -> None:
    samples, X = rows_of(300, CLASSES)
    context = context_of(samples, "stratified")
    fitted = fitted_on(samples, context, "lightgbm.LGBMClassifier", params={"learning_rate": rate})
    common = {"learning_rate": rate, "random_state": SEED, "verbosity": -1, "n_jobs": 1}
    patience = {0.3: 20, 0.1: 25}[rate]
    found = [
        hand_rounds(
            LGBMClassifier(n_estimators=5000, early_stopping_rounds=patience, **common),
            X,
            samples.labels,
            context.inner(0.15, draw),
        )
        for draw in range(3)
    ]
    assert fitted.report()["rounds"]["splits"] == found
    assert "learning_rate" not in fitted.report()["rounds"]["params"]
    assert fitted.estimators[0].n_estimators == int(np.median(found))


def test_seeds_share_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _ = rows_of(200, VALUES)
    searches = []
    monkeypatch.setattr(
        member_module, "find_rounds", lambda *given: searches.append(1) or find_rounds(*given)
    )
    fitted = fitted_on(samples, context_of(samples, seeds=3), "lightgbm.LGBMRegressor")
    assert len(searches) == 1
    assert len({one.random_state for one in fitted.estimators}) == 3
    assert len({one.n_estimators for one in fitted.estimators}) == 1


def test_a_given_number_of_rounds_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_module, "find_rounds", lambda *given: pytest.fail("nothing is to be searched"))
    samples, _ = rows_of(100, VALUES)
    fitted = fitted_on(samples, context_of(samples), "lightgbm.LGBMRegressor", params={"num_iterations": 7})
    assert fitted.estimators[0].n_estimators_ == 7 and fitted.report() == {}
    assert fitted.estimators[0].learning_rate == 0.1, "the library's own"


OTHERS = {
    "xgboost.XGB": "n_estimators",
    "catboost.CatBoost": "iterations",
    "sklearn.ensemble.HistGradientBoosting": "max_iter",
}


@pytest.mark.parametrize("task", [VALUES, CLASSES], ids=lambda task: task.kind)
@pytest.mark.parametrize("prefix", OTHERS)
def test_every_booster_finds_its_rounds(prefix: str, task: Task) -> None:
    pytest.importorskip(prefix.partition(".")[0])
    samples, X = rows_of(240, task)
    context = context_of(samples, "stratified" if task.classes else "kfold")
    name = prefix + ("Classifier" if task.classes else "Regressor")
    depth = {"depth" if "Cat" in prefix else "max_depth": 2, "learning_rate": 0.3}
    fitted = fitted_on(samples, context, name, params=depth)
    found = fitted.report()["rounds"]
    final = fitted.estimators[0]
    assert len(found["splits"]) == 3 and max(found["splits"]) < 200
    assert final.get_params()[OTHERS[prefix]] == int(np.median(found["splits"]))
    # By hand: losses of every number of rounds, by the same learner fitted to the end.
    for draw, rounds in enumerate(found["splits"]):
        fit_rows, valid_rows = context.inner(0.15, draw)
        whole = EstimatorMember(EstimatorOptions(estimator=name, params={**depth, OTHERS[prefix]: 200}))
        model = whole._learner(context, {}).fit(frame(X[fit_rows]), samples.labels[fit_rows])
        losses = [
            float(task.row_loss(samples.labels[valid_rows], np.asarray(one)).mean())
            for one in staged(model, frame(X[valid_rows]), task)
        ]
        assert losses[rounds - 1] == pytest.approx(min(losses[: rounds + 20]), abs=1e-6)


RANKERS = {
    "lightgbm.LGBMRanker": "n_estimators",
    "xgboost.XGBRanker": "n_estimators",
    "catboost.CatBoostRanker": "iterations",
}


def lists_of(n: int, size: int = 6) -> tuple[Samples, np.ndarray]:
    """Rows of lists whose grades depend on two of three columns and much noise, in no order of lists."""
    random = np.random.default_rng(1)
    X = random.normal(size=(n, 3))
    grade = np.digitize(X[:, 0] + 0.5 * X[:, 1] ** 2 + random.normal(size=n), [-0.3, 1.0, 2.0])
    query = random.permutation(np.arange(n) // size)
    table = Table(X, ("a", "b", "c"), np.empty((n, 0), dtype=np.int32), (), ())
    task = Task("ranking")
    samples = Samples(np.arange(n).astype(str), {"table": table}, grade.astype(float), task, query=query)
    return samples.with_lists("here"), X


def best_of_lists(name: str, X: np.ndarray, y: np.ndarray, parts: Any, seed: int) -> int:
    """Rounds by the library's own early stopping, with lists that follow one another and the NDCG of three rows."""
    fit_rows, valid_rows = (rows[np.argsort(y[rows, 1], kind="stable")] for rows in parts)
    one, other = ((frame(X[rows]), y[rows, 0]) for rows in (fit_rows, valid_rows))
    sizes = [np.unique_counts(y[rows, 1]).counts for rows in (fit_rows, valid_rows)]
    common: dict[str, Any] = {"learning_rate": 0.1, "early_stopping_rounds": 25}
    if "LGBM" in name:
        made = LGBMRanker(n_estimators=5000, max_depth=2, random_state=seed, n_jobs=1, verbosity=-1, **common)
        judged = held_out(*other) | {"eval_group": [sizes[1]], "eval_at": [3]}
        return int(made.fit(*one, group=sizes[0], **judged).best_iteration_)
    if "XGB" in name:
        from xgboost import XGBRanker

        names = {"n_estimators": 5000, "max_depth": 2, "random_state": seed, "n_jobs": 1}
        judged = {"eval_set": [other], "eval_qid": [y[valid_rows, 1].astype(int)], "verbose": False}
        made = XGBRanker(eval_metric="ndcg@3", **names, **common)
        return int(made.fit(*one, qid=y[fit_rows, 1].astype(int), **judged).best_iteration) + 1
    from catboost import CatBoostRanker, Pool

    names = {"iterations": 5000, "depth": 2, "random_seed": seed, "thread_count": 1, "verbose": False}
    made = CatBoostRanker(eval_metric="NDCG:top=3;type=Exp", allow_writing_files=False, **names, **common)
    groups = [y[rows, 1].astype(int) for rows in (fit_rows, valid_rows)]
    return (
        int(made.fit(*one, group_id=groups[0], eval_set=Pool(*other, group_id=groups[1])).best_iteration_) + 1
    )


@pytest.mark.parametrize("name", RANKERS)
def test_a_ranker_finds_its_rounds_on_whole_lists_by_their_ndcg(name: str) -> None:
    pytest.importorskip(name.partition(".")[0])
    samples, X = lists_of(600)
    context = context_of(samples, "group", loss="ndcg@3")
    depth = {"depth" if "Cat" in name else "max_depth": 2, "learning_rate": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitted = fitted_on(samples, context, name, params=depth)
    found, final = fitted.report()["rounds"], fitted.estimators[0]
    splits = [context.inner(0.15, draw) for draw in range(3)]
    for parts in splits:
        assert not set.intersection(*(set(samples.labels[rows, 1]) for rows in parts))
    expected = [best_of_lists(name, X, samples.labels, parts, SEED) for parts in splits]
    assert found["splits"] == expected and len(set(expected)) > 1
    assert final.get_params()[RANKERS[name]] == int(np.median(expected))
    (curve, *_) = fitted.report()["curves"]
    assert (
        curve["metric"].startswith("1 - ")
        and min(curve["validation"]) == curve["validation"][expected[0] - 1]
    )


def test_few_lists_get_three_splits_and_lists_that_order_nothing_none() -> None:
    samples, _ = lists_of(2_400, size=4)
    assert len(usable_splits(context_of(samples, "group"), 0.15)) == 3, "600 lists of 2,400 rows are few"
    y = samples.labels.copy()
    y[:, 0] = 1.0
    y[:6, 0] = 0.0
    few = Samples(samples.ids, samples.inputs, y, samples.task, group=samples.group, query=samples.query)
    assert len(usable_splits(context_of(few, "group"), 0.15)) < 3


def frame(X: np.ndarray) -> Any:
    import pandas as pd

    return pd.DataFrame(X, columns=["a", "b", "c"])


def staged(model: Any, X: Any, task: Task) -> list[np.ndarray]:
    """Predictions after every round."""
    if type(model).__name__.startswith("XGB"):
        each = [
            (model.predict_proba if task.classes else model.predict)(X, iteration_range=(0, n + 1))
            for n in range(200)
        ]
    else:
        each = list((model.staged_predict_proba if task.classes else model.staged_predict)(X))
    return [one if task.classes else one.reshape(-1, 1) for one in each]


def test_weights_count_on_both_sides_of_an_inner_split() -> None:
    weight = np.where(np.arange(300) % 3 == 0, 20.0, 0.1)
    samples, X = rows_of(300, VALUES, weight=weight)
    context = context_of(samples)
    fitted = fitted_on(samples, context, "lightgbm.LGBMRegressor")
    found = []
    for draw in range(3):
        fit_rows, valid_rows = context.inner(0.15, draw)
        model = LGBMRegressor(
            n_estimators=5000,
            early_stopping_rounds=50,
            learning_rate=RATE,
            random_state=SEED,
            verbosity=-1,
            n_jobs=1,
        )
        model.fit(
            X[fit_rows],
            samples.y[fit_rows],
            sample_weight=weight[fit_rows] / weight[fit_rows].mean(),
            **held_out(X[valid_rows], samples.y[valid_rows]),
            eval_sample_weight=[weight[valid_rows] / weight[valid_rows].mean()],
        )
        found.append(model.best_iteration_)
    assert fitted.report()["rounds"]["splits"] == found
    plain = fitted_on(*(lambda s: (s, context_of(s)))(rows_of(300, VALUES)[0]), "lightgbm.LGBMRegressor")
    assert plain.report()["rounds"]["splits"] != found


def test_absolute_error_is_judged_where_the_metric_is_one() -> None:
    samples, X = rows_of(300, VALUES)
    context = context_of(samples, loss="mae")
    fitted = fitted_on(samples, context, "lightgbm.LGBMRegressor")
    found = [
        hand_rounds(
            LGBMRegressor(
                n_estimators=5000,
                early_stopping_rounds=50,
                learning_rate=RATE,
                random_state=SEED,
                verbosity=-1,
                n_jobs=1,
                metric="l1",
            ),
            X,
            samples.y,
            context.inner(0.15, draw),
        )
        for draw in range(3)
    ]
    assert fitted.report()["rounds"]["splits"] == found
    assert "metric" not in fitted.report()["rounds"]["params"]
    squared = fitted_on(samples, context_of(samples), "lightgbm.LGBMRegressor")
    assert squared.report()["rounds"]["splits"] != found


@pytest.mark.parametrize(
    ("loss", "params", "expected"),
    [
        ("mae", {}, ("mae", 1)),
        ("mse", {}, (None, 1)),
        ("mae", {"metric": "l2"}, (None, 1)),
        ("mae", {"n_estimators": 9}, (None, None)),
        ("mae", {"n_estimators": 9, "early_stopping_rounds": 2}, (None, 1)),
    ],
)
def test_only_fits_that_search_depend_on_the_search(loss: str, params: dict[str, Any], expected: Any) -> None:
    options = EstimatorOptions(estimator="lightgbm.LGBMRegressor", params=params)
    run = RunSettings(threads=1, loss=loss)
    settings = options.settings(run, has_blocks=False, has_features=False)
    assert (settings.loss, settings.rounds) == expected


def test_splits_by_time_are_one_and_look_at_nothing_earlier_than_what_they_fit() -> None:
    time = np.random.default_rng(3).permutation(200)
    samples, _ = rows_of(200, VALUES, time=time)
    (parts,) = usable_splits(context_of(samples, "time"), 0.15)
    assert time[parts[0]].max() < time[parts[1]].min() and len(parts[1]) == 30


def test_splits_divide_no_group() -> None:
    group = np.random.default_rng(3).integers(0, 40, size=300)
    samples, _ = rows_of(300, CLASSES, group=group)
    splits = usable_splits(context_of(samples, "stratified_group"), 0.15)
    assert len(splits) == 3
    for fit_rows, valid_rows in splits:
        assert not set(group[fit_rows]) & set(group[valid_rows])
        assert len(fit_rows) + len(valid_rows) == 300


@pytest.mark.parametrize("case", ["one group", "class in one group", "weights"])
def test_rows_that_cannot_be_divided_keep_the_librarys_own_rounds(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    roles: dict[str, Any] = {}
    samples, _ = rows_of(60, CLASSES)
    if case == "one group":
        roles["group"] = np.zeros(60, dtype=int)
    elif case == "class in one group":
        roles["group"] = (samples.labels == 2).astype(int)
    else:
        roles["weight"] = (np.arange(60) == 7).astype(float)
    samples, _ = rows_of(60, CLASSES, **roles)
    if case == "weights":
        samples.labels[7] = 1
    with caplog.at_level("INFO", logger="stackfeat"):
        context = context_of(samples, "stratified_group")
        options = EstimatorOptions(estimator="lightgbm.LGBMClassifier")
        make = lambda: EstimatorMember(options)._learner(context, {})  # noqa: E731
        found = find_rounds(make, options.estimator, {}, samples.inputs["table"].numeric, context, 0.15)
    assert found.params == {} and "why_not" in found.report()
    (record,) = caplog.records
    assert record.getMessage().startswith("rounds are the library's own number: ")
    if case != "weights":
        fitted = fitted_on(samples, context, "lightgbm.LGBMClassifier")
        assert fitted.estimators[0].n_estimators_ == 100


def test_asked_for_stopping_that_rows_do_not_allow_is_an_error() -> None:
    samples, _ = rows_of(60, VALUES, group=np.zeros(60, dtype=int))
    params = {"n_estimators": 60, "early_stopping_rounds": 3}
    with pytest.raises(DataError, match="at least 2 groups"):
        fitted_on(samples, context_of(samples, "group"), "lightgbm.LGBMRegressor", params=params)


def test_what_was_found_is_said_in_words(caplog: pytest.LogCaptureFixture) -> None:
    samples, _ = rows_of(200, VALUES)
    with caplog.at_level("INFO", logger="stackfeat"):
        fitted = fitted_on(samples, context_of(samples), "lightgbm.LGBMRegressor")
        params = {"n_estimators": 60, "early_stopping_rounds": 3}
        asked = fitted_on(samples, context_of(samples), "lightgbm.LGBMRegressor", params=params)
    splits = fitted.report()["rounds"]["splits"]
    rounds = fitted.estimators[0].n_estimators
    asked_rounds = asked.estimators[0].n_estimators
    assert [record.getMessage() for record in caplog.records] == [
        f"rounds {rounds} (of at most 5,000; median of {', '.join(map(str, splits))})",
        f"rounds {asked_rounds} (of at most 60)",
    ]


def test_asked_for_stopping_takes_place_on_one_split() -> None:
    samples, X = rows_of(300, VALUES)
    context = context_of(samples)
    params = {"n_estimators": 400, "learning_rate": 0.2, "early_stopping_rounds": 5}
    fitted = fitted_on(samples, context, "lightgbm.LGBMRegressor", params=params)
    common = {"learning_rate": 0.2, "random_state": SEED, "verbosity": -1, "n_jobs": 1}
    by_hand = LGBMRegressor(n_estimators=400, early_stopping_rounds=5, **common)
    best = hand_rounds(by_hand, X, samples.y, context.inner(0.15))
    assert best < 400
    again = LGBMRegressor(n_estimators=best, **common).fit(X, samples.y)
    rows = Rows(300, samples.inputs, (), samples.ids, np.arange(300))
    np.testing.assert_array_equal(fitted.emit(rows)["prediction"][:, 0], again.predict(X))


def test_catboost_keeps_the_rate_that_its_search_had() -> None:
    pytest.importorskip("catboost")
    samples, _ = rows_of(200, VALUES)
    # Its own rate follows from the number of rounds. A list among its parameters is what clone refuses.
    params = {"iterations": 150, "ignored_features": [2], "depth": 2, "early_stopping_rounds": 5}
    fitted = fitted_on(samples, context_of(samples), "catboost.CatBoostRegressor", params=params)
    (model,) = fitted.estimators
    found = fitted.report()["rounds"]
    assert model.tree_count_ == found["splits"][0] < 150
    assert model.learning_rate_ == pytest.approx(found["params"]["learning_rate"])


def test_stopping_may_be_asked_for_without_a_number_of_rounds(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("xgboost")
    samples, _ = rows_of(200, VALUES)
    params = {"early_stopping_rounds": 3, "max_depth": 2}
    with caplog.at_level("INFO", logger="stackfeat"):
        fitted = fitted_on(samples, context_of(samples), "xgboost.XGBRegressor", params=params)
    (rounds,) = fitted.report()["rounds"]["splits"]
    assert fitted.estimators[0].get_booster().num_boosted_rounds() == rounds < 100
    assert caplog.messages == [f"rounds {rounds} (of at most the library's own number)"]


def test_a_class_of_ones_own_may_count_its_rounds_as_iterations() -> None:
    """What rounds are called is then read off the class; that of a library may have been given by any name."""

    class Own(BaseEstimator):
        def __init__(self, iterations: int = 40, early_stopping_rounds: int | None = None) -> None:
            self.iterations, self.early_stopping_rounds = iterations, early_stopping_rounds

        def fit(self, X: Any, y: Any, eval_set: Any = None) -> Any:
            self.best_iteration_ = 7
            return self

    samples, X = rows_of(60, VALUES)
    params = {"early_stopping_rounds": 3}
    found = find_rounds(lambda: Own(early_stopping_rounds=3), "own:Own", params, X, context_of(samples), 0.15)
    assert found.params == {"early_stopping_rounds": None, "iterations": 7} and found.most == 40


def test_an_estimator_without_a_best_round_is_an_error() -> None:
    with pytest.raises(MemberError, match="got Ridge"):
        best_rounds(Ridge())


def test_trials_of_the_gate_search_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds are found on the base, and again with the blocks that came in."""
    samples, _ = rows_of(240, VALUES)
    random = np.random.default_rng(2)
    helps = (samples.y + 0.3 * random.normal(size=240))[:, None]
    for values, n_searches in ((random.normal(size=(240, 2)), 1), (helps, 2)):
        block = BlockRows("base/net/top@raw", "feature", "raw", values)
        rows = Rows(240, samples.inputs, (block,), samples.ids, np.arange(240))
        base = context_of(samples)
        context = FitContext(
            **{
                **{name: getattr(base, name) for name in base.__dataclass_fields__},
                "fold_of": np.arange(240) % 4,
            }
        )
        searched: list[Any] = []
        tried: list[int] = []

        def noted(*given: Any, searched: list[Any] = searched) -> Any:
            searched.append(find_rounds(*given))
            return searched[-1]

        def gate(make: Any, *given: Any, tried: list[int] = tried, **more: Any) -> Any:
            return gate_blocks(lambda: tried.append(make().n_estimators) or make(), *given, **more)

        monkeypatch.setattr(member_module, "find_rounds", noted)
        monkeypatch.setattr(member_module, "gate_blocks", gate)
        options = EstimatorOptions(estimator="lightgbm.LGBMRegressor", params={"num_leaves": 4})
        fitted: FittedEstimator = EstimatorMember(options).fit(rows, context)
        assert len(searched) == n_searches == 1 + (fitted.parts[0].scales[0] > 0)
        assert len(tried) > 4 and set(tried) == {searched[0].params["n_estimators"]}
        assert fitted.estimators[0].n_estimators == searched[-1].params["n_estimators"]


def lightgbm_stages(made: Any, X: np.ndarray) -> list[np.ndarray]:
    rounds = range(1, len(next(iter(made.evals_result_["valid_0"].values()))) + 1)
    return [made.booster_.predict(X, num_iteration=n) for n in rounds]


def sklearn_stages(made: Any, X: np.ndarray) -> list[np.ndarray]:
    return list(made.staged_predict(X))


def xgboost_stages(made: Any, X: np.ndarray) -> list[np.ndarray]:
    return [
        made.predict(X, iteration_range=(0, n + 1)) for n in range(made.get_booster().num_boosted_rounds())
    ]


def catboost_stages(made: Any, X: np.ndarray) -> list[np.ndarray]:
    return list(made.staged_predict(X))


STAGES: dict[str, tuple[Callable[[Any, np.ndarray], list[np.ndarray]], dict[str, Any], float]] = {
    "lightgbm.LGBMRegressor": (lightgbm_stages, {"n_estimators": 60, "verbose": -1}, 2.0),
    "sklearn.ensemble.HistGradientBoostingRegressor": (
        sklearn_stages,
        {"max_iter": 60, "early_stopping": True},
        0.5,
    ),
    "xgboost.XGBRegressor": (xgboost_stages, {"n_estimators": 60, "early_stopping_rounds": 60}, 1.0),
    "catboost.CatBoostRegressor": (
        catboost_stages,
        {"iterations": 60, "verbose": False, "allow_writing_files": False, "use_best_model": False},
        1.0,
    ),
}
"""How a library predicts after each round; its parameters; what it tells: the mean square (2), its root, or half."""


@pytest.mark.parametrize("path", STAGES)
def test_the_curve_is_the_loss_of_validation_rows_after_each_round(path: str) -> None:
    library, _, name = path.rpartition(".")
    made = getattr(pytest.importorskip(library), name)
    stages, params, form = STAGES[path]
    samples, X = rows_of(400, VALUES)
    y, estimator = samples.labels, made(**params)
    if not has_fit_parameter(estimator, "X_val") and library.startswith("sklearn"):
        pytest.skip("this version takes no validation rows")
    keywords = rounds_module.validation_keywords(estimator, X[300:], y[300:], None, {})
    estimator.fit(X[:300], y[:300], **keywords)
    curve = validation_curve(estimator)
    squares = [float(np.mean((y[300:] - said) ** 2)) for said in stages(estimator, X[300:])]
    expected = {2.0: squares, 1.0: np.sqrt(squares), 0.5: np.multiply(0.5, squares)}[form]
    np.testing.assert_allclose(curve["validation"], expected, rtol=2e-4)
    assert curve["rounds"] == list(range(1, len(expected) + 1))


def test_a_long_curve_is_thinned_and_ends_where_boosting_did() -> None:
    samples, X = rows_of(300, VALUES)
    made = LGBMRegressor(n_estimators=350, learning_rate=0.01, verbose=-1)
    made.fit(X[:200], samples.labels[:200], **held_out(X[200:], samples.labels[200:]))
    curve = validation_curve(made)
    assert len(curve["rounds"]) == len(curve["validation"]) == MOST_POINTS
    assert curve["rounds"][0] == 1 and curve["rounds"][-1] == 350


@pytest.mark.parametrize("estimator", [Ridge(), LGBMRegressor(n_estimators=3, verbose=-1)])
def test_what_was_not_stopped_early_has_no_curve(estimator: Any) -> None:
    samples, X = rows_of(100, VALUES)
    assert validation_curve(estimator.fit(X, samples.labels)) == {}
