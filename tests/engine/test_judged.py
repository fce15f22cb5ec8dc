"""What predictions are judged on: rows that are not independent are resampled together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.engine.judged import BLOCKS_A_FOLD, Judged, clusters_of
from stackfeat.errors import UsageError
from stackfeat.tasks.task import Task
from tests.engine.by_hand import folds_of_rows, rows
from tests.engine.test_selection import said


def judged(n_rows: int, metric: str = "log_loss", **roles: object) -> Judged:
    return Judged.of(rows(n_rows, **roles), metric, False, np.zeros(n_rows, dtype=np.int64), False)


def test_groups_are_the_clusters_and_rows_without_stand_for_themselves() -> None:
    group = np.array(["b", "a", "b", "c"] * 3)
    fold_of = np.zeros(12, dtype=np.int64)
    found = clusters_of(rows(12, group=group), fold_of, False)
    np.testing.assert_array_equal(found, np.unique(group, return_inverse=True)[1])
    assert clusters_of(rows(12), fold_of, False) is None


def test_blocks_of_time_follow_it_and_end_with_folds() -> None:
    time = np.random.default_rng(0).permutation(100).astype(float)
    fold_of = (np.argsort(np.argsort(time)) // 50).astype(np.int64)
    found = clusters_of(rows(100, time=time), fold_of, True)
    assert found is not None
    in_time = found[np.argsort(time)]
    assert (np.diff(in_time) >= 0).all(), "later rows never stand in an earlier block"
    assert np.bincount(in_time).tolist() == [50 // BLOCKS_A_FOLD] * (2 * BLOCKS_A_FOLD)


def test_the_error_of_rows_that_say_the_same_is_that_of_their_groups() -> None:
    y = np.arange(400) % 2
    positive = np.random.default_rng(1).uniform(0.1, 0.9, 40)
    # Ten equal rows in each of 40 groups: as much is known as from 40 rows.
    group, y = np.repeat(np.arange(40), 10), np.repeat(y[:40], 10)
    samples = replace(rows(400, group=group), y=y)
    fold_of = np.zeros(400, dtype=np.int64)
    prediction = said(np.repeat(positive, 10))
    grouped = Judged.of(samples, "log_loss", False, fold_of, False).bootstrap(prediction, 0)
    apart = Judged.of(replace(samples, group=None), "log_loss", False, fold_of, False).bootstrap(
        prediction, 0
    )
    losses = -np.log(np.where(y == 1, prediction[:, 1], prediction[:, 0]))[::10]
    assert grouped.std() == pytest.approx(losses.std() / np.sqrt(40), rel=0.2)
    assert apart.std() == pytest.approx(losses.std() / np.sqrt(400), rel=0.2)


def test_within_folds_the_mean_of_their_scores_counts() -> None:
    folds, y = folds_of_rows(60), rows(60).y
    fold_of = folds.fold_of(0)
    # Each fold on a scale of its own: pooled ranks mean nothing.
    positive = (0.2 + 0.1 * y + 0.05 * np.random.default_rng(2).normal(size=60)) + 0.3 * (fold_of / 2)
    found = replace(judged(60, "roc_auc"), within=fold_of)
    parts = [sk.roc_auc_score(y[fold_of == fold], positive[fold_of == fold]) for fold in range(3)]
    assert found.score(said(positive)) == pytest.approx(np.mean(parts))
    assert found.score(said(positive)) > judged(60, "roc_auc").score(said(positive)) + 0.1
    resampled = found.bootstrap(said(positive), 0)
    assert np.isfinite(resampled).all() and abs(resampled.mean() - np.mean(parts)) < 0.05


def test_a_fold_of_one_class_is_left_out_of_the_mean_within_folds() -> None:
    fold_of = np.repeat([0, 1], 10)
    y = np.concatenate([np.zeros(10), np.arange(10) % 2]).astype(np.int64)
    positive = np.random.default_rng(3).uniform(size=20)
    found = replace(judged(20, "roc_auc"), y=y, within=fold_of)
    assert found.score(said(positive)) == pytest.approx(sk.roc_auc_score(y[10:], positive[10:]))
    assert np.isfinite(found.bootstrap(said(positive), 0)).any()
    nowhere = replace(found, y=np.zeros(20, dtype=np.int64))
    with pytest.raises(
        UsageError, match=r"must return a finite number; got nan for out-of-fold predictions of 20"
    ):
        nowhere.refuse_undefined(nowhere.score(said(positive)), nowhere.bootstrap(said(positive), 0))


def test_a_single_group_is_resampled_by_rows() -> None:
    found = judged(30, group=np.zeros(30, dtype=np.int64))
    assert found.bootstrap(said(np.linspace(0.1, 0.9, 30)), 0).std() > 0


def of_time(n_folds: int) -> tuple[Judged, np.ndarray]:
    """Losses that drift from fold to fold, with blocks inside a fold all alike."""
    fold_of = np.repeat(np.arange(n_folds), 40)
    n_rows = 40 * n_folds
    samples = rows(n_rows, time=np.arange(float(n_rows)))
    samples = replace(samples, y=np.zeros(n_rows), task=Task("regression"))
    drift = np.array([1.0, 3.0, 2.0, 5.0, 4.0])[fold_of]
    return Judged.of(samples, "mae", False, fold_of, True), drift[:, None]


def test_a_score_over_time_is_as_unsure_as_its_folds_differ() -> None:
    judged, drift = of_time(5)
    found = judged.bootstrap(drift, 0)
    wanted = np.std([1.0, 3.0, 2.0, 5.0, 4.0], ddof=1) / np.sqrt(5)
    assert found.std(ddof=1) == pytest.approx(wanted, rel=0.15)
    assert found.mean() == pytest.approx(3.0, abs=0.2)


def test_of_two_folds_that_follow_time_blocks_are_resampled() -> None:
    judged, drift = of_time(2)
    # Twenty blocks of two heights.
    assert judged.bootstrap(drift, 0).std(ddof=1) == pytest.approx(1 / np.sqrt(20), rel=0.2)
