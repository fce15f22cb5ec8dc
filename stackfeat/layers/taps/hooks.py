"""Set hooks, pass on every call, remove the hooks.

In:  a module, what to read, a function that takes the values.
Out: calls of that function while the net runs. It gets the live tensor: whoever keeps it clones it.
     A `Collector` keeps of all these values what a tap asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.taps.layers import is_compiled_anywhere, unwrap
from stackfeat.layers.taps.marks import RUNNING
from stackfeat.layers.taps.tap import Combine, Read, Tap
from stackfeat.layers.taps.values import Leaf, pick, pick_argument


@dataclass(frozen=True, slots=True)
class Fired:
    """One call of a layer: its name, which call of it, which of all calls heard in this pass."""

    layer: str
    call: int
    sequence: int


Take = Callable[[Read, Fired, Leaf], None]


class HookSession:
    """Hooks at the layers of a net, for as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
    reads : sequence of Read
    take : callable
        Gets a read, the call, and the live value there (of a gradient: the gradient).
    on_start, on_end : callable, optional
        Called when a forward pass of the model begins and when it is complete.
    """

    def __init__(
        self,
        model: nn.Module,
        reads: Sequence[Read],
        take: Take,
        *,
        on_start: Callable[[], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.wrapped = model
        self.model = unwrap(model)
        self.reads = tuple(reads)
        self.marks = [read for read in self.reads if read.is_mark]
        self.take = take
        self.on_start = on_start
        self.on_end = on_end
        self.counts: Counter[tuple[int, str]] = Counter()
        self.n_fired = 0
        self.n_passes = 0
        self.marks_heard: list[str] = []
        self.blind: dict[tuple[str, str], list[Fired]] = {}
        self.stack = ExitStack()

    @property
    def is_running(self) -> bool:
        """Whether a forward pass of the whole model is under way."""
        return self in RUNNING.listeners

    def count(self, read: Read, layer: str) -> int:
        """How often a layer of `read` was called in this pass."""
        index = -1 - self.marks.index(read) if read.is_mark else self.reads.index(read)
        return self.counts[index, layer]

    def __enter__(self) -> HookSession:
        with ExitStack() as stack:
            stack.callback(self.stop_listening)
            stack.enter_context(eager(self.wrapped))
            start = self.model.register_forward_pre_hook(self.start, prepend=True)
            stack.callback(start.remove)
            for index, read in enumerate(self.reads):
                for name, layer in zip(read.layers, read.modules, strict=False):
                    stack.callback(self.attach(index, read, name, layer).remove)
            end = self.model.register_forward_hook(self.end, always_call=True)
            stack.callback(end.remove)
            self.stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def attach(
        self, index: int, read: Read, name: str, layer: nn.Module
    ) -> torch.utils.hooks.RemovableHandle:
        if read.tap.side == "input":
            # A pre-hook: behind an in-place layer a forward hook would see its input overwritten.
            def before(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if not in_backward():
                    self.fire(
                        index, read, name, pick_argument(layer, args, kwargs, read.tap.path, read.where)
                    )

            return layer.register_forward_pre_hook(before, with_kwargs=True)

        def after(_layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            if not in_backward():
                self.fire(index, read, name, pick(output, read.tap.path, read.where))
            elif read.tap.side == "grad":
                self.run_again(index, read, name, pick(output, read.tap.path, read.where))

        return layer.register_forward_hook(after)

    def on_mark(self, name: str, value: Any) -> None:
        """Take a marked value."""
        self.marks_heard.append(name)
        for index, read in enumerate(self.marks):
            if read.layers[0] == name and not in_backward():
                # Behind the indices of the hooked reads: a counter of its own.
                self.fire(-1 - index, read, name, pick(value, read.tap.path, read.where))

    def fire(self, index: int, read: Read, name: str, leaf: Leaf) -> None:
        call = self.counts[index, name]
        self.counts[index, name] += 1
        self.n_fired += 1
        wanted = read.tap.call
        if read.tap.side == "grad":
            self.await_gradient(index, read, Fired(name, call, self.n_fired), leaf)
        elif wanted == "all" or wanted < 0 or wanted == call:
            self.take(read, Fired(name, call, self.n_fired), leaf)

    def await_gradient(self, index: int, read: Read, fired: Fired, leaf: Leaf) -> None:
        """Take the gradient at this output once it has been computed."""
        tensor = leaf if isinstance(leaf, Tensor) else leaf.data
        if not tensor.requires_grad:
            self.blind.setdefault((read.key, fired.layer), []).append(fired)
            return
        counts = self.counts

        def arrive(gradient: Tensor) -> None:
            wanted, n_calls = read.tap.call, counts[index, fired.layer]
            if wanted == "all" or fired.call == (wanted if wanted >= 0 else n_calls + wanted):
                self.take(read, fired, gradient)

        tensor.register_hook(arrive)  # type: ignore[no-untyped-call]

    def run_again(self, index: int, read: Read, layer: str, leaf: Leaf) -> None:
        """Wait for the gradient at a value that a reentrant checkpoint made without a graph, and now makes again.

        Segments come back last first, so that of several calls nobody knows which one this is.
        """
        calls = self.blind.get((read.key, layer), [])
        if len(calls) == 1:
            del self.blind[read.key, layer]
            self.await_gradient(index, read, calls[0], leaf)

    def start(self, _model: nn.Module, _args: tuple[Any, ...]) -> None:
        if in_backward():
            return
        self.counts = Counter()
        self.n_passes += 1
        self.n_fired = 0
        self.marks_heard.clear()
        self.blind.clear()
        if self not in RUNNING.listeners:
            RUNNING.listeners.append(self)
        if self.on_start is not None:
            self.on_start()

    def end(self, _model: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self.stop_listening()
        if self.on_end is not None and not in_backward():
            self.on_end()

    def stop_listening(self) -> None:
        RUNNING.listeners[:] = [listener for listener in RUNNING.listeners if listener is not self]


def in_backward() -> bool:
    """Whether autograd runs: checkpointed layers are called again then, with values already heard."""
    return bool(torch._C._current_graph_task_id() != -1)


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run compiled parts as they were written and parallel parts on one device, where hooks are heard."""
    replicated = [
        (part, part.device_ids)
        for part in model.modules()
        if isinstance(part, nn.DataParallel) and len(part.device_ids) > 1
    ]
    with ExitStack() as stack:
        if is_compiled_anywhere():
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for part, device_ids in replicated:
                part.device_ids = device_ids[:1]
            yield
        finally:
            for part, device_ids in replicated:
                part.device_ids = device_ids


def never_fired(read: Read, reading: HookSession) -> TapError:
    """Return the error for a tap that nothing came through."""
    blind = max((len(calls) for (key, _), calls in reading.blind.items() if key == read.key), default=0)
    if blind > 1:
        return TapError(
            f"a gradient at {read.where} must belong to one call; got {blind} calls without a graph at tap "
            f"{read.key!r}; under checkpoint() set use_reentrant=False, else leave torch.no_grad away"
        )
    if blind:
        return TapError(
            f"a gradient at {read.where} must exist; got a tensor without one at tap {read.key!r}; run the net with "
            "gradients on (no torch.no_grad), on inputs or weights that require them; under a reentrant checkpoint "
            "call backward() in the block, and for a mark set use_reentrant=False"
        )
    if read.tap.side == "grad":
        return TapError(
            f"tap {read.key!r} must be read after backward(); got no gradient; call loss.backward() in the block"
        )
    if read.is_mark and not reading.n_passes:
        return TapError(
            f"tap {read.key!r} must be a mark that is passed while the net is called; got no call of "
            f"{type(reading.model).__name__} itself; call model(...), not one of its methods or parts"
        )
    if read.is_mark:
        heard = ", ".join(dict.fromkeys(reading.marks_heard)) or "none"
        return TapError(
            f"tap {read.key!r} must name a layer or a mark that the net passes; got marks {heard}; "
            "stackfeat.list_layers(model, *example) shows both"
        )
    called = max((n for (_, name), n in reading.counts.items() if name in read.layers), default=0)
    got = f"{called} calls" if called else "no call"
    return TapError(
        f"the layer of tap {read.key!r} must be called (as often as the tap says) in a forward pass; got {got}; "
        "layers used through their weights alone, and layers called by .forward(), cannot be read: tap the "
        "layer around it. stackfeat.list_layers(model, *example) says which layers run"
    )


Value = TypeVar("Value")


class Collector(Generic[Value]):
    """The values of one tap in one forward pass; it holds no more of them than are asked for."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.held: dict[tuple[str, int], tuple[int, Value]] = {}

    def clear(self) -> None:
        self.held.clear()

    def add(self, fired: Fired, value: Value) -> None:
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

    def values(self) -> list[Value]:
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


def combine(values: Sequence[Tensor], how: Combine | None, key: str) -> Tensor:
    """Make one tensor of several.

    ``concat``: side by side in the last dimension, or the channels of images; ``mean``; ``stack``: in
    a new dimension 1, so that rows stay in front.

    Raises
    ------
    TapError
        If the shapes do not allow it.
    """
    axis = 1 if values[0].ndim >= 4 else -1
    try:
        if how == "stack":
            return torch.stack(list(values), dim=min(1, values[0].ndim))
        if how == "mean":
            return torch.stack(list(values)).mean(0)
        return torch.cat(list(values), dim=axis)
    except RuntimeError as error:
        shapes = [tuple(value.shape) for value in values]
        raise TapError(
            f"values that are combined must have fitting shapes; got shapes={shapes} at tap {key!r}; "
            "tap these layers one by one, or pool them"
        ) from error
