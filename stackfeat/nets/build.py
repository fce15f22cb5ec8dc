"""From a class and its params to a module.

In:  a module class or factory, params from the config, and what the data is like.
Out: a module; of `n_features`, `n_outputs`, `cardinalities`, `shapes`, `vocabulary` and `prepared` the constructor
     gets those that its signature names.
     Arrays are bound to the arguments of ``forward``; nets given as modules, and nets and inputs that the
     command line names, are described here too.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from inspect import Parameter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, StackfeatError, UsageError, described, machine_fault
from stackfeat.layers.activations.masks import KEEP, PADDING, says_padding, side_of, stem_of
from stackfeat.layers.taps.runtime import without_values
from stackfeat.layers.taps.signature import BY_NAME, BY_POSITION, forward_parameters, is_required, takes_array
from stackfeat.layers.taps.values import first_tensor
from stackfeat.registry.names import NET_FACTS
from stackfeat.registry.resolve import suggest
from stackfeat.structure import checked, must, structured

ORDER = "_stackfeat_order"
TOKENS = "tokens"
OWN_FORWARD = "_stackfeat_forward"
"""Where a forward that was set on the module itself is kept while the class names its arguments."""


class Binding(NamedTuple):
    """How arrays reach ``forward``.

    Attributes
    ----------
    order : tuple of int
        Positions of the arrays that are passed on, in that order.
    keywords : tuple of (str or None)
        The argument each goes to; None where it is simply the next positional one, as the first ones are.
    masks : mapping of str to int
        Arguments that ask for a mask, whose arrays are lengths: position of the sequences that these are of.
    """

    order: tuple[int, ...]
    keywords: tuple[str | None, ...]
    masks: Mapping[str, int] = MappingProxyType({})


def find_binding(module: nn.Module, names: Sequence[str], optional: Collection[str] = ()) -> Binding:
    """Return how arrays of these names reach ``forward``.

    Parameters
    ----------
    module : nn.Module
    names : sequence of str
        Names of the arrays, in the order of the config.
    optional : collection of str
        Those that are left out where ``forward`` has no argument of their name: lengths of the sequences before
        them. Where it asks for a padding mask instead, they become one.

    Notes
    -----
    By name where names match; the others, in the given order, to the arguments that may be an array and have
    none yet; what is left then to ``*args`` or ``**kwargs``.

    Raises
    ------
    MemberError
        If an array reaches no argument, or an argument that must be given gets none; if it cannot be known
        whether an array is the mask, lengths or target that an optional argument asks for.
    """
    parameters, places = forward_parameters(module), {name: i for i, name in enumerate(names)}
    kinds = {parameter.kind for parameter in parameters}
    given = {p.name: places[p.name] for p in parameters if p.kind in BY_NAME and p.name in places}
    left = [name for name in names if name in optional and name not in given]
    asked = mask_argument([p.name for p in parameters if p.kind in BY_NAME and p.name not in given])
    # Lengths follow the sequences that they are of.
    masks = {asked: places[left[0]] - 1} if asked and len(left) == 1 and places[left[0]] else {}
    waiting = [name for name in names if name not in given and name not in optional]
    for parameter in [
        p for p in parameters if takes_array(p) and p.name not in given and p.name not in masks
    ]:
        if not waiting:
            break
        if not is_required(parameter) and is_not_an_input(parameter.name):
            raise unbound(module, names, f"{waiting[0]!r} would be its {parameter.name!r}", waiting)
        given[parameter.name] = places[waiting.pop(0)]
    missing = [p.name for p in parameters if is_required(p) and p.name not in given and p.name not in masks]
    if missing:
        raise unbound(module, names, f"nothing for {missing[0]!r}", waiting)
    positional = [p.name for p in parameters if p.kind in BY_POSITION]
    n_first = next((i for i, name in enumerate(positional) if name not in given), len(positional))
    first = [given.pop(name) for name in positional[:n_first]]
    if Parameter.VAR_POSITIONAL in kinds and n_first == len(positional):
        first += [places[name] for name in waiting]
    elif Parameter.VAR_KEYWORD in kinds:
        is_full = not masks and not any(takes_array(p) for p in parameters if p.name in positional[n_first:])
        given |= {name: places[name] for name in (*waiting, *(left if is_full else ()))}
    elif waiting:
        raise unbound(module, names, f"no argument for {waiting[0]!r}", waiting)
    if masks:
        given |= dict.fromkeys(masks, places[left[0]])
    return Binding((*first, *given.values()), (*(None for _ in first), *given), masks)


def mask_argument(names: Sequence[str]) -> str | None:
    """Return the argument that asks for the padding of the net's own sequence, not of a target or memory."""
    masks = [name for name in names if stem_of(name) in (*KEEP, *PADDING)]
    own = [name for name in masks if side_of(name) is None] or [
        name for name in masks if name.startswith("src")
    ]
    return own[0] if own else None


def mask_for(argument: str, lengths: Tensor, sequences: Tensor) -> Tensor:
    """Return what an argument that asks for a mask is given for lengths: 1 for real steps, or True for padding."""
    real = torch.arange(sequences.shape[1], device=lengths.device)[None] < lengths[:, None]
    return real.long() if stem_of(argument) in KEEP else ~real


STARS: dict[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def is_not_an_input(argument: str) -> bool:
    """Whether an argument asks for something that only an array of its name can be known to be."""
    return says_padding(argument) or argument.rstrip("s") in ("label", "target")


def unbound(module: nn.Module, names: Sequence[str], what: str, waiting: Sequence[str]) -> MemberError:
    listed = [STARS.get(p.kind, "") + p.name for p in forward_parameters(module)]
    hint = suggest(waiting[0], listed) if waiting else ""
    return MemberError(
        f"inputs must reach the arguments of {type(module).__name__}.forward ({', '.join(listed)}); got "
        f"{', '.join(map(repr, names))}: {what}.{hint} Call inputs as the arguments that they are for"
    )


def bind_inputs(module: nn.Module, names: Sequence[str], optional: Collection[str] = ()) -> None:
    """Let ``forward`` be called with the arrays one after the other, whatever its arguments are called.

    Where arguments must be named (``**inputs``, keyword-only ones) the module's class is replaced by a
    subclass that names them; layers, their names and weights stay as they are.

    Raises
    ------
    MemberError
        As in `find_binding`.
    """
    binding = find_binding(module, names, optional)
    named = [name for name in binding.keywords if name is not None]
    if not named:
        return
    base, n_first = type(module), len(binding.keywords) - len(named)

    def forward(self: Any, *values: Any) -> Any:
        own = vars(self).get(OWN_FORWARD) or super(bound, self).forward
        others = dict(zip(named, values[n_first:], strict=True))
        for name, place in binding.masks.items():
            others[name] = mask_for(name, others[name], values[binding.order.index(place)])
        return own(*values[:n_first], **others)

    first = [p.name for p in forward_parameters(module) if p.kind in BY_POSITION]
    first += [f"array_{i}" for i in range(len(first), n_first)]
    # Whoever looks at the arguments of the net sees lengths where it is given them.
    targets = (*first[:n_first], *("lengths" if name in binding.masks else name for name in named))
    kinds = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *targets)]
    forward.__signature__ = inspect.Signature(kinds)  # type: ignore[attr-defined]
    described = {"forward": forward, ORDER: binding.order, "__module__": base.__module__}
    bound: Any = type(base.__name__, (base,), described)
    if "forward" in vars(module):
        vars(module)[OWN_FORWARD] = vars(module).pop("forward")
    module.__class__ = bound


def input_order(module: nn.Module, names: Sequence[str], optional: Collection[str] = ()) -> list[int]:
    """Return the positions of the arrays that ``forward`` is given, in its order."""
    known: tuple[int, ...] | None = getattr(type(module), ORDER, None)
    return list(find_binding(module, names, optional).order if known is None else known)


Output = Literal["auto", "logits", "proba", "log_proba", "value", "none"]

MOST_COLUMNS = 100_000_000


@dataclass(frozen=True)
class NetSpec:
    """What a net is made of, without its weights.

    Attributes
    ----------
    cls : type or callable
        Returns an `nn.Module`.
    params : mapping
        Handed to `cls` verbatim; JSON values, so that a fitted net can be stored.
    n_features : int
        Columns of the float tensor a table becomes (numeric ones alone where categories have codes).
    n_outputs : int
        Classes, or 1.
    cardinalities : tuple of int
        Codes per categorical column, the code 0 (unknown) included.
    shapes : mapping of str to tuple of int
        Shape of a row of each input.
    vocabulary : mapping of str to int
        Inputs of tokens: how many there are; later files may hold others, of any number.
    input_names : tuple of str
        A name for each array; where all are arguments of ``forward``, arrays go by name.
    optional : tuple of str
        Those that are left out where ``forward`` has no argument of the name: lengths of sequences.
    output : {"auto", "logits", "proba", "log_proba", "value"}
        What ``forward`` returns; ``auto`` looks at the output of a few rows. ``none``: it is not read,
        and may have any shape.
    output_item : int or str
        Which item is the output, where ``forward`` returns several.
    prepared : mapping, optional
        What the class learned of the training rows before it was built; see `on_rows`.
    """

    cls: Any
    params: Mapping[str, Any]
    n_features: int
    n_outputs: int
    cardinalities: tuple[int, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    output: Output = "auto"
    prepared: Any = None
    output_item: int | str = 0

    @property
    def accepts_categories(self) -> bool:
        return accepts_categories(self.cls)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the class."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "cls"}
        # Pairs: the order of inputs is part of what a net is, and a stored header sorts its keys.
        shapes = [[name, list(shape)] for name, shape in self.shapes.items()]
        return {**values, "params": dict(self.params), "vocabulary": dict(self.vocabulary), "shapes": shapes}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], net: Callable[..., nn.Module]) -> NetSpec:
        """Put the class back; StructureError if the values are not those of `to_json`."""
        shapes = checked(tuple[tuple[str, tuple[int, ...]], ...], values.get("shapes"), "spec.shapes")
        spec = structured(cls, {**values, "shapes": dict(shapes), "cls": net}, "spec")
        for name in ("n_features", "n_outputs"):
            size = getattr(spec, name)
            must(0 <= size <= MOST_COLUMNS, f"spec.{name}", f"be at most {MOST_COLUMNS}", size)
        return spec

    def on_rows(self, arrays: Sequence[np.ndarray]) -> NetSpec:
        """Return the spec with what its class wants to know of the rows it will be trained on.

        A class whose constructor names ``prepared`` may have a classmethod
        ``prepare(arrays, params)`` that returns JSON values: quantiles, bin edges. They are handed
        to the constructor and stored with the fitted net, so that the same module is built again.

        Parameters
        ----------
        arrays : sequence of ndarray
            The rows of `fit_net`, without the target: nothing a label says can enter.

        Raises
        ------
        MemberError
            If ``prepare`` returns what JSON cannot hold.
        """
        prepare = getattr(self.cls, "prepare", None)
        if not inspect.ismethod(prepare) or "prepared" not in inspect.signature(self.cls).parameters:
            return self
        prepared = prepare(arrays, dict(self.params))
        try:
            # As it will be read back, so that a stored net is built of the very same values.
            prepared = json.loads(json.dumps(prepared, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise MemberError(
                f"prepare of {self.cls.__name__} must return plain JSON values; got {error}; "
                "use finite numbers, texts, lists and dicts, such as array.tolist()"
            ) from error
        return replace(self, prepared=prepared)

    def build(self) -> nn.Module:
        """Return a new module with random weights drawn from torch's global generator.

        Raises
        ------
        MemberError
            If the constructor refuses its arguments or does not return a module.
        """
        named = inspect.signature(self.cls).parameters
        facts = {name: getattr(self, name) for name in NET_FACTS if name in named}
        module = make_module(self.cls, facts | dict(self.params), MemberError, "correct the member's params")
        if problem := without_values(module):
            raise MemberError(problem)
        if self.input_names:
            bind_inputs(module, self.input_names, self.optional)
        if self.output_item != 0 or self.output == "none":
            # On the module itself, so that training, inference and taps all meet the same output.
            module.register_forward_hook(partial(pick_output, self.output_item, self.output == "none"))
        return module


def pick_output(item: int | str, is_unread: bool, module: nn.Module, given: Any, output: Any) -> Any:
    """Forward hook: return one item of the output; of an output that nobody reads, a column.

    Raises
    ------
    MemberError
        If there is no such item.
    """
    if item != 0:
        try:
            output = output[item]
        except (KeyError, IndexError, TypeError) as error:
            got = f"keys {list(output)}" if isinstance(output, Mapping) and output else type(output).__name__
            got += f" of {len(output)}" if isinstance(output, tuple | list) else ""
            raise MemberError(
                f"output_item must be in what {type(module).__name__} returns; got output_item={item!r}, {got}; "
                "correct it"
            ) from error
    if not is_unread:
        return output
    tensor = first_tensor(output)
    return output if tensor is None or tensor.ndim < 2 else tensor.flatten(1)[:, :1]


def accepts_categories(cls: Callable[..., nn.Module]) -> bool:
    """Say whether a table reaches the net as ``(numeric, codes)``; otherwise as one float tensor."""
    return bool(getattr(cls, "accepts_categories", False))


def accepts_texts(cls: Callable[..., nn.Module]) -> bool:
    """Say whether columns of text reach the net as `TOKENS`, behind ``(numeric, codes)``; else as numeric columns."""
    return accepts_categories(cls) and bool(getattr(cls, "accepts_texts", False))


def make_module(
    cls: Callable[..., Any], arguments: Mapping[str, Any], error: type[MemberError | UsageError], advice: str
) -> nn.Module:
    """Return the module that a class or function makes of arguments, or raise an error of this type."""
    name, signature = getattr(cls, "__name__", repr(cls)), inspect.signature(cls)
    try:
        signature.bind(**arguments)
    except TypeError as problem:
        unknown = next((one for one in arguments if one not in signature.parameters), "")
        near = suggest(unknown, [one for one in signature.parameters if one not in arguments])
        raise error(
            f"the arguments must fit {name}{signature}; got {sorted(arguments)} ({problem}); {advice}"
            f"{'.' if near else ''}{near}"
        ) from problem
    try:
        made = cls(**arguments)
    except Exception as problem:
        if isinstance(problem, StackfeatError) or machine_fault(problem) is not None:
            raise
        given = ", ".join(f"{key}={value!r}"[:80] for key, value in arguments.items()) or "no arguments"
        raise error(f"{name} must be made of {given}; got {described(problem)}; {advice}") from problem
    if not isinstance(made, nn.Module):
        raise error(
            f"{name} must return a torch.nn.Module; got {type(made).__name__}; name a module class or factory"
        )
    return made


def construct(cls: Callable[..., Any], params: Mapping[str, Any]) -> nn.Module:
    """Return ``cls(**params)``; a module that exists already is taken as it is.

    Raises
    ------
    UsageError
        If the arguments do not fit, or it makes no module.
    """
    if isinstance(cls, nn.Module):
        return cls
    if not callable(cls):
        raise UsageError(f"a net must be a class or a function that makes one; got {cls!r}; name another")
    return make_module(cls, params, UsageError, "give them with --params '{\"name\": value}'")


def made_up_input(shape: tuple[int, ...], kind: str) -> Tensor:
    """Return normal numbers, or the code 0 for int64, which every embedding has."""
    if kind == "int64":
        return torch.zeros(shape, dtype=torch.int64)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
