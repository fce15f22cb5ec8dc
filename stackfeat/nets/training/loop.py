"""Train a net: one loop for tensors in memory and for inputs on disk.

In:  a module, its inputs and target as `Rows`, options, a loss per row.
Out: the same module, trained, and a `TrainReport`. A loss that is not finite starts it again from
     the same weights at a tenth of the learning rate; a batch that does not fit into memory is
     computed in parts; snapshots let a killed training go on where it was.

It also holds:

- One attempt at training: the loop over epochs and batches, and its state.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, NaNLossError
from stackfeat.layers.extraction.batch import is_out_of_memory
from stackfeat.layers.taps.runtime import convolves_images, evaluating, pinned, use_amp
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, batch_sizes, batches, check_mixable, mix
from stackfeat.nets.training.optimizer import FlatAdamW, WeightAverage, rate_factor
from stackfeat.nets.training.outputs import TrainReport, output_rows
from stackfeat.nets.training.snapshots import (
    Snapshots,
    Values,
    module_tensors,
    put_back,
    random_state,
    restore_random,
)

logger = logging.getLogger(__name__)

RETRY_FACTOR = 0.1

VALIDATION_BATCH = 1024

RowLosses = Callable[[Tensor, Tensor, float, str], Tensor]
"""``loss(output, y, label_smoothing, reduction)``: a loss per row ("none"), or their sum ("sum")."""


@dataclass
class Progress:
    """How far an attempt is."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Any] | None = None
    n_parts: int = 1

    @property
    def best_loss(self) -> float:
        return self.validation_losses[self.best_epoch - 1] if self.best_epoch else math.inf


class Attempt:
    """One training from given weights at one learning rate."""

    def __init__(
        self,
        module: nn.Module,
        rows: Rows,
        options: TrainOptions,
        loss: RowLosses,
        device: torch.device,
        retry: int,
    ) -> None:
        self.module = module
        self.options = options
        self.loss = loss
        self.device = device
        self.retry = retry
        images = convolves_images(module, rows.inputs)
        self.amp = use_amp(options.amp, device, images)
        channels_last = images and options.channels_last == "auto"
        self.rows = replace(rows, channels_last=channels_last)
        self.optimizer = FlatAdamW(
            module,
            lr=options.lr * RETRY_FACTOR**retry,
            weight_decay=options.weight_decay,
            channels_last=channels_last,
        )
        self.average = (
            None if options.ema is None else WeightAverage(module, self.optimizer.values, options.ema)
        )
        self.n_steps = len(batch_sizes(len(rows), options.batch_size)) * options.epochs
        self.progress = Progress()
        self.order = torch.Generator()
        self.shares: dict[int, Tensor] = {}

    def run(
        self,
        validation: Rows | None,
        should_stop: Callable[[], bool],
        snapshots: Snapshots | None,
        identity: dict[str, Any],
    ) -> TrainReport | None:
        """Train to the end; None if the loss stopped being finite."""
        progress = self.progress
        stopped = False
        flags = [(part, part.training) for part in self.module.modules()]
        self.module.train()
        try:
            while not (stopped or self.is_over()):
                progress.losses.append(self.run_epoch())
                if not math.isfinite(progress.losses[-1]):
                    return None
                if validation is not None:
                    self.compare(replace(validation, channels_last=self.rows.channels_last))
                if snapshots is not None:
                    snapshots.offer(lambda: self.state(identity))
                stopped = should_stop()
        finally:
            for part, training in flags:
                part.training = training
        return self.finish(stopped)

    def is_over(self) -> bool:
        """Say whether all epochs are run, or patience is at its end."""
        n_epochs, patience = len(self.progress.losses), self.options.patience
        out_of_patience = (
            patience is not None
            and self.progress.best_epoch > 0
            and n_epochs - self.progress.best_epoch >= patience
        )
        return n_epochs >= self.options.epochs or out_of_patience

    def finish(self, stopped: bool) -> TrainReport:
        """Leave the best weights, or the averaged ones, in the module."""
        progress = self.progress
        if progress.best_state is not None:
            self.module.load_state_dict(progress.best_state)
        elif self.average is not None:
            self.average.swap()
        return TrainReport(
            epochs=len(progress.losses),
            best_epoch=progress.best_epoch or len(progress.losses),
            losses=tuple(progress.losses),
            validation_losses=tuple(progress.validation_losses),
            retries=self.retry,
            lr=self.optimizer.lr,
            stopped=stopped,
            n_parts=progress.n_parts,
        )

    def run_epoch(self) -> float:
        """Take every row once; read the loss back once, for a read in every step would wait for it."""
        total = torch.zeros((), device=self.device)
        order = torch.randperm(len(self.rows), generator=self.order)
        for batch in batches(self.rows, order, self.options.batch_size):
            total += self.gradient(mix(batch, self.options))
            step = self.progress.step
            factor = rate_factor(step, self.n_steps, self.options.schedule, self.options.warmup)
            self.optimizer.step(factor=factor, clip_norm=self.options.clip_norm)
            self.progress.step = step + 1
            if self.average is not None:
                self.average.update(step + 1)
        return float(total) / len(self.rows)

    def gradient(self, batch: Rows) -> Tensor:
        """Compute the gradient of the mean loss, in parts where memory runs out; return the losses' sum."""
        while True:
            try:
                return self.accumulate(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) < 4 * self.progress.n_parts:
                    raise MemberError(
                        f"a step must fit into memory; got {str(error).splitlines()[0]!r} with "
                        f"{len(batch) // self.progress.n_parts} rows at once; use a smaller net or inputs"
                    ) from error
            # Outside of the handler, whose error holds the tensors of the failed pass.
            self.progress.n_parts *= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            logger.warning(
                "out of memory: a batch of %d rows is now computed in %d parts",
                len(batch),
                self.progress.n_parts,
            )

    def accumulate(self, batch: Rows) -> Tensor:
        """Add up the gradients of the parts of a batch; a part has at least two rows (BatchNorm)."""
        self.optimizer.zero_grad()
        sums = []
        for part in batch.parts(min(self.progress.n_parts, max(1, len(batch) // 2))):
            total = self.loss_sum(part, self.options.label_smoothing, amp=self.amp)
            total.backward(self.share_of(len(batch)))  # type: ignore[no-untyped-call]
            sums.append(total.detach())
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum()

    def share_of(self, n_rows: int) -> Tensor:
        """Return 1 / n_rows as a tensor: what a sum is multiplied by to be a mean."""
        if n_rows not in self.shares:
            self.shares[n_rows] = torch.tensor(1 / n_rows, device=self.device)
        return self.shares[n_rows]

    def loss_sum(self, rows: Rows, smoothing: float, *, amp: bool) -> Tensor:
        """Return the weighted sum of the losses of some rows."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16) if amp else nullcontext():
            output = output_rows(self.module(*rows.tensors), len(rows), several=self.module.training)
        if rows.weight is None and rows.mixed is None:
            return self.loss(output, rows.y, smoothing, "sum")
        losses = self.loss(output, rows.y, smoothing, "none")
        if rows.weight is not None:
            losses = losses * rows.weight
        if rows.mixed is None:
            return losses.sum()
        others = self.loss(output, rows.mixed.y, smoothing, "none")
        if rows.mixed.weight is not None:
            others = others * rows.mixed.weight
        return (losses * rows.mixed.share + others * (1 - rows.mixed.share)).sum()

    def compare(self, validation: Rows) -> None:
        """Validate, with the averaged weights where there are any, and keep the best state."""
        progress = self.progress
        with self.average.applied() if self.average is not None else nullcontext():
            loss = self.validate(validation)
            if not progress.best_epoch or loss < progress.best_loss:
                progress.best_epoch = len(progress.losses)
                progress.best_state = copy.deepcopy(self.module.state_dict())
        progress.validation_losses.append(loss)

    def validate(self, rows: Rows) -> float:
        """Return the mean loss of `rows`, without label smoothing; infinity where it is not finite."""
        total = torch.zeros((), device=self.device)
        size = min(VALIDATION_BATCH, max(64, 4 * self.options.batch_size // self.progress.n_parts))
        with evaluating(self.module), torch.no_grad():
            for batch in batches(rows, torch.arange(len(rows)), size):
                total += self.loss_sum(batch, 0.0, amp=False)
        mean = float(total) / len(rows)
        return mean if math.isfinite(mean) else math.inf

    def state(self, identity: dict[str, Any]) -> Values:
        """Return everything that the rest of the training depends on."""
        progress = self.progress
        header, tensors = random_state(self.device, self.order)
        named: dict[str, Any] = {
            "net": module_tensors(self.module),
            "best": progress.best_state or {},
            "optimizer": self.optimizer.state(),
            "average": {} if self.average is None else self.average.state(),
            "losses": {
                "train": torch.tensor(progress.losses, dtype=torch.float64),
                "validation": torch.tensor(progress.validation_losses, dtype=torch.float64),
            },
        }
        for kind, values in named.items():
            tensors |= {f"{kind}.{name}": value for name, value in values.items()}
        counts = {name: getattr(progress, name) for name in ("step", "best_epoch", "n_parts")}
        return {"identity": identity, "retry": self.retry, **counts, **header}, tensors

    def restore(self, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

        def named(kind: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(f"{kind}."): values
                for name, values in tensors.items()
                if name.startswith(f"{kind}.")
            }

        put_back(self.module, named("net"))
        self.optimizer.load_state(named("optimizer"))
        if self.average is not None:
            self.average.load_state(named("average"))
        losses = named("losses")
        self.progress = Progress(
            step=header["step"],
            losses=losses["train"].tolist(),
            validation_losses=losses["validation"].tolist(),
            best_epoch=header["best_epoch"],
            n_parts=header["n_parts"],
        )
        if self.progress.best_epoch:
            # The module's own dict, because it also holds the versions of its parts.
            self.progress.best_state = copy.deepcopy(self.module.state_dict())
            self.progress.best_state.update(named("best"))
        restore_random(header, tensors, self.device, self.order)


__all__ = ["Rows", "TrainReport", "train_net"]

MAX_RETRIES = 2


def train_net(
    module: nn.Module,
    rows: Rows,
    *,
    options: TrainOptions,
    loss: RowLosses,
    seed: int,
    device: torch.device,
    validation: Rows | None = None,
    should_stop: Callable[[], bool] | None = None,
    snapshots: Snapshots | None = None,
) -> TrainReport:
    """Train `module` in place, with AdamW.

    Parameters
    ----------
    module : nn.Module
        On `device`; its mode and torch's generators are as before afterwards.
    rows : Rows
    options : TrainOptions
        With `validation` and ``patience`` training ends early, and the best epoch's weights are kept.
    loss : callable
        ``loss(output, y, label_smoothing, reduction)`` gives a loss per row (``"none"``), float32, or
        their sum (``"sum"``).
    seed : int
        Decides the order of rows and the dropout.
    validation : Rows, optional
    should_stop : callable, optional
        Asked after every epoch.
    snapshots : Snapshots, optional
        Where the state is kept now and then. A training that finds one of its own goes on from
        there, to the same bytes as one that was never interrupted.

    Raises
    ------
    NaNLossError
        If no learning rate tried kept the loss finite.
    MemberError
        If there are fewer than two rows, nothing to train, or not enough memory for two rows.
    UsageError
        If the inputs cannot be mixed as asked.
    """
    if len(rows) < 2:
        raise MemberError(f"training must have at least 2 rows; got {len(rows)}; use fewer folds")
    check_mixable(options, rows)
    start = copy.deepcopy(module.state_dict())
    if snapshots is not None and not all(isinstance(values, Tensor) for values in start.values()):
        logger.info("%s keeps state that is no tensor: no snapshots", type(module).__name__)
        snapshots = None
    identity = identify(module, rows, options, seed)
    found = None if snapshots is None else snapshots.load(identity)
    first = 0 if found is None else found[0]["retry"]
    for retry in range(first, MAX_RETRIES + 1):
        attempt = Attempt(module, rows, options, loss, device, retry)
        try:
            with pinned(seed, device=device):
                attempt.order.manual_seed(seed)
                if found is not None:
                    attempt.restore(*found)
                    logger.info("resumed after epoch %d of %d", len(attempt.progress.losses), options.epochs)
                report = attempt.run(validation, should_stop or (lambda: False), snapshots, identity)
        finally:
            attempt.optimizer.release()
        if report is not None:
            return report
        found = None
        logger.warning(
            "loss is not finite at lr=%g; %d retries left", attempt.optimizer.lr, MAX_RETRIES - retry
        )
        module.load_state_dict(start)
    raise NaNLossError(
        f"the loss must stay finite; got NaN or infinity at lr={options.lr:g} and at the "
        f"{MAX_RETRIES} smaller ones tried; lower train.lr, or look for NaN and huge values in the inputs"
    )


def identify(module: nn.Module, rows: Rows, options: TrainOptions, seed: int) -> dict[str, Any]:
    """Return what tells one training from another, as JSON values."""
    shapes = {name: list(values.shape) for name, values in module_tensors(module).items()}
    return {"options": options.to_json(), "seed": seed, "n_rows": len(rows), "shapes": shapes}
