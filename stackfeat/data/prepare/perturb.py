"""Perturbed rows: rows near those of a table that stand in no file, for a model to label.

In:  rows with one or several tables.
Out: as many rows as wanted: a row in which each column is, with probability `SWAPPED`, that of one of its nearest
     rows. So every cell is one that the file has, and columns stay as much together as near rows are alike.

Source: MUNGE of C. Bucila, R. Caruana, A. Niculescu-Mizil, "Model compression", KDD 2006, with cells of near rows in
the place of draws around them; R. Fakoor and others, "Fast, accurate, and simple models for tabular data via
augmented distillation", NeurIPS 2020, arXiv:2006.14284, compare ways to make such rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stackfeat.data.samples import Samples, Table

SWAPPED = 0.5
"""Probability with which a cell is that of a near row."""
N_NEAREST = 5
MOST_COMPARED = 10_000
"""Near rows are looked for among at most so many."""


def perturbed(samples: Samples, n_rows: int, seed: int) -> Samples:
    """Return rows near given ones, without labels and roles; an input that is no table is that of the row itself."""
    from sklearn.neighbors import NearestNeighbors

    from stackfeat.data.prepare.estimator import ScaledPrepare

    random = np.random.default_rng(seed)
    tables = {name: values for name, values in samples.inputs.items() if isinstance(values, Table)}
    whole = [random.permutation(samples.n_rows) for _ in range(-(-n_rows // samples.n_rows))]
    origins = np.concatenate(whole)[:n_rows]
    compared = random.permutation(samples.n_rows)[:MOST_COMPARED]
    columns = [ScaledPrepare().fit(table).transform(table) for table in tables.values()]
    near = np.hstack(columns).astype(np.float32)
    n_nearest = min(N_NEAREST + 1, len(compared))
    asked, places = np.unique(origins, return_inverse=True)
    found = (
        NearestNeighbors(n_neighbors=n_nearest)
        .fit(near[compared])
        .kneighbors(near[asked], return_distance=False)
    )
    # A row is near itself: its place goes to the furthest one, and another is drawn.
    neighbours = compared[found]
    is_self = neighbours[:, :-1] == asked[:, None]
    neighbours[:, :-1][is_self] = np.broadcast_to(neighbours[:, -1:], is_self.shape)[is_self]
    drawn = neighbours[places, random.integers(0, max(1, n_nearest - 1), n_rows)]
    made = samples.take(origins)
    inputs = dict(made.inputs)
    for name, table in tables.items():
        inputs[name] = replace(
            table,
            numeric=_swapped(table.numeric, origins, drawn, random),
            codes=_swapped(table.codes, origins, drawn, random),
            texts=_swapped(table.texts, origins, drawn, random),
        )
    ids = np.array([f"perturbed {number}" for number in range(n_rows)])
    return Samples(ids=ids, inputs=inputs, y=None, task=samples.task)


def _swapped(
    values: np.ndarray, origins: np.ndarray, drawn: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    is_swapped = random.random((len(origins), values.shape[1])) < SWAPPED
    return np.asarray(np.where(is_swapped, values[drawn], values[origins]))
