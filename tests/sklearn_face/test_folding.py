"""Folds of a splitter, and estimators fitted over them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, RepeatedKFold, TimeSeriesSplit, cross_val_predict
from sklearn.utils.metadata_routing import MetadataRouter

from stackfeat.sklearn.emission import Emission
from stackfeat.sklearn.folding import FoldWorker, add_splitter, split_folds
from stackfeat.tasks.task import Task


class Given:
    """A splitter of given folds, which keeps what it was asked."""

    def __init__(self, *splits: Any) -> None:
        self.splits = splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        self.asked = X, y, groups
        yield from self.splits


def test_folds_are_those_of_the_splitter_in_one_repeat() -> None:
    X = np.zeros((12, 1))
    folds = split_folds(RepeatedKFold(n_splits=3, n_repeats=2, random_state=0), X, None, {})
    expected = list(RepeatedKFold(n_splits=3, n_repeats=2, random_state=0).split(X))
    assert (folds.n_repeats, folds.n_folds, folds.kind, folds.n_rows) == (1, 6, "custom", 12)
    for (train, test), (train_too, test_too) in zip(folds.splits[0], expected, strict=True):
        np.testing.assert_array_equal(train, train_too)
        np.testing.assert_array_equal(test, test_too)
    assert split_folds(TimeSeriesSplit(3), X, None, {}).is_time


def test_rows_of_named_inputs_are_split_by_number_and_metadata_reaches_the_splitter() -> None:
    splitter = Given(([0], [1]), ([1], [0]))
    groups = np.array([4, 5])
    assert split_folds(splitter, {"a": np.zeros((2, 3))}, np.ones(2), {"groups": groups}).n_rows == 2
    X, y, given = splitter.asked
    np.testing.assert_array_equal(X, [0, 1])
    assert given is groups and len(y) == 2


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([([0, 1], [2])], "cv must give at least 2 folds; got 1; use more splits"),
        (
            [([0], [1]), ([0, 1, 2], [1, 2])],
            "must not predict rows that it trains on; got 2 such rows in fold 1",
        ),
    ],
)
def test_folds_that_leak_or_are_too_few_are_refused(splits: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_folds(Given(*splits), np.zeros((3, 1)), None, {})


def fitted(small: SimpleNamespace, cv: Any, whole: bool = True) -> Any:
    """Return least squares fitted over folds."""
    emissions = {"lm": Emission("predict")}
    folds = split_folds(cv, small.XV, small.v, {})
    worker = FoldWorker(
        {"lm": LinearRegression()}, emissions, {"lm": {}}, small.XV, small.v, folds, Task("regression")
    )
    return worker.run(n_jobs=None, whole=whole)["lm"]


def test_rows_out_of_fold_are_those_of_cross_val_predict(small: SimpleNamespace) -> None:
    found = fitted(small, KFold(4))
    expected = cross_val_predict(LinearRegression(), small.XV, small.v, cv=KFold(4))
    np.testing.assert_allclose(np.ravel(found.oof().prediction), expected)
    assert found.oof().columns == {}


def test_new_rows_are_read_by_the_estimator_of_a_fold_or_of_all_rows(small: SimpleNamespace) -> None:
    found = fitted(small, KFold(4))
    train = next(iter(KFold(4).split(small.XV)))[0]
    one = LinearRegression().fit(small.XV[train], small.v[train]).predict(small.XV)
    np.testing.assert_allclose(np.ravel(found.read(small.XV, 0).prediction), one)
    every = LinearRegression().fit(small.XV, small.v).predict(small.XV)
    np.testing.assert_allclose(np.ravel(found.read(small.XV).prediction), every)
    assert fitted(small, KFold(4), whole=False).whole is None


def test_rows_before_the_first_time_fold_are_empty(small: SimpleNamespace) -> None:
    said = np.ravel(fitted(small, TimeSeriesSplit(3)).oof().prediction)
    first = next(iter(TimeSeriesSplit(3).split(small.XV)))[1][0]
    assert np.isnan(said[:first]).all() and np.isfinite(said[first:]).all()


@pytest.mark.parametrize(("cv", "asks"), [(KFold(3), True), (3, False), (iter([]), False)])
def test_only_a_splitter_is_asked_for_metadata(cv: Any, asks: bool) -> None:
    router = add_splitter(MetadataRouter(owner="stack"), cv, "fit")
    assert (len(list(router)) == 1) is asks
