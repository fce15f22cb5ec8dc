"""A training that is killed goes on where it was, to the bytes of one that is not."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import StoreError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows
from stackfeat.nets.training.fit import TrainingSet, fit_net, train_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.training.snapshots import SECONDS, Clock, Snapshots, snapshot_seconds
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.store import Store
from stackfeat.tasks.task import Task

THREE = Task("multiclass", ("a", "b", "c"))
KEY = "a" * 64
EPOCHS = 6


class Killed(BaseException):
    """Like a signal: nothing catches it."""


class Noisy(nn.Module):
    """Draws from every global generator, and has a buffer that `state_dict` leaves out."""

    calls: Tensor

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, n_outputs)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + float(torch.randn(())) * 0.1  # noqa: NPY002
            x = x * (1 + noise + 0.01 * float(self.calls))
        return self.head(self.body(x))


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "0")


def fit(
    options: TrainOptions,
    snapshots: Snapshots | None = None,
    stop: Callable[[], bool] | None = None,
    **more: Any,
) -> FittedNet:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    spec = NetSpec(more.pop("cls", Noisy), {}, 4, 3)
    inner = None if options.stopping == "fixed" else (np.arange(60), np.arange(60, 90))
    seed = more.pop("seed", 5)
    training = Training(
        options, THREE, "cross_entropy", inner=inner, should_stop=stop, snapshots=snapshots, **more
    )
    return fit_net(spec, TrainingSet((x,), y, seed), training)


def die_after(n_epochs: int) -> Callable[[], bool]:
    seen = []

    def stop() -> bool:
        seen.append(1)
        if len(seen) == n_epochs:
            raise Killed
        return False

    return stop


OPTIONS = {
    "fixed": {},
    "averaged": {"ema": 0.9},
    "mixed": {"mixup": 0.4},
    "stopping": {"patience": 2, "early_stopping": "inner", "ema": 0.8},
    "refit": {"patience": 3, "lr": 0.05},
    "onecycle": {"schedule": "onecycle", "clip_norm": None},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_killed_training_ends_with_the_bytes_of_one_that_is_not(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = TrainOptions(**{"epochs": EPOCHS, "batch_size": 16, "lr": 0.02, **OPTIONS[kind]})
    expected = fit(options).state_bytes()
    n_resumed = 0
    for n_epochs in (1, 2, 4, EPOCHS + 1):
        scratch = Store(tmp_path / str(n_epochs)).scratch(KEY)
        assert scratch is not None
        try:
            net = fit(options, Snapshots(scratch, "net"), die_after(n_epochs))
        except Killed:
            with caplog.at_level(logging.INFO, "stackfeat"):
                net = fit(options, Snapshots(scratch, "net"))
            n_resumed += 1
            assert f"resumed after epoch {min(n_epochs, EPOCHS)}" in caplog.text or n_epochs > 3
        assert net.state_bytes() == expected
    assert n_resumed >= 2


def test_a_training_killed_after_every_epoch_still_ends(tmp_path: Path) -> None:
    options = TrainOptions(epochs=EPOCHS, batch_size=16, patience=2, early_stopping="refit")
    scratch = Store(tmp_path).scratch(KEY)
    assert scratch is not None
    for _ in range(3 * EPOCHS):
        try:
            net = fit(options, Snapshots(scratch, "net"), die_after(1))
        except Killed:
            continue
        break
    assert net.state_bytes() == fit(options).state_bytes()


def test_a_retry_at_a_lower_rate_is_resumed_at_that_rate(tmp_path: Path) -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.register_buffer("start", self.linear.weight.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            moved = (self.linear.weight - self.start).abs().max()
            return self.linear(x) * torch.where(moved > 0.08, math.nan, 1.0)

    options = TrainOptions(epochs=3, batch_size=32, lr=0.1, schedule="constant")
    whole = fit(options, cls=Fragile)
    assert whole.report.retries == 1
    scratch = Store(tmp_path).scratch(KEY)
    assert scratch is not None
    with pytest.raises(Killed):
        fit(options, Snapshots(scratch, "net"), die_after(2), cls=Fragile)
    assert fit(options, Snapshots(scratch, "net"), cls=Fragile).state_bytes() == whole.state_bytes()


@pytest.mark.parametrize("change", [{"lr": 0.001}, {"seed": 6}])
def test_a_snapshot_of_another_training_is_a_warning(
    change: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = TrainOptions(epochs=3, batch_size=16)
    scratch = Store(tmp_path).scratch(KEY)
    assert scratch is not None
    fit(options, Snapshots(scratch, "net"))
    other = options.model_copy(update={key: value for key, value in change.items() if key != "seed"})
    seed = {"seed": change.get("seed", 5)}
    with caplog.at_level(logging.WARNING, "stackfeat"):
        net = fit(other, Snapshots(scratch, "net"), **seed)
    assert "is of another training, the fold starts anew" in caplog.text
    assert net.state_bytes() == fit(other, **seed).state_bytes()


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all"])
def test_bytes_that_are_no_snapshot_are_a_warning(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scratch = Store(tmp_path).scratch(KEY)
    assert scratch is not None
    scratch.write("net.all", damage)
    options = TrainOptions(epochs=2, batch_size=16)
    with caplog.at_level(logging.WARNING, "stackfeat"):
        net = fit(options, Snapshots(scratch, "net"))
    assert "a snapshot is not readable, the fold starts anew" in caplog.text
    assert net.state_bytes() == fit(options).state_bytes()


def test_a_full_disk_costs_the_snapshots_and_not_the_training(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        n_tries = 0

        def read(self, name: str) -> bytes | None:
            return None

        def write(self, name: str, data: bytes) -> None:
            self.n_tries += 1
            raise StoreError("no space")

    full, options = Full(), TrainOptions(epochs=3, batch_size=16)
    with caplog.at_level(logging.WARNING, "stackfeat"):
        net = fit(options, Snapshots(full, "net"))
    assert full.n_tries == 1
    assert "no snapshots of this fold (a killed one starts anew): no space" in caplog.text
    assert net.state_bytes() == fit(options).state_bytes()


def test_a_net_with_state_that_is_no_tensor_is_trained_without_snapshots(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Counting(Noisy):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None:
            assert state == 3

    module, scratch = Counting(4, 3), Store(tmp_path / "store").scratch(KEY)
    assert scratch is not None
    with caplog.at_level(logging.INFO, "stackfeat"):
        report = train_net(
            module,
            Rows((torch.randn(40, 4),), torch.arange(40) % 3),
            Training(TrainOptions(epochs=2), THREE, "cross_entropy", snapshots=Snapshots(scratch, "net")),
            loss=lambda output, y, _, reduction: nn.functional.cross_entropy(output, y, reduction=reduction),
            seed=0,
        )
    assert report.epochs == 2
    assert "Counting keeps state that is no tensor: no snapshots" in caplog.text
    assert not (tmp_path / "store").exists()


def test_small_nets_write_nothing_and_a_wrong_number_of_seconds_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(SECONDS)
    scratch = Store(tmp_path / "store").scratch(KEY)
    assert scratch is not None
    fit(TrainOptions(epochs=3), Snapshots(scratch, "net"), cls=MLP)
    assert not (tmp_path / "store").exists()
    monkeypatch.setenv(SECONDS, "often")
    assert snapshot_seconds() == 10.0
    assert "must be a number of seconds; got 'often'" in caplog.text
    monkeypatch.setenv(SECONDS, "7.5")
    assert snapshot_seconds() == 7.5


def test_snapshots_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("stackfeat.nets.training.snapshots.time.monotonic", lambda: now[0])
    monkeypatch.setenv(SECONDS, "10")
    clock = Clock()
    now[0] = 11.0
    assert clock.is_due()
    now[0] = 15.0
    clock.wrote(11.0)  # four seconds to write: the next one in 80
    now[0] = 15.0 + 79
    assert not clock.is_due()
    now[0] = 15.0 + 81
    assert clock.is_due()
