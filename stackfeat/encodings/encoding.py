"""What an encoding is: a class for each, which owns its facts; in a fold's own space it is also what was fitted.

In:  the activations of one tap, as a fold model gives them.
Out: columns that may be stacked.

Contract, checked for every entry of `ENCODINGS` by tests/encodings/test_contract.py: finite columns for finite
activations, whatever the rank; the same bytes for the same input and for a row in other company (so rows go through
in blocks of one size: a matrix product of another size may round a row differently); no order of rows matters;
labels of other rows than the fold's training rows are never seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np

from stackfeat.errors import MemberError, UsageError
from stackfeat.tasks.task import Task

BLOCK_ROWS = 256


class Encoding:
    """A way to turn activations into columns.

    Attributes
    ----------
    name : str
        As in a config's ``encode:``.
    has_common_columns : bool
        Whether a column means the same in the net of every fold and seed. If not, columns of several nets stand side
        by side and are never averaged.
    compares_rows : bool
        Whether rows of all folds are alike in its columns, so that a meta-learner that reads predictions beside them
        finds labels of one fold again in predictions of others.
    learns_from_target : bool
        Whether it learns from the targets of training rows.
    needs_anchors : bool
        Whether it compares rows with rows that are the same in every fold.
    needs_untrained : bool
        Whether it reads the anchors in the net before any training.
    scaling : {"scalar", "zscore"}
        How linear members scale its columns: by one factor for all, or each by its own.
    remedy : str
        What to do where its columns give away more than they should.
    """

    name: ClassVar[str]
    has_common_columns: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = True
    learns_from_target: ClassVar[bool] = False
    needs_anchors: ClassVar[bool] = False
    needs_untrained: ClassVar[bool] = False
    scaling: ClassVar[Literal["scalar", "zscore"]] = "scalar"
    remedy: ClassVar[str] = (
        "Let only gated members read it (gate: true, gated_linear: they leave it out where it does not help), "
        "or take it out of encode"
    )

    @classmethod
    def readouts(cls, columns: np.ndarray, task: Task) -> dict[str, np.ndarray]:
        """Return what columns (n, c) say of the target by themselves.

        Returns
        -------
        dict of str to float32 array of shape (n, n_outputs)
            Classification: scores up to a factor and a constant for each row. Regression: predictions.
        """
        return {}


class PerFold(Encoding, ABC):
    """An encoding within the space of one fold model; its objects are fitted to that model's training rows."""

    @classmethod
    @abstractmethod
    def fit(
        cls, embedding: np.ndarray, y: np.ndarray, task: Task, *, seed: int, anchors: np.ndarray | None = None
    ) -> Self:
        """Learn from a fold's training rows.

        Parameters
        ----------
        embedding : float array of shape (n, d)
        y : array of shape (n,)
            Class codes, or targets.
        task : Task
        seed : int
        anchors : float array of shape (m, d), optional
            Rows that are the same in every fold, where the encoding `needs_anchors`.

        Raises
        ------
        UsageError
            If the shapes do not fit.
        MemberError
            If an activation is not finite.
        """

    @abstractmethod
    def transform(self, embedding: np.ndarray) -> np.ndarray:
        """Return columns of rows (n, d) that the same fold model gave, float32 (n, c)."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything learnt, as arrays that `from_arrays` reads."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], task: Task) -> Self:
        """Rebuild what `arrays` gave."""


class CrossFold(Encoding):
    """An encoding across folds: orthogonal maps (`alignment`) are fitted to all spaces in a job of their own.

    A tap's `reduce` says how many of its columns are kept.
    """

    remedy: ClassVar[str] = "Set reduce at the tap: fewer directions than now; 16 is a good try"


@dataclass(frozen=True)
class Raw(PerFold):
    """Activations as they are; columns of different folds do not correspond.

    Attributes
    ----------
    width : int
    """

    width: int

    name: ClassVar[str] = "raw"
    has_common_columns: ClassVar[bool] = False
    remedy: ClassVar[str] = (
        "Activations of different fold models share no columns: use encode: [geometry, aligned]"
    )

    @classmethod
    def fit(
        cls, embedding: np.ndarray, y: np.ndarray, task: Task, *, seed: int, anchors: np.ndarray | None = None
    ) -> Raw:
        return cls(embedding.shape[1])

    def transform(self, embedding: np.ndarray) -> np.ndarray:
        return checked_rows(embedding, self.width)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"width": np.asarray([self.width])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], task: Task) -> Raw:
        return cls(int(arrays["width"][0]))


def mean_over_nets(parts: list[np.ndarray]) -> np.ndarray:
    """Average what the nets of one fold (its seeds) give, float32."""
    return parts[0] if len(parts) == 1 else np.asarray(np.mean(parts, axis=0, dtype=np.float32))


def in_blocks(
    describe: Callable[[np.ndarray, int], np.ndarray], rows: np.ndarray, n_columns: int
) -> np.ndarray:
    """Apply `describe` to blocks of 256 rows.

    Parameters
    ----------
    describe : callable
        From a block (256, d), and how many rows of it are real, to (256, n_columns): what stands in the rows behind
        the real ones is not looked at.
    rows : float array of shape (n, d)
    n_columns : int

    Returns
    -------
    float32 array of shape (n, n_columns)
    """
    out = np.empty((len(rows), n_columns), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        padded = np.zeros((BLOCK_ROWS, rows.shape[1]), dtype=rows.dtype)
        padded[: len(block)] = block
        out[start : start + BLOCK_ROWS] = describe(padded, len(block))[: len(block)]
    return out


def checked_rows(embedding: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return float32 rows of shape (n, width), or say what is wrong with them.

    Raises
    ------
    UsageError
        If the shape does not fit.
    MemberError
        If an activation is not finite.
    """
    rows = np.asarray(embedding, dtype=np.float32)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise UsageError(f"embedding must have shape (n, {width or 'd'}); got {rows.shape}")
    if not np.isfinite(rows).all():
        n_bad = int((~np.isfinite(rows).all(axis=1)).sum())
        raise MemberError(
            f"an embedding must be finite; got NaN or infinite activations in {n_bad} of {len(rows)} rows. "
            "Lower the learning rate or clip the inputs of the net."
        )
    return rows
