"""What may not matter: the order of rows, the names of classes, rows that are nobody's training rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

COLUMNS = [f"x{j}" for j in range(5)]
LEVELS: dict[str, Any] = {
    "base": {
        "log": {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 1.0, "tol": 1e-10}},
        "knn": {"estimator": "sklearn.neighbors.KNeighborsClassifier"},
    },
    "meta": {
        "log": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "params": {"tol": 1e-10},
            "inputs": ["base/*/proba"],
        },
        "tree": {
            "estimator": "sklearn.tree.DecisionTreeClassifier",
            "params": {"max_depth": 2, "random_state": 0},
            "inputs": ["base/log/proba", "table"],
        },
    },
    "final": {"soft": {"vote": "soft", "inputs": ["meta/*", "base/*/proba"]}},
}
QUICK = settings(
    max_examples=2,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def given_folds(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(given=np.random.default_rng(0).permutation(np.arange(len(frame)) % 3))


def run_once(arena: Any, *rows: pd.DataFrame, **others: Any) -> Any:
    """Run on the rows as they are: once for all examples of a test."""
    if not hasattr(arena, "plain"):
        arena.plain = arena.run(LEVELS, *rows, **others)
    return arena.plain


@QUICK
@given(draw=st.data())
def test_the_order_of_training_rows_does_not_matter_under_given_folds(
    arena: Any, make_rows: Callable[..., pd.DataFrame], draw: DataObject
) -> None:
    train, test = given_folds(make_rows(60, 1)), make_rows(20, 2, prefix="t").drop(columns="y")
    order = draw.draw(st.permutations(range(len(train))))
    first = run_once(arena, train, test, data={"fold": "given"})
    second = arena.run(LEVELS, train.iloc[list(order)], test, data={"fold": "given"})
    for member in first.members:
        other = second.oof(member).loc[train["id"]]
        pd.testing.assert_frame_equal(first.oof(member).loc[train["id"]], other, rtol=0, atol=1e-6)
        pd.testing.assert_frame_equal(first.test(member), second.test(member), rtol=0, atol=1e-6)


@QUICK
@given(names=st.lists(st.text("abcdxyz", min_size=1, max_size=4), min_size=3, max_size=3, unique=True))
def test_the_names_of_classes_do_not_matter(
    arena: Any, make_rows: Callable[..., pd.DataFrame], names: list[str]
) -> None:
    names = sorted(f"c{name}" for name in names)
    train, test = given_folds(make_rows(60, 1, n_classes=3)), make_rows(20, 2, prefix="t").drop(columns="y")
    named = train.assign(y=[names[code] for code in train["y"]])
    first = run_once(arena, train, test, data={"fold": "given"}, task="multiclass")
    second = arena.run(LEVELS, named, test, data={"fold": "given"}, task="multiclass")
    for member in first.members:
        assert list(second.oof(member).columns) == names
        np.testing.assert_array_equal(first.oof(member), second.oof(member))
        np.testing.assert_array_equal(first.test(member), second.test(member))


@QUICK
@given(factor=st.sampled_from([0.25, 2.0, 1024.0]), shift=st.integers(0, 2))
def test_the_unit_of_weights_and_the_numbers_of_folds_do_not_matter(
    arena: Any, make_rows: Callable[..., pd.DataFrame], factor: float, shift: int
) -> None:
    train = given_folds(make_rows(60, 1)).assign(w=np.random.default_rng(1).integers(1, 5, 60))
    levels = {
        "base": {
            name: {"estimator": f"sklearn.{path}"} for name, path in (("nb", "naive_bayes.GaussianNB"),)
        },
        "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/proba"]}},
        "final": {"soft": {"vote": "soft", "inputs": ["*/*/proba"]}},
    }
    changed = train.assign(w=train["w"] * factor, given=(train["given"] + shift) % 3)
    first, second = (
        arena.run(levels, frame, data={"fold": "given", "weight": "w"}) for frame in (train, changed)
    )
    for member in first.members:
        pd.testing.assert_frame_equal(first.oof(member), second.oof(member), rtol=0, atol=1e-6)
    assert abs(first.result.score - second.result.score) < 1e-6


def test_folds_file_says_which_rows_were_held_out_together(
    arena: Any, make_rows: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    train = given_folds(make_rows(60, 1))
    ran = arena.run({"base": {"knn": LEVELS["base"]["knn"]}}, train, data={"fold": "given"})
    np.testing.assert_array_equal(ran.fold_of.loc[train["id"]], train["given"])
