"""Parts of a stack that need no stack: words by estimator, prefit estimators, means of views.

In:  `emit` and `encode`, fitted estimators, meta columns of every pipeline.
Out: what one estimator is read for, readings, one set of columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stackfeat.sklearn.emission import Emission, find_net, net_input
from stackfeat.sklearn.folding import Reading, read


def of_estimator(name: str, value: Any, estimators: Any) -> Any:
    """Return one estimator's `emit` or `encode`: of a dict by name, else the same for all."""
    if not isinstance(value, Mapping) or "tap" in value:
        return value
    unknown = set(value) - {known for known, _ in estimators}
    if unknown:
        raise ValueError(
            f"emit and encode must name estimators ({', '.join(n for n, _ in estimators)}); got {sorted(unknown)}"
        )
    return value.get(name, "auto")


def of_prefit(name: str, plan: Emission, emit: Any) -> Emission:
    """Return what a prefit estimator is read for: it has one space, so layers are read as they are."""
    if isinstance(emit, str) and emit == "auto":
        return Emission(plan.method)
    if plan.has("geometry", "aligned", "relative"):
        raise ValueError(f"layers of prefit estimators are read as they are; set encode='raw' for {name}")
    return plan


def read_prefit(estimator: Any, emission: Emission, X: Any, n_classes: int | list[int]) -> Reading:
    """Return what a prefit estimator says of rows; its net's layers as they are."""
    prediction = read(estimator, Emission(emission.method), (), X, n_classes).prediction
    net = find_net(estimator)
    if not emission.taps or net is None:
        return Reading(prediction, {})
    caught = net.embed(net_input(estimator, X), {tap.key: tap.tap for tap in emission.taps})
    return Reading(prediction, {f"{key}@raw": values for key, values in caught.items()})


def mean_of(views: list[tuple[Any, dict[str, np.ndarray]]]) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the mean of views, column by column."""
    if len(views) == 1:
        return views[0]
    base = sum(base for base, _ in views[1:]) + views[0][0]
    features = {name: np.mean([features[name] for _, features in views], axis=0) for name in views[0][1]}
    return base / len(views), features
