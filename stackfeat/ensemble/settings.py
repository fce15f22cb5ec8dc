"""What of a member goes into the keys of its fits: options, settings, versions, source.

Names of inputs stand elsewhere in the recipe, and options that a member does not use are
left out, so that changing them recomputes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stackfeat.ensemble.graph import FITTED_VOTES, Node
from stackfeat.ensemble.options import EstimatorOptions, PredictionsOptions, VoteOptions
from stackfeat.features.keys import VERSIONS, library_versions
from stackfeat.nets.options import NetOptions
from stackfeat.registry.names import NET_FAMILIES, NET_PACKAGES

Options = NetOptions | EstimatorOptions | VoteOptions | PredictionsOptions

_GREEDY_ONLY = ("picks", "bags", "start")


def member_json(options: Options) -> dict[str, Any]:
    """Return the options that can change what a fit gives; files count by their contents (`sources`)."""
    if isinstance(options, PredictionsOptions):
        return {"predictions": {}}
    values = options.to_json()
    for name in ("inputs", "each", "seeds", "folds", "nested"):
        values.pop(name, None)
    if isinstance(options, NetOptions):
        # The file counts by its bytes, not by its name.
        values["weights"] = None if options.weights is None else "given"
        values["emit"] = [tap.to_json() for tap in options.taps()]
    if isinstance(options, VoteOptions):
        for name in _GREEDY_ONLY if options.vote != "greedy" else ("tie",):
            values.pop(name)
    return values


def member_settings(node: Node, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fit needs of the run: see `run_settings` for the whole."""
    options = node.options
    chosen = {"threads": settings["threads"]}
    if isinstance(options, NetOptions | EstimatorOptions):
        chosen["seeds"] = options.seeds * settings["seed_copies"]
    if isinstance(options, NetOptions):
        chosen["device"] = settings["device"]
        if options.weights is not None:
            chosen["predicts"] = node.prediction is not None
        chosen["loss"] = options.train.loss if options.train.loss != "auto" else settings["loss"]
    if isinstance(options, EstimatorOptions) and node.blocks:
        chosen["gate_se"] = settings["gate_se"]
    if isinstance(options, EstimatorOptions) and options.estimator == "gated_linear":
        chosen["version"] = VERSIONS["gated_linear"]
    elif isinstance(options, EstimatorOptions) and options.gate and node.reads_features:
        chosen["version"] = VERSIONS["gate"]
    if isinstance(options, VoteOptions) and options.vote in FITTED_VOTES:
        chosen |= {"metric": settings["metric"], "metric_code": settings["metric_code"]}
    if isinstance(options, VoteOptions) and options.vote == "hard" and options.tie == "prior":
        chosen["version"] = VERSIONS["prior_vote"]
    return chosen


def member_libraries(options: Options) -> dict[str, str]:
    """Return the versions of the libraries whose change may change a fit."""
    if isinstance(options, NetOptions):
        _, packages = NET_PACKAGES.get(options.net, ("", ()))
        family = options.net.partition(":")[0]
        more = (family,) if family in NET_FAMILIES else packages
        return library_versions("torch", "numpy", "scikit-learn", *more)
    if isinstance(options, EstimatorOptions):
        package = options.estimator.replace(":", ".").split(".")[0]
        named = {"sklearn": "scikit-learn", "gated_linear": "scipy"}.get(package, package)
        return library_versions(named, "numpy", "scipy", "scikit-learn")
    return library_versions("numpy", "scipy")


def member_code(options: Options, source_hash: Callable[[str], str | None]) -> str | None:
    """Return the hash of the user's source behind a member, if there is any."""
    if isinstance(options, NetOptions):
        return source_hash(options.net)
    if isinstance(options, EstimatorOptions):
        return source_hash(options.estimator)
    return None
