"""Arrays for nets: images and sequences near mean 0 and spread 1, tokens as int64, padding as 0.

In:  the `ArrayInput` rows of one fold's training part.
Out: float32 or int64 rows; of rows on disk a view that is computed where it is indexed.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from stackfeat.data.arrays import ArrayInput
from stackfeat.data.lazy import LazyArray, chunk_rows
from stackfeat.data.prepare.state import dump_state, load_state

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)
MOST_ROWS = 20_000
"""Mean and spread come from at most so many rows, evenly spaced."""


class ArrayPrepare:
    """Fold-local scaling of arrays.

    ``standard`` subtracts the mean of each channel and divides by its spread, both of the rows given
    to `fit` and without padding; ``imagenet`` does so with the constants of that data set, on numbers
    from 0 to 1; ``unit`` divides unsigned whole numbers by their largest; ``none`` keeps numbers.
    """

    def __init__(self) -> None:
        self.axes = "array"
        self.shift: np.ndarray = np.zeros(1, dtype=np.float32)
        self.factor: np.ndarray = np.ones(1, dtype=np.float32)

    def fit(self, values: ArrayInput) -> Self:
        """Learn the scale from these rows alone."""
        self.axes = values.kind
        largest = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
        if values.scaling == "standard":
            mean, spread = channel_moments(values)
            dead = spread <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
            self.shift, self.factor = mean, np.where(dead, 0.0, 1 / np.where(dead, 1.0, spread))
        elif values.scaling == "imagenet":
            self.shift = np.array(IMAGENET_MEAN) * largest
            self.factor = 1 / (np.array(IMAGENET_SPREAD) * largest)
        elif values.scaling == "unit":
            self.shift, self.factor = np.zeros(1), np.full(1, 1 / largest)
        else:
            self.shift, self.factor = np.zeros(1), np.ones(1)
        self.shift, self.factor = self.shift.astype(np.float32), self.factor.astype(np.float32)
        return self

    def transform(self, values: ArrayInput) -> np.ndarray | LazyArray:
        """Return rows of the same shape, int64 for tokens and float32 for others."""
        if isinstance(values.values, LazyArray):
            held = values.values
            lengths = None
            if values.lengths is not None:
                # Lengths are those of the view's rows; the view asks for those of the file's rows.
                lengths = np.zeros(len(held.source), dtype=np.int64)
                lengths[slice(None) if held.rows is None else held.rows] = values.lengths
            dtype = np.int64 if self.axes == "tokens" else np.float32
            return LazyArray(held.source, held.rows, self.change, lengths, values.shape[1:], dtype)
        return self.change(values.values, values.lengths)

    def change(self, values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        """Return scaled rows, padding set to 0."""
        changed: Any = values.astype(np.int64 if self.axes == "tokens" else np.float32)
        if self.axes != "tokens":
            shape = (-1, 1, 1) if self.axes == "image" else (-1,)
            changed -= self.shift.reshape(shape)
            changed *= self.factor.reshape(shape)
        if lengths is not None:
            changed[np.arange(changed.shape[1]) >= lengths[:, None]] = 0
        result: np.ndarray = changed
        return result

    def to_bytes(self) -> bytes:
        return dump_state("array", vars(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        state = load_state("array", content)
        preparer = cls()
        for name in vars(preparer):
            setattr(preparer, name, state[name])
        return preparer


def channel_moments(values: ArrayInput) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread by channel (images: axis 1, sequences: the last; else one for all), float64."""
    rows = np.arange(len(values))
    if len(rows) > MOST_ROWS:
        rows = np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)
    n_channels = {"image": values.shape[1:2], "sequence": values.shape[-1:]}.get(values.kind, (1,))[0]
    count, total, squares = 0, np.zeros(n_channels), np.zeros(n_channels)
    size = chunk_rows(values.shape[1:])
    # Squares are summed around a first guess: far from zero their difference would lose all digits.
    guess: np.ndarray | None = None
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        chunk = np.asarray(values[chosen], dtype=np.float64)
        if values.kind == "image":
            chunk = np.moveaxis(chunk, 1, -1)
        if values.lengths is not None:
            chunk = chunk[np.arange(chunk.shape[1]) < values.lengths[chosen, None]]
        flat = chunk.reshape(-1, n_channels)
        guess = flat.mean(axis=0) if guess is None else guess
        count += len(flat)
        total += (flat - guess).sum(axis=0)
        squares += ((flat - guess) ** 2).sum(axis=0)
    assert guess is not None
    offset = total / count
    return guess + offset, np.sqrt(np.maximum(squares / count - offset**2, 0.0))
