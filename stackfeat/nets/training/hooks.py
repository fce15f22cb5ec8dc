"""What happens around the steps of a training: mixing, averaging, early stopping, snapshots.

In:  the loop, which calls every hook in order before a batch, after a step, after an epoch and at the end.
Out: what a hook changes in the loop: its batch, its weights, its `progress`, its `stopped`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, mix
from stackfeat.nets.training.loop import Hook, Training, TrainingLoop
from stackfeat.nets.training.snapshots import Snapshots


class Mixing(Hook):
    """mixup and cutmix."""

    def __init__(self, options: TrainOptions) -> None:
        self.options = options

    def on_batch_begin(self, loop: TrainingLoop, batch: Rows) -> Rows:
        return mix(batch, self.options)


class Averaging(Hook):
    """A moving average of the weights, which is what is validated and kept.

    Averaged are parameters, and buffers of floating point such as BatchNorm's statistics.
    """

    name = "average"

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_train_begin(self, loop: TrainingLoop) -> None:
        buffers = [values for values in loop.module.buffers() if values.is_floating_point()]
        self.current = [*(buffer.flat for buffer in loop.optimizer.buffers), *buffers]
        self.averages = [values.clone() for values in self.current]

    def on_step_end(self, loop: TrainingLoop) -> None:
        step = loop.progress.step
        torch._foreach_lerp_(self.averages, self.current, 1 - min(self.decay, (1 + step) / (10 + step)))

    def on_train_end(self, loop: TrainingLoop) -> None:
        if loop.progress.best_state is None:  # else the best epoch's are averages already
            self.swap()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the net be the average for as long as the block lasts."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange weights and averages."""
        for current, average in zip(self.current, self.averages, strict=True):
            kept = current.clone()
            current.copy_(average)
            average.copy_(kept)

    def state(self, loop: TrainingLoop) -> Mapping[str, Tensor]:
        return {str(i): values for i, values in enumerate(self.averages)}

    def load_state(self, loop: TrainingLoop, state: Mapping[str, Tensor]) -> None:
        for i, average in enumerate(self.averages):
            average.copy_(state[str(i)])


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
        with nullcontext() if self.averaging is None else self.averaging.applied():
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


def training_hooks(training: Training, validation: Rows | None, identity: dict[str, Any]) -> list[Hook]:
    """Return the hooks that a training has, in the order in which they are called."""
    options, snapshots, should_stop = training.options, training.snapshots, training.should_stop
    averaging = None if options.ema is None else Averaging(options.ema)
    hooks: list[Hook | None] = [
        None if options.mixup is options.cutmix is None else Mixing(options),
        averaging,
        None if validation is None else Validation(validation, options.patience, averaging),
        None if snapshots is None else SnapshotWriter(snapshots, identity),
        None if should_stop is None else StopOnRequest(should_stop),
    ]
    return [hook for hook in hooks if hook is not None]
