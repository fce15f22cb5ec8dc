"""Stacking and voting over the probabilities and hidden features of nets and estimators.

The flow, in the order of the rooms:

1. ``data``       files become Samples and Folds
2. ``layers``     taps read any layer of any net
3. ``nets``       Samples become trained modules
4. ``encodings``  activations of the nets of all folds become columns that may be stacked
5. ``meta``       votes, gates and meta-learners combine predictions and features
6. ``engine``     levels of ``members`` are cross-fitted, job by job; blocks are kept in the ``store``
7. ``output``     leaderboard, report, submission, predictor
8. ``pipeline``   all of it on one page: ``stackfeat.run("config.yaml")``
9. ``sklearn``    the same engine as scikit-learn estimators

Public names are imported when they are first used, so ``import stackfeat`` is fast.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackfeat.audit.audit import audit as audit
    from stackfeat.config import RunConfig as RunConfig
    from stackfeat.config import load_config as load_config
    from stackfeat.encodings.similarity import similarity as similarity
    from stackfeat.layers.activations.listing import list_layers as list_layers
    from stackfeat.layers.activations.penultimate import find_penultimate as find_penultimate
    from stackfeat.layers.extraction.extract import extract as extract
    from stackfeat.layers.plots import plot_feature_maps as plot_feature_maps
    from stackfeat.layers.plots import plot_filters as plot_filters
    from stackfeat.layers.taps.edits import edited as edited
    from stackfeat.layers.taps.extractor import Extractor as Extractor
    from stackfeat.layers.taps.hooks import tapped as tapped
    from stackfeat.layers.taps.marks import mark as mark
    from stackfeat.layers.taps.tap import Tap as Tap
    from stackfeat.output.feature_files import save_features as save_features
    from stackfeat.output.run_result import RunResult as RunResult
    from stackfeat.pipeline.blend import blend as blend
    from stackfeat.pipeline.compare import compare as compare
    from stackfeat.pipeline.distil import distil as distil
    from stackfeat.pipeline.explain import explain as explain
    from stackfeat.pipeline.fit import fit as fit
    from stackfeat.pipeline.predict import load as load
    from stackfeat.pipeline.refresh import refresh as refresh
    from stackfeat.pipeline.run import run as run
    from stackfeat.pipeline.students import load_student as load_student
    from stackfeat.sklearn import expected_failed_checks as expected_failed_checks
    from stackfeat.sklearn.nets import NetClassifier as NetClassifier
    from stackfeat.sklearn.nets import NetRegressor as NetRegressor
    from stackfeat.sklearn.oof_features import OutOfFoldFeatures as OutOfFoldFeatures
    from stackfeat.sklearn.ranking import NetRanker as NetRanker
    from stackfeat.sklearn.ranking import StackingRanker as StackingRanker
    from stackfeat.sklearn.ranking import VotingRanker as VotingRanker
    from stackfeat.sklearn.stacking import StackingClassifier as StackingClassifier
    from stackfeat.sklearn.stacking import StackingRegressor as StackingRegressor
    from stackfeat.sklearn.tap_features import TapFeatures as TapFeatures
    from stackfeat.sklearn.voting import VotingClassifier as VotingClassifier
    from stackfeat.sklearn.voting import VotingRegressor as VotingRegressor

from stackfeat.log import VERSION as __version__

_MODULES = {
    "audit.audit": "audit",
    "config": "RunConfig load_config",
    "encodings.similarity": "similarity",
    "layers.activations.listing": "list_layers",
    "layers.activations.penultimate": "find_penultimate",
    "layers.extraction.extract": "extract",
    "layers.plots": "plot_feature_maps plot_filters",
    "layers.taps.edits": "edited",
    "layers.taps.extractor": "Extractor",
    "layers.taps.hooks": "tapped",
    "layers.taps.marks": "mark",
    "layers.taps.tap": "Tap",
    "output.run_result": "RunResult",
    "output.feature_files": "save_features",
    "pipeline.blend": "blend",
    "pipeline.compare": "compare",
    "pipeline.distil": "distil",
    "pipeline.explain": "explain",
    "pipeline.fit": "fit",
    "pipeline.predict": "load",
    "pipeline.refresh": "refresh",
    "pipeline.run": "run",
    "pipeline.students": "load_student",
    "sklearn": "expected_failed_checks",
    "sklearn.nets": "NetClassifier NetRegressor",
    "sklearn.oof_features": "OutOfFoldFeatures",
    "sklearn.ranking": "NetRanker StackingRanker VotingRanker",
    "sklearn.stacking": "StackingClassifier StackingRegressor",
    "sklearn.tap_features": "TapFeatures",
    "sklearn.voting": "VotingClassifier VotingRegressor",
}
_PUBLIC = {name: f"stackfeat.{module}" for module, names in _MODULES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_PUBLIC)]


class _Package(ModuleType):
    """This package, in which a public name stays what it is where a folder has the same name (`audit`)."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    from stackfeat.registry.resolve import suggest

    raise AttributeError(f"module 'stackfeat' has no attribute {name!r}.{suggest(name, _PUBLIC)}")


def __dir__() -> list[str]:
    return sorted(__all__)
