"""Read activations inside a module while it runs.

In:  a torch module, and taps that say where to read.
Out: `tapped`: a dict from tap to a detached tensor, filled by the next forward pass; `Extractor`: a net that also
     returns what its taps read. Both rest on `HookSession`, which sets hooks, passes on every live value and
     removes the hooks, and on `Collector`, which keeps of all these values what a tap asks for.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.taps.layers import unwrap
from stackfeat.layers.taps.marks import RUNNING
from stackfeat.layers.taps.runtime import compiler_stands_back, plain_transformers, replaced_attributes
from stackfeat.layers.taps.tap import Combine, Read, Tap, Taps, resolve_taps
from stackfeat.layers.taps.values import Leaf, copied, padded, pick, pick_argument
from stackfeat.registry.resolve import suggest


class Caught(dict[str, Any]):
    """What the taps read, by key; a tap whose layer never ran is an error that says why.

    Values are tensors, or lists of tensors for ``#all``.
    """

    session: HookSession

    def __getitem__(self, key: str | Tap) -> Any:
        return super().__getitem__(str(key))

    def __missing__(self, key: str) -> Any:
        reads = {read.key: read for read in self.session.reads}
        if key in reads:
            raise never_fired(reads[key], self.session)
        raise LayerNotFoundError(
            f"a key must be one of the taps; got key={key!r} of taps {', '.join(reads)}.{suggest(key, list(reads))}"
        )


@contextmanager
def tapped(model: nn.Module, taps: Taps, *, detach: bool = True) -> Iterator[Caught]:
    """Collect activations at the taps for as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
        Runs as it always does, but transformers without their fused path and compiled parts as
        they were written.
    taps : str, Tap, sequence of them, or mapping from key to tap
        See `Tap` and docs/taps.md.
    detach : bool
        False keeps the clones in the autograd graph, for losses on hidden layers.

    Yields
    ------
    dict of str to Tensor
        By the text as given, by ``str(tap)`` for a `Tap`, by layer for patterns and types: a
        detached clone of shape ``(n_rows, ...)``. Each forward pass replaces the values of the one
        before. ``#all`` gives a list unless the tap says how to combine.

    Raises
    ------
    LayerNotFoundError
        If a layer does not exist. Raised before any hook is set.
    TapError
        If a layer cannot be read, or, when a value is asked for, why it was not.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with tapped(model, ["0"]) as caught:
    ...     _ = model(torch.randn(2, 4))
    >>> caught["0"].shape
    torch.Size([2, 3])
    """
    reads = resolve_taps(model, taps)
    caught = Caught()
    collectors = {read: Collector(read.tap) for read in reads}

    def take(read: Read, fired: Fired, leaf: Leaf) -> None:
        collectors[read].add(fired, copied(padded(leaf)[0], detach=detach))
        # Several values are put together once the pass is over; gradients come after that.
        if not is_many(read.tap) or read.tap.side == "grad" or not session.is_running:
            settle(read)

    def settle(read: Read) -> None:
        values, tap = collectors[read].values(), read.tap
        if values and is_many(tap):
            is_list = tap.last is None and tap.combine is None
            caught[read.key] = values if is_list else combine(values, tap.combine, read.key)
        elif values:
            caught[read.key] = values[0]

    def restart() -> None:
        caught.clear()
        for collector in collectors.values():
            collector.clear()

    def finish() -> None:
        for read in reads:
            settle(read)

    session = HookSession(model, reads, take, on_start=restart, on_end=finish)
    caught.session = session
    with plain_transformers(), session:
        yield caught


class Extractor(nn.Module):
    """Call a net and its taps at once; ``torchextractor.Extractor`` can be replaced by it.

    Parameters
    ----------
    model : nn.Module
        Stays as it is: no hook is left on it between calls.
    taps : str, Tap, sequence of them, or mapping from key to tap
        See `Tap`.

    Raises
    ------
    LayerNotFoundError, TapError
        If a tap cannot be read.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> output, caught = Extractor(model, ["0"])(torch.randn(2, 4))
    >>> caught["0"].shape
    torch.Size([2, 3])
    """

    def __init__(self, model: nn.Module, taps: Taps) -> None:
        super().__init__()
        resolve_taps(model, taps)
        self.model = model
        self.taps = taps

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Caught]:
        """Return the output of the model, and detached clones by key."""
        with tapped(self.model, self.taps) as caught:
            output = self.model(*args, **kwargs)
        return output, caught


@dataclass(frozen=True, slots=True)
class Fired:
    """One call of a layer: its name, which call of it, which of all calls heard in this pass."""

    layer: str
    call: int
    sequence: int


Take = Callable[[Read, Fired, Leaf], None]


class Hooks(ABC):
    """Hooks on a net for as long as a block lasts.

    They hear the passes of the block alone: none of other threads, and none of readers (`extract` and its like)
    that are called in the block.
    """

    stack: ExitStack
    thread: int
    n_readers: int

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
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


@dataclass(eq=False)
class HookSession(Hooks):
    """Hooks at the layers of a net, for as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
    reads : sequence of Read
    take : callable
        Gets a read, the call, and the live value there (of a gradient: the gradient).
    on_start, on_end : callable, optional
        Called when a forward pass of the model begins and when it is complete. Calls of the model inside its own
        forward belong to the pass around them.

    Attributes
    ----------
    counts : Counter of (Read, str)
        Calls in this pass, by read and layer.
    n_fired, n_passes : int
        Calls heard in this pass, and passes so far.
    marks_passed : list of str
    without_graph : dict of (Read, str) to list of Fired
        Calls whose gradient was asked for, and whose value has none.
    elsewhere : dict of str to str
        By layer another thread in which it ran.
    depth : int
        How many calls of the model are under way, each inside the one before.
    caller : frame or None
        Where the outermost of them was made.
    """

    model: nn.Module
    reads: Sequence[Read]
    take: Take
    on_start: Callable[[], None] | None = None
    on_end: Callable[[], None] | None = None
    counts: Counter[tuple[Read, str]] = field(default_factory=Counter)
    n_fired: int = 0
    n_passes: int = 0
    marks_passed: list[str] = field(default_factory=list)
    without_graph: dict[tuple[Read, str], list[Fired]] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    depth: int = 0
    caller: FrameType | None = None

    @property
    def is_running(self) -> bool:
        """Whether a forward pass of the whole model is under way."""
        return self.on_mark in RUNNING.listeners

    def attach(self, stack: ExitStack) -> None:
        model = unwrap(self.model)
        stack.callback(self.stop_listening)
        stack.enter_context(eager(self.model))
        stack.enter_context(model.register_forward_pre_hook(self.start, prepend=True))
        for read in self.reads:
            for name, layer in zip(read.layers, read.modules, strict=False):
                stack.enter_context(self.hook(read, name, layer))
        stack.enter_context(model.register_forward_hook(self.end, always_call=True))

    def hook(self, read: Read, name: str, layer: nn.Module) -> RemovableHandle:
        path, where = read.tap.path, read.where
        if read.tap.side == "input":
            # A pre-hook: behind an in-place layer a forward hook would see its input overwritten.
            def before(
                _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
            ) -> None:
                if self.hears() and not in_backward():
                    self.fire(read, name, pick_argument(layer, (args, kwargs or {}), path, where))
                else:
                    self.note_thread(name)

            return layer.register_forward_pre_hook(before, with_kwargs=True)

        def after(_layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            if not in_backward() and not self.hears():
                self.note_thread(name)
            elif not in_backward():
                self.fire(read, name, pick(output, path, where))
            elif len(self.without_graph.get((read, name), [])) == 1:
                # A reentrant checkpoint made this value without a graph, and now makes it again. Segments come
                # back last first, so that of several calls nobody knows which one this is.
                fired = self.without_graph.pop((read, name))[0]
                self.await_gradient(read, fired, pick(output, path, where))

        return layer.register_forward_hook(after)

    def note_thread(self, name: str) -> None:
        """Remember in which other thread a layer ran."""
        if threading.get_ident() != self.thread:
            self.elsewhere[name] = threading.current_thread().name

    def on_mark(self, name: str, value: Any) -> None:
        """Take a marked value."""
        if not self.hears():
            return
        self.marks_passed.append(name)
        for read in self.reads:
            if read.is_mark and read.layers[0] == name and not in_backward():
                self.fire(read, name, pick(value, read.tap.path, read.where))

    def fire(self, read: Read, name: str, leaf: Leaf) -> None:
        call, wanted = self.counts[read, name], read.tap.call
        self.counts[read, name] += 1
        self.n_fired += 1
        fired = Fired(name, call, self.n_fired)
        if read.tap.side == "grad":
            self.await_gradient(read, fired, leaf)
        elif wanted == "all" or wanted < 0 or wanted == call:
            self.take(read, fired, leaf)

    def await_gradient(self, read: Read, fired: Fired, leaf: Leaf) -> None:
        """Take the gradient at this output once it has been computed."""
        tensor = leaf if isinstance(leaf, Tensor) else leaf.data
        if not tensor.requires_grad:
            self.without_graph.setdefault((read, fired.layer), []).append(fired)
            return
        counts = self.counts

        def arrive(gradient: Tensor) -> None:
            wanted, n_calls = read.tap.call, counts[read, fired.layer]
            if wanted == "all" or fired.call == (wanted if wanted >= 0 else n_calls + wanted):
                self.take(read, fired, gradient)

        tensor.register_hook(arrive)  # type: ignore[no-untyped-call]

    def start(self, _model: nn.Module, _args: tuple[Any, ...]) -> None:
        if in_backward() or not self.hears():
            return
        if self.depth and not is_under_way(self.caller):
            self.depth = 0  # a pass that was interrupted
        self.depth += 1
        if self.depth > 1:
            return
        self.caller = sys._getframe(1)
        self.counts = Counter()
        self.n_passes += 1
        self.n_fired = 0
        self.marks_passed.clear()
        self.without_graph.clear()
        if not self.is_running:
            RUNNING.listeners.append(self.on_mark)
        if self.on_start is not None:
            self.on_start()

    def end(self, _model: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if in_backward() or not self.hears():
            return
        if self.depth > 1:
            self.depth -= 1
            return
        self.stop_listening()
        if self.on_end is not None:
            self.on_end()

    def stop_listening(self) -> None:
        """Take the pass for ended."""
        self.depth, self.caller = 0, None
        RUNNING.listeners[:] = [listener for listener in RUNNING.listeners if listener != self.on_mark]


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


def never_fired(read: Read, session: HookSession) -> TapError:
    """Return the error for a tap that nothing came through."""
    n_calls = max(
        (len(calls) for (other, _), calls in session.without_graph.items() if other is read), default=0
    )
    if n_calls > 1:
        return TapError(
            f"a gradient at {read.where} must belong to one call; got {n_calls} calls without a graph at tap "
            f"{read.key!r}; under checkpoint() set use_reentrant=False, else leave torch.no_grad away"
        )
    if n_calls:
        return TapError(
            f"a gradient at {read.where} must exist; got a tensor without one at tap {read.key!r}; run the net with "
            "gradients on (no torch.no_grad), on inputs or weights that require them; under a reentrant checkpoint "
            "call backward() in the block, and for a mark set use_reentrant=False"
        )
    if read.tap.side == "grad":
        return TapError(
            f"tap {read.key!r} must be read after backward(); got no gradient; call loss.backward() in the block"
        )
    elsewhere = next((session.elsewhere[layer] for layer in read.layers if layer in session.elsewhere), None)
    if elsewhere is not None and not any(session.counts[read, layer] for layer in read.layers):
        return TapError(
            f"the layer of tap {read.key!r} must be called in the thread that opened the block; got calls in thread "
            f"{elsewhere!r} alone; open the block in the thread that runs the layer"
        )
    if read.is_mark and not session.n_passes:
        return TapError(
            f"tap {read.key!r} must be a mark that is passed while the net is called; got no call of "
            f"{type(unwrap(session.model)).__name__} itself; call model(...), not one of its methods or parts"
        )
    if read.is_mark:
        passed = ", ".join(dict.fromkeys(session.marks_passed)) or "none"
        if str(read.tap) in session.marks_passed:
            return TapError(
                f"tap {read.key!r} must name a mark; got one that looks like a tap; write sf.Tap({str(read.tap)!r})"
            )
        return TapError(
            f"tap {read.key!r} must name a layer or a mark that the net passes; got marks {passed}; "
            "stackfeat.list_layers(model, *example) shows both"
        )
    called = max((n for (_, name), n in session.counts.items() if name in read.layers), default=0)
    got = f"{called} calls" if called else "no call"
    return TapError(
        f"the layer of tap {read.key!r} must be called (as often as the tap says) in a forward pass; got {got}; "
        "layers used through their weights alone, and layers called by .forward(), cannot be read: tap the "
        "layer around it. stackfeat.list_layers(model, *example) says which layers run"
    )


@dataclass
class Collector:
    """The values of one tap in one forward pass; it holds no more of them than are asked for."""

    tap: Tap
    held: dict[tuple[str, int], tuple[int, Tensor]] = field(default_factory=dict)

    def clear(self) -> None:
        self.held.clear()

    def add(self, fired: Fired, value: Tensor) -> None:
        """Hold a value, and let go of those that it replaces.

        The order is that of the forward pass: gradients come the other way round.
        """
        is_one = self.tap.call == -1 or (self.tap.call != "all" and self.tap.call >= 0)
        key = (fired.layer, -1 if is_one else fired.call)
        if key in self.held and self.held[key][0] > fired.sequence:
            return
        self.held[key] = (fired.sequence, value)
        limit = self.limit
        if limit is not None and len(self.held) > limit:
            del self.held[min(self.held, key=lambda key: self.held[key][0])]

    @property
    def limit(self) -> int | None:
        """How many values are asked for, at most."""
        if self.tap.last is not None:
            return self.tap.last
        if self.tap.call == "all":
            return None
        return max(1, -self.tap.call)

    def values(self) -> list[Tensor]:
        """Return what is held, first call first; nothing where the layer ran too rarely."""
        ordered = [value for _, value in sorted(self.held.values(), key=lambda pair: pair[0])]
        if self.tap.last is not None or self.tap.call == "all":
            return ordered
        if self.tap.side == "grad":
            return ordered[-1:]
        return ordered[:1] if len(ordered) == self.limit else []


def is_many(tap: Tap) -> bool:
    """Whether a tap asks for several values."""
    return tap.last is not None or tap.call == "all"


def combine(values: Sequence[Tensor], how: Combine | None, key: str, axis: int | None = None) -> Tensor:
    """Make one tensor of several.

    ``concat``: side by side in `axis`, by default the last one, or the channels of images; ``mean``;
    ``stack``: in a new dimension 1, so that rows stay in front.

    Raises
    ------
    TapError
        If the shapes do not allow it.
    """
    if axis is None:
        axis = 1 if values[0].ndim >= 4 else -1
    try:
        if how == "stack":
            return torch.stack(list(values), dim=min(1, values[0].ndim))
        return torch.stack(list(values)).mean(0) if how == "mean" else torch.cat(list(values), dim=axis)
    except RuntimeError as error:
        shapes = [tuple(value.shape) for value in values]
        raise TapError(
            f"values that are combined must have fitting shapes; got shapes={shapes} at tap {key!r}; "
            "tap these layers one by one, or pool them"
        ) from error
