"""Change values on their way through a net.

In:  a torch module, and functions by the place where they change what flows.
Out: `edited`, a block in which the net goes on with what the functions return.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from stackfeat.errors import TapError
from stackfeat.layers.taps.functions import unheard
from stackfeat.layers.taps.hooks import FunctionReads, HookSession, never_fired
from stackfeat.layers.taps.layers import named_layers, unwrap
from stackfeat.layers.taps.passes import in_backward
from stackfeat.layers.taps.runtime import plain_transformers
from stackfeat.layers.taps.tap import Place, Read, from_the_end, named_tap, parse_tap, resolve_taps
from stackfeat.layers.taps.values import (
    Arguments,
    Path,
    describe,
    leaf_paths,
    named_arguments,
    pick,
    replaced,
    walk_into,
)

Change = Callable[[Any], Any]


class OpenEdits(threading.local):
    """The blocks of `edited` that are open in this thread, the outermost first."""

    def __init__(self) -> None:
        self.sessions: list[EditSession] = []


OPEN = OpenEdits()


def is_edited(model: nn.Module) -> bool:
    """Whether an open block of this thread may change what flows in a net."""
    return any(session.reaches(set(model.modules())) for session in OPEN.sessions)


def edited_functions(model: nn.Module) -> tuple[str, ...]:
    """Return the layers of a net that call functions which open blocks of this thread edit."""
    owners = {
        id(layer)
        for session in OPEN.sessions
        for read in session.reads
        if read.function
        for layer in read.modules
    }
    return tuple(name for name, layer in named_layers(model).items() if id(layer) in owners) if owners else ()


@contextmanager
def edited(model: nn.Module, edits: Mapping[Place, Change]) -> Iterator[None]:
    """Replace what flows at the taps by what functions make of it, for as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
        Runs as it always does, but transformers without their fused path and compiled parts as they were written.
    edits : mapping from str, Tap or layer to callable
        Each function gets the value at its tap, live and in the autograd graph, and returns the value that the net
        goes on with. Without ``#n`` it changes every call. ``:input`` changes what a layer is given, ``[item]`` one
        value of several (by default the first tensor), ``[*]`` each of them, ``block.relu()`` what a function
        returns. What `tapped` and `extract` read in the block has been edited; of two blocks the inner one's
        functions come first.

    Raises
    ------
    LayerNotFoundError
        If a layer does not exist. Raised before any hook is set.
    TapError
        If a tap cannot be edited, or a function returns something else than it was given; at the end of the block, if
        the net ran and a value that is named never came.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> with edited(model, {"1": torch.zeros_like}):
    ...     output = model(torch.randn(5, 4))
    >>> torch.equal(output, model[2].bias.expand(5, 2))
    True
    """
    session = EditSession(model, resolved_edits(model, edits))
    with plain_transformers(), session:
        try:
            yield
        except Exception as error:
            for note in session.reshaped.values():
                error.add_note(note)
            raise
    session.check()


def resolved_edits(model: nn.Module, edits: Mapping[Place, Change]) -> dict[Read, Change]:
    """Return the function of every place, in the order given.

    Raises
    ------
    TapError
        If something cannot be edited.
    """
    if not isinstance(edits, Mapping):
        raise TapError(
            f"edits must be a dict from tap to function; got {type(edits).__name__}; "
            "write {'layer': lambda value: 2 * value}"
        )
    functions: dict[Read, Change] = {}
    for given, change in edits.items():
        place = named_tap(model, given)
        tap = parse_tap(model, place) if isinstance(place, str) else place
        if not callable(change):
            raise TapError(
                f"an edit must be a function that gets a value and returns one; got {type(change).__name__} for "
                f"tap={str(place)!r}; write lambda value: ..."
            )
        if tap.side == "grad":
            raise TapError(
                f"a gradient cannot be edited; got tap={str(place)!r}; edit the output, or use "
                "torch.Tensor.register_hook in the function"
            )
        if tap.last is not None or from_the_end(place, tap):
            raise TapError(
                f"an edit must say which calls it changes when they come; got tap={str(place)!r}; count calls from "
                "#0, or leave # and last away to change all of them"
            )
        functions |= dict.fromkeys(resolve_taps(model, [place]), change)
    return functions


class EditSession(HookSession):
    """Hooks that change values, before any other hook reads them.

    Parameters
    ----------
    model : nn.Module
    changes : dict of Read to callable
    """

    is_first = True

    def __init__(self, model: nn.Module, changes: Mapping[Read, Change]) -> None:
        # Hooks are put in front of others one by one: that of the last edit first.
        super().__init__(model, tuple(changes)[::-1], take=lambda *_: None)
        self.changes = changes
        self.done: set[Read] = set()
        self.n_whole = 0
        self.reshaped: dict[Read, str] = {}

    def hears(self) -> bool:
        """Whether a pass is changed: those of readers that are called in the block are too."""
        return threading.get_ident() == self.thread

    def attach(self, stack: ExitStack) -> None:
        super().attach(stack)
        OPEN.sessions.append(self)
        stack.callback(OPEN.sessions.remove, self)
        for read in self.reads:
            if read.function:
                for layer in read.modules:
                    stack.enter_context(layer.register_forward_pre_hook(partial(self.refuse_again, read)))

    def reaches(self, layers: set[nn.Module]) -> bool:
        """Whether values are changed where these layers run; functions and marks are while the whole net runs."""
        own = (layer for read in self.reads if not read.function for layer in read.modules)
        return unwrap(self.model) in layers or not layers.isdisjoint(own)

    def refuse_again(self, read: Read, _layer: nn.Module, _args: tuple[Any, ...]) -> None:
        """Refuse to compute a gradient of something else than ran."""
        if in_backward():
            raise TapError(
                f"an edited function must not be called again by checkpoint(); got tap={read.key!r}; edit the layer, "
                "or leave checkpoint() away"
            )

    def hook(self, read: Read, name: str, layer: nn.Module) -> RemovableHandle:
        if read.tap.side == "input":

            def before(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
                changed = self.change_input(read, name, layer.forward, (args, kwargs or {}))
                return changed if kwargs is not None else changed[0]  # a scripted layer passes positions only

            return layer.register_forward_pre_hook(before, with_kwargs=True, prepend=True)

        def after(_layer: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            return self.change_output(read, name, output)

        return layer.register_forward_hook(after, prepend=True)

    def before_function(self, reads: FunctionReads, inputs: Arguments) -> Arguments:
        for read, name in reversed(reads):
            if read.tap.side == "input":
                inputs = self.change_input(read, name, None, inputs)
        return inputs

    def after_function(self, reads: FunctionReads, inputs: Arguments, result: Any) -> Any:
        changed = result
        for read, name in reversed(reads):
            if read.tap.side != "input":
                changed = self.change_output(read, name, changed)
        if changed is not result and inputs[0] and result is inputs[0][0]:
            return result.copy_(changed)  # in place: whoever holds the tensor goes on with it
        return changed

    def on_mark(self, name: str, value: Any) -> Any:
        if not self.hears():
            return value
        self.marks_passed.append(name)
        for read in self.changes:
            if read.is_mark and read.layers[0] == name:
                value = self.change_output(read, name, value)
        return value

    def change_output(self, read: Read, name: str, value: Any) -> Any:
        """Return what a layer returned, changed where the tap says so."""
        if not self.is_due(read, name):
            return value
        return self.changed(read, value, read.path)

    def change_input(
        self, read: Read, name: str, forward: Callable[..., Any] | None, inputs: Arguments
    ) -> Arguments:
        """Return what a layer is given, changed where the tap says so."""
        if not self.is_due(read, name):
            return inputs
        changed: Arguments = self.changed(read, inputs, argument_path(forward, inputs, read.path, read.where))
        return changed

    def is_due(self, read: Read, name: str) -> bool:
        """Count a call; say whether it is one that is edited."""
        wanted = read.tap.call
        if in_backward():
            # A checkpoint makes the values again, in a thread of autograd's own on a GPU, and must make them as they
            # were.
            n_calls = self.counts[read, name]
            if wanted not in ("all", -1) and n_calls > 1:
                raise TapError(
                    f"the edit of {read.key!r} must belong to a call that can be told apart; got {n_calls} calls "
                    "under checkpoint(), which makes them again in another order; edit every call, or leave "
                    "checkpoint() away"
                )
            return wanted in ("all", -1, 0)
        if not self.hears():
            return False
        call = self.counts[read, name]
        self.counts[read, name] += 1
        return wanted in ("all", -1, call)

    def changed(self, read: Read, value: Any, place: Path) -> Any:
        """Return `value` with what its function makes of the value at a place, or of each tensor there."""
        if read.is_open:
            paths = [(*place, *inner) for inner, _ in leaf_paths(walk_into(value, place, read.where))]
        else:
            paths = [first_leaf(value, place, read.where)]
        for path in paths:
            old = walk_into(value, path, read.where)
            with unheard():
                new = self.changes[read](old)
            self.check_result(read, old, new)
            value = replaced(value, path, new)
        self.done.add(read)
        return value

    def check_result(self, read: Read, old: Any, new: Any) -> None:
        """Refuse what cannot take the place of a value, and note what may not fit later."""
        if new is None and old is not None:
            raise TapError(
                f"an edit must return the value that the net goes on with; got None at {read.where}; end the "
                "function with `return value`, also where it changed the value in place"
            )
        kind = next((kind for kind in (Tensor, PackedSequence) if isinstance(old, kind)), None)
        if kind is not None and not isinstance(new, kind):
            raise TapError(
                f"an edit must return a {kind.__name__} where it is given one; got {describe(new)} at {read.where}; "
                "name one value of several by its [item], or every one of them by [*]"
            )
        if isinstance(old, Tensor) and isinstance(new, Tensor) and old.shape != new.shape:
            self.reshaped[read] = (
                f"stackfeat.edited: the edit at {read.where} returned shape {tuple(new.shape)} for {tuple(old.shape)}"
            )

    def end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        super().end(model, args, output)
        self.n_whole += output is not None and self.hears()

    def check(self) -> None:
        """Refuse edits that changed nothing though the net ran.

        Raises
        ------
        TapError
            Saying why the value of the first of them never came.
        """
        for read in self.changes if self.n_whole else ():
            if read not in self.done and not read.from_pattern:
                raise never_fired(read, self)


def first_leaf(value: Any, path: Path, where: str) -> Path:
    """Return the path of the first tensor at `path`; `path` itself where it leads to something else."""
    part = walk_into(value, path, where)
    inner = next(leaf_paths(part), None)
    if inner is None and not path:
        pick(value, path, where)
    return path if inner is None else (*path, *inner[0])


def argument_path(forward: Callable[..., Any] | None, inputs: Arguments, path: Path, where: str) -> Path:
    """Return where in (args, kwargs) an argument is, however it was passed."""
    args, kwargs = inputs
    if not path:
        return ()
    first, rest = path[0], path[1:]
    if isinstance(first, int) and -len(args) <= first < len(args):
        return (0, first, *rest)
    named = named_arguments(forward, inputs)
    walk_into(named, path[:1], where)
    name = list(named)[first] if isinstance(first, int) else first
    return (1, name, *rest) if name in kwargs else (0, list(named).index(name), *rest)
