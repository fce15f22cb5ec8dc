"""Whose steps a mask is about, where the net was given several sequences or none that a mask names.

In:  a dry run of a net, and a function that runs it again on other arguments.
Out: for each tap a `MaskRule`. A sequence is cut by its last step, and what becomes shorter by a step with it is
     made of its steps: a mask and a tap that follow the same cuts belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from stackfeat.layers.activations.masks import (
    LENGTHS,
    SOURCE,
    TARGET,
    Kind,
    MaskRule,
    MaskWatch,
    Told,
    side_of,
    stem_of,
)
from stackfeat.layers.activations.probe import count_rows
from stackfeat.layers.taps.values import Arguments


@dataclass(frozen=True)
class Steps:
    """The value at a tap, as far as masks are concerned.

    Attributes
    ----------
    shape : tuple of int
    axis : int
        Of the steps.
    n_rows : int
    around : tuple of str
        See `MaskRule`.
    """

    shape: tuple[int, ...]
    axis: int
    n_rows: int
    around: tuple[str, ...]

    @property
    def n_steps(self) -> int:
        return self.shape[self.axis]


@dataclass(frozen=True)
class Pass:
    """What masks and taps were like in one pass: the calls that were told, and the shape at each tap."""

    masks: MaskWatch
    shapes: Mapping[str, tuple[int, ...]]


def mask_rules(
    before: Pass,
    steps: Mapping[str, Steps],
    inputs: Arguments,
    parameters: Sequence[str],
    run: Callable[[Arguments], Pass],
) -> dict[str, MaskRule]:
    """Return where the mask of each tap may come from.

    Parameters
    ----------
    before : Pass
    steps : mapping of str to Steps
        By the key of each tap that is pooled over steps.
    inputs : Arguments
        Those of the pass before.
    parameters : sequence of str
        Names of the net's positional arguments.
    run : callable
        Runs the net on other arguments; what it raises only means that nothing is known.
    """
    rules = {key: MaskRule(tap.around) for key, tap in steps.items()}
    fits = {
        key: [
            told for told, _, _ in before.masks.fitting(rules[key], tap.n_rows, tap.n_steps, all_of_them=True)
        ]
        for key, tap in steps.items()
    }
    for size in sorted({steps[key].n_steps for key, found in fits.items() if found}):
        passes = [
            after for shorter in cuts(inputs, parameters, size) if (after := tried(run, shorter)) is not None
        ]
        for key, tap in steps.items():
            if passes and tap.n_steps == size and fits[key]:
                rules[key] = judge(rules[key], key, tap, fits[key], before, passes)
    return rules


def tried(run: Callable[[Arguments], Pass], inputs: Arguments) -> Pass | None:
    try:
        return run(inputs)
    except Exception:
        return None  # a net of a fixed number of steps


SIDES: tuple[Collection[str | None], ...] = ((None,), (SOURCE,), (TARGET,), (None, SOURCE))
"""What is cut together: arguments whose names are about no side, or about these. A source's mask often has none."""


def cuts(
    inputs: Arguments, parameters: Sequence[str], n_steps: int, to: int | None = None
) -> Iterator[Arguments]:
    """Yield the arguments with the sequences of one side a step shorter, for each side that can be cut.

    With `to` they are cut to so many steps, along whichever axis they have their steps.
    """
    done: list[frozenset[str]] = []
    for sides in SIDES:
        shorter, names = cut(inputs, parameters, n_steps, sides, to)
        if names and names not in done:
            done.append(names)
            yield shorter


def cut(
    inputs: Arguments,
    parameters: Sequence[str],
    n_steps: int,
    sides: Collection[str | None],
    to: int | None = None,
) -> tuple[Arguments, frozenset[str]]:
    """Return the arguments with sequences of these sides shorter, and which these are."""
    size = n_steps - 1 if to is None else to
    args, kwargs = inputs
    named = [*zip(parameters, args, strict=False), *kwargs.items()]
    is_cut: set[str] = set()

    def shorten(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or side_of(name) not in sides or value.is_nested:
            return value
        if value.ndim == 1:
            return value.clamp(max=size) if stem_of(name) in LENGTHS else value
        axes = range(1, value.ndim) if to is not None or name.endswith("mask") else (1,)
        for axis in axes:
            if value.shape[axis] == n_steps > 1:
                value = value.narrow(axis, 0, size)
                is_cut.add(name)
        return value

    values = [shorten(name, value) for name, value in named]
    n_first = min(len(args), len(parameters))
    shorter = (*values[:n_first], *args[n_first:]), dict(zip(kwargs, values[n_first:], strict=True))
    return shorter, frozenset(is_cut)


def ignored(
    before: Pass,
    steps: Mapping[str, Steps],
    rules: Mapping[str, MaskRule],
    inputs: Arguments,
    parameters: Sequence[str],
    run: Callable[[Arguments], Pass],
) -> dict[str, tuple[Told, ...]]:
    """Return what was told about the steps that those of a tap are made of, though of another number.

    They are where the tap has fewer steps once the sequences are cut to half. A net of a fixed number of steps is
    taken at its word where it has one sequence alone, or where names say that both are of the source; but (layers,
    n_rows, n_columns) is the state of a recurrent layer.
    """
    told: dict[str, list[tuple[Told, bool]]] = {}
    for key, tap in steps.items():
        kinds = {kind_in(before, name) for name in tap.around}
        if kinds & {Kind.CROSS, Kind.DECODER}:
            continue
        in_encoder = any(side_of(part) == SOURCE for name in tap.around for part in name.split("."))
        told[key] = [
            (t, tap.axis > 0 and (before.masks.n_sequences == 1 or (t.side == SOURCE and in_encoder)))
            for t, _ in before.masks.candidates(rules[key])
            if t.n_rows in (tap.n_rows, count_rows(*inputs)) and t.key not in rules[key].refused
        ]
    passes = [
        after
        for size in sorted({n for found in told.values() for t, _ in found for n in t.steps if n > 1})
        for shorter in cuts(inputs, parameters, size, max(size // 2, 1))
        if (after := tried(run, shorter)) is not None
    ]
    unfit = {}
    for key, found in told.items():
        axis = steps[key].axis
        size = steps[key].shape[axis : axis + 1]

        def belongs(t: Told, is_plain: bool, key: str = key, axis: int = axis, size: Any = size) -> bool:
            cut_too = [after for after in passes if told_steps(after, t) - set(t.steps)]
            if not cut_too:
                return is_plain
            return any(after.shapes.get(key, ())[axis : axis + 1] != size for after in cut_too)

        unfit[key] = tuple(t for t, is_plain in found if belongs(t, is_plain))
    return unfit


def judge(
    rule: MaskRule, key: str, tap: Steps, fitting: Collection[Told], before: Pass, passes: Sequence[Pass]
) -> MaskRule:
    """Say which masks follow the same cuts as a tap."""
    size = tap.n_steps
    follows = tuple(after.shapes.get(key, ())[tap.axis : tap.axis + 1] == (size - 1,) for after in passes)
    kinds = [before.masks.calls[name].kind for name in rule.around if name in before.masks.calls]
    decoder = next((name for name in rule.around if kind_in(before, name) is Kind.DECODER), None)
    proven, refused = set(), set()
    for told in fitting:
        if before.masks.calls[told.owner].kind is Kind.DERIVED:
            continue  # what it makes of the source follows the source too
        shorter = tuple(told_steps(after, told) == {size - 1} for after in passes)
        if shorter != follows:
            refused.add(told.key)
            continue
        if decoder is not None and Kind.CROSS not in kinds and told.side != TARGET:
            # The mask of what the decoder looks at is not that of its own steps.
            other = [before.masks.calls[decoder].other != other_of(after, decoder) for after in passes]
            if told.side == SOURCE or all(o for is_cut, o in zip(shorter, other, strict=True) if is_cut):
                continue
        if any(shorter):
            proven.add(told.key)
    return replace(rule, proven=frozenset(proven), refused=frozenset(refused))


def kind_in(seen: Pass, name: str) -> Kind | None:
    return seen.masks.calls[name].kind if name in seen.masks.calls else None


def other_of(seen: Pass, name: str) -> Any:
    return seen.masks.calls[name].other if name in seen.masks.calls else None


def told_steps(seen: Pass, told: Told) -> set[int]:
    """Return how many steps a mask of the same call and argument has in another pass, beside those it had."""
    calls = seen.masks.calls.get(told.owner)
    same = next((t for t in calls.told if t.argument == told.argument), None) if calls is not None else None
    return set() if same is None else set(same.steps) - (set(told.steps) if told.keep is None else set())
