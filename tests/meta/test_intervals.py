"""Intervals and class sets: quantiles by hand, coverage of fresh rows, what labels may change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from stackfeat.errors import StructureError, UsageError
from stackfeat.meta.intervals import MOST_IN_BIN, Intervals, OofRows, Quantiles, WidthModel, checked_level
from stackfeat.tasks.task import Task

VALUES = Task("regression")
N_FOLDS = 5


def ones(n: int) -> np.ndarray:
    return np.ones((n, 1))


def draw(n: int, seed: int, noise: str = "growing") -> tuple[np.ndarray, np.ndarray]:
    """Columns, of which the second drives the noise, and the target."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    error = rng.exponential(size=n) - 1 if noise == "skewed" else rng.normal(size=n)
    return X, 2 * X[:, 0] + error * (np.exp(0.8 * X[:, 1]) if noise == "growing" else 1.0)


def cross_fitted(X: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[OofRows, np.ndarray]:
    """OOF rows of linear models that also memorise, and what each pipeline predicts of new rows."""
    from lightgbm import LGBMRegressor

    fold = np.arange(len(y)) % N_FOLDS
    oof, views = np.zeros(len(y)), []
    for k in range(N_FOLDS):
        model = LGBMRegressor(n_estimators=40, n_jobs=1, verbose=-1).fit(X[fold != k], y[fold != k])
        oof[fold == k] = model.predict(X[fold == k])
        views.append(model.predict(new)[:, None])
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(N_FOLDS)]
    rows = OofRows(VALUES, y, oof[:, None], np.column_stack([X, oof]), splits, None, False)
    return rows, np.stack(views)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0.51, 0.99))
def test_a_quantile_is_the_order_statistic_that_counts_the_new_row(values: list[float], level: float) -> None:
    found = Quantiles.of(np.array(values)[:, None], ones(len(values)), None)
    place = int(np.ceil(level * (len(values) + 1) - 1e-9))
    wanted = sorted(values)[place - 1] if place <= len(values) else np.inf
    assert found.reach(level, ones(1))[0, 0] == wanted


def test_a_group_counts_once_however_many_rows_it_has() -> None:
    # Nine groups of one row that is 1 off, and one of many rows that are 9 off.
    values, groups = np.array([1.0] * 9 + [9.0] * 40), np.array([*range(9), *([9] * 40)])
    by_row = Quantiles.of(values[:, None], ones(49), None)
    by_group = Quantiles.of(values[:, None], ones(49), groups)
    assert by_row.reach(0.6, ones(1)) == 9.0
    assert by_group.reach(0.6, ones(1)) == 1.0 and by_group.reach(0.85, ones(1)) == 9.0
    assert by_group.reach(0.95, ones(1)) == np.inf, "ten groups say nothing of one in twenty"


def test_expectations_scale_what_a_new_row_gets_and_bins_are_pooled_where_they_are_too_small() -> None:
    rng = np.random.default_rng(0)
    expected = np.exp(rng.normal(size=(4000, 1)))
    values = np.abs(rng.normal(size=(4000, 1))) * expected
    found = Quantiles.of(values, expected, None)
    new = np.array([[0.5], [1.0], [2.0]])
    np.testing.assert_allclose(found.reach(0.9, new) / new, 1.645, rtol=0.12)
    assert len(found.centres) == 10 and np.isfinite(found.reach(0.999, new)).all()


def test_many_scores_are_thinned_to_the_same_quantile_or_a_little_more() -> None:
    values = np.random.default_rng(0).exponential(size=(50_000, 1))
    found = Quantiles.of(values, ones(50_000), None)
    assert len(found.scores) == MOST_IN_BIN
    for level in (0.6, 0.9, 0.99):
        exact = np.sort(values[:, 0])[int(np.ceil(level * 50_001)) - 1]
        assert exact <= found.reach(level, ones(1))[0, 0] < exact * 1.01


@pytest.mark.parametrize("noise", ["growing", "skewed"])
def test_fresh_rows_are_covered_in_every_fifth_and_more_narrowly_than_by_one_width(noise: str) -> None:
    coverage, fifths, ratio = [], [], []
    for seed in range(3):
        (X, y), (new, truth) = draw(3000, seed, noise), draw(4000, 100 + seed, noise)
        rows, views = cross_fitted(X, y, new)
        mean = views.mean(axis=0)
        found, _ = Intervals.fit(rows, 0)
        region = found.region(
            mean, views, lambda values, new=new: np.column_stack([new, values]), 0.9, is_mean=True
        )
        held, width = (region[:, 0] <= truth) & (truth <= region[:, 1]), region[:, 1] - region[:, 0]
        coverage.append(held.mean())
        fifths.append([held[part].mean() for part in np.array_split(np.argsort(width), 5)])
        ratio.append(width.mean() / (2 * np.quantile(np.abs(y - rows.prediction[:, 0]), 0.9)))
    assert 0.88 < np.mean(coverage) < 0.92
    assert np.mean(fifths, axis=0).min() > 0.86
    assert np.mean(ratio) < (0.9 if noise == "growing" else 1.02)


def test_an_average_gets_less_by_the_variance_of_its_pipelines() -> None:
    rng = np.random.default_rng(0)
    truth, errors = rng.normal(size=20_000), rng.normal(size=(4, 20_000))
    views = truth + errors
    single, average = np.square(errors[0]).mean(), np.square(errors.mean(axis=0)).mean()
    # The identity that it rests on, of all rows together.
    assert np.square(errors).mean() - views.var(axis=0).mean() == pytest.approx(average)
    rows = OofRows(VALUES, truth, views[0][:, None], views[0][:, None], [], None, False)
    quantiles = Quantiles.of(rows.nonconformity, ones(20_000), None)
    assert quantiles.squares[0] == pytest.approx(single)
    level = WidthModel.fit(np.zeros((100, 1)), np.ones(100), np.arange(100), 0)
    found = Intervals(VALUES, quantiles, ((level,),) * 4)
    for is_mean, factor in ((True, 0.5), (False, 1.0)):
        new = np.array([1.0, -1.0, 1.0, -1.0])[:, None, None] * np.sqrt(0.75 * single)
        region = found.region(np.zeros((1, 1)), new, lambda values: values, 0.9, is_mean=is_mean)
        assert region[0, 1] == pytest.approx(factor * quantiles.reach(0.9, ones(1))[0, 0], rel=1e-6)


def test_a_label_changes_nothing_of_what_is_expected_of_its_own_row() -> None:
    X, y = draw(400, 0)
    rows, _ = cross_fitted(X, y, X[:1])
    _, before = Intervals.fit(rows, 0)
    for row in (0, 17, 399):
        other = y.copy()
        other[row] += 50.0
        _, after = Intervals.fit(replace(rows, y=other), 0)
        own_fold = np.arange(400) % N_FOLDS == row % N_FOLDS
        np.testing.assert_array_equal(after[own_fold], before[own_fold])
        assert (after[~own_fold] != before[~own_fold]).any(), "rows of other folds learn from it"


def test_intervals_hold_labels_as_often_as_redraws_of_them() -> None:
    """Given the columns, a label and a redraw of it are alike to an interval that knows neither."""
    gaps = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(600, 6))
        y = rng.normal(size=600)
        rows, _ = cross_fitted(X, y, X[:1])
        _, expected = Intervals.fit(rows, 0)
        region = VALUES.region(rows.prediction, rows.reach(expected, [0.9])[0])
        redrawn = np.mean([VALUES.holds(region, rng.normal(size=600)).mean() for _ in range(40)])
        gaps.append(VALUES.holds(region, y).mean() - redrawn)
    se = np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    assert abs(np.mean(gaps)) < 3 * se and se < 0.005


def test_intervals_of_noise_cover_fresh_noise() -> None:
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(3000, 4)), rng.normal(size=(6000, 4))
    rows, views = cross_fitted(X, rng.normal(size=3000), new)
    found, _ = Intervals.fit(rows, 0)
    region = found.region(
        views.mean(axis=0), views, lambda values: np.column_stack([new, values]), 0.9, is_mean=True
    )
    assert 0.885 < VALUES.holds(region, rng.normal(size=6000)).mean() < 0.92


def test_sets_of_classes_hold_each_class_alike_a_rare_one_too() -> None:
    rng = np.random.default_rng(0)
    task = Task("multiclass", ("a", "b", "c"))

    def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.choice(3, n, p=[0.6, 0.35, 0.05])
        return rng.normal(size=(n, 2)) + np.array([[0, 0], [1, 0], [0.5, 1]])[y], y

    (X, y), (new, truth) = rows(4000), rows(20_000)
    model = LogisticRegression().fit(*rows(4000))
    splits = [(np.arange(2000, 4000), np.arange(2000)), (np.arange(2000), np.arange(2000, 4000))]
    own = OofRows(task, y, model.predict_proba(X), np.zeros((4000, 0)), splits, None, False)
    found, _ = Intervals.fit(own, 0)
    proba = model.predict_proba(new)
    region = found.region(proba, proba[None], lambda values: values, 0.9, is_mean=True)
    held = region[np.arange(20_000), truth]
    assert region.dtype == bool and region.shape == (20_000, 3)
    for one in range(3):
        # By hand: what is missing to certainty, of the rows of a class.
        missing = np.sort(1 - model.predict_proba(X)[y == one, one])
        limit = missing[int(np.ceil(0.9 * (len(missing) + 1))) - 1]
        np.testing.assert_array_equal(region[:, one], 1 - proba[:, one] <= limit)
        assert 0.86 < held[truth == one].mean() < 0.94
    assert held[truth == 2].mean() > (proba.argmax(axis=1) == 2)[truth == 2].mean() + 0.3


def test_a_class_of_too_few_rows_is_in_every_set() -> None:
    task = Task("binary", ("no", "yes"))
    y = np.array([0] * 50 + [1] * 8)
    proba = np.tile([0.9, 0.1], (58, 1))
    quantiles = Quantiles.of(task.nonconformity(y, proba), np.ones((58, 2)), None)
    assert task.region(proba, quantiles.reach(0.9, np.ones((58, 2)))).all()


def test_errors_of_nought_and_few_rows_give_intervals_too() -> None:
    X = np.arange(24.0)[:, None]
    splits = [(np.arange(12, 24), np.arange(12)), (np.arange(12), np.arange(12, 24))]
    rows = OofRows(VALUES, X[:, 0], X.copy(), X, splits, None, False)
    found, _ = Intervals.fit(rows, 0)
    region = found.region(X, X[None], lambda values: values, 0.9, is_mean=True)
    np.testing.assert_array_equal(region, np.hstack([X, X]))
    assert np.isinf(found.region(X, X[None], lambda values: values, 0.99, is_mean=True)).all()


def test_several_targets_have_an_interval_each() -> None:
    task = Task("regression", n_targets=2)
    rng = np.random.default_rng(0)
    y = rng.normal(size=(500, 2)) * [1.0, 10.0]
    splits = [(np.arange(250, 500), np.arange(250)), (np.arange(250), np.arange(250, 500))]
    rows = OofRows(task, y, np.zeros((500, 2)), rng.normal(size=(500, 1)), splits, None, False)
    found, _ = Intervals.fit(rows, 0)
    region = found.region(
        np.zeros((9, 2)), np.zeros((2, 9, 2)), lambda values: np.zeros((9, 1)), 0.9, is_mean=True
    )
    assert region.shape == (9, 2, 2)
    np.testing.assert_allclose(region[:, 1, 1] / region[:, 0, 1], 10, rtol=0.25)


def test_a_logarithmic_target_has_bounds_of_its_own_scale() -> None:
    task = Task("regression", transform="log1p")
    region = task.region(np.log1p([[9.0], [0.0]]), np.log([[2.0], [2.0]]))
    np.testing.assert_allclose(region, [[4.0, 19.0], [0.0, 1.0]])
    assert task.holds(region, np.log1p([19.0, 1.5])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("level", [0.5, 1.0, 90, "0.9", float("nan")])
def test_a_level_lies_between_one_half_and_one(level: object) -> None:
    with pytest.raises(UsageError, match=r"level of an interval must lie between 0.5 and 1; got"):
        checked_level(level)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("starts", np.array([0, 9, 4]), "starts must cut its scores"),
        ("starts", np.array([0, 1, 9]), "starts must cut its scores"),
        ("columns", np.array([0, 5]), "columns must be those of the task"),
        ("scores", np.array([np.nan] * 4), "scores must be numbers"),
        ("shares", np.ones(3), "shares must have 4 numbers"),
        ("n_units", np.ones(2), "n_units must be numbers"),
        ("centres", np.ones((2, 1)), "centres must be numbers"),
    ],
)
def test_quantiles_that_do_not_fit_together_are_refused(name: str, value: np.ndarray, message: str) -> None:
    sound = Quantiles.of(
        np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, 3.0], [np.nan, 4.0]]), np.ones((4, 2)), None
    )
    arrays = {key: getattr(sound, key) for key in vars(sound)}
    again = Quantiles.from_arrays(arrays.__getitem__, 2, "here")
    np.testing.assert_array_equal(again.reach(0.6, np.ones((1, 2))), [[2.0, 4.0]])
    with pytest.raises(StructureError, match=f"here: {message}"):
        Quantiles.from_arrays({**arrays, name: value}.__getitem__, 2, "here")


def test_a_model_of_widths_is_read_as_any_stranger_may_have_written_it() -> None:
    model = WidthModel.fit(np.random.default_rng(0).normal(size=(500, 2)), np.ones(500), np.arange(500), 0)
    assert WidthModel.of(model.text, 2).expected(np.zeros((3, 2))).tolist() == [pytest.approx(1.0)] * 3
    with pytest.raises(StructureError, match="max_feature_idx must be 2"):
        WidthModel.of(model.text, 3)
