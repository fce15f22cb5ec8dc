"""Metrics of label sets against scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

TASK = Task("multilabel", n_targets=4, targets=("a", "b", "c", "d"))


def drawn(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    y = (random.random((n, 4)) < [0.6, 0.3, 0.2, 0.1]).astype(np.int64)
    proba = np.clip(0.25 + 0.35 * y + 0.2 * random.normal(size=y.shape), 0.01, 0.99)
    return y, proba.round(2)


ORACLES = {
    "log_loss": lambda y, p, w: np.mean(
        [sk.log_loss(y[:, j], p[:, j], sample_weight=w) for j in range(y.shape[1])]
    ),
    "roc_auc": lambda y, p, w: sk.roc_auc_score(y, p, average="macro", sample_weight=w),
    "average_precision": lambda y, p, w: sk.average_precision_score(y, p, sample_weight=w),
    "brier": lambda y, p, w: np.average(((y - p) ** 2).mean(axis=1), weights=w),
    "f1_macro": lambda y, p, w: sk.f1_score(y, p > 0.5, average="macro", sample_weight=w),
    "f1_micro": lambda y, p, w: sk.f1_score(y, p > 0.5, average="micro", sample_weight=w),
    "hamming": lambda y, p, w: sk.hamming_loss(y, p > 0.5, sample_weight=w),
    "lrap": lambda y, p, w: sk.label_ranking_average_precision_score(y, p, sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_it_agrees_with_scikit_learn(name: str, weighted: bool) -> None:
    y, proba = drawn()
    weight = np.random.default_rng(1).uniform(0.2, 3.0, len(y)) if weighted else None
    found = get_metric(name, "multilabel").score(y, proba, TASK, weight)
    assert found == pytest.approx(ORACLES[name](y, proba, weight))


def test_map_at_k_is_the_mean_of_precisions_at_hits() -> None:
    y = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    proba = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]])
    # Two of three places hit: (1/1 + 2/3) / 2; second: (1/2) / 1; third: no labels.
    assert get_metric("map@3", "multilabel").score(y, proba, TASK) == pytest.approx(
        ((1 + 2 / 3) / 2 + 0.5 + 0.0) / 3
    )


def test_a_label_without_both_values_is_left_out() -> None:
    y, proba = drawn()
    y[:, 3] = 0
    expected = sk.roc_auc_score(y[:, :3], proba[:, :3])
    assert METRICS["roc_auc"].score(y, proba, TASK) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["f1_macro", "f1_micro"])
def test_thresholds_are_for_each_label_or_shared_and_never_worse_than_a_half(name: str) -> None:
    y, proba = drawn()
    metric = get_metric(name, "multilabel")
    rule = Decision.fit(metric, y, 0.6 * proba, TASK)
    assert rule.kind == "labels" and len(rule.numbers) == 4
    assert (len(set(rule.numbers)) == 1) == (name == "f1_micro")
    assert metric.score(y, rule.apply(0.6 * proba), TASK) > metric.score(y, 0.6 * proba, TASK)
    assert Decision.from_json(rule.to_json()) == rule == rule.checked(TASK)
