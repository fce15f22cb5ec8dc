"""Name a value inside a forward pass, so that taps can read it.

In:  a name and a value, wherever a net computes something that is no layer of its own.
Out: the value, unchanged; while a net is tapped, what the tap wants.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

Value = TypeVar("Value")
MAX_DEPTH = 3


class Listener(Protocol):
    """What wants to hear of marks: a reading whose net is running."""

    def hear(self, name: str, value: Any) -> None: ...


class Running(threading.local):
    """The readings whose nets are running in this thread, outermost first."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []


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
        The same object. Nothing else happens unless the net is tapped; compiled code skips it.

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def forward(self, x):
    ...         return mark("squared", x**2).sum(1)
    >>> from stackfeat.nets.taps import tapped
    >>> net = Net()
    >>> with tapped(net, ["squared"]) as caught:
    ...     _ = net(torch.ones(2, 3))
    >>> caught["squared"].shape
    torch.Size([2, 3])
    """
    if not torch.compiler.is_compiling():
        for listener in RUNNING.listeners:
            listener.hear(name, value)
    return value


def mentions_mark(model: nn.Module) -> bool:
    """Whether the code of a net, or functions of its file that it calls, uses `mark`."""
    seen: set[CodeType] = set()
    functions = [
        function
        for kind in {cls for module in model.modules() for cls in type(module).__mro__}
        if not kind.__module__.startswith("torch.")
        for function in vars(kind).values()
        if isinstance(function, FunctionType)
    ]
    functions += [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, FunctionType)
    ]
    return any(uses_mark(function, seen, 0) for function in functions)


def uses_mark(function: FunctionType, seen: set[CodeType], depth: int) -> bool:
    """Whether a function, or one it calls by name, uses `mark`."""
    original = inspect.unwrap(function)  # behind decorators such as torch.no_grad()
    if original is not function and isinstance(original, FunctionType) and uses_mark(original, seen, depth):
        return True
    if function.__code__ in seen or (function.__module__ or "").startswith("torch."):
        return False
    seen.add(function.__code__)
    for name in names_used(function.__code__):
        value = function.__globals__.get(name)
        if name == "mark" or value is mark:
            return True
        if depth < MAX_DEPTH and isinstance(value, FunctionType) and uses_mark(value, seen, depth + 1):
            return True
    return False


def names_used(code: CodeType) -> Iterator[str]:
    """Yield the global and attribute names in a function's code, inner functions included."""
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_used(constant)
