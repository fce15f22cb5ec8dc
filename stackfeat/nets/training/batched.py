"""Several nets trained at once, as batched matrix products: those of the seeds of a fold, or of all folds.

In:  what `fit_net` takes, with a training set for each net.
Out: the nets that `fit_net` would give one by one, up to the rounding of float32: the same start, the
     same batches, the same dropout.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stackfeat.executors.watching import tell_epoch
from stackfeat.layers.extraction.inputs import is_lazy
from stackfeat.layers.taps.runtime import pinned, use_amp
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions, batch_sizes
from stackfeat.nets.outputs import Head, TrainReport, row_losses
from stackfeat.nets.training.batches import Rows
from stackfeat.nets.training.fit import NetTrainer, TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.training.optimizer import FlatAdamW, rate_factor
from stackfeat.nets.zoo.mlp import MLP, ByteDropout
from stackfeat.seeds import derive_seed

logger = logging.getLogger(__name__)

WIDEST = {"cpu": 128, "cuda": 512}
"""The widest layer, by type of device: the matrix products of wider ones fill the machine alone."""


def fit_nets(spec: NetSpec, sets: Sequence[TrainingSet], training: Training) -> list[FittedNet]:
    """Train a net on each training set, at once where that pays (`batching_pays`), else one by one.

    Snapshots, early stopping and checkpoints are for nets that are trained one by one: those trained at
    once are small.

    Returns
    -------
    list of FittedNet
        In the order of the training sets; a net whose loss stops being finite is trained again alone,
        at lower rates.
    """

    def alone(k: int) -> FittedNet:
        return fit_net(spec, sets[k], training.part(str(k)))

    lazy = any(is_lazy(array) for data in sets for array in data.arrays)
    n_rows = [len(data.y) for data in sets]
    pays = batching_pays(spec, training.options, n_rows, training.place, lazy=lazy)
    searches = any(training.searches_epochs(n) for n in n_rows)
    if training.checkpoint is not None or training.task.has_lists or searches or not pays:
        return [alone(k) for k in range(len(sets))]
    with pinned(0, training.threads, training.place):
        batched = BatchedTraining(spec, sets, training)
        losses = batched.run()
        nets = [batched.fitted(k, losses[k]) for k in range(len(sets))]
    name = type(nets[0].module).__name__
    logger.info("%s: %d nets at once, %d epochs", name, len(sets), batched.pace.epochs)
    return [net if all(map(math.isfinite, net.report.losses)) else alone(k) for k, net in enumerate(nets)]


def batching_pays(
    spec: NetSpec, options: TrainOptions, n_rows: Sequence[int], device: torch.device, *, lazy: bool = False
) -> bool:
    """Say whether nets are trained at once: by configuration, shapes and the type of the device alone.

    Parameters
    ----------
    n_rows : sequence of int
        Training rows of each net; all must come in equally many batches of one size.
    """
    paces = {options.pace(n) for n in n_rows}
    hidden = spec.params.get("hidden", (256, 256, 128))
    return (
        options.folds_at_once == "auto"
        and spec.cls is MLP
        and not lazy
        and len(n_rows) > 1
        and len(paces) == 1
        and min(n_rows) > 1
        and bool(hidden)
        and max(hidden) <= WIDEST.get(device.type, 0)
        and options.stopping == "fixed"
        and options.ema is options.mixup is options.cutmix is None
        and not (use_amp(options.amp, device) and device.type == "cpu")
    )


class BatchedTraining:
    """Nets to train, their rows in shared tensors, and which rows are whose."""

    def __init__(self, spec: NetSpec, sets: Sequence[TrainingSet], training: Training) -> None:
        """Build the nets, each as `fit_net` does."""
        self.options, self.loss, self.device = training.options, training.loss, training.place
        self.pace = self.options.pace(len(sets[0].y))
        self.trainers = [NetTrainer(spec, data, training) for data in sets]
        self.modules: list[MLP] = []
        self.heads: list[Head] = []
        self.owned: list[Tensor] = []
        held: dict[tuple[int, ...], tuple[Rows, int]] = {}
        n_held = 0
        for trainer in self.trainers:
            data, rows = trainer.data, trainer.everything
            module, head = trainer.fresh(rows)
            same = (*(id(array) for array in data.arrays), id(data.y), id(data.weight))
            if same not in held:
                held[same] = (trainer.take(module, rows, head), n_held)
                n_held += len(rows)
            self.owned.append(held[same][1] + torch.arange(len(rows)))
            self.modules.append(cast(MLP, module))
            self.heads.append(head)
        self.rows = concatenate([rows for rows, _ in held.values()])
        seeds = [derive_seed(data.seed, "train") for data in sets]
        self.orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        torch.manual_seed(seeds[0])

    def run(self) -> list[list[float]]:
        """Train all nets; return the losses of each by epoch."""
        options = self.options
        optimizer = BatchedAdamW(self.modules, lr=self.pace.lr, weight_decay=options.weight_decay)
        batched = BatchedMLP(self.modules, optimizer, self.generators)
        plans = [batch_sizes(len(rows), self.pace.batch_size) for rows in self.owned]
        step = 0
        losses: list[list[float]] = [[] for _ in self.modules]
        n_together = sum(len(set(sizes)) == 1 for sizes in zip(*plans, strict=True))
        for module in self.modules:
            module.train()
        try:
            for number in range(self.pace.epochs):
                total = torch.zeros(len(self.modules), device=self.device)
                for batch in self.batches(plans):
                    optimizer.zero_grad()
                    total += self.backward(batched, batch)
                    factor = rate_factor(step, self.pace.n_steps, options.schedule, options.warmup)
                    optimizer.step(factor=factor, clip_norm=options.clip_norm)
                    step += 1
                for blocks in batched.blocks:
                    for block in blocks:
                        block[1].num_batches_tracked += n_together
                for k, value in enumerate(total.tolist()):
                    losses[k].append(value / len(self.owned[k]))
                tell_epoch(number + 1, self.pace.epochs)
        finally:
            optimizer.release()
        return losses

    def batches(self, plans: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield row numbers for each net, batch by batch, in a new order."""
        shuffled = [
            rows[torch.randperm(len(rows), generator=generator)]
            for rows, generator in zip(self.owned, self.orders, strict=True)
        ]
        split = (torch.split(rows, list(plan)) for rows, plan in zip(shuffled, plans, strict=True))
        return zip(*split, strict=True)

    def backward(self, batched: BatchedMLP, batch: Sequence[Tensor]) -> Tensor:
        """Add the gradient of each net's mean loss on its rows; return the sums of the losses."""
        sizes = {len(rows) for rows in batch}
        if len(sizes) > 1:
            return torch.stack([self.backward_alone(k, rows) for k, rows in enumerate(batch)])
        rows = self.rows.take(torch.cat(list(batch)))
        shape = (len(batch), sizes.pop())
        scores = batched(*(values.view(*shape, *values.shape[1:]) for values in rows.tensors))
        sums = self.losses(scores.flatten(0, 1), rows).view(shape).sum(1)
        sums.backward(torch.full_like(sums, 1 / shape[1]))  # type: ignore[no-untyped-call]
        return sums.detach()

    def backward_alone(self, k: int, rows: Tensor) -> Tensor:
        """Do the same for one net: the last batch of an epoch may differ in its size between nets."""
        chosen = self.rows.take(rows)
        torch.set_rng_state(self.generators[k].get_state())
        total = self.losses(self.modules[k](*chosen.tensors), chosen).sum()
        self.generators[k].set_state(torch.get_rng_state())
        (total / len(rows)).backward()  # type: ignore[no-untyped-call]
        return total.detach()

    def losses(self, scores: Tensor, rows: Rows) -> Tensor:
        losses = row_losses(self.heads[0], self.loss, scores, rows.y, self.options.label_smoothing)
        return losses if rows.weight is None else losses * rows.weight

    def fitted(self, k: int, losses: list[float]) -> FittedNet:
        """Return net k as `fit_net` does."""
        report = TrainReport(len(losses), len(losses), tuple(losses), lr=self.pace.lr)
        return self.trainers[k].fitted(self.modules[k], self.heads[k], report)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Put the rows of several nets one behind the other."""
    if len(parts) == 1:
        return parts[0]
    ones = [torch.ones(len(rows), device=rows.y.device) for rows in parts]
    weights = [one if rows.weight is None else rows.weight for rows, one in zip(parts, ones, strict=True)]
    return Rows(
        tuple(torch.cat(columns) for columns in zip(*(rows.tensors for rows in parts), strict=True)),
        torch.cat([rows.y for rows in parts]),
        None if all(rows.weight is None for rows in parts) else torch.cat(weights),
    )


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
            scale, shift = self.parameters[f"blocks.{i}.1.weight"], self.parameters[f"blocks.{i}.1.bias"]
            norms = [blocks[i][1] for blocks in self.blocks]
            x = BatchedBatchNorm.apply(x, scale, shift, norms)  # type: ignore[no-untyped-call]
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

    def drop(self, x: Tensor, dropout: ByteDropout) -> Tensor:
        """Drop what each net would drop alone; on a GPU, by one draw for all."""
        if not dropout.draws_bytes(x):
            return nn.functional.dropout(x, dropout.p)
        words = torch.empty(len(x), (x[0].numel() + 7) // 8, dtype=torch.int64)
        for row, generator in zip(words, self.generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        return dropout.masked(x, words)


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


class BatchedAdamW(FlatAdamW):
    """AdamW over K nets of one shape, each clipped by its own norm.

    Attributes
    ----------
    parameters : dict of str to Parameter
        By name, of shape (K, ...); parameter k is that of module k, in the same memory.
    """

    def __init__(self, modules: Sequence[nn.Module], *, lr: float, weight_decay: float) -> None:
        super().__init__(*modules, lr=lr, weight_decay=weight_decay)
        self.n_nets = len(modules)
        names = {id(parameter): name for name, parameter in modules[0].named_parameters()}
        self.parameters: dict[str, nn.Parameter] = {}
        for buffer in self.buffers:
            for first in buffer.parameters[:: self.n_nets]:
                together = nn.Parameter(self.neighbours(first.detach()))
                together.grad = self.neighbours(cast(Tensor, first.grad))
                self.parameters[names[id(first)]] = together

    def neighbours(self, first: Tensor) -> Tensor:
        """Return the parameters of all nets as one view, from that of the first net."""
        return first.as_strided((self.n_nets, *first.shape), (first.numel(), *first.stride()))

    def step(self, *, factor: float, clip_norm: float | None) -> None:
        """Clip each net's gradient, then update all at ``lr * factor``."""
        if clip_norm is not None:
            self.clip(clip_norm)
        super().step(factor=factor, clip_norm=None)

    def clip(self, clip_norm: float) -> None:
        gradients = [p.grad.view(self.n_nets, -1) for p in self.parameters.values() if p.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(values, dim=1) for values in gradients])
        scale = (torch.linalg.vector_norm(norms, dim=0) + 1e-6) / clip_norm
        if scale.device.type == "cpu" and float(scale.max()) <= 1:
            return
        scale.clamp_(min=1.0)
        for values in gradients:
            values.div_(scale[:, None])
