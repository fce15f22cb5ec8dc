"""One place to read in a net, and how it is written.

In:  text such as ``encoder.layers.*.dropout2:input[0]#-1`` or ``block.relu()#1``, its parts, or a layer itself.
Out: a `Tap`, which is data: it knows no net.
     `resolve_taps` finds the layers of a net that taps mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, cast, get_args

from torch import nn

from stackfeat.errors import TapError
from stackfeat.layers.taps.layers import (
    WRAPPED,
    Layers,
    canonical_names,
    match_name,
    match_pattern,
    name_of,
    named_layers,
    never_called,
    not_found,
    unwrap,
)
from stackfeat.layers.taps.marks import mentions_mark
from stackfeat.registry.patterns import is_pattern
from stackfeat.registry.resolve import cut, quoted, suggest

Side = Literal["output", "input", "grad"]

Pool = Literal["auto", "none", "flatten", "mean", "max", "cls", "last"]

Combine = Literal["concat", "mean", "stack"]

Item = int | str | tuple[int | str, ...] | None

GRAMMAR = re.compile(
    r"(?P<layer>[^:\[\]#]*)(?::(?P<side>\w+))?(?P<items>(?:\[[^\[\]]+\])*)(?:#(?P<call>-?\d{1,9}|all))?"
)

DIVIDERS = re.compile(r"[:\[#]|$")
"""Where the name of a layer may end in the text of a tap."""

FORM = (
    "'layer', 'layer:input', 'layer:grad', 'layer[0]', 'layer[key]', 'layer[*]', 'layer#0', 'layer#all', "
    "'layer.relu()' or 'block.*.act'"
)

FUNCTION = re.compile(r"(?:(?P<owner>.+)\.)?(?P<function>[A-Za-z_]\w*)\(\)")

ALL_ITEMS = "*"


@dataclass(frozen=True, repr=False)
class Tap:
    """One place to read.

    Attributes
    ----------
    layer : str or nn.Module, optional
        Name of a layer, as in ``model.named_modules()``, or the layer itself; or a name given to
        `stackfeat.mark`; or a pattern: ``*`` and ``?`` stand for parts of one segment, ``**`` for any number of
        segments. The empty name is the net itself. ``block.relu()`` are the calls of torch's function
        ``relu`` that the forward of ``block`` makes itself, ``relu()`` those of the net's own.
    side : {"output", "input", "grad"}
        What the layer returns, what it is given, or the gradient at its output.
    item : int, str or tuple of them, optional
        Which value of a tuple, list, dict or dataclass, or which argument; by default the first
        tensor. A tuple goes deeper: ``(1, 0)`` is ``[1][0]``. ``"*"`` is every tensor, under a key each.
    call : int or "all"
        Which call of a layer that runs several times in one forward pass; -1 is the last.
    pool : str
        How more than two dimensions become columns; see `stackfeat.layers.activations.layout`.
    last : int, optional
        Read only the last so many matching layers, in the order in which they ran, as one value.
    combine : {"concat", "mean", "stack"}, optional
        How several values become one: side by side (the default), their mean, or in a new
        dimension 1.
    type : type, optional
        A class of layers: every layer of it is read.

    Raises
    ------
    TapError
        If the parts are no tap.

    Examples
    --------
    >>> Tap.parse("lstm[0]")
    Tap('lstm', item=0)
    >>> str(Tap("head", side="input"))
    'head:input'
    """

    layer: str | nn.Module | None = None
    side: Side = "output"
    item: Item = None
    call: int | Literal["all"] = -1
    pool: Pool = "auto"
    last: int | None = None
    combine: Combine | None = None
    type: type[nn.Module] | None = None

    def __post_init__(self) -> None:
        if self.layer is None and self.type is None:
            raise TapError(
                "a tap must name a layer or a type; got neither; write Tap('fc.1') or Tap(type=nn.ReLU)"
            )
        for name, kinds in (("side", Side), ("pool", Pool), ("combine", Combine)):
            legal, value = get_args(kinds), getattr(self, name)
            if value not in legal and not (name == "combine" and value is None):
                raise TapError(
                    f"a tap's {name} must be one of {', '.join(legal)}; got {name}={value!r}."
                    f"{suggest(str(value), legal)}"
                )
        if self.call != "all" and not isinstance(self.call, int):
            raise TapError(
                f"a tap's call must be a number or 'all'; got call={self.call!r}; use -1 for the last"
            )
        if self.last is not None and (self.last < 1 or (self.call != "all" and self.call < -1)):
            raise TapError(
                f"last must be 1 or more, with call -1, 0, 1, ... or 'all'; got last={self.last}, call={self.call}; "
                "use call=-1"
            )
        if ALL_ITEMS in self.path[:-1] or (self.is_open and self.last is not None):
            raise TapError(
                f"[*] must stand at the end, and gives a key to each tensor; got item={self.item!r}, "
                f"last={self.last}; name one item, or leave last away"
            )

    @classmethod
    def parse(cls, text: str, *, pool: Pool = "auto") -> Tap:
        """Read ``name[:side][[item]...][#call]``.

        Raises
        ------
        TapError
            If the text is no tap.
        """
        match = GRAMMAR.fullmatch(text)
        if match is None or not (match["layer"] or match["side"]):
            raise TapError(f"a tap must look like {FORM}; got tap={quoted(text)}; name a layer of the net")
        layer, side, items, call = match.group("layer", "side", "items", "call")
        if side not in (None, *get_args(Side)):
            raise TapError(
                f"a tap's side must be 'input', 'output' or 'grad'; got tap={quoted(text)}; try '{cut(layer)}:input'"
            )
        path = tuple(
            int(item) if re.fullmatch(r"-?\d{1,9}", item) else item
            for item in re.findall(r"\[([^\]]+)\]", items)
        )
        return cls(
            layer=layer,
            side=cast(Side, side or "output"),
            item=path[0] if len(path) == 1 else path or None,
            call="all" if call == "all" else int(call or -1),
            pool=pool,
        )

    @property
    def path(self) -> tuple[int | str, ...]:
        """The items, outermost first."""
        if self.item is None:
            return ()
        return self.item if isinstance(self.item, tuple) else (self.item,)

    @property
    def is_open(self) -> bool:
        """Whether it means every tensor there, each under a key of its own."""
        return self.path[-1:] == (ALL_ITEMS,)

    @property
    def is_pattern(self) -> bool:
        """Whether the tap may mean several layers."""
        is_text = isinstance(self.layer, str)
        return self.layer is None or self.type is not None or (is_text and is_pattern(str(self.layer)))

    @property
    def owner_and_function(self) -> tuple[str, str] | None:
        """Return the layer whose forward calls a function, and that function, where the tap is written like one."""
        found = FUNCTION.fullmatch(self.layer) if isinstance(self.layer, str) else None
        return None if found is None else (found["owner"] or "", found["function"])

    def __str__(self) -> str:
        kind = "" if self.type is None else f"<{self.type.__name__}>"
        named = f"<{type(self.layer).__name__}>" if isinstance(self.layer, nn.Module) else self.layer or ""
        layer = f"{named}{kind}"
        side = f":{self.side}" if self.side != "output" or not layer else ""
        items = "".join(f"[{item}]" for item in self.path)
        return f"{layer}{side}{items}{'' if self.call == -1 else f'#{self.call}'}"

    def __repr__(self) -> str:
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                text = value.__name__ if isinstance(value, type) else repr(value)
                parts.append(text if field.name == "layer" else f"{field.name}={text}")
        return f"Tap({', '.join(parts)})"


Place = str | Tap | nn.Module

Taps = Place | Sequence[Place] | Mapping[str, Place]


@dataclass(frozen=True, eq=False)
class Read:
    """A tap of a certain net.

    Attributes
    ----------
    key : str
        What the value is called in the answer.
    tap : Tap
    layers : tuple of str
        Names of the layers it reads: one, or all matches of a tap with `last`.
    modules : tuple of nn.Module
        These layers; none for a mark.
    is_mark : bool
        Whether the name is one given to `stackfeat.mark`.
    from_pattern : bool
        Whether a pattern or a type chose the layer, so that it may well never run.
    function : str
        The function whose calls by these layers are read; empty for the layers themselves.
    """

    key: str
    tap: Tap
    layers: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    is_mark: bool = False
    from_pattern: bool = False
    function: str = ""

    @cached_property
    def path(self) -> tuple[int | str, ...]:
        """The items of the tap, outermost first, without a star."""
        return self.tap.path[:-1] if self.is_open else self.tap.path

    @cached_property
    def is_open(self) -> bool:
        """Whether every tensor there is read."""
        return self.tap.is_open

    @cached_property
    def where(self) -> str:
        """The place in words, for messages."""
        layer = function_text(self.layers[0], self.function) if len(self.layers) == 1 else str(self.tap)
        return f"the {'input' if self.tap.side == 'input' else 'output'} of {layer!r}"

    def item(self, path: tuple[int | str, ...]) -> Read:
        """Return how one tensor of an open tap is read; its path begins where the star stands."""
        items = "".join(f"[{key}]" for key in path)
        key = self.key.replace("[*]", items) if "[*]" in self.key else f"{self.key}{items}"
        whole = (*self.path, *path)
        return replace(self, key=key, tap=replace(self.tap, item=whole or None))


def function_text(layer: str, function: str) -> str:
    """Return how the calls of a function by a layer are written; the layer itself without one."""
    return f"{layer}{'.' if layer else ''}{function}()" if function else layer


def resolve_taps(model: nn.Module, taps: Taps, *, pool: Pool = "auto") -> tuple[Read, ...]:
    """Return what to read, in the order of the taps.

    Parameters
    ----------
    model : nn.Module
    taps : str, Tap, layer, sequence of them, or mapping
        The keys of a mapping name the values in the answer. Otherwise a text without wildcards is
        its own key, a layer has its name, and a pattern or type has one key per layer.
    pool : str
        Pooling of taps that are given as text.

    Raises
    ------
    LayerNotFoundError
        If a name or pattern means no layer.
    TapError
        If a layer can never be read, or two different taps have one key.
    """
    model = unwrap(model)
    layers = named_layers(model)
    found: dict[str, Read] = {}
    for key, tap in named_taps(model, taps):
        parsed = parse_tap(model, tap, pool=pool, layers=layers) if isinstance(tap, str) else tap
        for read in reads_of(model, layers, parsed, tap if key is None and isinstance(tap, str) else key):
            known = found.setdefault(read.key, read)
            if known.tap != read.tap or known.layers != read.layers:
                raise TapError(
                    f"every tap must have a key of its own; got {known.tap!r} and {read.tap!r} for key={read.key!r}; "
                    "give the taps as a dict from key to tap"
                )
    return tuple(found.values())


def parse_tap(model: nn.Module, text: str, *, pool: Pool = "auto", layers: Layers | None = None) -> Tap:
    """Read the text of a tap of a certain net, whose layers may have ``:``, ``[`` and ``#`` in their names.

    `layers` saves a walk through the net where they are known.

    Raises
    ------
    TapError
        If the text is no tap, or names one layer and a part of what another one returns.
    """
    layers = named_layers(unwrap(model)) if layers is None else layers
    meanings: list[Tap] = []
    for end in (place.start() for place in DIVIDERS.finditer(text) if text):
        if match_name(layers, text[:end]) is not None:
            with suppress(TapError):
                meanings.append(replace(Tap.parse(f"name{text[end:]}", pool=pool), layer=text[:end]))
    if len(meanings) > 1:
        raise TapError(
            f"a tap must mean one place; got tap={quoted(text)}, which is {' or '.join(map(repr, meanings))}; "
            f"write sf.{meanings[-1]!r} for the layer of that very name"
        )
    if meanings:
        return meanings[0]
    try:
        return Tap.parse(text, pool=pool)
    except TapError as error:
        if not text or not mentions_mark(model):
            raise
        raise TapError(f"{error}, or sf.Tap({text!r}) for a mark of that very name") from None


def from_the_end(place: str | Tap, tap: Tap) -> bool:
    """Whether a tap, and how it is written, counts calls from the last: only text tells ``#-1`` from no call."""
    written = re.search(r"#-\d+$", place) if isinstance(place, str) else None
    is_written = written is not None and not str(tap.layer).endswith(
        written[0]
    )  # which may be a layer's name
    return is_written or (tap.call != "all" and tap.call < -1)


def keyed(taps: Taps) -> list[tuple[str | None, Place]]:
    """Return every tap with the key that it was given, if any."""
    if isinstance(taps, Mapping):
        return list(taps.items())
    return [(None, tap) for tap in ([taps] if isinstance(taps, str | Tap | nn.Module) else taps)]


def holds_layers(taps: Any) -> bool:
    """Whether there are layers themselves among taps."""
    if not isinstance(taps, str | Tap | nn.Module | Mapping | Iterable):
        return False
    given = [tap.layer if isinstance(tap, Tap) else tap for _, tap in keyed(cast(Taps, taps))]
    return any(isinstance(tap, nn.Module) for tap in given)


def taps_by_name(model: nn.Module, taps: Taps) -> Mapping[str, str | Tap] | list[str | Tap]:
    """Return the same taps, those that are layers by their names."""
    named = named_taps(model, taps)
    if isinstance(taps, Mapping):
        return {str(key): tap for key, tap in named}
    return [tap for _, tap in named]


def named_taps(model: nn.Module, taps: Taps) -> list[tuple[str | None, str | Tap]]:
    """Return every tap with the key that it was given, if any, and layers by their names.

    Raises
    ------
    TapError
        If something is no tap.
    LayerNotFoundError
        If a layer is not in the net.
    """
    if not isinstance(taps, str | Tap | nn.Module | Mapping | Iterable):
        raise TapError(f"taps must be text, Tap, a layer, or several of them; got {type(taps).__name__}")
    return [(key, named_tap(model, tap)) for key, tap in keyed(taps)]


def named_tap(model: nn.Module, tap: Place) -> str | Tap:
    if isinstance(tap, nn.Module):
        return Tap(name_of(model, tap))
    if isinstance(tap, Tap):
        return replace(tap, layer=name_of(model, tap.layer)) if isinstance(tap.layer, nn.Module) else tap
    if not isinstance(tap, str):
        raise TapError(
            f"a tap must be text, a Tap or a layer of the net; got {type(tap).__name__}; write {FORM}"
        )
    return tap


def reads_of(model: nn.Module, layers: Layers, tap: Tap, key: str | None) -> Iterator[Read]:
    """Yield what one tap means."""
    text = cast(str | None, tap.layer)
    exact = None if text is None or tap.type is not None else match_name(layers, text)
    calls = tap.owner_and_function if exact is None else None
    name, function = calls if calls is not None else (text, "")
    if function and tap.type is None:
        exact = "" if set(str(name).split(".")) <= set(WRAPPED) else match_name(layers, str(name))
    if exact is None and tap.is_pattern:
        yield from reads_of_pattern(model, layers, tap, key, name, function)
        return
    name = exact if exact is not None else name or ""
    if exact is None:
        if function or not mentions_mark(model):
            raise not_found(model, name, layers)
        if tap.side == "input":
            raise TapError(f"a mark has no input; got tap={key or str(tap)!r}; leave ':input' away")
        yield Read(key or str(tap), tap, (name,), (), is_mark=True)
        return
    reason = never_called(layers, name)
    if reason is not None:
        raise TapError(f"a tapped layer must be one that runs; got layer={name!r}, which {reason}")
    yield Read(key or str(tap), tap, (name,), (layers[name],), function=function)


def reads_of_pattern(
    model: nn.Module, layers: Layers, tap: Tap, key: str | None, pattern: str | None, function: str
) -> Iterator[Read]:
    """Yield a read per matching layer, or one for all of them where the tap has `last`."""
    names = match_pattern(pattern, list(layers)) if pattern else [name for name in layers if name]
    if function and pattern and not pattern.replace("**", "").replace(".", ""):
        names = ["", *names]  # any number of segments, none too: the forward of the net itself
    first = canonical_names({name: layers[name] for name in names})
    unique = [name for name in names if first[id(layers[name])] == name]
    kind = tap.type or nn.Module
    matches = [name for name in unique if isinstance(layers[name], kind) and not never_called(layers, name)]
    if not matches:
        raise not_found(model, str(tap), layers)
    if tap.last is not None:
        modules = tuple(layers[name] for name in matches)
        yield Read(key or str(tap), tap, tuple(matches), modules, from_pattern=True, function=function)
        return
    is_named = key is not None and key not in (str(tap), tap.layer) and not same_tap(key, tap)
    if is_named and len(matches) > 1:
        raise TapError(
            f"a tap with a key of its own must mean one layer; got key={key!r} for {len(matches)} layers "
            f"({', '.join(matches[:4])}); name one, or take the last K with Tap(..., last=K)"
        )
    for name in matches:
        alone = replace(tap, layer=function_text(name, function), type=None)
        own = (key if is_named else "") or str(alone)
        yield Read(own, alone, (name,), (layers[name],), from_pattern=True, function=function)


def same_tap(key: str, tap: Tap) -> bool:
    """Whether a key is only the tap written as text."""
    try:
        return replace(Tap.parse(key), pool=tap.pool) == tap
    except TapError:
        return False
