"""Find where a net's last features are: the input of its last weighted layer.

In:  a module and example inputs.
Out: a `Tap`. The autograd graph of one forward pass says which layers reach the output and which
     is last, so auxiliary heads and the order of definition do not mislead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.nets.runtime import evaluating, plain_transformers
from stackfeat.nets.taps import Tap, first_tensor

WEIGHTED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)
UNWEIGHTED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
Call = tuple[str, int]


def find_penultimate(model: nn.Module, *example: Tensor) -> Tap:
    """Return a tap at the input of the last weighted layer on the path to the output.

    Parameters
    ----------
    model : nn.Module
        Its mode, gradients and hooks are as before afterwards.
    *example : Tensor
        Inputs of a few rows.

    Raises
    ------
    TapError
        If no weighted layer reaches the output, or several do side by side; names the candidates.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(dim=1))
    >>> str(find_penultimate(model, torch.randn(2, 4)))
    '2:input'
    """
    calls, output = dry_run(model, example)
    names = {name for name, _ in calls.values()}
    owners = {node: call for node, call in calls.items() if is_innermost(call[0], names)}
    candidates = list(dict.fromkeys(name for name, _ in owners.values()))
    if output.grad_fn is None:
        heads = list(owners.values())[-1:]  # the net turns gradients off itself: call order must do
    else:
        heads = first_on_path(output.grad_fn, owners)
    if len(heads) != 1:
        found = ", ".join(name for name, _ in heads) or "none"
        raise TapError(
            f"one weighted layer must lead to the output; got {found} of the weighted layers "
            f"{', '.join(candidates) or 'none'}; "
            f"name a tap, such as '{candidates[-1] if candidates else 'layer'}:input'"
        )
    layer, call = heads[0]
    n_calls = sum(name == layer for name, _ in owners.values())
    return Tap(layer, side="input", call=call if n_calls > 1 else -1)


def dry_run(model: nn.Module, example: tuple[Tensor, ...]) -> tuple[dict[Any, Call], Tensor]:
    """Run `model` once; return (graph node made by a layer's call -> layer and call), and the output."""
    calls: dict[Any, Call] = {}
    counts: dict[str, int] = {}

    def record(name: str, output: Any) -> None:
        call = (name, counts.get(name, 0))
        counts[name] = call[1] + 1
        for tensor in all_tensors(output):
            # Not overwritten: a container returns the tensor, and the node, of the layer inside it.
            calls.setdefault(tensor.grad_fn if tensor.grad_fn is not None else call, call)

    handles = [
        layer.register_forward_hook(lambda _layer, _args, output, name=name: record(name, output))
        for name, layer in model.named_modules()
        if is_weighted(layer) and name and "parametrizations" not in name.split(".")
    ]
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            evaluating(model),
            plain_transformers(),
            trainable(model),
        ):
            output = first_tensor(model(*example))
    finally:
        for handle in handles:
            handle.remove()
    if output is None:
        raise TapError(f"{type(model).__name__} must return a tensor; got none; return one from forward")
    return calls, output


def first_on_path(start: Any, owners: dict[Any, Call]) -> list[Call]:
    """Walk the graph backwards from `start` and return the layer calls met first on every path."""
    heads: dict[Call, None] = {}
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        if node in owners:
            heads[owners[node]] = None
            continue
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return list(heads)


def is_weighted(layer: nn.Module) -> bool:
    if isinstance(layer, UNWEIGHTED):
        return False
    return isinstance(layer, WEIGHTED) or any(weight.ndim > 1 for weight in layer.parameters(recurse=False))


def is_innermost(name: str, names: set[str]) -> bool:
    """Say whether no weighted layer inside this one ran: a ViT owns weights but is not its head."""
    return not any(other.startswith(f"{name}.") for other in names)


def all_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in values for tensor in all_tensors(part)]


@contextmanager
def trainable(model: nn.Module) -> Iterator[None]:
    """Let gradients reach frozen weights too, so that the graph shows every layer."""
    frozen = [
        weight for weight in model.parameters() if not weight.requires_grad and weight.is_floating_point()
    ]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
