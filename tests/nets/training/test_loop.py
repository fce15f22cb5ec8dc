"""The training loop: against torch's own optimizer, NaN, early stopping, what is put back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import MemberError, NaNLossError, UsageError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, batch_sizes, mix, span
from stackfeat.nets.training.fit import TrainingSet, fit_net, train_net
from stackfeat.nets.training.loop import Training, TrainingLoop
from stackfeat.nets.training.optimizer import FlatAdamW, rate_factor
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task

TASK = Task("binary", ("a", "b"))


def cross_entropy(output: Tensor, y: Tensor, smoothing: float, reduction: str = "none") -> Tensor:
    return F.cross_entropy(output, y, reduction=reduction, label_smoothing=smoothing)


def make_rows(n_rows: int = 65, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, 4, generator=generator)
    return Rows((x,), (x[:, 0] + x[:, 1] > 0).long())


def make_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))


def test_the_flat_optimizer_makes_the_steps_of_adamw() -> None:
    def make_smooth() -> nn.Module:
        # No bias in front of BatchNorm: its gradient is rounding noise, which Adam blows up.
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 2))

    flat_net, net = make_smooth(), make_smooth()
    flat = FlatAdamW(flat_net, lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW(
        [
            {"params": [net[0].weight, net[3].weight], "weight_decay": 0.1},
            {"params": [net[0].bias, net[2].weight, net[2].bias, net[3].bias], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    rows = make_rows()
    for step in range(20):
        torch.manual_seed(step)
        flat.zero_grad()
        cross_entropy(flat_net(*rows.inputs), rows.y, 0.0).mean().backward()
        flat.step(factor=0.5, clip_norm=0.1)
        torch.manual_seed(step)
        adamw.zero_grad()
        cross_entropy(net(*rows.inputs), rows.y, 0.0).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        adamw.param_groups[0]["lr"] = adamw.param_groups[1]["lr"] = 0.005
        adamw.step()
    flat.release()
    for mine, theirs in zip(flat_net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        assert mine.grad is None
        assert mine.untyped_storage().nbytes() == mine.numel() * 4


def test_same_seed_same_bits_and_generators_as_before() -> None:
    def trained(seed: int) -> list[Tensor]:
        net = make_net()
        state = torch.get_rng_state()
        numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
        net[1].eval()
        train_net(
            net,
            make_rows(),
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
        Fragile(), make_rows(), Training(options, TASK, "cross_entropy"), loss=cross_entropy, seed=0
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


def test_the_best_epoch_is_kept_and_patience_ends_training() -> None:
    rows, validation = make_rows(40), make_rows(200, seed=5)
    flipped = Rows(validation.inputs, 1 - validation.y)  # learning makes this loss worse
    net = make_net()
    options = TrainOptions(epochs=50, batch_size=16, lr=0.01, patience=3)
    report = train_net(
        net, rows, Training(options, TASK, "cross_entropy"), loss=cross_entropy, seed=0, validation=flipped
    )
    assert report.epochs == report.best_epoch + 3
    net.eval()
    with torch.no_grad():
        loss = float(F.cross_entropy(net(*flipped.inputs), flipped.y))
    assert loss == pytest.approx(min(report.validation_losses), rel=1e-5)


def test_should_stop_ends_training_after_the_epoch() -> None:
    report = train_net(
        make_net(),
        make_rows(),
        Training(TrainOptions(epochs=50), TASK, "cross_entropy", should_stop=lambda: True),
        loss=cross_entropy,
        seed=0,
    )
    assert (report.epochs, report.stopped) == (1, True)


def test_a_last_batch_of_one_row_joins_its_neighbour() -> None:
    assert batch_sizes(65, 32) == [32, 33]
    assert batch_sizes(66, 32) == [32, 32, 2]
    assert [batch_sizes(n, 32) for n in (1, 2, 31, 32, 33)] == [[1], [2], [31], [32], [33]]


def test_one_row_and_nothing_to_train_are_errors() -> None:
    with pytest.raises(MemberError, match="at least 2 rows; got 1"):
        train_net(
            make_net(),
            make_rows(1),
            Training(TrainOptions(), TASK, "cross_entropy"),
            loss=cross_entropy,
            seed=0,
        )
    with pytest.raises(MemberError, match="trainable parameters"):
        train_net(
            nn.Flatten(),
            make_rows(),
            Training(TrainOptions(), TASK, "cross_entropy"),
            loss=cross_entropy,
            seed=0,
        )


def test_schedules_start_peak_and_end_where_they_should() -> None:
    cosine = [rate_factor(step, 100, "cosine") for step in range(100)]
    assert cosine[0] == 1
    assert cosine[-1] < 1e-3
    assert cosine == sorted(cosine, reverse=True)
    onecycle = [rate_factor(step, 100, "onecycle") for step in range(100)]
    assert onecycle.index(max(onecycle)) == 30
    assert onecycle[0] == pytest.approx(0.04)
    assert [rate_factor(step, 100, "constant", 0.5) < 1 for step in (0, 49, 50, 99)] == [
        True,
        True,
        False,
        False,
    ]


def test_coslog4_falls_to_zero_four_times_each_after_twice_as_many_steps() -> None:
    rates = [rate_factor(step, 1500, "coslog4") for step in range(1500)]
    zeros = [0, 100, 300, 700]
    assert [rates[step] for step in zeros] == pytest.approx([0] * 4, abs=1e-9)
    assert rates[-1] < 1e-4
    # Half-way on a logarithmic scale: 1 + 15 t = 2^(cycle + 1/2).
    peaks = [round((2 ** (cycle + 0.5) - 1) * 100) for cycle in range(4)]
    assert [rates[step] for step in peaks] == pytest.approx([1] * 4, abs=1e-3)


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
    return rows, partner.float(), rows.share


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
    return fit_net(spec, TrainingSet((x, *more), target, 0), Training(options, task, loss))


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
