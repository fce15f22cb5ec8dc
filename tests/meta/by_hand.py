"""What columns of a meta-learner are, written out by hand."""

from __future__ import annotations

import numpy as np


def centred_log_proba(proba: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, 1e-7 at least, less the mean of their row."""
    logs = np.log(np.maximum(np.asarray(proba, dtype=np.float64), 1e-7))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))
