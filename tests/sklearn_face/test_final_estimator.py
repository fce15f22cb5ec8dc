"""What the final estimator of a stack reads, and `gated_linear` as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, TimeSeriesSplit

from stackfeat.sklearn.final_estimator import (
    FinalDesign,
    FinalRows,
    GatedFinalClassifier,
    GatedFinalRegressor,
)
from stackfeat.sklearn.stacking import StackingClassifier
from stackfeat.tasks.task import Task

TWO, VALUES = Task("binary", (0, 1)), Task("regression")


def final_rows(n: int = 90) -> FinalRows:
    """A weak prediction, a block that knows the class and one of noise."""
    random = np.random.default_rng(0)
    y = np.arange(n) % 2
    p = 1 / (1 + np.exp(-(y - 0.5 + random.normal(size=n))))
    features = {
        "net/fc@geometry": random.normal(size=(n, 3)) + 1.5 * y[:, None],
        "net/noise@geometry": random.normal(size=(n, 3)),
    }
    weight = random.uniform(0.5, 2, n)
    return FinalRows(
        p[:, None], features, y, {"sample_weight": weight}, np.arange(n) // 2 % 3, np.arange(n) // 5
    )


def test_rows_are_taken_with_all_that_belongs_to_them() -> None:
    rows, chosen = final_rows(), np.array([7, 3])
    part = rows.take(chosen)
    np.testing.assert_array_equal(part.base, rows.base[chosen])
    for name, values in rows.features.items():
        np.testing.assert_array_equal(part.features[name], values[chosen])
    np.testing.assert_array_equal(part.params["sample_weight"], rows.params["sample_weight"][chosen])
    np.testing.assert_array_equal([part.y, part.fold_of, part.group], [[1, 1], [0, 1], [1, 0]])


def test_the_gate_lets_in_the_block_that_knows_something_and_scales_new_rows_as_those_fitted_on() -> None:
    rows = final_rows()
    design = FinalDesign.fit(LogisticRegression, rows, TWO, gate=True)
    assert list(design.scales) == ["net/fc@geometry"]
    assert design.report["scales"]["net/noise@geometry"] == 0 < design.report["scales"]["net/fc@geometry"]
    columns = design.join(rows.base, rows.features)
    assert columns.shape == (90, 4)
    alone = design.join(rows.base[:2], {name: values[:2] for name, values in rows.features.items()})
    np.testing.assert_allclose(alone, columns[:2])


def test_without_the_gate_every_block_enters_standardised() -> None:
    rows = final_rows()
    design = FinalDesign.fit(LogisticRegression, rows, TWO, gate=False)
    assert list(design.scales) == list(rows.features) and design.report == {}
    columns = design.join(rows.base, rows.features)
    expected = [(values - values.mean(axis=0)) / values.std(axis=0) for values in rows.features.values()]
    np.testing.assert_allclose(columns, np.hstack([rows.base, *expected]))


def gated(kind: Any, task: Task, **options: Any) -> Any:
    return kind(task, predictions=[(0, 1)], n_base=1, blocks=[("net/fc@raw", 3)], **options)


def test_the_gated_final_estimator_uses_the_block_that_follows_the_base() -> None:
    rows = final_rows()
    X = np.hstack([rows.base, rows.features["net/fc@geometry"]])
    model = gated(GatedFinalClassifier, TWO).fit(X, rows.y, fold_of=rows.fold_of)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(X), proba.argmax(axis=1))
    assert (model.predict(X) == rows.y).mean() > 0.9 > ((rows.base[:, 0] > 0.5) == rows.y).mean()
    assert model.n_features_in_ == 4 and model.report()["scales"]["net/fc@raw"] > 0


def test_values_are_predicted_one_for_each_row_on_their_scale() -> None:
    rows = final_rows()
    values = 100 + rows.features["net/fc@geometry"] @ np.array([5.0, 1.0, 0.0])
    X = np.hstack([values[:, None] + 3 * rows.base, rows.features["net/fc@geometry"]])
    said = gated(GatedFinalRegressor, VALUES).fit(X, values, fold_of=rows.fold_of).predict(X)
    assert said.shape == (90,) and np.abs(said - values).mean() < 0.2 * values.std()


def test_an_unfitted_one_says_so() -> None:
    with pytest.raises(NotFittedError):
        gated(GatedFinalClassifier, TWO).predict_proba(np.zeros((2, 4)))


def test_gates_count_groups_and_not_rows() -> None:
    """Nine copies of every row say nothing new, where each row with its copies is a group."""
    rows = final_rows()
    copied = rows.take(np.repeat(np.arange(90), 9))
    grouped = replace(copied, clusters=np.repeat(np.arange(90), 9))
    by_rows, by_groups = (
        FinalDesign.fit(LogisticRegression, one, TWO, gate=True).report["steps"][0]
        for one in (copied, grouped)
    )
    assert by_rows["gain"] == pytest.approx(by_groups["gain"])
    assert by_groups["standard_error"] == pytest.approx(by_rows["standard_error"] * 3 * np.sqrt(90 / 89))
    errors = []
    for one in (copied, grouped):
        final = GatedFinalRegressor(VALUES, [], 1, [("net/fc@raw", 3)])
        columns = np.hstack([one.base, one.features["net/fc@geometry"]])
        final.fit(columns, one.y.astype(float), None, one.fold_of, one.clusters)
        errors.append(final.report()["steps"][0]["standard_error"])
    assert errors[1] == pytest.approx(errors[0] * 3, rel=0.02)


@pytest.mark.parametrize("follows_time", [False, True])
def test_groups_that_reach_fit_and_blocks_of_time_are_what_a_gate_counts(follows_time: bool) -> None:
    random = np.random.default_rng(0)
    X, y, groups = random.normal(size=(120, 3)), np.arange(120) % 2, np.arange(120) // 6
    cv = TimeSeriesSplit(3) if follows_time else GroupKFold(3)
    stack = StackingClassifier([("line", LogisticRegression())], cv=cv)
    stack.fit(X, y, **({} if follows_time else {"groups": groups}))
    clusters = stack._rows_of_final.clusters
    assert clusters is not None
    if follows_time:
        # Ten blocks of each fold, in the order of the rows.
        assert len(np.unique(clusters)) == 30 and (np.diff(clusters) >= 0).all() and len(clusters) == 90
    else:
        assert np.array_equal(clusters, groups)
