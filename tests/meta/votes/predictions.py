"""Predictions that hypothesis draws for votes."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


@st.composite
def probabilities(draw, most_inputs=6):
    n_rows, n_classes = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    # Few different values, so that ties are common.
    shape = (draw(st.integers(1, most_inputs)), n_rows, n_classes)
    raw = draw(arrays(np.float64, shape, elements=st.sampled_from([0.1, 1.0, 2.0, 3.0])))
    return list(raw / raw.sum(axis=2, keepdims=True))
