"""Arrays as inputs: images, sequences, tokens and others, with a row per sample.

In:  values read by `array_inputs`.
Out: `ArrayInput`, which is indexed like an array, and knows what its axes mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from stackfeat.data.lazy import LazyArray

Kind = Literal["image", "sequence", "tokens", "array"]
Scaling = Literal["standard", "imagenet", "unit", "none"]


@dataclass(frozen=True)
class ArrayInput:
    """Rows of one array input.

    Attributes
    ----------
    values : ndarray or LazyArray of shape (n_rows, ...)
        Images (n_rows, channels, height, width), sequences (n_rows, steps, channels), tokens
        (n_rows, steps), or of any shape; numbers as in the file, not scaled yet.
    kind : {"image", "sequence", "tokens", "array"}
    scaling : {"standard", "imagenet", "unit", "none"}
        What fold-local preparation does to the numbers.
    lengths : ndarray of shape (n_rows,), int64, or None
        How many steps of each row are real; the others are padding.
    n_tokens : int
        Tokens: one more than the greatest in the training file.
    """

    values: np.ndarray | LazyArray
    kind: Kind
    scaling: Scaling = "none"
    lengths: np.ndarray | None = None
    n_tokens: int = 0

    def __post_init__(self) -> None:
        assert self.lengths is None or len(self.lengths) == len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_lazy(self) -> bool:
        """Whether rows are read from disk when they are needed."""
        return isinstance(self.values, LazyArray)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.values[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self.values)
        return values if dtype is None else values.astype(dtype)

    def take(self, rows: np.ndarray) -> ArrayInput:
        """Return these rows, in this order; rows on disk stay there."""
        values = self.values.take(rows) if isinstance(self.values, LazyArray) else self.values[rows]
        return replace(self, values=values, lengths=None if self.lengths is None else self.lengths[rows])
