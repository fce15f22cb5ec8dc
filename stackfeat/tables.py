"""The tables of short names: what may stand in a config without trusting any code."""

from __future__ import annotations

NETS: dict[str, str] = {
    "mlp": "stackfeat.nets.mlp:MLP",
}
"""Nets by short name; a path names a class that is built in every fold."""

ESTIMATORS: dict[str, str] = {
    "gated_linear": "stackfeat.ensemble.gating.gated_linear:GatedLinear",
}
"""Estimators by short name; others are named by a path such as ``sklearn.svm.SVC``."""

TRUSTED_PACKAGES: tuple[str, ...] = ("sklearn", "lightgbm", "xgboost", "catboost")
"""Packages whose classes a config may name without ``--trust-code``."""
