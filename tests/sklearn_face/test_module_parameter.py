"""Estimators whose net is given as a module: cloned, deep-copied, pickled, and fitted in other processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from stackfeat import NetClassifier, NetRegressor, OutOfFoldFeatures
from stackfeat.errors import UsageError
from stackfeat.executors._compat import dumps
from stackfeat.sklearn.tap_features import TapFeatures

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
Y = np.arange(60) % 2


class Keeps(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = [super().forward(x)]
        return self.kept[0]


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(4, 6))


def used(first: nn.Module) -> nn.Module:
    """Return a net that has already been run, as one from a notebook has."""
    net = Keeps(first, nn.ReLU(), nn.Linear(6, 2))
    net(torch.from_numpy(X))
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    "old weight_norm": lambda: used(old_weight_norm()),
    "old spectral_norm": lambda: used(nn.utils.spectral_norm(nn.Linear(4, 6))),
    "weight_norm": lambda: used(parametrizations.weight_norm(nn.Linear(4, 6))),
    "orthogonal": lambda: used(parametrizations.orthogonal(nn.Linear(4, 6))),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(2)),
}


def state(net: nn.Module) -> dict[str, Any]:
    return {name: values.clone() for name, values in net.state_dict().items()}


def estimator(net: Any) -> NetClassifier:
    return NetClassifier(net, epochs=2, batch_size=20, random_state=0)


@pytest.mark.parametrize("name", NETS)
def test_an_estimator_is_cloned_copied_and_pickled_with_its_net(name: str) -> None:
    net = NETS[name]()
    before = None if name == "lazy" else state(net)
    first = estimator(net).fit(X, Y)
    expected = first.predict_proba(X)
    assert first.module is net
    for twin in (clone(first), copy.deepcopy(estimator(net)), pickle.loads(pickle.dumps(estimator(net)))):
        assert twin.module is not net
        assert np.array_equal(twin.fit(X, Y).predict_proba(X), expected)
    for fitted in (copy.deepcopy(first), pickle.loads(pickle.dumps(first)), pickle.loads(dumps(first))):
        assert np.array_equal(fitted.predict_proba(X), expected)
    if before is not None:
        assert all(torch.equal(values, before[key]) for key, values in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["old weight_norm", "weight_norm"])
def test_folds_in_other_processes_give_the_same(name: str) -> None:
    model = estimator(NETS[name]())
    alone = cross_val_predict(model, X, Y, cv=2, method="predict_proba")
    assert np.array_equal(cross_val_predict(model, X, Y, cv=2, method="predict_proba", n_jobs=2), alone)


def test_a_net_is_cloned_inside_pipelines_searches_and_stacks() -> None:
    model = estimator(NETS["old weight_norm"]())
    piped = clone(make_pipeline(StandardScaler(), model)).fit(X, Y)
    assert piped.predict(X).shape == (60,)
    search = GridSearchCV(model, {"lr": [1e-3, 1e-2]}, cv=2).fit(X, Y)
    assert search.best_estimator_.predict(X).shape == (60,)
    assert OutOfFoldFeatures(model, emit=("proba",), cv=2).fit_transform(X, Y).shape == (60, 1)


def test_warm_starts_go_on_from_parametrized_weights_and_can_be_pickled() -> None:
    model = NetRegressor(
        parametrizations.weight_norm(nn.Linear(4, 1)), epochs=1, warm_start=True, random_state=0
    )
    model.fit(X, X[:, 0]).fit(X, X[:, 0])
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_features_of_a_net_with_weight_norm_can_be_cloned_and_pickled() -> None:
    features = TapFeatures(NETS["old weight_norm"](), taps="1").fit(X)
    expected = features.transform(X)
    assert np.array_equal(clone(features).fit(X).transform(X), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(features)).transform(X), expected)


def test_a_net_that_cannot_be_copied_is_refused_with_the_remedy_when_cloned_and_fitted() -> None:
    net = nn.Linear(4, 2)
    net.stream = (number for number in range(3))  # type: ignore[assignment]
    for act in (clone, lambda model: model.fit(X, Y)):
        with pytest.raises(
            UsageError, match=r"one that can be copied; got Linear .*give its class, or a function"
        ):
            act(estimator(net))
    assert estimator(lambda: nn.Linear(4, 2)).fit(X, Y).predict(X).shape == (60,)
