"""What the K pipelines of a stack say, put together at the very end.

In:  one output of the final estimator for each pipeline.
Out: their mean, or what most of them say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import _manual_routing, _routing_enabled, process_routing


def route_predict(stack: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return what the final estimator's `predict` is given."""
    route: Callable[..., Any] = _manual_routing
    routed = (
        process_routing(stack, "predict", **params)
        if _routing_enabled()
        else route({"final_estimator_": {"predict": params}})
    )
    return dict(routed.final_estimator_["predict"])


def mean(outputs: Sequence[Any]) -> Any:
    """Return the mean over pipelines, also of tuples (values, spreads) and of lists (one a label)."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, tuple | list):
        return type(first)(mean([output[i] for output in outputs]) for i in range(len(first)))
    return np.mean(outputs, axis=0)


def most_voted(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return what most pipelines say of each row (and label); the lowest code of equals."""
    if len(outputs) == 1:
        return np.asarray(outputs[0])
    votes = np.stack(outputs)
    codes = np.unique(votes)
    counts = np.stack([(votes == code).sum(axis=0) for code in codes])
    return np.asarray(codes[counts.argmax(axis=0)])
