"""Stacking and voting over the probabilities and hidden features of nets and estimators.

The flow, in the order of the folders:

1. ``data``      files become Samples and Folds
2. ``nets``      Samples become trained modules; taps read any layer of them
3. ``features``  every member is cross-fitted; what it hands on are FeatureBlocks, kept in the ``store``
4. ``ensemble``  levels of members read the blocks of earlier levels; votes are members too
5. ``output``    scores, report, submission, predictor
6. ``sklearn``   the same engine as scikit-learn estimators: NetClassifier and its kin
7. ``run``       all of it on one page: ``stackfeat.run("config.yaml")``

Public names are imported when they are first used, so ``import stackfeat`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackfeat.auditing import audit
    from stackfeat.config import RunConfig, load_config
    from stackfeat.features.similarity import similarity
    from stackfeat.nets.extraction.extract import extract
    from stackfeat.nets.pictures import plot_feature_maps, plot_filters
    from stackfeat.nets.reading.listing import list_layers
    from stackfeat.nets.reading.penultimate import find_penultimate
    from stackfeat.nets.taps import Extractor, Tap, mark, tapped
    from stackfeat.output.feature_files import save_features
    from stackfeat.output.result import RunResult
    from stackfeat.run import run
    from stackfeat.sklearn.expected import expected_failed_checks
    from stackfeat.sklearn.net_classifier import NetClassifier
    from stackfeat.sklearn.net_regressor import NetRegressor
    from stackfeat.sklearn.oof_features import OutOfFoldFeatures
    from stackfeat.sklearn.stacking import StackingClassifier, StackingRegressor
    from stackfeat.sklearn.tap_features import TapFeatures
    from stackfeat.sklearn.voting import VotingClassifier, VotingRegressor

__version__ = "0.1.0"

_PUBLIC = {
    "Extractor": "stackfeat.nets.taps",
    "NetClassifier": "stackfeat.sklearn.net_classifier",
    "NetRegressor": "stackfeat.sklearn.net_regressor",
    "OutOfFoldFeatures": "stackfeat.sklearn.oof_features",
    "RunConfig": "stackfeat.config",
    "RunResult": "stackfeat.output.result",
    "StackingClassifier": "stackfeat.sklearn.stacking",
    "StackingRegressor": "stackfeat.sklearn.stacking",
    "Tap": "stackfeat.nets.taps",
    "TapFeatures": "stackfeat.sklearn.tap_features",
    "VotingClassifier": "stackfeat.sklearn.voting",
    "VotingRegressor": "stackfeat.sklearn.voting",
    "audit": "stackfeat.auditing",
    "expected_failed_checks": "stackfeat.sklearn.expected",
    "extract": "stackfeat.nets.extraction.extract",
    "find_penultimate": "stackfeat.nets.reading.penultimate",
    "list_layers": "stackfeat.nets.reading.listing",
    "load_config": "stackfeat.config",
    "mark": "stackfeat.nets.taps",
    "plot_feature_maps": "stackfeat.nets.pictures",
    "plot_filters": "stackfeat.nets.pictures",
    "run": "stackfeat.run",
    "save_features": "stackfeat.output.feature_files",
    "similarity": "stackfeat.features.similarity",
    "tapped": "stackfeat.nets.taps",
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
        # Importing the module `stackfeat.run` has just set a name of the same spelling to the module.
        globals()[name] = value
        return value
    from stackfeat.registry.resolve import suggest

    raise AttributeError(f"module 'stackfeat' has no attribute {name!r}.{suggest(name, _PUBLIC)}")


def __dir__() -> list[str]:
    return sorted(__all__)
