"""Several MLPs of one shape as one net: batched matrix products over all of them.

In:  K modules of class `MLP`, built alike.
Out: a forward pass over (K, n_rows, ...) whose parameters and gradients are those of the modules
     themselves, and an AdamW over all of them. A small net spends its time between operations; K
     of them spend it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.nets.mlp import MLP, ByteDropout
from stackfeat.nets.optimizer import Section, parameter_groups


class StackedMLP:
    """The forward pass of K nets at once.

    Parameters
    ----------
    modules : sequence of MLP
        Their parameters become views into the optimizer's buffers; statistics of BatchNorm stay theirs.
    optimizer : StackedAdamW
        Made of the same modules.
    generators : sequence of Generator
        Where each net draws its dropout from, as it would alone.
    """

    def __init__(
        self, modules: Sequence[MLP], optimizer: StackedAdamW, generators: Sequence[torch.Generator]
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
        normalized: Tensor = StackedBatchNorm.apply(x, scale, shift, norms)  # type: ignore[no-untyped-call]
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


class StackedBatchNorm(torch.autograd.Function):
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


class StackedAdamW:
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
