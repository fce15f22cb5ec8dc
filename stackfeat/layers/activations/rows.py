"""Pooled rows of every batch, passed on while the net runs.

In:  a module and its examination, then batches.
Out: calls of `deliver(key, rows)` with a row per sample. Rows are live tensors: nothing is copied
     that need not be, and whoever keeps them copies them at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from stackfeat.errors import DataWarning, TapError
from stackfeat.layers.activations.dry_run import DryRunReport, Finding
from stackfeat.layers.activations.layout import is_close, pool_rows, steps_axis, unfold_rows
from stackfeat.layers.activations.masks import MASKED_POOLS, MaskWatch, mask_of_lengths, split_user_mask
from stackfeat.layers.activations.probe import count_rows, other_orders, probe_batches, take_rows
from stackfeat.layers.taps.collector import Collector, Fired, combine, is_many
from stackfeat.layers.taps.hooks import HookSession, Stop, never_fired
from stackfeat.layers.taps.layers import unwrap
from stackfeat.layers.taps.passes import Hooks, forgetting_passes
from stackfeat.layers.taps.refusals import refusals
from stackfeat.layers.taps.tap import Read
from stackfeat.layers.taps.values import Arguments, Leaf, padded

Deliver = Callable[[str, Tensor], None]

UNFIT_MASK = (
    "a mask must have the steps of tap {key!r} to be used there; got {told} of {steps} steps, and "
    "shape={shape} at the tap: padding counts there; give mask= or lengths= of its steps in a call for that tap, or "
    "tap a layer before the number of steps changes"
)


class RowReading(Hooks):
    """Read many batches through one set of hooks.

    Parameters
    ----------
    model : nn.Module
        In eval mode, without its fused transformer path: see `stackfeat.layers.taps.runtime`.
    examination : DryRunReport
        From `examine`, checked.
    deliver : callable
        Gets a key and rows (n_rows, n_columns), or (n_rows, ...) with ``pool="none"``. They are
        valid during the call only. A layer that runs again delivers again: the last call counts.
    stop_early : bool
        End the forward pass after the last tap where that is safe.
    """

    def __init__(
        self, model: nn.Module, examination: DryRunReport, deliver: Deliver, *, stop_early: bool = True
    ) -> None:
        self.model = unwrap(model)
        self.examination = examination
        self.deliver = deliver
        findings = examination.findings
        self.n_wanted = sum(findings[read.key].n_taken for read in examination.reads)
        self.stops = stop_early and examination.stoppable and self.n_wanted > 0
        self.masks = MaskWatch(self.model, self.retry)
        self.needs_masks = any(
            read.tap.pool in MASKED_POOLS and len(findings[read.key].shape) != 2 for read in examination.reads
        )
        # Kept to the end of the pass: several values, or one before the last.
        held = [read for read in examination.reads if is_many(read.tap) or int(read.tap.call) < -1]
        self.collectors: dict[Read, Collector[Tensor]] = {read: Collector(read.tap) for read in held}
        # Of a layer that runs several times only the last value is read: those before may have any shape.
        self.repeated = {
            read
            for read in examination.reads
            if read not in self.collectors
            and read.tap.call == -1
            and examination.findings[read.key].calls > 1
        }
        self.latest: dict[Read, tuple[Fired, Tensor, Tensor | None]] = {}
        self.session = HookSession(self.model, examination.reads, self.take)
        self.n_rows = 0
        self.n_taken = 0
        self.is_running = False
        self.delivered: set[str] = set()
        self.unfit = {key: finding.unfit for key, finding in findings.items() if finding.unfit}
        self.waiting: list[tuple[Read, Fired, Tensor]] = []

    def attach(self, stack: ExitStack) -> None:
        if self.needs_masks:
            stack.enter_context(self.masks)
        if self.examination.reads:
            stack.enter_context(self.session)

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, *, n_rows: int) -> Any:
        """Run one batch; return the net's output, or None where the pass ended after the last tap.

        Parameters
        ----------
        args, kwargs
            Arguments of the net; under `USER_MASK` or `USER_LENGTHS` what the caller says about padding.
        n_rows : int
            Samples in the batch.

        Raises
        ------
        TapError
            If a tap did not fire, or its value has not a row per sample.
        """
        own = split_user_mask(kwargs or {})[0]
        if not self.examination.reads:
            with refusals(self.model, args, own):
                return self.model(*args, **own)
        self.n_rows, self.n_taken = n_rows, 0
        self.delivered.clear()
        self.waiting.clear()
        self.latest.clear()
        for collector in self.collectors.values():
            collector.clear()
        if self.needs_masks:
            self.masks.restart(args, kwargs or {})
        output = None
        self.is_running = True
        try:
            with forgetting_passes(), refusals(self.model, args, own):
                output = self.model(*args, **own)
        except Stop as stopped:
            if stopped.session is not self.session:
                raise
        finally:
            self.is_running = False
            self.session.stop_listening()
        for read, (fired, values, lengths) in self.latest.items():
            self.read_values(read, fired, values, lengths)
        self.latest.clear()
        self.retry(is_over=True)
        self.settle()
        self.warn_of_unfit()
        return output

    def take(self, read: Read, fired: Fired, leaf: Leaf) -> None:
        if not self.is_running:
            return  # somebody else's forward pass
        if isinstance(leaf, Tensor) and leaf.is_nested and len({row.shape[1:] for row in leaf.unbind()}) > 1:
            raise TapError(
                f"rows at tap {read.key!r} must differ in their length alone; got a nested tensor whose rows are "
                f"{', '.join(str(tuple(row.shape)) for row in leaf.unbind()[:3])}, ...; tap a layer that pools them"
            )
        values, lengths = padded(leaf)
        if read in self.repeated:
            self.latest[read] = fired, values.detach().clone(), lengths
        else:
            self.read_values(read, fired, values, lengths)
        self.n_taken += 1
        self.stop_if_done()

    def read_values(self, read: Read, fired: Fired, values: Tensor, lengths: Tensor | None) -> None:
        """Pass on the rows of a value, or keep it until its mask is known."""
        finding = self.examination.findings[read.key]
        mask, waits = None, False
        if lengths is not None:
            n_steps = values.shape[1]
            mask = mask_of_lengths(lengths.to(values.device), {n_steps}, len(lengths), n_steps)
        elif read.tap.pool in MASKED_POOLS:
            mask = self.find_mask(fired.layer, finding, values)
            waits = mask is None and finding.masked
        if waits:
            # The mask comes later in the pass: an embedding before the encoder that is given it.
            self.waiting.append((read, fired, values.detach().clone()))
        else:
            self.pass_on(read, fired, values, mask)

    def find_mask(self, layer: str, finding: Finding, values: Tensor) -> Tensor | None:
        steps = steps_axis(finding.layout, finding.features_axis, tuple(values.shape))
        if steps is None:
            return None
        n_rows, n_steps = values.shape[finding.layout.batch_axis or 0], values.shape[steps]
        mask = self.masks.find(finding.mask_rule, n_rows, n_steps)
        given = self.masks.user_mask
        if n_rows == n_steps and not finding.masked and given is None and self.masks.user_lengths is None:
            return None  # of (n_steps, n_steps), as for causal attention, in a batch of so many rows
        if mask is None and given is not None and not finding.masked and finding.layout.fold == 1:
            raise TapError(
                f"mask must have the steps of every batch; got {given.shape[1]} steps, and {n_steps} at "
                f"{layer!r}; give lengths instead, or pad all batches alike"
            )
        return mask

    def retry(self, *, is_over: bool = False) -> None:
        """Pass on what waited for its mask."""
        if not self.waiting:
            return
        still = []
        for read, fired, values in self.waiting:
            finding = self.examination.findings[read.key]
            mask = self.find_mask(fired.layer, finding, values)
            if mask is None and not is_over:
                still.append((read, fired, values))
                continue
            steps = steps_axis(finding.layout, finding.features_axis, tuple(values.shape))
            if mask is None and steps is not None:
                n_rows = values.shape[finding.layout.batch_axis or 0]
                mask = self.masks.find_longer(finding.mask_rule, n_rows, values.shape[steps])
            self.pass_on(read, fired, values, mask)
        self.waiting = still
        if not is_over:
            self.stop_if_done()

    def pass_on(self, read: Read, fired: Fired, values: Tensor, mask: Tensor | None) -> None:
        rows = self.rows_of(read, values, mask)
        if read in self.collectors:
            is_copy = rows.data_ptr() != values.data_ptr()
            self.collectors[read].add(fired, rows if is_copy else rows.clone())
            return
        self.delivered.add(read.key)
        self.deliver(read.key, rows)

    def rows_of(self, read: Read, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return one row per sample."""
        finding, pool = self.examination.findings[read.key], read.tap.pool
        layout, axis = finding.layout, finding.layout.batch_axis or 0
        if values.ndim <= axis or values.shape[axis] != self.n_rows * layout.fold:
            raise TapError(
                f"axis {axis} at tap {read.key!r} must hold the {self.n_rows} rows of the batch; got "
                f"shape={tuple(values.shape)}; tap another layer"
            )
        features = finding.features_axis if axis == 0 or finding.features_axis == -1 else None
        if layout.fold == 1:
            return pool_rows(values, pool, batch_axis=axis, features_axis=features, mask=mask)
        inner = pool_rows(values, pool, batch_axis=axis, features_axis=features, mask=mask)
        unfolded = unfold_rows(inner, self.n_rows, step_major=layout.step_major)
        return unfolded if pool == "none" else pool_rows(unfolded, pool, features_axis=-1)

    def warn_of_unfit(self) -> None:
        """Warn once of each tap at which padding counted, since no mask has its steps."""
        if self.masks.user_mask is not None or self.masks.user_lengths is not None:
            return
        for key, names in list(self.unfit.items()):
            told = [t for call in self.masks.calls.values() for t in call.told if t.key in names]
            padded_by = dict.fromkeys(
                f"{t.argument} of {t.owner or 'the net'}"
                for t in told
                if t.has_padding(self.masks.given_sizes)
            )
            if padded_by:
                del self.unfit[key]
                text = ", ".join([*list(padded_by)[:3], *("..." for _ in list(padded_by)[3:4])])
                n_steps = sorted({n for t in told for n in t.steps})
                warnings.warn(
                    UNFIT_MASK.format(
                        key=key,
                        told=text,
                        steps=" or ".join(map(str, n_steps)),
                        shape=self.examination.findings[key].shape,
                    ),
                    DataWarning,
                    stacklevel=2,
                )

    def stop_if_done(self) -> None:
        if self.stops and self.n_taken >= self.n_wanted and not self.waiting:
            raise Stop(self.session)

    def settle(self) -> None:
        """Deliver what had to be collected, and miss what never came."""
        for read in self.examination.reads:
            blocks = self.collectors[read].values() if read in self.collectors else []
            if blocks:
                how, key = read.tap.combine, read.key
                self.deliver(key, combine(blocks, how, key, axis=1) if is_many(read.tap) else blocks[0])
            elif read.key not in self.delivered:
                raise never_fired(read, self.session)


def padded_elsewhere(model: nn.Module, examination: DryRunReport, inputs: Arguments) -> tuple[str, ...]:
    """Return the keys at which a mask leaves steps of other rows out.

    A net that sorts its rows, packs them and puts them back has told of their padding in between, in another order.
    The caller holds the state in which nets are read; `inputs` may have his own mask or lengths.
    """
    unsure = {*examination.random, *examination.reordered, *examination.influenced}
    masked = [key for key, finding in examination.findings.items() if finding.masked and key not in unsure]
    have = count_rows(*inputs)
    if not masked or not have:
        return ()

    findings = {key: replace(finding, unfit=()) for key, finding in examination.findings.items()}
    quiet = replace(examination, findings=findings)  # made-up rows need no warnings

    def rows_by_key(batch: Arguments, n_rows: int) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def keep(key: str, rows: Tensor) -> None:
            if key in masked:
                found[key] = rows.clone()

        with RowReading(model, quiet, keep, stop_early=False) as reading:
            reading.run(*batch, n_rows=n_rows)
        return found

    for batch, n_rows in probe_batches(inputs, have):
        with suppress(Exception):  # made-up rows need not fit a net, nor any order
            found = rows_by_key(take_rows(batch, n_rows, range(n_rows)), n_rows)
            orders = [list(order) for order in other_orders(n_rows)]
            moved = [rows_by_key(take_rows(batch, n_rows, order), n_rows) for order in orders]
            return tuple(
                key
                for key in masked
                if not all(
                    is_close(found[key][order], rows[key]) for order, rows in zip(orders, moved, strict=True)
                )
            )
    return ()
