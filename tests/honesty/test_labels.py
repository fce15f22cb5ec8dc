"""Labels of one fold changed: nothing that pipeline makes of that fold's rows may move.

Whatever looks at a label counts: fits, early stopping, penalties, gates, vote weights, encodings,
decision rules. Above the first level this needs base members that no label can change, because OOF rows
of other folds come from models that did see the labels of fold k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

TREES = {"n_estimators": 10, "min_child_samples": 3, "num_leaves": 4}
OPEN = {"min_child_samples": 3, "num_leaves": 4, "learning_rate": 0.2}
EARLY = {**TREES, "n_estimators": 60, "early_stopping_rounds": 3}
CHANGED = 1


def with_changed_labels(frame: pd.DataFrame, rows: np.ndarray, names: Sequence[str] = ("y",)) -> pd.DataFrame:
    changed = frame.copy()
    for name in names:
        values = frame[name].to_numpy().copy()
        classes = len(np.unique(values))
        values[rows] = (values[rows] + 1) % classes if classes < 10 else -3 * values[rows] + 1
        changed[name] = values
    return changed


def run_both(
    arena: Any, levels: dict[str, Any], train: pd.DataFrame, test: pd.DataFrame, **others: Any
) -> Any:
    """Run on the labels, and on labels changed in one fold of given folds."""
    data = others.pop("data", {})
    units = train["list"].to_numpy() if "query" in data else np.arange(len(train))
    fold_of = np.random.default_rng(7).permutation(np.arange(len(np.unique(units))) % 3)
    train = train.assign(given=fold_of[units])
    inside = (train["given"] == CHANGED).to_numpy()
    others = {"data": {**data, "fold": "given"}, **others}
    first = arena.run(levels, train, test, **others)
    changed = with_changed_labels(train, inside, data.get("target", ["y"]))
    second = arena.run(levels, changed, test, **others)
    return first, second, train["id"][inside], train["id"][~inside]


def kinds_of_base(classes: bool) -> dict[str, Any]:
    early = {"epochs": 8, "patience": 2, "batch_size": 32, "lr": 0.03}
    fixed = {"epochs": 3, "batch_size": 32}
    boosted, linear = ("LGBMClassifier", "LogisticRegression") if classes else ("LGBMRegressor", "Ridge")
    return {
        "refit": {"net": "mlp", "params": {"hidden": [8]}, "train": early},
        "inner": {"net": "mlp", "params": {"hidden": [8]}, "train": {**early, "early_stopping": "inner"}},
        "fixed": {"net": "mlp", "params": {"hidden": [8]}, "train": fixed},
        "early": {"estimator": f"lightgbm.{boosted}", "params": EARLY},
        "open": {"estimator": f"lightgbm.{boosted}", "params": OPEN},
        "linear": {"estimator": f"sklearn.linear_model.{linear}"},
    }


@pytest.mark.parametrize("n_classes", [3, 0], ids=["multiclass", "regression"])
def test_labels_of_a_fold_change_nothing_that_base_members_say_of_it(
    arena: Any, make_rows: Callable[..., pd.DataFrame], n_classes: int
) -> None:
    train, test = make_rows(90, 1, n_classes), make_rows(60, 2, prefix="t").drop(columns="y")
    task, metric = ("multiclass", "log_loss") if n_classes else ("regression", "rmse")
    levels = {"base": kinds_of_base(bool(n_classes))}
    first, second, inside, outside = run_both(arena, levels, train, test, task=task, metric=metric)
    for name in levels["base"]:
        before, after = first.oof(f"base.{name}"), second.oof(f"base.{name}")
        pd.testing.assert_frame_equal(before.loc[inside], after.loc[inside], check_exact=True)
        assert not before.loc[outside].equals(after.loc[outside]), "the other pipelines did see the labels"
    for name in ("refit", "inner", "fixed"):
        for output in ("penultimate@geometry", "tap/penultimate/0"):
            before, after = (ran.stored(f"base/{name}", 0, CHANGED, output) for ran in (first, second))
            np.testing.assert_array_equal(before, after)


def test_features_of_a_row_change_no_other_row_of_its_fold(
    arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(90, 1), make_rows(60, 2, prefix="t").drop(columns="y")
    train["given"] = np.random.default_rng(7).permutation(np.arange(len(train)) % 3)
    poisoned = train.copy()
    place = int(np.flatnonzero(train["given"] == CHANGED)[0])
    poisoned.loc[place, [f"x{j}" for j in range(5)]] = [1e6, -1e6, 1e3, -1e3, 7.0]
    levels = {"base": kinds_of_base(True)}
    first, second = (arena.run(levels, frame, test, data={"fold": "given"}) for frame in (train, poisoned))
    others = train["id"][(train["given"] == CHANGED) & (train.index != place)]
    for name in levels["base"]:
        before, after = first.oof(f"base.{name}"), second.oof(f"base.{name}")
        pd.testing.assert_frame_equal(before.loc[others], after.loc[others], check_exact=True)


BLIND = '''
"""Members that no label can change: their rows are functions of the columns alone."""
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import nn


class Blind(BaseEstimator):
    def __init__(self, column=0, shift=0.0):
        self.column, self.shift = column, shift

    def _values(self, X):
        return 1 / (1 + np.exp(np.asarray(X)[:, self.column] - self.shift))


class BlindClassifier(ClassifierMixin, Blind):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        first, k = self._values(X), len(self.classes_)
        rest = [(1 - first) * (j + 1) / sum(range(1, k)) for j in range(k - 1)]
        return np.column_stack([first, *rest])


class BlindRegressor(RegressorMixin, Blind):
    def fit(self, X, y):
        return self

    def predict(self, X):
        return self._values(X)


class BlindQuantiles(BlindRegressor):
    def predict(self, X):
        return np.asarray(self._values(X))[:, None] + [-0.5, 0.0, 0.5]


class BlindNet(nn.Module):
    """Its output does not depend on its weights' training: no weight of it takes a gradient but a dead one."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.body = nn.Linear(n_features, 6).requires_grad_(False)
        self.head = nn.Linear(6, n_outputs).requires_grad_(False)
        self.dead = nn.Parameter(self.head.bias.detach().clone() * 0)

    def forward(self, x):
        return self.head(self.body(x).relu()) + 0 * self.dead
'''


BLIND_TASKS: dict[str, dict[str, Any]] = {
    "binary": {},
    "regression": {"task": "regression", "metric": "rmse"},
    "several targets": {"task": "regression", "metric": "arrmse", "data": {"target": ["y", "z"]}},
    "multilabel": {"task": "multilabel", "data": {"target": ["y", "z"]}},
    "quantile": {"task": "quantile", "metric": "pinball", "quantiles": [0.1, 0.5, 0.9]},
    "ranking": {"task": "ranking", "metric": "ndcg@10", "data": {"query": "list"}},
}
CLASSES = ("binary", "multilabel")
LINEAR = {"binary": "LogisticRegression", "multilabel": "LogisticRegression", "quantile": "QuantileRegressor"}
CALIBRATIONS = {
    "binary": "temperature",
    "regression": "linear",
    "several targets": "linear",
    "quantile": "shift",
    "multilabel": "by_label",
}
"""Fitted whatever they gain; of other tasks nothing is calibrated."""


def blind_levels(task: str) -> dict[str, Any]:
    """Every fitted kind of member above the first level, on base members that are blind to labels."""
    classes = task in CLASSES
    kind, output = ("Classifier", "proba") if classes else ("Regressor", "prediction")
    blind = f"blind:Blind{'Quantiles' if task == 'quantile' else kind}"
    trees = f"lightgbm.LGBM{'Ranker' if task == 'ranking' else kind}"
    linear = f"sklearn.linear_model.{LINEAR.get(task, 'Ridge')}"
    raw = {"tap": "body", "encode": ["raw", "aligned"]}
    every, predictions = ["base/*/*"], [f"base/*/{output}"]
    votes: dict[str, Any] = {vote: {"vote": vote, "inputs": predictions} for vote in ("weighted", "greedy")}
    if task == "binary":
        votes["hard"] = {"vote": "hard", "tie": "prior", "inputs": predictions}
    if task in CALIBRATIONS:
        shifts = {"calibrate": CALIBRATIONS[task], "inputs": predictions}
        votes |= {
            "shifted_soft": {"vote": "soft", **shifts},
            "shifted_linear": {"estimator": linear, **shifts},
        }
    return {
        "base": {
            "a": {"estimator": blind, "params": {"column": 0}, "prepare": "none"},
            "b": {"estimator": blind, "params": {"column": 1, "shift": 1.0}, "prepare": "none"},
            # A net's values in regression carry the target's mean and spread; its activations do not.
            "net": {
                "net": "blind:BlindNet",
                "train": {"epochs": 1},
                "emit": [output, raw] if classes else [raw],
            },
        },
        "meta": {
            "gated": {"estimator": "gated_linear", "inputs": every},
            "linear": {"estimator": linear, "inputs": predictions},
            "linear_gate": {"estimator": linear, "inputs": every},
            "trees_gate": {"estimator": trees, "params": TREES, "inputs": [*every, "table"]},
            "trees_open": {"estimator": trees, "params": OPEN, "inputs": [*every, "table"]},
            "trees_early": {"estimator": trees, "params": EARLY, "inputs": predictions},
            "per": {"estimator": linear, "each": "base/*/*@*"},
        },
        "final": votes,
    }


def rows_of_task(make_rows: Callable[..., pd.DataFrame], task: str, n_rows: int, seed: int) -> pd.DataFrame:
    """Rows with a second target and the numbers of lists beside them, in case they are asked for."""
    n_classes = {"ranking": 4, "binary": 2, "multilabel": 2}.get(task, 0)
    frame = make_rows(n_rows, seed, n_classes)
    if task in ("multilabel", "several targets"):
        frame["z"] = make_rows(n_rows, seed + 100, n_classes)["y"]
    return frame.assign(list=np.arange(n_rows) // 5) if task == "ranking" else frame


@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=() if task == "binary" else pytest.mark.slow) for task in BLIND_TASKS],
)
def test_labels_of_a_fold_change_no_choice_that_its_pipeline_makes(
    arena: Any, make_rows: Callable[..., pd.DataFrame], task: str
) -> None:
    options = {**BLIND_TASKS[task], "code": {"blind": BLIND}, "stack": {"gate_se": 0.0}}
    train = rows_of_task(make_rows, task, 120, 1)
    test = rows_of_task(make_rows, task, 60, 2).drop(columns=options.get("data", {}).get("target", ["y"]))
    test["id"] = [f"t{i}" for i in range(60)]
    first, second, inside, outside = run_both(arena, blind_levels(task), train, test, **options)
    for member in [name for name in first.members if name.startswith("base")]:
        pd.testing.assert_frame_equal(first.oof(member), second.oof(member), check_exact=True)
    moved = []
    for member in [name for name in first.members if not name.startswith("base")]:
        before, after = first.oof(member), second.oof(member)
        pd.testing.assert_frame_equal(before.loc[inside], after.loc[inside], check_exact=True)
        moved += [] if before.loc[outside].equals(after.loc[outside]) else [member]
    # A hard vote learns only what breaks ties, and there may be none.
    fitted = ("meta", "final.w", "final.g", "final.s")
    assert set(moved) >= {name for name in first.members if name.startswith(fitted)}


@pytest.mark.parametrize(
    ("metric", "n_classes"), [("f1", 2), ("balanced_accuracy", 3), ("quadratic_weighted_kappa", 4)]
)
def test_labels_of_a_fold_do_not_move_its_decisions(
    arena: Any, make_rows: Callable[..., pd.DataFrame], metric: str, n_classes: int
) -> None:
    from stackfeat.metrics.decision_rule import Decision
    from stackfeat.metrics.registry import get_metric
    from stackfeat.tasks.task import Task

    train, test = make_rows(150, 8, n_classes), make_rows(60, 2, prefix="t").drop(columns="y")
    task = "binary" if n_classes == 2 else "multiclass"
    levels = {"base": {"a": {"estimator": "blind:BlindClassifier", "prepare": "none"}}}
    first, second, _, _ = run_both(
        arena, levels, train, test, task=task, metric=metric, code={"blind": BLIND}
    )
    described = Task(task, tuple(range(n_classes)))
    for ran in (first, second):
        frame = pd.read_csv(ran.folder / "train.csv")
        y, fold_of = frame["y"].to_numpy(), frame["given"].to_numpy()
        oof = ran.oof("base.a").loc[frame["id"]].to_numpy()
        scorer = get_metric(metric, task)
        rules = [Decision.fit(scorer, y[fold_of != k], oof[fold_of != k], described) for k in range(3)]
        decided = np.empty(len(y), dtype=int)
        for k, rule in enumerate(rules):
            decided[fold_of == k] = rule.apply(oof[fold_of == k])
        found = ran.scores["members"]["base/a"]
        assert found["score"] == pytest.approx(scorer.score(y, decided, described))
        assert found["decision"]["numbers"] == pytest.approx(
            np.mean([rule.numbers for rule in rules], axis=0)
        )
        labels = Decision.average(rules).apply(ran.test("base.a").to_numpy())
        np.testing.assert_array_equal(ran.submission.loc[ran.test("base.a").index, "y"], labels)
    # The rule of the changed fold stays; the test rows' rule, which all folds share, moves.
    one, two = (ran.scores["members"]["base/a"]["decision"]["numbers"] for ran in (first, second))
    assert one != two
