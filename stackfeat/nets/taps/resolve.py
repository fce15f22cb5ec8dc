"""Which layers of a net the taps mean.

In:  a module, and taps as a user writes them.
Out: a `Read` for every value that will be caught, before any hook is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from stackfeat.errors import TapError
from stackfeat.nets.taps.layers import (
    canonical_names,
    match_name,
    match_pattern,
    named_layers,
    never_called,
    not_found,
    unwrap,
)
from stackfeat.nets.taps.marking import mentions_mark
from stackfeat.nets.taps.tap import Pool, Tap

Taps = str | Tap | Sequence[str | Tap] | Mapping[str, str | Tap]


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
    """

    key: str
    tap: Tap
    layers: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    is_mark: bool = False
    from_pattern: bool = False

    @property
    def where(self) -> str:
        """The place in words, for messages."""
        layer = self.layers[0] if len(self.layers) == 1 else str(self.tap)
        return f"the {'input' if self.tap.side == 'input' else 'output'} of {layer!r}"


def resolve_taps(model: nn.Module, taps: Taps, *, pool: Pool | None = None) -> tuple[Read, ...]:
    """Return what to read, in the order of the taps.

    Parameters
    ----------
    model : nn.Module
    taps : str, Tap, sequence of them, or mapping
        The keys of a mapping name the values in the answer. Otherwise a text without wildcards is
        its own key, and a pattern or type has one key per layer.
    pool : str, optional
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
    given: list[tuple[str | None, str | Tap]]
    if isinstance(taps, Mapping):
        given = list(taps.items())
    else:
        given = [(None, tap) for tap in ([taps] if isinstance(taps, str | Tap) else taps)]
    found: dict[str, Read] = {}
    for key, tap in given:
        parsed = Tap.parse(tap, pool=pool or "auto") if isinstance(tap, str) else tap
        for read in reads_of(model, layers, parsed, tap if key is None and isinstance(tap, str) else key):
            known = found.setdefault(read.key, read)
            if known.tap != read.tap or known.layers != read.layers:
                raise TapError(
                    f"every tap must have a key of its own; got {known.tap!r} and {read.tap!r} for key={read.key!r}; "
                    "give the taps as a dict from key to tap"
                )
    return tuple(found.values())


def reads_of(model: nn.Module, layers: dict[str, nn.Module], tap: Tap, key: str | None) -> Iterator[Read]:
    """Yield what one tap means."""
    exact = None if tap.layer is None or tap.type is not None else match_name(layers, tap.layer)
    if exact is None and tap.is_pattern:
        yield from reads_of_pattern(model, layers, tap, key)
        return
    name = exact if exact is not None else tap.layer or ""
    if exact is None:
        if not mentions_mark(model):
            raise not_found(model, name, layers)
        if tap.side == "input":
            raise TapError(f"a mark has no input; got tap={key or str(tap)!r}; leave ':input' away")
        yield Read(key or str(tap), tap, (name,), (), is_mark=True)
        return
    reason = never_called(layers, name)
    if reason is not None:
        raise TapError(f"a tapped layer must be one that runs; got layer={name!r}, which {reason}")
    yield Read(key or str(tap), tap, (name,), (layers[name],))


def reads_of_pattern(
    model: nn.Module, layers: dict[str, nn.Module], tap: Tap, key: str | None
) -> Iterator[Read]:
    """Yield a read per matching layer, or one for all of them where the tap has `last`."""
    names = match_pattern(tap.layer, list(layers)) if tap.layer else [name for name in layers if name]
    first = canonical_names({name: layers[name] for name in names})
    unique = [name for name in names if first[id(layers[name])] == name]
    kind = tap.type or nn.Module
    matches = [name for name in unique if isinstance(layers[name], kind) and not never_called(layers, name)]
    if not matches:
        raise not_found(model, str(tap), layers)
    if tap.last is not None:
        yield Read(
            key or str(tap), tap, tuple(matches), tuple(layers[name] for name in matches), from_pattern=True
        )
        return
    is_named = key is not None and key != str(tap) and tap.layer != key
    if is_named and len(matches) > 1 and not same_tap(key, tap):
        raise TapError(
            f"a tap with a key of its own must mean one layer; got key={key!r} for {len(matches)} layers "
            f"({', '.join(matches[:4])}); name one, or take the last K with Tap(..., last=K)"
        )
    for name in matches:
        alone = replace(tap, layer=name, type=None)
        own = key if is_named and not same_tap(key, tap) else str(alone)
        yield Read(own or str(alone), alone, (name,), (layers[name],), from_pattern=True)


def same_tap(key: str | None, tap: Tap) -> bool:
    """Whether a key is only the tap written as text."""
    try:
        return key is not None and replace(Tap.parse(key), pool=tap.pool) == tap
    except TapError:
        return False
