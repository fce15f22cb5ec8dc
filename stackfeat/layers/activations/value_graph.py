"""Which value came of which in one forward pass.

In:  a module and its arguments.
Out: a `ValueGraph`: every value that torch made, what it was made of and in which call of a layer, and what
     each call was given and returned. Operations are heard below autograd, so that nothing has to be
     differentiable: nets under ``no_grad``, in inference mode or with operations without a gradient have a graph too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode

from stackfeat.layers.taps.layers import unique_layers
from stackfeat.layers.taps.passes import in_this_thread
from stackfeat.layers.taps.refusals import refusals
from stackfeat.layers.taps.values import Arguments

Path = tuple[int | str, ...]

CONTRACTION = re.compile(
    r"\w*mm|addmv|(\w*_)?(linear\w*|conv\w*|rnn\w*|lstm\w*|gru\w*|mv|dot|trilinear|cdist\w*|matmul|einsum)"
)
"""Operations that mix the columns of a value with a matrix of weights."""
BIAS = re.compile(r"(?P<first>b?add\w*)|(?P<third>\w*(linear|conv)\w*)")
LOOKUP = frozenset({"embedding", "_embedding_bag", "index", "index_select", "gather", "take"})
SHAPE_ONLY = re.compile(r"(zeros|ones|empty|full|rand|randn|randint)_like|new_\w+|sym_\w+")


@dataclass(eq=False, slots=True)
class Value:
    """A tensor, or a part of one, as it was at one moment.

    Attributes
    ----------
    index : int
        Values are made of values with smaller numbers.
    operation : str
        Name of the operation that made it; empty for arguments, weights, constants and parts.
    parents : tuple of Value
    call : Call or None
        The innermost call of a layer in which it was made.
    is_data, is_weight : bool
        Whether it depends on the arguments of the net; on its weights alone.
    is_weighted : bool
        Whether the operation mixed columns of data with a matrix of weights.
    is_lookup : bool
        Whether the operation chose rows of a matrix of weights.
    is_learned : bool
        Whether a matrix of weights was used, here or on the way to here.
    size : int
        How many elements it has.
    weight : Tensor or None
        The weight itself.
    """

    index: int
    size: int
    operation: str = ""
    parents: tuple[Value, ...] = ()
    call: Call | None = None
    is_data: bool = False
    is_weight: bool = False
    is_weighted: bool = False
    is_lookup: bool = False
    is_learned: bool = False
    weight: Tensor | None = None


@dataclass(eq=False)
class Call:
    """One call of a layer.

    Attributes
    ----------
    layer : str
        Its first name; empty for the net itself.
    number : int
        Which of the layer's calls.
    around : Call or None
        The call within which this one was made.
    inputs, outputs : list of (path, Value)
        Tensors among the arguments, and in what was returned, with the way to them.
    """

    layer: str
    number: int
    around: Call | None
    inputs: list[tuple[Path, Value]] = field(default_factory=list)
    outputs: list[tuple[Path, Value]] = field(default_factory=list)

    def within(self, other: Call) -> bool:
        """Whether this is `other` or was made within it."""
        return other in self.chain()

    def chain(self) -> Iterator[Call]:
        """Yield this call and those around it, innermost first."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.around


class ValueGraph(TorchDispatchMode):
    """Listens to every operation for as long as the block lasts.

    Attributes
    ----------
    calls : list of Call
        In the order in which they began.
    n_calls : Counter of str
        By layer.
    weighted : list of Value
        What operations made that use a matrix of weights as a layer does.
    unknown : set of Value
        Tensors that are no arguments, weights or buffers, and that no operation made.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to keep torch's compiler away from this class, torch would import it: a second

    def __init__(self, model: nn.Module, inputs: Arguments, *, unknown_is_data: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers = unique_layers(model)
        self.calls: list[Call] = []
        self.n_calls: Counter[str] = Counter()
        self.weighted: list[Value] = []
        self._open: list[Call] = []
        self._values: dict[Any, Value] = {}
        self._parts: dict[tuple[int, Any], Value] = {}
        self._kept: list[Any] = []
        self._n_values = 0
        self.unknown, self.unknown_is_data = set[Value](), unknown_is_data
        for buffer in model.buffers():
            self._values[self._storage(buffer)] = self._new(buffer)
        for weight in model.parameters():
            self._values[self._storage(weight)] = self._new(weight, is_weight=True, weight=weight)
        for _, tensor in tensors_in(inputs):
            self._values[self._storage(tensor)] = self._new(tensor, is_data=True)

    def run(self, model: nn.Module, inputs: Arguments) -> Any:
        """Run `model` and return its output; values of it are found by `value_of`."""
        with ExitStack() as stack:
            for name, layer in self.layers.items():
                if isinstance(layer, torch.jit.ScriptModule):
                    continue
                enter, leave = in_this_thread(partial(self._enter, name)), in_this_thread(self._leave)
                before = layer.register_forward_pre_hook(enter, with_kwargs=True)
                after = layer.register_forward_hook(leave, always_call=True)
                stack.enter_context(before)
                stack.enter_context(after)
            stack.enter_context(self)
            with refusals(model, *inputs, "the example"):
                return model(*inputs[0], **inputs[1])

    def value_of(self, tensor: Tensor) -> Value:
        """Return the value that a tensor holds now: parts of one storage are values of their own."""
        key = self._storage(tensor)
        whole = self._values.get(key)
        if whole is None:
            is_weight = isinstance(tensor, nn.Parameter)
            is_data = self.unknown_is_data and not is_weight
            whole = self._new(
                tensor, is_data=is_data, is_weight=is_weight, weight=tensor if is_weight else None
            )
            self._values[key] = whole
            if not is_weight:
                self.unknown.add(whole)
        place = elements(tensor)
        if place is None:
            return whole
        if (whole.index, place) not in self._parts:
            self._parts[whole.index, place] = self._new(
                tensor,
                parents=(whole,),
                call=self._open[-1] if self._open else None,
                is_data=whole.is_data,
                is_weight=whole.is_weight,
                is_learned=whole.is_learned,
            )
        return self._parts[whole.index, place]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        read = [(place, tensor, self.value_of(tensor)) for place, tensor in operands(args, given)]
        output = func(*args, **given)
        written = list(written_to(func, args, given))
        keys = {self._storage(tensor) for _, tensor, _ in read}
        made = [tensor for _, tensor in tensors_in(output) if self._storage(tensor) not in keys]
        if made or written:
            self._record(func, args, read, made, written)
        return output

    def _record(self, func: Any, args: Any, read: Any, made: list[Tensor], written: list[Tensor]) -> None:
        space, name = operation_name(func)
        parents = tuple(dict.fromkeys(value for _, _, value in read))
        if SHAPE_ONLY.fullmatch(name):
            parents = ()
        is_data = any(value.is_data for value in parents)
        weights = [(place, tensor) for place, tensor, value in read if value.is_weight] if is_data else []
        is_weighted = is_data and mixes_columns(space, name, args, weights, read, [*made, *written])
        is_lookup = bool(weights) and name in LOOKUP
        for tensor in [*made, *written]:
            key = self._storage(tensor)
            before = self._values.get(key)
            rest = (before,) if before is not None and before not in parents else ()
            self._values[key] = self._new(
                tensor,
                operation=name,
                parents=(*parents, *rest),
                call=self._open[-1] if self._open else None,
                is_data=is_data or any(value.is_data for value in rest),
                is_weight=not is_data and any(value.is_weight for value in (*parents, *rest)),
                is_weighted=is_weighted,
                is_lookup=is_lookup,
                is_learned=is_weighted or is_lookup or any(value.is_learned for value in (*parents, *rest)),
            )
            if is_weighted:
                self.weighted.append(self._values[key])

    def _new(self, tensor: Tensor, **facts: Any) -> Value:
        self._n_values += 1
        return Value(self._n_values, 0 if tensor.is_nested else tensor.numel(), **facts)

    def _storage(self, tensor: Tensor) -> Any:
        """Return what tells a storage from all others, also from later ones at its address."""
        try:
            reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        except (NotImplementedError, RuntimeError):  # sparse tensors and some subclasses have none
            self._kept.append(tensor)
            return id(tensor)
        key = reference.cdata
        if key not in self._values:
            self._kept.append(reference)
        return key

    def _enter(self, name: str, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(name, self.n_calls[name], self._open[-1] if self._open else None)
        self.n_calls[name] += 1
        given = chain(tensors_in(args), tensors_in(kwargs))
        call.inputs = [(path, self.value_of(tensor)) for path, tensor in given]
        self.calls.append(call)
        self._open.append(call)

    def _leave(self, _layer: nn.Module, _args: Any, output: Any) -> None:
        if self._open:
            call = self._open.pop()
            call.outputs = [(path, self.value_of(tensor)) for path, tensor in tensors_in(output)]


def mixes_columns(
    space: str,
    name: str,
    args: tuple[Any, ...],
    weights: list[tuple[Any, Tensor]],
    read: list[tuple[Any, Tensor, Value]],
    outputs: list[Tensor],
) -> bool:
    """Whether an operation on data uses a matrix of weights as a layer does; scales, biases and norms do not."""
    if any(isinstance(arg, torch.ScriptObject) for arg in args):
        return True  # packed weights of a quantised layer
    if space != "aten":
        return any(tensor.ndim > 1 for _, tensor in weights)  # a head of one output has a matrix of one row
    if CONTRACTION.fullmatch(name):
        bias = BIAS.fullmatch(name)
        skipped = None if bias is None else 0 if bias["first"] else 2
        return any(place != skipped for place, _ in weights)
    if name in ("mul", "sub") and weights:
        # x[..., None] * weight, a product with every weight; m * weight before a sum, weights of each class.
        n_data = max(tensor.numel() for _, tensor, value in read if value.is_data)
        grows = outputs[0].numel() > n_data and any(tensor.numel() > 1 for _, tensor in weights)
        return grows or (name == "mul" and any(is_matrix(tensor) for _, tensor in weights))
    return False


def learned(value: Value) -> bool:
    return value.is_learned


def ancestors(
    values: Iterable[Value],
    among: Callable[[Value], bool] = learned,
    stop: Callable[[Value], bool] = lambda value: False,
) -> set[Value]:
    """Return values and all that they were made of, through values `among` alone and not past `stop`."""
    waiting = [value for value in values if among(value)]
    found = set(waiting)
    while waiting:
        value = waiting.pop()
        if stop(value):
            continue
        for parent in value.parents:
            if parent not in found and among(parent):
                found.add(parent)
                waiting.append(parent)
    return found


def chain_of(value: Value) -> list[Call]:
    """Return the calls within which a value was made, innermost first."""
    return [] if value.call is None else list(value.call.chain())


def is_matrix(tensor: Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) > 1


def operands(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[int | str, Tensor]]:
    """Yield the tensors that an operation is given, and which argument each is of."""
    named: Iterable[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in named:
        yield from ((place, tensor) for _, tensor in tensors_in(value))


def operation_name(func: Any) -> tuple[str, str]:
    """Return namespace and name, such as ``("aten", "addmm")``."""
    space, _, name = (func._schema.name if hasattr(func, "_schema") else f"higher_order::{func}").partition(
        "::"
    )
    return space, name.removesuffix("_")


def written_to(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the arguments that an operation changes in place."""
    if not hasattr(func, "_schema"):
        return
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from (tensor for _, tensor in tensors_in(value))


def elements(tensor: Tensor) -> Any:
    """Return which elements of its storage a tensor holds, in whatever order; None for all of them."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return None
    try:
        n_stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    except (NotImplementedError, RuntimeError):
        return None
    axes = sorted(
        (stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1
    )
    merged: list[tuple[int, int]] = []
    for stride, size in axes:
        if merged and stride == merged[-1][0] * merged[-1][1]:
            merged[-1] = (merged[-1][0], merged[-1][1] * size)
        elif stride:
            merged.append((stride, size))
    if (
        tensor.storage_offset() == 0
        and merged in ([], [(1, n_stored)])
        and n_stored <= max(1, tensor.numel())
    ):
        return None
    return tensor.storage_offset(), tuple(merged)


def tensors_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in nested containers, and the way to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, PackedSequence):
        yield path, value.data
    else:
        for key, part in items_of(value):
            yield from tensors_in(part, (*path, key))


def items_of(value: Any) -> Iterable[tuple[int | str, Any]]:
    """Return keys and values of a container; nothing for anything else."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list | tuple):
        return enumerate(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [(part.name, getattr(value, part.name)) for part in fields(value)]
    return ()
