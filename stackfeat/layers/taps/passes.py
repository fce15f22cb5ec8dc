"""Which forward passes a block hears, and how nets run while hooks listen.

In:  a module, and hooks that belong to a block.
Out: `Hooks`, the base of everything that listens for as long as a block lasts; whether a pass is under way, is one of
     autograd's, or has been broken off; compiled and parallel parts as they were written.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Self, SupportsIndex

import torch
from torch import nn

from stackfeat.errors import UsageError
from stackfeat.layers.taps.functions import LISTENING
from stackfeat.layers.taps.marks import RUNNING
from stackfeat.layers.taps.runtime import compiler_stands_back, replaced_attributes


class Hooks(ABC):
    """Hooks on a net for as long as a block lasts.

    They hear the passes of the block alone: none of other threads, and none of readers (`extract` and its like)
    that are called in the block.
    """

    stack: ExitStack
    thread: int
    n_readers: int
    is_open = False

    @abstractmethod
    def attach(self, stack: ExitStack) -> None:
        """Set hooks that are removed when `stack` is closed."""

    def hears(self) -> bool:
        """Whether what runs now belongs to this block."""
        return threading.get_ident() == self.thread and RUNNING.n_readers == self.n_readers

    def heard(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook that does nothing in passes that do not belong to this block."""
        return lambda *given: hook(*given) if self.hears() else None

    def __enter__(self) -> Self:
        self.thread, self.n_readers = threading.get_ident(), RUNNING.n_readers
        with ExitStack() as stack:
            self.attach(stack)
            self.stack = stack.pop_all()
        self.is_open = True
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Refuse to be copied or pickled with a net: nobody would take the hooks off the copy."""
        if self.is_open:
            raise UsageError(
                "a net must be copied or pickled outside the blocks that read or edit it; got one with hooks of an "
                "open block (stackfeat.tapped, edited or Extractor); do it before or after, or save its state_dict()"
            )
        return super().__reduce_ex__(protocol)

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        self.stack.close()


def in_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that does nothing in passes of other threads."""
    thread = threading.get_ident()
    return lambda *given: hook(*given) if threading.get_ident() == thread else None


@contextmanager
def forgetting_passes() -> Iterator[None]:
    """Take passes that begin in a block for ended with it: a `Stop` goes past the hooks that would notice."""
    listeners, sessions = list(RUNNING.listeners), list(LISTENING.sessions)
    try:
        yield
    finally:
        if RUNNING.listeners != listeners:
            RUNNING.listeners[:] = [listener for listener in RUNNING.listeners if listener in listeners]
        for begun in [session for session in LISTENING.sessions if session not in sessions]:
            begun.leave()


COMPILING = {"torch._dynamo", "torch.nn.attention.flex_attention"}
"""Modules of torch that compile."""


def in_backward() -> bool:
    """Whether autograd runs: checkpointed layers are called again then, with values already heard."""
    return bool(torch._C._current_graph_task_id() != -1)


def is_under_way(call: FrameType | None) -> bool:
    """Whether a function that was called in this thread has not returned yet."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not call:
        frame = frame.f_back
    return frame is not None


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run compiled parts as they were written and parallel parts on one device, where hooks are heard."""
    replicated = [
        (part, "device_ids", part.device_ids[:1])
        for part in model.modules()
        if isinstance(part, nn.DataParallel) and len(part.device_ids) > 1
    ]
    with ExitStack() as stack:
        if COMPILING & sys.modules.keys():  # something in this process may be compiled
            stack.enter_context(compiler_stands_back())
        stack.enter_context(replaced_attributes(replicated))
        yield
