"""How rows become the arguments of ``forward``, beside arguments that are the same for all rows.

In:  names of arguments, columns; constants; a dict or list that is one argument.
Out: positional and named arguments. Constants travel as `Constant`, in which nobody looks for rows, and arrive at the
     net as they were given.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.layers.taps.signature import BY_POSITION, forward_parameters
from stackfeat.layers.taps.values import (
    Arguments,
    Path,
    for_autograd,
    map_tensors,
    named_parts,
    replaced,
    walk_into,
)
from stackfeat.registry.resolve import suggest

Names = tuple[str | None, ...]
"""For each column the argument of ``forward`` it goes to; None: the next positional one."""
PLAIN = (bool, int, float, str, type(None))


class Constant:
    """An argument that is the same for all rows; no dataclass, whose fields would be looked into."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(frozen=True, eq=False)
class Packed:
    """A dict or list that is one argument of ``forward``.

    Attributes
    ----------
    example : dict, list or tuple
        As it was given, or of the first batch.
    paths : tuple of path
        Where its columns are.
    """

    example: Any
    paths: tuple[Path, ...]

    def filled(self, columns: Sequence[Tensor]) -> Any:
        """Return the same structure around other rows."""
        whole = self.example
        for path, column in zip(self.paths, columns, strict=True):
            whole = replaced(whole, path, column)
        return whole

    @property
    def plain(self) -> list[tuple[Path, Any]]:
        """What is in it beside the columns."""
        return [(path, leaf) for path, leaf in all_leaves(self.example) if path not in self.paths]

    @property
    def names(self) -> Names:
        """What the columns are called."""
        return tuple("".join(f"[{key}]" for key in path) for path in self.paths)


def pack(value: Any, *, is_batch: bool = False) -> Packed | None:
    """Return a dict or list as one argument; None for an array, which is one in any case.

    Raises
    ------
    UsageError
        If it holds no arrays, or something that may differ from row to row and is no array.
    """
    if is_array(value):
        return None
    found = dict(all_leaves(value))
    arrays = tuple(path for path, leaf in found.items() if is_array(leaf))
    if not arrays:
        raise UsageError(
            f"with unpack=False inputs must be a dict, list or tuple with arrays in it; got {type(value).__name__} "
            "without one; give arrays or tensors with a row per sample"
        )
    for path, leaf in found.items():
        if path not in arrays and (leaf is not None if is_batch else not isinstance(leaf, PLAIN)):
            where = "".join(f"[{key}]" for key in path)
            legal = "a tensor" if is_batch else "an array, a tensor, a number or text"
            raise UsageError(
                f"what is in the inputs must be {legal}; got {type(leaf).__name__} at {where}; leave it out, or "
                "make it an array"
            )
    if not is_batch:
        check_no_rows(value, len(walk_into(value, arrays[0], "the inputs")))
    return Packed(value, arrays)


def check_no_rows(value: Any, n_rows: int, path: Path = ()) -> None:
    """Refuse a list of numbers or texts as long as the rows: it is hardly meant for all of them."""
    parts = [] if is_array(value) else named_parts(value)
    if len(parts) == n_rows > 1 and all(isinstance(part, PLAIN) for _, part in parts):
        raise UsageError(
            f"rows must be in arrays; got a {type(value).__name__} of {n_rows} values at "
            f"{''.join(f'[{key}]' for key in path)}, as many as there are rows; give numpy.array(...) of it"
        )
    for key, part in parts:
        check_no_rows(part, n_rows, (*path, key))


def all_leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    parts = [] if is_array(value) else named_parts(value)
    if not parts and path:
        yield path, value
    for key, part in parts:
        yield from all_leaves(part, (*path, key))


def is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or hasattr(value, "to_numpy")


def checked_constants(model: nn.Module, constants: Any, used: Sequence[str | None] = ()) -> dict[str, Any]:
    """Return the arguments that are the same for all rows.

    Raises
    ------
    UsageError
        If one is no argument of ``forward``, or is given by row too.
    """
    if constants is None:
        return {}
    if not isinstance(constants, Mapping):
        raise UsageError(
            f"constants must be a dict from the name of an argument to its value; got {type(constants).__name__}; "
            "write constants={'scale': 5}"
        )
    parameters = forward_parameters(model)
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in constants:
        if name in used:
            raise UsageError(
                f"an argument must be given by row or for all rows; got {name!r} in the inputs and in constants; "
                "leave one away"
            )
        if name not in names and not takes_any:
            raise UsageError(
                f"constants must be arguments of {type(model).__name__}.forward ({', '.join(names)}); "
                f"got {name!r}.{suggest(str(name), names)}"
            )
    return dict(constants)


def positional_names(model: nn.Module, n_columns: int, constants: Mapping[str, Any]) -> Names:
    """Return where columns by position go: past the arguments that constants take."""
    if not constants:
        return (None,) * n_columns
    free = [p for p in forward_parameters(model) if p.kind in BY_POSITION and p.name not in constants]
    named = [None if p.kind is p.POSITIONAL_ONLY else p.name for p in free[:n_columns]]
    if len(named) < n_columns:
        raise UsageError(
            f"{type(model).__name__}.forward must have an argument for each input beside the constants "
            f"({', '.join(constants)}); got {n_columns} inputs for {len(named)} arguments; leave some away, or give "
            "a dict from argument to rows"
        )
    return tuple(named)


def bind(
    names: Names, columns: Sequence[Tensor], packed: Packed | None, constants: Mapping[str, Constant]
) -> Arguments:
    """Return the arguments of a call."""
    n_packed = 0 if packed is None else len(packed.paths)
    pairs = list(zip(names, columns, strict=True))[n_packed:]
    args = () if packed is None else (packed.filled(columns[:n_packed]),)
    positional = tuple(value for name, value in pairs if name is None)
    return (*args, *positional), {name: value for name, value in pairs if name is not None} | dict(constants)


def placed(constants: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Constant]:
    """Return constants as the net takes them: tensors on its device, floats of its kind."""

    def move(value: Tensor) -> Tensor:
        return value.detach().to(device, dtype if value.is_floating_point() else value.dtype)

    return {
        name: Constant(map_tensors(move, value)) for name, value in for_autograd((), constants)[1].items()
    }


@contextmanager
def constants_arrive(model: nn.Module) -> Iterator[None]:
    """Give the net itself what is in each `Constant`: a copy, as it may overwrite it."""

    def open_constants(_model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not any(isinstance(value, Constant) for value in kwargs.values()):
            return None
        return args, {
            name: map_tensors(torch.clone, value.value) if isinstance(value, Constant) else value
            for name, value in kwargs.items()
        }

    with model.register_forward_pre_hook(open_constants, with_kwargs=True, prepend=True):
        yield


def constants_key(constants: Mapping[str, Any]) -> Hashable | None:
    """Return what tells constants apart, or None where only their values in memory do."""
    is_plain = all(isinstance(value, PLAIN) for value in constants.values())
    return tuple((name, type(v).__name__, v) for name, v in constants.items()) if is_plain else None


def constants_text(value: Any) -> Any:
    """Describe constants for the record of a run: tensors and arrays by their bytes.

    An object of another kind is like no other: what was written with it cannot be gone on with.
    """
    if isinstance(value, PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, Tensor | np.ndarray):
        array = (
            value.detach().cpu().contiguous() if isinstance(value, Tensor) else np.ascontiguousarray(value)
        )
        data = array.view(torch.uint8).numpy().tobytes() if isinstance(array, Tensor) and array.ndim else None
        data = data if data is not None else np.asarray(array).tobytes()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(data).hexdigest()}"
    if isinstance(value, Mapping | list | tuple):
        return [type(value).__name__, *([str(key), constants_text(part)] for key, part in named_parts(value))]
    return f"{type(value).__name__} {uuid.uuid4().hex}"
