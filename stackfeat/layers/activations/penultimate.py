"""Find where a net's last features are: the input of its head.

In:  a module and example inputs.
Out: a `Tap`. One forward pass tells which value came of which (`ValueGraph`). The last features are the last
     value through which all that the net learned goes on its way to the output, and after which weights
     follow: the head. Where the way past the last weights is open, as in a body that ends in a residual
     sum or a norm, there is no head.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cached_property
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.value_graph import (
    Call,
    Path,
    Value,
    ValueGraph,
    ancestors,
    chain_of,
    items_of,
    tensors_in,
)
from stackfeat.layers.taps.layers import named_layers, unwrap
from stackfeat.layers.taps.passes import eager, in_this_thread
from stackfeat.layers.taps.quantised import disturbed
from stackfeat.layers.taps.runtime import evaluating, plain_transformers, preserve_state
from stackfeat.layers.taps.tap import Item, Side, Tap
from stackfeat.layers.taps.values import (
    Arguments,
    all_tensors,
    describe,
    for_autograd,
    map_tensors,
    walk_into,
)

NORMALISATION = re.compile(r"\w*(batch|layer|group|rms|instance)_norm\w*|rsqrt")
HIDDEN_ACTIVATION = re.compile(
    r"(re|ge|se|ce|si|e|leaky_re|pre)lu|_prelu_kernel|hardtanh|hardswish|mish|tanh"
)
"""What follows a hidden layer. An output may end so too, but then nothing else says that it is none."""
AUXILIARY = re.compile(r"aux(?![a-z])|auxiliary", re.IGNORECASE)
"""Keys under which nets return the output of an auxiliary head, as those of torchvision do."""
NEVER_LAST = re.compile(r"gelu|silu|hardswish|mish")
"""Hidden activations that no output ends in."""
AFFINE = re.compile(r"|add|sub|clone|_to_copy|_unsafe_view")
HEAD_NAMES = frozenset(
    ["head", "heads", "fc", "classifier", "last_linear", "logits", "score", "classification_head"]
)


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
        search.check_dependence(tap, given, output)
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


class HeadSearch:
    """Looks for the head of a net in the graph of its values.

    Parameters
    ----------
    model : nn.Module
    graph : ValueGraph
        Of one pass.
    outputs : list of (path, tensor)
        What the head may make.
    """

    def __init__(self, model: nn.Module, graph: ValueGraph, outputs: list[tuple[Path, Tensor]]) -> None:
        self.model, self.graph, self.outputs = model, graph, outputs
        self.holders = {
            call for value in graph.weighted if value.call for call in list(value.call.chain())[1:]
        }
        ends = list(dict.fromkeys(graph.value_of(tensor) for _, tensor in outputs))
        self.ends = main_ends([Tail(self, [end]) for end in ends if end.is_learned])
        self.tail = Tail(self, self.ends)

    def tap(self) -> Tap:
        """Return the tap at the last features."""
        if not self.tail.last:
            raise self.broken_off() or self.no_head("none")
        features, parts = self.common_value()
        self.check_head(features)
        if features is None or not self.is_read_by_all(features, parts):
            raise self.several_heads()
        whole = self.factorised(features, parts)
        found = whole or self.place_of(features, parts)
        if found is None:
            raise self.functional_head()
        return found

    def common_value(self) -> tuple[Value | None, list[Value]]:
        """Return the last value through which all goes that was learned before it.

        Also the weighted values after it.
        """
        for value, passed in self.bottlenecks():
            inside = {self.unit(other) for other in passed}
            if passed and not any(call in inside for call in chain_of(value)):
                return value, passed
        units = list(dict.fromkeys(map(self.unit, self.tail.last)))
        given = self.operands(self.tail.last[0])
        # A net of one layer: its features are its input.
        is_single = len(units) == 1 and self.tail.first == self.tail.last and len(given) == 1
        return (given[0] if is_single else None), self.tail.first

    def bottlenecks(self) -> Iterator[tuple[Value, list[Value]]]:
        """Yield values that all paths from the outputs back to weights share, last first, and the weighted
        values that were passed on the way to them.
        """
        upstream = ancestors(value for head in self.tail.last for value in self.operands(head))
        relevant: set[Value] = set()
        for value in sorted(ancestors(self.ends), key=lambda value: value.index):
            # Weights chosen by row after the head, such as a bias for each user, are no way round it.
            if value.is_weighted or value in upstream or any(parent in relevant for parent in value.parents):
                relevant.add(value)
        waiting = [(-value.index, value) for value in self.ends]
        heapq.heapify(waiting)
        seen, passed = set(self.ends), list[Value]()
        while waiting:
            _, value = heapq.heappop(waiting)
            # Parents have smaller numbers: a way round this value would show as another one that waits.
            if not waiting:
                yield value, passed
            if value.is_weighted:
                passed = [*passed, value]
            before = [parent for parent in value.parents if parent in relevant]
            if not before:
                return  # here a path ends, and no earlier value is on it
            for parent in before:
                if parent not in seen:
                    seen.add(parent)
                    heapq.heappush(waiting, (-parent.index, parent))

    def unit(self, value: Value) -> Call | Value:
        """Return the call of the layer that made a weighted value, or the value if functional code did."""
        call = value.call
        return value if call is None or not self.is_layer(call) or call in self.holders else call

    def is_layer(self, call: Call) -> bool:
        """Whether a call is one of a layer: of a part of the net, or of a net that is one layer itself."""
        return bool(call.layer) or (len(self.graph.layers) == 1 and len(self.graph.weighted) == 1)

    def operands(self, value: Value) -> list[Value]:
        """Return what the layer, or the functional code, was given that made a weighted value."""
        unit = self.unit(value)
        given = list(value.parents)
        if isinstance(unit, Call):
            before = ancestors([value], lambda other: other.is_data)
            given = [other for _, other in unit.inputs if other in before]
        data = list(dict.fromkeys(other for other in given if other.is_data))
        return [other for other in data if other.is_learned] or data

    def check_head(self, features: Value | None) -> None:
        """Refuse a net whose last weights are part of its body.

        Raises
        ------
        TapError
            Saying what shows that.
        """
        tail = self.tail
        if any(NORMALISATION.fullmatch(value.operation) for value in tail.after):
            raise self.no_head("a norm after the last one")
        if any(NEVER_LAST.fullmatch(value.operation) for value in tail.after) or tail.is_pooled_activation():
            raise self.no_head("a hidden activation after the last one")
        made = tail.after | set(tail.last)
        for call in self.graph.calls:
            is_place = call.layer.rpartition(".")[2] in HEAD_NAMES and is_empty(self.graph.layers[call.layer])
            if is_place and any(value in made for _, value in call.outputs):
                raise self.no_head(f"{call.layer!r} without weights in the place of a head")
        if features is None:
            if len(tail.last) < len(tail.first):
                raise self.no_head("a way to the output that leads past the last one")
        elif features in tail.values | set(tail.first) and any(
            self.operands(head) != [features] for head in tail.last
        ):
            raise self.no_head("a way to the output that leads past the last one (a residual sum)")
        elif tail.is_residual(features):
            raise self.no_head("what the last one read joined to what it made (a residual sum or a gate)")
        elif len(tail.last) > 1 and len(self.ends) == 1 and tail.all_activated():
            raise self.no_head("hidden layers side by side")

    def is_read_by_all(self, features: Value, parts: Sequence[Value]) -> bool:
        """Whether every head reads the features, or one module around all of them does."""
        return self.holder(features, parts) is not None or all(
            self.operands(head) == [features]
            or self.reader(features, head) is not None
            or self.is_adapter(features, head)
            for head in self.tail.last
        )

    def is_adapter(self, features: Value, head: Value) -> bool:
        """Whether a head is an affine map of the features by several weights, beside one that reads them."""
        made_of = ancestors([head])
        between = made_of - ancestors([features])
        is_beside = any(self.operands(other) == [features] for other in self.tail.last)
        return is_beside and features in made_of and all(is_affine(value) for value in between)

    def reader(self, features: Value, head: Value) -> Call | None:
        """Return the innermost call around a weighted value that was given the features."""
        calls = (call for call in chain_of(head) if self.is_layer(call))
        return next((call for call in calls if any(value is features for _, value in call.inputs)), None)

    def holder(self, features: Value, parts: Sequence[Value]) -> Call | None:
        """Return the innermost call that was given the features and made all parts of the head."""
        calls = (call for call in chain_of(parts[0]) if self.is_layer(call))
        return next(
            (
                call
                for call in calls
                if any(value is features for _, value in call.inputs)
                and all(call in chain_of(part) for part in parts)
            ),
            None,
        )

    def factorised(self, features: Value, parts: Sequence[Value]) -> Tap | None:
        """Return the input of the module that holds a head of several affine maps and nothing else."""
        found = None
        if len(parts) > 1 or not isinstance(self.unit(parts[0]), Call):
            return None
        for value, passed in self.bottlenecks():
            call = self.holder(value, passed) if passed and value.is_learned else None
            if call is None or value.index >= features.index:
                continue
            before = ancestors([value])
            made = ancestors(parts) - before
            factors = [other for other in made if other.is_weighted and other not in parts]
            n_maps = 1 + len(factors) + sum(is_batch_norm(other) for other in made)
            # A wider layer in between is a hidden one, though it lacks an activation.
            is_narrow = all(other.size < value.size for other in factors)
            if n_maps > 1 and is_narrow and all(is_affine(other) for other in made):
                found = self.tap_of(call, call.inputs, value, "input")
        return found

    def place_of(self, features: Value, parts: Sequence[Value]) -> Tap | None:
        """Return a tap at a value: at the input of the head where it can be."""
        reading = [head for head in self.tail.last if self.operands(head) == [features]]
        first = min(reading or self.tail.last, key=lambda value: value.index)
        call = self.holder(features, parts) or self.reader(features, first)
        if call is not None:
            return self.tap_of(call, call.inputs, features, "input")
        for call in reversed(self.graph.calls):
            if call.layer and any(value is features for _, value in call.outputs):
                return self.tap_of(call, call.outputs, features, "output")
        for call in self.graph.calls:
            if call.layer and any(value is features for _, value in call.inputs):
                return self.tap_of(call, call.inputs, features, "input")
        return None

    def tap_of(self, call: Call, values: list[tuple[Path, Value]], wanted: Value, side: Side) -> Tap:
        place = next(i for i, (_, value) in enumerate(values) if value is wanted)
        path = values[place][0]
        item: Item = None if place == 0 else path[0] if len(path) == 1 else path
        number = call.number if self.graph.n_calls[call.layer] > 1 else -1
        return Tap(call.layer, side=side, item=item, call=number)

    def check_dependence(self, tap: Tap, inputs: Arguments, output: Any) -> None:
        """Run the net with other values at the tap, and at the heads, and look whether the output changes.

        Raises
        ------
        TapError
            If it stays as it is, though no weight on the way is zero.
        """
        heads = [call for call in map(self.unit, self.tail.last) if isinstance(call, Call)]
        places = [(str(tap.layer), tap.call, tap.side)] + [
            (call.layer, call.number, "output") for call in heads
        ]
        if any(changes(self.model, place, self.graph, inputs, output) for place in places):
            return
        weights = (value.weight for head in self.tail.last for value in roots_of(head, self.tail))
        if any(weight is not None and not weight.any() for weight in weights):
            return
        raise TapError(
            f"the output must depend on the input of the last weighted layer; got the same output for other "
            f"values at {str(tap)!r}; name a tap yourself"
        )

    def no_head(self, why: str) -> TapError:
        """Return the error for a net that ends in its features."""
        path = self.outputs[0][0]
        place = ":output" + "".join(f"[{key}]" for key in path)
        others = "" if len(self.outputs) == 1 else ", or name another output by output_item="
        return TapError(
            f"one weighted layer must lead to the output; got {why}: this net has no head, its features are its "
            f"output; tap {place!r}{others}"
        )

    def broken_off(self) -> TapError | None:
        """Return the error for an output that something else than torch made, after weights were used."""
        before = ancestors(map(self.graph.value_of, (x for _, x in self.outputs)), lambda value: True)
        if not (self.graph.weighted and before & self.graph.unknown):
            return None
        return TapError(
            "torch must make the output of what the layers made; got an output that came back from elsewhere, "
            f"such as NumPy, after {self.name_of(self.graph.weighted[-1])}: there the record broke off; "
            "compute it in torch, or name a tap"
        )

    def several_heads(self) -> TapError:
        """Return the error for heads that read different values; it names them."""
        heads = list(dict.fromkeys(self.name_of(head) for head in self.tail.last))
        candidates = list(dict.fromkeys(self.name_of(value) for value in self.graph.weighted))
        return TapError(
            f"one weighted layer must lead to the output; got {', '.join(heads)} of the weighted layers "
            f"{', '.join(candidates)}, and no value that all of them read; name a tap, such as '{heads[0]}:input', "
            "or one output by output_item="
        )

    def functional_head(self) -> TapError:
        """Return the error for features that no layer is given or returns."""
        names = ", ".join(dict.fromkeys(self.name_of(head) for head in self.tail.last))
        return TapError(
            f"a weighted layer must lead to the output; got the weights {names} used by functional code "
            "after the last layer; put stackfeat.mark('features', x) before it and tap 'features'"
        )

    def name_of(self, value: Value) -> str:
        """Return the layer that made a weighted value, or the weights that functional code used."""
        unit = self.unit(value)
        if isinstance(unit, Call):
            return unit.layer
        used = {
            id(other.weight) for other in ancestors([value], lambda other: other.is_weight or other is value)
        }
        names = [
            name for name, weight in self.model.named_parameters() if id(weight) in used and weight.ndim > 1
        ]
        return ", ".join(names) or (value.call.layer if value.call else "") or value.operation


class Tail:
    """What lies between outputs and the weights before them.

    Attributes
    ----------
    values : set of Value
        What was made of the first weighted values without further weights, and all other ways to the outputs.
    first : list of Value
        Weighted values met first on the way back from the outputs.
    last : list of Value
        Those of them that do not lead to others.
    """

    def __init__(self, search: HeadSearch, ends: Sequence[Value]) -> None:
        self.search, self.ends = search, list(ends)
        passed = ancestors(ends, lambda value: value.is_learned, stop=lambda value: value.is_weighted)
        self.values = {value for value in passed if not value.is_weighted}
        self.first = sorted((value for value in passed if value.is_weighted), key=lambda value: value.index)
        self.upstream = ancestors(parent for value in self.first for parent in value.parents)
        self.last = [value for value in self.first if value not in self.upstream]

    @cached_property
    def after(self) -> set[Value]:
        """Values of the tail that were made of the last weighted ones."""
        found: set[Value] = set(self.last)
        for value in sorted(self.values, key=lambda value: value.index):
            if any(parent in found for parent in value.parents):
                found.add(value)
        return found - set(self.last)

    @cached_property
    def operands(self) -> list[Value]:
        """What the last weighted layers were given."""
        return list(dict.fromkeys(value for head in self.last for value in self.search.operands(head)))

    def is_activated(self) -> bool:
        """Whether the output ends as a hidden layer does."""
        return any(HIDDEN_ACTIVATION.fullmatch(value.operation) for value in self.after)

    def is_pooled_activation(self) -> bool:
        """Whether the output is the largest of the values of a hidden layer, as between the blocks of a VGG."""
        return self.is_activated() and any("max_pool" in value.operation for value in self.after)

    def is_residual(self, features: Value) -> bool:
        """Whether the features, all of them, are joined element by element to what was made of them.

        Logits with some of the features added, or all of them beside, are still those of a head.
        """
        kept = {features} & (self.values | set(self.first))
        for value in sorted(self.values - self.after, key=lambda value: value.index):
            if value.size == features.size and any(parent in kept for parent in value.parents):
                kept.add(value)
        made = self.after | set(self.last)
        return any(
            value.size == features.size
            and any(parent in kept for parent in value.parents)
            and any(parent in made for parent in value.parents)
            for value in self.after
        )

    def all_activated(self) -> bool:
        """Whether each of several layers side by side ends as a hidden layer does."""
        activated = [value for value in self.after if HIDDEN_ACTIVATION.fullmatch(value.operation)]
        return bool(activated) and set(self.last) <= ancestors(activated)

    def accompanies(self, other: Tail) -> bool:
        """Whether this output is what another one is made of, or reads what leads to the other's features."""
        if not other.last or other.is_activated():
            return False
        before = ancestors(other.operands)
        if before.issuperset(self.ends):
            return True
        # By layers, not by values: a recurrent layer makes its states and its outputs at once.
        last, feeding = self.units(self.last), self.units(Tail(self.search, self.operands).last)
        if last and last <= self.units(before):
            return True
        return bool(feeding) and feeding <= self.units(Tail(self.search, other.operands).upstream)

    def units(self, values: Iterable[Value]) -> set[Call | Value]:
        """Return the layers, or functional code, that made those of the values that are weighted."""
        return {self.search.unit(value) for value in values if value.is_weighted}


def main_ends(tails: list[Tail]) -> list[Value]:
    """Return the outputs that are no features, hidden states or auxiliary heads on the way to others."""
    main = [
        tail for tail in tails if not any(tail.accompanies(other) for other in tails if other is not tail)
    ]
    return [end for tail in main for end in tail.ends]


def roots_of(head: Value, tail: Tail) -> set[Value]:
    """Return the weights of a head and of what follows it."""
    after = [head, *tail.after]
    parents = [parent for value in after for parent in value.parents]
    return ancestors(parents, lambda value: value.is_weight)


def is_affine(value: Value) -> bool:
    """Whether a value is a sum of products of columns with weights and constants."""
    if value.operation in ("mul", "div"):
        return sum(parent.is_data for parent in value.parents) == 1
    return value.is_weighted or is_batch_norm(value) or AFFINE.fullmatch(value.operation) is not None


def is_batch_norm(value: Value) -> bool:
    return "batch_norm" in value.operation


def is_empty(layer: nn.Module) -> bool:
    """Whether a layer passes on what it is given."""
    return isinstance(layer, nn.Identity) or (isinstance(layer, nn.Sequential) and not len(layer))


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
