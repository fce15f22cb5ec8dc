"""The encodings by name, and the one contract that all of them keep.

In:  a name of the config's `encode`, and what one fold model (or seed) says of its rows.
Out: an object with ``transform(embedding) -> float32 (n, c)``, ``arrays()`` and ``from_arrays``.

Contract, checked for every entry by tests/encodings/test_encoder.py: finite columns for finite
activations, whatever the rank; the same bytes for the same input and for a row in other company; no
order of rows matters; labels of other rows than the fold's training rows are never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stackfeat.encodings.geometry import Geometry
from stackfeat.encodings.relative import Relative
from stackfeat.encodings.rowwise import checked_rows
from stackfeat.tasks.task import Task


class Encoder(Protocol):
    """A fitted encoding of one fold model's tap."""

    def transform(self, embedding: np.ndarray) -> np.ndarray: ...

    def arrays(self) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class FoldSpace:
    """What an encoding within one fold's space is fitted on.

    Attributes
    ----------
    embedding : float array of shape (n, d)
        The fold's training rows.
    y : array of shape (n,)
        Their class codes, or targets.
    anchors : float array of shape (m, d) or None
        Rows that are the same in every fold; `relative` needs them.
    """

    embedding: np.ndarray
    y: np.ndarray
    anchors: np.ndarray | None = None


@dataclass(frozen=True)
class Raw:
    """Activations as they are; columns of different folds do not correspond.

    Attributes
    ----------
    width : int
    """

    width: int

    def transform(self, embedding: np.ndarray) -> np.ndarray:
        """Return the rows, float32 (n, d)."""
        return checked_rows(embedding, self.width)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything learnt, as arrays that `from_arrays` reads."""
        return {"width": np.asarray([self.width])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Raw:
        """Rebuild what `arrays` gave."""
        return cls(int(arrays["width"][0]))


@dataclass(frozen=True)
class Own:
    """An encoding within one fold's space.

    Attributes
    ----------
    fit : callable
        From a `FoldSpace`, the task and a seed to an `Encoder`.
    load : callable
        From its arrays and the task to the same.
    averages : bool
        Whether columns of several nets mean the same, so that the nets of one fold are averaged;
        otherwise their columns stand side by side.
    """

    fit: Callable[[FoldSpace, Task, int], Encoder]
    load: Callable[[dict[str, np.ndarray], Task], Encoder]
    averages: bool = True


def _fit_relative(space: FoldSpace, task: Task, seed: int) -> Relative:
    assert space.anchors is not None
    return Relative.fit(space.embedding, space.anchors)


OWN: Mapping[str, Own] = {
    "geometry": Own(
        lambda space, task, seed: Geometry.fit(space.embedding, space.y, task, seed=seed),
        Geometry.from_arrays,
    ),
    "relative": Own(_fit_relative, lambda arrays, task: Relative.from_arrays(arrays)),
    "raw": Own(
        lambda space, task, seed: Raw(space.embedding.shape[1]),
        lambda arrays, task: Raw.from_arrays(arrays),
        averages=False,
    ),
}


def mean_over_nets(parts: list[np.ndarray]) -> np.ndarray:
    """Average what the nets of one fold (its seeds) give, float32."""
    return parts[0] if len(parts) == 1 else np.asarray(np.mean(parts, axis=0, dtype=np.float32))
