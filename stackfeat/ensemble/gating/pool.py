"""The best weighted vote: one weight for each member, as the place that coefficients shrink to.

In:  scaled base columns, and for each member the coefficients that read its prediction out of them.
Out: coefficients of the base, (b, n_outputs).

Of classes this is a logarithmic opinion pool (Genest & Zidek, 1986, "Combining probability
distributions"), of values a stacked regression with weights that are not negative (Breiman, 1996,
"Stacked regressions"). A handful of weights needs no penalty; members that know nothing get none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize, nnls

from stackfeat.ensemble.gating.linear_solver import Problem, Softmax, softmax

MOST_CELLS = 20_000_000
"""Numbers that members said; of more, a seeded sample of the rows does."""


def pool(problem: Problem, base: np.ndarray, votes: Sequence[np.ndarray], weight: np.ndarray) -> np.ndarray:
    """Fit a weight, zero or more, for each vote, with a free intercept.

    Parameters
    ----------
    problem : Softmax or Squares
    base : float array of shape (n, b)
    votes : sequence of float64 arrays of shape (b, n_outputs)
    weight : float64 array of shape (n,)

    Returns
    -------
    float64 array of shape (len(votes),)
    """
    if not votes:
        return np.zeros(0)
    n_fit = max(1, MOST_CELLS // (len(votes) * problem.n_outputs))
    if n_fit < len(base):
        rows = np.sort(np.random.default_rng(0).permutation(len(base))[:n_fit])
        problem, base, weight = problem.take(rows), base[rows], weight[rows]
    said = np.stack([np.asarray(base @ vote, dtype=np.float64) for vote in votes])
    share = weight / weight.sum()
    if not isinstance(problem, Softmax):
        centred = said[:, :, 0] - (said[:, :, 0] @ share)[:, None]
        target = problem.target - share @ problem.target
        return np.asarray(nnls((centred * np.sqrt(share)).T, target * np.sqrt(share))[0])
    return _log_pool(problem, said, share)


def pooled(votes: Sequence[np.ndarray], weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the coefficients of a weighted vote, `shape`; zero without votes."""
    out = np.zeros(shape)
    for vote, weight in zip(votes, weights, strict=True):
        out += weight * vote
    return out


def _log_pool(problem: Softmax, said: np.ndarray, share: np.ndarray) -> np.ndarray:
    n_votes, n_outputs = len(said), problem.n_outputs
    rows = np.arange(said.shape[1])

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(point[:n_votes], said, axes=1) + point[n_votes:]
        value = float(share @ problem.row_loss(scores))
        slope = softmax(scores)
        slope[rows, problem.target] -= 1
        slope *= share[:, None]
        return value, np.concatenate([np.einsum("mnk,nk->m", said, slope), slope.sum(axis=0)])

    start = np.concatenate([np.full(n_votes, 1 / n_votes), np.zeros(n_outputs)])
    bounds = [(0.0, None)] * n_votes + [(None, None)] * n_outputs
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return np.asarray(found.x[:n_votes])
