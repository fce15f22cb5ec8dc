"""Stacking and voting over the probabilities and hidden features of nets and estimators.

The flow, in the order of the folders:

1. ``data``      files become Samples and Folds
2. ``nets``      Samples become trained modules; taps read any layer of them
3. ``features``  every member is cross-fitted; what it hands on are FeatureBlocks, kept in the ``store``
4. ``ensemble``  levels of members read the blocks of earlier levels; votes are members too
5. ``output``    scores, report, submission, predictor
6. ``run``       all of it on one page: ``stackfeat.run("config.yaml")``

Public names are imported when they are first used, so ``import stackfeat`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackfeat.config import RunConfig, load_config
    from stackfeat.nets.penultimate import find_penultimate
    from stackfeat.nets.taps import Tap, tapped
    from stackfeat.output.result import RunResult
    from stackfeat.run import run

__version__ = "0.1.0"

_PUBLIC = {
    "RunConfig": "stackfeat.config",
    "RunResult": "stackfeat.output.result",
    "Tap": "stackfeat.nets.taps",
    "find_penultimate": "stackfeat.nets.penultimate",
    "load_config": "stackfeat.config",
    "run": "stackfeat.run",
    "tapped": "stackfeat.nets.taps",
}

__all__ = ["RunConfig", "RunResult", "Tap", "__version__", "find_penultimate", "load_config", "run", "tapped"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    from stackfeat.lookup import suggest

    raise AttributeError(f"module 'stackfeat' has no attribute {name!r}.{suggest(name, _PUBLIC)}")


def __dir__() -> list[str]:
    return sorted(__all__)
