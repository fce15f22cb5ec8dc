"""Find a tensor in what a layer is given or returns, or put another in its place.

In:  tensors, tuples, lists, dicts, dataclasses, nested and packed sequences, in any nesting.
Out: plain tensors with a row per sample, and how long each row is where that is known; or the same structure around
     another value.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from stackfeat.errors import TapError

Leaf = Tensor | PackedSequence

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

Path = tuple[int | str, ...]


def leaves(value: Any) -> Iterator[Leaf]:
    """Yield every tensor and packed sequence inside `value`, in order."""
    if isinstance(value, Tensor | PackedSequence):
        yield value
    else:
        for part in parts(value):
            yield from leaves(part)


def parts(value: Any) -> list[Any]:
    """Return the values of a container in order; nothing for anything else."""
    return [part for _, part in named_parts(value)]


def named_parts(value: Any) -> list[tuple[Any, Any]]:
    """Return the values of a container in order, each with its position, key or field."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return []


def leaf_paths(value: Any, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Yield every tensor and packed sequence inside `value` with the path that leads there, in order."""
    if isinstance(value, Tensor | PackedSequence):
        yield path, value
        return
    for place, (name, part) in enumerate(named_parts(value)):
        yield from leaf_paths(part, (*path, name if isinstance(name, int | str) else place))


def first_tensor(value: Any) -> Any:
    """Return the first tensor in a tensor, tuple, list, dict or dataclass, or None."""
    return next(all_tensors(value), None)


def all_tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor inside `value`, those of packed sequences too."""
    return (leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in leaves(value))


def pick(value: Any, path: Path, where: str) -> Leaf:
    """Return what `path` means inside `value`; the first tensor there.

    Raises
    ------
    TapError
        If there is no tensor there. `where` says in words what `value` is.
    """
    if not path and isinstance(value, Tensor):
        return value
    picked = walk_into(value, path, where)
    leaf = next(leaves(picked), None)
    if leaf is None:
        raise TapError(
            f"{where} must hold a tensor{''.join(f'[{key}]' for key in path) and ' at the item'}; got "
            f"{describe(picked)}{f' in {describe(value)}' if path else ''}; choose an [item] that is a tensor"
        )
    return leaf


def walk_into(value: Any, path: Path, where: str) -> Any:
    """Return what lies at `path` inside `value`.

    Raises
    ------
    TapError
        If the path leads nowhere. `where` says in words what `value` is.
    """
    for key in path:
        try:
            value = step_into(value, key)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise TapError(
                f"[{key}] must exist in {where}; got {describe(value)}; correct the tap's [item]"
            ) from error
    return value


def step_into(value: Any, key: int | str) -> Any:
    """Return one value of a tuple, list, dict or dataclass, by position, key or attribute."""
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        if str(key) in value:
            return value[str(key)]
        return list(value.values())[key] if isinstance(key, int) else value[key]
    if isinstance(key, str):
        return getattr(value, key)
    if is_dataclass(value):
        return parts(value)[key]
    if isinstance(value, list | tuple) and not isinstance(value, PackedSequence):
        return value[key]
    raise TypeError(f"{type(value).__name__} has no items")


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of `value` that holds `new` at `path`; what lies beside it is the same."""
    if not path:
        return new
    key, changed = path[0], replaced(step_into(value, path[0]), path[1:], new)
    if isinstance(value, tuple) and hasattr(value, "_replace"):  # a namedtuple
        pair: Any = value
        return pair._replace(**{key if isinstance(key, str) else pair._fields[key]: changed})
    if isinstance(value, list | tuple):
        items = list(value)
        # A name in a tuple of torch's, such as that of torch.max, which has no `_replace`.
        place = key if isinstance(key, int) else [item is step_into(value, key) for item in items].index(True)
        items[place] = changed
        return type(value)(items)
    whole: Any = copy.copy(value)
    if isinstance(value, Mapping):
        whole[key if key in value else str(key) if str(key) in value else list(value)[int(key)]] = changed
    else:
        name = key if isinstance(key, str) else fields(value)[key].name
        object.__setattr__(whole, name, changed)
    return whole


def pick_argument(forward: Callable[..., Any] | None, inputs: Arguments, path: Path, where: str) -> Leaf:
    """Return one argument of a call: by position or name, however it was passed; by default the first tensor.

    Functions of torch, which do not tell the names of their arguments, have no `forward`.
    """
    args, kwargs = inputs
    if not path:
        return args[0] if args and isinstance(args[0], Tensor) else pick((*args, kwargs), (), where)
    return pick(walk_argument(forward, inputs, path[:1], where), path[1:], where)


def walk_argument(forward: Callable[..., Any] | None, inputs: Arguments, path: Path, where: str) -> Any:
    """Return what lies at `path` in the arguments of a call."""
    args = inputs[0]
    is_position = isinstance(path[0], int) and -len(args) <= path[0] < len(args)
    return walk_into(args if is_position else named_arguments(forward, inputs), path, where)


def named_arguments(forward: Callable[..., Any] | None, inputs: Arguments) -> dict[str, Any]:
    """Return the arguments of a call by their names, those without one left out."""
    args, kwargs = inputs
    if forward is None:
        return dict(kwargs)
    try:
        bound = inspect.signature(forward).bind(*args, **kwargs)
        return {**bound.arguments, **kwargs}
    except (TypeError, ValueError):
        return dict(kwargs)  # a function that takes anything: only what was passed by name has a name


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return `value` with every tensor in its dicts, lists and tuples changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(change, part) for key, part in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, PackedSequence):
        mapped = [map_tensors(change, part) for part in value]
        return type(value)(*mapped) if hasattr(value, "_fields") else type(value)(mapped)
    return value


def for_autograd(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """Return the arguments with tensors that autograd takes, also those made in inference mode."""
    with torch.inference_mode(False):
        changed: Arguments = map_tensors(lambda x: x.clone() if x.is_inference() else x, (args, dict(kwargs)))
    return changed


def describe(value: Any) -> str:
    """Say in a few words what `value` is."""
    if isinstance(value, Mapping):
        return f"a dict with keys {list(value)}"
    if isinstance(value, PackedSequence):
        return "a PackedSequence"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {[type(part).__name__ for part in value]}"
    if is_dataclass(value):
        return f"a {type(value).__name__} with fields {[field.name for field in fields(value)]}"
    return type(value).__name__


def padded(leaf: Leaf) -> tuple[Tensor, Tensor | None]:
    """Return a strided tensor, and the lengths of its rows where the leaf knows them.

    Nested tensors and packed sequences are padded with zeros: ``(n_rows, n_steps, ...)``.
    """
    if isinstance(leaf, PackedSequence):
        values, lengths = pad_packed_sequence(leaf, batch_first=True)
        return values, lengths
    if leaf.is_nested:
        sizes = torch.tensor([len(row) for row in leaf.unbind()])
        return torch.nested.to_padded_tensor(leaf, 0.0), sizes
    if leaf.is_quantized:
        return leaf.dequantize(), None
    return (leaf.to_dense() if leaf.layout != torch.strided else leaf), None


EXACT_BYTES = 2
"""Numbers of so many bytes are exact in float32, whatever their type."""
LARGEST_WHOLE = 2**24
"""Beyond it float32 cannot tell whole numbers from their neighbours."""


def as_float32(rows: Tensor, key: str) -> Tensor:
    """Return what a layer gave as float32; the digits of float64 are rounded, nothing else is lost.

    Raises
    ------
    TapError
        If real numbers are beyond float32, or whole numbers would become others; or if numbers are complex.
    """
    if rows.dtype is torch.float32:
        return rows
    if rows.is_complex():
        raise TapError(
            f"values at tap {key!r} must be real here; got {rows.dtype}; return the real parts apart"
        )
    values = rows.to(torch.float32)
    if rows.element_size() <= EXACT_BYTES or not rows.numel():
        return values
    if rows.is_floating_point():
        if bool((values.isinf() & rows.isfinite()).any()):
            largest = float(rows[rows.isfinite()].abs().max())
            raise TapError(
                f"values at tap {key!r} must fit into float32, in which features are kept; got {largest:.3g}, which "
                "is infinite there; scale them, or read the layer with sf.tapped, which keeps its kind of numbers"
            )
        return values
    largest = float(rows.to(torch.float64).abs().max())
    if largest > LARGEST_WHOLE:
        raise TapError(
            f"whole numbers at tap {key!r} must fit into float32, in which features are kept; got {largest:.0f}, "
            f"beyond 2**24 = {LARGEST_WHOLE}, where neighbours become one; they are codes rather than features: read "
            "them with sf.tapped, which keeps their kind, or tap another layer"
        )
    return values


def real_columns(values: Tensor, axis: int) -> Tensor:
    """Return complex values as real ones, twice as many along `axis`: all real parts, then all imaginary ones."""
    return torch.cat([values.real, values.imag], axis) if values.is_complex() else values


def copied(values: Tensor, *, detach: bool = True) -> Tensor:
    """Return a copy that nothing overwrites and that may enter autograd, also out of inference mode."""
    if detach and values.is_inference():
        with torch.inference_mode(False):
            return values.detach().clone()
    return values.detach().clone() if detach else values.clone()
