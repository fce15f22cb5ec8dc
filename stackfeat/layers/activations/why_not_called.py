"""Why a layer did not fire in a forward pass.

In:  a module, a tap that nothing came through, the arguments of the pass.
Out: a sentence: what happened to the layer, and what to tap instead.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.layers.activations.dry_run import ordinary
from stackfeat.layers.taps.layers import canonical_names, named_layers, never_called
from stackfeat.layers.taps.marks import RUNNING
from stackfeat.layers.taps.tap import Read
from stackfeat.layers.taps.values import all_tensors


@dataclass
class Witness:
    """What happened in a pass: calls by layer, runs of ``forward`` by layer, marks, gradient nodes."""

    calls: Counter[str] = field(default_factory=Counter)
    forwards: Counter[str] = field(default_factory=Counter)
    marks: list[str] = field(default_factory=list)
    output: Any = None

    def on_mark(self, name: str, _value: Any) -> None:
        self.marks.append(name)


@contextmanager
def witnessing(model: nn.Module) -> Iterator[Witness]:
    """Count calls, runs of ``forward`` and marks, for as long as the block lasts."""
    witness = Witness()
    layers = named_layers(model)
    first = canonical_names(layers)
    with ExitStack() as stack:
        RUNNING.listeners.append(witness)
        stack.callback(RUNNING.listeners.remove, witness)
        for name, layer in layers.items():
            if first[id(layer)] != name or isinstance(layer, torch.jit.ScriptModule):
                continue

            def called(_layer: nn.Module, _args: tuple[Any, ...], name: str = name) -> None:
                witness.calls[name] += 1

            stack.callback(layer.register_forward_pre_hook(called).remove)
            if not never_called(layers, name):
                count_forwards(layer, functools.partial(witness.forwards.update, [name]), stack)
        yield witness


def count_forwards(layer: nn.Module, count: Callable[[], None], stack: ExitStack) -> None:
    """Count runs of ``forward``, also those that go past the hooks, until `stack` is closed."""
    own = layer.__dict__.get("forward")
    forward = layer.forward

    @functools.wraps(forward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        count()
        return forward(*args, **kwargs)

    def restore() -> None:
        if own is None:
            del layer.__dict__["forward"]
        else:
            layer.__dict__["forward"] = own

    layer.__dict__["forward"] = counted
    stack.callback(restore)


def witness_pass(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Witness:
    """Run once with gradients on, so that it shows which weights were used without a call."""
    args, kwargs = ordinary(args, kwargs)
    with witnessing(model) as witness, torch.inference_mode(False), torch.enable_grad():
        for weight in model.parameters():
            if weight.is_floating_point():
                weight.requires_grad_(True)
        witness.output = model(*args, **kwargs)
    return witness


def why_not_called(
    model: nn.Module, read: Read, n_calls: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """Say why nothing came through a tap.

    The caller holds `preserve_state(model)`: gradient flags are set here.
    """
    where = f"tap {read.key!r} cannot be read"
    if n_calls:
        return (
            f"{where}: its layer ran {n_calls} time{'s' if n_calls > 1 else ''} in a forward pass; got "
            f"call={read.tap.call}; use #0 to #{n_calls - 1}, or #-1 for the last"
        )
    witness = witness_pass(model, args, kwargs)
    if read.is_mark:
        heard = ", ".join(dict.fromkeys(witness.marks)) or "none"
        return f"{where}: it is no layer, and no mark of that name was passed; got marks {heard}; correct the name"
    layers = named_layers(model)
    names = canonical_names(layers)
    name = names[id(read.modules[0])]
    return f"{where}: {read.layers[0]!r} {reason_of(layers, name, witness)}"


def reason_of(layers: dict[str, nn.Module], name: str, witness: Witness, used: set[int] | None = None) -> str:
    """Say what happened to a layer that was not called."""
    fixed = never_called(layers, name)
    if fixed is not None:
        return fixed
    instead = f"; tap {nearest(name, witness)} instead"
    if witness.forwards[name]:
        return (
            "ran through .forward(), which goes past hooks; call it as layer(x) in the net, or put stackfeat.mark() "
            f"around it{instead}"
        )
    weights = {id(weight) for weight in layers[name].parameters()}
    if weights & (weights_used(witness.output) if used is None else used):
        return f"was not called, but its weights were used directly, by functional code{instead}"
    return f"was not called in this forward pass: these inputs lead past it{instead}"


def nearest(name: str, witness: Witness) -> str:
    """Return the layer around `name` that was called, or some that were."""
    above = name
    while above:
        above = above.rpartition(".")[0]
        if above and witness.calls[above]:
            return repr(above)
    called = [other for other in witness.calls if other]
    return f"one that ran ({', '.join(called[:6])}{', ...' if len(called) > 6 else ''})"


def weights_used(output: Any) -> set[int]:
    """Return the ids of the weights that the gradient of `output` reaches."""
    waiting = [tensor.grad_fn for tensor in all_tensors(output) if tensor.grad_fn is not None]
    seen: set[Any] = set(waiting)
    used: set[int] = set()
    while waiting:
        node = waiting.pop()
        weight = getattr(node, "variable", None)
        if isinstance(weight, Tensor):
            used.add(id(weight))
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return used
