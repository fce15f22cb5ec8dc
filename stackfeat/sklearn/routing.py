"""Who gets which metadata of a `fit`: sample weights go to estimators, groups to the splitter.

In:  what `fit` was given, with metadata routing enabled or not.
Out: parameters by object and method.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.utils.metadata_routing import (
    _manual_routing,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)


def route(owner: Any, fit_params: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the metadata of every estimator named, and of the splitter.

    Raises
    ------
    ValueError
        Without metadata routing: if anything but ``sample_weight`` and ``groups`` is given.
    """
    given = {name: value for name, value in fit_params.items() if value is not None}
    _raise_for_params(given, owner, "fit", allow=["sample_weight", "groups"])
    if _routing_enabled():
        return process_routing(owner, "fit", **given)
    weight = {name: value for name, value in given.items() if name == "sample_weight"}
    groups = {name: value for name, value in given.items() if name == "groups"}
    return _manual_routing({**{name: {"fit": weight} for name in names}, "splitter": {"split": groups}})


def metadata_of(routed: Any, name: str, method: str) -> dict[str, Any]:
    """Return the metadata of an object's method; none where it asks for none."""
    return dict(routed.get(name, {}).get(method, {}))


def check_weights_supported(estimators: Mapping[str, Any], routed: Any) -> None:
    """Raise TypeError before any fit where an estimator is to get weights that its `fit` does not take."""
    for name, estimator in estimators.items():
        if "sample_weight" not in metadata_of(routed, name, "fit"):
            continue
        taken = inspect.signature(estimator.fit).parameters.values()
        if not any(one.name == "sample_weight" or one.kind is one.VAR_KEYWORD for one in taken):
            raise TypeError(
                f"Underlying estimator {type(estimator).__name__} does not support sample weights; "
                f"got sample_weight for {name!r}; use another estimator, or fit without weights"
            )
