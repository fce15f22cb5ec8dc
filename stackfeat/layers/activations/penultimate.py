"""Find where a net's last features are: the input of its last weighted layer.

In:  a module and example inputs.
Out: a `Tap`. The autograd graph of one forward pass says which layers reach the output and which
     is last, so auxiliary layers and the order of definition do not mislead; a second pass with
     other values at the tap says whether the output depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.dry_run import ordinary, preserve_state
from stackfeat.layers.taps.hooks import eager
from stackfeat.layers.taps.layers import canonical_names, named_layers, unwrap
from stackfeat.layers.taps.runtime import evaluating, plain_transformers
from stackfeat.layers.taps.tap import Tap
from stackfeat.layers.taps.values import all_tensors

WEIGHTED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)
UNWEIGHTED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
Call = tuple[str, int]


def find_penultimate(model: nn.Module, *example: Any, **kwargs: Any) -> Tap:
    """Return a tap at the input of the last weighted layer on the path to the output.

    Parameters
    ----------
    model : nn.Module
        Its mode, gradients, buffers and hooks are as before afterwards.
    *example, **kwargs
        Arguments of the net, of a few rows.

    Raises
    ------
    TapError
        If no weighted layer reaches the output, or several do side by side (they are named), or
        functional code with weights follows, or the output does not depend on the tap.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(dim=1))
    >>> str(find_penultimate(model, torch.randn(2, 4)))
    '2:input'
    """
    whole, model = model, unwrap(model)
    example, kwargs = ordinary(example, kwargs)
    with preserve_state(model), evaluating(model), plain_transformers(), eager(whole):
        calls, outputs = dry_run(model, example, kwargs)
        names = {name for name, _ in calls.values()}
        owners = {node: call for node, call in calls.items() if is_innermost(call[0], names)}
        starts = [output.grad_fn for output in outputs if output.grad_fn is not None]
        if starts:
            heads, loose = last_on_paths(starts, owners)
        else:
            heads, loose = list(owners.values())[-1:], []  # no gradients at all: call order must do
        layer, call = the_only(heads, owners, weights_named(model, loose))
        n_calls = sum(name == layer for name, _ in owners.values())
        tap = Tap(layer, side="input", call=call if n_calls > 1 else -1)
        if not depends_on(model, layer, call, example, kwargs, outputs):
            raise TapError(
                f"the output must depend on the input of the last weighted layer; got the same output for other "
                f"values at {str(tap)!r}; name a tap yourself"
            )
    return tap


def the_only(heads: list[Call], owners: Mapping[Any, Call], loose: list[str]) -> Call:
    """Return the one head.

    Raises
    ------
    TapError
        If there is not exactly one; names the candidates.
    """
    if loose:
        raise TapError(
            f"a weighted layer must lead to the output; got the weights {', '.join(loose)} used by functional code "
            "after the last layer; put stackfeat.mark('features', x) before it and tap 'features'"
        )
    if len(heads) == 1:
        return heads[0]
    candidates = list(dict.fromkeys(name for name, _ in owners.values()))
    found = ", ".join(dict.fromkeys(name for name, _ in heads)) or "none"
    example = heads[0][0] if heads else candidates[-1] if candidates else "layer"
    raise TapError(
        f"one weighted layer must lead to the output; got {found} of the weighted layers "
        f"{', '.join(candidates) or 'none'}; name a tap, such as '{example}:input'"
    )


def dry_run(
    model: nn.Module, example: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[Any, Call], list[Tensor]]:
    """Run `model` once; return (graph node made by a layer's call -> layer and call), and the outputs.

    The caller holds `preserve_state(model)`: frozen weights get gradients too, so that the graph shows
    every layer.
    """
    calls: dict[Any, Call] = {}
    counts: dict[str, int] = {}
    layers = named_layers(model)
    first = canonical_names(layers)

    def record(name: str, output: Any) -> None:
        call = (name, counts.get(name, 0))
        counts[name] = call[1] + 1
        for tensor in all_tensors(output):
            # Not overwritten: a container returns the tensor, and the node, of the layer inside it.
            calls.setdefault(tensor.grad_fn if tensor.grad_fn is not None else call, call)

    for weight in model.parameters():
        if weight.is_floating_point():
            weight.requires_grad_(True)
    handles = [
        layer.register_forward_hook(lambda _layer, _args, output, name=name: record(name, output))
        for name, layer in layers.items()
        if first[id(layer)] == name
        and name
        and is_weighted(layer)
        and "parametrizations" not in name.split(".")
    ]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            outputs = all_tensors(model(*example, **kwargs))
    finally:
        for handle in handles:
            handle.remove()
    if not outputs:
        raise TapError(f"{type(model).__name__} must return a tensor; got none; return one from forward")
    return calls, outputs


def last_on_paths(starts: list[Any], owners: Mapping[Any, Call]) -> tuple[list[Call], list[Tensor]]:
    """Return the layer calls met first on the way back from the outputs, without those that lead to others.

    Also the weights that are met before any layer.
    """
    heads, weights = met_first(starts, owners)
    upstream: set[Any] = set()
    for node in heads:
        upstream |= above([parent for parent, _ in node.next_functions if parent is not None])
    kept = dict.fromkeys(owners[node] for node in heads if node not in upstream)
    return list(kept), weights


def met_first(starts: list[Any], owners: Mapping[Any, Call]) -> tuple[list[Any], list[Tensor]]:
    heads: dict[Any, None] = {}
    weights: list[Tensor] = []
    waiting, seen = list(starts), set(starts)
    while waiting:
        node = waiting.pop()
        if node in owners:
            heads[node] = None
            continue
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            weights.append(variable)
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return list(heads), weights


def above(starts: list[Any]) -> set[Any]:
    """Return all nodes that lead to these, and these."""
    waiting, seen = list(starts), set(starts)
    while waiting:
        for parent, _ in waiting.pop().next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return seen


def weights_named(model: nn.Module, weights: list[Tensor]) -> list[str]:
    """Return the names of weight matrices among `weights`; scales, biases and norms are none."""
    matrices = {id(weight) for weight in weights if sum(size > 1 for size in weight.shape) > 1}
    return [
        f"{name}.{key}" if name else key
        for name, part in named_layers(model).items()
        if not isinstance(part, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._NormBase)
        for key, weight in part._parameters.items()
        if id(weight) in matrices
    ]


def depends_on(
    model: nn.Module,
    layer: str,
    call: int,
    example: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    before: list[Tensor],
) -> bool:
    """Whether the output changes with the values that `layer` is given at its `call`."""
    n_calls = 0

    def disturb(value: Any) -> Any:
        return value * 1.5 + 0.5 if isinstance(value, Tensor) and value.is_floating_point() else value

    def change(_layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls - 1 != call:
            return None
        return tuple(disturb(value) for value in args), {
            name: disturb(value) for name, value in given.items()
        }

    handle = named_layers(model)[layer].register_forward_pre_hook(change, with_kwargs=True)
    try:
        with torch.no_grad():
            after = all_tensors(model(*example, **kwargs))
    finally:
        handle.remove()
    return any(
        not torch.allclose(a.float(), b.detach().float(), equal_nan=True)
        for a, b in zip(after, before, strict=False)
    )


def is_weighted(layer: nn.Module) -> bool:
    if isinstance(layer, UNWEIGHTED):
        return False
    return isinstance(layer, WEIGHTED) or any(weight.ndim > 1 for weight in layer.parameters(recurse=False))


def is_innermost(name: str, names: set[str]) -> bool:
    """Say whether no weighted layer inside this one ran: a ViT owns weights but is not its head."""
    return not any(other.startswith(f"{name}.") for other in names)
