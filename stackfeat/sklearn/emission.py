"""What an estimator hands on of some rows: scikit-learn's prediction, and the layers of its net.

In:  a fitted estimator, rows, `emit` and `encode` in the user's words.
Out: predictions as the method gives them, all classes in order; taps read and encoded as in the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from stackfeat.nets.options import DEFAULT_ENCODINGS, TapOptions
from stackfeat.registry.resolve import suggest
from stackfeat.sklearn.net_base import BaseNet
from stackfeat.tasks.task import Task

PREDICTIONS = ("proba", "prediction", "decision")
ENCODINGS = ("geometry", "aligned", "relative", "raw")
METHODS = {
    "proba": ("predict_proba",),
    "decision": ("decision_function",),
    "prediction": ("predict",),
    "auto": ("predict_proba", "decision_function", "predict"),
}


@dataclass(frozen=True)
class Emission:
    """What one estimator is read for.

    Attributes
    ----------
    method : str or None
        Name of the method whose output is handed on.
    taps : tuple of TapOptions
    """

    method: str | None
    taps: tuple[TapOptions, ...] = ()

    def has(self, *encodings: str) -> bool:
        """Whether a tap has one of these encodings."""
        return any(name in encodings for tap in self.taps for name in tap.encode)


def plan_emission(
    name: str, estimator: Any, emit: Any, encode: Any, method: str = "auto", *, has_labels: bool
) -> Emission:
    """Work out what an estimator hands on, before anything is fitted.

    Parameters
    ----------
    name : str
        What messages call the estimator.
    emit : "auto", str, TapOptions-like dict, or sequence of them
        ``auto``: the prediction, and of nets the penultimate layer.
    encode : "auto", str, or sequence of str
        Encodings of taps that do not name theirs.
    method : {"auto", "predict_proba", "decision_function", "predict"}
        For ``auto`` in `emit`, which method gives the prediction.
    has_labels : bool
        Whether y are classes.

    Raises
    ------
    ValueError
        If the estimator cannot do what is asked for.
    """
    net = find_net(estimator)
    items = _listed(emit)
    encodings = _encodings(encode)
    if items == ["auto"]:
        layers = ["penultimate"] if net is not None else []
        found = tuple(TapOptions(tap=layer, encode=encodings) for layer in layers)
        return Emission(choose_method(name, estimator, method), found)
    said = [item for item in items if isinstance(item, str) and item in PREDICTIONS]
    if len(said) > 1:
        raise ValueError(f"emit must name one of {', '.join(PREDICTIONS)} at most; got {said} for {name}")
    _check_words(name, items, net, has_labels=has_labels)
    taps = tuple(_tap(item, encodings) for item in items if item not in said)
    return Emission(choose_method(name, estimator, said[0]) if said else None, taps)


def check_targets(name: str, emission: Emission, task: Task | None) -> None:
    """Refuse encodings that need one label or target a row where there are several (None: labels).

    Raises
    ------
    ValueError
        If a tap has such an encoding.
    """
    if task is None and emission.taps:
        raise ValueError(
            f"hidden layers need one label a row; got several, and a tap of {name}; set emit='proba'"
        )
    if task is not None and task.n_targets > 1 and emission.has("geometry"):
        raise ValueError(f"geometry needs one target; got several; set encode='aligned' for {name}")


def choose_method(name: str, estimator: Any, wanted: str) -> str:
    """Return the first method that an estimator has of those that a word of `emit`, or a method's name, means."""
    for method in METHODS.get(wanted, (wanted,)):
        if (found := getattr(estimator, method, None)) is not None:
            return str(found.__name__)
    raise ValueError(f"Underlying estimator {name} does not implement the method {wanted}.")


def find_net(estimator: Any) -> BaseNet | None:
    """Return the net of an estimator whose layers can be read: itself, or the last step of its pipeline."""
    if isinstance(estimator, Pipeline):
        return find_net(estimator.steps[-1][1])
    return estimator if isinstance(estimator, BaseNet) else None


def net_input(estimator: Any, X: Any) -> Any:
    """Return what the net of an estimator is given for X."""
    if isinstance(estimator, Pipeline):
        before = estimator[:-1]
        return net_input(estimator.steps[-1][1], before.transform(X) if len(before.steps) else X)
    return X


def _listed(emit: Any) -> list[Any]:
    return list(emit) if isinstance(emit, Sequence) and not isinstance(emit, str) else [emit]


def _encodings(encode: Any) -> tuple[Any, ...]:
    names = DEFAULT_ENCODINGS if isinstance(encode, str) and encode == "auto" else tuple(_listed(encode))
    for name in names:
        if name == "reference":
            raise ValueError("encode: reference is not built for scikit-learn's classes; use 'aligned'")
        if name not in ENCODINGS:
            raise ValueError(
                f"encode must be 'auto' or of {', '.join(ENCODINGS)}; got {name!r}.{suggest(str(name), ENCODINGS)}"
            )
    return names


def _tap(item: Any, encodings: tuple[Any, ...]) -> TapOptions:
    if isinstance(item, TapOptions):
        tap = item
    elif isinstance(item, dict):
        tap = TapOptions(**{"encode": encodings, **item})
    else:
        tap = TapOptions(tap=str(item), encode=encodings)
    _encodings(tap.encode)
    if tap.is_pattern and tap.last is None:
        raise ValueError(
            f"a pattern of layers must say how many of the last it means; got {tap.tap!r}; "
            f"use {{'tap': {tap.tap!r}, 'last': 2}}"
        )
    return tap


def _check_words(name: str, items: list[Any], net: BaseNet | None, *, has_labels: bool) -> None:
    for item in items:
        if not has_labels and item in ("proba", "decision"):
            raise ValueError(f"in regression the output is 'prediction'; got emit={item!r} for {name}")
        if item not in PREDICTIONS and net is None:
            hint = suggest(item, PREDICTIONS) if isinstance(item, str) else ""
            raise ValueError(
                f"emit must be of {', '.join(PREDICTIONS)} for an estimator that is no net; "
                f"got {item!r} for {name}.{hint}"
            )


def encodings_of(emission: Emission) -> list[tuple[TapOptions, str]]:
    """Return every tap with each of its encodings, in order."""
    return [(tap, name) for tap in emission.taps for name in tap.encode]


def output_name(method: str) -> str:
    """Return what the output of a method is called."""
    return {"predict_proba": "proba", "decision_function": "decision"}.get(method, "prediction")


def prediction_columns(values: np.ndarray, method: str, n_classes: int) -> np.ndarray:
    """Return one column per class (of two: of the second), or per target, float64.

    Labels become certain probabilities, so that fold models can be averaged.
    """
    if method == "predict" and n_classes:
        shares = (values[:, None] == np.arange(n_classes)).astype(np.float64)
        shares[np.isnan(values)] = np.nan
        return shares[:, 1:] if n_classes == 2 else shares
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return columns[:, 1:] if method == "predict_proba" and columns.shape[1] == 2 else columns
