"""Samples: the rows of one file as arrays that every later stage reads.

In:  typed columns and arrays from `load`, or a stored entry.
Out: `Table` (numbers and category codes), `ArrayInput` (images, sequences, tokens and others; large ones stay on disk
     as a `LazyRows` until rows are asked for) and `Samples` (ids, inputs, labels, roles), row-aligned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stackfeat.errors import DataError, StructureError, UsageError
from stackfeat.store.entry import Entry, EntryWriter, reading
from stackfeat.structure import must
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["image", "sequence", "tokens", "array"]
AnyKind = Literal["table", "image", "sequence", "tokens", "array"]
Scaling = Literal["standard", "imagenet", "unit", "none"]
LARGE_BYTES = 2**29
"""Rows that would take more memory than this as float32 stay on disk; no measurement decides it."""
CHUNK_BYTES = 2**24
_ENCODING = ("utf-8", "surrogatepass")


def is_large(n_rows: int, shape: tuple[int, ...]) -> bool:
    """Whether rows of this shape stay on disk unless the config says otherwise."""
    return n_rows * int(np.prod(shape, dtype=np.int64)) * 4 > LARGE_BYTES


def chunk_rows(shape: tuple[int, ...]) -> int:
    """Return how many rows of this shape are worked on at a time."""
    return max(1, CHUNK_BYTES // (4 * max(1, int(np.prod(shape, dtype=np.int64)))))


@dataclass(eq=False, repr=False)
class LazyRows:
    """A view of rows of an array, computed where it is indexed.

    Parameters
    ----------
    source : ndarray of shape (n, ...)
        Usually a `numpy.memmap`; it is never copied as a whole.
    rows : ndarray of int, optional
        Which rows of `source`, in which order; all of them without it.
    change : callable, optional
        Applied to the rows that are read: an array (k, ...) and the same rows of `beside`.
    beside : ndarray, optional
        Row-aligned with `source`, such as lengths of sequences; handed to `change`.
    row_shape : tuple of int, optional
        Of one row after `change`.
    dtype : dtype, optional
        After `change`.

    Examples
    --------
    >>> view = LazyRows(np.arange(10).reshape(5, 2), rows=np.array([4, 0]))
    >>> view.shape, view[np.array([1])].tolist()
    ((2, 2), [[0, 1]])
    """

    source: np.ndarray
    rows: np.ndarray | None = None
    change: Callable[[np.ndarray, np.ndarray | None], np.ndarray] | None = None
    beside: np.ndarray | None = None
    row_shape: InitVar[tuple[int, ...] | None] = None
    dtype: Any = None
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self, row_shape: tuple[int, ...] | None) -> None:
        n_rows = len(self.source if self.rows is None else self.rows)
        self.shape = (n_rows, *(self.source.shape[1:] if row_shape is None else row_shape))
        self.dtype = np.dtype(self.source.dtype if self.dtype is None else self.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return rows as an array in memory; an int, a slice, a mask or an array of row numbers."""
        if isinstance(index, int | np.integer):
            return np.asarray(self[np.array([index])][0])
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index
        # A negative number counts from the end of the view, not of the file.
        index = np.where(index < 0, index + len(self), index)
        rows = index if self.rows is None else self.rows[index]
        values = read_rows(self.source, rows)
        if self.change is None:
            return values
        return self.change(values, None if self.beside is None else self.beside[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self[:]
        return values if dtype is None else values.astype(dtype)

    def take(self, rows: np.ndarray) -> LazyRows:
        """Return a view of these rows."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        chosen = rows if self.rows is None else self.rows[rows]
        return LazyRows(self.source, chosen, self.change, self.beside, self.shape[1:], self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        # A memmap is pickled as all its values; its file's name is enough for a worker process.
        state = dict(vars(self))
        source = self.source
        if isinstance(source, np.memmap) and source.filename is not None and source.flags.c_contiguous:
            state["source"] = (str(source.filename), source.dtype.str, source.offset, source.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        source = state["source"]
        if isinstance(source, tuple):
            name, dtype, offset, shape = source
            state["source"] = np.memmap(name, dtype=dtype, mode="r", offset=offset, shape=shape)
        vars(self).update(state)


def read_rows(source: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows as an array of its own in memory, read from disk in the order of the file."""
    if len(rows) and np.all(np.diff(rows) == 1):
        return np.array(source[rows[0] : rows[-1] + 1])
    order = np.argsort(rows, kind="stable")
    values = np.empty((len(rows), *source.shape[1:]), dtype=source.dtype)
    values[order] = source[rows[order]]
    return values


@dataclass(frozen=True)
class ArrayInput:
    """Rows of one array input.

    Attributes
    ----------
    values : ndarray or LazyRows of shape (n_rows, ...)
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

    values: np.ndarray | LazyRows
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
    def is_lazy(self) -> bool:
        """Whether rows are read from disk when they are needed."""
        return isinstance(self.values, LazyRows)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.values[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self.values)
        return values if dtype is None else values.astype(dtype)

    def take(self, rows: np.ndarray) -> ArrayInput:
        """Return these rows, in this order; rows on disk stay there."""
        values = self.values.take(rows) if isinstance(self.values, LazyRows) else self.values[rows]
        return replace(self, values=values, lengths=None if self.lengths is None else self.lengths[rows])


@dataclass(frozen=True)
class ArraySchema:
    """How an array of this kind is read; `shape` is that of a row as it is held (sequences: of a step)."""

    kind: AnyKind
    shape: tuple[int, ...]
    scaling: Scaling = "none"
    channels: Literal["none", "first", "last"] = "none"
    n_tokens: int = 0


def pack_texts(texts: Iterable[str]) -> dict[str, np.ndarray]:
    """Return texts as bytes end to end, and how many each has."""
    encoded = [to_bytes(text) for text in texts]
    lengths = np.array([len(one) for one in encoded], dtype=np.int64)
    return {"bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), "lengths": lengths}


def unpack_texts(packed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the texts that `pack_texts` put end to end, object; StructureError if they are not made so."""
    content, lengths = packed["bytes"], packed["lengths"]
    are_whole = content.dtype == np.uint8 and lengths.dtype == np.int64 and content.ndim == lengths.ndim == 1
    fits = are_whole and (lengths >= 0).all() and lengths.sum() == len(content)
    must(bool(fits), "stored texts", "be bytes with a length each", str(lengths.dtype))
    whole, ends = content.tobytes(), np.cumsum(lengths)
    found = np.empty(len(lengths), dtype=object)
    try:
        found[:] = [
            whole[start:end].decode(*_ENCODING) for start, end in zip(ends - lengths, ends, strict=True)
        ]
    except UnicodeDecodeError as error:
        raise StructureError(f"stored texts must be UTF-8; got {error.reason}") from error
    return found


def to_bytes(text: str) -> bytes:
    """Return a text as bytes, half of a pair of surrogates, which a file may hold, included."""
    return text.encode(*_ENCODING)


def no_texts(n_rows: int) -> np.ndarray:
    """Return the texts of a table that has none."""
    return np.empty((n_rows, 0), dtype=object)


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
    texts : ndarray of shape (n_rows, n_texts), object
        A str in each place, "" where missing.
    text_names : tuple of str
    word_names : tuple of str
        Those of the texts of which only frequent words are told apart.
    """

    numeric: np.ndarray
    numeric_names: tuple[str, ...]
    codes: np.ndarray
    code_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    texts: np.ndarray = field(default_factory=lambda: no_texts(0))
    text_names: tuple[str, ...] = ()
    word_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text_names:
            object.__setattr__(self, "texts", no_texts(len(self.numeric)))
        assert self.numeric.ndim == 2 and self.numeric.shape[1] == len(self.numeric_names)
        assert self.codes.ndim == 2 and self.codes.shape[1] == len(self.code_names) == len(self.levels)
        assert self.texts.ndim == 2 and self.texts.shape[1] == len(self.text_names)
        assert len(self.numeric) == len(self.codes) == len(self.texts)

    @property
    def n_rows(self) -> int:
        return len(self.numeric)

    def take(self, rows: np.ndarray) -> Table:
        """Return these rows, in this order."""
        return replace(self, numeric=self.numeric[rows], codes=self.codes[rows], texts=self.texts[rows])

    def with_rows(self, other: Table) -> Table:
        """Return these rows with those of a table of the same columns behind them."""
        return replace(
            self,
            numeric=np.vstack([self.numeric, other.numeric]),
            codes=np.vstack([self.codes, other.codes]),
            texts=np.vstack([self.texts, other.texts]),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with the original names; coded columns are categorical, unseen levels NaN.

        Texts are those of the file, "" where missing.
        """
        import pandas as pd

        columns: dict[str, Any] = {name: self.numeric[:, j] for j, name in enumerate(self.numeric_names)}
        for j, name in enumerate(self.code_names):
            codes = np.where(self.codes[:, j] < len(self.levels[j]), np.maximum(self.codes[:, j], -1), -1)
            columns[name] = pd.Categorical.from_codes(
                codes, categories=pd.Index(self.levels[j], dtype=object)
            )
        columns |= {name: self.texts[:, j] for j, name in enumerate(self.text_names)}
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
    query : ndarray of shape (n_rows,), int64, or None
        Ranking: the list of each row, of rows to predict too; the second column of `y` says the same.
    query_names : ndarray of shape (n_rows,), str, or None
        Of rows to predict, what stands in the column of lists, where a submission has a row for each list.
    unread : ndarray of shape (n_rows,), int64, or None
        A number for what stands in the columns that no input reads: rows that differ there alone are not equal.
        It is never stored.
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
    query: np.ndarray | None = None
    query_names: np.ndarray | None = None
    unread: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> np.ndarray:
        """`y`, for rows that must have it."""
        if self.y is None:
            raise UsageError("these rows must have a target; got rows to predict; use the training rows")
        return self.y

    def with_lists(self, where: str) -> Samples:
        """Return rows whose target knows their lists, which are groups too; without lists the same rows.

        Raises
        ------
        DataError
            If rows of one list are of several groups, or of several times: folds would tear it apart.
        """
        if self.query is None or self.y is None:
            return self
        group = self.query if self.group is None else self.group
        n_pairs = len(np.unique(np.column_stack([self.query, group]), axis=0))
        if n_pairs != len(np.unique(self.query)):
            raise DataError(
                f"{where}: a query must be of one group; got {n_pairs - len(np.unique(self.query))} more pairs of "
                "data.query and data.group than queries; remove data.group, or repair the column"
            )
        n_torn = 0 if self.time is None else _n_of_several(self.query, self.time)
        if n_torn:
            raise DataError(
                f"{where}: rows of a query must have one time, or folds by time would tear it apart; got several in "
                f"{n_torn} queries; write the query's latest time into all its rows, or remove data.time"
            )
        return replace(self, y=self.task.in_lists(self.y, self.query), group=group)

    def in_copies(self, n_copies: int) -> Samples:
        """Return rows that stand here several times over with lists of their own for each time."""
        if self.query is None or n_copies == 1:
            return self
        copy = np.repeat(np.arange(n_copies), self.n_rows // n_copies)
        return replace(self, query=self.query + copy * (int(self.query.max()) + 1))

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


def _n_of_several(lists: np.ndarray, values: np.ndarray) -> int:
    """Return how many lists hold more than one value."""
    of_pairs = np.unique(np.column_stack([lists, values]), axis=0)[:, 0]
    return int((np.unique(of_pairs, return_counts=True)[1] > 1).sum())


def save_samples(samples: Samples, writer: EntryWriter) -> None:
    """Write the rows into a store entry, as arrays and one JSON value."""
    inputs: list[dict[str, Any]] = []
    for j, (name, values) in enumerate(samples.inputs.items()):
        if isinstance(values, Table):
            writer.array(f"input{j}.numeric", values.numeric)
            writer.array(f"input{j}.codes", values.codes)
            names = {"numeric_names": values.numeric_names, "code_names": values.code_names}
            table = {**names, "levels": values.levels}
            if values.text_names:
                for part, array in pack_texts(values.texts.ravel()).items():
                    writer.array(f"input{j}.text_{part}", array)
                table["text_names"] = values.text_names
                table |= {"word_names": values.word_names} if values.word_names else {}
            inputs.append({"name": name, "table": table})
        elif isinstance(values, ArrayInput):
            inputs.append({"name": name, "table": None, "array": _save_array(values, j, writer)})
        else:
            writer.array(f"input{j}", values)
            inputs.append({"name": name, "table": None})
    writer.array("ids", samples.ids)
    roles = [(role, array) for role, array in samples._roles() if role != "unread"]
    for role, array in roles:
        writer.array(role, array)
    writer.json(
        "samples", {"task": samples.task.to_json(), "inputs": inputs, "roles": [name for name, _ in roles]}
    )


def _save_array(values: ArrayInput, index: int, writer: EntryWriter) -> dict[str, Any]:
    """Write an array input; rows that are on disk are copied piece by piece."""
    if isinstance(values.values, LazyRows):
        lazy, size = values, chunk_rows(values.shape[1:])
        pieces = (np.asarray(lazy[start : start + size]) for start in range(0, len(lazy), size))
        writer.pieces(f"input{index}", values.shape, values.dtype, pieces)
    else:
        writer.array(f"input{index}", values.values)
    if values.lengths is not None:
        writer.array(f"input{index}.lengths", values.lengths)
    has_lengths = values.lengths is not None
    return asdict(_DescribedArray(values.kind, values.scaling, values.n_tokens, has_lengths, values.is_lazy))


def load_samples(entry: Entry) -> Samples:
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
            kinds = {"query_names": "U"}.get(role, "iu" if role in ("group", "fold", "query") else "f")
            must(values.dtype.kind in kinds, f"its {role}", f"be of kind {kinds}", values.dtype.str)
    return Samples(ids=ids, inputs=inputs, y=roles.pop("y", None), task=task, **roles)


@dataclass(frozen=True)
class _DescribedTable:
    numeric_names: tuple[str, ...]
    code_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    text_names: tuple[str, ...] = ()
    word_names: tuple[str, ...] = ()


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
    roles: tuple[Literal["y", "weight", "group", "time", "fold", "query", "query_names"], ...]


def _read_table(entry: Entry, index: int, described: _DescribedTable) -> Table:
    numeric, codes = entry.array(f"input{index}.numeric"), entry.array(f"input{index}.codes")
    are_numbers = numeric.dtype == np.float64 and codes.dtype == np.int32
    n_columns = (len(described.numeric_names), len(described.code_names))
    have_names = numeric.ndim == codes.ndim == 2 and (numeric.shape[1], codes.shape[1]) == n_columns
    is_whole = have_names and len(numeric) == len(codes) and len(described.levels) == n_columns[1]
    with reading(entry):
        must(are_numbers, "its table", "hold numbers", numeric.dtype.str)
        must(is_whole, "its table", "have a column for each name", numeric.shape)
    table = Table(numeric, described.numeric_names, codes, described.code_names, described.levels)
    if not described.text_names:
        return table
    texts = unpack_texts({part: entry.array(f"input{index}.text_{part}") for part in ("bytes", "lengths")})
    with reading(entry):
        must(len(texts) == len(codes) * len(described.text_names), "its texts", "be one a cell", len(texts))
    texts = texts.reshape(len(codes), len(described.text_names))
    with reading(entry):
        are_texts = set(described.word_names) <= set(described.text_names)
        must(are_texts, "its texts told by words", "be among its texts", described.word_names[:3])
    return replace(table, texts=texts, text_names=described.text_names, word_names=described.word_names)


def _read_array(entry: Entry, index: int, described: _DescribedArray) -> ArrayInput:
    name = f"input{index}"
    return ArrayInput(
        values=LazyRows(entry.array(name, mmap=True)) if described.is_lazy else entry.array(name),
        kind=described.kind,
        scaling=described.scaling,
        lengths=entry.array(f"{name}.lengths") if described.has_lengths else None,
        n_tokens=described.n_tokens,
    )
