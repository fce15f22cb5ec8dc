"""What looks wrong, after a run, about members that were made elsewhere.

In:  scores of all members, the out-of-fold rows of those made elsewhere.
Out: a sentence each: far above every member of one's own, another order of classes, near chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.external.leak_signs import better_order, far_above, order_text
from stackfeat.engine.plan import Plan
from stackfeat.engine.scoring import oof_prediction
from stackfeat.metrics.metric import Metric
from stackfeat.output.scores import Score, paired_gap
from stackfeat.store import EntryStore


def external_warnings(
    plan: Plan, store: EntryStore, scores: Sequence[Score], train: Samples, folds: Folds, metric: Metric
) -> list[str]:
    """Return warnings on imported members and checkpoints.

    Parameters
    ----------
    scores : sequence of Score
        Of all members, in the order of computing.
    """
    foreign = [score for score in scores if score.options.is_foreign]
    own = [score for score in scores if score.node.is_base and not score.options.is_foreign]
    best = min(own, key=lambda score: metric.signed(score.score), default=None)
    found = []
    for score in foreign:
        if best is not None:
            found += _leak_warning(score, best, metric)
        if score.options.checkpoints is not None:
            has_order = score.options.checkpoints.has_classes
            found += _checkpoint_warnings(plan, store, score, train, folds, has_order=has_order)
    return found


def _leak_warning(score: Score, best: Score, metric: Metric) -> list[str]:
    gap, error = paired_gap(score, best, metric)
    if not far_above(score.score, best.score, -gap, error, metric.greater_is_better):
        return []
    return [
        f"{score.node.full_name}: its out-of-fold {metric.name} of {score.score:.5g} is far above that of the best "
        f"member trained here ({best.node.full_name}, {best.score:.5g}), by {-gap / max(error, 1e-12):.0f} standard "
        "errors: were its rows made by models that saw their labels? Ask for the folds; leave it out if in doubt"
    ]


def _checkpoint_warnings(
    plan: Plan, store: EntryStore, score: Score, train: Samples, folds: Folds, *, has_order: bool
) -> list[str]:
    block, task = score.node.prediction, train.task
    assert block is not None
    places = [plan.oof_places(block, repeat) for repeat in range(plan.sources.n_repeats)]
    values, covered = oof_prediction(store, places, folds, task, "mean")
    rows = np.flatnonzero(covered)
    y, values = train.labels[rows], values[rows]
    if not has_order:
        order = better_order(y, values)
        if order is not None:
            return [f"{score.node.full_name}: {order_text(order, task)}"]
    if task.is_near_chance(y, values, None if train.weight is None else train.weight[rows]):
        return [
            f"{score.node.full_name}: out-of-fold rows of the checkpoints are no better than a constant prediction. "
            "Are inputs prepared as in training (scaling, order of columns), and classes in the right order?"
        ]
    return []
