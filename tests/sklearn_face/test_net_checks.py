"""scikit-learn's own checks over nets, in several settings."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import stackfeat as sf

TINY: dict[str, Any] = {
    "net_params": {"hidden": [16]},
    "epochs": 10,
    "batch_size": 32,
    "lr": 0.03,
    "random_state": 0,
}
NETS = [
    sf.NetClassifier(**TINY, patience=8, early_stopping="inner", validation_fraction=0.2),
    sf.NetRegressor(**TINY),
]
IN_OTHER_SETTINGS = [
    sf.NetClassifier(**TINY),
    sf.NetClassifier(**TINY, seeds=2, scaling="standard", class_weight="balanced"),
    sf.NetRegressor(**TINY, loss="huber", scaling="standard", patience=10).set_params(epochs=20, lr=5e-3),
]


@parametrize_with_checks(NETS, expected_failed_checks=sf.expected_failed_checks)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(IN_OTHER_SETTINGS, expected_failed_checks=sf.expected_failed_checks)
def test_checks_of_scikit_learn_in_other_settings(estimator: Any, check: Any) -> None:
    check(estimator)


def test_nets_are_expected_to_fail_one_check_at_most() -> None:
    for net in (*NETS, *IN_OTHER_SETTINGS):
        assert list(sf.expected_failed_checks(net)) == ["check_sample_weight_equivalence_on_dense_data"]
