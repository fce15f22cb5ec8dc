"""Hear the functions of torch that a layer's forward calls itself, without tracing the net.

In:  a net, and which functions of which layers are of interest.
Out: `FunctionCalls`: while the net runs, the arguments and the result of each such call. Hooks on all layers say
     whose forward is running; a mode of torch hears every function. The net itself stays as it is.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from stackfeat.layers.taps.layers import unique_layers, unwrap
from stackfeat.layers.taps.values import Arguments, leaves

OPERATORS = {
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "invert": "bitwise_not",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
    "pos": "positive",
}
"""Torch's name for what Python calls otherwise."""
TWO_SIDED = {
    *("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("and", "or", "xor", "lshift", "rshift"),
}
"""Operators that also have a reflected and an in-place form: ``__radd__``, ``__iadd__``."""


@lru_cache(maxsize=4096)
def function_name(function: Any) -> str:
    """Return torch's name of a function: ``add`` for ``+``, in-place forms without their underscore.

    Examples
    --------
    >>> function_name(torch.Tensor.relu_), function_name(torch.Tensor.__rsub__)
    ('relu', 'sub')
    """
    name = str(getattr(function, "__name__", ""))
    if name == "__get__":  # an attribute of tensors: x.T
        name = str(getattr(function.__self__, "__name__", ""))
    name = name.partition(".")[0]  # relu.default: one form of an operator
    if operator := re.fullmatch(r"__([a-z]+)__", name):
        word = operator[1]
        if word[0] in "ri" and word[1:] in TWO_SIDED:
            word = word[1:]
        return OPERATORS.get(word, word)
    return name.rstrip("_") or name


class Listening(threading.local):
    """Who hears the functions that are called in this thread; no call counts while our own code runs."""

    def __init__(self) -> None:
        self.sessions: list[FunctionCalls] = []
        self.mode: FunctionMode | None = None
        self.n_quiet = 0


LISTENING = Listening()


class FunctionMode(TorchFunctionMode):
    """Passes every function that torch is asked for to those who listen."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if LISTENING.n_quiet:
            return func(*args, **kwargs)
        hearing = [
            (session, layer)
            for session in LISTENING.sessions
            if (layer := session.running_layer()) is not None and session.names_of(layer) is not None
        ]
        if not hearing:
            return func(*args, **kwargs)
        name = function_name(func)
        wanting = [(session, layer) for session, layer in hearing if session.wants(layer, name)]
        for session, layer in wanting:
            args, kwargs = session.before(layer, name, (args, kwargs))
        result = func(*args, **kwargs)
        if next(leaves(result), None) is None:
            return result
        for session, layer in hearing:
            session.count(layer, name)
        for session, layer in wanting:
            result = session.after(layer, name, (args, kwargs), result)
        return result


Before = Callable[[nn.Module, str, Arguments], Arguments]
After = Callable[[nn.Module, str, Arguments, Any], Any]


@dataclass(eq=False)
class Frame:
    """A layer that is called; whether its forward runs now, and not the hooks around it."""

    layer: nn.Module
    runs: bool = False


@dataclass(eq=False)
class FunctionCalls:
    """The functions that certain layers of a net call, while the net runs.

    Parameters
    ----------
    model : nn.Module
    wanted : mapping of nn.Module to names of functions, or None
        Of which layers which functions are heard; None: all of all layers.
    before, after : callable
        Get the layer, the function, its arguments (and its result), and return what goes on in their place. Only
        functions that return tensors have an ``after``.
    is_first : bool
        Whether it hears, and changes, what others hear after it.

    Attributes
    ----------
    heard : dict of nn.Module to (dict of str to int)
        How often each function was called by the layers in `wanted` that ran, since the pass began.
    """

    model: nn.Module
    wanted: Mapping[nn.Module, Collection[str]] | None
    before: Before
    after: After
    is_first: bool = False
    heard: dict[nn.Module, dict[str, int]] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)

    def attach(self, stack: ExitStack) -> None:
        """Hook all layers around the hooks that they have: functions of other hooks are nobody's own."""
        stack.callback(self.leave)
        for layer in unique_layers(unwrap(self.model)).values():
            if isinstance(layer, torch.jit.ScriptModule):
                continue
            stack.enter_context(layer.register_forward_pre_hook(self.on_call, prepend=True))
            stack.enter_context(layer.register_forward_pre_hook(self.on_begin))
            stack.enter_context(layer.register_forward_hook(self.on_end, prepend=True, always_call=True))
            stack.enter_context(layer.register_forward_hook(self.on_return, always_call=True))

    @property
    def is_listening(self) -> bool:
        """Whether functions are heard in this thread."""
        return self in LISTENING.sessions

    def listen(self) -> None:
        """Hear functions from now on, in this thread."""
        self.frames.clear()
        self.heard.clear()
        if not self.is_listening:
            LISTENING.sessions.insert(0 if self.is_first else len(LISTENING.sessions), self)
        if LISTENING.mode is None:
            LISTENING.mode = FunctionMode()
            LISTENING.mode.__enter__()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """Hear no more."""
        if not self.is_listening:
            return
        LISTENING.sessions.remove(self)
        if not LISTENING.sessions and LISTENING.mode is not None:
            mode, LISTENING.mode = LISTENING.mode, None
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def running_layer(self) -> nn.Module | None:
        """Return the layer whose own forward calls what is called now."""
        frame = self.frames[-1] if self.frames else None
        return frame.layer if frame is not None and frame.runs else None

    def names_of(self, layer: nn.Module) -> Collection[str] | None:
        """Return which functions of a layer are of interest; nothing for a layer that is not."""
        return () if self.wanted is None else self.wanted.get(layer)

    def wants(self, layer: nn.Module, name: str) -> bool:
        """Whether a function is of interest."""
        return self.wanted is None or name in self.wanted[layer]

    def count(self, layer: nn.Module, name: str) -> None:
        calls = self.heard.setdefault(layer, {})
        calls[name] = calls.get(name, 0) + 1

    def on_call(self, layer: nn.Module, _args: Any) -> None:
        if self.is_listening:
            self.frames.append(Frame(layer))

    def on_begin(self, layer: nn.Module, _args: Any) -> None:
        if self.is_listening and self.frames:
            self.frames[-1].runs = True
            if self.names_of(layer) is not None:
                self.heard.setdefault(layer, {})

    def on_end(self, layer: nn.Module, _args: Any, _output: Any) -> None:
        frame = self.frame_of(layer)
        if frame is not None:
            frame.runs = False

    def on_return(self, layer: nn.Module, _args: Any, _output: Any) -> None:
        frame = self.frame_of(layer)
        if frame is not None:
            # What lies above it was left by something that no hook heard, such as an interrupt.
            del self.frames[self.frames.index(frame) :]

    def frame_of(self, layer: nn.Module) -> Frame | None:
        if not self.is_listening:
            return None
        return next((frame for frame in reversed(self.frames) if frame.layer is layer), None)


@contextmanager
def unheard() -> Iterator[None]:
    """Keep what is called in a block from counting as a function of the net."""
    LISTENING.n_quiet += 1
    try:
        yield
    finally:
        LISTENING.n_quiet -= 1
