"""The drawing of an estimator in a notebook: which outputs each part hands on, and at which level.

In:  estimators, and what is emitted of them.
Out: labels and blocks of scikit-learn's HTML representation.
"""

from __future__ import annotations

import importlib
from typing import Any

from sklearn.base import is_regressor

from stackfeat.sklearn.emission import encodings_of, plan_emission


def label(name: str, estimator: Any, emit: Any, encode: Any, method: str = "auto") -> str:
    """Return a label such as ``net: proba, penultimate@geometry, penultimate@aligned``."""
    try:
        plan = plan_emission(name, estimator, emit, encode, method, has_labels=not is_regressor(estimator))
    except ValueError:
        # A drawing is no place to complain: fit does.
        return name
    said = [] if plan.method is None else [plan.method.removeprefix("predict_")]
    outputs = [*said, *(f"{tap.key}@{encoding}" for tap, encoding in encodings_of(plan))]
    return f"{name}: {', '.join(outputs)}"


def visual_block(kind: str, estimators: list[Any], names: list[str]) -> Any:
    """Return scikit-learn's own drawing block; its module moved between versions."""
    for module in ("sklearn.utils._repr_html.estimator", "sklearn.utils._estimator_html_repr"):
        try:
            return importlib.import_module(module)._VisualBlock(kind, estimators, names=names)
        except ImportError:
            continue
    raise ImportError("scikit-learn must have an HTML representation; got none; install 1.6 or later")
