"""Fold models on different scales are told from pooled and fold scores, with a remedy that is legal."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.engine.graph import Node
from stackfeat.members.options import EstimatorOptions
from stackfeat.metrics.registry import get_metric
from stackfeat.output.scores import Score, fold_scale_warning
from stackfeat.tasks.task import Kind, Task


def scored(name: str, pooled: float, fold_mean: float, se: float = 0.01) -> Score:
    options = EstimatorOptions(estimator="sklearn.svm.SVC")
    node = Node("base", name, ("table",), (), (), 0)
    return Score(node, options, pooled, se, fold_mean, [fold_mean], 100, None, {}, np.array([pooled]))


@pytest.mark.parametrize(
    ("kind", "classes", "remedy"), [("binary", (0, 1), "rank"), ("multiclass", (0, 1, 2), "logit")]
)
def test_a_gap_above_two_standard_errors_is_warned_of(
    kind: Kind, classes: tuple[int, ...], remedy: str
) -> None:
    scores = [scored("svm", 0.80, 0.83), scored("near", 0.82, 0.83), scored("better", 0.86, 0.83)]
    (text,) = fold_scale_warning(scores, get_metric("roc_auc", kind), Task(kind, classes))
    assert "for base/svm: fold models are on different scales" in text
    assert text.endswith(f"Try stack.average: {remedy}")


def test_metrics_that_rank_nothing_are_left_alone() -> None:
    task = Task("binary", (0, 1))
    assert fold_scale_warning([scored("svm", 0.9, 0.5)], get_metric("log_loss", "binary"), task) == []
