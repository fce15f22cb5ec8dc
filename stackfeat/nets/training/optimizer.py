"""AdamW over parameters in one buffer, and the schedule of its rate.

In:  a module with trainable parameters.
Out: an optimizer with the same updates as `torch.optim.AdamW`, at the cost of one or two tensors,
     whatever the number of layers: small nets spend most of a step on such overhead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from stackfeat.errors import MemberError

UNDECAYED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.EmbeddingBag)

BETAS = (0.9, 0.999)

EPSILON = 1e-8

FUSED = ("cpu", "cuda")

Group = tuple[float, float, list[nn.Parameter]]
"""Weight decay, factor of the learning rate, and the parameters of both."""


class FlatAdamW:
    """AdamW with weight decay on weight matrices alone, not on norms, biases and embeddings.

    While it lives, the parameters are views into its buffers; `release` gives each one its own
    memory again.

    Parameters
    ----------
    *modules : nn.Module
        One, or several of one shape: their parameters of one name lie next to each other then.
    lr : float
        Peak learning rate.
    weight_decay : float
    channels_last : bool
        Whether the weights of 2-D convolutions lie with the channels last.

    Raises
    ------
    MemberError
        If nothing in them can be trained.
    """

    def __init__(
        self, *modules: nn.Module, lr: float, weight_decay: float, channels_last: bool = False
    ) -> None:
        self.lr = lr
        groups = [parameter_groups(module) for module in modules]
        by_dtype: dict[torch.dtype, list[Group]] = {}
        for key in groups[0]:
            decayed, dtype, lr_factor = key
            same = zip(*(group[key] for group in groups), strict=True)
            members = [parameter for parameters in same for parameter in parameters]
            by_dtype.setdefault(dtype, []).append((weight_decay if decayed else 0.0, lr_factor, members))
        if not by_dtype:
            raise MemberError(
                f"a net must have trainable parameters; got none in {type(modules[0]).__name__}; "
                "set requires_grad or use an estimator member"
            )
        self.buffers = [FlatBuffer(groups, channels_last) for groups in by_dtype.values()]

    def zero_grad(self) -> None:
        for buffer in self.buffers:
            buffer.gradient.zero_()

    def step(self, *, factor: float, clip_norm: float | None) -> None:
        """Clip the gradient's norm over all parameters, then update at ``lr * factor``."""
        scale = None if clip_norm is None else excess(self.buffers, clip_norm)
        for buffer in self.buffers:
            for section in buffer.sections:
                section.update(self.lr * factor, scale)

    def state(self) -> dict[str, Tensor]:
        """Return moments and step counts, by name; `load_state` takes them."""
        return {
            f"{i}.{part}.{name}": values
            for i, buffer in enumerate(self.buffers)
            for part, section in enumerate(buffer.sections)
            for name, values in section.state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, values in self.state().items():
            values.copy_(state[name])

    def release(self) -> None:
        for buffer in self.buffers:
            for parameter in buffer.parameters:
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
                parameter.grad = None


class Section:
    """Neighbouring parameters of one weight decay and one factor of the learning rate, and their moments."""

    def __init__(self, flat: Tensor, gradient: Tensor, weight_decay: float, lr_factor: float = 1.0) -> None:
        self.flat = flat
        self.gradient = gradient
        self.weight_decay = weight_decay
        self.lr_factor = lr_factor
        self.fused = flat.device.type in FUSED
        self.first = torch.zeros_like(flat)
        self.second = torch.zeros_like(flat)
        self.steps = torch.zeros((), dtype=torch.float32, device=flat.device if self.fused else "cpu")

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def update(self, lr: float, scale: Tensor | None) -> None:
        """Make a step; the fused kernel divides the gradient by `scale` on the way."""
        if scale is not None and not self.fused:
            self.gradient.div_(scale)
        adamw(
            [self.flat],
            [self.gradient],
            [self.first],
            [self.second],
            [],
            [self.steps],
            foreach=False,
            fused=self.fused,
            grad_scale=scale if self.fused else None,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr * self.lr_factor,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )


class FlatBuffer:
    """Parameters of one dtype and their gradients, in two tensors; those of one decay side by side."""

    def __init__(self, groups: Sequence[Group], channels_last: bool = False) -> None:
        self.parameters = [parameter for *_, members in groups for parameter in members]
        self.flat = torch.cat([flatten(values.detach(), channels_last) for values in self.parameters])
        self.gradient = torch.zeros_like(self.flat)
        self.sections: list[Section] = []
        start = 0
        for decay, lr_factor, members in groups:
            first = start
            for parameter in members:
                end = start + parameter.numel()
                shape = parameter.shape
                parameter.data = unflatten(self.flat[start:end], shape, channels_last)
                parameter.grad = unflatten(self.gradient[start:end], shape, channels_last)
                start = end
            self.sections.append(
                Section(self.flat[first:start], self.gradient[first:start], decay, lr_factor)
            )


def excess(buffers: Sequence[FlatBuffer], clip_norm: float) -> Tensor | None:
    """Return what the gradient must be divided by so that its norm is at most `clip_norm`.

    None: by nothing, as far as this can be told without waiting.
    """
    norms = [torch.linalg.vector_norm(buffer.gradient).float() for buffer in buffers]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    # 1e-6 as in torch's clip_grad_norm_.
    if norm.device.type == "cpu" and float(norm) + 1e-6 <= clip_norm:
        return None  # Looking at a number costs nothing here; on a GPU it would wait for the step.
    scale: Tensor = norm.add_(1e-6).div_(clip_norm).clamp_(min=1.0)
    return scale


def flatten(values: Tensor, channels_last: bool) -> Tensor:
    if channels_last and values.ndim == 4:
        values = values.permute(0, 2, 3, 1)
    return values.reshape(-1)


def unflatten(flat: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """Undo `flatten`, as a view."""
    if channels_last and len(shape) == 4:
        n_out, n_in, height, width = shape
        return flat.view(n_out, height, width, n_in).permute(0, 3, 1, 2)
    return flat.view(shape)


def parameter_groups(module: nn.Module) -> dict[tuple[bool, torch.dtype, float], list[nn.Parameter]]:
    """Return trainable parameters by (has weight decay, dtype, factor of the rate), in the module's order.

    The factor is the attribute ``lr_factor`` of a parameter, 1 where it has none.
    """
    undecayed = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, UNDECAYED)
        for parameter in part.parameters(recurse=False)
    }
    groups: dict[tuple[bool, torch.dtype, float], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and id(parameter) not in undecayed
            factor = float(getattr(parameter, "lr_factor", 1.0))
            groups.setdefault((decayed, parameter.dtype, factor), []).append(parameter)
    return groups


ONECYCLE_RISE = 0.3

ONECYCLE_START = 0.04

ONECYCLE_END = 1e-3

COSLOG_CYCLES = 4


def rate_factor(step: int, n_steps: int, schedule: str, warmup: float = 0.0) -> float:
    """Return the factor of the learning rate at `step`, counted from 0.

    Parameters
    ----------
    step, n_steps : int
        Position, and length of the whole training.
    schedule : {"cosine", "onecycle", "constant", "coslog4"}
        cosine falls from 1 to nearly 0; onecycle rises over the first 30 % of the steps, then falls;
        coslog4 rises and falls four times, each time over twice as many steps (Holzmüller et al. 2024).
    warmup : float
        Share of the steps over which the factor rises linearly (cosine and constant).

    Examples
    --------
    >>> rate_factor(0, 100, "cosine"), round(rate_factor(50, 100, "cosine"), 2)
    (1.0, 0.5)
    """
    progress = step / n_steps
    if schedule == "onecycle":
        if progress < ONECYCLE_RISE:
            return between(ONECYCLE_START, 1.0, progress / ONECYCLE_RISE)
        return between(1.0, ONECYCLE_END, (progress - ONECYCLE_RISE) / (1 - ONECYCLE_RISE))
    if schedule == "coslog4":
        cycles = math.log2(1 + (2**COSLOG_CYCLES - 1) * progress)
        return (1 - math.cos(2 * math.pi * cycles)) / 2
    if progress < warmup:
        return (step + 1) / (warmup * n_steps + 1)
    if schedule == "constant":
        return 1.0
    return between(1.0, 0.0, (progress - warmup) / (1 - warmup))


def between(start: float, end: float, progress: float) -> float:
    """Follow half a cosine from `start` to `end` while `progress` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
