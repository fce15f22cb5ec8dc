"""Columns that numpy alone can make: what a fold-local preparer learnt, as arrays and nothing else.

In:  a fitted `TreePrepare` or `ScaledPrepare`.
Out: the same columns as the preparer gives, as one float64 array; arrays that a file can hold without any code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.prepare import pack, unpack
from stackfeat.data.samples import Table
from stackfeat.structure import must

if TYPE_CHECKING:
    from stackfeat.data.prepare.estimator import ScaledPrepare, TreePrepare

WHERE = "stored columns"
N_OTHERS = 2
"""Codes below 0: -1 missing, -2 not a level of the training file."""


@dataclass(frozen=True)
class PlainColumns:
    """Columns of one table.

    Attributes
    ----------
    places : sequence of int64 array
        For each coded column what its codes become, counted from the lowest code on; -1 where they become nothing.
    """

    places: Sequence[np.ndarray]

    def transform(self, table: Table) -> np.ndarray:
        """Return a float64 array of shape (n_rows, n_columns)."""
        raise NotImplementedError

    def n_columns(self, n_numeric: int) -> int:
        """Return how many columns there are of a table with so many numbers."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that there is to store."""
        return {name: np.asarray(values) for name, values in pack(list(self.places)).items()}

    def placed(self, table: Table) -> np.ndarray:
        """Return what codes become, int64 (n_rows, n_coded)."""
        found = [place[table.codes[:, j] + N_OTHERS] for j, place in enumerate(self.places)]
        return np.column_stack([np.zeros((table.n_rows, 0), dtype=np.int64), *found])

    def check(self, levels: Sequence[Sequence[str]]) -> None:
        """Raise StructureError unless these are columns of a table with such levels."""
        lengths, wanted = [len(place) for place in self.places], [len(one) + N_OTHERS for one in levels]
        must(lengths == wanted, WHERE, "have a place for each level", lengths[:5])
        must(
            all(place.min(initial=0) >= -1 for place in self.places),
            WHERE,
            "have places from -1 on",
            lengths[:5],
        )


@dataclass(frozen=True)
class TreeColumns(PlainColumns):
    """As `TreePrepare`: numbers as they are, then numbers of categories, NaN where missing."""

    @classmethod
    def of(cls, preparer: TreePrepare, table: Table) -> TreeColumns:
        """Return what a preparer learnt of a table like this."""
        places = []
        for levels, seen, pooled in zip(table.levels, preparer.seen, preparer.pooled, strict=True):
            place = np.full(len(levels) + N_OTHERS, -1, dtype=np.int64)
            place[seen + N_OTHERS] = np.arange(len(seen))
            place[pooled + N_OTHERS] = len(seen)
            places.append(place)
        return cls(tuple(places))

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray], n_numeric: int) -> TreeColumns:
        """Return what `arrays` gave."""
        return cls(tuple(_places(arrays)))

    def transform(self, table: Table) -> np.ndarray:
        placed = self.placed(table).astype(np.float64)
        placed[placed < 0] = np.nan
        return np.hstack([table.numeric, placed])

    def n_columns(self, n_numeric: int) -> int:
        return n_numeric + len(self.places)


@dataclass(frozen=True)
class ScaledColumns(PlainColumns):
    """As `ScaledPrepare`: imputed and standardised numbers, indicators of missing ones, a 0/1 column for a level.

    Attributes
    ----------
    median : float64 array (n_numeric,)
    missing : int64 array
        Numeric columns that have an indicator.
    centre, spread : float64 array
        Of numbers and indicators.
    """

    median: np.ndarray
    missing: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, preparer: ScaledPrepare, table: Table) -> ScaledColumns:
        """Return what a preparer learnt of a table like this; where levels go is asked of its encoder."""
        places, n_before = [], 0
        for j, levels in enumerate(table.levels):
            assert preparer.encoder is not None
            codes = np.zeros((len(levels) + N_OTHERS, len(table.levels)), dtype=table.codes.dtype)
            codes[:, j] = np.arange(-N_OTHERS, len(levels))
            width = _width(preparer, j)
            encoded = preparer.encoder.transform(codes)[:, n_before : n_before + width]
            places.append(np.where(encoded.any(axis=1), encoded.argmax(axis=1), -1).astype(np.int64))
            n_before += width
        nothing = np.zeros(0)
        if preparer.scaler is None:
            return cls(tuple(places), nothing, nothing.astype(np.int64), nothing, nothing)
        assert preparer.imputer is not None and preparer.indicator is not None
        missing = np.asarray(preparer.indicator.features_, dtype=np.int64)
        median = np.asarray(preparer.imputer.statistics_, dtype=np.float64)
        return cls(tuple(places), median, missing, preparer.scaler.mean_, preparer.scaler.scale_)

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray], n_numeric: int) -> ScaledColumns:
        """Return what `arrays` gave; StructureError if sizes do not fit each other."""
        floats = [np.asarray(arrays[name]) for name in ("median", "centre", "spread")]
        missing = arrays["missing"]
        are_numbers = all(one.dtype == np.float64 and np.isfinite(one).all() for one in floats)
        must(
            are_numbers and missing.dtype == np.int64,
            WHERE,
            "hold finite numbers",
            str(missing.dtype),
        )
        shapes = [one.shape for one in (*floats, missing)]
        width = n_numeric + len(missing)
        must(shapes == [(n_numeric,), (width,), (width,), missing.shape], WHERE, "fit each other", shapes)
        inside = ((missing >= 0) & (missing < n_numeric)).all() and (floats[2] > 0).all()
        must(bool(inside), WHERE, "mark columns that there are", missing[:5].tolist())
        return cls(tuple(_places(arrays)), floats[0], missing, floats[1], floats[2])

    def arrays(self) -> dict[str, np.ndarray]:
        own = {"median": self.median, "missing": self.missing, "centre": self.centre, "spread": self.spread}
        return {**super().arrays(), **own}

    def transform(self, table: Table) -> np.ndarray:
        is_missing = np.isnan(table.numeric)
        numbers = np.hstack([np.where(is_missing, self.median, table.numeric), is_missing[:, self.missing]])
        parts = [(numbers - self.centre) / self.spread if len(self.centre) else numbers[:, :0]]
        for place, width in zip(self.placed(table).T, self.widths, strict=True):
            parts.append((place[:, None] == np.arange(width)).astype(np.float64))
        return np.hstack(parts)

    @property
    def widths(self) -> list[int]:
        """How many columns each coded one becomes."""
        return [int(place.max(initial=-1)) + 1 for place in self.places]

    def n_columns(self, n_numeric: int) -> int:
        return len(self.centre) + sum(self.widths)


def _width(preparer: ScaledPrepare, j: int) -> int:
    assert preparer.encoder is not None
    names: Any = preparer.encoder.get_feature_names_out(
        [f"{k}:" for k in range(preparer.encoder.n_features_in_)]
    )
    return sum(str(name).startswith(f"{j}:_") for name in names)


def _places(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    values, lengths = np.asarray(arrays["values"]), np.asarray(arrays["lengths"])
    are_whole = values.ndim == lengths.ndim == 1 and lengths.dtype == np.int64
    must(
        are_whole and (values.dtype == np.int64 or not len(values)),
        WHERE,
        "hold whole numbers",
        values.dtype.str,
    )
    return unpack({"values": values, "lengths": lengths})
