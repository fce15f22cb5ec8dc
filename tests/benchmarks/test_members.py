"""The benchmark of members: what a row's columns are made of, votes, and which gains count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import KFold

from benchmarks.derived_columns import DERIVED, Data, booster, cross_fitted, predicted, with_columns
from benchmarks.members import BASES, PLAIN, compared, gain, greedy, holm, over
from tests.honesty.redrawn import LIMIT, Law, advantages


def make_data(n_rows: int, seed: int, **others: object) -> Data:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n_rows, 3)).round(2), columns=["a", "b", "c"])
    X["k"] = pd.Categorical(rng.integers(0, 5, n_rows).astype(str))
    signal = X["a"] * X["b"] + X["k"].cat.codes / 3 + rng.normal(size=n_rows) / 3
    dates = pd.Series(pd.date_range("2024-01-01", periods=n_rows))
    return Data(X, (signal > 0.7).astype(int).to_numpy(), 2, dates=dates, **others)


@pytest.mark.parametrize("kind", DERIVED)
def test_labels_of_held_out_rows_move_no_column(kind: str) -> None:
    train, held = make_data(150, 0), make_data(40, 1)
    other = Data(held.X, 1 - held.y, 2, dates=held.dates)
    for one, same in zip(DERIVED[kind](train, held, 0), DERIVED[kind](train, other, 0), strict=True):
        assert np.isfinite(one).any()
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize(
    "others", [{}, {"group": np.arange(60) // 3}, {"in_time": True}], ids=["class", "group", "time"]
)
def test_no_fit_counts_a_row_that_it_describes(others: dict[str, object]) -> None:
    train, held = make_data(60, 0, **others), make_data(10, 1)
    group = train.group if train.group is not None else np.arange(60)
    seen = []

    def fit(part: Data) -> Callable[[Data], np.ndarray]:
        def transform(rows: Data) -> np.ndarray:
            if rows is not held:
                assert not set(group[part.X.index]) & set(group[rows.X.index])
                assert not train.in_time or part.X.index.max() < rows.X.index.min()
                seen.extend(rows.X.index)
            return np.zeros((len(rows.y), 1))

        return transform

    inside, outside = cross_fitted(train, held, 0, fit)
    assert len(outside) == 10
    assert sorted(seen) == list(np.flatnonzero(~np.isnan(inside[:, 0])))
    assert len(seen) == (50 if train.in_time else 60)


def test_gains_have_the_usual_error_and_clusters_do_not_add_rows() -> None:
    losses = np.random.default_rng(0).normal(size=(2, 50))
    mean, error = gain(*losses, np.arange(50))
    assert mean / error == pytest.approx(ttest_1samp(losses[0] - losses[1], 0).statistic)
    assert gain(*np.repeat(losses, 3, axis=1), np.repeat(np.arange(50), 3)) == pytest.approx([mean, error])


def test_holm_stops_at_the_first_that_does_not_pass() -> None:
    # .05 / 4, / 3, / 2: .03 is above .025, and so .04 is not looked at.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, 0.05) == {"a", "d"}


def test_greedy_takes_the_member_that_is_right() -> None:
    data = make_data(60, 0)
    right = np.eye(2)[data.y] * 0.98 + 0.01
    assert list(greedy([np.full((60, 2), 0.5), right], data)) == [0, 1]


def test_another_seed_is_compared_like_a_kind() -> None:
    data = make_data(200, 0)
    rng = np.random.default_rng(1)
    proba = {name: rng.dirichlet([5, 5], size=200) for name in (*PLAIN, "placebo", *BASES)}
    proba |= {f"over_{base}": np.eye(2)[data.y] * 0.9 + 0.05 for base in BASES}
    found = compared("some", data, np.arange(200) % 5, proba)
    assert set(found["kinds"]) == {"placebo", "over_linear", "over_mlp"}
    mean, error = found["kinds"]["over_linear"]["greedy"]
    assert mean > 2 * error


def predict_prototypes(n_classes: int, n_rounds: int) -> Callable[[pd.DataFrame, int], dict[str, np.ndarray]]:
    def predict(frame: pd.DataFrame, draw: int) -> dict[str, np.ndarray]:
        data = Data(frame.drop(columns="y"), frame["y"].to_numpy(), n_classes)
        found = {kind: np.zeros((len(frame), max(n_classes, 1))) for kind in KINDS}
        for inside, outside in KFold(4, shuffle=True, random_state=draw).split(data.X):
            train, held = data.take(inside), data.take(outside)
            for kind in found:
                if kind in DERIVED:
                    columns, others = DERIVED[kind](train, held, draw)
                    model = booster(train, draw, n_rounds).fit(with_columns(train.X, columns), train.y)
                    found[kind][outside] = predicted(model, with_columns(held.X, others), data)
                else:
                    found[kind][outside] = over(BASES[kind.removeprefix("over_")], train, held, draw)[1]
        return found

    return predict


KINDS = [
    *(kind for kind in DERIVED if kind not in ("dates", "together")),
    *(f"over_{base}" for base in BASES),
]


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 0], ids=["binary", "regression"])
def test_no_prototype_knows_labels_of_its_own_rows(n_classes: int) -> None:
    load = load_breast_cancer if n_classes else load_diabetes
    law = Law.over(load(as_frame=True).data.iloc[:, :10].add_prefix("x "), n_classes, 400)
    table = advantages(law, predict_prototypes(n_classes, 30), n_draws=8)
    print(table.to_string())
    assert (table["z"].abs() <= LIMIT).all()
