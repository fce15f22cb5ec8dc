"""scikit-learn's face of the engine: nets, out-of-fold features, stacks and votes as estimators.

Belongs here: parameters, validation, tags, metadata routing, names of columns, and the way from whatever
scikit-learn hands over to rows. Not here: how a net is trained, the loop over folds, encodings and alignment, gates
and votes; the classes call those that runs call. Without a store everything stays in memory. Nothing in the pipeline
imports this folder.

Estimators are dataclasses: the constructor, whose signature scikit-learn reads, stores their fields and does no more.
"""

from __future__ import annotations

from typing import Any


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
    return dict(getattr(estimator, "_expected_failures", {}))
