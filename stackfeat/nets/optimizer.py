"""AdamW over parameters laid end to end in one buffer.

In:  a module with trainable parameters.
Out: an optimizer with the same updates as `torch.optim.AdamW`, at the cost of one or two tensors,
     whatever the number of layers: small nets spend most of a step on such overhead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError

UNDECAYED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.EmbeddingBag)


class FlatAdamW:
    """AdamW with weight decay on weight matrices alone, not on norms, biases and embeddings.

    While it lives, the module's parameters are views into its buffers; `release` gives each one
    its own memory again.

    Raises
    ------
    MemberError
        If nothing in the module can be trained.
    """

    def __init__(self, module: nn.Module, *, lr: float, weight_decay: float) -> None:
        self.lr = lr
        self.groups = [FlatGroup(members) for members in parameter_groups(module).values()]
        if not self.groups:
            raise MemberError(
                f"a net must have trainable parameters; got none in {type(module).__name__}; "
                "set requires_grad or use an estimator member"
            )
        described = list(parameter_groups(module))
        decays = [weight_decay if decayed else 0.0 for decayed, _, _ in described]
        self.factors = [factor for _, _, factor in described]
        fused = self.groups[0].flat.device.type in ("cpu", "cuda")
        self.adamw = torch.optim.AdamW(
            [
                {"params": [group.flat], "weight_decay": decay}
                for group, decay in zip(self.groups, decays, strict=True)
            ],
            lr=lr,
            fused=fused,
        )

    def zero_grad(self) -> None:
        for group in self.groups:
            group.gradient.zero_()

    def step(self, *, factor: float, clip_norm: float | None) -> None:
        """Clip the gradient's norm over all parameters, then update at ``lr * factor``."""
        if clip_norm is not None:
            nn.utils.clip_grad_norm_([group.flat for group in self.groups], clip_norm)
        for settings, own in zip(self.adamw.param_groups, self.factors, strict=True):
            settings["lr"] = self.lr * factor * own
        self.adamw.step()

    def release(self) -> None:
        for group in self.groups:
            for parameter in group.parameters:
                parameter.data = parameter.data.clone()
                parameter.grad = None


class FlatGroup:
    """Parameters of one dtype and one weight decay, and their gradients, in two buffers."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.flat = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
        self.gradient: Tensor = torch.zeros_like(self.flat)
        self.flat.grad = self.gradient
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.data = self.flat.data[start:end].view(parameter.shape)
            parameter.grad = self.gradient[start:end].view(parameter.shape)
            start = end


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
