"""mixup and cutmix: what is mixed, by what share, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import UsageError
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, mix, span
from stackfeat.nets.training.fit import NetSpec, fit_net
from stackfeat.nets.training.loop import TrainingLoop
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task


def images(n_rows: int = 6) -> Rows:
    """Row i is an image of the value i; its target and weight are i too."""
    value = torch.arange(n_rows, dtype=torch.float32)
    return Rows((value[:, None, None, None].expand(n_rows, 2, 10, 8).clone(),), value.long(), value)


def mixed(seed: int = 0, **options: Any) -> tuple[Rows, Tensor, float]:
    torch.manual_seed(seed)
    rows = mix(images(), TrainOptions(**options))
    assert rows.mixed is not None and rows.mixed.weight is not None
    partner = rows.mixed.y
    assert torch.equal(rows.mixed.weight, partner.float())
    assert sorted(partner.tolist()) == list(range(6))
    return rows, partner.float(), rows.mixed.share


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_every_value_by_one_share(seed: int) -> None:
    rows, partner, share = mixed(seed, mixup=0.5)
    expected = share * torch.arange(6) + (1 - share) * partner
    torch.testing.assert_close(rows.tensors[0], expected[:, None, None, None].expand(6, 2, 10, 8))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_a_box_of_the_area_that_the_share_says(seed: int) -> None:
    rows, partner, share = mixed(seed, cutmix=1.0)
    x = rows.tensors[0]
    own = torch.arange(6, dtype=torch.float32)[:, None, None, None]
    other = partner[:, None, None, None]
    assert ((x == own) | (x == other)).all()
    moved = partner != own[:, 0, 0, 0]
    pasted = (x == other)[moved]
    assert (pasted == pasted[:1, :1]).all(), "one place for all rows and channels"
    box = pasted[0, 0]
    assert share == pytest.approx(1 - float(box.float().mean()))
    if box.any():
        assert box[box.any(1)][:, box.any(0)].all(), "the box is a rectangle"


def test_with_both_each_batch_draws_one() -> None:
    def is_blend(seed: int) -> bool:
        x = mixed(seed, mixup=1.0, cutmix=1.0)[0].tensors[0]
        return bool((x != x.round()).any())

    kinds = [is_blend(seed) for seed in range(30)]
    assert 5 < sum(kinds) < 25


def test_without_either_the_batch_is_as_it_was() -> None:
    rows = images()
    state = torch.get_rng_state()
    assert mix(rows, TrainOptions()) is rows
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_is_shared_out_between_both_targets() -> None:
    net, options = nn.Sequential(nn.Flatten(), nn.Linear(160, 6)), TrainOptions(mixup=0.4)
    torch.manual_seed(3)
    rows = mix(images(), options)
    assert rows.mixed is not None and rows.mixed.weight is not None and rows.weight is not None

    def loss(output: Tensor, y: Tensor, smoothing: float, reduction: str) -> Tensor:
        return F.cross_entropy(output, y, reduction=reduction, label_smoothing=smoothing)

    loop = TrainingLoop(net, images(), options, loss, torch.device("cpu"))
    found = loop.loss_sum(rows, 0.0, amp=False)
    output = net(*rows.tensors)
    targets = [
        F.one_hot(y, 6) * w[:, None] for y, w in ((rows.y, rows.weight), (rows.mixed.y, rows.mixed.weight))
    ]
    soft = rows.mixed.share * targets[0] + (1 - rows.mixed.share) * targets[1]
    torch.testing.assert_close(found, -(soft * output.log_softmax(1)).sum())
    parts = [loop.loss_sum(part, 0.0, amp=False) for part in rows.parts(3)]
    torch.testing.assert_close(torch.stack(parts).sum(), found)


def test_a_box_stays_inside_the_side() -> None:
    for middle in np.linspace(0, 0.999, 40):
        for size in np.linspace(0, 1, 40):
            start, end = span(middle, size, 9)
            assert 0 <= start <= end <= 9


def fit(x: np.ndarray, *more: np.ndarray, task: Task, options: TrainOptions) -> Any:
    y = np.arange(len(x)) % 2
    spec = NetSpec(MLP, {"hidden": [4]}, x.shape[1], task.n_outputs, (3,) if more else ())
    loss = "cross_entropy" if task.classes else "mse"
    target = y.astype(np.float64) if loss == "mse" else y
    return fit_net(spec, (x, *more), target, options=options, task=task, metric_loss=loss, seed=0)


def test_what_cannot_be_mixed_is_refused_before_training() -> None:
    x, codes = np.zeros((20, 3), np.float32), np.zeros((20, 1), np.int64)
    binary, empty = Task("binary", ("a", "b")), np.zeros((20, 0), np.int64)
    mixup, cutmix = TrainOptions(epochs=1, mixup=0.2), TrainOptions(epochs=1, cutmix=1.0)
    for options in (mixup, cutmix):
        with pytest.raises(UsageError, match=r"must be used in classification; got (mixup=0.2|cutmix=1) for"):
            fit(x, task=Task("regression"), options=options)
    with pytest.raises(UsageError, match="mixup must have inputs that are numbers; got category codes"):
        fit(x, codes, task=binary, options=mixup)
    with pytest.raises(
        UsageError, match=r"cutmix must have inputs that are images.*got rows of shape \[\(3,\)\]"
    ):
        fit(x, task=binary, options=cutmix)
    assert fit(x, task=binary, options=mixup).report.epochs == 1
    rows = replace(images(), inputs=(torch.zeros(6, 3), torch.zeros(6, 0, dtype=torch.int64)))
    assert mix(rows, mixup).tensors[1].shape == empty[:6].shape
