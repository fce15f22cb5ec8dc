"""Read activations inside a module while it runs.

In:  a torch module, and taps that say where to read.
Out: `tapped`: a dict from tap to a detached tensor, filled by the next forward pass. It rests on `HookSession`, which
     sets hooks, passes on every live value and removes the hooks.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.taps.collector import Collector, Fired, Missing, combine, is_many
from stackfeat.layers.taps.functions import LISTENING, FunctionCalls, unheard
from stackfeat.layers.taps.layers import unwrap
from stackfeat.layers.taps.marks import RUNNING
from stackfeat.layers.taps.passes import Hooks, eager, forgetting_passes, in_backward, is_under_way
from stackfeat.layers.taps.refusals import refusals_noted
from stackfeat.layers.taps.runtime import plain_transformers
from stackfeat.layers.taps.tap import Read, Tap, Taps, named_tap, named_taps, resolve_taps, taps_by_name
from stackfeat.layers.taps.values import (
    Arguments,
    Leaf,
    Path,
    copied,
    leaf_paths,
    padded,
    pick,
    pick_argument,
    walk_argument,
    walk_into,
)
from stackfeat.registry.resolve import suggest


class Caught(dict[str, Any]):
    """What the taps read, by key; a tap whose layer never ran is an error that says why.

    Values are tensors, or lists of tensors for ``#all``.

    Attributes
    ----------
    stopped : bool
        Whether the block was ended after the last tap.
    """

    session: HookSession

    @property
    def stopped(self) -> bool:
        return self.session.stopped

    def __getitem__(self, key: str | Tap | nn.Module) -> Any:
        return super().__getitem__(str(named_tap(self.session.model, key)))

    def copy(self) -> Caught:
        """Return what is there now; later passes do not change it."""
        same = Caught(self)
        same.session = self.session
        return same

    def __missing__(self, key: str) -> Any:
        reads = {read.key: read for read in self.session.reads}
        items = [
            item.key for (read, _), item in self.session.items.items() if read.key == key and item.key in self
        ]
        if items:
            raise LayerNotFoundError(
                f"a tap with [*] has a key for each tensor; got key={key!r}; the keys are {', '.join(items)}"
            )
        if key in reads:
            raise never_fired(reads[key], self.session)
        raise LayerNotFoundError(
            f"a key must be one of the taps; got key={key!r} of taps {', '.join(reads)}.{suggest(key, list(reads))}"
        )


@contextmanager
def tapped(model: nn.Module, taps: Taps, *, detach: bool = True, stop: bool = False) -> Iterator[Caught]:
    """Collect activations at the taps for as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
        Runs as it always does, but transformers without their fused path and compiled parts as
        they were written.
    taps : str, Tap, layer, sequence of them, or mapping from key to tap
        See `Tap` and docs/taps.md.
    detach : bool
        False keeps the clones in the autograd graph, for losses on hidden layers.
    stop : bool
        True ends the block, not only the pass, once every tap has a value: code after the call of the net is
        not run. A layer that runs several times is read at its first call, unless the tap names another
        by ``#n``.

    Yields
    ------
    dict of str to Tensor
        By the text as given, by ``str(tap)`` for a `Tap`, by layer for patterns and types: a
        detached clone of shape ``(n_rows, ...)``. Each forward pass replaces the values of the one
        before. ``#all`` gives a list unless the tap says how to combine. Attribute ``stopped`` says whether
        `stop` ended the block.

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
    taps = taps_by_name(model, taps)
    reads = resolve_taps(model, taps)
    caught = Caught()
    collectors: dict[Read, Collector[Tensor]] = {}

    def take(read: Read, fired: Fired, leaf: Leaf) -> None:
        collector = collectors.setdefault(read, Collector(read.tap))
        collector.add(fired, copied(padded(leaf)[0], detach=detach))
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
        for read in collectors:
            settle(read)

    missing = Missing(model, reads, [place for _, place in named_taps(model, taps)]) if stop else None
    session = HookSession(model, reads, take, on_start=restart, on_end=finish, missing=missing)
    caught.session = session
    with plain_transformers(), session:
        try:
            with forgetting_passes(), refusals_noted(model):
                yield caught
        except Stop as stopped:
            if stopped.session is not session:
                raise


class Stop(BaseException):
    """Everything that a session wants has been read. No `Exception`, so that no net catches it."""

    def __init__(self, session: HookSession) -> None:
        super().__init__("the pass ends after the last tap")
        self.session = session


Take = Callable[[Read, Fired, Leaf], None]

FunctionReads = list[tuple[Read, str]]
"""What is read of a function that a layer calls, each with the name of the layer."""


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
    missing : Missing, optional
        Ends a pass when nothing is missing any more.

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
    items : dict of (Read, path) to Read
        What taps with ``[*]`` have met.
    functions : FunctionCalls or None
        Where taps read functions that layers call.
    stopped : bool
        Whether a pass was ended since nothing was missing.
    whole_only : bool
        Whether calls of single layers, outside passes of the model, are nothing to read.
    """

    is_first: ClassVar[bool] = False
    """Whether values pass here before other sessions see them."""

    model: nn.Module
    reads: Sequence[Read]
    take: Take
    on_start: Callable[[], None] | None = None
    on_end: Callable[[], None] | None = None
    missing: Missing | None = None
    counts: Counter[tuple[Read, str]] = field(default_factory=Counter)
    n_fired: int = 0
    n_passes: int = 0
    marks_passed: list[str] = field(default_factory=list)
    without_graph: dict[tuple[Read, str], list[Fired]] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    depth: int = 0
    caller: FrameType | None = None
    items: dict[tuple[Read, Path], Read] = field(default_factory=dict)
    functions: FunctionCalls | None = None
    stopped: bool = False
    whole_only: bool = False

    @property
    def is_running(self) -> bool:
        """Whether a forward pass of the whole model is under way."""
        return self.on_mark in RUNNING.listeners

    def reads_now(self) -> bool:
        """Whether a call of a layer is one to read."""
        return self.hears() and (self.is_running or not self.whole_only)

    def attach(self, stack: ExitStack) -> None:
        model = unwrap(self.model)
        stack.callback(self.stop_listening)
        stack.enter_context(eager(self.model))
        for read in self.reads:
            for name, layer in zip(read.layers, read.modules, strict=False):
                if not read.function:
                    stack.enter_context(self.hook(read, name, layer))
        self.functions = self.function_calls()
        if self.functions is not None:
            self.functions.attach(stack)
        stack.enter_context(model.register_forward_pre_hook(self.start, prepend=True))
        stack.enter_context(model.register_forward_hook(self.end, always_call=True))

    def hook(self, read: Read, name: str, layer: nn.Module) -> RemovableHandle:
        if read.tap.side == "input":
            # A pre-hook: behind an in-place layer a forward hook would see its input overwritten.
            def before(
                _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
            ) -> None:
                if self.reads_now() and not in_backward():
                    self.hear_input(read, name, layer.forward, (args, kwargs or {}))
                else:
                    self.note_thread(name)

            return layer.register_forward_pre_hook(before, with_kwargs=True)

        def after(_layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            if not in_backward() and not self.reads_now():
                self.note_thread(name)
            elif not in_backward():
                self.hear(read, name, output)
            elif len(self.without_graph.get((read, name), [])) == 1:
                # A reentrant checkpoint made this value without a graph, and now makes it again. Segments come
                # back last first, so that of several calls nobody knows which one this is.
                fired = self.without_graph.pop((read, name))[0]
                self.await_gradient(read, fired, pick(output, read.path, read.where))

        return layer.register_forward_hook(after)

    def note_thread(self, name: str) -> None:
        """Remember in which other thread a layer ran."""
        if threading.get_ident() != self.thread:
            self.elsewhere[name] = threading.current_thread().name

    def function_calls(self) -> FunctionCalls | None:
        """Return who hears the functions that taps read, if there are any."""
        reads: dict[nn.Module, dict[str, FunctionReads]] = {}
        for read in self.reads if any(read.function for read in self.reads) else ():
            for name, layer in zip(read.layers, read.modules, strict=False):
                if read.function:
                    reads.setdefault(layer, {}).setdefault(read.function, []).append((read, name))
        if not reads:
            return None

        def before(layer: nn.Module, function: str, inputs: Arguments) -> Arguments:
            is_ours = self.hears() and not in_backward()
            return self.before_function(reads[layer][function], inputs) if is_ours else inputs

        def after(layer: nn.Module, function: str, inputs: Arguments, result: Any) -> Any:
            is_ours = self.hears() and not in_backward()
            return self.after_function(reads[layer][function], inputs, result) if is_ours else result

        return FunctionCalls(self.model, reads, before, after, self.is_first)

    def before_function(self, reads: FunctionReads, inputs: Arguments) -> Arguments:
        """Take what a function is given; return it."""
        for read, name in reads:
            if read.tap.side == "input":
                self.hear_input(read, name, None, inputs)
        return inputs

    def after_function(self, reads: FunctionReads, _inputs: Arguments, result: Any) -> Any:
        """Take what a function returns; return it."""
        for read, name in reads:
            if read.tap.side != "input":
                self.hear(read, name, result)
        return result

    def on_mark(self, name: str, value: Any) -> Any:
        """Take a marked value."""
        if not self.hears():
            return value
        self.marks_passed.append(name)
        for read in self.reads:
            if read.is_mark and read.layers[0] == name and not in_backward():
                self.hear(read, name, value)
        return value

    def hear(self, read: Read, name: str, value: Any) -> None:
        """Take what a layer returned."""
        if read.is_open:
            self.hear_all(read, name, walk_into(value, read.path, read.where))
        else:
            self.fire(read, name, read, pick(value, read.path, read.where))

    def hear_input(
        self, read: Read, name: str, forward: Callable[..., Any] | None, inputs: Arguments
    ) -> None:
        """Take what a layer is given."""
        if not read.is_open:
            self.fire(read, name, read, pick_argument(forward, inputs, read.path, read.where))
        elif read.path:
            self.hear_all(read, name, walk_argument(forward, inputs, read.path, read.where))
        else:
            self.hear_all(read, name, dict(enumerate(inputs[0])) | inputs[1])

    def hear_all(self, read: Read, name: str, value: Any) -> None:
        """Take every tensor, each as a tap of its own."""
        items = [
            (self.items.setdefault((read, path), read.item(path)), leaf) for path, leaf in leaf_paths(value)
        ]
        call = self.counts[read, name]
        for item, leaf in items:
            self.counts[item, name] = call
            self.fire(item, name, None, leaf)
        self.counts[read, name] = call + 1
        self.end_if_done(read, call)

    def fire(self, read: Read, name: str, whole: Read | None, leaf: Leaf) -> None:
        """Pass on the value of one call; `whole` is what has been read with it."""
        if self.stopped:
            raise Stop(self)  # the net goes on all the same
        call, wanted = self.counts[read, name], read.tap.call
        self.counts[read, name] += 1
        self.n_fired += 1
        fired = Fired(name, call, self.n_fired)
        if read.tap.side == "grad":
            self.await_gradient(read, fired, leaf)
        elif wanted == "all" or wanted < 0 or wanted == call:
            if LISTENING.sessions:
                with unheard():
                    self.take(read, fired, leaf)
            else:
                self.take(read, fired, leaf)
        if whole is not None and self.missing is not None:
            self.end_if_done(whole, call)

    def end_if_done(self, read: Read, call: int) -> None:
        """End the pass if this was the last that was missing."""
        if self.missing is not None and self.missing.is_last(read, call):
            self.stopped = True
            raise Stop(self)

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
        if self.stopped:
            raise Stop(self)  # the block goes on all the same; what was read stays
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
            RUNNING.listeners.insert(0 if self.is_first else len(RUNNING.listeners), self.on_mark)
        if self.functions is not None:
            self.functions.listen()
        if self.missing is not None:
            self.missing.restart()
        if self.on_start is not None:
            self.on_start()

    def end(self, _model: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if in_backward() or not self.hears():
            return
        if self.depth > 1:
            self.depth -= 1
            return
        self.stop_listening()
        if self.stopped:
            raise Stop(self)
        if self.on_end is not None:
            self.on_end()

    def stop_listening(self) -> None:
        """Take the pass for ended."""
        self.depth, self.caller = 0, None
        if self.functions is not None:
            self.functions.leave()
        RUNNING.listeners[:] = [listener for listener in RUNNING.listeners if listener != self.on_mark]


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
    if (read.is_mark or read.function) and not session.n_passes:
        kind = "a function that is called" if read.function else "a mark that is passed"
        return TapError(
            f"tap {read.key!r} must be {kind} while the net is called; got no call of "
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
    heard = {} if session.functions is None else session.functions.heard
    calls = [heard[layer] for layer in read.modules if layer in heard]
    if read.function and calls:
        return TapError(f"tap {read.key!r} cannot be read: {no_such_call(read, calls)}")
    called = max((n for (_, name), n in session.counts.items() if name in read.layers), default=0)
    got = f"{called} calls" if called else "no call"
    return TapError(
        f"the layer of tap {read.key!r} must be called (as often as the tap says) in a forward pass; got {got}; "
        "layers used through their weights alone, and layers called by .forward(), cannot be read: tap the "
        "layer around it. stackfeat.list_layers(model, *example) says which layers run"
    )


def no_such_call(read: Read, calls: Sequence[Mapping[str, int]]) -> str:
    """Say why no call of a function came, given how often each was called by the layers."""
    of = repr(read.layers[0]) if read.layers[0] else "the net's own forward"
    n_calls = max((heard.get(read.function, 0) for heard in calls), default=0)
    if n_calls:
        last = f" to #{n_calls - 1}" if n_calls > 1 else ""
        return (
            f"{of} calls {read.function}() {n_calls} time{'s' if n_calls > 1 else ''} in a forward pass; got "
            f"call={read.tap.call}; use #0{last}, or #-1 for the last"
        )
    names = list(dict.fromkeys(name for heard in calls for name in heard))
    return (
        f"{of} must call {read.function}() itself; got calls of {', '.join(names) or 'no function'}."
        f"{suggest(read.function, names)} Functions that layers inside it call belong to those layers: "
        "stackfeat.list_layers(model, *example, functions=True) lists them all"
    )
