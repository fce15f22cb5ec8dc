"""Several nets trained at once, as batched matrix products: those of the seeds of a fold, or of all folds.

In:  what `fit_net` takes, with rows, target and seed for each net.
Out: the nets that `fit_net` would give one by one, up to the rounding of float32: the same start, the
     same batches, the same dropout.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.layers.extraction.inputs import is_lazy
from stackfeat.layers.taps.runtime import pick_device, pinned, use_amp
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import Arrays, FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, batch_sizes
from stackfeat.nets.training.fit import (
    Fold,
    InnerSplit,
    choose_loss,
    fit_net,
    locate_penultimate,
    row_weights,
)
from stackfeat.nets.training.optimizer import Section, parameter_groups, rate_factor
from stackfeat.nets.training.outputs import Head, Loss, TrainReport, row_losses
from stackfeat.nets.training.snapshots import Snapshots
from stackfeat.nets.zoo.mlp import MLP, ByteDropout
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task


class BatchedMLP:
    """The forward pass of K nets at once.

    Parameters
    ----------
    modules : sequence of MLP
        Their parameters become views into the optimizer's buffers; statistics of BatchNorm stay theirs.
    optimizer : BatchedAdamW
        Made of the same modules.
    generators : sequence of Generator
        Where each net draws its dropout from, as it would alone.
    """

    def __init__(
        self, modules: Sequence[MLP], optimizer: BatchedAdamW, generators: Sequence[torch.Generator]
    ) -> None:
        self.modules = modules
        self.parameters = optimizer.parameters
        self.generators = generators
        self.first = modules[0]
        self.blocks: list[Any] = [list(module.blocks) for module in modules]

    def __call__(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return scores of shape (K, n_rows, n_outputs)."""
        x = numeric
        if self.first.embedding is not None and codes is not None:
            x = torch.cat([numeric, self.embed(codes)], dim=2)
        for i, block in enumerate(self.blocks[0]):
            x = torch.bmm(x, self.parameters[f"blocks.{i}.0.weight"].transpose(1, 2))
            x = self.normalize(x, i)
            x = x.relu_() if isinstance(block[2], nn.ReLU) else block[2](x)
            if len(block) > 3:
                x = self.drop(x, block[3])
        weight, bias = self.parameters["head.weight"], self.parameters["head.bias"]
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    def embed(self, codes: Tensor) -> Tensor:
        table = self.parameters["embedding.weight"]
        n_nets, n_codes, width = table.shape
        shift = torch.arange(n_nets, device=codes.device)[:, None, None] * n_codes
        rows = nn.functional.embedding(codes + self.first.offsets + shift, table.reshape(-1, width))
        return rows.flatten(2)

    def normalize(self, x: Tensor, i: int) -> Tensor:
        norms = [blocks[i][1] for blocks in self.blocks]
        scale, shift = self.parameters[f"blocks.{i}.1.weight"], self.parameters[f"blocks.{i}.1.bias"]
        normalized: Tensor = BatchedBatchNorm.apply(x, scale, shift, norms)  # type: ignore[no-untyped-call]
        return normalized

    def drop(self, x: Tensor, dropout: ByteDropout) -> Tensor:
        """Drop what each net would drop alone; on a GPU, by one draw for all."""
        threshold = round(dropout.p * 256)
        if not 0 < threshold < 256 or x.device.type != "cpu":
            return nn.functional.dropout(x, dropout.p)
        n_values = x[0].numel()
        words = torch.empty(len(x), (n_values + 7) // 8, dtype=torch.int64)
        for row, generator in zip(words, self.generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        kept = words.view(torch.uint8)[:, :n_values].reshape(x.shape) >= threshold
        return x * kept.to(x.dtype).mul_(256 / (256 - threshold))

    def count_batches(self, n_batches: int) -> None:
        """Note that every BatchNorm has seen so many batches."""
        for blocks in self.blocks:
            for block in blocks:
                block[1].num_batches_tracked += n_batches


class BatchedBatchNorm(torch.autograd.Function):
    """BatchNorm of K nets on (K, n_rows, n_columns), with its gradient written out.

    torch's own kernel wants (n_rows, K * n_columns): moving values there and back, or calling it
    for every net, costs five times as much.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, norms: list[nn.BatchNorm1d]) -> Tensor:
        n_rows, norm = x.shape[1], norms[0]
        mean = x.mean(1)
        centred = x - mean[:, None]
        variance = centred.square().mean(1)
        invstd = (variance + norm.eps).rsqrt_()
        assert norm.momentum is not None
        unbiased = variance.mul_(n_rows / (n_rows - 1))
        for name, values in (("running_mean", mean), ("running_var", unbiased)):
            torch._foreach_lerp_(
                [getattr(part, name) for part in norms], list(values.unbind()), norm.momentum
            )
        ctx.save_for_backward(centred, scale, invstd)
        return torch.addcmul(shift[:, None], centred, (scale * invstd)[:, None])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, scale, invstd = ctx.saved_tensors
        n_rows = centred.shape[1]
        by_shift = gradient.sum(1)
        by_scale = (gradient * centred).sum(1).mul_(invstd)
        slope = scale * invstd
        by_input = torch.addcmul((slope * by_shift).div_(-n_rows)[:, None], gradient, slope[:, None])
        by_input.addcmul_(centred, (slope * invstd * by_scale).div_(-n_rows)[:, None])
        return by_input, by_scale, by_shift, None


class BatchedAdamW:
    """AdamW over K nets of one shape, each clipped by its own norm.

    Attributes
    ----------
    parameters : dict of str to Parameter
        By name, of shape (K, ...); parameter k is that of module k, in the same memory.
    """

    def __init__(self, modules: Sequence[nn.Module], *, lr: float, weight_decay: float) -> None:
        self.lr = lr
        self.modules = modules
        self.parameters: dict[str, nn.Parameter] = {}
        groups = [parameter_groups(module) for module in modules]
        names = {id(parameter): name for name, parameter in modules[0].named_parameters()}
        n_nets = len(modules)
        total = sum(p.numel() for members in groups[0].values() for p in members) * n_nets
        first = next(modules[0].parameters())
        self.flat, self.gradient = first.new_empty(total).detach(), torch.zeros_like(first.new_empty(total))
        self.sections: list[Section] = []
        start = 0
        for key, members in groups[0].items():
            first_of_section = start
            for i, parameter in enumerate(members):
                end = start + n_nets * parameter.numel()
                values, gradient = (t[start:end].view(n_nets, -1) for t in (self.flat, self.gradient))
                for k in range(n_nets):
                    place(groups[k][key][i], values[k], gradient[k])
                stacked = nn.Parameter(values.view(n_nets, *parameter.shape))
                stacked.grad = gradient.view(n_nets, *parameter.shape)
                self.parameters[names[id(parameter)]] = stacked
                start = end
            inside = slice(first_of_section, start)
            decay = weight_decay if key[0] else 0.0
            self.sections.append(Section(self.flat[inside], self.gradient[inside], decay))

    def zero_grad(self) -> None:
        self.gradient.zero_()

    def step(self, *, factor: float, clip_norm: float | None) -> None:
        """Clip each net's gradient, then update all at ``lr * factor``."""
        if clip_norm is not None:
            self.clip(clip_norm)
        for section in self.sections:
            section.update(self.lr * factor, None)

    def clip(self, clip_norm: float) -> None:
        gradients = [
            p.grad.view(len(self.modules), -1) for p in self.parameters.values() if p.grad is not None
        ]
        norms = torch.stack([torch.linalg.vector_norm(values, dim=1) for values in gradients])
        scale = (torch.linalg.vector_norm(norms, dim=0) + 1e-6) / clip_norm
        if scale.device.type == "cpu" and float(scale.max()) <= 1:
            return
        scale.clamp_(min=1.0)
        for values in gradients:
            values.div_(scale[:, None])

    def release(self) -> None:
        """Give every module's parameters their own memory again."""
        for module in self.modules:
            for parameter in module.parameters():
                parameter.data = parameter.data.clone()
                parameter.grad = None


def place(parameter: nn.Parameter, values: Tensor, gradient: Tensor) -> None:
    """Move a parameter and its gradient into given memory."""
    values.copy_(parameter.detach().reshape(-1))
    parameter.data = values.view(parameter.shape)
    parameter.grad = gradient.view(parameter.shape)


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
        optimizer = BatchedAdamW(self.modules, lr=options.lr, weight_decay=options.weight_decay)
        seeds = [derive_seed(fold.seed, "train") for fold in self.folds]
        orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        stacked = BatchedMLP(self.modules, optimizer, [torch.Generator().manual_seed(seed) for seed in seeds])
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

    def backward(self, stacked: BatchedMLP, batch: Sequence[Tensor]) -> Tensor:
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

    def backward_alone(self, stacked: BatchedMLP, k: int, rows: Tensor) -> Tensor:
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
