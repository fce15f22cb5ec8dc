"""From arrays to a net that can be read: trained here, trained elsewhere, or not at all.

In:  a `NetSpec`, arrays with a row per sample; the target and a `Training`, or a checkpoint, or a seed alone.
Out: a `FittedNet`; the rows given are all it ever sees, early stopping included. A loss that is not finite
     starts the training again from the same weights, without what ``auto`` chose, then at a tenth of the rate.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.data.prepare.weights import mean_one
from stackfeat.errors import MemberError, NaNLossError, StackfeatError, TapError, UsageError
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.inputs import LazyColumn, select
from stackfeat.layers.taps.refusals import explained
from stackfeat.layers.taps.runtime import evaluating, pick_device, pinned, plain_transformers
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import Arrays, FittedNet, arrange
from stackfeat.nets.options import LEAST_SEARCHED_STEPS, TrainOptions, epochs_of
from stackfeat.nets.outputs import (
    Head,
    OutputKind,
    TrainReport,
    check_rows_independent,
    find_head,
    list_losses,
    output_rows,
    row_losses,
)
from stackfeat.nets.training.batches import Rows, check_mixable, check_mixing
from stackfeat.nets.training.hooks import training_hooks
from stackfeat.nets.training.loop import RowLosses, Training, TrainingLoop, Way, first_way
from stackfeat.nets.training.snapshots import module_tensors
from stackfeat.nets.weights import Checkpoint
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)

TARGET_TYPES = {np.int64: torch.int64, np.float64: torch.float32}
DRY_RUN_ROWS = 32
AMPLIFICATION = 1000.0
RETRY_FACTORS = (0.1, 0.01)
"""Of the learning rate, once all that ``auto`` chose was given up."""

CALMER_BATCH = 4
"""By how much larger batches are where those of ``batch_size: auto`` are in doubt."""

NOT_TRAINED = TrainReport(epochs=0, best_epoch=0, losses=())
Trained = tuple[nn.Module, Head, TrainReport]


@dataclass(frozen=True)
class TrainingSet:
    """The rows that one net is trained on, and its seed.

    Attributes
    ----------
    arrays : sequence of ndarray
        What ``forward`` takes, each with n_rows rows: ``(numeric, codes)`` or ``(x,)`` for a table.
        A memmap or another lazy array (see `stackfeat.layers.extraction.inputs`) is read batch by batch. Nets
        of the same rows should name the same arrays: they are held once.
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        int64 class codes, or float64 values.
    seed : int
        The same seed, threads and device give the same bytes.
    weight : ndarray of shape (n_rows,), optional
    """

    arrays: Arrays
    y: np.ndarray
    seed: int
    weight: np.ndarray | None = None


def fit_net(spec: NetSpec, data: TrainingSet, training: Training) -> FittedNet:
    """Build and train a net.

    Raises
    ------
    MemberError
        If the net cannot be built, run, or trained (`NaNLossError`).
    UsageError
        If early stopping is asked for without an inner split, or the loss or mixing does not fit the task.
    """
    check_mixing(training.options, training.task)
    trainer = NetTrainer(spec.on_rows(data.arrays), data, training)
    with pinned(data.seed, training.threads, training.place):
        net = trainer.fitted(*trainer.fit())
    name, report = type(net.module).__name__, net.report
    logger.info("%s: %d epochs, loss %.5f", name, report.epochs, report.losses[-1])
    return net


def untrained_net(
    spec: NetSpec, arrays: Arrays, *, task: Task, seed: int, threads: int | None = 1, device: str = "cpu"
) -> FittedNet:
    """Return a net of random weights that can be read as a fitted one; it has seen no label.

    Parameters
    ----------
    spec : NetSpec
    arrays : sequence of ndarray
        As in `TrainingSet`; a few rows are run to find the penultimate layer.
    seed : int
        The same seed gives the same weights.
    """
    place = pick_device(device)
    spec = spec.on_rows(arrays)
    with pinned(seed, threads, place):
        module = spec.build().to(place).eval()
        head = Head(cast(OutputKind, task.head_outputs[0]))
        return make_readable(module, spec, task, head, first_rows(module, spec, arrays, place), threads)


def load_net(
    spec: NetSpec, arrays: Arrays, checkpoint: Checkpoint, training: Training, *, predicts: bool, seed: int
) -> FittedNet:
    """Build a net, load its weights, and learn what its output means; nothing is trained.

    Parameters
    ----------
    spec : NetSpec
    arrays : sequence of ndarray
        As in `TrainingSet`; a few rows are run.
    training : Training
        Its task, threads and device count.
    predicts : bool
        Whether the output is read. If not, it may be of other classes and of any shape.
    seed : int
        Of the weights that ``head: reset`` leaves random.

    Raises
    ------
    UsageError, MemberError
        If the weights do not fit, or the output is not that of this task, or not finite.
    """
    place = training.place
    spec = spec.on_rows(arrays)
    spec = spec if predicts else replace(spec, output="none")
    with pinned(seed, training.threads, place):
        torch.manual_seed(derive_seed(seed, "init"))
        module = spec.build()
        reset = checkpoint.load(module)
        module = module.to(place).eval()
        example = first_rows(module, spec, arrays, place)
        output = dry_run(module, example)
        head = Head("value")
        if predicts and not np.isfinite(output).all():
            few = [array[:DRY_RUN_ROWS] for array in arrays if array.dtype.kind == "f"]
            n_missing = sum(int(np.isnan(array).any(axis=0).sum()) for array in few)
            why = f"; {n_missing} of its inputs' columns have missing values: fill them in the file"
            raise MemberError(
                "a checkpoint must give finite numbers; got NaN or infinity on the first rows"
                f"{why if n_missing else ''}"
            )
        if predicts:
            head = checkpoint.read_by(inspect_head(module, spec, example, output, training.task))
        if reset:
            name = type(module).__name__
            logger.info("%s: %s stayed random: it did not fit the checkpoint", name, ", ".join(reset))
        return make_readable(module, spec, training.task, head, example, training.threads)


def make_readable(
    module: nn.Module,
    spec: NetSpec,
    task: Task,
    head: Head,
    example: tuple[Tensor, ...],
    threads: int | None,
    report: TrainReport = NOT_TRAINED,
) -> FittedNet:
    """Return a module as a net that can be read; that its last features are not found ends nothing."""
    try:
        penultimate, problem = find_penultimate(module, *example), ""
    except TapError as error:
        penultimate, problem = None, str(error)
    place = example[0].device
    return FittedNet(module.eval(), spec, task, head, penultimate, problem, report, place, threads)


def first_rows(module: nn.Module, spec: NetSpec, arrays: Arrays, device: torch.device) -> tuple[Tensor, ...]:
    """Return what ``forward`` is given for the first rows."""
    return tuple(values[:DRY_RUN_ROWS].to(device) for values in arrange(module, spec, arrays))


def inspect_head(
    module: nn.Module, spec: NetSpec, example: Sequence[Tensor], output: np.ndarray, task: Task
) -> Head:
    """Return what the output of a net means, told from a few rows."""
    amplified = [values * AMPLIFICATION if values.is_floating_point() else values for values in example]
    head = find_head(spec.output, output, dry_run(module, amplified), task)
    check_rows_independent(module, example)
    return head


def dry_run(module: nn.Module, example: Sequence[Tensor]) -> np.ndarray:
    """Return the output of a few rows; a failure says what ``forward`` was given."""
    try:
        with evaluating(module), torch.no_grad(), plain_transformers():
            return output_rows(module(*example), len(example[0])).float().cpu().numpy()
    except StackfeatError:
        raise
    except Exception as error:
        given = ", ".join(f"{values.dtype} {tuple(values.shape)}" for values in example)
        raise MemberError(
            f"forward of {type(module).__name__} must take ({given}); got "
            f"{explained(module, tuple(example), {}, error)}; correct forward, params or the member's inputs"
        ) from error


@dataclass(frozen=True)
class NetTrainer:
    """Trains nets on some of the rows of a training set."""

    spec: NetSpec
    data: TrainingSet
    training: Training

    @cached_property
    def weights(self) -> np.ndarray | None:
        """A weight for each row from sample weights and class weights, or None where all are equal.

        Raises
        ------
        UsageError
            If weights are negative, not finite, or all zero.
        """
        weights = None if self.data.weight is None else np.asarray(self.data.weight, dtype=np.float64)
        if weights is not None and not (
            np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0
        ):
            raise UsageError(
                f"weights must be finite, not negative, and not all zero; got minimum={weights.min()}, "
                f"sum={weights.sum()}; correct the weight column"
            )
        is_balanced = self.training.options.class_weight == "balanced"
        return self.training.task.balanced_weights(self.data.y, weights) if is_balanced else weights

    @property
    def everything(self) -> np.ndarray:
        """All rows."""
        return np.arange(len(self.data.y))

    def fit(self) -> Trained:
        """Train as ``options.stopping`` says."""
        options, inner = self.training.options, self.training.inner
        if self.training.searches_epochs(len(self.data.y)):
            return self.fit_for_epochs_searched()
        if options.stopping == "fixed":
            return self.train("all", self.everything)
        if inner is None:
            raise UsageError(
                f"early_stopping: {options.stopping} must have an inner split; got inner=None; give one"
            )
        trained = self.train("inner", *inner)
        if options.stopping == "inner":
            return trained
        return self.fit_for(trained[2].best_epoch, trained[2].lr)

    def fit_for_epochs_searched(self) -> Trained:
        """Train on the inner split to see for how many epochs, then on all rows."""
        inner = self.training.inner
        assert inner is not None
        options = self.training.options.search(len(inner[0]))
        report = self.with_options(options).train("inner", *inner)[2]
        enough = -(-LEAST_SEARCHED_STEPS // self.training.options.pace(len(self.data.y)).n_batches)
        return self.fit_for(max(epochs_of(report.validation_losses), enough), report.lr)

    def fit_for(self, epochs: int, lr: float) -> Trained:
        """Train on all rows for so many epochs, at the rate at which their number was found."""
        fixed: dict[str, Any] = {"epochs": epochs, "patience": None, "early_stopping": "fixed"}
        if self.training.options.lr == "auto":
            fixed["lr"] = lr
        options = self.training.options.model_copy(update=fixed)
        return self.with_options(options).train("all", self.everything)

    def with_options(self, options: TrainOptions) -> NetTrainer:
        return replace(self, training=replace(self.training, options=options))

    def train(self, name: str, rows: np.ndarray, validation: np.ndarray | None = None) -> Trained:
        """Train a fresh net on `rows`; `name` is that of its snapshots."""
        loss = self.training.loss
        module, head = self.fresh(rows)
        report = train_net(
            module,
            self.take(module, rows, head),
            self.training.part(name),
            loss=partial(list_losses if self.training.task.has_lists else row_losses, head, loss),
            seed=derive_seed(self.data.seed, "train"),
            validation=None if validation is None else self.take(module, validation, head),
        )
        return module, head, report

    def fresh(self, rows: np.ndarray) -> tuple[nn.Module, Head]:
        """Return a net before its training; the head's mean and scale come from `rows` alone."""
        torch.manual_seed(derive_seed(self.data.seed, "init"))
        module = self.spec.build()
        checkpoint = self.training.checkpoint
        if checkpoint is not None:
            checkpoint.prepare(module)
        module = module.to(self.training.place)
        example = self.example(module, rows)
        head = inspect_head(module, self.spec, example, dry_run(module, example), self.training.task)
        if self.spec.output == "auto" and head.kind in ("proba", "log_proba"):
            logger.info("%s returns %s: trained with its logarithm", type(module).__name__, head.kind)
        weights = None if self.weights is None else self.weights[rows]
        mean, scale = self.training.task.standardisation(self.data.y[rows], weights)
        head = replace(head, mean=mean, scale=scale)
        return module, head if checkpoint is None else checkpoint.read_by(head)

    def take(self, module: nn.Module, rows: np.ndarray, head: Head) -> Rows:
        """Return `rows` as tensors on the device, the target on the net's scale, weights of mean 1."""
        device = self.training.place
        inputs = arrange(module, self.spec, [select(array, rows) for array in self.data.arrays])
        target = (self.data.y[rows] - np.asarray(head.mean)) / np.asarray(head.scale)
        weight = None
        if self.weights is not None:
            chosen = mean_one(self.weights[rows])
            weight = torch.tensor(chosen, dtype=torch.float32, device=device)
        lists = self.training.task.lists(self.data.y[rows])
        return Rows(
            tuple(x if isinstance(x, LazyColumn) else x.to(device) for x in inputs),
            torch.tensor(target, dtype=TARGET_TYPES[self.training.task.dtype], device=device),
            weight,
            lists=None if lists is None else torch.from_numpy(lists),
        )

    def example(self, module: nn.Module, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Return what ``forward`` is given for the first of `rows`."""
        few = [select(array, rows[:DRY_RUN_ROWS]) for array in self.data.arrays]
        return first_rows(module, self.spec, few, self.training.place)

    def fitted(self, module: nn.Module, head: Head, report: TrainReport) -> FittedNet:
        """Return a trained net as one that can be read."""
        example = self.example(module, self.everything)
        return make_readable(
            module, self.spec, self.training.task, head, example, self.training.threads, report
        )


def train_net(
    module: nn.Module,
    rows: Rows,
    training: Training,
    *,
    loss: RowLosses,
    seed: int,
    validation: Rows | None = None,
) -> TrainReport:
    """Train `module` in place, with AdamW.

    Parameters
    ----------
    module : nn.Module
        On the device; its mode and torch's generators are as before afterwards.
    rows : Rows
    training : Training
        With `validation` and ``patience`` training ends early, and the best epoch's weights are kept. A
        training that finds a snapshot of its own goes on from there, to the same bytes as one that was
        never interrupted.
    loss : callable
        ``loss(output, y, label_smoothing, reduction)`` gives a loss per row (``"none"``), float32, or
        their sum (``"sum"``).
    seed : int
        Decides the order of rows and the dropout.
    validation : Rows, optional

    Raises
    ------
    NaNLossError
        If the loss stayed finite in none of `ways_of_training`.
    MemberError
        If there are fewer than two rows, nothing to train, or not enough memory for two rows.
    UsageError
        If the inputs cannot be mixed as asked.
    """
    if len(rows) < 2:
        raise MemberError(f"training must have at least 2 rows; got {len(rows)}; use fewer folds")
    options = training.options
    check_mixable(options, rows)
    start = copy.deepcopy(module.state_dict())
    if training.snapshots is not None and not all(isinstance(values, Tensor) for values in start.values()):
        logger.info("%s keeps state that is no tensor: no snapshots", type(module).__name__)
        training = replace(training, snapshots=None)
    shapes = {name: list(values.shape) for name, values in module_tensors(module).items()}
    identity = {"options": options.to_json(), "seed": seed, "n_rows": len(rows), "shapes": shapes}
    found = None if training.snapshots is None else training.snapshots.load(identity)
    ways = list(ways_of_training(module, rows, training))
    for retry in range(0 if found is None else found[0]["retry"], len(ways)):
        change, way = ways[retry]
        if change:
            logger.warning("the loss is not finite; trying %s (%d of %d)", change, retry, len(ways) - 1)
        hooks = training_hooks(training, validation, identity)
        loop = TrainingLoop(module, rows, training, loss, hooks=hooks, way=way, retry=retry)
        try:
            with pinned(seed, device=training.place):
                loop.order.manual_seed(seed)
                if found is not None:
                    loop.restore(*found)
                    logger.info("resumed after epoch %d of %d", len(loop.progress.losses), loop.pace.epochs)
                report = loop.run()
        finally:
            loop.optimizer.release()
        if report is not None:
            return report
        found = None
        module.load_state_dict(start)
    first, tried = ways[0][1].pace, ", ".join(change for change, _ in ways[1:])
    remedy = "set train.amp to off" if ways[-1][1].amp else "lower train.lr"
    raise NaNLossError(
        f"the loss must stay finite; got NaN or infinity at lr={first.lr:g}, and again with {tried}; "
        f"{remedy}, or look for NaN and huge values in the inputs"
    )


def ways_of_training(module: nn.Module, rows: Rows, training: Training) -> Iterator[tuple[str, Way]]:
    """Yield what is changed, and how to train: one after the other, until a loss stays finite.

    What ``auto`` chose is doubted first, since nobody asked for it; then the rate. What was given up stays so.
    """
    options, way = training.options, first_way(module, rows, training)
    yield "", way
    if way.amp and options.amp == "auto":
        way = replace(way, amp=False)
        yield "amp: off", way
    if way.channels_last:
        way = replace(way, channels_last=False)
        yield "channels_last: off", way
    if options.batch_size == "auto":
        size = min(CALMER_BATCH * way.pace.batch_size, options.largest_batch, len(rows))
        if size > way.pace.batch_size:
            lr = way.pace.lr  # the rate is doubted for itself
            calmer = options.model_copy(update={"batch_size": size, "lr": lr})
            way = replace(way, pace=calmer.pace(len(rows)))
            yield f"batch_size: {size}", way
    first = way.pace.lr
    for factor in RETRY_FACTORS:
        way = replace(way, pace=way.pace._replace(lr=first * factor))
        yield f"lr: {way.pace.lr:g}", way
