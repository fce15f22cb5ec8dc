"""Which rows the fold spaces are aligned on.

In:  one fold model's embedding of its held-out rows and of the test rows.
Out: `Anchors`: test rows, or training rows where test rows are too few or from another domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stackfeat.features.two_sample import domain_auc

MAX_ANCHORS = 4096
MAX_DOMAIN_AUC = 0.8


@dataclass(frozen=True)
class Anchors:
    """Rows chosen as anchors.

    Attributes
    ----------
    source : {"test", "train"}
        With "train", `align` must be told which rows each fold may use.
    rows : int64 array, sorted
        Row numbers in the source.
    enough : bool
        Whether there are at least twice as many as the embedding has columns.
    auc : float or None
        Two-sample AUC of held-out training rows against test rows, where it was measured.
    reason : str
        Why this source.
    """

    source: Literal["test", "train"]
    rows: np.ndarray
    enough: bool
    auc: float | None
    reason: str


def choose_anchors(
    held_out: np.ndarray, test: np.ndarray | None, *, n_train: int, seed: int, cap: int = MAX_ANCHORS
) -> Anchors:
    """Choose the rows that fold spaces are aligned on.

    Parameters
    ----------
    held_out : float array of shape (a, d)
        One fold model's embedding of rows it was not trained on.
    test : float array of shape (b, d) or None
        The same model's embedding of the test rows.
    n_train : int
        All training rows; with "train" anchors row numbers run over these.
    seed : int
    cap : int, default 4096
        At most this many anchors.
    """
    width = held_out.shape[1]
    n_test = 0 if test is None else len(test)
    auc = None
    if test is None or not n_test:
        reason = "there are no test rows"
    elif n_test < 2 * width and n_train > n_test:
        reason = f"{n_test} test rows are fewer than twice the {width} columns"
    else:
        auc = domain_auc(held_out, test, seed)
        if not auc > MAX_DOMAIN_AUC:
            rows = anchor_rows(n_test, cap, seed)
            return Anchors("test", rows, len(rows) >= 2 * width, auc, "test rows")
        reason = f"test rows come from another domain (two-sample AUC {auc:.2f})"
    rows = anchor_rows(n_train, cap, seed)
    return Anchors("train", rows, len(rows) >= 2 * width, auc, f"training rows, because {reason}")


def anchor_rows(n_rows: int, cap: int = MAX_ANCHORS, seed: int = 0) -> np.ndarray:
    """Draw the rows that anchors would be, before it is known which source they come from.

    Returns
    -------
    int64 array, sorted
        What `choose_anchors` gives for a source of `n_rows` rows at the same cap and seed.
    """
    if n_rows <= cap:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:cap])
