"""From arrays to a fitted net.

In:  a `NetSpec`, arrays with a row per training sample, the target, options, a seed.
Out: a `FittedNet`; the rows given are all it ever sees, early stopping included. A loss that is not finite
     starts the training again from the same weights at a tenth of the learning rate.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, NaNLossError, StackfeatError, TapError, UsageError
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.inputs import LazyColumn, select
from stackfeat.layers.taps.runtime import evaluating, pick_device, pinned, plain_transformers
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import Arrays, FittedNet, arrange
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, check_mixable, check_mixing
from stackfeat.nets.training.fine_tuning import Start
from stackfeat.nets.training.hooks import training_hooks
from stackfeat.nets.training.loop import RowLosses, TrainingLoop
from stackfeat.nets.training.outputs import (
    Head,
    Loss,
    OutputKind,
    TrainReport,
    check_rows_independent,
    find_head,
    output_rows,
    row_losses,
)
from stackfeat.nets.training.snapshots import Snapshots, module_tensors
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

__all__ = ["FittedNet", "NetSpec", "fit_net", "train_net"]

logger = logging.getLogger(__name__)

TARGET_TYPES = {np.int64: torch.int64, np.float64: torch.float32}
DRY_RUN_ROWS = 32
AMPLIFICATION = 1000.0
InnerSplit = tuple[np.ndarray, np.ndarray]
Trained = tuple[nn.Module, Head, TrainReport]


def fit_net(
    spec: NetSpec,
    arrays: Arrays,
    y: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    options: TrainOptions,
    task: Task,
    metric_loss: Loss,
    seed: int,
    threads: int | None = 1,
    device: str | torch.device = "cpu",
    inner: InnerSplit | None = None,
    should_stop: Callable[[], bool] | None = None,
    snapshots: Snapshots | None = None,
    start: Start | None = None,
) -> FittedNet:
    """Build and train a net.

    Parameters
    ----------
    spec : NetSpec
    arrays : sequence of ndarray
        What ``forward`` takes, each with n_rows rows: ``(numeric, codes)`` or ``(x,)`` for a table.
        A memmap or another lazy array (see `stackfeat.layers.extraction.inputs`) is read batch by batch.
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        int64 class codes, or float64 values.
    weight : ndarray of shape (n_rows,), optional
    metric_loss : {"cross_entropy", "mse", "mae", "huber"}
        The loss that follows from the metric; ``options.loss`` overrides it.
    seed : int
        The same seed, threads and device give the same bytes.
    inner : pair of int arrays, optional
        Positions of fitting and of validation rows among those given; needed for early stopping.
    should_stop : callable, optional
        Asked after every epoch; True ends training with what is there.
    snapshots : Snapshots, optional
        Where the state is kept between epochs, for a killed training to go on from.
    start : Start, optional
        Fine-tuning: the weights to start from, and what of them stays.

    Raises
    ------
    MemberError
        If the net cannot be built, run, or trained (`NaNLossError`).
    UsageError
        If early stopping is asked for without `inner`, or the loss or mixing does not fit the task.
    """
    place = pick_device(device) if isinstance(device, str) else device
    loss = choose_loss(options, metric_loss, task)
    if options.stopping != "fixed" and inner is None:
        raise UsageError(
            f"early_stopping: {options.stopping} must have an inner split; got inner=None; give one"
        )
    check_mixing(options, task)
    weights = row_weights(y, weight, options, task)
    spec = spec.on_rows(arrays)
    with pinned(seed, threads, place):
        fold = Fold(
            spec, tuple(arrays), y, weights, options, task, loss, seed, place, should_stop, snapshots, start
        )
        module, head, report = fold.fit(inner)
        penultimate, problem = locate_penultimate(module, fold.example(module, np.arange(len(y))))
    logger.info("%s: %d epochs, loss %.5f", type(module).__name__, report.epochs, report.losses[-1])
    return FittedNet(module.eval(), spec, task, head, penultimate, problem, report, place, threads)


def untrained_net(
    spec: NetSpec, arrays: Arrays, *, task: Task, seed: int, threads: int | None = 1, device: str = "cpu"
) -> FittedNet:
    """Return a net of random weights that can be read as a fitted one; it has seen no label.

    Parameters
    ----------
    spec : NetSpec
    arrays : sequence of ndarray
        As in `fit_net`; a few rows are run to find the penultimate layer.
    seed : int
        The same seed gives the same weights.
    """
    place = pick_device(device)
    spec = spec.on_rows(arrays)
    with pinned(seed, threads, place):
        module = spec.build().to(place).eval()
        example = tuple(values[:DRY_RUN_ROWS].to(place) for values in arrange(module, spec, arrays))
        penultimate, problem = locate_penultimate(module, example)
    head = Head(cast(OutputKind, task.head_outputs[0]))
    report = TrainReport(epochs=0, best_epoch=0, losses=())
    return FittedNet(module, spec, task, head, penultimate, problem, report, place, threads)


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
        hooks = training_hooks(options, validation, should_stop, snapshots, identity)
        loop = TrainingLoop(module, rows, options, loss, device, hooks=hooks, retry=retry)
        try:
            with pinned(seed, device=device):
                loop.order.manual_seed(seed)
                if found is not None:
                    loop.restore(*found)
                    logger.info("resumed after epoch %d of %d", len(loop.progress.losses), options.epochs)
                report = loop.run()
        finally:
            loop.optimizer.release()
        if report is not None:
            return report
        found = None
        logger.warning("loss is not finite at lr=%g; %d retries left", loop.optimizer.lr, MAX_RETRIES - retry)
        module.load_state_dict(start)
    raise NaNLossError(
        f"the loss must stay finite; got NaN or infinity at lr={options.lr:g} and at the "
        f"{MAX_RETRIES} smaller ones tried; lower train.lr, or look for NaN and huge values in the inputs"
    )


def identify(module: nn.Module, rows: Rows, options: TrainOptions, seed: int) -> dict[str, Any]:
    """Return what tells one training from another, as JSON values."""
    shapes = {name: list(values.shape) for name, values in module_tensors(module).items()}
    return {"options": options.to_json(), "seed": seed, "n_rows": len(rows), "shapes": shapes}


@dataclass(frozen=True)
class Fold:
    """The training rows of a fold, and how to train on some of them."""

    spec: NetSpec
    arrays: tuple[np.ndarray, ...]
    y: np.ndarray
    weights: np.ndarray | None
    options: TrainOptions
    task: Task
    loss: Loss
    seed: int
    device: torch.device
    should_stop: Callable[[], bool] | None
    snapshots: Snapshots | None = None
    start: Start | None = None

    def fit(self, inner: InnerSplit | None) -> Trained:
        """Train as ``options.stopping`` says."""
        everything = np.arange(len(self.y))
        if inner is None or self.options.stopping == "fixed":
            return self.train(everything, None, self.options)
        trained = self.train(*inner, self.options, "inner")
        if self.options.stopping == "inner":
            return trained
        fixed = {"epochs": trained[2].best_epoch, "patience": None, "early_stopping": "fixed"}
        return self.train(everything, None, self.options.model_copy(update=fixed))

    def train(
        self, rows: np.ndarray, validation: np.ndarray | None, options: TrainOptions, name: str = "all"
    ) -> Trained:
        """Train a fresh net on `rows`."""
        module, head = self.fresh(rows)
        report = train_net(
            module,
            self.take(module, rows, head),
            options=options,
            loss=partial(row_losses, head, self.loss),
            seed=derive_seed(self.seed, "train"),
            device=self.device,
            validation=None if validation is None else self.take(module, validation, head),
            should_stop=self.should_stop,
            snapshots=None if self.snapshots is None else self.snapshots.part(name),
        )
        return module, head, report

    def fresh(self, rows: np.ndarray) -> tuple[nn.Module, Head]:
        """Return a net before its training; the head's mean and scale come from `rows` alone."""
        torch.manual_seed(derive_seed(self.seed, "init"))
        module = self.spec.build()
        if self.start is not None:
            self.start.prepare(module)
        module = module.to(self.device)
        head = self.inspect(module, rows)
        return module, head if self.start is None else self.start.read_by(head)

    def take(self, module: nn.Module, rows: np.ndarray, head: Head) -> Rows:
        """Return `rows` as tensors on the device, the target on the net's scale, weights of mean 1."""
        inputs = arrange(module, self.spec, [select(array, rows) for array in self.arrays])
        y = self.y[rows]
        target = (y - np.asarray(head.mean)) / np.asarray(head.scale)
        dtype = TARGET_TYPES[self.task.dtype]
        weight = None
        if self.weights is not None:
            chosen = self.weights[rows]
            weight = torch.tensor(chosen / chosen.mean(), dtype=torch.float32, device=self.device)
        return Rows(
            tuple(x if isinstance(x, LazyColumn) else x.to(self.device) for x in inputs),
            torch.tensor(target, dtype=dtype, device=self.device),
            weight,
        )

    def example(self, module: nn.Module, rows: np.ndarray) -> tuple[Tensor, ...]:
        few = [select(array, rows[:DRY_RUN_ROWS]) for array in self.arrays]
        return tuple(values[:].to(self.device) for values in arrange(module, self.spec, few))

    def inspect(self, module: nn.Module, rows: np.ndarray) -> Head:
        """Run a few rows through the untrained net to learn what its output means."""
        example = self.example(module, rows)
        amplified = [values * AMPLIFICATION if values.is_floating_point() else values for values in example]
        output = dry_run(module, example)
        head = find_head(self.spec.output, output, dry_run(module, amplified), self.task)
        check_rows_independent(module, example)
        if self.spec.output == "auto" and head.kind in ("proba", "log_proba"):
            logger.info("%s returns %s: trained with its logarithm", type(module).__name__, head.kind)
        weights = None if self.weights is None else self.weights[rows]
        mean, scale = self.task.standardisation(self.y[rows], weights)
        return replace(head, mean=mean, scale=scale)


def dry_run(module: nn.Module, example: list[Tensor] | tuple[Tensor, ...]) -> np.ndarray:
    """Return the output of a few rows; a failure says what ``forward`` was given."""
    try:
        with evaluating(module), torch.no_grad(), plain_transformers():
            return output_rows(module(*example), len(example[0])).float().cpu().numpy()
    except StackfeatError:
        raise
    except Exception as error:
        given = ", ".join(f"{values.dtype} {tuple(values.shape)}" for values in example)
        raise MemberError(
            f"forward of {type(module).__name__} must take ({given}); got {type(error).__name__}: {error}; "
            "correct forward, params or the member's inputs"
        ) from error


def choose_loss(options: TrainOptions, metric_loss: Loss, task: Task) -> Loss:
    loss = metric_loss if options.loss == "auto" else options.loss
    if loss not in task.losses:
        raise UsageError(
            f"the loss must fit the task; got loss={loss!r} for task={task.kind!r}; try loss: auto"
        )
    return loss


def row_weights(
    y: np.ndarray, weight: np.ndarray | None, options: TrainOptions, task: Task
) -> np.ndarray | None:
    """Return a weight per row from sample weights and class weights, or None where all are equal.

    Raises
    ------
    UsageError
        If weights are negative, not finite, or all zero.
    """
    weights = None if weight is None else np.asarray(weight, dtype=np.float64)
    if weights is not None and not (
        np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0
    ):
        raise UsageError(
            f"weights must be finite, not negative, and not all zero; got minimum={weights.min()}, "
            f"sum={weights.sum()}; correct the weight column"
        )
    return task.balanced_weights(y, weights) if options.class_weight == "balanced" else weights


def locate_penultimate(module: nn.Module, example: tuple[Tensor, ...]) -> tuple[Tap | None, str]:
    """Return the tap, or None and why: nobody may ask for it, so that it must not end the training."""
    try:
        return find_penultimate(module, *example), ""
    except TapError as error:
        return None, str(error)
