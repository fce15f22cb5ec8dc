"""Columns: how raw tables and blocks become columns for an estimator, fitted per fold.

In:  the rows a member reads.
Out: `base` (raw columns and predictions, never gated) and one matrix for each feature block.

``trees``: native categories, missing values kept, probabilities as they are.
``scaled``: imputed, one-hot and standardised columns; probabilities as centred clipped
logs; a feature block divided by one scalar, a geometry block z-scored.
``none``: columns as they stand in the file.
``sparse``: as ``scaled``, and texts as the weights of all their terms; the others read the directions of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, hstack, issparse

from stackfeat.data.prepare.estimator import NoPrepare, ScaledPrepare, TreePrepare
from stackfeat.data.prepare.plain_columns import PlainColumns, ScaledColumns, TreeColumns
from stackfeat.data.prepare.texts import TextColumns, TextTerms
from stackfeat.data.samples import Input, Table
from stackfeat.encodings import ENCODINGS
from stackfeat.encodings.encoding import Encoding
from stackfeat.errors import MemberError
from stackfeat.meta.scaling import SMALLEST_PROBA, Scale, prediction_coefficients
from stackfeat.store import Entry, EntryWriter
from stackfeat.tasks.task import Task

PREPARERS: dict[str, Any] = {
    "trees": TreePrepare,
    "scaled": ScaledPrepare,
    "sparse": ScaledPrepare,
    "none": NoPrepare,
}
TEXTS: dict[str, type[TextTerms]] = {"trees": TextColumns, "scaled": TextColumns, "sparse": TextTerms}
"""What becomes of texts; ``none`` leaves them as they are."""
SCALED = ("scaled", "sparse")
PLAIN: dict[str, Any] = {"trees": TreeColumns, "scaled": ScaledColumns, "sparse": ScaledColumns}
"""The same columns without pandas and the checks of scikit-learn's parts, which take longer than a few rows do."""
_N_RANK_POINTS = 1001


def _rank_points(rows: Rows) -> dict[str, np.ndarray]:
    """Return the quantiles of each prediction block that its later values are ranked among."""
    shares = np.linspace(0, 1, _N_RANK_POINTS)
    return {b.name: np.quantile(b.values, shares, axis=0) for b in rows.blocks if b.kind == "prediction"}


_LEARNT_POINTS = {"rank": _rank_points}
"""Ways to read predictions that learn reference points first."""


@dataclass(frozen=True)
class ColumnsState:
    """What is stored of columns beside their arrays: names of what has a file of its own."""

    prepare: Literal["trees", "scaled", "sparse", "none"]
    read_as: Literal["proba", "logit", "rank"]
    tables: tuple[str, ...]
    points: tuple[str, ...]
    scales: tuple[str, ...]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """A fitted way from rows to columns.

    Attributes
    ----------
    prepare : {"trees", "scaled", "sparse", "none"}
    read_as : {"proba", "logit", "rank"}
        How predictions are read in a classification task; regression takes them as they are, or by rank.
    tables : dict
        One fitted preparer for each raw table.
    points : dict
        ``rank``: reference quantiles of each prediction block.
    scales : dict
        Centre and factor of each scaled block.
    texts : dict
        By raw table with columns of text what these become.
    plain : dict
        By raw table what makes the same columns as its preparer, once it was asked for.
    """

    prepare: str
    read_as: str
    task: Task
    tables: dict[str, Any]
    points: dict[str, np.ndarray]
    scales: dict[str, Scale]
    texts: dict[str, TextTerms] = field(default_factory=dict)
    plain: dict[str, PlainColumns] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def fit(cls, rows: Rows, task: Task, *, prepare: str, read_as: str, seed: int = 0) -> Columns:
        """Learn imputation, categories, terms and scales from the rows of one fold's training part."""
        tables: dict[str, Any] = {}
        texts: dict[str, TextTerms] = {}
        for name, table in rows.inputs.items():
            if not isinstance(table, Table):
                raise MemberError(
                    f"estimators read tables; got the input {name!r}, an array of rows of shape "
                    f"{tuple(table.shape[1:])}; name others in the member's inputs, or give the array kind: table"
                )
            if table.text_names and prepare in TEXTS:
                texts[name] = TEXTS[prepare]().fit(table, seed)
            tables[name] = PREPARERS[prepare]().fit(widened(table, texts.get(name)))
        if read_as == "auto":
            read_as = "logit" if prepare in SCALED else "proba"
        points = _LEARNT_POINTS[read_as](rows) if read_as in _LEARNT_POINTS else {}
        columns = cls(prepare, read_as, task, tables, points, {}, texts)
        return replace(columns, scales=columns._fit_scales(rows)) if prepare in SCALED else columns

    def _fit_scales(self, rows: Rows) -> dict[str, Scale]:
        scales = {b.name: Scale.fit(b.values, b.encoded.scaling) for b in rows.features()}
        # Centred logs of all classes share one unit; values of a regression do not.
        if not self.task.shares_unit:
            scales |= {
                b.name: Scale.fit(self._read(b), "zscore") for b in rows.blocks if b.kind == "prediction"
            }
        return scales

    def base(self, rows: Rows) -> Any:
        """Return raw columns and predictions: a DataFrame with raw tables for trees, else a float array.

        Terms of texts stand before them, in a sparse matrix.
        """
        if self.prepare in SCALED:
            matrix = self.matrix(rows)
            weights = self._term_weights(rows)
            return hstack([*weights, csr_matrix(matrix)], format="csr") if weights else matrix
        parts = [self.tables[name].transform(table) for name, table in self._tables(rows)]
        predictions = self._predictions(rows)
        if not parts:
            return np.hstack(predictions) if predictions else np.zeros((rows.n_rows, 0))
        frames = [part.add_prefix(f"t{i}_") if len(parts) > 1 else part for i, part in enumerate(parts)]
        if predictions:
            values = np.hstack(predictions)
            frames.append(pd.DataFrame(values, columns=[f"p{i}" for i in range(values.shape[1])]))
        return pd.concat([frame.reset_index(drop=True) for frame in frames], axis=1)

    def matrix(self, rows: Rows) -> np.ndarray:
        """Return what `base` does as a float64 array; categories are their numbers, NaN where missing."""
        parts = [np.zeros((rows.n_rows, 0))]
        for name, table in self._tables(rows):
            if name not in self.plain:
                self.plain[name] = PLAIN[self.prepare].of(self.tables[name], table)
            parts.append(self.plain[name].transform(table))
        return np.hstack([*parts, *self._predictions(rows)])

    def _tables(self, rows: Rows) -> Iterator[tuple[str, Table]]:
        """Yield the raw tables, with numbers in the place of texts where these become numbers."""
        for name, table in rows.inputs.items():
            assert isinstance(table, Table)
            yield name, widened(table, self.texts.get(name))

    def _term_weights(self, rows: Rows) -> list[Any]:
        """Return the weights of the terms of all texts that stay sparse."""
        tables = {name: table for name, table in rows.inputs.items() if isinstance(table, Table)}
        sparse = {name: terms for name, terms in self.texts.items() if not isinstance(terms, TextColumns)}
        return [weights for name, terms in sparse.items() for weights in terms.weights(tables[name])]

    def _predictions(self, rows: Rows) -> list[np.ndarray]:
        predictions = [block for block in rows.blocks if block.kind == "prediction"]
        return [np.asarray(self._scaled(block, self._read(block)), np.float64) for block in predictions]

    def votes(self, rows: Rows, n_columns: int) -> dict[str, np.ndarray]:
        """Return by block the coefficients of an array `base` of n_columns that give its prediction.

        Returns
        -------
        dict of str to float64 array of shape (n_columns, n_outputs)
            Up to a constant. Empty where predictions are read neither as logarithms nor as values.
        """
        if self.read_as not in self.task.linear_readings:
            return {}
        predictions = [block for block in rows.blocks if block.kind == "prediction"]
        one = np.eye(self.task.n_outputs)
        found, end = {}, n_columns - len(one) * len(predictions)
        for block in predictions:
            scale = self.scales.get(block.name)
            start, end = end, end + len(one)
            found[block.name] = prediction_coefficients(
                start, one if scale is None else scale.undo(one), n_columns
            )
        return found

    def features(self, rows: Rows) -> list[np.ndarray]:
        """Return one float32 matrix for each feature block."""
        return [self._scaled(block, block.values).astype(np.float32, copy=False) for block in rows.features()]

    def _scaled(self, block: BlockRows, values: np.ndarray) -> np.ndarray:
        scale = self.scales.get(block.name)
        return values if scale is None else scale.apply(values)

    def _read(self, block: BlockRows) -> np.ndarray:
        points = self.points.get(block.name)
        if points is not None:
            shares = np.linspace(0, 1, len(points))
            return np.column_stack(
                [np.interp(block.values[:, j], points[:, j], shares) for j in range(points.shape[1])]
            )
        if self.read_as == "logit":
            return self.task.unbounded(block.values, SMALLEST_PROBA)
        return np.asarray(block.values, dtype=np.float64)

    def save(self, writer: EntryWriter) -> None:
        """Write the state under names starting with ``columns``."""
        named = {"prepare": self.prepare, "read_as": self.read_as}
        lists = {"tables": list(self.tables), "points": list(self.points), "scales": list(self.scales)}
        lists |= {"texts": list(self.texts)} if self.texts else {}
        writer.json("columns", named | lists)
        for name, texts in self.texts.items():
            writer.bytes(f"columns.text.{name}", texts.to_bytes())
        for name, preparer in self.tables.items():
            writer.bytes(f"columns.table.{name}", preparer.to_bytes())
        for name, points in self.points.items():
            writer.array(f"columns/points/{name}", points)
        for name, scale in self.scales.items():
            writer.array(f"columns/centre/{name}", scale.centre)
            writer.array(f"columns/factor/{name}", scale.factor)

    @classmethod
    def load(cls, entry: Entry, task: Task) -> Columns:
        """Read what `save` wrote."""
        state = entry.structure("columns", ColumnsState)
        preparer = PREPARERS[state.prepare]
        return cls(
            prepare=state.prepare,
            read_as=state.read_as,
            task=task,
            tables={name: preparer.from_bytes(entry.bytes(f"columns.table.{name}")) for name in state.tables},
            points={name: entry.array(f"columns/points/{name}") for name in state.points},
            scales={
                name: Scale(entry.array(f"columns/centre/{name}"), entry.array(f"columns/factor/{name}"))
                for name in state.scales
            },
            texts={
                name: TEXTS[state.prepare].from_bytes(entry.bytes(f"columns.text.{name}"))
                for name in state.texts
            },
        )


def widened(table: Table, texts: TextTerms | None) -> Table:
    """Return a table with numbers in the place of texts, where these become numbers."""
    return texts.widened(table) if isinstance(texts, TextColumns) else table


def join(base: Any, parts: Sequence[np.ndarray]) -> Any:
    """Put columns beside a base, an array or a DataFrame; there they are called ``f0``, ``f1``, ..."""
    if not parts:
        return base
    if issparse(base):
        return hstack([base, *map(csr_matrix, parts)], format="csr")
    if not isinstance(base, pd.DataFrame):
        return np.hstack([np.asarray(base), *parts])
    columns = np.hstack(parts)
    names = [f"f{i}" for i in range(columns.shape[1])]
    return pd.concat([base, pd.DataFrame(columns, columns=names, index=base.index)], axis=1)


def combine(base: Any, features: list[np.ndarray], scales: tuple[float, ...]) -> Any:
    """Put accepted feature blocks (scale above zero) beside the base columns."""
    return join(base, [scale * values for scale, values in zip(scales, features, strict=True) if scale > 0])


def take_rows(columns: Any, rows: np.ndarray) -> Any:
    """Return these rows of an array or a DataFrame."""
    return columns.iloc[rows] if isinstance(columns, pd.DataFrame) else columns[rows]


@dataclass(frozen=True)
class BlockRows:
    """Rows of one block that a member reads.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns)
        float64 for predictions, float32 for features.
    """

    name: str
    kind: Literal["prediction", "feature"]
    encoding: str | None
    values: np.ndarray

    @property
    def encoded(self) -> type[Encoding]:
        """How the columns of features were made."""
        assert self.encoding is not None
        return ENCODINGS[self.encoding]


@dataclass(frozen=True)
class Rows:
    """What a member reads of a set of rows: raw inputs by name, and blocks in config order.

    Attributes
    ----------
    ids : ndarray of shape (n_rows,), str, or None
    numbers : ndarray of shape (n_rows,), int64, or None
        Where they stand among the training rows; None for other rows. What was made elsewhere is
        looked up by these two; a learner reads neither.
    lists : ndarray of shape (n_rows,), int64, or None
        The list of each row, where predictions are compared within lists.
    """

    n_rows: int
    inputs: Mapping[str, Input]
    blocks: tuple[BlockRows, ...] = ()
    ids: np.ndarray | None = None
    numbers: np.ndarray | None = None
    lists: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Rows:
        """Return these rows, in this order."""
        return Rows(
            len(rows),
            {name: v[rows] if isinstance(v, np.ndarray) else v.take(rows) for name, v in self.inputs.items()},
            tuple(replace(block, values=block.values[rows]) for block in self.blocks),
            None if self.ids is None else self.ids[rows],
            None if self.numbers is None else self.numbers[rows],
            None if self.lists is None else self.lists[rows],
        )

    def predictions(self) -> list[np.ndarray]:
        """Values of the prediction blocks."""
        return [block.values for block in self.blocks if block.kind == "prediction"]

    def features(self) -> list[BlockRows]:
        """The feature blocks."""
        return [block for block in self.blocks if block.kind == "feature"]
