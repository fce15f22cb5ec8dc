"""Which of scikit-learn's own checks an estimator is expected to fail, and why."""

from __future__ import annotations

from typing import Any

BATCHES = (
    "a row of weight 2 is not the same as two equal rows where rows are drawn in mini-batches: "
    "the two fall into different batches, as in SGDClassifier"
)

CROSS_FITTED = (
    "fit_transform gives out-of-fold rows and transform rows of new samples, as TargetEncoder does: for the "
    "rows it was fitted on the two differ"
)

HASHED = (
    "joblib's hash of an nn.Module differs from that of its deep copy before anything is called, so the check "
    "takes the module for changed; a test of ours compares weights and hash before and after"
)


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """Return the checks of scikit-learn that `estimator` fails by design, with the reason of each.

    For ``parametrize_with_checks(estimators, expected_failed_checks=stackfeat.expected_failed_checks)``.

    Parameters
    ----------
    estimator : estimator
        Of this package; others are expected to fail nothing.

    Returns
    -------
    dict of str to str
    """
    from stackfeat.sklearn.net_base import BaseNet
    from stackfeat.sklearn.oof_features import OutOfFoldFeatures
    from stackfeat.sklearn.tap_features import TapFeatures

    expected: dict[str, str] = {}
    if isinstance(estimator, BaseNet):
        expected["check_sample_weight_equivalence_on_dense_data"] = BATCHES
    if isinstance(estimator, OutOfFoldFeatures):
        for check in ("check_transformer_general", "check_transformer_data_not_an_array"):
            expected[check] = CROSS_FITTED
    if isinstance(estimator, TapFeatures):
        expected["check_estimators_overwrite_params"] = HASHED
    return expected
