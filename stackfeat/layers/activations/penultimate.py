"""Find where a net's last features are: the input of its last weighted layer.

In:  a module and example inputs.
Out: a `Tap`. The autograd graph of one forward pass says which layers reach the output and which
     is last, so auxiliary layers and the order of definition do not mislead; a second pass with
     other values at the tap says whether the output depends on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.call_trace import graph_nodes
from stackfeat.layers.taps.hooks import eager
from stackfeat.layers.taps.layers import named_layers, unique_layers, unwrap
from stackfeat.layers.taps.runtime import evaluating, plain_transformers, preserve_state
from stackfeat.layers.taps.tap import Tap
from stackfeat.layers.taps.values import Arguments, all_tensors, for_autograd, map_tensors

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
    inputs = for_autograd(example, kwargs)
    with preserve_state(model), evaluating(model), plain_transformers(), eager(whole):
        calls, outputs = weighted_calls(model, inputs)
        names = {name for name, _ in calls.values()}
        # Innermost layers only: a ViT owns weights but is not its head.
        owners = {
            node: call
            for node, call in calls.items()
            if not any(name.startswith(f"{call[0]}.") for name in names)
        }
        starts = [output.grad_fn for output in outputs if output.grad_fn is not None]
        heads, direct = last_on_paths(starts, owners)
        if not starts:
            heads = list(owners.values())[-1:]  # no gradients at all: call order must do
        layer, call = single_head(heads, owners, weights_named(model, direct))
        n_calls = sum(name == layer for name, _ in owners.values())
        tap = Tap(layer, side="input", call=call if n_calls > 1 else -1)
        if not depends_on(model, (layer, call), inputs, outputs):
            raise TapError(
                f"the output must depend on the input of the last weighted layer; got the same output for other "
                f"values at {str(tap)!r}; name a tap yourself"
            )
    return tap


def single_head(heads: list[Call], owners: Mapping[Any, Call], direct: list[str]) -> Call:
    """Return the one head.

    Raises
    ------
    TapError
        If there is not exactly one; names the candidates.
    """
    if direct:
        raise TapError(
            f"a weighted layer must lead to the output; got the weights {', '.join(direct)} used by functional code "
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


def weighted_calls(model: nn.Module, inputs: Arguments) -> tuple[dict[Any, Call], list[Tensor]]:
    """Run `model` once; return (graph node made by a layer's call -> layer and call), and the outputs.

    The caller holds `preserve_state(model)`: frozen weights get gradients too, so that the graph shows
    every layer.
    """
    calls: dict[Any, Call] = {}
    counts: Counter[str] = Counter()

    def record(name: str, _layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        call = (name, counts[name])
        counts[name] += 1
        for tensor in all_tensors(output):
            # Not overwritten: a container returns the tensor, and the node, of the layer inside it.
            calls.setdefault(tensor.grad_fn if tensor.grad_fn is not None else call, call)

    for weight in model.parameters():
        if weight.is_floating_point():
            weight.requires_grad_(True)
    with ExitStack() as stack, torch.inference_mode(False), torch.enable_grad():
        for name, layer in unique_layers(model).items():
            if name and is_weighted(layer) and "parametrizations" not in name.split("."):
                stack.enter_context(layer.register_forward_hook(partial(record, name)))
        outputs = list(all_tensors(model(*inputs[0], **inputs[1])))
    if not outputs:
        raise TapError(f"{type(model).__name__} must return a tensor; got none; return one from forward")
    return calls, outputs


def last_on_paths(starts: list[Any], owners: Mapping[Any, Call]) -> tuple[list[Call], list[Tensor]]:
    """Return the layer calls met first on the way back from the outputs, without those that lead to others.

    Also the weights that are met before any layer.
    """
    nodes = list(graph_nodes(starts, owners))
    heads = [node for node in nodes if node in owners]
    upstream: set[Any] = set()
    for node in heads:
        upstream.update(graph_nodes(parent for parent, _ in node.next_functions if parent is not None))
    found = [getattr(node, "variable", None) for node in nodes if node not in owners]
    weights: list[Tensor] = [weight for weight in found if isinstance(weight, nn.Parameter)]
    return list(dict.fromkeys(owners[node] for node in heads if node not in upstream)), weights


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


def depends_on(model: nn.Module, call: Call, inputs: Arguments, before: list[Tensor]) -> bool:
    """Whether the output changes with the values that a layer is given at a call."""
    calls = count()

    def disturb(x: Tensor) -> Tensor:
        return x * 1.5 + 0.5 if x.is_floating_point() else x

    def change(_layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        return map_tensors(disturb, (args, given)) if next(calls) == call[1] else None

    tapped_layer = named_layers(model)[call[0]]
    with tapped_layer.register_forward_pre_hook(change, with_kwargs=True), torch.no_grad():
        after = all_tensors(model(*inputs[0], **inputs[1]))
    return any(
        not torch.allclose(a.float(), b.detach().float(), equal_nan=True)
        for a, b in zip(after, before, strict=False)
    )


def is_weighted(layer: nn.Module) -> bool:
    if isinstance(layer, UNWEIGHTED):
        return False
    return isinstance(layer, WEIGHTED) or any(weight.ndim > 1 for weight in layer.parameters(recurse=False))
