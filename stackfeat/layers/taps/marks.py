"""Name a value inside a forward pass, so that taps can read it.

In:  a name and a value, wherever a net computes something that is no layer of its own.
Out: the value, unchanged; while a net is tapped, what the tap wants.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

Value = TypeVar("Value")
MAX_DEPTH = 3
LIBRARIES = frozenset({"numpy", "pandas", "scipy", "sklearn", "torch"})
"""Packages whose functions are not looked into: no net of anyone's marks values there."""


class Running(threading.local):
    """What runs in this thread.

    Attributes
    ----------
    listeners : list of callable
        The sessions whose nets are running: each gets a mark's value as the one before returned it.
    n_readers : int
        How many readers of our own run nets, each called by the one before.
    """

    def __init__(self) -> None:
        self.listeners: list[Callable[[str, Any], Any]] = []
        self.n_readers = 0


RUNNING = Running()


def mark(name: str, value: Value) -> Value:
    """Return `value`, and let taps read it under `name`.

    Parameters
    ----------
    name : str
        What a tap calls it: ``tapped(model, ["gate"])``.
    value : anything
        A tensor, or a tuple, list, dict or dataclass of tensors.

    Returns
    -------
    value
        The same object, unless `stackfeat.edited` puts another in its place. Nothing else happens unless the net is
        tapped; compiled code skips it.

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def forward(self, x):
    ...         return mark("squared", x**2).sum(1)
    >>> from stackfeat.layers.taps.hooks import tapped
    >>> net = Net()
    >>> with tapped(net, ["squared"]) as caught:
    ...     _ = net(torch.ones(2, 3))
    >>> caught["squared"].shape
    torch.Size([2, 3])
    """
    if not torch.compiler.is_compiling():
        for listener in RUNNING.listeners:
            value = listener(name, value)
    return value


def mentions_mark(model: nn.Module) -> bool:
    """Whether the code of a net, or functions that it calls by name, uses `mark`."""
    seen: set[CodeType] = set()
    kinds = {cls for module in model.modules() for cls in type(module).__mro__}
    held = (value for module in model.modules() for value in vars(module).values())
    return any(uses_mark(function, seen, 0) for part in (*kinds, *held) for function in functions_of(part))


def functions_of(value: Any) -> Iterator[FunctionType]:
    """Yield the functions behind something that may be called: methods of a class, what a partial holds."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, MethodType | staticmethod | classmethod):
        yield from functions_of(value.__func__)
    elif isinstance(value, functools.partial):
        yield from functions_of(value.func)
    elif isinstance(value, property):
        yield from functions_of(value.fget)
    elif isinstance(value, type):
        if not is_library(value):
            for own in vars(value).values():
                if not isinstance(own, type):
                    yield from functions_of(own)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from functions_of(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from functions_of(part)


def uses_mark(function: FunctionType, seen: set[CodeType], depth: int) -> bool:
    """Whether a function, or one it calls by name, uses `mark`."""
    original = inspect.unwrap(function)  # behind decorators such as torch.no_grad() and torch.compile
    if original is not function and isinstance(original, FunctionType) and uses_mark(original, seen, depth):
        return True
    if function.__code__ in seen or is_library(function):
        return False
    seen.add(function.__code__)
    names = set(names_used(function.__code__))
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    values += [cell.cell_contents for cell in function.__closure__ or () if is_filled(cell)]
    # helpers.gate(x): the name belongs to a module
    values += [
        vars(value)[n] for value in values if isinstance(value, ModuleType) for n in names & set(vars(value))
    ]
    if "mark" in names or any(value is mark for value in values):
        return True
    called = (part for value in values for part in functions_of(value))
    return depth < MAX_DEPTH and any(uses_mark(part, seen, depth + 1) for part in called)


def is_library(value: Any) -> bool:
    return (value.__module__ or "").partition(".")[0] in LIBRARIES


def is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False  # a name that has no value yet


def names_used(code: CodeType) -> Iterator[str]:
    """Yield the global and attribute names in a function's code, inner functions included."""
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_used(constant)
