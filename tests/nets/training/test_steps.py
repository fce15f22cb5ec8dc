"""What a step may do beside AdamW: averaged weights, parts of a batch, bfloat16, channels last."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, UsageError
from stackfeat.layers.taps.runtime import use_amp
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.loop import Training, TrainingLoop
from tests.nets.training.small import TASK, assert_close, cross_entropy, linear, make_rows, train

CPU = torch.device("cpu")


def conv(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.GELU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


class Hungry(nn.Module):
    """Memory for so many rows; complains in the words of the CPU, of CUDA, or of Python."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.net, self.most, self.error = linear(), most, error
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise self.error
        if self.training:
            self.sizes.append(len(x))
        return self.net(x)


ERRORS = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: tried 9 bytes"
    ),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:98] data. DefaultCPUAllocator: not enough memory: you tried"
    ),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=range(len(ERRORS)))
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_that_does_not_fit_is_computed_in_parts_with_the_same_effect(
    error: BaseException, weighted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rows, net, whole = make_rows(75, weighted=weighted), Hungry(5, error), linear()
    with caplog.at_level(logging.WARNING, "stackfeat"):
        report = train(net, rows)
    assert train(whole, rows).losses == pytest.approx(report.losses, rel=1e-5)
    assert report.n_parts == 4
    assert set(net.sizes) <= {2, 3, 4, 5}
    assert "out of memory: a batch of 16 rows is now computed in 4 parts" in caplog.text
    assert_close(net.net, whole)


def test_memory_for_less_than_two_rows_is_an_error_and_other_errors_are_not_caught() -> None:
    with pytest.raises(
        MemberError, match=r"a step must fit into memory; got .*allocate.* with 2 rows at once"
    ):
        train(Hungry(1, ERRORS[0]), make_rows())
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(Hungry(1, RuntimeError("shapes do not match")), make_rows())


def test_bfloat16_is_used_where_asked_for_and_the_weights_stay_float32() -> None:
    seen: list[torch.dtype] = []
    net = linear()
    net[0].register_forward_hook(lambda _m, _a, out: seen.append(out.dtype))
    report = train(net, make_rows(), amp="on", epochs=20)
    assert set(seen) == {torch.bfloat16}
    assert {values.dtype for values in net.parameters()} == {torch.float32}
    assert report.losses[-1] < 0.7 * report.losses[0]


@pytest.mark.parametrize("capable", [True, False])
def test_a_cpu_takes_bfloat16_for_images_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, capable: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable})
    assert (use_amp("auto", CPU), use_amp("off", CPU, images=True)) == (False, False)
    assert use_amp("auto", CPU, images=True) is capable
    seen: list[torch.dtype] = []
    net = conv()
    net[0].register_forward_hook(lambda _m, _a, out: seen.append(out.dtype))
    train(net, make_rows(40, 3, 9, 7))
    assert set(seen) == {torch.bfloat16 if capable else torch.float32}


def test_a_gpu_without_bfloat16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(UsageError, match="amp: on must run on a device that computes in bfloat16"):
        use_amp("on", torch.device("cuda"))
    assert not use_amp("auto", torch.device("cuda"))


def test_channels_last_gives_the_same_net_and_leaves_no_trace() -> None:
    rows, last, first = make_rows(40, 3, 9, 7), conv(), conv()
    layouts: list[bool] = []
    last[3].register_forward_hook(
        lambda _m, args, _o: layouts.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    train(last, rows, amp="off")
    train(first, rows, channels_last="off", amp="off")
    assert layouts and all(layouts)
    assert_close(last, first, 1e-4)
    assert all(values.is_contiguous() for values in last.state_dict().values())
    assert all(values.untyped_storage().nbytes() == values.numel() * 4 for values in last.parameters())


def test_an_attempt_steps_once_for_each_batch_of_every_epoch() -> None:
    options = TrainOptions(epochs=3, batch_size=16)
    loop = TrainingLoop(linear(), make_rows(49), Training(options, TASK, "cross_entropy"), cross_entropy)
    loop.order.manual_seed(0)
    loop.run()
    assert loop.progress.step == loop.pace.n_steps == 9, "a last row alone joins its neighbours"


def test_numpy_is_not_drawn_from() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    train(linear(), make_rows(), mixup=0.3)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
