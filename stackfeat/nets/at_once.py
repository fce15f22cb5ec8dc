"""Several nets trained at once: those of the seeds of a fold, or of all folds.

In:  what `fit_net` takes, with rows, target and seed for each net.
Out: the nets that `fit_net` would give one by one, up to the rounding of float32: the same start, the
     same batches, the same dropout.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from stackfeat.nets.batches import Rows, batch_sizes
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fit import Fold, InnerSplit, choose_loss, fit_net, locate_penultimate, row_weights
from stackfeat.nets.fitted import Arrays, FittedNet
from stackfeat.nets.lazy import is_lazy
from stackfeat.nets.mlp import MLP
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.outputs import Head, Loss, row_losses
from stackfeat.nets.report import TrainReport
from stackfeat.nets.runtime import pick_device, pinned, use_amp
from stackfeat.nets.schedule import rate_factor
from stackfeat.nets.snapshots import Snapshots
from stackfeat.nets.stacked import StackedAdamW, StackedMLP
from stackfeat.seeds import derive_seed
from stackfeat.task import Task

logger = logging.getLogger(__name__)

WIDEST = {"cpu": 128, "cuda": 512}
"""Of the hidden layers: above it, a CPU is busy with one net alone (docs/benchmarks.md)."""


@dataclass(frozen=True)
class Job:
    """The rows of one net, and its seed.

    Attributes
    ----------
    arrays : sequence of ndarray
        As in `fit_net`. Nets of the same rows should name the same arrays: they are held once.
    y, weight : ndarray of shape (n_rows,)
    seed : int
    """

    arrays: Arrays
    y: np.ndarray
    seed: int
    weight: np.ndarray | None = None


def pays_at_once(
    spec: NetSpec, options: TrainOptions, n_rows: Sequence[int], device: torch.device, *, lazy: bool = False
) -> bool:
    """Say whether nets are trained at once: by configuration, shapes and the type of the device alone.

    Parameters
    ----------
    n_rows : sequence of int
        Training rows of each net; all must come in equally many batches.
    """
    hidden = spec.params.get("hidden", (256, 256, 128))
    return (
        options.folds_at_once == "auto"
        and spec.cls is MLP
        and not lazy
        and len(n_rows) > 1
        and len({len(batch_sizes(n, options.batch_size)) for n in n_rows}) == 1
        and min(n_rows) > 1
        and bool(hidden)
        and max(hidden) <= WIDEST.get(device.type, 0)
        and options.stopping == "fixed"
        and options.ema is options.mixup is options.cutmix is None
        and not (use_amp(options.amp, device) and device.type == "cpu")
    )


def fit_nets_at_once(
    spec: NetSpec,
    jobs: Sequence[Job],
    *,
    options: TrainOptions,
    task: Task,
    metric_loss: Loss,
    threads: int | None = 1,
    device: str | torch.device = "cpu",
    inner: InnerSplit | None = None,
    snapshots: Snapshots | None = None,
) -> list[FittedNet]:
    """Train a net for each job, at once where that pays (`pays_at_once`), else one by one.

    Parameters
    ----------
    spec, options, task, metric_loss, threads, device
        As in `fit_net`, the same for all nets.
    jobs : sequence of Job
    inner, snapshots
        As in `fit_net`, for nets that are trained one by one; those trained at once are small and take
        no snapshots.

    Returns
    -------
    list of FittedNet
        In the order of the jobs; a net whose loss stops being finite is trained again alone, at
        lower rates.
    """
    place = pick_device(device) if isinstance(device, str) else device

    def alone(k: int) -> FittedNet:
        return fit_net(
            spec,
            jobs[k].arrays,
            jobs[k].y,
            jobs[k].weight,
            options=options,
            task=task,
            metric_loss=metric_loss,
            seed=jobs[k].seed,
            threads=threads,
            device=place,
            inner=inner,
            snapshots=None if snapshots is None else snapshots.part(str(k)),
        )

    n_rows = [len(job.y) for job in jobs]
    lazy = any(is_lazy(array) for job in jobs for array in job.arrays)
    if not pays_at_once(spec, options, n_rows, place, lazy=lazy):
        return [alone(k) for k in range(len(jobs))]
    loss = choose_loss(options, metric_loss, task)
    with pinned(0, threads, place):
        nets = Nets.build(spec, jobs, options, task, loss, place)
        losses = nets.train()
        fitted = [nets.fitted(k, losses[k], threads) for k in range(len(jobs))]
    logger.info("%s: %d nets at once, %d epochs", type(nets.modules[0]).__name__, len(jobs), options.epochs)
    return [net if all(map(math.isfinite, net.report.losses)) else alone(k) for k, net in enumerate(fitted)]


@dataclass(frozen=True)
class Nets:
    """Nets to train, their rows in shared tensors, and which rows are whose."""

    folds: list[Fold]
    modules: list[MLP]
    heads: list[Head]
    rows: Rows
    owned: list[Tensor]
    options: TrainOptions
    loss: Loss

    @classmethod
    def build(
        cls,
        spec: NetSpec,
        jobs: Sequence[Job],
        options: TrainOptions,
        task: Task,
        loss: Loss,
        device: torch.device,
    ) -> Nets:
        """Build the nets, each as `fit_net` does."""
        folds, modules, heads, owned = [], [], [], []
        held: dict[tuple[int, ...], tuple[Rows, int]] = {}
        n_held = 0
        for job in jobs:
            weights = row_weights(job.y, job.weight, options, task)
            fold = Fold(spec, tuple(job.arrays), job.y, weights, options, task, loss, job.seed, device, None)
            module, head = fold.fresh(np.arange(len(job.y)))
            same = (*(id(array) for array in job.arrays), id(job.y), id(job.weight))
            if same not in held:
                held[same] = (fold.take(module, np.arange(len(job.y)), head), n_held)
                n_held += len(job.y)
            owned.append(held[same][1] + torch.arange(len(job.y)))
            folds.append(fold)
            modules.append(cast(MLP, module))
            heads.append(head)
        parts = [rows for rows, _ in held.values()]
        return cls(folds, modules, heads, join(parts), owned, options, loss)

    def train(self) -> list[list[float]]:
        """Train all nets; return the losses of each by epoch."""
        options, device = self.options, self.rows.y.device
        optimizer = StackedAdamW(self.modules, lr=options.lr, weight_decay=options.weight_decay)
        seeds = [derive_seed(fold.seed, "train") for fold in self.folds]
        orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        stacked = StackedMLP(self.modules, optimizer, [torch.Generator().manual_seed(seed) for seed in seeds])
        torch.manual_seed(seeds[0])
        plans = [batch_sizes(len(rows), options.batch_size) for rows in self.owned]
        n_steps, step = len(plans[0]) * options.epochs, 0
        losses: list[list[float]] = [[] for _ in self.modules]
        n_together = sum(len(set(sizes)) == 1 for sizes in zip(*plans, strict=True))
        for module in self.modules:
            module.train()
        try:
            for _ in range(options.epochs):
                shuffled = [
                    rows[torch.randperm(len(rows), generator=generator)]
                    for rows, generator in zip(self.owned, orders, strict=True)
                ]
                total = torch.zeros(len(self.modules), device=device)
                split = [torch.split(rows, plan) for rows, plan in zip(shuffled, plans, strict=True)]
                for batch in zip(*split, strict=True):
                    optimizer.zero_grad()
                    total += self.backward(stacked, batch)
                    factor = rate_factor(step, n_steps, options.schedule, options.warmup)
                    optimizer.step(factor=factor, clip_norm=options.clip_norm)
                    step += 1
                stacked.count_batches(n_together)
                for k, value in enumerate(total.tolist()):
                    losses[k].append(value / len(self.owned[k]))
        finally:
            optimizer.release()
        return losses

    def backward(self, stacked: StackedMLP, batch: Sequence[Tensor]) -> Tensor:
        """Add the gradient of each net's mean loss on its rows; return the sums of the losses."""
        sizes = {len(rows) for rows in batch}
        if len(sizes) > 1:
            return torch.stack([self.backward_alone(stacked, k, rows) for k, rows in enumerate(batch)])
        rows = self.rows.take(torch.cat(list(batch)))
        shape = (len(batch), sizes.pop())
        scores = stacked(*(values.view(*shape, *values.shape[1:]) for values in rows.tensors))
        sums = self.sums(scores.flatten(0, 1), rows).view(shape).sum(1)
        sums.backward(torch.full_like(sums, 1 / shape[1]))  # type: ignore[no-untyped-call]
        return sums.detach()

    def backward_alone(self, stacked: StackedMLP, k: int, rows: Tensor) -> Tensor:
        """Do the same for one net: the last batch of an epoch may differ in its size between nets."""
        chosen = self.rows.take(rows)
        generator = stacked.generators[k]
        torch.set_rng_state(generator.get_state())
        sums = self.sums(self.modules[k](*chosen.tensors), chosen).sum()
        generator.set_state(torch.get_rng_state())
        (sums / len(rows)).backward()  # type: ignore[no-untyped-call]
        return sums.detach()

    def sums(self, scores: Tensor, rows: Rows) -> Tensor:
        losses = row_losses(self.heads[0], self.loss, scores, rows.y, self.options.label_smoothing)
        return losses if rows.weight is None else losses * rows.weight

    def fitted(self, k: int, losses: list[float], threads: int | None) -> FittedNet:
        """Return net k as `fit_net` does."""
        fold, module = self.folds[k], self.modules[k]
        penultimate, problem = locate_penultimate(module, fold.example(module, np.arange(len(fold.y))))
        report = TrainReport(len(losses), len(losses), tuple(losses), lr=self.options.lr)
        return FittedNet(
            module.eval(),
            fold.spec,
            fold.task,
            self.heads[k],
            penultimate,
            problem,
            report,
            fold.device,
            threads,
        )


def join(parts: Sequence[Rows]) -> Rows:
    """Put the rows of several nets one behind the other."""
    if len(parts) == 1:
        return parts[0]
    inputs = zip(*(rows.tensors for rows in parts), strict=True)
    weights = [
        torch.ones_like(rows.y, dtype=torch.float32) if rows.weight is None else rows.weight for rows in parts
    ]
    return Rows(
        tuple(torch.cat(columns) for columns in inputs),
        torch.cat([rows.y for rows in parts]),
        None if all(rows.weight is None for rows in parts) else torch.cat(weights),
    )
