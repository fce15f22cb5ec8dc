"""Training on a GPU; without one, what it decides there is seen on a pretended device."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import stackfeat as sf
from stackfeat import device as kinds
from stackfeat.errors import MemberError, UsageError
from stackfeat.layers.taps.runtime import pick_device
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batched import batching_pays, fit_nets
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.training.snapshots import SECONDS, Snapshots
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.store import Store
from stackfeat.tasks.task import Task
from tests.cuda import on_gpu, pretend_cuda

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
TASK = Task("binary", ("a", "b"))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
OPTIONS = TrainOptions(epochs=4, batch_size=32, lr=0.02)


class Net(nn.Module):
    """Notes how it is run."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, n_outputs)
        self.runs: list[tuple[bool, int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        is_exact = torch.are_deterministic_algorithms_enabled()
        self.runs.append((self.training, len(x), torch.is_autocast_enabled("cuda"), is_exact))
        return self.head(self.body(x))


class Hungry(Net):
    """Runs out of memory, in training, above 8 rows."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(x)


def fit(cls: Any = Net, options: TrainOptions = OPTIONS, device: str = "cuda", **more: Any) -> FittedNet:
    training = Training(options, TASK, "cross_entropy", device=device, **more)
    return fit_net(NetSpec(cls, {}, 4, 2), TrainingSet((X,), Y, 0), training)


def runs_of(net: FittedNet, in_training: bool) -> set[tuple[bool, bool]]:
    module: Any = net.module
    return {run[2:] for run in module.runs if run[0] == in_training}


def test_the_device_is_the_first_gpu_and_is_refused_where_there_is_none(pretended_cuda: list[str]) -> None:
    assert pick_device("auto") == CUDA
    assert pick_device("cuda:0") == torch.device("cuda:0")
    assert pick_device("cpu") == CPU
    assert Training(OPTIONS, TASK, "cross_entropy", device="auto").place == CUDA


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_an_error_before_anything_is_trained() -> None:
    assert pick_device("auto") == CPU
    for name in ("cuda", "cuda:1"):
        with pytest.raises(
            UsageError, match=f"device must exist on this machine; got device='{name}'; use 'cpu'"
        ):
            fit(device=name)


@pytest.mark.parametrize(
    ("shown", "kind"), [(None, "cuda"), ("0", "cuda"), ("1,0", "cuda"), ("", "cpu"), ("-1", "cpu")]
)
def test_a_gpu_that_is_hidden_from_torch_is_none(
    shown: str | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "_auto_kind", lambda: "cuda")
    if shown is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert kinds.device_kind() == kind
    assert kinds.device_kind("cuda:1") == "cuda", "asked for by name it is an error later, not another device"


def test_training_runs_in_bfloat16_and_reading_in_float32(pretended_cuda: list[str]) -> None:
    net = fit()
    assert runs_of(net, True) == {(True, True)}
    assert runs_of(net, False) <= {(False, True), (False, False)}
    assert "to the device" in pretended_cuda
    assert not torch.are_deterministic_algorithms_enabled(), "the setting is put back"


@pytest.mark.parametrize(
    ("amp", "bfloat16", "used"), [("auto", False, False), ("off", True, False), ("on", True, True)]
)
def test_precision_follows_the_option_and_what_the_device_can(
    amp: str, bfloat16: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretend_cuda(monkeypatch, bfloat16=bfloat16):
        net = fit(options=OPTIONS.model_copy(update={"amp": amp}))
        assert {autocast for autocast, _ in runs_of(net, True)} == {used}


def test_bfloat16_is_refused_on_a_device_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pretend_cuda(monkeypatch, bfloat16=False),
        pytest.raises(UsageError, match="computes in bfloat16; got one that does not; use amp: auto"),
    ):
        fit(options=OPTIONS.model_copy(update={"amp": "on"}))


def test_a_batch_that_does_not_fit_is_computed_in_parts(
    pretended_cuda: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Plain(Hungry):
        def __init__(self, n_features: int, n_outputs: int) -> None:
            super().__init__(n_features, n_outputs)
            self.body[2] = nn.Identity()

    class Modest(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return Net.forward(self, x)

    whole, parted = fit(Modest), fit(Plain)
    assert [line for line in caplog.text.splitlines() if "out of memory" in line]
    assert "a batch of 32 rows is now computed in 4 parts" in caplog.text
    assert parted.report.n_parts == 4 and whole.report.n_parts == 1
    assert {n for in_training, n, *_ in parted.module.runs if in_training} == {8}
    assert pretended_cuda.count("empty cache") == 2, "after 32 rows, and after 16"
    for mine, theirs in zip(parted.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_memory_that_is_too_small_for_two_rows_is_an_error(pretended_cuda: list[str]) -> None:
    class Starved(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    with pytest.raises(
        MemberError, match=r"a step must fit into memory; got 'CUDA out of memory\.' with 2 rows"
    ):
        fit(Starved)


@pytest.mark.parametrize(
    ("width", "on_cpu", "on_gpus"), [(128, True, True), (512, False, True), (513, False, False)]
)
def test_wider_nets_are_trained_at_once_on_a_gpu(
    width: int, on_cpu: bool, on_gpus: bool, pretended_cuda: list[str]
) -> None:
    spec = NetSpec(MLP, {"hidden": [width]}, 4, 2)
    assert batching_pays(spec, OPTIONS, [96, 96], CPU) == on_cpu
    assert batching_pays(spec, OPTIONS, [96, 96], CUDA) == on_gpus


def fit_at_once(device: str, width: int = 160, dropout: float = 0.0) -> list[FittedNet]:
    spec = NetSpec(MLP, {"hidden": [width], "dropout": dropout}, 4, 2)
    sets = [TrainingSet((X, np.zeros((96, 0), dtype=np.int64)), Y, seed) for seed in range(3)]
    return fit_nets(
        spec, sets, Training(OPTIONS.model_copy(update={"amp": "off"}), TASK, "cross_entropy", device=device)
    )


def test_nets_of_seeds_trained_at_once_are_those_trained_alone(
    pretended_cuda: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stackfeat"):
        at_once, alone = fit_at_once("cuda"), fit_at_once("cpu")
    assert caplog.text.count("3 nets at once") == 1, "a CPU trains nets of this width one by one"
    for one, other in zip(at_once, alone, strict=True):
        for mine, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
            torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-3, atol=1e-4)


def killed_after(n_epochs: int) -> Callable[[], bool]:
    seen = []

    def stop() -> bool:
        seen.append(1)
        if len(seen) == n_epochs:
            raise KeyboardInterrupt
        return False

    return stop


def check_resume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "0")
    expected = fit().state_bytes()
    scratch = Store(folder).scratch("a" * 64)
    assert scratch is not None
    with pytest.raises(KeyboardInterrupt):
        fit(snapshots=Snapshots(scratch, "net"), should_stop=killed_after(2))
    again = fit(snapshots=Snapshots(scratch, "net"))
    assert again.state_bytes() == expected


def test_a_killed_training_goes_on_to_the_same_bytes(
    pretended_cuda: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "stackfeat"):
        check_resume(tmp_path, monkeypatch)
    assert "resumed after epoch 2 of 4" in caplog.text


def test_a_fitted_net_predicts_through_pinned_copies(pretended_cuda: list[str]) -> None:
    net = fit(options=OPTIONS.model_copy(update={"amp": "off"}))
    placed = replace(net, device=CUDA)
    before = pretended_cuda.count("pin")
    # Matrix products take another path, as they do on a device.
    np.testing.assert_allclose(placed.predict((X,)), replace(net, device=CPU).predict((X,)), atol=1e-6)
    assert pretended_cuda.count("pin") > before


def test_a_net_of_a_gpu_is_read_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pretend_cuda(patch):
        net = fit()
        data = pickle.dumps(replace(net, device=CUDA))
        expected = net.predict((X,))
    again = pickle.loads(data)
    assert again.device == CPU
    assert np.array_equal(again.predict((X,)), expected)


@on_gpu
@pytest.mark.parametrize("amp", ["auto", "off"])
def test_an_estimator_is_trained_on_the_gpu_and_predicts_there(amp: str) -> None:
    net = sf.NetClassifier(Net, epochs=20, lr=0.02, batch_size=16, amp=amp, random_state=0).fit(X, Y)
    (fitted,) = net.fitted_.nets
    assert fitted.device.type == "cuda"
    assert {weight.device.type for weight in fitted.module.parameters()} == {"cuda"}
    assert runs_of(fitted, True) == {(amp == "auto", True)}
    assert net.score(X, Y) > 0.95
    again = sf.NetClassifier(Net, epochs=20, lr=0.02, batch_size=16, amp=amp, random_state=0).fit(X, Y)
    assert np.array_equal(again.predict_proba(X), net.predict_proba(X)), "same seed, same bytes"
    assert np.array_equal(net.predict_proba(X[:3]), net.predict_proba(X)[:3])
    read = pickle.loads(pickle.dumps(net))
    assert np.array_equal(read.predict_proba(X), net.predict_proba(X))
    assert net.embed(X, "body.0")["body.0"].shape == (96, 8)


@on_gpu
def test_nets_are_trained_at_once_on_the_gpu() -> None:
    arrays = (X, np.zeros((96, 0), dtype=np.int64))
    for one, other in zip(fit_at_once("cuda"), fit_at_once("cpu"), strict=True):
        np.testing.assert_allclose(one.predict(arrays), other.predict(arrays), atol=1e-2)


@on_gpu
def test_a_killed_training_on_the_gpu_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_resume(tmp_path, monkeypatch)


@on_gpu
def test_memory_of_the_gpu_that_runs_out_in_training_is_made_up_for_by_parts() -> None:
    class Large(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and len(x) > 8:
                torch.empty(1 << 46, dtype=torch.uint8, device=x.device)
            return super().forward(x)

    net = fit(Large)
    assert net.report.n_parts == 4
    assert {n for in_training, n, *_ in net.module.runs if in_training} == {8}  # type: ignore[attr-defined]


TRAIN_ALONE = """
import sys, numpy as np, stackfeat as sf
x = np.random.default_rng(0).normal(size=(400, 6)).astype("float32")
net = sf.NetClassifier(epochs=5, random_state=0, device="cuda").fit(x, x[:, 0] > 0)
np.save(sys.argv[1], net.predict_proba(x))
"""


@on_gpu
def test_two_processes_on_one_card_give_what_one_alone_does(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", TRAIN_ALONE, str(tmp_path / f"{name}.npy")])

    assert start("alone").wait() == 0
    both = [start("left"), start("right")]
    assert [process.wait() for process in both] == [0, 0]
    alone, left, right = (np.load(tmp_path / f"{name}.npy") for name in ("alone", "left", "right"))
    assert np.array_equal(left, alone) and np.array_equal(right, alone)
