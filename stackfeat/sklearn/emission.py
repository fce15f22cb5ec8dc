"""What an estimator passes on of some rows: scikit-learn's prediction, and the layers of its net.

In:  a fitted estimator, rows, `emit` and `encode` in the user's words.
Out: predictions as the method gives them, all classes in order; taps read and encoded as in the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from pydantic import ValidationError
from sklearn.base import is_regressor
from sklearn.pipeline import Pipeline

from stackfeat.encodings import ENCODINGS
from stackfeat.encodings.encoding import Encoding
from stackfeat.encodings.options import DEFAULT_ENCODINGS, TapOptions
from stackfeat.errors import UsageError
from stackfeat.members.net import FittedNets
from stackfeat.nets.copies import is_module
from stackfeat.registry.resolve import suggest
from stackfeat.sklearn._compat import _BaseStacking, _enforce_prediction_order
from stackfeat.sklearn.column_names import with_taken_names
from stackfeat.sklearn.nets import BaseNet
from stackfeat.sklearn.targets import probabilities
from stackfeat.tasks.task import Task

METHODS = {"proba": "predict_proba", "prediction": "predict", "decision": "decision_function"}
"""The words of `emit` for predictions, and the method that gives each."""


@dataclass(frozen=True)
class Emission:
    """What one estimator is read for.

    Attributes
    ----------
    method : str or None
        Name of the method whose output is passed on.
    taps : tuple of TapOptions
    """

    method: str | None
    taps: tuple[TapOptions, ...] = ()

    @classmethod
    def plan(
        cls, name: str, estimator: Any, emit: Any, encode: Any, method: str = "auto", *, has_labels: bool
    ) -> Emission:
        """Work out what an estimator passes on, before anything is fitted.

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
        net, items, encodings = find_net(estimator), listed(emit), _encodings(encode)
        has_layers = net is not None
        if not items:
            raise ValueError(f"emit must name at least one output; got none for {name}; use 'auto'")
        if items == ["auto"]:
            words, layers = [method], ["penultimate"] if has_layers else []
        else:
            words = [item for item in items if isinstance(item, str) and item in METHODS]
            layers = [item for item in items if item not in words]
            if len(words) > 1:
                raise ValueError(
                    f"emit must name one of {', '.join(METHODS)} at most; got {words} for {name}"
                )
            for word in words:
                if not has_labels and word != "prediction":
                    raise ValueError(
                        f"in regression the output is 'prediction'; got emit={word!r} for {name}"
                    )
            if layers and not has_layers:
                hint = suggest(layers[0], METHODS) if isinstance(layers[0], str) else ""
                raise ValueError(
                    f"emit must be of {', '.join(METHODS)} for an estimator that is no net; "
                    f"got {layers[0]!r} for {name}.{hint}"
                )
        methods = [_BaseStacking._method_name(name, estimator, METHODS.get(word, word)) for word in words]
        return cls(methods[0] if methods else None, tuple(_tap(layer, encodings, net) for layer in layers))

    @property
    def outputs(self) -> dict[str, tuple[TapOptions, str]]:
        """Every tap with each of its encodings, by the name of its columns, in order."""
        return {f"{tap.key}@{encoding}": (tap, encoding) for tap in self.taps for encoding in tap.encode}

    @property
    def encodings(self) -> list[type[Encoding]]:
        """Encodings of all taps."""
        return [ENCODINGS[encoding] for _, encoding in self.outputs.values()]


def listed(emit: Any) -> list[Any]:
    """Return what is asked for, one or several, as a list."""
    return list(emit) if isinstance(emit, Sequence) and not isinstance(emit, str) else [emit]


def _encodings(encode: Any) -> tuple[Any, ...]:
    names = DEFAULT_ENCODINGS if isinstance(encode, str) and encode == "auto" else tuple(listed(encode))
    known = [name for name, encoding in ENCODINGS.items() if not encoding.needs_untrained]
    for name in (name for name in names if name not in known):
        if name in list(ENCODINGS):
            raise ValueError(f"encode: {name} is not built for scikit-learn's classes; use 'aligned'")
        raise ValueError(
            f"encode must be 'auto' or of {', '.join(known)}; got {name!r}.{suggest(str(name), known)}"
        )
    return names


def _refuse_options(given: Mapping[str, Any]) -> None:
    """Raise UsageError where a dict in `emit` has a key that no tap has, or no layer."""
    legal = list(TapOptions.model_fields)
    for name in given:
        if name not in legal:
            keys = f"the keys of a tap ({', '.join(legal)})"
            raise UsageError(f"emit: a dict must have {keys}; got {name!r}.{suggest(str(name), legal)}")
    if "tap" not in given:
        raise UsageError(f"emit: a dict must say which layer: {{'tap': NAME}}; got {dict(given)}; add it")


def _options(item: Any, net: Any) -> dict[str, Any]:
    """Return the options of a tap; a layer itself by the name that it has in the module of the net."""
    given = dict(item) if isinstance(item, Mapping) else {"tap": item}
    if isinstance(given.get("tap", ""), str):
        return given
    from stackfeat.layers.taps.tap import Tap, holds_layers, named_tap

    tap = given["tap"]
    if holds_layers(tap) and not is_module(net.module):
        raise UsageError(
            f"emit: each fold builds a net of its own from {net.module!r}; got a layer itself; give its name"
        )
    named = named_tap(net.module, tap)
    if isinstance(named, Tap) and named.type is not None:
        raise UsageError(f"emit must name a layer; got {named!r}; write a name or a pattern with last")
    options = {name: getattr(named, name) for name in ("pool", "last", "combine")}
    said = {name: value for name, value in options.items() if value not in (None, "auto")}
    return {**said, **given, "tap": str(named)}


def _tap(item: Any, encodings: tuple[Any, ...], net: Any) -> TapOptions:
    if item is None or isinstance(item, Real):
        raise ValueError(f"emit must be 'auto', of {', '.join(METHODS)}, or a layer; got {item!r}; name one")
    if not isinstance(item, TapOptions):
        given = _options(item, net)
        _refuse_options(given)
        try:
            item = TapOptions(**{"encode": encodings, **given})
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise UsageError(
                f"emit: {place}: {problem['msg']}; got {given.get(place)!r}; correct it"
            ) from error
    _encodings(item.encode)
    if item.is_open:
        raise ValueError(
            f"a pattern of layers must say how many of the last it means; got {item.tap!r}; "
            f"use {{'tap': {item.tap!r}, 'last': 2}}"
        )
    return item


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


def label(name: str, estimator: Any, emit: Any, encode: Any, method: str = "auto") -> str:
    """Return a label such as ``net: proba, penultimate@geometry, penultimate@aligned``."""
    try:
        # No target is known before a fit: the estimator says what it is for.
        plan = Emission.plan(name, estimator, emit, encode, method, has_labels=not is_regressor(estimator))
    except (ValueError, LookupError):
        # A drawing is no place to complain: fit does.
        return name
    said = [] if plan.method is None else [plan.method.removeprefix("predict_")]
    return f"{name}: {', '.join([*said, *plan.outputs])}"


@dataclass(frozen=True)
class Reading:
    """What an estimator says of some rows: a prediction, and columns or activations by output name."""

    prediction: Any
    columns: dict[str, np.ndarray]


def read(fitted: Any, emission: Emission, tapped: FittedNets | None, X: Any, task: Task) -> Reading:
    """Return what a fitted estimator says of rows; activations that are aligned go by ``tap/PART/NET``.

    Parameters
    ----------
    tapped : FittedNets or None
        The nets of the estimator with the encoders of its taps, where there are any.
    """
    prediction, columns = None, {}
    if emission.method is not None:
        said = getattr(fitted, emission.method)(with_taken_names(fitted, X))
        prediction = in_order(fitted, said, emission.method, task)
    net = find_net(fitted)
    if net is not None and tapped is not None:
        columns = tapped.emit(net.rows(net_input(fitted, X)))
    return Reading(prediction, columns)


def in_order(fitted: Any, values: Any, method: str, task: Task) -> Any:
    """Give columns to classes that a fold's estimator never saw, as `cross_val_predict` does; one to each label."""
    if method == METHODS["proba"]:
        values = probabilities(fitted, values, task)
    classes, n_classes = getattr(fitted, "classes_", None), len(task.classes)
    if method == METHODS["prediction"] or classes is None or n_classes == 0:
        return values
    return _enforce_prediction_order(np.asarray(classes), np.asarray(values), n_classes, method)
