"""The flat optimizer against torch's own, and the schedules of its rate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError
from stackfeat.nets.training.optimizer import FlatAdamW, excess, rate_factor
from tests.nets.training.small import cross_entropy, plain_rows


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
    rows = plain_rows()
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


def test_weight_decay_spares_norms_biases_and_embeddings() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.linear = nn.Embedding(3, 4), nn.Linear(4, 4)
            self.norm, self.bare = nn.LayerNorm(4), nn.Parameter(torch.ones(4))

        def forward(self, codes: Tensor) -> Tensor:
            return self.norm(self.linear(self.table(codes)) * self.bare)

    net = Net()
    before = {name: values.detach().clone() for name, values in net.named_parameters()}
    optimizer = FlatAdamW(net, lr=0.1, weight_decay=0.5)
    optimizer.zero_grad()
    optimizer.step(factor=1.0, clip_norm=1.0)
    optimizer.release()
    for name, values in net.named_parameters():
        expected = before[name] * (0.95 if name == "linear.weight" else 1)
        torch.testing.assert_close(values.detach(), expected)


def test_a_rate_factor_of_a_parameter_multiplies_its_steps_alone() -> None:
    net = nn.Linear(3, 2)
    net.bias.lr_factor = 0.25
    before = {name: values.detach().clone() for name, values in net.named_parameters()}
    optimizer = FlatAdamW(net, lr=0.1, weight_decay=0.0)
    optimizer.zero_grad()
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step(factor=1.0, clip_norm=None)
    # The first step of Adam is lr * sign(gradient), whatever the gradient.
    torch.testing.assert_close(net.weight.detach(), before["weight"] - 0.1)
    torch.testing.assert_close(net.bias.detach(), before["bias"] - 0.025)


def test_frozen_parameters_are_left_out_and_stay_where_they_are() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    before = net[0].weight.detach().clone()
    place = net[0].weight.data_ptr()
    optimizer = FlatAdamW(net, lr=0.1, weight_decay=0.5)
    assert sum(buffer.flat.numel() for buffer in optimizer.buffers) == 3 * 2 + 2
    optimizer.zero_grad()
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step(factor=1.0, clip_norm=1.0)
    assert torch.equal(net[0].weight, before)
    assert net[0].weight.data_ptr() == place


def test_parameters_of_several_formats_are_clipped_by_one_norm() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Parameter(torch.zeros(3))
            self.wide = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    net = Two()
    optimizer = FlatAdamW(net, lr=1.0, weight_decay=0.0)
    assert {buffer.flat.dtype for buffer in optimizer.buffers} == {torch.float32, torch.float64}
    net.narrow.grad[0], net.wide.grad[1] = 3.0, 4.0  # a norm of five together
    scale = excess(optimizer.buffers, 2.5)
    assert scale is not None
    assert float(scale) == pytest.approx(2.0)
    assert excess(optimizer.buffers, 5.1) is None
    optimizer.step(factor=1.0, clip_norm=2.5)
    moments = {values.dtype: values for name, values in optimizer.state().items() if name.endswith("first")}
    # The first moment is (1 - 0.9) times the gradient that was used.
    assert moments[torch.float32].tolist() == pytest.approx([0.15, 0, 0])
    assert moments[torch.float64].tolist() == pytest.approx([0, 0.2])


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_state_taken_on_by_another_optimizer_makes_the_same_further_steps(channels_last: bool) -> None:
    def make() -> tuple[nn.Module, FlatAdamW]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2))
        return net, FlatAdamW(net, lr=0.01, weight_decay=0.1, channels_last=channels_last)

    def step(net: nn.Module, optimizer: FlatAdamW, number: int) -> None:
        x = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step(factor=1.0, clip_norm=1.0)

    net, optimizer = make()
    for number in range(3):
        step(net, optimizer, number)
    weights = {name: values.clone() for name, values in net.state_dict().items()}
    state = {name: values.clone() for name, values in optimizer.state().items()}
    step(net, optimizer, 3)
    other, resumed = make()
    other.load_state_dict(weights)
    resumed.load_state(state)
    step(other, resumed, 3)
    for mine, theirs in zip(other.parameters(), net.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_nets_of_one_shape_share_a_buffer_and_are_trained_as_each_alone() -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    together, alone = [make(0), make(1)], [make(0), make(1)]
    joint = FlatAdamW(*together, lr=0.05, weight_decay=0.1)
    single = [FlatAdamW(net, lr=0.05, weight_decay=0.1) for net in alone]
    assert together[1][0].weight.data_ptr() == together[0][0].weight.data_ptr() + 4 * 3 * 4
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    for optimizers, nets in (([joint], together), (single, alone)):
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.zero_grad()
            for net in nets:
                net(x).square().sum().backward()
            for optimizer in optimizers:
                optimizer.step(factor=1.0, clip_norm=None)
    for joined, own in zip(together, alone, strict=True):
        for mine, theirs in zip(joined.parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_net_without_anything_to_train_is_refused_by_name() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(
        MemberError, match=r"trainable parameters; got none in Linear; set requires_grad or use an estimator"
    ):
        FlatAdamW(frozen, lr=0.1, weight_decay=0.0)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warmup_rises_in_equal_steps_and_never_starts_at_zero(schedule: str) -> None:
    rates = [rate_factor(step, 40, schedule, warmup=0.25) for step in range(40)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1
    assert max(rates) == 1
