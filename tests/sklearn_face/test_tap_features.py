"""TapFeatures: a frozen net's layers, unchanged and unchanging."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn

import stackfeat as sf
from stackfeat.errors import LayerNotFoundError, MemberError, TapError, UsageError

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


def test_layers_given_themselves_are_found_in_clones_too() -> None:
    expected = sf.TapFeatures(NET, taps=["1", "3"]).fit_transform(X)
    for taps in ([NET[1], sf.Tap(NET[3])], {"a": NET[1], "b": "3"}):
        features = sf.TapFeatures(NET, taps=taps)
        copied = clone(clone(features))
        assert copied.module is not NET
        np.testing.assert_array_equal(features.fit_transform(X), expected)
        np.testing.assert_array_equal(copied.fit_transform(X), expected)
    assert clone(sf.TapFeatures(NET, taps=NET[1])).fit(X).get_feature_names_out()[0] == "1#000"
    y = expected[:, 0] > 0
    model = make_pipeline(sf.TapFeatures(NET, taps=[NET[1]]), LogisticRegression())
    assert cross_val_score(model, X, y, cv=3).mean() > 0.6


def test_functions_and_every_tensor_are_columns() -> None:
    found = sf.TapFeatures(NET, taps=["0.linear()", "1[*]"]).fit(X)
    np.testing.assert_allclose(
        found.transform(X), sf.TapFeatures(NET, taps=["0", "1"]).fit_transform(X), atol=1e-6
    )
    assert found.get_feature_names_out()[6] == "1#000"


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="module must be a trained"):
        sf.TapFeatures("mlp").fit(X)
    with pytest.raises(LayerNotFoundError, match="nothere"):
        sf.TapFeatures(NET, taps="nothere").fit(X)
    with pytest.raises(ValueError, match="NaN"):
        sf.TapFeatures(NET).fit(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="before fit"):
        sf.TapFeatures(NET).get_feature_names_out()


class Moves(nn.Module):
    """Sorts its rows, or some of them, and puts them back in order at the end, or turns all of them round."""

    def __init__(self, n_features: int = 4, n_outputs: int = 2, kind: str = "all") -> None:
        super().__init__()
        self.inner, self.out, self.kind = nn.Linear(n_features, 6), nn.Linear(6, n_outputs), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        key = x[:, 0] if self.kind == "all" else (x[:, 0] > 1.8).int()
        order = torch.argsort(key, stable=True)
        hidden = self.out(torch.relu(self.inner(x[order])))[torch.argsort(order)]
        return hidden.flip(0) if self.kind == "turned" else hidden


@pytest.mark.parametrize("kind", ["all", "rare"])
def test_layers_of_a_net_that_moves_its_rows_are_refused(kind: str) -> None:
    rows = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    y = (rows[:, 1] > 0).astype(int)
    with pytest.raises(TapError, match=r"'inner'.*(reorders its|moves) rows"):
        sf.TapFeatures(Moves(kind=kind), taps="inner").fit_transform(rows)
    net = sf.NetClassifier(Moves, net_params={"kind": kind}, epochs=1)
    assert net.fit(rows, y).predict_proba(rows).shape == (300, 2)
    for tap in ("inner", "penultimate"):
        with pytest.raises(TapError, match=r"(reorders its|moves) rows"):
            sf.OutOfFoldFeatures(net, tap, "geometry", cv=2).fit_transform(rows, y)
    with pytest.raises(MemberError, match=r"at the output.*put them back in order"):
        sf.NetClassifier(Moves, net_params={"kind": "turned"}, epochs=1).fit(rows, y)


def test_complex_layers_are_real_and_imaginary_columns() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.freq, self.out = nn.Identity(), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.freq(torch.fft.rfft(x)).abs())

    features = sf.TapFeatures(Spectral(), taps="freq")
    found = features.fit_transform(X)
    wanted = np.fft.rfft(X.astype(np.float32), axis=1)
    np.testing.assert_allclose(found, np.hstack([wanted.real, wanted.imag]), atol=1e-5)
    assert list(features.get_feature_names_out()) == [f"freq#{i:03d}" for i in range(6)]


@pytest.mark.parametrize(
    "taps",
    [[NET[1]], NET[1], {"act": NET[1]}, ["0", sf.Tap(NET[1], side="input")]],
    ids=["list", "layer", "dict", "tap"],
)
def test_layers_given_themselves_are_found_in_pickles_and_clones_that_were_fitted(taps: object) -> None:
    features = sf.TapFeatures(NET, taps=taps)
    found = features.fit_transform(X)
    copied = clone(features)
    np.testing.assert_array_equal(copied.fit_transform(X), found)
    for other in (features, copied):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(other)).transform(X), found)
        np.testing.assert_array_equal(copy.deepcopy(other).transform(X), found)


@pytest.mark.parametrize("taps", [[], (), {}])
def test_no_tap_at_all_is_refused_with_words(taps: object) -> None:
    for method in ("fit", "transform"):
        with pytest.raises(UsageError, match="taps must name at least one; got taps="):
            getattr(sf.TapFeatures(NET, taps=taps), method)(X)
