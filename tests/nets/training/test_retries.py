"""What a training gives up when its loss is not finite: first what nobody asked for, then the learning rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import NaNLossError
from stackfeat.layers.taps import runtime
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.outputs import TrainReport
from stackfeat.nets.training.fit import train_net, ways_of_training
from stackfeat.nets.training.loop import Training
from tests.nets.training.small import TASK, cross_entropy, linear, make_rows, plain_rows, train


class Images(nn.Module):
    """A small convolution that breaks, in training, where `breaks` says so of its input."""

    def __init__(self, breaks: Callable[[Tensor], bool]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        self.breaks = breaks

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x)
        return output * math.nan if self.training and self.breaks(x) else output


def in_bfloat16(_x: Tensor) -> bool:
    return torch.is_autocast_enabled("cpu")


def with_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def few_rows(x: Tensor) -> bool:
    return len(x) < 40


def never(_x: Tensor) -> bool:
    return False


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU be one that computes in bfloat16 by itself, as the CPUs do on which this was seen."""
    monkeypatch.setattr(runtime, "has_amp", lambda _device: True)


def fit_images(breaks: Callable[[Tensor], bool], **options: Any) -> TrainReport:
    return train(Images(breaks), make_rows(128, 3, 4, 4), **{"lr": 0.01, **options})


@pytest.mark.parametrize(
    ("breaks", "given", "tried"),
    [
        (never, {}, []),
        (in_bfloat16, {}, ["amp: off"]),
        (with_channels_last, {}, ["amp: off", "channels_last: off"]),
        (with_channels_last, {"amp": "off"}, ["channels_last: off"]),
        (few_rows, {"batch_size": "auto"}, ["amp: off", "channels_last: off", "batch_size: 64"]),
        (few_rows, {"batch_size": "auto", "amp": "off", "channels_last": "off"}, ["batch_size: 64"]),
    ],
)
@pytest.mark.usefixtures("bfloat16")
def test_what_was_chosen_automatically_is_doubted_before_the_rate(
    breaks: Callable[[Tensor], bool],
    given: dict[str, Any],
    tried: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "stackfeat"):
        report = fit_images(breaks, **given)
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition("; trying ")[2].partition(" (")[0] for text in said] == tried
    assert all(text.startswith("the loss is not finite") for text in said)
    assert report.retries == len(tried)
    assert report.lr == 0.01
    assert all(map(math.isfinite, report.losses))


@pytest.mark.usefixtures("bfloat16")
def test_what_the_user_asked_for_is_not_doubted_and_named_in_the_error() -> None:
    with pytest.raises(
        NaNLossError,
        match=r"at lr=0\.01, and again with channels_last: off, lr: 0\.001, lr: 0\.0001; "
        r"set train\.amp to off",
    ):
        fit_images(in_bfloat16, amp="on")


@pytest.mark.usefixtures("bfloat16")
def test_the_rate_follows_once_the_choices_are_exhausted() -> None:
    rows = make_rows(96, 3, 4, 4)
    training = Training(TrainOptions(base_lr=0.4, epochs=1000), TASK, "cross_entropy")
    changes, ways = zip(*ways_of_training(Images(never), rows, training), strict=True)
    assert changes == ("", "amp: off", "channels_last: off", "batch_size: 64", "lr: 0.01", "lr: 0.001")
    assert [(way.amp, way.channels_last, way.pace.batch_size) for way in ways] == [
        (True, True, 16),
        (False, True, 16),
        (False, False, 16),
        *[(False, False, 64)] * 3,
    ]
    plain = list(
        ways_of_training(linear(), plain_rows(), Training(TrainOptions(batch_size=8), TASK, "cross_entropy"))
    )
    assert [change for change, _ in plain] == ["", *(f"lr: {way.pace.lr:g}" for _, way in plain[1:])]


class BrokenGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, broken: bool) -> Tensor:
        ctx.broken = broken
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * (math.nan if ctx.broken else 1.0), None


@pytest.mark.usefixtures("bfloat16")
def test_a_gradient_that_breaks_in_the_last_step_is_seen_though_every_loss_is_finite() -> None:
    class Late(nn.Module):
        n_steps = 0

        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(48, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.n_steps += self.training
            return self.head(BrokenGradient.apply(self.body(x), self.n_steps == 12).flatten(1))

    net = Late()
    report = train(net, make_rows(96, 3, 4, 4))
    assert report.retries == 1 and len(report.losses) == 2
    assert all(bool(torch.isfinite(values).all()) for values in net.state_dict().values())


@pytest.mark.usefixtures("bfloat16")
def test_a_training_that_gave_up_bfloat16_is_the_one_without_it() -> None:
    """The same start, batches and dropout: nothing of the first attempt is left."""
    broken, plain = Images(in_bfloat16), Images(never)
    for net, options in ((broken, {}), (plain, {"amp": "off"})):
        given = TrainOptions(epochs=2, batch_size=16, lr=0.01, **options)
        train_net(
            net, make_rows(96, 3, 4, 4), Training(given, TASK, "cross_entropy"), loss=cross_entropy, seed=0
        )
    assert all(
        torch.equal(a, b)
        for a, b in zip(broken.state_dict().values(), plain.state_dict().values(), strict=True)
    )
