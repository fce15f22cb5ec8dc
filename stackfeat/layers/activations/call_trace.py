"""Dry runs that say what each tap will give, before any real work.

In:  a module, what to read, the arguments of one small batch.
Out: an `Examination`: for each tap how often it fired, shape, dtype, batch axis, or why it cannot
     fire; and whether rows influence each other.
     A mask or lengths that do not fit what the taps read are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.dry_run import Arguments, count_rows, preserve_state, with_rows
from stackfeat.layers.activations.layout import FeatureAxes, Layout, find_layout, steps_axis
from stackfeat.layers.activations.masks import MASKED_POOLS, MaskWatch, arguments, split_given, steps_of
from stackfeat.layers.activations.why_not_called import why_not_called
from stackfeat.layers.taps.hooks import Collector, Fired, HookSession
from stackfeat.layers.taps.layers import unwrap
from stackfeat.layers.taps.runtime import evaluating, plain_transformers
from stackfeat.layers.taps.tap import Read
from stackfeat.layers.taps.values import Leaf, copied, first_tensor, plain

INFLUENCE = (
    "a row's values must not depend on other rows of its batch; got other values for the same rows at {where}: "
    "rows influence each other; set batch_first=True in attention and recurrent layers (or give the batch where they "
    "expect it), and check for batch statistics used in eval mode"
)


@dataclass(frozen=True)
class Finding:
    """What a dry run says of one tap.

    Attributes
    ----------
    key : str
    calls : int
        How often its layers ran in one forward pass.
    shape : tuple of int
        Of its value for `Examination.n_rows` rows.
    dtype : torch.dtype or None
    layout : Layout
        Where the samples are.
    features_axis : int or None
        Where the features are, if a layer told.
    masked : bool
        Whether a padding mask fits its steps.
    n_taken : int
        How many values are taken in a pass.
    problem : str or None
        Why it cannot be read.
    """

    key: str
    calls: int = 0
    shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    layout: Layout = field(default_factory=lambda: Layout(0))
    features_axis: int | None = None
    masked: bool = False
    n_taken: int = 0
    problem: str | None = None

    @property
    def batch_axis(self) -> int | None:
        return self.layout.batch_axis


@dataclass(frozen=True)
class Examination:
    """What dry runs say of a net and its taps.

    Attributes
    ----------
    reads : tuple of Read
        Those that fire; matches of patterns that never ran are left out.
    findings : dict of str to Finding
    n_rows : int
        Rows of the dry run.
    output : Layout or None
        Where the samples are in the first tensor of the net's output.
    random : bool
        Whether the net draws random numbers in eval mode, so that nothing can be compared.
    stoppable : bool
        Whether the forward pass may end after the last tap.
    """

    reads: tuple[Read, ...]
    findings: dict[str, Finding]
    n_rows: int
    output: Layout | None
    random: bool
    stoppable: bool

    @property
    def influenced(self) -> tuple[str, ...]:
        """Keys at which rows influence each other, ``"output"`` for the net's output."""
        keys = [key for key, finding in self.findings.items() if finding.layout.influenced]
        return (*keys, *(["output"] if self.output is not None and self.output.influenced else []))

    def check(self) -> None:
        """Refuse taps that cannot be read row by row.

        Raises
        ------
        TapError
            Naming every such tap and why.
        """
        problems = [finding.problem for finding in self.findings.values() if finding.problem]
        if problems:
            raise TapError("\n".join(problems))
        mixed = [key for key in self.influenced if key in self.findings]
        if mixed:
            raise TapError(INFLUENCE.format(where=", ".join(repr(key) for key in mixed)))


@dataclass
class DryRun:
    """What came through the taps in one pass."""

    values: dict[str, list[Tensor]]
    calls: Counter[str]
    taken: Counter[str]
    masked: set[str]
    axes: dict[str, int | None]
    most_calls: Counter[str]
    output: Any


def examine(
    model: nn.Module,
    reads: Sequence[Read],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    batch_dim: int = 0,
) -> Examination:
    """Run a net on a few rows, and on one row more, and compare.

    Parameters
    ----------
    model : nn.Module
        Is as before afterwards: modes, buffers, generators, hooks.
    reads : sequence of Read
        From `resolve_taps`.
    args, kwargs
        Arguments of the net: a small batch, on its device.
    batch_dim : int
        Which axis of the inputs holds the samples.

    Raises
    ------
    TapError
        If a gradient is asked for. All else is a finding.
    """
    gradients = [read.key for read in reads if read.tap.side == "grad"]
    if gradients:
        raise TapError(
            f"gradients must be read while autograd runs; got tap={gradients[0]!r}; use stackfeat.tapped"
        )
    model, kwargs = unwrap(model), split_given(kwargs or {})[0]
    have = count_rows(args, kwargs, batch_dim)
    n_rows = 2 if have is not None else 0
    with preserve_state(model), evaluating(model), plain_transformers(), torch.no_grad():
        few = dry_run(model, reads, with_rows(args, kwargs, 2, batch_dim) if n_rows else (args, kwargs))
        more = dry_run(model, reads, with_rows(args, kwargs, 3, batch_dim)) if n_rows else few
        layouts = {read.key: layout_of(few, more, read.key, n_rows) for read in reads}
        output = output_layout(few, more, n_rows)
        is_random = False
        if output.influenced or any(layout.influenced for layout in layouts.values()):
            again = dry_run(model, reads, with_rows(args, kwargs, 2, batch_dim))
            is_random = not same_values(few, again)
    if is_random:
        layouts = {key: replace(layout, influenced=False) for key, layout in layouts.items()}
        output = replace(output, influenced=False)
    findings = {read.key: finding_of(model, read, few, layouts[read.key], args, kwargs) for read in reads}
    fires = any(few.calls.values())
    kept = tuple(read for read in reads if few.calls[read.key] or not (read.from_pattern and fires))
    return Examination(
        reads=kept,
        findings={read.key: findings[read.key] for read in kept},
        n_rows=n_rows,
        output=output,
        random=is_random,
        stoppable=all(is_stoppable(read, few, more) for read in kept),
    )


def dry_run(model: nn.Module, reads: Sequence[Read], inputs: Arguments) -> DryRun:
    """Run once; keep what the taps ask for."""
    collectors: dict[str, Collector[Tensor]] = {read.key: Collector(read.tap) for read in reads}
    layers: dict[str, str] = {}
    run = DryRun({}, Counter(), Counter(), set(), {}, Counter(), None)
    masks, axes = MaskWatch(model), FeatureAxes(model)

    def take(read: Read, fired: Fired, leaf: Leaf) -> None:
        values, lengths = plain(leaf)
        collectors[read.key].add(fired, copied(values))
        layers[read.key] = fired.layer
        run.taken[read.key] += 1
        run.axes[read.key] = axes.find(values)
        if lengths is not None:
            run.masked.add(read.key)

    args, kwargs = inputs
    masks.restart(args, kwargs)
    with ExitStack() as stack:
        axes.attach(stack)
        masks.attach(stack)
        reading = stack.enter_context(HookSession(model, reads, take))
        run.output = first_tensor(model(*args, **kwargs))
        for read in reads:
            counts = [reading.count(read, layer) for layer in read.layers]
            run.calls[read.key] = sum(counts)
            run.most_calls[read.key] = max(counts)
    run.values = {key: collector.values() for key, collector in collectors.items()}
    for key, values in run.values.items():
        if values and values[0].ndim == 3 and any_mask(masks, layers[key], values[0]):
            run.masked.add(key)
    return run


def any_mask(masks: MaskWatch, layer: str, values: Tensor) -> bool:
    """Whether a mask fits values of (rows, steps, features), (steps, rows, features), (rows, channels, steps)."""
    n, m, k = values.shape
    return any(masks.find(layer, *sizes) is not None for sizes in ((n, m), (m, n), (n, k)))


def layout_of(few: DryRun, more: DryRun, key: str, n_rows: int) -> Layout:
    if not few.values[key] or not more.values[key] or not n_rows:
        return Layout(0 if few.values[key] else None)
    layouts = [find_layout(a, b, n_rows) for a, b in zip(few.values[key], more.values[key], strict=False)]
    return next((layout for layout in layouts if layout.influenced or layout.batch_axis is None), layouts[0])


def output_layout(few: DryRun, more: DryRun, n_rows: int) -> Layout:
    if few.output is None or more.output is None or not n_rows or few.output.is_nested:
        return Layout(0)
    return find_layout(few.output, more.output, n_rows)


def same_values(left: DryRun, right: DryRun) -> bool:
    """Whether two passes over the same rows gave the same."""
    pairs = [pair for key in left.values for pair in zip(left.values[key], right.values[key], strict=False)]
    pairs += [(left.output, right.output)] if left.output is not None else []
    return all(a.shape == b.shape and torch.allclose(a, b, equal_nan=True) for a, b in pairs)


def is_stoppable(read: Read, few: DryRun, more: DryRun) -> bool:
    """Whether it is certain which call is the last: another batch might call a layer more often."""
    is_fixed = read.tap.call != "all" and read.tap.call >= 0
    return few.taken[read.key] == more.taken[read.key] and (is_fixed or few.most_calls[read.key] == 1)


def finding_of(
    model: nn.Module,
    read: Read,
    run: DryRun,
    layout: Layout,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Finding:
    """Put together what the runs say of one tap."""
    if not run.values[read.key]:
        reason = why_not_called(model, read, run.calls[read.key], args, kwargs)
        return Finding(read.key, calls=run.calls[read.key], problem=reason)
    value = run.values[read.key][0]
    problem = None
    if layout.batch_axis is None:
        problem = (
            f"values at tap {read.key!r} must have a row per sample; got shape={tuple(value.shape)}, of which no "
            "axis grows with the batch; tap another layer"
        )
    return Finding(
        key=read.key,
        calls=run.calls[read.key],
        shape=tuple(value.shape),
        dtype=value.dtype,
        layout=layout,
        features_axis=run.axes.get(read.key) if layout.batch_axis == 0 or layout.fold == 1 else None,
        masked=read.key in run.masked,
        n_taken=run.taken[read.key],
        problem=problem,
    )


def check_given(
    model: nn.Module, examination: Examination, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse a mask or lengths that do not go with the steps at the taps.

    Raises
    ------
    TapError
        Naming the tap and both numbers of steps; or if no tap is pooled over steps.
    """
    own, mask, lengths = split_given(kwargs)
    if mask is None and lengths is None:
        return
    known = {mask.shape[1]} if mask is not None else steps_of(arguments(unwrap(model), args, own))
    name = "mask" if mask is not None else "lengths"
    n_used = 0
    for read in examination.reads:
        finding = examination.findings[read.key]
        axis = steps_axis(finding.layout, finding.features_axis, finding.shape)
        if axis is None or read.tap.pool not in MASKED_POOLS:
            continue
        n_used += 1
        # A packed sequence is as long as its longest row, and says itself where each one ends.
        if finding.shape[axis] not in known and not finding.masked:
            steps = " or ".join(map(str, sorted(known)))
            raise TapError(
                f"{name} must be about the steps at every tap that is pooled over them; got {steps or 'no'} steps, "
                f"and {finding.shape[axis]} at tap {read.key!r}; give mask=(rows, {finding.shape[axis]}) in a "
                "call for that tap alone, or another pool there: Tap(..., pool='cls')"
            )
    if not n_used:
        raise TapError(
            f"{name} must be used at a tap; got only taps that are not pooled over steps "
            f"({', '.join(read.key for read in examination.reads)}); leave {name} away, or tap a sequence"
        )
