"""Train a net on tensors that are in memory.

In:  a module, its inputs and target as tensors on one device, options, a loss per row.
Out: the same module, trained, and a `TrainReport`. A loss that is not finite starts it again from
     the same weights at a tenth of the learning rate.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, NaNLossError
from stackfeat.nets.inference import output_rows
from stackfeat.nets.optimizer import FlatAdamW
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.runtime import evaluating, has_amp, pinned
from stackfeat.nets.schedule import rate_factor

logger = logging.getLogger(__name__)

MAX_RETRIES = 2
RETRY_FACTOR = 0.1
VALIDATION_BATCH = 1024

RowLosses = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Rows:
    """Rows to learn from, or to validate on.

    Attributes
    ----------
    inputs : tuple of Tensor
        Positional arguments of ``forward``, each with n_rows rows.
    y : Tensor of shape (n_rows,)
        int64 class codes, or float32 values.
    weight : Tensor of shape (n_rows,), optional
        float32, mean 1.
    """

    inputs: tuple[Tensor, ...]
    y: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Tensor) -> Rows:
        weight = None if self.weight is None else self.weight[rows]
        return Rows(tuple(values[rows] for values in self.inputs), self.y[rows], weight)


@dataclass(frozen=True)
class TrainReport:
    """How training went.

    Attributes
    ----------
    epochs : int
        Epochs run.
    best_epoch : int
        Epochs after which validation was best; `epochs` without validation.
    losses, validation_losses : tuple of float
        Mean loss of each epoch.
    retries : int
        How often a loss that was not finite made it start again.
    lr : float
        The peak learning rate that worked.
    stopped : bool
        Whether `should_stop` ended it.
    """

    epochs: int
    best_epoch: int
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...] = ()
    retries: int = 0
    lr: float = 0.0
    stopped: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainReport:
        lists = {key: tuple(values[key]) for key in ("losses", "validation_losses")}
        return cls(**{**values, **lists})


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
        ``loss(output, y, label_smoothing)`` gives a loss per row.
    seed : int
        Decides the order of rows and the dropout.
    validation : Rows, optional
    should_stop : callable, optional
        Asked after every epoch.

    Raises
    ------
    NaNLossError
        If no learning rate tried kept the loss finite.
    MemberError
        If there are fewer than two rows, or nothing to train.
    """
    if len(rows) < 2:
        raise MemberError(f"training must have at least 2 rows; got {len(rows)}; use fewer folds")
    start = copy.deepcopy(module.state_dict())
    for retry in range(MAX_RETRIES + 1):
        attempt = Attempt(module, rows, options, loss, device, options.lr * RETRY_FACTOR**retry)
        try:
            with pinned(seed, device=device):
                report = attempt.run(validation, should_stop or (lambda: False))
        finally:
            attempt.optimizer.release()
        if report is not None:
            return replace(report, retries=retry, lr=attempt.optimizer.lr)
        logger.warning(
            "loss is not finite at lr=%g; %d retries left", attempt.optimizer.lr, MAX_RETRIES - retry
        )
        module.load_state_dict(start)
    raise NaNLossError(
        f"the loss must stay finite; got NaN or infinity at lr={options.lr:g} and at the "
        f"{MAX_RETRIES} smaller ones tried; lower train.lr, or look for NaN and huge values in the inputs"
    )


class Attempt:
    """One training from given weights at one learning rate."""

    def __init__(
        self,
        module: nn.Module,
        rows: Rows,
        options: TrainOptions,
        loss: RowLosses,
        device: torch.device,
        lr: float,
    ) -> None:
        self.module = module
        self.rows = rows
        self.options = options
        self.loss = loss
        self.device = device
        self.optimizer = FlatAdamW(module, lr=lr, weight_decay=options.weight_decay)
        self.amp = options.amp == "auto" and has_amp(device)
        n_batches = max(1, math.ceil(len(rows) / options.batch_size) - (len(rows) % options.batch_size == 1))
        self.n_steps = n_batches * options.epochs
        self.step = 0

    def run(self, validation: Rows | None, should_stop: Callable[[], bool]) -> TrainReport | None:
        """Train to the end; None if the loss stopped being finite."""
        losses: list[float] = []
        validation_losses: list[float] = []
        best: tuple[float, int, dict[str, Tensor]] | None = None
        stopped = False
        generator = torch.Generator().manual_seed(torch.initial_seed())
        flags = [(part, part.training) for part in self.module.modules()]
        self.module.train()
        try:
            while len(losses) < self.options.epochs and not stopped:
                losses.append(self.run_epoch(generator))
                if not math.isfinite(losses[-1]):
                    return None
                if validation is not None:
                    validation_losses.append(self.validate(validation))
                    if best is None or validation_losses[-1] < best[0]:
                        best = (validation_losses[-1], len(losses), copy.deepcopy(self.module.state_dict()))
                    if self.options.patience is not None and len(losses) - best[1] >= self.options.patience:
                        break
                stopped = should_stop()
        finally:
            for part, training in flags:
                part.training = training
        if best is not None:
            self.module.load_state_dict(best[2])
        best_epoch = len(losses) if best is None else best[1]
        return TrainReport(len(losses), best_epoch, tuple(losses), tuple(validation_losses), stopped=stopped)

    def run_epoch(self, generator: torch.Generator) -> float:
        """Take every row once; read the loss back once, for a read in every step would wait for it."""
        total = torch.zeros((), device=self.device)
        order = torch.randperm(len(self.rows), generator=generator).to(self.device)
        for batch in split_batches(order, self.options.batch_size):
            chosen = self.rows.take(batch)
            self.optimizer.zero_grad()
            mean = self.mean_loss(chosen)
            mean.backward()  # type: ignore[no-untyped-call]
            factor = rate_factor(self.step, self.n_steps, self.options.schedule, self.options.warmup)
            self.optimizer.step(factor=factor, clip_norm=self.options.clip_norm)
            total += mean.detach() * len(chosen)
            self.step += 1
        return float(total) / len(self.rows)

    def mean_loss(self, rows: Rows) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            output = output_rows(self.module(*rows.inputs), len(rows), several=True)
        losses = self.loss(output, rows.y, self.options.label_smoothing)
        return losses.mean() if rows.weight is None else (losses * rows.weight).mean()

    def validate(self, rows: Rows) -> float:
        """Return the mean loss of `rows`, without label smoothing; infinity where it is not finite."""
        total = torch.zeros((), device=self.device)
        with evaluating(self.module), torch.no_grad():
            everything = torch.arange(len(rows), device=self.device)
            for batch in torch.split(everything, VALIDATION_BATCH):
                chosen = rows.take(batch)
                losses = self.loss(output_rows(self.module(*chosen.inputs), len(chosen)), chosen.y, 0.0)
                total += (losses if chosen.weight is None else losses * chosen.weight).sum()
        mean = float(total) / len(rows)
        return mean if math.isfinite(mean) else math.inf


def split_batches(order: Tensor, batch_size: int) -> Sequence[Tensor]:
    """Split `order` into batches; a last batch of one row joins its neighbour (BatchNorm needs two)."""
    batches = list(torch.split(order, batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = torch.cat([batches[-1], last])
    return batches
