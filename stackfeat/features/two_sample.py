"""Can two sets of rows be told apart?

In:  two arrays with the same columns.
Out: a cross-validated AUC: 0.5 where they look alike, 1 where every row gives its origin away.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_ROWS = 2000
FEWEST_ROWS = 10


def domain_auc(a: np.ndarray, b: np.ndarray, seed: int) -> float:
    """Tell rows of `a` from rows of `b` by logistic regression on the columns and their squares.

    Squares are there because means of several models have less spread, not another centre.

    Parameters
    ----------
    a, b : float arrays of shape (n_a, d), (n_b, d)
        At most 2,000 rows of each are used.
    seed : int

    Returns
    -------
    float
        Mean of the AUC over five folds; NaN where either side has fewer than ten rows.
    """
    if min(len(a), len(b)) < FEWEST_ROWS:
        return float("nan")
    rng = np.random.default_rng(seed)
    first, second = (sample_rows(np.asarray(rows), MAX_ROWS, rng) for rows in (a, b))
    rows = StandardScaler().fit_transform(np.vstack([first, second]).astype(np.float64))
    rows = np.hstack([rows, np.minimum(rows**2, 25.0)])
    origin = np.r_[np.zeros(len(first), dtype=int), np.ones(len(second), dtype=int)]
    splits = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(rows, origin))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    score = cross_val_predict(model, rows, origin, cv=splits, method="decision_function")
    return float(np.mean([roc_auc_score(origin[held_out], score[held_out]) for _, held_out in splits]))


def sample_rows(rows: np.ndarray, n_most: int, rng: np.random.Generator) -> np.ndarray:
    """At most `n_most` rows, drawn without replacement."""
    return rows if len(rows) <= n_most else rows[np.sort(rng.permutation(len(rows))[:n_most])]
