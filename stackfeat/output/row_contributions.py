"""Contributions of the columns of rows to what is predicted of them, as a DataFrame.

In:  a function that predicts rows, rows as models read them, what is remembered of the training file.
Out: a line for each row and column; see `SavedPredictor.explain`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.drift import TrainingSummary
from stackfeat.data.schema.features import Feature, features_of, varied, with_typical
from stackfeat.engine.contributions import contributions

if TYPE_CHECKING:
    import pandas as pd

Predicted = Callable[[Samples], np.ndarray]
"""From rows to probabilities, or to values on the scale of the target."""
MOST_ROWS = 20_000
"""Rows that are predicted at a time."""


def explain_rows(
    predicted: Predicted,
    samples: Samples,
    schema: Schema,
    summary: TrainingSummary,
    index: pd.Index | None,
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Return the contributions of rows, piece by piece of them.

    Orders are the same for all rows, so what is said of a row does not depend on the others.
    """
    import pandas as pd

    features = features_of(samples.inputs, schema)
    size = max(1, MOST_ROWS // (n_permutations * len(features)))
    parts = []
    for start in range(0, samples.n_rows, size):
        part = samples.take(np.arange(start, min(start + size, samples.n_rows)))
        whole = with_typical(part, schema, summary)
        parts.append(_of_part(predicted, whole, features, n_permutations, seed))
    values, errors, base, said, outcomes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    n_rows, n_explained, n_features = values.shape
    names = np.arange(n_rows) if index is None else np.asarray(index)
    columns = samples.task.columns
    return pd.DataFrame(
        {
            "row": np.repeat(names, n_explained * n_features),
            "column": np.tile([feature.name for feature in features], n_rows * n_explained),
            "outcome": np.repeat([columns[code] for code in outcomes.ravel()], n_features),
            "contribution": values.ravel(),
            "se": errors.ravel(),
            "base": np.repeat(base.ravel(), n_features),
            "prediction": np.repeat(said.ravel(), n_features),
        }
    )


def _of_part(
    predicted: Predicted, samples: Samples, features: list[Feature], n_permutations: int, seed: int
) -> tuple[np.ndarray, ...]:
    """Return contributions and errors (n_rows, n_explained, n_features), base, prediction and outcome of each.

    The last of `samples` is the typical row.
    """
    task, rows = samples.task, np.arange(samples.n_rows - 1)
    donors = np.full(len(rows), len(rows))
    explained = task.explained(predicted(samples.take(rows)))
    ends: list[np.ndarray] = []

    def worth(sets: np.ndarray) -> np.ndarray:
        absent = [
            Feature.joined([one for one, is_in in zip(features, inside, strict=True) if not is_in])
            for inside in sets
        ]
        said = predicted(varied(samples, rows, [(feature, donors) for feature in absent]))
        evidence = task.evidence(said).reshape(len(sets), len(rows), -1)
        found = np.take_along_axis(evidence, explained[None], axis=2)
        sizes = sets.sum(axis=1)
        ends.extend([found[sizes.argmin()], found[sizes.argmax()]])
        return np.asarray(found)

    found = contributions(worth, len(features), n_permutations, seed)
    values, errors = (np.moveaxis(one, 0, -1) for one in found)
    return values, errors, ends[0], ends[1], explained
