"""The training loop: against torch's own optimizer, NaN, early stopping, what is put back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import MemberError, NaNLossError
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, mix
from stackfeat.nets.training.fit import train_net
from stackfeat.nets.training.loop import Training, TrainingLoop
from stackfeat.tasks.task import Task
from tests.nets.training.small import TASK, cross_entropy, plain_rows


def make_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))


def test_same_seed_same_bits_and_generators_as_before() -> None:
    def trained(seed: int) -> list[Tensor]:
        net = make_net()
        state = torch.get_rng_state()
        numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
        net[1].eval()
        train_net(
            net,
            plain_rows(),
            Training(TrainOptions(epochs=3, batch_size=16), TASK, "cross_entropy"),
            loss=cross_entropy,
            seed=seed,
        )
        assert torch.equal(state, torch.get_rng_state())
        assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002
        assert net.training
        assert not net[1].training
        return [values.detach().clone() for values in net.parameters()]

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_loss_that_is_not_finite_is_tried_again_at_a_tenth_of_the_rate() -> None:
    class Fragile(nn.Module):
        """Breaks as soon as its weight moves by more than 0.05 in total."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)
            self.register_buffer("start", self.linear.weight.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            moved = (self.linear.weight - self.start).abs().max()
            return self.linear(x) * torch.where(moved > 0.05, math.nan, 1.0)

    options = TrainOptions(epochs=2, batch_size=32, lr=0.1, schedule="constant")
    report = train_net(
        Fragile(), plain_rows(), Training(options, TASK, "cross_entropy"), loss=cross_entropy, seed=0
    )
    assert report.retries == 1
    assert report.lr == pytest.approx(0.01)
    assert all(math.isfinite(loss) for loss in report.losses)


def test_a_loss_that_stays_nan_is_an_error_and_leaves_the_first_weights() -> None:
    net = make_net()
    before = {name: values.clone() for name, values in net.state_dict().items()}
    rows = Rows((torch.full((20, 4), math.nan),), torch.zeros(20, dtype=torch.int64))
    with pytest.raises(NaNLossError, match=r"must stay finite; got NaN or infinity at lr=0\.001"):
        train_net(
            net,
            rows,
            Training(TrainOptions(epochs=2, lr=1e-3), TASK, "cross_entropy"),
            loss=cross_entropy,
            seed=0,
        )
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())


def test_one_row_and_nothing_to_train_are_errors() -> None:
    with pytest.raises(MemberError, match="at least 2 rows; got 1"):
        train_net(
            make_net(),
            plain_rows(1),
            Training(TrainOptions(), TASK, "cross_entropy"),
            loss=cross_entropy,
            seed=0,
        )
    with pytest.raises(MemberError, match="trainable parameters"):
        train_net(
            nn.Flatten(),
            plain_rows(),
            Training(TrainOptions(), TASK, "cross_entropy"),
            loss=cross_entropy,
            seed=0,
        )


def images(n_rows: int = 6) -> Rows:
    """Row i is an image of the value i; its target and weight are i too."""
    value = torch.arange(n_rows, dtype=torch.float32)
    return Rows((value[:, None, None, None].expand(n_rows, 2, 10, 8).clone(),), value.long(), value)


def test_the_loss_is_shared_out_between_both_targets() -> None:
    net, options = nn.Sequential(nn.Flatten(), nn.Linear(160, 6)), TrainOptions(mixup=0.4)
    torch.manual_seed(3)
    rows = mix(images(), options)
    assert rows.mixed is not None and rows.mixed.weight is not None and rows.weight is not None

    def loss(output: Tensor, y: Tensor, smoothing: float, reduction: str) -> Tensor:
        return F.cross_entropy(output, y, reduction=reduction, label_smoothing=smoothing)

    six = Task("multiclass", tuple("abcdef"))
    loop = TrainingLoop(net, images(), Training(options, six, "cross_entropy"), loss)
    found = loop.loss_sum(rows, 0.0, amp=False)
    output = net(*rows.tensors)
    targets = [
        F.one_hot(y, 6) * w[:, None] for y, w in ((rows.y, rows.weight), (rows.mixed.y, rows.mixed.weight))
    ]
    soft = rows.share * targets[0] + (1 - rows.share) * targets[1]
    torch.testing.assert_close(found, -(soft * output.log_softmax(1)).sum())
    parts = [loop.loss_sum(part, 0.0, amp=False) for part in rows.parts(3)]
    torch.testing.assert_close(torch.stack(parts).sum(), found)
