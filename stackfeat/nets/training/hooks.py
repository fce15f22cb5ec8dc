"""What happens around the steps of a training: mixing, averaging, early stopping, snapshots.

In:  the loop, which calls every hook in order before a batch, after a step, after an epoch and at the end.
Out: what a hook changes in the loop: its batch, its weights, its `progress`, its `stopped`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor

from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, mix
from stackfeat.nets.training.loop import Hook, TrainingLoop
from stackfeat.nets.training.optimizer import WeightAverage
from stackfeat.nets.training.snapshots import Snapshots


class Mixing(Hook):
    """mixup and cutmix."""

    def __init__(self, options: TrainOptions) -> None:
        self.options = options

    def on_batch_begin(self, loop: TrainingLoop, batch: Rows) -> Rows:
        return mix(batch, self.options)


class Averaging(Hook):
    """A moving average of the weights, which is what is validated and kept."""

    name = "average"

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_train_begin(self, loop: TrainingLoop) -> None:
        self.average = WeightAverage(loop.module, loop.optimizer.values, self.decay)

    def on_step_end(self, loop: TrainingLoop) -> None:
        self.average.update(loop.progress.step)

    def on_train_end(self, loop: TrainingLoop) -> None:
        if loop.progress.best_state is None:  # else the best epoch's are averages already
            self.average.swap()

    def state(self, loop: TrainingLoop) -> Mapping[str, Tensor]:
        return self.average.state()

    def load_state(self, loop: TrainingLoop, state: Mapping[str, Tensor]) -> None:
        self.average.load_state(state)


class Validation(Hook):
    """The loss on validation rows after every epoch; the best epoch's weights are kept.

    Parameters
    ----------
    rows : Rows
    patience : int or None
        How many epochs may follow the best one.
    averaging : Averaging or None
        Whose weights are validated.
    """

    name = "best"

    def __init__(self, rows: Rows, patience: int | None, averaging: Averaging | None) -> None:
        self.rows = rows
        self.patience = patience
        self.averaging = averaging

    def on_epoch_end(self, loop: TrainingLoop) -> None:
        progress = loop.progress
        weights: AbstractContextManager[None] = (
            nullcontext() if self.averaging is None else self.averaging.average.applied()
        )
        with weights:
            loss = loop.validate(replace(self.rows, channels_last=loop.rows.channels_last))
            best = progress.validation_losses[progress.best_epoch - 1] if progress.best_epoch else math.inf
            if not progress.best_epoch or loss < best:
                progress.best_epoch = len(progress.losses)
                progress.best_state = copy.deepcopy(loop.module.state_dict())
        progress.validation_losses.append(loss)

    def is_over(self, loop: TrainingLoop) -> bool:
        best = loop.progress.best_epoch
        return self.patience is not None and best > 0 and len(loop.progress.losses) - best >= self.patience

    def on_train_end(self, loop: TrainingLoop) -> None:
        if loop.progress.best_state is not None:
            loop.module.load_state_dict(loop.progress.best_state)

    def state(self, loop: TrainingLoop) -> Mapping[str, Tensor]:
        return loop.progress.best_state or {}

    def load_state(self, loop: TrainingLoop, state: Mapping[str, Tensor]) -> None:
        if loop.progress.best_epoch:
            # The module's own dict, because it also holds the versions of its parts.
            loop.progress.best_state = copy.deepcopy(loop.module.state_dict())
            loop.progress.best_state.update(state)


class SnapshotWriter(Hook):
    """The state after an epoch, for a killed training to go on from."""

    def __init__(self, snapshots: Snapshots, identity: dict[str, Any]) -> None:
        self.snapshots = snapshots
        self.identity = identity

    def on_epoch_end(self, loop: TrainingLoop) -> None:
        self.snapshots.offer(lambda: loop.state(self.identity))


class StopOnRequest(Hook):
    """An end after any epoch, if somebody asks for it."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.should_stop = should_stop

    def on_epoch_end(self, loop: TrainingLoop) -> None:
        loop.stopped = self.should_stop()


def training_hooks(
    options: TrainOptions,
    validation: Rows | None,
    should_stop: Callable[[], bool] | None,
    snapshots: Snapshots | None,
    identity: dict[str, Any],
) -> list[Hook]:
    """Return the hooks that a training has, in the order in which they are called."""
    averaging = None if options.ema is None else Averaging(options.ema)
    hooks: list[Hook] = []
    if options.mixup is not None or options.cutmix is not None:
        hooks.append(Mixing(options))
    if averaging is not None:
        hooks.append(averaging)
    if validation is not None:
        hooks.append(Validation(validation, options.patience, averaging))
    if snapshots is not None:
        hooks.append(SnapshotWriter(snapshots, identity))
    if should_stop is not None:
        hooks.append(StopOnRequest(should_stop))
    return hooks
