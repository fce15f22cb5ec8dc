"""Indices in saved estimators that lead astray, or in circles: refused before compiled code follows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree

from stackfeat.errors import StructureError
from stackfeat.store.skops_file import load_object, save_object

X = np.random.default_rng(0).normal(size=(80, 4))
Y = np.arange(80) % 3


def with_nodes(field: str, place: int, number: int) -> Any:
    """A decision tree with one number of one node changed."""
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, Y)
    state = model.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][place] = number
    tree = Tree(4, np.array([3], dtype=np.intp), 1)
    tree.__setstate__(state)
    model.tree_ = tree
    return model


def histogram(field: str, number: int) -> Any:
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)
    model._predictors[0][0].nodes[field][0] = number
    return model


def neighbours(change: Callable[[list[Any]], None]) -> Any:
    model = KNeighborsClassifier(algorithm="kd_tree", leaf_size=5).fit(X, Y)
    state = [part.copy() if isinstance(part, np.ndarray) else part for part in model._tree.__getstate__()]
    change(state)
    model._tree.__setstate__(tuple(state))
    return model


def vectors(change: Callable[[Any], None]) -> Any:
    model = SVC().fit(X, Y)
    change(model)
    return model


def forest_of_other_columns() -> Any:
    model = RandomForestClassifier(2, random_state=0).fit(X, Y)
    model.n_features_in_ = 1
    return model


def boosting_of_other_columns() -> Any:
    model = GradientBoostingClassifier(n_estimators=2).fit(X, Y)
    model.n_features_in_ = 1
    return model


def boosting(change: Callable[[Any], None], **params: Any) -> Any:
    model = GradientBoostingClassifier(n_estimators=2, **params).fit(X, Y)
    change(model)
    return model


def more_trees(model: Any) -> None:
    model.estimators_ = np.repeat(model.estimators_, 3, axis=1)


def metric_of_other_columns(name: str, **params: Any) -> Any:
    full = {"VI": np.eye(4)} if name == "mahalanobis" else {"V": np.ones(4)}
    model = KNeighborsClassifier(algorithm="ball_tree", metric=name, metric_params=full).fit(X, Y)
    metric = DistanceMetric.get_metric(name, **params)
    state = [metric if hasattr(part, "rdist_to_dist") else part for part in model._tree.__getstate__()]
    model._tree.__setstate__(tuple(state))
    return model


def with_categories(change: Callable[[Any], None]) -> Any:
    values = np.column_stack([np.arange(80) % 5, X])
    model = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0], min_samples_leaf=2)
    model.fit(values, values[:, 0] > 2)
    change(model)
    return model


def fewer_sets(model: Any) -> None:
    tree = model._predictors[0][0]
    tree.raw_left_cat_bitsets = tree.raw_left_cat_bitsets[:, :1]


def sparse_rows(change: Callable[[Any], None]) -> Any:
    model = KNeighborsClassifier(algorithm="brute").fit(sparse.csr_matrix(X), Y)
    change(model._fit_X)
    return model


HOSTILE: dict[str, Callable[[], Any]] = {
    "a branch that leads to itself": lambda: with_nodes("left_child", 0, 0),
    "a branch that leads back": lambda: with_nodes("right_child", 1, 0),
    "a branch that leads nowhere": lambda: with_nodes("left_child", 0, 10**9),
    "a branch below zero": lambda: with_nodes("right_child", 0, -7),
    "a node with one branch": lambda: with_nodes("left_child", 0, -1),
    "a column that is not there": lambda: with_nodes("feature", 0, 10**9),
    "a column below zero": lambda: with_nodes("feature", 0, -5),
    "a histogram tree that leads to itself": lambda: histogram("left", 0),
    "a histogram tree that leads nowhere": lambda: histogram("right", 10**9),
    "a histogram tree of another column": lambda: histogram("feature_idx", 10**9),
    "neighbours out of the rows": lambda: neighbours(lambda s: s[1].__setitem__(0, 10**9)),
    "neighbours below the rows": lambda: neighbours(lambda s: s[2]["idx_start"].__setitem__(3, -10)),
    "neighbours beyond the rows": lambda: neighbours(lambda s: s[2]["idx_end"].__setitem__(3, 10**9)),
    "neighbours without a leaf": lambda: neighbours(lambda s: s[2]["is_leaf"].__setitem__(-1, 0)),
    "more support vectors than there are": lambda: vectors(
        lambda m: setattr(m, "_n_support", np.array([1000, 1000, 1000], dtype=np.int32))
    ),
    "fewer coefficients than support vectors": lambda: vectors(
        lambda m: setattr(m, "_dual_coef_", np.ascontiguousarray(m._dual_coef_[:, :3]))
    ),
    "fewer intercepts than pairs": lambda: vectors(lambda m: setattr(m, "_intercept_", m._intercept_[:1])),
    "a forest of other columns": forest_of_other_columns,
    "boosting of other columns": boosting_of_other_columns,
    "boosting with more trees than columns": lambda: boosting(more_trees),
    "boosting with more trees than columns, from zero": lambda: boosting(more_trees, init="zero"),
    "boosting of fewer columns": lambda: boosting(
        lambda m: setattr(m, "n_trees_per_iteration_", 1), init="zero"
    ),
    "a metric of fewer columns": lambda: metric_of_other_columns("seuclidean", V=np.ones(1)),
    "a metric with a small matrix": lambda: metric_of_other_columns("mahalanobis", VI=np.eye(2)),
    "support vectors that became rows": lambda: vectors(
        lambda m: vars(m).update(kernel="precomputed", shape_fit_=(4, 4))
    ),
    "a bin mapper of fewer columns": lambda: with_categories(
        lambda m: setattr(m._bin_mapper, "is_categorical_", np.zeros(1, dtype=np.uint8))
    ),
    "a bin mapper without categories": lambda: with_categories(
        lambda m: setattr(m._bin_mapper, "is_categorical_", np.zeros(5, dtype=np.uint8))
    ),
    "sets of categories cut short": lambda: with_categories(fewer_sets),
    "sparse rows out of the columns": lambda: sparse_rows(lambda m: m.indices.__setitem__(0, 10**9)),
    "sparse rows out of the values": lambda: sparse_rows(lambda m: m.indptr.__setitem__(-1, 10**9)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_indices_that_lead_astray_are_refused(name: str) -> None:
    with pytest.raises(StructureError, match="must") as caught:
        load_object(save_object(HOSTILE[name]()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=2),
        GradientBoostingClassifier(n_estimators=2, init="zero"),
        GradientBoostingClassifier(n_estimators=2, init=DecisionTreeClassifier(max_depth=2)),
        KNeighborsClassifier(algorithm="ball_tree", metric="mahalanobis", metric_params={"VI": np.eye(4)}),
        KNeighborsClassifier(algorithm="ball_tree", metric="seuclidean", metric_params={"V": np.ones(4)}),
        KNeighborsClassifier(algorithm="ball_tree", p=3, metric_params={"w": [1.0, 2.0, 1.0, 1.0]}),
        SVC(probability=False),
    ],
    ids=repr,
)
def test_what_was_honestly_fitted_comes_back_whole(model: Any) -> None:
    model.fit(X, Y)
    assert (load_object(save_object(model)).predict(X) == model.predict(X)).all()


def test_histogram_trees_with_categories_come_back_whole() -> None:
    model = with_categories(lambda model: None)
    values = np.column_stack([np.arange(80) % 5, X])
    assert (load_object(save_object(model)).predict(values) == model.predict(values)).all()
