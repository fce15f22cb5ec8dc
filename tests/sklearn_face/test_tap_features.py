"""TapFeatures: a frozen net's layers, unchanged and unchanging."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import stackfeat as sf
from stackfeat.errors import LayerNotFoundError

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
X = np.random.default_rng(0).normal(size=(50, 4))


def test_columns_are_what_the_module_computes() -> None:
    features = sf.TapFeatures(NET, taps=["0", "penultimate"])
    found = features.fit_transform(X)
    with torch.no_grad():
        first = NET[0](torch.tensor(X, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, np.hstack([first, np.maximum(first, 0)]), atol=1e-6)
    assert features.get_feature_names_out()[0] == "0#000" and found.shape == (50, 12)
    np.testing.assert_array_equal(features.transform(X[:7]), found[:7])


def test_the_module_is_as_before() -> None:
    NET.train()
    before, weights = joblib.hash(NET), {k: v.clone() for k, v in NET.state_dict().items()}
    sf.TapFeatures(NET, taps="1").fit(X).transform(X)
    assert joblib.hash(NET) == before and NET.training
    assert all(torch.equal(weights[name], values) for name, values in NET.state_dict().items())
    assert not any(part._forward_hooks for part in NET.modules())


def test_it_needs_no_fit_and_can_be_copied() -> None:
    features = sf.TapFeatures(NET, taps="1")
    found = features.transform(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(features)).transform(X), found)
    y = found.sum(axis=1) > np.median(found.sum(axis=1))
    assert make_pipeline(features, LogisticRegression()).fit(X, y).score(X, y) > 0.8


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="module must be a trained"):
        sf.TapFeatures("mlp").fit(X)
    with pytest.raises(LayerNotFoundError, match="nothere"):
        sf.TapFeatures(NET, taps="nothere").fit(X)
    with pytest.raises(ValueError, match="NaN"):
        sf.TapFeatures(NET).fit(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="before fit"):
        sf.TapFeatures(NET).get_feature_names_out()
