"""A small net, rows for it and its training, for tests of what training does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.nets.options import TrainOptions
from stackfeat.nets.outputs import TrainReport
from stackfeat.nets.training.batches import Rows
from stackfeat.nets.training.fit import train_net
from stackfeat.nets.training.loop import Training
from stackfeat.tasks.task import Task

TASK = Task("binary", ("a", "b"))


def cross_entropy(output: Tensor, y: Tensor, smoothing: float, reduction: str = "none") -> Tensor:
    return F.cross_entropy(output.float(), y, reduction=reduction, label_smoothing=smoothing)


def make_rows(n_rows: int = 64, *shape: int, weighted: bool = False) -> Rows:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_rows, *(shape or (4,)), generator=generator)
    weight = torch.rand(n_rows, generator=generator) if weighted else None
    return Rows((x,), (x.flatten(1)[:, :2].sum(1) > 0).long(), weight)


def plain_rows(n_rows: int = 65, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, 4, generator=generator)
    return Rows((x,), (x[:, 0] + x[:, 1] > 0).long())


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(net: nn.Module, rows: Rows, seed: int = 0, **options: Any) -> TrainReport:
    given = {"epochs": 2, "batch_size": 16, "lr": 0.01, **options}
    return train_net(
        net, rows, Training(TrainOptions(**given), TASK, "cross_entropy"), loss=cross_entropy, seed=seed
    )


def weights(net: nn.Module) -> list[Tensor]:
    return [values.detach().clone() for values in net.state_dict().values()]


def assert_close(left: nn.Module, right: nn.Module, tolerance: float = 1e-5) -> None:
    for mine, theirs in zip(weights(left), weights(right), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
