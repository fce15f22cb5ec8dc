"""Samples: the rows of one file as arrays that every later stage reads.

In:  typed columns and arrays from `load`, or a stored entry.
Out: `Table` (numbers and category codes), `ArrayInput` (images, sequences, tokens and others) and `Samples`
     (ids, inputs, labels, roles), row-aligned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

import numpy as np

from stackfeat.data.files.lazy import LazyArray, chunk_rows
from stackfeat.errors import UsageError
from stackfeat.store.entry import reading
from stackfeat.structure import must
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

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


MISSING_CODE = -1

UNSEEN_CODE = -2


class ArrayWriter(Protocol):
    """Where arrays and JSON values go: a store's entry being written."""

    def array(self, name: str, values: np.ndarray) -> None: ...

    def pieces(self, name: str, shape: tuple[int, ...], dtype: Any, pieces: Iterable[np.ndarray]) -> None: ...

    def json(self, name: str, value: Any) -> None: ...


class ArrayReader(Protocol):
    """Where arrays and JSON values come from: a finished entry of a store."""

    def array(self, name: str, *, mmap: bool = False) -> np.ndarray: ...

    def json(self, name: str) -> Any: ...

    def structure(self, name: str, kind: Any) -> Any: ...

    def refuse(self, fault: str) -> NoReturn: ...


@dataclass(frozen=True)
class Table:
    """Typed columns of one input, row-aligned.

    Attributes
    ----------
    numeric : ndarray of shape (n_rows, n_numeric), float64
        NaN where a value is missing.
    numeric_names : tuple of str
    codes : ndarray of shape (n_rows, n_categorical), int32
        Index into `levels`; -1 where missing, -2 where the level is not one of the training file.
    code_names : tuple of str
    levels : tuple of tuple of str
        Categories of each coded column, sorted, from the training file.
    """

    numeric: np.ndarray
    numeric_names: tuple[str, ...]
    codes: np.ndarray
    code_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        assert self.numeric.ndim == 2 and self.numeric.shape[1] == len(self.numeric_names)
        assert self.codes.ndim == 2 and self.codes.shape[1] == len(self.code_names) == len(self.levels)
        assert len(self.numeric) == len(self.codes)

    @property
    def n_rows(self) -> int:
        return len(self.numeric)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, numeric ones first."""
        return (*self.numeric_names, *self.code_names)

    def take(self, rows: np.ndarray) -> Table:
        """Return these rows, in this order."""
        return replace(self, numeric=self.numeric[rows], codes=self.codes[rows])

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with the original names; coded columns are categorical, unseen levels NaN."""
        import pandas as pd

        columns: dict[str, Any] = {name: self.numeric[:, j] for j, name in enumerate(self.numeric_names)}
        for j, name in enumerate(self.code_names):
            codes = np.where(self.codes[:, j] < len(self.levels[j]), np.maximum(self.codes[:, j], -1), -1)
            columns[name] = pd.Categorical.from_codes(
                codes, categories=pd.Index(self.levels[j], dtype=object)
            )
        return pd.DataFrame(columns)


Input = Table | ArrayInput | np.ndarray
"""What one named input is."""


@dataclass(frozen=True)
class Samples:
    """Rows of one file: what is read, what is to be predicted, and what decides the folds.

    Attributes
    ----------
    ids : ndarray of shape (n_rows,), str
    inputs : dict of str to Table, ArrayInput or ndarray
        Named inputs of any shape, each with a row per sample.
    y : ndarray of shape (n_rows,) or None
        Classification: int64 indices into ``task.classes``. Regression: float64 on the scale that
        members learn (``task.transform`` applied). None for rows to predict.
    weight, time : ndarray of shape (n_rows,), float64, or None
    group, fold : ndarray of shape (n_rows,), int64, or None
    task : Task
    """

    ids: np.ndarray
    inputs: dict[str, Input]
    y: np.ndarray | None
    task: Task
    weight: np.ndarray | None = None
    group: np.ndarray | None = None
    time: np.ndarray | None = None
    fold: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> np.ndarray:
        """`y`, for rows that must have it."""
        if self.y is None:
            raise UsageError("these rows must have a target; got rows to predict; use the training rows")
        return self.y

    def take(self, rows: np.ndarray) -> Samples:
        """Return these rows, in this order."""
        inputs = {
            name: v[rows] if isinstance(v, np.ndarray) else v.take(rows) for name, v in self.inputs.items()
        }
        return replace(
            self, ids=self.ids[rows], inputs=inputs, **{name: v[rows] for name, v in self._roles()}
        )

    def _roles(self) -> list[tuple[str, np.ndarray]]:
        """Row-aligned arrays that are present, by field name."""
        names = [field.name for field in fields(self) if field.name not in ("ids", "inputs", "task")]
        return [(name, value) for name in names if (value := getattr(self, name)) is not None]


def save_samples(samples: Samples, writer: ArrayWriter) -> None:
    """Write the rows into a store entry, as arrays and one JSON value."""
    inputs: list[dict[str, Any]] = []
    for j, (name, values) in enumerate(samples.inputs.items()):
        if isinstance(values, Table):
            writer.array(f"input{j}.numeric", values.numeric)
            writer.array(f"input{j}.codes", values.codes)
            names = {"numeric_names": values.numeric_names, "code_names": values.code_names}
            inputs.append({"name": name, "table": {**names, "levels": values.levels}})
        elif isinstance(values, ArrayInput):
            inputs.append({"name": name, "table": None, "array": _save_array(values, j, writer)})
        else:
            writer.array(f"input{j}", values)
            inputs.append({"name": name, "table": None})
    writer.array("ids", samples.ids)
    roles = samples._roles()
    for role, array in roles:
        writer.array(role, array)
    writer.json(
        "samples", {"task": samples.task.to_json(), "inputs": inputs, "roles": [name for name, _ in roles]}
    )


def load_samples(entry: ArrayReader) -> Samples:
    """Read rows written by `save_samples`."""
    described: _Described = entry.structure("samples", _Described)
    inputs: dict[str, Input] = {}
    for j, item in enumerate(described.inputs):
        if item.table is not None:
            inputs[item.name] = _read_table(entry, j, item.table)
        elif item.array is not None:
            inputs[item.name] = _read_array(entry, j, item.array)
        else:
            inputs[item.name] = entry.array(f"input{j}")
    roles: dict[str, Any] = {role: entry.array(role) for role in described.roles}
    task = described.task
    ids = entry.array("ids")
    with reading(entry):
        task.check("samples.json.task")
        for name, values in [*inputs.items(), *roles.items()]:
            n_rows = values.n_rows if isinstance(values, Table) else len(values)
            must(n_rows == len(ids) and ids.ndim == 1, f"its {name}", "have a row for each id", n_rows)
        for role, values in roles.items():
            if role == "y":
                task.check_y(values, "its y")
                continue
            kinds = "iu" if role in ("group", "fold") else "f"
            must(values.dtype.kind in kinds, f"its {role}", f"be of kind {kinds}", values.dtype.str)
    return Samples(ids=ids, inputs=inputs, y=roles.pop("y", None), task=task, **roles)


@dataclass(frozen=True)
class _DescribedTable:
    numeric_names: tuple[str, ...]
    code_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _DescribedArray:
    kind: Kind
    scaling: Scaling
    n_tokens: int
    has_lengths: bool
    is_lazy: bool


@dataclass(frozen=True)
class _DescribedInput:
    name: str
    table: _DescribedTable | None
    array: _DescribedArray | None = None


@dataclass(frozen=True)
class _Described:
    """What `save_samples` writes beside the arrays."""

    task: Task
    inputs: tuple[_DescribedInput, ...]
    roles: tuple[Literal["y", "weight", "group", "time", "fold"], ...]


def _read_table(entry: ArrayReader, index: int, described: _DescribedTable) -> Table:
    numeric, codes = entry.array(f"input{index}.numeric"), entry.array(f"input{index}.codes")
    with reading(entry):
        must(
            numeric.dtype == np.float64 and codes.dtype == np.int32,
            "its table",
            "hold numbers",
            numeric.dtype.str,
        )
        must(
            numeric.ndim == codes.ndim == 2
            and len(numeric) == len(codes)
            and numeric.shape[1] == len(described.numeric_names)
            and codes.shape[1] == len(described.code_names) == len(described.levels),
            "its table",
            "have a column for each name",
            numeric.shape,
        )
    return Table(numeric, described.numeric_names, codes, described.code_names, described.levels)


def _save_array(values: ArrayInput, index: int, writer: ArrayWriter) -> dict[str, Any]:
    """Write an array input; rows that are on disk are copied piece by piece."""
    if isinstance(values.values, LazyArray):
        lazy, size = values, chunk_rows(values.shape[1:])
        pieces = (np.asarray(lazy[start : start + size]) for start in range(0, len(lazy), size))
        writer.pieces(f"input{index}", values.shape, values.dtype, pieces)
    else:
        writer.array(f"input{index}", values.values)
    if values.lengths is not None:
        writer.array(f"input{index}.lengths", values.lengths)
    return {
        "kind": values.kind,
        "scaling": values.scaling,
        "n_tokens": values.n_tokens,
        "has_lengths": values.lengths is not None,
        "is_lazy": values.is_lazy,
    }


def _read_array(entry: ArrayReader, index: int, described: _DescribedArray) -> ArrayInput:
    name = f"input{index}"
    is_lazy = described.is_lazy
    return ArrayInput(
        values=LazyArray(entry.array(name, mmap=True)) if is_lazy else entry.array(name),
        kind=described.kind,
        scaling=described.scaling,
        lengths=entry.array(f"{name}.lengths") if described.has_lengths else None,
        n_tokens=described.n_tokens,
    )
