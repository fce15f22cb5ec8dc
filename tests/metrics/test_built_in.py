"""The built-in metrics where rows, classes or values leave little to measure."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.errors import DataError
from stackfeat.metrics.built_in import (
    METRICS,
    average_precision,
    balanced_accuracy,
    brier_rows,
    confusion,
    f1,
    f1_macro,
    pearson,
    r2,
    reweighted_auc,
    squared_log_error_rows,
)
from stackfeat.metrics.registry import get_metric
from stackfeat.metrics.sorted_scores import mean_defined
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("bad", "good"), positive=0)
MULTI = Task("multiclass", (10, 20, 30, 40))
VALUE = Task("regression")


def counted(y, decided, task):
    return confusion(y, decided, task, None)


def test_multiclass_auc_equals_scikit_learns_ovr():
    random = np.random.default_rng(0)
    y, p = random.integers(0, 4, 300), random.dirichlet(np.ones(4), 300).round(1)
    p /= p.sum(axis=1, keepdims=True)
    expected = sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
    assert get_metric("roc_auc", "multiclass").score(y, p, MULTI) == pytest.approx(expected)


def test_kappa_in_regression_scores_rounded_values():
    random = np.random.default_rng(1)
    y = random.integers(1, 7, 500).astype(float)
    p = y + random.normal(size=500)
    expected = sk.cohen_kappa_score(
        y.astype(int), np.rint(p).astype(int), weights="quadratic", labels=range(-3, 12)
    )
    assert get_metric("quadratic_weighted_kappa", "regression").score(y, p, VALUE) == pytest.approx(expected)


def test_log_loss_clips_at_1e_15():
    proba = np.array([[0.0, 1.0], [0.0, 1.0]])
    score = get_metric("log_loss", "binary").score(np.array([0, 1]), proba, BINARY)
    assert score == pytest.approx(-np.log(1e-15) / 2)


def test_scores_of_one_class_are_nan_not_errors():
    y, p = np.zeros(4, dtype=int), np.full((4, 2), 0.5)
    assert np.isnan(get_metric("roc_auc", "binary").score(y, p, BINARY))
    assert get_metric("mcc", "binary").score(y, p, BINARY) == 0.0
    assert get_metric("quadratic_weighted_kappa", "binary").score(y, p, BINARY) == 0.0


def test_classes_that_no_row_has_are_left_out_of_means_over_classes():
    random = np.random.default_rng(0)
    y, p = random.choice([0, 1, 3], 80), random.dirichlet(np.ones(4), 80)
    each = [sk.roc_auc_score(y == code, p[:, code]) for code in (0, 1, 3)]
    assert reweighted_auc(y, p, MULTI)(np.ones(80)) == pytest.approx(np.mean(each))
    each = [sk.average_precision_score(y == code, p[:, code]) for code in (0, 1, 3)]
    assert average_precision(y, p, MULTI) == pytest.approx(np.mean(each))
    decided = p.argmax(axis=1)
    decided[decided == 2] = 3
    counts = counted(y, decided, MULTI)
    assert balanced_accuracy(counts, MULTI) == pytest.approx(sk.balanced_accuracy_score(y, decided))
    assert f1_macro(counts, MULTI) == pytest.approx(sk.f1_score(y, decided, average="macro"))
    assert np.isnan(mean_defined([np.nan])) and mean_defined([np.nan, 3.0]) == 3.0


def test_a_class_that_is_predicted_and_never_occurs_counts_in_f1_and_not_in_recall():
    y, decided = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert balanced_accuracy(counted(y, decided, MULTI), MULTI) == 0.75
    assert f1_macro(counted(y, decided, MULTI), MULTI) == pytest.approx(np.mean([2 / 3, 1.0, 0.0]))


def test_counts_have_true_classes_in_rows_and_add_up_weights():
    y, decided, weight = np.array([0, 0, 1]), np.array([1, 1, 0]), np.array([2.0, 0.5, 1.0])
    np.testing.assert_array_equal(confusion(y, decided, BINARY, weight), [[0, 2.5], [1, 0]])
    np.testing.assert_array_equal(
        confusion(y, decided, BINARY, weight), sk.confusion_matrix(y, decided, sample_weight=weight)
    )


def test_f1_is_of_the_positive_class_and_zero_where_it_neither_occurs_nor_is_predicted():
    y, decided = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    other = Task("binary", ("bad", "good"), positive=1)
    assert f1(counted(y, decided, BINARY), BINARY) == pytest.approx(sk.f1_score(y, decided, pos_label=0))
    assert f1(counted(y, decided, other), other) == pytest.approx(sk.f1_score(y, decided, pos_label=1))
    assert f1(counted(np.ones(4, dtype=int), np.ones(4, dtype=int), BINARY), BINARY) == 0.0


def test_a_binary_brier_is_half_of_the_sum_over_both_classes():
    y, p = np.array([0, 1, 1]), np.array([[0.2, 0.8], [0.3, 0.7], [1.0, 0.0]])
    np.testing.assert_allclose(brier_rows(y, p, BINARY), ((p - np.eye(2)[y]) ** 2).sum(axis=1) / 2)
    two = Task("multiclass", (1, 2))
    np.testing.assert_allclose(brier_rows(y, p, two), ((p - np.eye(2)[y]) ** 2).sum(axis=1))


def test_constant_values_have_no_r2_and_constant_predictions_no_correlation():
    y, random = np.arange(5.0), np.random.default_rng(0).normal(size=5)
    assert np.isnan(r2(np.ones(5), random, VALUE))
    assert r2(y, np.full(5, 2.0), VALUE) == 0.0
    assert pearson(y, np.ones(5), VALUE) == pearson(np.ones(5), random, VALUE) == 0.0
    assert pearson(y, -3 * y + 1, VALUE) == pytest.approx(-1.0)


def test_predictions_below_zero_count_as_zero_in_rmsle_and_targets_below_zero_are_refused():
    y = np.array([0.0, 3.0])
    np.testing.assert_allclose(squared_log_error_rows(y, np.array([-5.0, -0.1]), VALUE), [0, np.log(4) ** 2])
    with pytest.raises(DataError, match=r"rmsle needs a target of at least 0; got -2\. Choose rmse or mae"):
        squared_log_error_rows(np.array([1.0, -2.0]), y, VALUE)


def test_what_has_a_convex_error_falls_with_it_on_a_line_between_two_predictions():
    random = np.random.default_rng(0)
    for name, metric in METRICS.items():
        if metric.convex_error is None:
            continue
        task = VALUE if metric.needs == "value" else MULTI
        if task is VALUE:
            y, ends = np.exp(random.normal(size=40)), np.exp(random.normal(size=(2, 40, 1)))
        else:
            y, ends = random.integers(0, 4, 40), random.dirichlet(np.ones(4), (2, 40))
        if metric.target_transform == "log1p":
            task = Task("regression", transform="log1p")
            y = np.log1p(y)
        target = task.to_target_scale(y)
        shares = np.linspace(0, 1, 9)
        means = [share * ends[0] + (1 - share) * ends[1] for share in shares]
        losses = np.array([metric.loss(target, task.to_target_scale(one), task) for one in means])
        error = losses**2 if metric.root else losses
        assert (np.diff(error, 2) > -1e-12).all(), name
