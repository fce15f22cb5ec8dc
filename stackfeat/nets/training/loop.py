"""The loop of training: epochs, batches and steps, in memory or from disk alike, and its hooks.

In:  a module, its inputs and target as `Rows`, a `Training`, a loss per row, hooks.
Out: the same module, trained, and a `TrainReport`; or None where the loss stopped being finite. A batch
     that does not fit into memory is computed in parts. Averaging, early stopping, mixing and snapshots
     are hooks: see `stackfeat.nets.training.hooks`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, UsageError
from stackfeat.executors.watching import tell_epoch
from stackfeat.layers.taps.refusals import is_out_of_memory
from stackfeat.layers.taps.runtime import evaluating, pick_device, use_amp
from stackfeat.nets.options import Pace, TrainOptions
from stackfeat.nets.outputs import Loss, TrainReport, output_rows
from stackfeat.nets.training.batches import Rows, batches, convolves_images, shuffled, unshuffled
from stackfeat.nets.training.optimizer import FlatAdamW, rate_factor
from stackfeat.nets.training.snapshots import (
    Snapshots,
    Values,
    module_tensors,
    random_state,
    restore_random,
)
from stackfeat.nets.weights import Checkpoint
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 1024

RowLosses = Callable[[Tensor, Tensor, float, str], Tensor]
"""``loss(output, y, label_smoothing, reduction)``: a loss per row ("none"), or their sum ("sum")."""

InnerSplit = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Training:
    """How nets are trained: all that is the same for every net of a fold.

    Attributes
    ----------
    options : TrainOptions
    task : Task
    metric_loss : {"cross_entropy", "binary_cross_entropy", "mse", "mae", "huber", "pinball"}
        The loss that follows from the metric; ``options.loss`` overrides it.
    threads : int or None
        Threads of torch while it trains; None leaves them as they are.
    device : str
        The same seed, threads and device give the same bytes.
    inner : pair of int arrays, optional
        Positions of fitting and of validation rows among those given; needed for early stopping, and used by
        ``epochs: auto`` on up to 50,000 rows.
    should_stop : callable, optional
        Asked after every epoch; True ends training with what is there.
    snapshots : Snapshots, optional
        Where the state is kept now and then, for a killed training to go on from.
    checkpoint : Checkpoint, optional
        The weights to start from, and what of them stays.
    """

    options: TrainOptions
    task: Task
    metric_loss: Loss
    threads: int | None = 1
    device: str = "cpu"
    inner: InnerSplit | None = None
    should_stop: Callable[[], bool] | None = None
    snapshots: Snapshots | None = None
    checkpoint: Checkpoint | None = None

    @cached_property
    def place(self) -> torch.device:
        """The device itself."""
        return pick_device(self.device)

    @property
    def loss(self) -> Loss:
        """What is minimised; UsageError where that does not fit the task."""
        loss = self.metric_loss if self.options.loss == "auto" else self.options.loss
        if loss not in self.task.losses:
            raise UsageError(
                f"the loss must fit the task; got loss={loss!r} for task={self.task.kind!r}; try loss: auto"
            )
        return loss

    def searches_epochs(self, n_rows: int) -> bool:
        """Whether the inner split says how many epochs there are."""
        return self.inner is not None and self.options.searches_epochs(n_rows)

    def part(self, name: str) -> Training:
        """Return the same training with snapshots of its own."""
        return self if self.snapshots is None else replace(self, snapshots=self.snapshots.part(name))


@dataclass
class Progress:
    """How far a training is."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Any] | None = None
    n_parts: int = 1


@dataclass(frozen=True)
class Way:
    """One way of training: as configured, or with something of it given up after a loss was not finite.

    Attributes
    ----------
    pace : Pace
    amp : bool
        Whether the forward pass runs in bfloat16.
    channels_last : bool
    """

    pace: Pace
    amp: bool
    channels_last: bool


class Hook:
    """Does nothing; each kind of hook has the methods it needs.

    Attributes
    ----------
    name : str
        Under which `state` stands in a snapshot; empty where there is none.
    """

    name = ""

    def on_train_begin(self, loop: TrainingLoop) -> None:
        """Look at the loop, whose net and optimizer are ready."""

    def on_batch_begin(self, loop: TrainingLoop, batch: Rows) -> Rows:
        """Return what is trained on in place of the batch."""
        return batch

    def on_step_end(self, loop: TrainingLoop) -> None:
        """The weights have changed."""

    def on_epoch_end(self, loop: TrainingLoop) -> None:
        """The epoch's loss is the last of ``loop.progress.losses``, and finite."""

    def on_train_end(self, loop: TrainingLoop) -> None:
        """Leave in the net the weights that are to be kept."""

    def is_over(self, loop: TrainingLoop) -> bool:
        """Say whether no epoch is to follow; asked after a training was resumed, too."""
        return False

    def state(self, loop: TrainingLoop) -> Mapping[str, Tensor]:
        """Return what the rest of the training depends on."""
        return {}

    def load_state(self, loop: TrainingLoop, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""


def first_way(module: nn.Module, rows: Rows, training: Training) -> Way:
    """Return how a training begins, ``auto`` resolved."""
    options = training.options
    images = convolves_images(module, rows.inputs)
    return Way(
        options.pace(len(rows)),
        amp=use_amp(options.amp, training.place, images),
        channels_last=images and options.channels_last == "auto",
    )


class TrainingLoop:
    """One training from given weights in one way.

    Attributes
    ----------
    module : nn.Module
    rows : Rows
    pace : Pace
    optimizer : FlatAdamW
    progress : Progress
    stopped : bool
        Set by a hook that ends the training.
    """

    def __init__(
        self,
        module: nn.Module,
        rows: Rows,
        training: Training,
        loss: RowLosses,
        *,
        hooks: Sequence[Hook] = (),
        way: Way | None = None,
        retry: int = 0,
    ) -> None:
        options, device = training.options, training.place
        way = first_way(module, rows, training) if way is None else way
        self.module = module
        self.options = options
        self.loss = loss
        self.device = device
        self.retry = retry
        self.pace = way.pace
        self.amp = way.amp
        self.rows = replace(rows, channels_last=way.channels_last)
        self.optimizer = FlatAdamW(
            module,
            lr=way.pace.lr,
            weight_decay=options.weight_decay,
            channels_last=way.channels_last,
        )
        self.progress = Progress()
        self.order = torch.Generator()
        self.shares: dict[int, Tensor] = {}
        self.stopped = False
        self.hooks = hooks
        for hook in hooks:
            hook.on_train_begin(self)

    def run(self) -> TrainReport | None:
        """Train to the end; None if the loss or a weight stopped being finite."""
        losses = self.progress.losses
        flags = [(part, part.training) for part in self.module.modules()]
        self.module.train()
        try:
            while len(losses) < self.pace.epochs and not (
                self.stopped or any(hook.is_over(self) for hook in self.hooks)
            ):
                losses.append(self.run_epoch())
                if not math.isfinite(losses[-1]):
                    return None
                for hook in self.hooks:
                    hook.on_epoch_end(self)
                tell_epoch(len(losses), self.pace.epochs)
        finally:
            for part, training in flags:
                part.training = training
        for hook in self.hooks:
            hook.on_train_end(self)
        return self.report() if self.is_finite() else None

    def is_finite(self) -> bool:
        """Say whether the weights are: the loss of the last step was computed before it."""
        trained = [weight.detach() for weight in self.module.parameters() if weight.requires_grad]
        return all(bool(torch.isfinite(weight).all()) for weight in trained)

    def report(self) -> TrainReport:
        progress = self.progress
        return TrainReport(
            epochs=len(progress.losses),
            best_epoch=progress.best_epoch or len(progress.losses),
            losses=tuple(progress.losses),
            validation_losses=tuple(progress.validation_losses),
            retries=self.retry,
            lr=self.optimizer.lr,
            stopped=self.stopped,
            n_parts=progress.n_parts,
        )

    def run_epoch(self) -> float:
        """Take every row once; read the loss back once, for a read in every step would wait for it."""
        total = torch.zeros((), device=self.device)
        order = shuffled(self.rows, self.order)
        for batch in batches(self.rows, order, self.pace.batch_size):
            for hook in self.hooks:
                batch = hook.on_batch_begin(self, batch)
            total += self.gradient(batch)
            step = self.progress.step
            factor = rate_factor(step, self.pace.n_steps, self.options.schedule, self.options.warmup)
            self.optimizer.step(factor=factor, clip_norm=self.options.clip_norm)
            self.progress.step = step + 1
            for hook in self.hooks:
                hook.on_step_end(self)
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
            n_rows, n_parts = len(batch), self.progress.n_parts
            logger.warning("out of memory: a batch of %d rows is now computed in %d parts", n_rows, n_parts)

    def accumulate(self, batch: Rows) -> Tensor:
        """Add up the gradients of the parts of a batch; a part has at least two rows (BatchNorm)."""
        self.optimizer.zero_grad()
        sums = []
        for part in batch.parts(min(self.progress.n_parts, max(1, len(batch) // 2))):
            total = self.loss_sum(part, self.options.label_smoothing, amp=self.amp)
            # With a gradient as argument torch imports its symbolic shapes, a quarter of a second in every process.
            (total * self.share_of(len(batch))).backward()  # type: ignore[no-untyped-call]
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

        def weighted(target: Rows) -> Tensor:
            losses = self.loss(output, target.y, smoothing, "none")
            return losses if target.weight is None else losses * target.weight

        if rows.mixed is None:
            return weighted(rows).sum()
        return (weighted(rows) * rows.share + weighted(rows.mixed) * (1 - rows.share)).sum()

    def validate(self, rows: Rows) -> float:
        """Return the mean loss of `rows`, without label smoothing; infinity where it is not finite."""
        total = torch.zeros((), device=self.device)
        size = min(VALIDATION_BATCH, max(64, 4 * self.pace.batch_size // self.progress.n_parts))
        with evaluating(self.module), torch.no_grad():
            for batch in batches(rows, unshuffled(rows), size):
                total += self.loss_sum(batch, 0.0, amp=False)
        mean = float(total) / len(rows)
        return mean if math.isfinite(mean) else math.inf

    def state(self, identity: dict[str, Any]) -> Values:
        """Return everything that the rest of the training depends on."""
        progress = self.progress
        header, tensors = random_state(self.device, self.order)
        named: dict[str, Any] = {
            "net": module_tensors(self.module),
            "optimizer": self.optimizer.state(),
            "losses": {
                "train": torch.tensor(progress.losses, dtype=torch.float64),
                "validation": torch.tensor(progress.validation_losses, dtype=torch.float64),
            },
        }
        named |= {hook.name: hook.state(self) for hook in self.hooks if hook.name}
        for kind, values in named.items():
            tensors |= {f"{kind}.{name}": value for name, value in values.items()}
        counts = {name: getattr(progress, name) for name in ("step", "best_epoch", "n_parts")}
        return {"identity": identity, "retry": self.retry, **counts, **header}, tensors

    def restore(self, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

        def named(kind: str) -> dict[str, Tensor]:
            start = f"{kind}."
            return {name[len(start) :]: tensors[name] for name in tensors if name.startswith(start)}

        weights = named("net")
        for name, place in module_tensors(self.module).items():
            place.copy_(weights[name])
        self.optimizer.load_state(named("optimizer"))
        losses = named("losses")
        self.progress = Progress(
            step=header["step"],
            losses=losses["train"].tolist(),
            validation_losses=losses["validation"].tolist(),
            best_epoch=header["best_epoch"],
            n_parts=header["n_parts"],
        )
        for hook in self.hooks:
            hook.load_state(self, named(hook.name))
        restore_random(header, tensors, self.device, self.order)
