"""Contributions: how much each feature of a row moves its prediction away from that of a typical row.

In:  a function from sets of features, which are those of the row, to predictions.
Out: sampled Shapley values with standard errors; those of a row add up to its prediction less the typical row's.

Source: E. Strumbelj, I. Kononenko, "Explaining prediction models and individual predictions with feature
contributions", Knowledge and Information Systems 41, 2014; each order is also taken backwards (antithetic), which
cancels most of the error, as in R. Mitchell and others, "Sampling permutations for Shapley value estimation",
JMLR 23, 2022.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stackfeat.errors import UsageError

FEWEST = 4
"""Orders: two and their reverses, of which a standard error can be told."""


def contributions(
    worth: Callable[[np.ndarray], np.ndarray], n_features: int, n_permutations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return contributions and their standard errors, each float64 (n_features, ...).

    Parameters
    ----------
    worth : callable
        From sets of features, bool (n_sets, n_features), to what is predicted where these features are those of the
        rows and the others are typical, float64 (n_sets, ...). It is asked once, of sets that all differ.
    n_permutations : int
        Orders in which features are put in, even; the standard error is that of their pairs.

    Raises
    ------
    UsageError
        If there are too few orders, or an odd number.
    """
    if n_permutations < FEWEST or n_permutations % 2:
        raise UsageError(
            f"n_permutations must be even and at least {FEWEST}; got n_permutations={n_permutations}; give 8"
        )
    random = np.random.default_rng(seed)
    drawn = np.stack([random.permutation(n_features) for _ in range(n_permutations // 2)])
    orders = np.concatenate([drawn, drawn[:, ::-1]])
    # sets[o, n]: the first n features of order o.
    places = np.argsort(orders, axis=1)
    sets = places[:, None, :] < np.arange(n_features + 1)[None, :, None]
    distinct, number_of = np.unique(sets.reshape(-1, n_features), axis=0, return_inverse=True)
    worths = worth(distinct)
    steps = worths[number_of.reshape(sets.shape[:2])]
    gains = np.diff(steps, axis=1)
    of_feature = np.stack([gain[place] for gain, place in zip(gains, places, strict=True)])
    pairs = of_feature.reshape(2, n_permutations // 2, *of_feature.shape[1:]).mean(axis=0)
    return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
