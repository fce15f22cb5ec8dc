"""Which steps of a sequence are real: masks and lengths that modules are given, and whose steps they are about.

In:  the arguments of the net and of its modules while it runs, or what the caller says himself.
Out: for values of a layer a mask (n_rows, n_steps), True where a step is real; None where none belongs to it.
     Names and what each module was given say to whom a mask belongs. Equal lengths say nothing: the steps of an
     encoder and of a decoder often agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from stackfeat.layers.taps.layers import unique_layers
from stackfeat.layers.taps.passes import Hooks
from stackfeat.layers.taps.signature import Parameters, arguments_by_name, forward_parameters
from stackfeat.layers.taps.values import first_tensor

SOURCE, TARGET = "source", "target"
PREFIXES = {
    SOURCE: re.compile(r"(encoder|enc|src|source|memory|cross)(_|s?$)"),
    TARGET: re.compile(r"(decoder|dec|tgt|trg|target)(_|s?$)"),
}
OTHER_SEQUENCES = ("key_value_states", "key_value", "kv", "context")
"""Arguments of cross-attention that hold the sequence which is looked at."""
PADDING = ("key_padding_mask", "padding_mask", "pad_mask")
KEEP = ("attention_mask",)
LENGTHS = ("lengths", "seq_lengths", "seq_lens", "x_lengths", "input_lengths", "lens")
NO_SEQUENCE = re.compile(r".*(mask|masks|lengths|lens|labels|bias|positions?|position_ids)$")
"""Arguments that may be about a sequence and hold none."""
MASKED_POOLS = ("auto", "mean", "max", "last")
"""Ways of pooling that ask which steps are real."""
USER_MASK, USER_LENGTHS = "<mask>", "<lengths>"
"""Names under which a caller's own mask travels with the arguments: no argument can be called so."""


def side_of(name: str) -> str | None:
    """Return which sequence of an encoder-decoder an argument's name is about, if it says so."""
    return next((side for side, prefix in PREFIXES.items() if prefix.match(name)), None)


def stem_of(name: str) -> str | None:
    """Return what an argument says about padding (`PADDING`, `KEEP`, `LENGTHS`), without the sequence's name."""
    stems = (*PADDING, *KEEP, *LENGTHS)
    side = side_of(name)
    rest = name.partition("_")[2] if side else name
    return next((stem for stem in stems if stem in (name, rest)), None)


def says_padding(name: str) -> bool:
    """Whether an argument of this name says which steps are real."""
    return stem_of(name) is not None


class Kind(Enum):
    """How many sequences a call was given."""

    PLAIN = "one"
    DECODER = "its own, and that of an encoder"
    PAIR = "a source and a target"
    DERIVED = "a source, of which it makes the target"
    CROSS = "one that looks at another"


@dataclass(frozen=True)
class Told:
    """What a call was given about padding.

    Attributes
    ----------
    owner : str
        The module ("" for the net itself).
    argument : str
    side : str or None
        Which sequence it is about, where there are two.
    keep : Tensor of shape (n_rows, n_steps), or None
    lengths : Tensor of shape (n_rows,), or None
    steps : frozenset of int
        How many steps the sequences have that it may be about.
    unread : Tensor of shape (n_rows, n_sequences, n_steps), or None
        What it says of several sequences in each row.
    """

    owner: str
    argument: str
    side: str | None
    keep: Tensor | None = None
    lengths: Tensor | None = None
    steps: frozenset[int] = frozenset()
    unread: Tensor | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.owner, self.argument

    @property
    def n_rows(self) -> int:
        known = next(v for v in (self.keep, self.lengths, self.unread) if v is not None)
        return len(known)

    def has_padding(self, sizes: Collection[int]) -> bool:
        """Whether it leaves any step out.

        Lengths do where they differ, or where the net's inputs have no axis (of `sizes`) as long as the longest;
        those of packed sequences are as long as these.
        """
        if self.lengths is not None:
            longest = int(self.lengths.max())
            is_short = self.argument != "input" and longest not in sizes
            return is_short or bool(self.lengths.min() < longest)
        known = self.keep if self.keep is not None else self.unread
        return known is not None and not bool(known.all())

    def mask(self, n_rows: int, n_steps: int) -> Tensor | None:
        """Return the mask of sequences of this size, or None where it is about others."""
        if self.keep is not None:
            return self.keep if tuple(self.keep.shape) == (n_rows, n_steps) else None
        return mask_of_lengths(self.lengths, self.steps, n_rows, n_steps)


@dataclass(frozen=True)
class Call:
    """What a module was given at its last call.

    Attributes
    ----------
    kind : Kind
    told : tuple of Told
    other : frozenset of tuple of int
        Shapes of the other sequence, where the call has one beside its own.
    """

    kind: Kind
    told: tuple[Told, ...] = ()
    other: frozenset[tuple[int, ...]] = frozenset()


@dataclass(frozen=True)
class MaskRule:
    """Where the mask for a tap may come from, as dry runs found it.

    Attributes
    ----------
    around : tuple of str
        The modules in whose calls the tap fires, the innermost first.
    proven : frozenset of (str, str)
        Masks (owner, argument) whose steps are those of the tap.
    refused : frozenset of (str, str)
        Masks that are about other steps.
    """

    around: tuple[str, ...] = ("",)
    proven: frozenset[tuple[str, str]] = frozenset()
    refused: frozenset[tuple[str, str]] = frozenset()


@dataclass(eq=False)
class MaskWatch(Hooks):
    """The padding masks of the pass under way.

    Parameters
    ----------
    model : nn.Module
    on_mask : callable, optional
        Called when a layer that may have got a mask begins.
    traces : bool
        Whether to note which calls are under way, for `around`.
    """

    model: nn.Module
    on_mask: Callable[[], None] | None = None
    traces: bool = False
    calls: dict[str, Call] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    user_mask: Tensor | None = None
    user_lengths: Told | None = None
    given_steps: frozenset[int] = frozenset()
    given_sizes: frozenset[int] = frozenset()
    n_sequences: int = 0

    def attach(self, stack: ExitStack) -> None:
        """Hook the layers that get masks."""
        for name, layer in unique_layers(self.model).items():
            if name and may_be_told(layer):
                before = self.heard(partial(self.before_layer, name))
                stack.enter_context(layer.register_forward_pre_hook(before, with_kwargs=True))
                if self.traces:
                    stack.enter_context(layer.register_forward_hook(self.heard(self.after_layer)))

    def before_layer(self, name: str, layer: nn.Module, args: Any, kwargs: Any) -> None:
        self.calls[name] = describe_call(name, layer, arguments_by_name(layer, args, kwargs))
        self.active.append(name)
        if self.on_mask is not None:
            self.on_mask()

    def after_layer(self, _layer: nn.Module, _args: Any, _output: Any) -> None:
        self.active.pop()

    def restart(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Forget the pass before; look at the arguments of the net, and at what the caller says himself."""
        own, mask, lengths = split_user_mask(kwargs)
        named = arguments_by_name(self.model, args, own)
        self.active = [""]
        self.user_mask = None if mask is None else mask.bool().flatten(0, -2)
        self.user_lengths = None
        if lengths is not None:
            steps = frozenset((*steps_of(named), int(lengths.max())))
            self.user_lengths = Told("", USER_LENGTHS, None, lengths=lengths, steps=steps)
        self.given_steps = frozenset(steps_of(named))
        sequences = [
            tensor
            for name, value in named.items()
            if not NO_SEQUENCE.match(name) and (tensor := first_tensor(value)) is not None and tensor.ndim > 1
        ]
        self.n_sequences = len(sequences)
        strided = [tensor for tensor in sequences if not tensor.is_nested]
        self.given_sizes = frozenset(size for tensor in strided for size in tensor.shape[1:])
        self.calls = {"": describe_call("", self.model, named)}

    def around(self, layer: str) -> tuple[str, ...]:
        """Return the calls under way, that of `layer` among them also where it has just ended."""
        under_way = list(dict.fromkeys(reversed(self.active)))
        return tuple(dict.fromkeys([layer, *under_way] if layer in self.calls else under_way))

    def find(self, rule: MaskRule, n_rows: int, n_steps: int) -> Tensor | None:
        """Return the mask for values of this size: the caller's, else the one that belongs to them."""
        if self.user_mask is not None and tuple(self.user_mask.shape) == (n_rows, n_steps):
            return self.user_mask
        if self.user_lengths is not None:
            counted = self.user_lengths.mask(n_rows, n_steps)
            if counted is not None:
                return counted
        found = self.fitting(rule, n_rows, n_steps)
        certain = [mask for _, mask, is_near in found if is_near]
        if certain:
            return certain[0]
        apart = [mask for _, mask, _ in found]
        return apart[0] if apart and all(are_equal(apart[0], mask) for mask in apart[1:]) else None

    def find_longer(self, rule: MaskRule, n_rows: int, n_steps: int) -> Tensor | None:
        """Return the mask of sequences that were packed, and padded again further than their longest."""
        masks = [
            mask
            for told, _ in self.candidates(rule)
            if told.key not in rule.refused and told.lengths is not None
            if (mask := mask_of_lengths(told.lengths, {n_steps}, n_rows, n_steps)) is not None
        ]
        return masks[0] if masks and all(are_equal(masks[0], mask) for mask in masks[1:]) else None

    def is_longer(self, rule: MaskRule, n_rows: int, n_steps: int) -> bool:
        """Whether values of this size are of packed sequences alone, padded to the steps of the net's input."""
        packed = [
            certain and n_rows == told.n_rows
            for told, certain in self.candidates(rule)
            if told.lengths is not None and told.owner and told.argument == "input"
        ]
        is_given = n_steps in self.given_steps
        return (
            bool(packed) and all(packed) and is_given and self.find_longer(rule, n_rows, n_steps) is not None
        )

    def fitting(
        self, rule: MaskRule, n_rows: int, n_steps: int, *, all_of_them: bool = False
    ) -> list[tuple[Told, Tensor, bool]]:
        """Return what may say which steps are real, the nearest first, and whether it is about calls around.

        Parameters
        ----------
        all_of_them : bool
            Also what needs a proof that it is about the same steps, and has none.
        """
        return [
            (told, mask, told.owner in rule.around)
            for told, is_certain in self.candidates(rule)
            if (is_certain and told.key not in rule.refused) or told.key in rule.proven or all_of_them
            if (mask := told.mask(n_rows, n_steps)) is not None
        ]

    def candidates(self, rule: MaskRule) -> Iterator[tuple[Told, bool]]:
        """Yield what calls were told, and whether names and arguments alone say that it is about a tap's steps."""
        side: str | None = None  # that of the tap: known once a decoder is met on the way outwards
        is_known = True
        for call in (self.calls[name] for name in rule.around if name in self.calls):
            is_known &= call.kind is not Kind.CROSS
            side = TARGET if call.kind is Kind.DECODER else side
            for told in call.told:
                yield told, is_known and told.side == side
        is_known &= side is not None or all(call.kind is Kind.PLAIN for call in self.calls.values())
        for name, call in self.calls.items():
            if name not in rule.around:
                for told in call.told:
                    yield told, is_known and told.side == side


def are_equal(left: Tensor, right: Tensor) -> bool:
    return left is right or (left.shape == right.shape and bool(torch.equal(left, right)))


def describe_call(owner: str, layer: nn.Module, named: Mapping[str, Any]) -> Call:
    """Say what a call was given: how many sequences, and what about their padding."""
    if isinstance(layer, nn.RNNBase):
        packed = named.get("input")
        if not isinstance(packed, PackedSequence):
            return Call(Kind.PLAIN)
        lengths = pad_packed_sequence(packed, batch_first=True)[1]
        steps = frozenset([int(lengths.max())])
        return Call(Kind.PLAIN, (Told(owner, "input", None, lengths=lengths, steps=steps),))
    given = {name: value for name, value in named.items() if first_tensor(value) is not None}
    sequences = [name for name in given if not NO_SEQUENCE.match(name)]
    kind = kind_of(layer, given, sequences)
    if kind is Kind.CROSS:
        return Call(kind)
    other = () if kind is Kind.PLAIN else [n for n in sequences[1:] if side_of(n) == SOURCE]
    told = (read_told(owner, kind, name, value, given) for name, value in given.items())
    return Call(
        kind, tuple(t for t in told if t is not None), frozenset(tuple(shape_of(given[n])) for n in other)
    )


def shape_of(value: Any) -> torch.Size:
    shape: torch.Size = first_tensor(value).shape
    return shape


def kind_of(layer: nn.Module, given: Mapping[str, Any], sequences: list[str]) -> Kind:
    """Say how many sequences a call was given, by the names of its arguments."""
    if isinstance(layer, nn.MultiheadAttention):
        return Kind.PLAIN if given.get("query") is given.get("key") else Kind.CROSS
    sides = [side_of(name) for name in sequences]
    first, others = sides[:1], sides[1:]
    if any(name in OTHER_SEQUENCES for name in sequences[1:]):
        return Kind.CROSS
    if first != [TARGET] and TARGET in others:
        return Kind.PAIR
    if first != [TARGET] and makes_target(forward_parameters(layer)):
        return Kind.DERIVED
    return Kind.DECODER if SOURCE in others else Kind.PLAIN


@lru_cache(maxsize=1024)
def makes_target(parameters: Parameters) -> bool:
    """Whether a module that is given no target makes it of the source: it could be given one."""
    names = [p.name for p in parameters[1:] if not NO_SEQUENCE.match(p.name)]
    return any(name.startswith(("decoder_", "tgt")) for name in names)


def read_told(owner: str, kind: Kind, name: str, value: Any, given: Mapping[str, Any]) -> Told | None:
    """Return what an argument says about padding; None where it says nothing."""
    stem = stem_of(name)
    if stem is None or not isinstance(value, Tensor):
        return None
    side = {
        Kind.PLAIN: None,
        Kind.DECODER: side_of(name) or TARGET,
        Kind.CROSS: None,
    }.get(kind, side_of(name) or SOURCE)
    if stem in LENGTHS:
        if value.ndim != 1 or value.is_floating_point():
            return None
        same = {n: v for n, v in given.items() if side_of(n) == side_of(name)}
        beside = {n: v for n, v in given.items() if side is None or (side_of(n) or SOURCE) == side}
        return Told(owner, name, side, lengths=value, steps=frozenset(steps_of(same) or steps_of(beside)))
    read = real_steps if stem in PADDING else attended_steps
    flat = without_heads(value)
    if flat is None:
        if value.ndim != 3 or value.shape[1] == value.shape[2]:
            return None  # of scores: which step looks at which
        return Told(owner, name, side, unread=read(value), steps=frozenset([value.shape[2]]))
    keep = read(flat)
    return Told(owner, name, side, keep=keep, steps=frozenset([keep.shape[1]]))


def mask_of_lengths(
    lengths: Tensor | None, steps: Collection[int], n_rows: int, n_steps: int
) -> Tensor | None:
    """Return the mask of lengths, if they go with sequences of so many steps."""
    if lengths is None or len(lengths) != n_rows or n_steps not in steps or int(lengths.max()) > n_steps:
        return None
    return torch.arange(n_steps, device=lengths.device)[None] < lengths[:, None]


def split_user_mask(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Tensor | None, Tensor | None]:
    """Return the arguments of the net alone, the caller's mask, the caller's lengths."""
    own = {name: value for name, value in kwargs.items() if name not in (USER_MASK, USER_LENGTHS)}
    return own, kwargs.get(USER_MASK), kwargs.get(USER_LENGTHS)


def may_be_told(layer: nn.Module) -> bool:
    """Whether a layer's arguments may say which steps are real, or that there is another sequence."""
    if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
        return True
    if isinstance(layer, torch.jit.ScriptModule):
        return False  # hooks do not run there
    names = [parameter.name for parameter in forward_parameters(layer)]
    return any(says_padding(name) or side_of(name) or name in OTHER_SEQUENCES for name in names)


def without_heads(mask: Tensor) -> Tensor | None:
    """Return (n_rows, n_steps) of a mask, also of one made for attention scores: (n_rows, 1, 1, n_steps)."""
    if mask.ndim in (3, 4) and all(size == 1 for size in mask.shape[1:-1]):
        return mask.flatten(1)
    return mask if mask.ndim == 2 else None


def attended_steps(mask: Tensor) -> Tensor:
    """Return True for real steps from an attention mask: 1 for real ones, or 0 where it is added to scores."""
    if not mask.is_floating_point():
        return mask != 0
    # Without a look at the values, which a GPU would have to wait for; a row of padding alone means nothing.
    is_added = (mask.amin() < 0) | (mask.amax() == 0)
    return torch.where(is_added, mask == 0, mask != 0)


def real_steps(mask: Tensor) -> Tensor:
    """Return True for real steps from a padding mask: True, or minus infinity, where a step is padding."""
    return mask == 0 if mask.is_floating_point() else ~mask.bool()


def steps_of(named: Mapping[str, Any]) -> set[int]:
    """How many steps the net's inputs have: only sequences of that length go with its lengths."""
    tensors = [value for value in named.values() if isinstance(value, Tensor) and not value.is_nested]
    return {value.shape[1] for value in tensors if value.ndim >= 2}
