"""What the engine finds out about a net before the first real row.

In:  a module, a few rows, taps.
Out: a `Plan`: what is read, where and how the net runs, and how many rows a pass should take. Plans
     are remembered for as long as the module lives and is built the same, so later calls start at once.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from inspect import getattr_static
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from stackfeat.errors import NetRefusedError
from stackfeat.layers.activations.dry_run import OUTPUT, DryRunReport, check_masks, examine
from stackfeat.layers.activations.masks import split_user_mask
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.activations.probe import PROBE_ROWS
from stackfeat.layers.activations.rows import Deliver, RowReading, padded_elsewhere
from stackfeat.layers.extraction.arguments import Constant, Names, Packed, bind, constants_key, placed
from stackfeat.layers.extraction.batch import choose_batch_size, even_batches, row_sizes
from stackfeat.layers.extraction.inputs import Columns, Source
from stackfeat.layers.extraction.placement import (
    Placement,
    float_dtype,
    may_be_channels_last,
    pays_plain_attention,
)
from stackfeat.layers.taps.edits import edited_functions
from stackfeat.layers.taps.refusals import refusals
from stackfeat.layers.taps.runtime import preserve_state
from stackfeat.layers.taps.tap import Pool, Taps, keyed, resolve_taps, taps_by_name
from stackfeat.layers.taps.values import Arguments, first_tensor, real_columns

logger = logging.getLogger(__name__)

HEAD_ROWS = 8
DRY_ROWS = 3
PENULTIMATE = "penultimate"
PLAIN = (int, float, str)
NO_TAPS = DryRunReport(reads=(), findings={}, influenced=(), stoppable=False)


@dataclass
class Plan:
    """How to read a net.

    Attributes
    ----------
    names : tuple
        The arguments of ``forward`` that the columns go to.
    placement : Placement
    examination : DryRunReport
        What the dry runs found at each tap.
    dtype : torch.dtype
        The float format of inputs.
    row_bytes : int
        The largest value inside the net, per row.
    overwrites_inputs : bool
        Whether the net works in place on what it is given.
    wants_output : bool
        Whether the net's own output is read too, so that the pass must not end at the last tap.
    tuned : int or None
        The batch size that timing chose.
    packed : Packed or None
        How columns are one argument of ``forward``.
    constants : mapping of str to Constant
        Arguments that are the same for all rows, as the net takes them.
    """

    names: Names
    placement: Placement
    examination: DryRunReport
    dtype: torch.dtype
    row_bytes: int
    overwrites_inputs: bool = False
    wants_output: bool = False
    tuned: int | None = field(default=None)
    packed: Packed | None = None
    constants: Mapping[str, Constant] = field(default_factory=dict)

    def feed(self, columns: Columns, n_rows: int) -> Arguments:
        """Return the arguments of ``forward``, padded to `n_rows`."""
        fed = [self.placement.feed(column, self.dtype, n_rows) for column in columns]
        if self.overwrites_inputs:
            fed = [new.clone() if new is old else new for new, old in zip(fed, columns, strict=True)]
        return bind(self.names, fed, self.packed, self.constants)

    @property
    def rounding(self) -> float:
        """How far values of a row may be apart in two passes, relative to the largest."""
        is_exact = self.placement.precision == "float32" and self.dtype in (torch.float32, torch.float64)
        return 1e-3 if is_exact else 0.05

    def read(self, model: nn.Module, deliver: Deliver) -> RowReading:
        return RowReading(model, self.examination, deliver, stop_early=not self.wants_output)

    def choose_size(self, model: nn.Module, head: Columns, n_rows: int | None) -> int:
        """Return a batch size."""
        size = self.tuned if self.tuned is not None else self.try_sizes(model, head, n_rows)
        return size if n_rows is None else even_batches(size, n_rows)

    def try_sizes(self, model: nn.Module, head: Columns, n_rows: int | None) -> int:
        """Time a few batch sizes, where there are enough rows to make up for it."""

        def copy_out(_key: str, rows: Tensor) -> None:
            rows.to("cpu", torch.float32, copy=True)

        # Convolutions work through an image piece by piece: larger batches still fit the cache.
        row_bytes = self.row_bytes // 2 if self.placement.channels_last else self.row_bytes
        with self.read(model, copy_out) as reading:

            def run(size: int) -> None:
                rows = [column[torch.arange(size) % len(column)] for column in head]
                args, kwargs = self.feed(rows, size)
                reading.run(args, kwargs, n_rows=size)

            weight_bytes = sum(weight.nbytes for weight in model.parameters())
            size, was_timed = choose_batch_size(
                run, n_rows, row_bytes, self.placement.device, weight_bytes=weight_bytes
            )
        self.tuned = size if was_timed else None
        return size


_PLANS: WeakKeyDictionary[nn.Module, dict[Hashable, Plan]] = WeakKeyDictionary()


def find_plan(
    model: nn.Module,
    source: Source,
    taps: Taps,
    pool: str,
    placement: Placement,
    constants: Mapping[str, Any] | None = None,
) -> Plan:
    """Return the plan for this module, these taps (there may be none), rows of this shape and these constants.

    Raises
    ------
    LayerNotFoundError, TapError
        If a tap cannot be read.
    """
    taps = taps_by_name(model, taps)
    placement = replace(placement, as_written=as_written(model, taps))
    names, head = source.names, source.head(HEAD_ROWS)
    shapes = tuple((tuple(column.shape[1:]), column.dtype) for column in head)
    n_rows = min(len(head[0]), DRY_ROWS)
    fixed = constants_key(constants or {})
    if fixed is None or source.packed is not None:
        return make_plan(model, source, taps, pool, placement, constants or {})
    key = (
        structure(model),
        names,
        shapes,
        n_rows,
        repr(taps),
        pool,
        placement,
        torch.get_num_threads(),
        fixed,
    )
    plans = _PLANS.setdefault(model, {})
    if key not in plans:
        if len(plans) >= 8:
            plans.clear()
        plans[key] = make_plan(model, source, taps, pool, placement, constants or {})
    return plans[key]


def as_written(model: nn.Module, taps: Taps) -> tuple[str, ...]:
    """Return the layers of which taps read, or open edits change, functions that they call."""
    given = [tap for _, tap in keyed(taps) if tap != PENULTIMATE and "()" in str(tap)]
    read = [name for read in resolve_taps(model, given) if read.function for name in read.layers]
    return tuple(dict.fromkeys([*read, *edited_functions(model)]))


def structure(model: nn.Module) -> Hashable:
    """Describe how a module is built: which parts, their plain attributes, their hooks."""
    return tuple(
        (
            name,
            id(part),
            id(vars(part).get("forward", getattr_static(type(part), "forward", None))),
            # Numbers of handles, which are given once: another edit in the place of one is another net.
            (tuple(part._forward_hooks), tuple(part._forward_pre_hooks)),
            tuple(item for item in vars(part).items() if isinstance(item[1], PLAIN)),
        )
        for name, part in model.named_modules()
    )


def make_plan(
    model: nn.Module,
    source: Source,
    taps: Taps,
    pool: str,
    placement: Placement,
    constants: Mapping[str, Any],
) -> Plan:
    """Run the net on a few rows and look."""
    # Rows from everywhere, so that it does not matter which come first. The examination makes up others beside them.
    some = source.spread(PROBE_ROWS)
    some = [column if len(column) else column.new_zeros(1, *column.shape[1:]) for column in some]
    few, dtype = [column[:DRY_ROWS] for column in some], float_dtype(model)
    placement = replace(placement, plain_attention=pays_plain_attention(few, placement.device))
    # A net that is in its place is looked at as it is: fast layers do not pay for a few rows.
    with placement.apply(model) if not placement.is_fixed else nullcontext():
        fed = [placement.feed(column.clone(), dtype, len(column)) for column in some]
        before = [column.clone() for column in fed]
        fixed = placed(
            constants, placement.device, torch.bfloat16 if placement.precision == "bf16" else dtype
        )
        inputs = bind(source.names, fed, source.packed, fixed)
        try:
            with row_sizes(model, PROBE_ROWS) as sizes:
                examination = examine_taps(model, taps, pool, inputs)
        except NetRefusedError as error:
            number = fixed_number(model, source, few, fixed)
            if number is None:
                raise
            raise NetRefusedError(
                f"the net must run on any number of rows; got one that runs on {number}, and not on "
                f"{len(few[0])}: {error}"
            ) from error.__cause__
        overwrites = not all(torch.equal(a, b) for a, b in zip(fed, before, strict=True))
        plan = Plan(
            source.names,
            placement,
            examination,
            dtype,
            max(sizes, default=0),
            overwrites,
            packed=source.packed,
            constants=fixed,
        )
    last = replace(plan, placement=replace(placement, channels_last=True))
    is_last = may_be_channels_last(model, few, placement.device) and gives_same_values(model, plan, last, few)
    return last if is_last else plan


def fixed_number(
    model: nn.Module, source: Source, few: Columns, constants: Mapping[str, Constant]
) -> int | None:
    """Return a number of rows that a net runs on although it refused a few; None where there seems to be none."""
    if few[0].ndim < 2:
        return None
    for n_rows in sorted({*(2**n for n in range(8)), *range(1, 11), min(source.n_rows or 1, 1024)}):
        rows = [column[torch.arange(n_rows) % len(column)] for column in few]
        args, kwargs = bind(source.names, rows, source.packed, constants)
        try:
            with preserve_state(model), torch.no_grad():
                output = first_tensor(model(*args, **split_user_mask(kwargs)[0]))
        except Exception as error:
            logger.debug("%d rows: %s", n_rows, error)
        else:
            if output is not None and output.ndim and len(output) == n_rows:
                return int(n_rows)
    return None


def examine_taps(model: nn.Module, taps: Taps, pool: str, inputs: Arguments) -> DryRunReport:
    """Run the net on a few rows and look at the taps."""
    args, kwargs = inputs
    if not taps:
        with preserve_state(model), refusals(model, args, kwargs):
            model(*args, **kwargs)
        return NO_TAPS
    given = [tap for _, tap in keyed(taps)]
    if PENULTIMATE in given and not hasattr(model, PENULTIMATE):
        found = find_penultimate(model, *args, example_kwargs=split_user_mask(kwargs)[0])
        named = [found if tap == PENULTIMATE else tap for tap in given]
        taps = dict(zip(taps, named, strict=True)) if isinstance(taps, Mapping) else named
    reads = resolve_taps(model, taps, pool=cast(Pool, pool))
    examination = examine(model, reads, args, kwargs)
    examination.check(one_by_one=True)
    check_masks(model, examination, inputs)
    with preserve_state(model):
        return replace(examination, padded_elsewhere=padded_elsewhere(model, examination, inputs))


def gives_same_values(model: nn.Module, plan: Plan, changed: Plan, few: Columns) -> bool:
    """Say whether a net gives the same by another plan, if what it does in between fits that.

    ``view`` on the result of a convolution does not take images that lie channels-last. A fixed plan is
    the same for all rows and taps, so the whole net is run on made-up rows.
    """
    if plan.placement.is_fixed:
        few = [stand_in_rows(column) for column in few]
        plan, changed = (replace(p, examination=NO_TAPS, wants_output=True) for p in (plan, changed))
    try:
        with preserve_state(model):
            plain, found = read_few(model, plan, few), read_few(model, changed, few)
    except Exception as error:
        logger.info("images stay channels-first: %s", (str(error).splitlines() or [type(error).__name__])[0])
        return False
    tolerance = 1e-4 if plan.placement.precision == "float32" else 0.05
    return all(
        bool((found[key] - rows).abs().max() <= tolerance * (1e-6 + rows.abs().max()))
        for key, rows in plain.items()
    )


def read_few(model: nn.Module, plan: Plan, few: Columns) -> dict[str, Tensor]:
    caught: dict[str, Tensor] = {}

    def keep(key: str, rows: Tensor) -> None:
        caught[key] = real_columns(rows, -1).to("cpu", torch.float64, copy=True)

    args, kwargs = plan.feed([column.clone() for column in few], DRY_ROWS)
    with plan.placement.apply(model), torch.no_grad(), plan.read(model, keep) as reading:
        output = first_tensor(reading.run(args, kwargs, n_rows=DRY_ROWS))
    if plan.wants_output and output is not None:
        keep(OUTPUT, output)
    return caught


def stand_in_rows(column: Tensor) -> Tensor:
    """Return rows of the same shape whose values depend on nothing else."""
    if not column.is_floating_point():
        return torch.ones_like(column)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(column.shape, generator=generator).to(column)
