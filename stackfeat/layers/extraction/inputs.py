"""Inputs of any of the usual kinds, as rows that can be read in order from any row on.

In:  an array, tensor, tuple, dict, Dataset, DataLoader, or the path of an npy or npz file.
Out: a `Source`: how its columns reach ``forward``, how many rows there are, and the rows in chunks.
     A mask or lengths that the caller gives travel beside the rows.
"""

from __future__ import annotations

import inspect
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from stackfeat.errors import UsageError
from stackfeat.layers.activations.masks import GIVEN_LENGTHS, GIVEN_MASK
from stackfeat.layers.extraction.files import open_arrays
from stackfeat.layers.lazy import Column, LazyColumn
from stackfeat.registry.resolve import suggest

Columns = list[Tensor]

Names = tuple[str | None, ...]


@dataclass(frozen=True)
class LoaderSource:
    """A DataLoader, or a Dataset read through one."""

    names: Names
    keys: tuple[int | str | None, ...]
    first: Any
    n_rows: int | None
    loader: Any = None
    dataset: Any = None
    begun: dict[int, Iterator[Columns]] = field(default_factory=dict)

    def head(self, n_rows: int) -> Columns:
        return [to_column(pick(self.first, key))[:n_rows] for key in self.keys]

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        begun = self.begun.pop(start, None)
        self.begun.clear()
        if begun is not None:
            yield from merge(begun, 0, size)
        elif self.dataset is not None:
            left = torch.utils.data.Subset(self.dataset, range(start, len(self.dataset)))
            yield from merge(self.read(torch.utils.data.DataLoader(left, batch_size=size)), 0, size)
        else:
            yield from merge(self.read(self.loader), start, size)

    def again(self, n_rows: int) -> Iterator[Columns]:
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
        self.begun[n_rows] = chain(rest, batches)

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        if self.dataset is None:
            return None
        some = torch.utils.data.Subset(self.dataset, list(rows))
        return next(iter(self.read(torch.utils.data.DataLoader(some, batch_size=len(rows)))))

    def read(self, batches: Any) -> Iterator[Columns]:
        for batch in batches:
            yield [to_column(pick(batch, key)) for key in self.keys]


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


def pick(batch: Any, key: int | str | None) -> Any:
    return batch if key is None else batch[key]


def to_column(value: Any) -> Tensor:
    if isinstance(value, Tensor) and not value.is_nested and value.ndim:
        return value.detach()
    if isinstance(value, np.ndarray) and value.ndim:
        return copied(value, 0, len(value))
    raise UsageError(
        f"a batch must hold tensors with a row per sample; got {type(value).__name__}; "
        "give the DataLoader a collate_fn that returns tensors"
    )


PIECE_ROWS = 4096

RANDOM_SAMPLERS = (
    torch.utils.data.RandomSampler,
    torch.utils.data.SubsetRandomSampler,
    torch.utils.data.WeightedRandomSampler,
)


class Source(Protocol):
    """Rows for ``forward``.

    Attributes
    ----------
    names : tuple
        For each column the argument of ``forward`` it goes to; None: the next positional one.
    n_rows : int or None
        None where only reading to the end can tell.
    """

    @property
    def names(self) -> Names: ...

    @property
    def n_rows(self) -> int | None: ...

    def head(self, n_rows: int) -> Columns:
        """Return a few of the first rows."""

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        """Yield the rows from `start` on, `size` at a time; the last chunk may be shorter."""

    def again(self, n_rows: int) -> Iterator[Columns]:
        """Yield the first rows in pieces of any size, to compare them with those of an earlier call."""

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        """Return some rows, or None where reading all of them in order is as cheap or the only way."""


@dataclass(frozen=True)
class ArraySource:
    """Arrays and tensors in memory or on disk, sliced without a copy where that is safe."""

    names: Names
    arrays: tuple[np.ndarray | Column, ...]

    @property
    def n_rows(self) -> int | None:
        return len(self.arrays[0])

    def head(self, n_rows: int) -> Columns:
        return [copied(array, 0, n_rows) for array in self.arrays]

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        views = [as_tensor(array) for array in self.arrays]
        for first in range(start, len(self.arrays[0]), size):
            yield [
                copied(array, first, size) if view is None else view[first : first + size]
                for array, view in zip(self.arrays, views, strict=True)
            ]

    def again(self, n_rows: int) -> Iterator[Columns]:
        for first in range(0, n_rows, PIECE_ROWS):
            yield [copied(array, first, min(PIECE_ROWS, n_rows - first)) for array in self.arrays]

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        return None


def as_tensor(array: np.ndarray | Column) -> Tensor | None:
    """Return the array as a tensor on the same memory, or None where each chunk must be copied."""
    if isinstance(array, Tensor):
        return array.detach()
    if isinstance(array, LazyColumn):
        return None
    # A layer that works in place on its input must not reach memory that is mapped or read-only.
    if not array.flags.writeable or isinstance(array, np.memmap) or min(array.strides, default=0) < 0:
        return None
    return torch.from_numpy(array) if array.dtype.isnative else None


def copied(array: Any, first: int, size: int) -> Tensor:
    """Copy some rows; pages of a mapped file are given back, so that memory stays constant."""
    if isinstance(array, Tensor):
        return array.detach()[first : first + size].clone()
    if isinstance(array, LazyColumn):
        return array[first : first + size]
    rows = np.array(array[first : first + size], dtype=array.dtype.newbyteorder("="), order="C")
    if isinstance(array, np.memmap) and array.mode == "r" and first // size % 64 == 63:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
    return torch.from_numpy(rows)


def open_inputs(model: nn.Module, inputs: Any) -> Source:
    """Return `inputs` as a source.

    Raises
    ------
    UsageError
        If rows cannot be told from it, or its parts do not fit ``forward``.
    """
    if isinstance(inputs, str | Path):
        inputs = open_arrays(Path(inputs))
        if isinstance(inputs, dict) and not set(inputs) & set(arguments(model)[0]) and len(inputs) == 1:
            inputs = next(iter(inputs.values()))
    if isinstance(inputs, torch.utils.data.DataLoader):
        return loader_source(model, inputs)
    if isinstance(inputs, TensorDataset):
        keys, names = choose(model, inputs.tensors)
        return array_source(names, [pick(inputs.tensors, key) for key in keys])
    if isinstance(inputs, Dataset):
        return dataset_source(model, inputs)
    if isinstance(inputs, Mapping):
        check_names(model, list(inputs))
        return array_source(tuple(inputs), list(inputs.values()))
    if isinstance(inputs, tuple):
        return array_source((None,) * len(inputs), list(inputs))
    return array_source((None,), [inputs])


def array_source(names: Names, values: list[Any]) -> ArraySource:
    arrays = [to_array(value) for value in values]
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        shapes = ", ".join(str(tuple(array.shape)) for array in arrays) or "none"
        raise UsageError(f"inputs must have equally many rows; got shapes {shapes}; give a row per sample")
    return ArraySource(names, tuple(arrays))


def to_array(value: Any) -> np.ndarray | Tensor:
    if isinstance(value, Tensor) and not value.is_nested and value.ndim:
        return value
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "fiub":
        return value
    kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise UsageError(
        f"inputs must be arrays or tensors of numbers with a row per sample; got {kind}; give an array, a tensor, "
        "a tuple (positional) or dict (keyword) of them, a Dataset or a DataLoader"
    )


def dataset_source(model: nn.Module, dataset: Any) -> LoaderSource:
    if isinstance(dataset, IterableDataset):
        return loader_source(model, torch.utils.data.DataLoader(dataset, batch_size=64))
    if len(dataset) == 0:
        raise UsageError("a Dataset must have rows; got 0; give an array of shape (0, ...) for none")
    first = next(iter(torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, [0]))))
    keys, names = choose(model, first)
    return LoaderSource(names, keys, first, len(dataset), dataset=dataset)


def loader_source(model: nn.Module, loader: Any) -> LoaderSource:
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
    keys, names = choose(model, first)
    return LoaderSource(names, keys, first, n_rows, loader=loader)


def choose(model: nn.Module, batch: Any) -> tuple[tuple[int | str | None, ...], Names]:
    """Say which parts of a batch are for ``forward``: a target behind the inputs is left out."""
    names, n_required, takes_any_position, takes_any_name = arguments(model)
    if isinstance(batch, Mapping):
        keys = [key for key in batch if takes_any_name or key in names]
        if not keys:
            check_names(model, list(batch))
        return tuple(keys), tuple(keys)
    if not isinstance(batch, tuple | list):
        return (None,), (None,)
    n_used = len(batch) if takes_any_position else min(len(batch), max(n_required, 1))
    return tuple(range(n_used)), (None,) * n_used


def arguments(model: nn.Module) -> tuple[list[str], int, bool, bool]:
    """Return the names ``forward`` takes, how many it must have, and whether ``*args`` and ``**kwargs``."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return [], 1, True, True
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = [p for p in named if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]
    kinds = {p.kind for p in parameters}
    return (
        [p.name for p in named],
        len(required),
        inspect.Parameter.VAR_POSITIONAL in kinds,
        inspect.Parameter.VAR_KEYWORD in kinds,
    )


def check_names(model: nn.Module, given: list[str]) -> None:
    names, _, _, takes_any_name = arguments(model)
    wrong = [name for name in given if name not in names]
    if wrong and not takes_any_name:
        raise UsageError(
            f"named inputs must be arguments of {type(model).__name__}.forward ({', '.join(names)}); "
            f"got {wrong[0]!r}.{suggest(str(wrong[0]), names)} Rename it, or give a tuple"
        )


@dataclass(frozen=True)
class PaddedSource:
    """Rows of a loader, and what the caller says about their padding."""

    rows: Source
    name: str
    told: Tensor

    @property
    def names(self) -> Names:
        return (*self.rows.names, self.name)

    @property
    def n_rows(self) -> int | None:
        return self.rows.n_rows

    def head(self, n_rows: int) -> Columns:
        return next(self.beside(iter([self.rows.head(n_rows)]), 0))

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        return self.beside(self.rows.chunks(start, size), start)

    def again(self, n_rows: int) -> Iterator[Columns]:
        return self.beside(self.rows.again(n_rows), 0)

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        columns = self.rows.pick_rows(rows)
        return None if columns is None else [*columns, self.told[list(rows)]]

    def beside(self, chunks: Iterator[Columns], start: int) -> Iterator[Columns]:
        for columns in chunks:
            stop = start + len(columns[0])
            if stop > len(self.told):
                raise UsageError(
                    f"{self.name[1:-1]} must have a row per sample; got {len(self.told)} rows, and the loader "
                    f"gave {stop} and more; make it as long as the inputs"
                )
            yield [*columns, self.told[start:stop]]
            start = stop


def with_padding(source: Source, mask: Any = None, lengths: Any = None) -> Source:
    """Return the source with a mask or lengths beside its columns.

    Raises
    ------
    UsageError
        If both are given, or they have another shape or other values than they must have.
    """
    if mask is None and lengths is None:
        return source
    if mask is not None and lengths is not None:
        raise UsageError("mask and lengths say the same thing; got both; give one of them")
    name, told = (
        (GIVEN_MASK, checked_mask(mask)) if mask is not None else (GIVEN_LENGTHS, checked_lengths(lengths))
    )
    if source.n_rows is not None and len(told) != source.n_rows:
        raise UsageError(
            f"{name[1:-1]} must have a row per sample; got {len(told)} rows for {source.n_rows} of the inputs; "
            "make it as long as the inputs"
        )
    if isinstance(source, ArraySource):
        return replace(source, names=(*source.names, name), arrays=(*source.arrays, told))
    return PaddedSource(source, name, told)


def checked_mask(mask: Any) -> Tensor:
    values = torch.as_tensor(to_array(mask)).detach()
    if values.ndim != 2:
        raise UsageError(
            f"mask must have the shape (n_rows, n_steps); got shape={tuple(values.shape)}; "
            "give True where a step is real"
        )
    if not ((values == 0) | (values == 1)).all():
        raise UsageError(
            f"mask must hold True where a step is real, or 1 and 0; got values from {values.min().item():g} to "
            f"{values.max().item():g}; of a mask that is added to attention scores give mask == 0"
        )
    return values.bool()


def checked_lengths(lengths: Any) -> Tensor:
    values = torch.as_tensor(to_array(lengths)).detach()
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
