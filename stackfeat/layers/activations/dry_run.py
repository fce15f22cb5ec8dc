"""Dry runs that say what each tap will give, before any real work.

In:  a module, what to read, the arguments of one small batch.
Out: an `DryRunReport`: for each tap how often it fired, shape, dtype, batch axis, or why it cannot
     fire; and whether rows influence each other, or change their places.
     A mask or lengths that do not fit what the taps read are refused.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import DataWarning, TapError
from stackfeat.layers.activations.call_trace import why_not_called
from stackfeat.layers.activations.layout import Layout, feature_axes, is_close, steps_axis
from stackfeat.layers.activations.mask_proof import Pass, Steps, ignored, mask_rules
from stackfeat.layers.activations.masks import MASKED_POOLS, MaskRule, MaskWatch, split_user_mask, steps_of
from stackfeat.layers.activations.probe import (
    Place,
    Sample,
    Sampler,
    are_among,
    count_rows,
    layout_of_samples,
    other_orders,
    place_in_order,
    probe_batches,
    take_rows,
)
from stackfeat.layers.taps.collector import Collector, Fired
from stackfeat.layers.taps.hooks import HookSession
from stackfeat.layers.taps.layers import canonical_names, named_layers, shorten, unique_layers, unwrap
from stackfeat.layers.taps.passes import in_this_thread
from stackfeat.layers.taps.quantised import scales_by_batch
from stackfeat.layers.taps.refusals import refusals
from stackfeat.layers.taps.runtime import evaluating, plain_transformers, preserve_state
from stackfeat.layers.taps.signature import BY_POSITION, arguments_by_name, forward_parameters
from stackfeat.layers.taps.tap import Read
from stackfeat.layers.taps.values import Arguments, Leaf, leaves, padded

OUTPUT = "<output>"
"""Key of the net's own output: no tap can be called so."""
INFLUENCE = (
    "a row's values must not depend on other rows of its batch; got other values for the same rows at {where}: "
    "rows influence each other; set batch_first=True in attention and recurrent layers (or give the batch where they "
    "expect it), and check for batch statistics used in eval mode and for scales taken over the batch (quantisation)"
)
REORDER = (
    "a row's values must stay at its place in the batch; got the rows in another order at {where}: the net reorders "
    "its rows (sorts them by length or by a value, groups or reverses them)"
)
ORDER_REMEDY = (
    "; tap before it does so or after it has put them back, let stackfeat.mark name such a value, or read each row "
    "alone: sf.extract(..., batch_size=1)"
)
MASK_ORDER = (
    "padding must be told in the order of the rows; got it in another order at {where}: the net sorts rows before "
    "it packs them; call the argument of forward that has their lengths `lengths`, give mask= or lengths= to "
    "sf.extract, or choose a pool that asks for none, cls or flatten"
)
RANDOM = (
    "values should be the same in every pass; got others for the same rows at {where}: the net draws random numbers "
    "in eval mode, or keeps something between passes; give F.dropout training=self.training, or average several calls"
)


UNKNOWN_MASK = (
    "a mask must be known to be about the steps at tap {key!r}; got {told}, which may be about another sequence: "
    "padding counts there; give mask= or lengths= in a call for that tap, or the net's own mask of these steps"
)


@dataclass(frozen=True)
class Finding:
    """What a dry run says of one tap.

    Attributes
    ----------
    calls : int
        How often its layers ran in one forward pass.
    shape : tuple of int
        Of its value in the dry run.
    layout : Layout
        Where the samples are.
    features_axis : int or None
        Where the features are, if a layer told.
    masked : bool
        Whether there is a mask of its steps.
    mask_rule : MaskRule
        Where that mask may come from.
    other_masks : tuple of str
        What the net was told of steps of the same number, if it is not known whether it is about these.
    unfit : tuple of (str, str)
        Masks (owner, argument) of the sequences its steps are made of, which have another number of steps.
    n_taken : int
        How many values are taken in a pass.
    problem : str or None
        Why it cannot be read.
    """

    calls: int = 0
    shape: tuple[int, ...] = ()
    layout: Layout = field(default_factory=Layout)
    features_axis: int | None = None
    masked: bool = False
    mask_rule: MaskRule = field(default_factory=MaskRule)
    other_masks: tuple[str, ...] = ()
    unfit: tuple[tuple[str, str], ...] = ()
    n_taken: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class DryRunReport:
    """What dry runs say of a net and its taps.

    Attributes
    ----------
    reads : tuple of Read
        Those that fire; matches of patterns that never ran are left out.
    findings : dict of str to Finding
    influenced, reordered : tuple of str
        Keys at which rows influence each other, or are not in the order of the batch; ``"output"`` for the net's
        output.
    random : tuple of str
        Keys at which the same rows have other values in each pass.
    padded_elsewhere : tuple of str
        Keys whose rows are in order, and what is known of their padding is not.
    stoppable : bool
        Whether the forward pass may end after the last tap.
    scaled : tuple of str
        Layers that round by a scale of the whole batch.
    after_scale : tuple of str
        Keys of what is read after the first of them.
    """

    reads: tuple[Read, ...]
    findings: dict[str, Finding]
    influenced: tuple[str, ...]
    stoppable: bool
    reordered: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    padded_elsewhere: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    after_scale: tuple[str, ...] = ()

    def check(self, *, one_by_one: bool = False) -> None:
        """Refuse taps that cannot be read row by row.

        Parameters
        ----------
        one_by_one : bool
            Each row has a pass of its own, in which there are no others.

        Raises
        ------
        TapError
            Naming every such tap and why.
        """
        problems = [finding.problem for finding in self.findings.values() if finding.problem]
        if problems:
            raise TapError("\n".join(problems))
        if self.after_scale and not one_by_one:
            raise TapError(
                "a row's values must not depend on other rows of its batch; got dynamic quantisation, which rounds "
                f"by a scale of the whole batch, in {shorten(list(self.scaled))}, and so all that is read at "
                f"{shorten([repr(key) for key in self.after_scale])}; read the net as it was before quantisation, or "
                "with batch_size=1"
            )
        texts = (
            (self.reordered, REORDER + ORDER_REMEDY),
            (self.influenced, INFLUENCE),
            (self.padded_elsewhere, MASK_ORDER),
        )
        for keys, text in texts:
            mixed = [key for key in keys if key in self.findings]
            if mixed and not one_by_one:
                raise TapError(text.format(where=", ".join(repr(key) for key in mixed)))


@dataclass
class DryRun:
    """What came through the taps in one pass."""

    masks: MaskWatch
    values: dict[str, list[Sample]] = field(default_factory=dict)
    calls: dict[str, list[int]] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    packed: set[str] = field(default_factory=set)
    axes: dict[str, int | None] = field(default_factory=dict)
    around: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scaled: list[str] = field(default_factory=list)
    after_scale: set[str] = field(default_factory=set)

    def shapes(self, key: str) -> list[tuple[int, ...]]:
        return [values.shape for values in self.values[key]]


def examine(
    model: nn.Module,
    reads: Sequence[Read],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
) -> DryRunReport:
    """Run a net on two rows, on these and others, and on all of them in other orders, and compare.

    Parameters
    ----------
    model : nn.Module
        Is as before afterwards: modes, buffers, generators, hooks.
    reads : sequence of Read
        From `resolve_taps`.
    args, kwargs
        Arguments of the net: a small batch, on its device.

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
    model, kwargs = unwrap(model), split_user_mask(kwargs or {})[0]
    with preserve_state(model), evaluating(model), plain_transformers(), torch.no_grad():
        reads = one_by_one(model, reads, (args, dict(kwargs)))
        two, few, more, layouts, places = compare_passes(model, reads, (args, dict(kwargs)))
        found = {read.key: finding_of(model, read, few, layouts[read.key], (args, kwargs)) for read in reads}
        findings = with_masks(model, reads, found, few, two)
    fires = any(finding.calls for finding in findings.values())

    def keys_at(place: Place) -> tuple[str, ...]:
        keys = (*(read.key for read in kept), OUTPUT)
        return tuple("output" if key == OUTPUT else key for key in keys if places.get(key) == place)

    kept = tuple(read for read in reads if findings[read.key].calls or not (read.from_pattern and fires))
    return DryRunReport(
        reads=kept,
        findings={read.key: findings[read.key] for read in kept},
        influenced=keys_at("none"),
        reordered=keys_at("other"),
        random=keys_at("random"),
        stoppable=all(is_stoppable(read, few, more) for read in kept),
        scaled=tuple(dict.fromkeys(few.scaled)),
        after_scale=tuple(read.key for read in kept if read.key in few.after_scale),
    )


def one_by_one(model: nn.Module, reads: Sequence[Read], inputs: Arguments) -> Sequence[Read]:
    """Return a read for each tensor that taps with ``[*]`` meet in a pass."""
    if not any(read.is_open for read in reads):
        return reads
    have = count_rows(*inputs)
    if have:
        inputs = take_rows(inputs, have, [i % have for i in range(2)])
    args, kwargs = inputs
    with HookSession(model, reads, take=lambda *_: None) as session, refusals(model, args, kwargs):
        model(*args, **kwargs)
    found: dict[str, Read] = {}
    for read in reads:
        for item in [item for (of, _), item in session.items.items() if of is read] or [read]:
            found.setdefault(item.key, item)
    return tuple(found.values())


def compare_passes(
    model: nn.Module, reads: Sequence[Read], inputs: Arguments
) -> tuple[Arguments, DryRun, DryRun, dict[str, Layout], dict[str, Place]]:
    """Return two rows, passes over them and over more, where samples are by key, where each row's values are."""
    have = count_rows(*inputs)
    if not have:
        run = dry_run(model, reads, inputs)
        layouts = {key: Layout(0 if values else None) for key, values in run.values.items()}
        return inputs, run, run, layouts, {}
    for batch, n_rows in probe_batches(inputs, have):
        # Of real rows the memory itself: whoever looks at it afterwards sees whether the net overwrites its inputs.
        two = take_rows(inputs, have, slice(2)) if have > 1 else take_rows(batch, n_rows, range(2))
        try:
            few = dry_run(model, reads, two)
            sampler = Sampler({key: few.shapes(key) for key in few.values}, n_rows)
            more = dry_run(model, reads, take_rows(batch, n_rows, range(n_rows)), sampler.of_more)
            break
        except Exception as error:
            refusal = error
    else:
        raise refusal
    again = dry_run(model, reads, take_rows(batch, n_rows, range(2)), sampler.of_two)
    layouts = {key: layout_of(again, more, key, n_rows) for key in few.values}
    places = {key: place_among_more(again, more, key, layout) for key, layout in layouts.items()}
    for order in other_orders(n_rows):
        try:
            moved = dry_run(model, reads, take_rows(batch, n_rows, order), sampler.of_more)
        except Exception:  # a net that takes sorted rows alone
            continue
        for key, layout in layouts.items():
            if layout.batch_axis is not None and places[key] == "own":
                places[key] = worst(
                    place_in_order(a, b, order, layout)
                    for a, b in zip(more.values[key], moved.values[key], strict=False)
                )
    if any(place != "own" for place in places.values()):
        again = dry_run(model, reads, take_rows(batch, n_rows, range(n_rows)), sampler.of_more)
        places |= {key: "random" for key in places if not same_values(more, again, key)}
    return two, few, more, layouts, places


def only_shape(_key: str, values: Tensor) -> Sample:
    return Sample(tuple(values.shape))


def dry_run(
    model: nn.Module,
    reads: Sequence[Read],
    inputs: Arguments,
    keep: Callable[[str, Tensor], Sample] = only_shape,
) -> DryRun:
    """Run once; keep little of what the taps ask for: all layers of a net may be looked at at once."""
    collectors: dict[str, Collector[Sample]] = {read.key: Collector(read.tap) for read in reads}
    run = DryRun(MaskWatch(model, traces=True))
    masks, names = run.masks, canonical_names(named_layers(model))
    layers = {
        (read.key, layer): names[id(module)]
        for read in reads
        for layer, module in zip(read.layers, read.modules, strict=False)
    }

    def take(read: Read, fired: Fired, leaf: Leaf) -> None:
        values, lengths = padded(leaf)
        collectors[read.key].add(fired, keep(read.key, values))
        run.around[read.key] = masks.around(layers.get((read.key, fired.layer), ""))
        run.taken[read.key] += 1
        run.axes[read.key] = axes.get(tuple(values.shape))
        if lengths is not None:
            run.packed.add(read.key)
        if run.scaled:
            run.after_scale.add(read.key)

    args, kwargs = inputs
    masks.restart(args, kwargs)
    with (
        feature_axes(model) as axes,
        masks,
        scaled_by_batch(model) as run.scaled,
        HookSession(model, reads, take) as session,
        refusals(model, args, kwargs),
    ):
        output = next(leaves(model(*args, **kwargs)), None)
    run.calls = {read.key: [session.counts[read, layer] for layer in read.layers] for read in reads}
    run.values = {key: collector.values() for key, collector in collectors.items()}
    run.values[OUTPUT] = [] if output is None else [keep(OUTPUT, padded(output)[0])]
    return run


@contextmanager
def scaled_by_batch(model: nn.Module) -> Iterator[list[str]]:
    """Collect the layers that have rounded by a scale of the whole batch so far."""
    ran: list[str] = []

    def note(name: str, _layer: nn.Module, _args: Any, _output: Any) -> None:
        ran.append(name)

    with ExitStack() as stack:
        for name, layer in unique_layers(model).items():
            if scales_by_batch(layer):
                stack.enter_context(layer.register_forward_hook(in_this_thread(partial(note, name))))
        yield ran


def layout_of(few: DryRun, more: DryRun, key: str, n_rows: int) -> Layout:
    """Return where the samples are in the values of two rows and of `n_rows`."""
    if not few.values[key] or not more.values[key]:
        return Layout(0 if few.values[key] else None)
    pairs = zip(few.values[key], more.values[key], strict=False)
    layouts = [layout_of_samples(a, b, n_rows) for a, b in pairs]
    return next((layout for layout in layouts if layout.influenced or layout.batch_axis is None), layouts[0])


def place_among_more(few: DryRun, more: DryRun, key: str, layout: Layout) -> Place:
    """Say where two rows are among more, the first of which they are."""
    if not layout.influenced:
        return "own"
    pairs = zip(few.values[key], more.values[key], strict=False)
    return "other" if all(are_among(a.rows, b.rows) for a, b in pairs) else "none"


def worst(places: Iterable[Place]) -> Place:
    return max(places, key=["own", "other", "none"].index, default="own")


def same_values(left: DryRun, right: DryRun, key: str) -> bool:
    """Whether two passes over the same rows gave the same."""
    pairs = zip(left.values[key], right.values[key], strict=False)
    return all(a.shape == b.shape and is_close(a.rows, b.rows) for a, b in pairs)


def is_stoppable(read: Read, few: DryRun, more: DryRun) -> bool:
    """Whether it is certain which call is the last: another batch might call a layer more often."""
    is_fixed = read.tap.call != "all" and read.tap.call >= 0
    return few.taken[read.key] == more.taken[read.key] and (is_fixed or max(few.calls[read.key]) == 1)


def finding_of(model: nn.Module, read: Read, run: DryRun, layout: Layout, inputs: Arguments) -> Finding:
    """Put together what the runs say of one tap."""
    n_calls = sum(run.calls[read.key])
    if not run.values[read.key]:
        return Finding(n_calls, problem=why_not_called(model, read, n_calls, inputs))
    shape = run.values[read.key][0].shape
    problem = None
    if layout.batch_axis is None:
        problem = (
            f"values at tap {read.key!r} must have a row per sample; got shape={shape}, of which no "
            "axis grows with the batch; tap another layer"
        )
    return Finding(
        calls=n_calls,
        shape=shape,
        layout=layout,
        features_axis=run.axes.get(read.key) if layout.batch_axis == 0 or layout.fold == 1 else None,
        masked=read.key in run.packed,
        n_taken=run.taken[read.key],
        problem=problem,
    )


def with_masks(
    model: nn.Module, reads: Sequence[Read], findings: Mapping[str, Finding], few: DryRun, inputs: Arguments
) -> dict[str, Finding]:
    """Add to what is known of taps which mask is about their steps."""
    steps: dict[str, Steps] = {}
    for read in reads:
        finding = findings[read.key]
        axis = steps_axis(finding.layout, finding.features_axis, finding.shape)
        if axis is not None and not finding.problem and read.tap.pool in MASKED_POOLS:
            n_rows = finding.shape[finding.layout.batch_axis or 0]
            steps[read.key] = Steps(finding.shape, axis, n_rows, few.around[read.key])

    def again(shorter: Arguments) -> Pass:
        return pass_of(dry_run(model, reads, shorter))

    parameters = [p.name for p in forward_parameters(model) if p.kind in BY_POSITION]
    rules = mask_rules(pass_of(few), steps, inputs, parameters, again)
    changed = {}
    for key, rule in rules.items():
        size = (steps[key].n_rows, steps[key].n_steps)
        has_mask = (
            findings[key].masked
            or few.masks.find(rule, *size) is not None
            or few.masks.is_longer(rule, *size)
        )
        told = [] if has_mask else [t for t, _, _ in few.masks.fitting(rule, *size, all_of_them=True)]
        others = dict.fromkeys(
            f"{t.argument} of {t.owner or 'the net'}" for t in told if t.key not in rule.refused
        )
        changed[key] = replace(findings[key], masked=has_mask, mask_rule=rule, other_masks=tuple(others))
    bare = {key: tap for key, tap in steps.items() if not (changed[key].masked or changed[key].other_masks)}
    for key, unfit in ignored(pass_of(few), bare, rules, inputs, parameters, again).items():
        changed[key] = replace(changed[key], unfit=tuple(t.key for t in unfit))
    return {**findings, **changed}


def pass_of(run: DryRun) -> Pass:
    return Pass(run.masks, {key: values[0].shape for key, values in run.values.items() if values})


def check_masks(model: nn.Module, examination: DryRunReport, inputs: Arguments) -> None:
    """Refuse a mask or lengths that do not go with the steps at the taps; without, warn of those in question.

    Raises
    ------
    TapError
        Naming the tap and both numbers of steps; or if no tap is pooled over steps.
    """
    own, mask, lengths = split_user_mask(inputs[1])
    if mask is None and lengths is None:
        for key, finding in examination.findings.items():
            told = [*finding.other_masks[:3], *("..." for _ in finding.other_masks[3:4])]
            if told:
                warnings.warn(UNKNOWN_MASK.format(key=key, told=", ".join(told)), DataWarning, stacklevel=2)
        return
    known = (
        {mask.shape[-1]} if mask is not None else steps_of(arguments_by_name(unwrap(model), inputs[0], own))
    )
    name = "mask" if mask is not None else "lengths"
    n_choices = mask.shape[1] if mask is not None and mask.ndim == 3 else 1
    n_used = 0
    for read in examination.reads:
        finding = examination.findings[read.key]
        axis = steps_axis(finding.layout, finding.features_axis, finding.shape)
        is_told = finding.layout.fold == n_choices and not finding.layout.step_major
        if axis is None or not is_told or read.tap.pool not in MASKED_POOLS:
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
        choices = f" of {n_choices} choices a row" if n_choices > 1 else ""
        raise TapError(
            f"{name} must be used at a tap; got only taps that are not pooled over steps{choices} "
            f"({', '.join(read.key for read in examination.reads)}); leave {name} away, or tap a sequence"
        )
