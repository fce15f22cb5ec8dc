"""Small data and estimators that the tests of this folder share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.preprocessing import StandardScaler

import stackfeat as sf


def tiny(kind: Any, **changed: Any) -> Any:
    values = {"net_params": {"hidden": [8]}, "epochs": 4, "batch_size": 32, "lr": 0.02, "random_state": 0}
    return kind(**{**values, **changed})


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    """Modules that a test builds itself start from the same weights."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """Rows of three classes, of two, of noise, and of values; nets of a moment."""
    X, y = make_classification(150, 8, n_informative=5, n_classes=3, random_state=0)
    XV, v = make_regression(120, 5, noise=5.0, random_state=0)
    return SimpleNamespace(
        X=X,
        y=y,
        binary=(y > 0).astype(int),
        noise=np.random.default_rng(0).integers(0, 2, 150),
        XV=XV,
        v=v,
        net=lambda **changed: tiny(sf.NetClassifier, **changed),
        regressor=lambda **changed: tiny(sf.NetRegressor, **changed),
    )


@pytest.fixture(scope="session")
def several() -> SimpleNamespace:
    """Rows with three labels, of which 90 are for training; others with three targets of very different units."""
    X, y = make_multilabel_classification(150, 6, n_classes=3, n_labels=2, random_state=2)
    XV, v = make_regression(150, 6, n_targets=3, noise=20.0, random_state=0)
    X = StandardScaler().fit_transform(X)
    return SimpleNamespace(X=X[:90], y=y[:90], new=X[90:], later=y[90:], XV=XV, v=v * [1.0, 100.0, 0.01])
