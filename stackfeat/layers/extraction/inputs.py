"""Inputs of any of the usual kinds, as rows that can be read in order from any row on.

In:  an array, tensor, tuple, dict, Dataset, DataLoader, or the path of an npy or npz file; or any object with
     ``shape``, ``dtype``, ``len()`` and ``__getitem__`` that takes an int64 array of row numbers and returns an
     ndarray: what does not fit into memory stays on disk until a batch needs its rows (`LazyColumn`).
Out: a `Source`: how its columns reach ``forward``, how many rows there are, and the rows in chunks.
     A mask or lengths that the caller gives travel beside the rows.
"""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from inspect import Parameter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from stackfeat.errors import UsageError
from stackfeat.layers.activations.masks import USER_LENGTHS, USER_MASK, says_padding
from stackfeat.layers.extraction.arguments import (
    Names,
    Packed,
    checked_constants,
    pack,
    positional_names,
)
from stackfeat.layers.extraction.files import open_arrays
from stackfeat.layers.taps.signature import forward_parameters, takes_array
from stackfeat.layers.taps.values import walk_into
from stackfeat.registry.resolve import suggest

Columns = list[Tensor]
NEARLY = 0.85
"""How much a name is like that of an argument where it is that argument misspelt."""
PIECE_ROWS = 4096
RANDOM_SAMPLERS = (
    torch.utils.data.RandomSampler,
    torch.utils.data.SubsetRandomSampler,
    torch.utils.data.WeightedRandomSampler,
)
LAZY = ("shape", "dtype", "__len__", "__getitem__")


def is_lazy(array: object) -> bool:
    """Say whether rows of `array` are to be read one batch after the other."""
    if isinstance(array, np.ndarray):
        return isinstance(array, np.memmap)
    return not isinstance(array, Tensor) and all(hasattr(array, name) for name in LAZY)


@dataclass(frozen=True, eq=False)
class LazyColumn:
    """Some rows of a memmap or its like, as a tensor that does not exist yet.

    Parameters
    ----------
    source : object
        See the head of this file.
    rows : ndarray of int64, optional
        Which rows of it, in this order; all by default.
    """

    source: Any
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    @property
    def ndim(self) -> int:
        return len(self.source.shape)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read rows: floats and booleans as float32, integers as int64."""
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows.cpu().numpy()
        return to_tensor(self.source[numbers if self.rows is None else self.rows[numbers]])

    def select(self, rows: np.ndarray) -> LazyColumn:
        """Return some of the rows, unread."""
        return LazyColumn(self.source, rows if self.rows is None else self.rows[rows])


def select(array: Any, rows: np.ndarray) -> Any:
    """Return rows of an array; of a lazy one without reading them."""
    if isinstance(array, LazyColumn):
        return array.select(rows)
    return LazyColumn(array, rows) if is_lazy(array) else array[rows]


Column = Tensor | LazyColumn


def to_column(array: Any) -> Column:
    """Return an array as a tensor; a lazy one unread."""
    if isinstance(array, LazyColumn):
        return array
    return LazyColumn(array) if is_lazy(array) else to_tensor(array)


def to_tensor(array: np.ndarray) -> Tensor:
    """Return floats and booleans as float32, integers as int64; complex numbers are refused."""
    if np.iscomplexobj(array):
        raise UsageError(
            f"inputs must be real numbers; got {array.dtype}; give real and imaginary parts as columns"
        )
    dtype: Any = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
    values = np.ascontiguousarray(array, dtype=dtype)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


@dataclass(frozen=True)
class LoaderSource:
    """A DataLoader, or a Dataset read through one.

    Attributes
    ----------
    names : Names
    keys : tuple
        Which part of a batch each column is; None: the batch itself.
    first : object
        The first batch.
    n_rows : int or None
        None where only reading to the end can tell.
    loader, dataset
        One of them.
    padding : Tensor, optional
        What the caller says about the padding of every row: one more column.
    packed : Packed, optional
        How a batch is one argument of ``forward``.
    """

    names: Names
    keys: tuple[int | str | None, ...]
    first: Any
    n_rows: int | None
    loader: Any = None
    dataset: Any = None
    padding: Tensor | None = None
    packed: Packed | None = None
    open_passes: dict[int, Iterator[Columns]] = field(default_factory=dict)

    def head(self, n_rows: int) -> Columns:
        """Return a few of the first rows."""
        return [column[:n_rows] for column in next(self.read([self.first]))]

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        """Yield the rows from `start` on, `size` at a time; the last chunk may be shorter."""
        open_passes = self.open_passes.pop(start, None)
        self.open_passes.clear()
        if open_passes is not None:
            return merge(open_passes, 0, size)
        if self.dataset is not None:
            left = Subset(self.dataset, range(start, len(self.dataset)))
            return merge(self.read(DataLoader(left, batch_size=size), start), 0, size)
        return merge(self.read(self.loader), start, size)

    def first_rows(self, n_rows: int) -> Iterator[Columns]:
        """Yield the first rows; `chunks` from there on goes on with the same pass over the loader.

        A loader has to read the rows that are done in any case, only to reach the others.
        """
        batches, n_left = self.read(self.loader), n_rows
        rest: list[Columns] = []
        while n_left:
            columns = next(batches, None)
            if columns is None:
                return
            yield [column[:n_left] for column in columns]
            rest = [[column[n_left:] for column in columns]] if len(columns[0]) > n_left else []
            n_left -= min(n_left, len(columns[0]))
        self.open_passes[n_rows] = chain(rest, batches)

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        """Return some rows, or None where reading all of them in order is the only way."""
        if self.dataset is None:
            return None
        some = DataLoader(Subset(self.dataset, list(rows)), batch_size=len(rows))
        padding = [] if self.padding is None else [self.padding[list(rows)]]
        return [*self.columns_of(next(iter(some))), *padding]

    def spread(self, n_rows: int) -> Columns:
        """Return some rows from everywhere; of a loader the first ones, as others are reached through all before."""
        some = None
        if self.dataset is not None:
            with suppress(RuntimeError):  # items of several shapes make no batch
                some = self.pick_rows(spread_evenly(len(self.dataset), n_rows).tolist())
        return self.head(n_rows) if some is None else some

    def read(self, batches: Any, start: int = 0) -> Iterator[Columns]:
        """Yield the columns of batches, the first of which begins with row `start`."""
        for batch in batches:
            columns = self.columns_of(batch)
            stop = start + len(columns[0])
            if self.padding is not None:
                if stop > len(self.padding):
                    name = str(self.names[-1])[1:-1]
                    raise UsageError(
                        f"{name} must have a row per sample; got {len(self.padding)} rows, and the loader gave "
                        f"{stop} and more; make it as long as the inputs"
                    )
                columns.append(self.padding[start:stop])
            yield columns
            start = stop

    def columns_of(self, batch: Any) -> Columns:
        if self.packed is not None:
            return [batch_column(walk_into(batch, path, "a batch")) for path in self.packed.paths]
        return [batch_column(batch if key is None else batch[key]) for key in self.keys]


def merge(batches: Iterator[Columns], n_skipped: int, size: int) -> Iterator[Columns]:
    """Cut batches anew into `size` rows; batches of another row shape are not merged."""
    waiting: list[Columns] = []
    for batch in batches:
        n_here = len(batch[0])
        if n_skipped >= n_here:
            n_skipped -= n_here
            continue
        columns, n_skipped = [column[n_skipped:] for column in batch], 0
        if waiting and any(a.shape[1:] != b.shape[1:] for a, b in zip(waiting[0], columns, strict=True)):
            yield join(waiting)
            waiting = []
        waiting.append(columns)
        if sum(len(part[0]) for part in waiting) >= size:
            joined = join(waiting)
            n_whole = len(joined[0]) // size * size
            for first in range(0, n_whole, size):
                yield [column[first : first + size] for column in joined]
            rest = [column[n_whole:] for column in joined]
            waiting = [rest] if len(rest[0]) else []
    if waiting:
        yield join(waiting)


def join(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def batch_column(value: Any) -> Tensor:
    value = dense(value)
    if isinstance(value, Tensor) and not value.is_nested and value.ndim:
        return value.detach()
    if isinstance(value, np.ndarray) and value.ndim:
        return native_copy(value)
    raise UsageError(
        f"a batch must hold tensors with a row per sample; got {type(value).__name__}; "
        "give the DataLoader a collate_fn that returns tensors"
    )


@dataclass(frozen=True)
class ArraySource:
    """Arrays and tensors in memory or on disk, sliced without a copy where that is safe."""

    names: Names
    arrays: tuple[np.ndarray | Column, ...]
    packed: Packed | None = None

    @property
    def n_rows(self) -> int:
        return len(self.arrays[0])

    def head(self, n_rows: int) -> Columns:
        return self.cut(0, n_rows)

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        for first in range(start, self.n_rows, size):
            yield self.cut(first, size)

    def first_rows(self, n_rows: int) -> Iterator[Columns]:
        for first in range(0, n_rows, PIECE_ROWS):
            yield self.cut(first, min(PIECE_ROWS, n_rows - first))

    def spread(self, n_rows: int) -> Columns:
        """Return some rows from everywhere."""
        rows = spread_evenly(self.n_rows, n_rows)
        return [
            native_copy(array[rows]) if isinstance(array, np.ndarray) else array[torch.from_numpy(rows)]
            for array in self.arrays
        ]

    def pick_rows(self, rows: Sequence[int]) -> None:
        """Return None: reading all rows in order is as cheap."""

    def cut(self, first: int, size: int) -> Columns:
        return [rows_of(array, first, size) for array in self.arrays]


Source = ArraySource | LoaderSource


def spread_evenly(n_rows: int, n_wanted: int) -> np.ndarray:
    """Return numbers of rows, the first and the last among them, in order; fewer where there are fewer."""
    return np.unique(np.linspace(0, max(n_rows - 1, 0), n_wanted).round().astype(np.int64))[:n_rows]


def rows_of(array: np.ndarray | Column, first: int, size: int) -> Tensor:
    """Return neighbouring rows; pages of a mapped file are given back, so that memory stays constant."""
    if not isinstance(array, np.ndarray):
        return array[first : first + size]
    rows = native_copy(array[first : first + size])
    if isinstance(array, np.memmap) and array.mode == "r" and first // size % 64 == 63:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
    return rows


def native_copy(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(rows, dtype=rows.dtype.newbyteorder("="), order="C"))


def open_inputs(
    model: nn.Module,
    inputs: Any,
    mask: Any = None,
    lengths: Any = None,
    constants: Mapping[str, Any] | None = None,
    *,
    unpack: bool = True,
) -> Source:
    """Return `inputs` as a source, with a mask or lengths beside its columns.

    `constants` take arguments of ``forward`` that inputs do not; without `unpack` a dict, list or tuple is one
    argument.

    Raises
    ------
    UsageError
        If rows cannot be told from it, or its parts do not fit ``forward``; if mask and lengths are both
        given, or have another shape or other values than they must have.
    """
    known = checked_constants(
        model, constants, list(inputs) if isinstance(inputs, Mapping) and unpack else ()
    )
    source = plain_source(model, inputs, known) if unpack else packed_source(model, inputs, known)
    if mask is None and lengths is None:
        return source
    if mask is not None and lengths is not None:
        raise UsageError("mask and lengths say the same thing; got both; give one of them")
    name, padding = (
        (USER_MASK, checked_mask(mask)) if mask is not None else (USER_LENGTHS, checked_lengths(lengths))
    )
    if source.n_rows is not None and len(padding) != source.n_rows:
        raise UsageError(
            f"{name[1:-1]} must have a row per sample; got {len(padding)} rows for {source.n_rows} of the inputs; "
            "make it as long as the inputs"
        )
    if isinstance(source, ArraySource):
        return replace(source, names=(*source.names, name), arrays=(*source.arrays, padding))
    return replace(source, names=(*source.names, name), padding=padding)


def packed_source(model: nn.Module, inputs: Any, constants: Mapping[str, Any]) -> Source:
    """Return a source whose dict, list or tuple, or whose whole batch, is one argument of ``forward``."""
    if isinstance(inputs, str | Path):
        inputs = open_arrays(Path(inputs))
    if isinstance(inputs, TensorDataset):
        inputs = inputs.tensors
    packed: Packed | None
    if isinstance(inputs, Dataset | DataLoader):
        source = batched_source(inputs)
        packed = pack(source.first, is_batch=True)
        if packed is not None:
            return replace(source, names=packed.names, packed=packed)
    elif (packed := pack(inputs)) is not None:
        arrays = [walk_into(packed.example, path, "the inputs") for path in packed.paths]
        return replace(array_source(packed.names, arrays), packed=packed)
    return plain_source(model, inputs, constants)


def plain_source(model: nn.Module, inputs: Any, constants: Mapping[str, Any]) -> Source:
    if isinstance(inputs, str | Path):
        inputs = open_arrays(Path(inputs))
        if isinstance(inputs, dict) and not set(inputs) & set(arguments(model)[0]) and len(inputs) == 1:
            inputs = next(iter(inputs.values()))
    if isinstance(inputs, TensorDataset):
        names = choose_parts(model, inputs.tensors, constants)[1]
        return array_source(names, list(inputs.tensors[: len(names)]))
    if isinstance(inputs, Dataset | DataLoader):
        source = batched_source(inputs)
        keys, names = choose_parts(model, source.first, constants)
        return replace(source, names=names, keys=keys)
    if isinstance(inputs, Mapping):
        check_names(model, list(inputs))
        return array_source(tuple(inputs), list(inputs.values()))
    values = list(inputs) if isinstance(inputs, tuple) else [inputs]
    return array_source(positional_names(model, len(values), constants), values)


def array_source(names: Names, values: list[Any]) -> ArraySource:
    arrays = [shared(to_array(value)) for value in values]
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        shapes = ", ".join(str(tuple(array.shape)) for array in arrays) or "none"
        raise UsageError(f"inputs must have equally many rows; got shapes {shapes}; give a row per sample")
    return ArraySource(names, tuple(arrays))


def shared(array: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Return an array as a tensor on the same memory, or as it is where each chunk must be copied."""
    if isinstance(array, Tensor) or min(array.strides) < 0 or not array.dtype.isnative:
        return array
    # A layer that works in place on its input must not reach memory that is mapped or read-only.
    is_ours = array.flags.writeable and not isinstance(array, np.memmap)
    return torch.from_numpy(array) if is_ours else array


def dense(value: Any) -> Any:
    """Return a value as it is.

    Raises
    ------
    UsageError
        If it is sparse: rows of it cannot be cut, and layers rarely take it.
    """
    layout = getattr(value, "layout", torch.strided) if isinstance(value, Tensor) else torch.strided
    if layout != torch.strided:
        got, remedy = str(layout), "to_dense()"
    elif type(value).__module__.startswith("scipy.sparse"):
        got, remedy = f"scipy.sparse {type(value).__name__}", "toarray()"
    else:
        return value
    raise UsageError(
        f"inputs must be dense, so that rows can be cut; got a sparse one ({got}); give it with .{remedy}"
    )


def to_array(value: Any) -> np.ndarray | Tensor:
    value = dense(value)
    if isinstance(value, Tensor) and not value.is_nested and value.ndim:
        return value.detach()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "fiub":
        return value
    kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise UsageError(
        f"inputs must be arrays or tensors of numbers with a row per sample; got {kind}; give an array, a tensor, "
        "a tuple (positional) or dict (keyword) of them, a Dataset or a DataLoader; what is the same for all rows "
        "belongs in constants={'argument': value}, and a dict or list that is one argument needs unpack=False"
    )


def batched_source(inputs: Any) -> LoaderSource:
    """Return a Dataset or DataLoader as a source that knows no arguments yet."""
    if isinstance(inputs, DataLoader):
        return loader_source(inputs)
    if isinstance(inputs, IterableDataset):
        return loader_source(DataLoader(inputs, batch_size=64))
    if len(inputs) == 0:
        raise UsageError("a Dataset must have rows; got 0; give an array of shape (0, ...) for none")
    first = next(iter(DataLoader(Subset(inputs, [0]))))
    return LoaderSource((), (), first, len(inputs), dataset=inputs)


def loader_source(loader: Any) -> LoaderSource:
    """Read through the user's loader; an order that cannot be repeated is refused.

    Raises
    ------
    UsageError
        If it shuffles, drops rows or gives none.
    """
    sampler = getattr(loader, "sampler", None)
    is_stream = isinstance(loader.dataset, IterableDataset)
    n_rows = len(sampler) if not is_stream and loader.batch_size is not None and sampler is not None else None
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", sampler)
    drawn = next((s for s in (sampler, inner) if isinstance(s, RANDOM_SAMPLERS)), None)
    if not is_stream and drawn is not None:
        raise UsageError(
            "a DataLoader must keep the order of rows, or features belong to nobody; got shuffle=True or a sampler "
            f"that draws ({type(drawn).__name__}); make it with shuffle=False"
        )
    if n_rows is not None and loader.drop_last and n_rows % loader.batch_size:
        raise UsageError(
            f"a DataLoader must give all rows; got drop_last=True, which loses {n_rows % loader.batch_size}; "
            "make it with drop_last=False"
        )
    first = next(iter(loader), None)
    if first is None:
        raise UsageError("a DataLoader must give rows; got none; look at its dataset")
    return LoaderSource((), (), first, n_rows, loader=loader)


def choose_parts(
    model: nn.Module, batch: Any, constants: Mapping[str, Any]
) -> tuple[tuple[int | str | None, ...], Names]:
    """Say which parts of a batch are for ``forward``: a target behind the inputs is left out."""
    names, n_required, takes_any_position, takes_any_name = arguments(model, constants)
    if isinstance(batch, Mapping):
        keys = [key for key in batch if takes_any_name or key in names]
        if takes_any_name or not keys:
            check_names(model, list(batch))
        return tuple(keys), tuple(keys)
    if not isinstance(batch, tuple | list):
        return (None,), positional_names(model, 1, constants)
    n_used = len(batch) if takes_any_position else min(len(batch), max(n_required, 1))
    return tuple(range(n_used)), positional_names(model, n_used, constants)


def arguments(model: nn.Module, but: Collection[str] = ()) -> tuple[list[str], int, bool, bool]:
    """Return the names ``forward`` takes, how many it must have, and whether ``*args`` and ``**kwargs``.

    Those in `but` are left out.
    """
    parameters = forward_parameters(model)
    kinds = {parameter.kind for parameter in parameters}
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in but]
    n_required = sum(p.default is p.empty and p.kind is not p.KEYWORD_ONLY for p in named)
    return (
        [p.name for p in named],
        n_required,
        Parameter.VAR_POSITIONAL in kinds,
        Parameter.VAR_KEYWORD in kinds,
    )


def check_names(model: nn.Module, given: list[str]) -> None:
    """Refuse names that ``forward`` does not have, and those that only its ``**kwargs`` would swallow.

    Raises
    ------
    UsageError
        If a name is none of its arguments and there is no ``**kwargs``; if there is, where a name is nearly that of
        an argument, or no argument that may be an array gets anything.
    """
    names, _, _, takes_any_name = arguments(model)
    wrong = [name for name in given if name not in names]
    free = [p.name for p in forward_parameters(model) if p.name not in given and takes_array(p)]
    misspelt = [name for name in wrong if difflib.get_close_matches(name, free, cutoff=NEARLY)]
    is_lost = len(wrong) == len(given) and any(not says_padding(name) for name in free)
    if wrong and takes_any_name and (misspelt or is_lost):
        name = (misspelt or wrong)[0]
        raise UsageError(
            f"named inputs must reach the arguments of {type(model).__name__}.forward ({', '.join(names)}); got "
            f"{name!r}, which only **kwargs would take.{suggest(name, free)} Rename it, or give a tuple"
        )
    if wrong and not takes_any_name:
        raise UsageError(
            f"named inputs must be arguments of {type(model).__name__}.forward ({', '.join(names)}); "
            f"got {wrong[0]!r}.{suggest(str(wrong[0]), names)} Rename it, or give a tuple, or unpack=False if the "
            "dict is one argument"
        )


def checked_mask(mask: Any) -> Tensor:
    values = torch.as_tensor(to_array(mask))
    if values.ndim not in (2, 3):
        raise UsageError(
            "mask must have the shape (n_rows, n_steps), or (n_rows, n_choices, n_steps) for a net that folds "
            f"choices into its rows; got shape={tuple(values.shape)}; give True where a step is real"
        )
    if not ((values == 0) | (values == 1)).all():
        raise UsageError(
            f"mask must hold True where a step is real, or 1 and 0; got values from {values.min().item():g} to "
            f"{values.max().item():g}; of a mask that is added to attention scores give mask == 0"
        )
    return values.bool()


def checked_lengths(lengths: Any) -> Tensor:
    values = torch.as_tensor(to_array(lengths))
    if values.ndim != 1 or values.is_floating_point() or values.dtype == torch.bool:
        raise UsageError(
            f"lengths must be whole numbers of shape (n_rows,); got shape={tuple(values.shape)}, dtype="
            f"{str(values.dtype).removeprefix('torch.')}; give the number of real steps of each row"
        )
    if len(values) and int(values.min()) < 0:
        raise UsageError(
            f"lengths must be 0 or more; got {int(values.min())}; count the real steps of each row"
        )
    return values.to(torch.int64)
