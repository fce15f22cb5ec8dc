"""What happens to each layer in one forward pass, and why a layer did not fire.

In:  a module, the arguments of a pass, a tap that nothing came through.
Out: a `CallTrace`, and a sentence: what happened to the layer, and what to tap instead.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stackfeat.layers.taps.functions import FunctionCalls
from stackfeat.layers.taps.hooks import no_such_call
from stackfeat.layers.taps.layers import (
    Layers,
    canonical_names,
    inside_attention,
    named_layers,
    never_called,
    unique_layers,
)
from stackfeat.layers.taps.marks import RUNNING
from stackfeat.layers.taps.refusals import refusals
from stackfeat.layers.taps.runtime import replaced_attributes
from stackfeat.layers.taps.tap import Read
from stackfeat.layers.taps.values import Arguments, all_tensors, first_tensor, for_autograd, parts


@dataclass
class CallTrace:
    """What happened in a pass.

    Attributes
    ----------
    calls, forwards : Counter of str
        Calls by layer, and runs of its ``forward``, also those that go past hooks.
    elsewhere : dict of str to str
        By layer another thread in which it was called.
    shapes : dict of str to tuple of str
        Shapes of inputs and outputs and the dtype at the last call, by layer.
    marks : list of str
        Names of the marks that were passed.
    weights : set of int
        Ids of the weights that the gradient of the output reaches.
    functions : dict of (str, str) to int
        Calls of functions by layers, by both names, in the order of the first call.
    function_shapes : dict of (str, str) to tuple of str
        As `shapes`.
    """

    calls: Counter[str] = field(default_factory=Counter)
    elsewhere: dict[str, str] = field(default_factory=dict)
    forwards: Counter[str] = field(default_factory=Counter)
    shapes: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    weights: set[int] = field(default_factory=set)
    functions: Counter[tuple[str, str]] = field(default_factory=Counter)
    function_shapes: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)

    thread: int = field(default_factory=threading.get_ident)

    def on_call(self, name: str, _layer: nn.Module, _args: tuple[Any, ...]) -> None:
        if threading.get_ident() == self.thread:
            self.calls[name] += 1
        else:
            self.elsewhere[name] = threading.current_thread().name

    def on_return(self, name: str, _layer: nn.Module, args: Any, *given: Any) -> None:
        if threading.get_ident() != self.thread:
            return
        kwargs, output = given
        self.shapes[name] = shapes_of((args, kwargs), output)

    def on_function(self, name: str, function: str, inputs: Arguments, result: Any) -> None:
        self.functions[name, function] += 1
        self.function_shapes[name, function] = shapes_of(inputs, result)


def shapes_of(inputs: Arguments, output: Any) -> tuple[str, str, str]:
    """Write the shapes of what a call is given and returns, and the dtype of the first tensor returned."""
    args, kwargs = inputs
    given = [shape_of(value) for value in args]
    given += [f"{key}={shape_of(value)}" for key, value in kwargs.items() if first_tensor(value) is not None]
    tensor = first_tensor(output)
    dtype = "" if tensor is None else str(tensor.dtype).removeprefix("torch.")
    return ", ".join(given), shape_of(output), dtype


def trace_pass(model: nn.Module, inputs: Arguments, *, functions: bool = False) -> CallTrace:
    """Run once with gradients on, so that it shows which weights were used without a call.

    With `functions` it also hears the functions of torch that layers call.
    The caller holds `preserve_state(model)`: gradient flags are set here.

    Raises
    ------
    TapError
        If the net does not run.
    """
    args, kwargs = for_autograd(*inputs)
    trace, layers = CallTrace(), unique_layers(model)
    with ExitStack() as stack, torch.inference_mode(False), torch.enable_grad():

        def on_mark(name: str, value: Any) -> Any:
            trace.marks.append(name)
            return value

        RUNNING.listeners.append(on_mark)
        stack.callback(RUNNING.listeners.remove, on_mark)
        for name, layer in layers.items():
            if isinstance(layer, torch.jit.ScriptModule):
                continue
            before = layer.register_forward_pre_hook(functools.partial(trace.on_call, name))
            after = layer.register_forward_hook(functools.partial(trace.on_return, name), with_kwargs=True)
            stack.enter_context(before)
            stack.enter_context(after)
            if not never_called(layers, name):
                count = functools.partial(trace.forwards.update, [name])
                stack.enter_context(replaced_attributes([(layer, "forward", counted(layer.forward, count))]))
        for weight in model.parameters():
            if weight.is_floating_point():
                weight.requires_grad_(True)
        if functions:
            names = canonical_names(layers)

            def note(layer: nn.Module, function: str, inputs: Arguments, result: Any) -> Any:
                trace.on_function(names[id(layer)], function, inputs, result)
                return result

            heard = FunctionCalls(model, None, lambda _layer, _function, inputs: inputs, note)
            heard.attach(stack)
            heard.listen()
        with refusals(model, args, kwargs, "the example"):
            output = model(*args, **kwargs)
        starts = [tensor.grad_fn for tensor in all_tensors(output) if tensor.grad_fn is not None]
        found = (getattr(node, "variable", None) for node in graph_nodes(starts))
        trace.weights = {id(weight) for weight in found if isinstance(weight, Tensor)}
    return trace


def counted(forward: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    """Return a ``forward`` that counts its runs, also those that go past the hooks."""

    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        count()
        return forward(*args, **kwargs)

    return run


def graph_nodes(starts: Iterable[Any], ends: Container[Any] = ()) -> Iterator[Any]:
    """Yield nodes of the autograd graph, from the last back to the first, not going past `ends`."""
    waiting = list(dict.fromkeys(starts))
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        if node in ends:
            continue
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)


def shape_of(value: Any) -> str:
    """Write the shapes of tensors in any nesting."""
    if isinstance(value, Tensor):
        return "nested" if value.is_nested else str(tuple(value.shape))
    if isinstance(value, PackedSequence):
        return f"packed {tuple(value.data.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shape_of(part)}" for key, part in value.items()) + "}"
    if parts(value):
        return "[" + ", ".join(shape_of(part) for part in parts(value)) + "]"
    return repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__


def why_not_called(model: nn.Module, read: Read, n_calls: int, inputs: Arguments) -> str:
    """Say why nothing came through a tap.

    The caller holds `preserve_state(model)`: gradient flags are set here.
    """
    where = f"tap {read.key!r} cannot be read"
    layers = named_layers(model)
    names = canonical_names(layers)
    if read.function:
        trace = trace_pass(model, inputs, functions=True)
        name = names[id(read.modules[0])]
        calls = {function: n for (layer, function), n in trace.functions.items() if layer == name}
        if trace.calls[name]:
            return f"{where}: {no_such_call(read, [calls])}"
        return f"{where}: {read.layers[0]!r} {reason_of(layers, name, trace)}"
    if n_calls:
        return (
            f"{where}: its layer ran {n_calls} time{'s' if n_calls > 1 else ''} in a forward pass; got "
            f"call={read.tap.call}; use #0 to #{n_calls - 1}, or #-1 for the last"
        )
    trace = trace_pass(model, inputs)
    if read.is_mark:
        passed = ", ".join(dict.fromkeys(trace.marks)) or "none"
        if str(read.tap) in trace.marks:
            return f"{where}: a mark of that name looks like a tap; write sf.Tap({str(read.tap)!r})"
        return f"{where}: it is no layer, and no mark of that name was passed; got marks {passed}; correct the name"
    name = names[id(read.modules[0])]
    return f"{where}: {read.layers[0]!r} {reason_of(layers, name, trace)}"


def reason_of(layers: Layers, name: str, trace: CallTrace) -> str:
    """Say what happened to a layer that was not called."""
    fixed = never_called(layers, name) or inside_attention(layers, name)
    if fixed is not None:
        return fixed
    instead = f"; tap {nearest(name, trace)} instead"
    if name in trace.elsewhere:
        return f"was called in another thread than the net ({trace.elsewhere[name]}), where it is not heard{instead}"
    if trace.forwards[name]:
        return (
            "ran through .forward(), which goes past hooks; call it as layer(x) in the net, or put stackfeat.mark() "
            f"around it{instead}"
        )
    if any(id(weight) in trace.weights for weight in layers[name].parameters()):
        return f"was not called, but its weights were used directly, by functional code{instead}"
    return f"was not called in this forward pass: these inputs lead past it{instead}"


def nearest(name: str, trace: CallTrace) -> str:
    """Return the layer around `name` that was called, or some that were."""
    above = name
    while above:
        above = above.rpartition(".")[0]
        if above and trace.calls[above]:
            return repr(above)
    called = [other for other in trace.calls if other]
    return f"one that ran ({', '.join(called[:6])}{', ...' if len(called) > 6 else ''})"
