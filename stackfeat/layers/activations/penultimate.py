"""Find where a net's last features are: the input of its head.

In:  a module and example inputs.
Out: a `Tap`. One forward pass tells which value came of which (`ValueGraph`), `HeadSearch` finds the head in
     that, and a second pass with other values there tells that the output depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.head_search import HeadSearch, roots_of
from stackfeat.layers.activations.value_graph import Call, Path, ValueGraph, items_of, tensors_in
from stackfeat.layers.taps.layers import named_layers, unwrap
from stackfeat.layers.taps.passes import eager, in_this_thread
from stackfeat.layers.taps.quantised import disturbed
from stackfeat.layers.taps.runtime import evaluating, plain_transformers, preserve_state
from stackfeat.layers.taps.tap import Item, Tap
from stackfeat.layers.taps.values import (
    Arguments,
    all_tensors,
    describe,
    for_autograd,
    map_tensors,
    walk_into,
)

AUXILIARY = re.compile(r"aux(?![a-z])|auxiliary", re.IGNORECASE)
"""Keys under which nets return the output of an auxiliary head, as those of torchvision do."""


def find_penultimate(
    model: nn.Module,
    *example: Any,
    output_item: Item = None,
    example_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tap:
    """Return a tap at the last features of a net: what its head is given.

    The head is the last weighted layer on the path to the output, or, where several parts make the output
    out of one value (heads side by side, an adapter, a mixture of experts), all of them.

    Parameters
    ----------
    model : nn.Module
        Its mode, gradients, buffers and hooks are as before afterwards.
    *example, **kwargs
        Arguments of the net, of a few rows.
    output_item : int, str or tuple of them, optional
        Which value of a tuple, list, dict or dataclass is the output. By default the first field of a
        dataclass (but for ``loss``), and of tuples, lists and dicts all values but those that others
        are made of, whose head reads what others are made of, or that are called ``aux``.
    example_kwargs : mapping of str to argument, optional
        More arguments by name: those of a net whose forward has one called ``output_item``, say.

    Raises
    ------
    TapError
        If the net has no head (its features are its output), if several heads read different values, or if
        functional code with weights makes the output of a value that no layer is given or returns.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(dim=1))
    >>> str(find_penultimate(model, torch.randn(2, 4)))
    '2:input'
    """
    whole, model = model, unwrap(model)
    given = for_autograd(example, {**kwargs, **(example_kwargs or {})})
    with preserve_state(model), evaluating(model), plain_transformers(), eager(whole), quiet():
        search, output = record(model, given, output_item)
        if not search.tail.last and search.graph.unknown:
            # Values that came back from elsewhere, such as NumPy, may have been made of the arguments.
            search, output = record(model, given, output_item, unknown_is_data=True)
        tap = search.tap()
        check_dependence(search, tap, given, output)
    return tap


def record(
    model: nn.Module, given: Arguments, item: Item, unknown_is_data: bool = False
) -> tuple[HeadSearch, Any]:
    """Run the net once; return what looks for its head, and its output."""
    inputs = copies(given)
    graph = ValueGraph(model, inputs, unknown_is_data=unknown_is_data)
    output = graph.run(model, inputs)
    return HeadSearch(model, graph, followed(output, item)), output


def copies(inputs: Arguments) -> Arguments:
    """Return arguments that the net may overwrite."""
    copied: Arguments = map_tensors(lambda x: x.clone(), inputs)
    return copied


@contextmanager
def quiet() -> Iterator[None]:
    """Compute no gradients, and nothing in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def followed(output: Any, item: Item) -> list[tuple[Path, Tensor]]:
    """Return the tensors of the output that may be made by a head, and the ways to them.

    Raises
    ------
    TapError
        If there is none.
    """
    path: Path = () if item is None else item if isinstance(item, tuple) else (item,)
    try:
        value = walk_into(output, path, "the output")
    except TapError as error:
        raise TapError(
            f"output_item must be in the output; got output_item={item!r} of {describe(output)}; correct it"
        ) from error
    if is_dataclass(value):
        # Hugging Face's outputs: the first field is what the model is for, all others accompany it.
        fields = [(key, list(tensors_in(part))) for key, part in items_of(value) if key != "loss"]
        key, tensors = next(((key, tensors) for key, tensors in fields if tensors), ("", []))
        found = [((*path, key, *rest), tensor) for rest, tensor in tensors]
    else:
        found = [((*path, *rest), tensor) for rest, tensor in tensors_in(value)]
    if isinstance(value, Mapping):
        found = [pair for pair in found if not AUXILIARY.match(str(pair[0][len(path)]))] or found
    if not found:
        raise TapError(f"the net must return a tensor; got {describe(value)}; return one from forward")
    return found


def check_dependence(search: HeadSearch, tap: Tap, inputs: Arguments, output: Any) -> None:
    """Run the net with other values at the tap, and at the heads, and look whether the output changes.

    Raises
    ------
    TapError
        If it stays as it is, though no weight on the way is zero.
    """
    heads = [call for call in map(search.unit, search.tail.last) if isinstance(call, Call)]
    places = [(str(tap.layer), tap.call, tap.side)] + [(call.layer, call.number, "output") for call in heads]
    if any(changes(search.model, place, search.graph, inputs, output) for place in places):
        return
    weights = (value.weight for head in search.tail.last for value in roots_of(head, search.tail))
    if any(weight is not None and not weight.any() for weight in weights):
        return
    raise TapError(
        f"the output must depend on the input of the last weighted layer; got the same output for other "
        f"values at {str(tap)!r}; name a tap yourself"
    )


def comparable(x: Tensor) -> Tensor:
    return x.to(torch.complex64) if x.is_complex() else x.float()


def changes(
    model: nn.Module, place: tuple[str, Any, str], graph: ValueGraph, inputs: Arguments, output: Any
) -> bool:
    """Whether the output is another one with other values at a call of a layer."""
    name, number, side = place
    wanted, calls = number if number >= 0 else graph.n_calls[name] + number, count()
    generator = torch.Generator().manual_seed(0)

    def disturb(x: Tensor) -> Tensor:
        if x.is_quantized:
            return disturbed(x)
        if not (x.is_floating_point() or x.is_complex()):
            return x
        kind = torch.complex64 if x.is_complex() else torch.float32
        noise = torch.rand(x.shape, generator=generator, dtype=kind).to(x)
        return 0.5 + noise - x * 1.5  # the other way round: the largest value need not stay so

    def before(_layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        return map_tensors(disturb, (args, given)) if next(calls) == wanted else None

    def after(_layer: nn.Module, _args: tuple[Any, ...], made: Any) -> Any:
        return map_tensors(disturb, made) if next(calls) == wanted else None

    layer = named_layers(model)[name]
    given = copies(inputs)
    with (
        layer.register_forward_pre_hook(in_this_thread(before), with_kwargs=True)
        if side == "input"
        else layer.register_forward_hook(in_this_thread(after))
    ):
        other = model(*given[0], **given[1])
    return any(
        a.shape != b.shape or not torch.allclose(comparable(a), comparable(b), equal_nan=True)
        for a, b in zip(all_tensors(other), all_tensors(output), strict=False)
    )
