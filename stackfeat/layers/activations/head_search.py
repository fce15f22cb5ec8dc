"""Find the head of a net in the graph of its values.

In:  a `ValueGraph` of one pass, and the tensors of the output that a head may have made.
Out: a `Tap`. The last features are the last value through which all that the net learned goes on its way to
     the output, and after which weights follow: the head. Where the way past the last weights is open, as in a
     body that ends in a residual sum or a norm, there is no head.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.value_graph import Call, Path, Value, ValueGraph, ancestors, chain_of
from stackfeat.layers.taps.tap import Item, Side, Tap

NORMALISATION = re.compile(r"\w*(batch|layer|group|rms|instance)_norm\w*|rsqrt")
HIDDEN_ACTIVATION = re.compile(
    r"(re|ge|se|ce|si|e|leaky_re|pre)lu|_prelu_kernel|hardtanh|hardswish|mish|tanh"
)
"""What follows a hidden layer. An output may end so too, but then nothing else says that it is none."""
NEVER_LAST = re.compile(r"gelu|silu|hardswish|mish")
"""Hidden activations that no output ends in."""
AFFINE = re.compile(r"|add|sub|clone|_to_copy|_unsafe_view")
HEAD_NAMES = frozenset(
    ["head", "heads", "fc", "classifier", "last_linear", "logits", "score", "classification_head"]
)


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
        elif tail.is_beside_input():
            raise self.no_head("the net's input joined to what the last one made (a residual sum)")
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

    def is_beside_input(self) -> bool:
        """Whether the net's input, all of it, is added to what the last weights made, or put beside that.

        The input is what weights are multiplied with first, scaled or not: neither a mask nor an offset.
        """
        made = self.after | set(self.last)
        read = {
            parent
            for value in ancestors(self.last)
            if value.is_weighted
            for parent in value.parents
            if parent.is_data and not parent.is_learned
        }
        kept = {value for end in read for value in scalings_of(end)}
        return any(
            (value.operation == "cat" or (value.operation in ("add", "sub") and value.size == parent.size))
            and parent in kept
            and any(other in made for other in value.parents)
            for value in self.after
            for parent in value.parents
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


def scalings_of(value: Value) -> Iterator[Value]:
    """Yield a value and, going back, those of its size of which alone it was made."""
    yield value
    data = [parent for parent in value.parents if parent.is_data]
    if len(data) == 1 and data[0].size == value.size:
        yield from scalings_of(data[0])


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
