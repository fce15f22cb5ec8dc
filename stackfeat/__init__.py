"""Stacking and voting over the probabilities and hidden features of nets and estimators.

The flow, in the order of the folders:

1. ``data``      files become Samples and Folds
2. ``nets``      Samples become trained modules; taps read any layer of them
3. ``features``  every member is cross-fitted; what it hands on are FeatureBlocks, kept in the ``store``
4. ``ensemble``  levels of members read the blocks of earlier levels; votes are members too
5. ``output``    scores, report, submission, predictor
6. ``sklearn``   the same engine as scikit-learn estimators: NetClassifier and its kin
7. ``run``       all of it on one page: ``stackfeat.pipeline.run("config.yaml")``

Public names are imported when they are first used, so ``import stackfeat`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackfeat.audit.audit import audit
    from stackfeat.config import RunConfig, load_config
    from stackfeat.encodings.similarity import similarity
    from stackfeat.layers.activations.listing import list_layers
    from stackfeat.layers.activations.penultimate import find_penultimate
    from stackfeat.layers.extraction.extract import extract
    from stackfeat.layers.plots import plot_feature_maps, plot_filters
    from stackfeat.layers.taps import Extractor, Tap, mark, tapped
    from stackfeat.output.completed_run import RunResult
    from stackfeat.output.feature_files import save_features
    from stackfeat.pipeline.run import run
    from stackfeat.sklearn.expected_failures import expected_failed_checks
    from stackfeat.sklearn.nets import NetClassifier, NetRegressor
    from stackfeat.sklearn.oof_features import OutOfFoldFeatures
    from stackfeat.sklearn.stacking import StackingClassifier, StackingRegressor
    from stackfeat.sklearn.tap_features import TapFeatures
    from stackfeat.sklearn.voting import VotingClassifier, VotingRegressor

from stackfeat.log import VERSION as __version__

_PUBLIC = {
    "Extractor": "stackfeat.layers.taps",
    "NetClassifier": "stackfeat.sklearn.nets",
    "NetRegressor": "stackfeat.sklearn.nets",
    "OutOfFoldFeatures": "stackfeat.sklearn.oof_features",
    "RunConfig": "stackfeat.config",
    "RunResult": "stackfeat.output.completed_run",
    "StackingClassifier": "stackfeat.sklearn.stacking",
    "StackingRegressor": "stackfeat.sklearn.stacking",
    "Tap": "stackfeat.layers.taps",
    "TapFeatures": "stackfeat.sklearn.tap_features",
    "VotingClassifier": "stackfeat.sklearn.voting",
    "VotingRegressor": "stackfeat.sklearn.voting",
    "audit": "stackfeat.audit.audit",
    "expected_failed_checks": "stackfeat.sklearn.expected_failures",
    "extract": "stackfeat.layers.extraction.extract",
    "find_penultimate": "stackfeat.layers.activations.penultimate",
    "list_layers": "stackfeat.layers.activations.listing",
    "load_config": "stackfeat.config",
    "mark": "stackfeat.layers.taps",
    "plot_feature_maps": "stackfeat.layers.plots",
    "plot_filters": "stackfeat.layers.plots",
    "run": "stackfeat.pipeline.run",
    "save_features": "stackfeat.output.feature_files",
    "similarity": "stackfeat.encodings.similarity",
    "tapped": "stackfeat.layers.taps",
}

__all__ = [
    "Extractor",
    "NetClassifier",
    "NetRegressor",
    "OutOfFoldFeatures",
    "RunConfig",
    "RunResult",
    "StackingClassifier",
    "StackingRegressor",
    "Tap",
    "TapFeatures",
    "VotingClassifier",
    "VotingRegressor",
    "__version__",
    "audit",
    "expected_failed_checks",
    "extract",
    "find_penultimate",
    "list_layers",
    "load_config",
    "mark",
    "plot_feature_maps",
    "plot_filters",
    "run",
    "save_features",
    "similarity",
    "tapped",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        # Importing the module `stackfeat.pipeline.run` has just set a name of the same spelling to the module.
        globals()[name] = value
        return value
    from stackfeat.registry.resolve import suggest

    raise AttributeError(f"module 'stackfeat' has no attribute {name!r}.{suggest(name, _PUBLIC)}")


def __dir__() -> list[str]:
    return sorted(__all__)
