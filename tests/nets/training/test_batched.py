"""Nets trained at once are those trained one by one, up to rounding."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch

from stackfeat.errors import NaNLossError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batched import batching_pays, fit_nets
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.training.snapshots import Snapshots
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.store import Store
from stackfeat.tasks.task import Task

CPU = torch.device("cpu")
THREE = Task("multiclass", ("a", "b", "c"))
REGRESSION = Task("regression")
OPTIONS = TrainOptions(epochs=3, batch_size=16, lr=0.01, clip_norm=0.3)


def make_spec(task: Task, **params: Any) -> NetSpec:
    return NetSpec(MLP, {"hidden": [8, 4], "dropout": 0.2, **params}, 3, task.n_outputs, (3, 4))


def make_sets(task: Task, sizes: tuple[int, ...], weighted: bool = False) -> list[TrainingSet]:
    """Folds of different rows; the last two sets share theirs and differ in the seed."""
    rng = np.random.default_rng(0)
    sets = []
    for seed, n_rows in enumerate(sizes):
        x = rng.normal(size=(n_rows, 3)).astype(np.float32)
        codes = np.stack([rng.integers(0, 3, n_rows), rng.integers(0, 4, n_rows)], axis=1)
        y = (x[:, 0] > 0).astype(np.int64) + (codes[:, 0] == 1) if task.classes else 50 + 9.0 * x[:, 1]
        sets.append(TrainingSet((x, codes), y, seed, rng.random(n_rows) if weighted else None))
    last = sets[-1]
    return [*sets, TrainingSet(last.arrays, last.y, 99, last.weight)]


def one_by_one(spec: NetSpec, sets: list[TrainingSet], task: Task, options: TrainOptions) -> list[FittedNet]:
    loss: Any = "cross_entropy" if task.classes else "mse"
    return [fit_net(spec, data, Training(options, task, loss)) for data in sets]


def at_once(
    spec: NetSpec, sets: list[TrainingSet], task: Task, options: TrainOptions, **more: Any
) -> list[FittedNet]:
    loss: Any = "cross_entropy" if task.classes else "mse"
    return fit_nets(spec, sets, Training(options, task, loss, **more))


@pytest.mark.parametrize("task", [THREE, REGRESSION], ids=["classes", "values"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(64, 64), (53, 60, 57)], ids=["even", "ragged"])
def test_they_are_the_nets_trained_one_by_one(
    sizes: tuple[int, ...], weighted: bool, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    spec, sets = make_spec(task), make_sets(task, sizes, weighted)
    state = torch.get_rng_state()
    with caplog.at_level(logging.INFO, "stackfeat"):
        found = at_once(spec, sets, task, OPTIONS)
    assert f"{len(sets)} nets at once" in caplog.text
    assert torch.equal(torch.get_rng_state(), state)
    for net, alone, data in zip(found, one_by_one(spec, sets, task, OPTIONS), sets, strict=True):
        assert net.head == alone.head
        assert str(net.penultimate) == str(alone.penultimate)
        assert net.report.losses == pytest.approx(alone.report.losses, rel=1e-4)
        assert (net.report.epochs, net.report.best_epoch, net.report.lr) == (3, 3, 0.01)
        for (name, mine), theirs in zip(
            net.module.state_dict().items(), alone.module.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(
                mine, theirs, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
            )
        np.testing.assert_allclose(net.predict(data.arrays), alone.predict(data.arrays), rtol=1e-3, atol=1e-3)
        for parameter in net.module.parameters():
            assert parameter.untyped_storage().nbytes() == parameter.numel() * 4
            assert parameter.grad is None


def test_the_same_sets_give_the_same_bytes_and_a_stored_net_is_read_back() -> None:
    spec, sets = make_spec(THREE), make_sets(THREE, (53, 60))
    first, again = (at_once(spec, sets, THREE, OPTIONS) for _ in range(2))
    data = [net.state_bytes() for net in first]
    assert data == [net.state_bytes() for net in again]
    assert FittedNet.from_state(data[0], MLP, threads=1).state_bytes() == data[0]


@pytest.mark.parametrize(
    ("options", "spec", "n_rows"),
    [
        ({"folds_at_once": "off"}, {}, (64, 64)),
        ({"patience": 3}, {}, (64, 64)),
        ({"ema": 0.9}, {}, (64, 64)),
        ({"mixup": 0.9}, {}, (64, 64)),
        ({"amp": "on"}, {}, (64, 64)),
        ({}, {"hidden": [8, 129]}, (64, 64)),
        ({}, {"hidden": []}, (64, 64)),
        ({}, {}, (64,)),
        ({}, {}, (64, 90)),
    ],
)
def test_what_is_not_trained_at_once(
    options: dict[str, Any], spec: dict[str, Any], n_rows: tuple[int, ...]
) -> None:
    assert batching_pays(make_spec(THREE), OPTIONS, (64, 64), CPU)
    given = OPTIONS.model_copy(update=options)
    assert not batching_pays(make_spec(THREE, **spec), given, n_rows, CPU)


def test_wider_nets_are_trained_at_once_on_a_gpu() -> None:
    assert batching_pays(make_spec(THREE, hidden=[256]), OPTIONS, (64, 64), torch.device("cuda"))
    assert not batching_pays(make_spec(THREE, hidden=[256]), OPTIONS, (64, 64), CPU)


def test_nets_that_cannot_be_trained_at_once_are_the_same_bytes_as_alone(tmp_path: Any) -> None:
    spec, sets = make_spec(THREE, hidden=[130]), make_sets(THREE, (40,))
    scratch = Store(tmp_path).scratch("a" * 64)
    assert scratch is not None
    found = at_once(spec, sets, THREE, OPTIONS, snapshots=Snapshots(scratch, "net"))
    alone = one_by_one(spec, sets, THREE, OPTIONS)
    assert [net.state_bytes() for net in found] == [net.state_bytes() for net in alone]


def test_one_net_that_fails_does_not_harm_the_others_and_is_tried_again() -> None:
    spec, sets = make_spec(REGRESSION), make_sets(REGRESSION, (64, 64))
    wild = OPTIONS.model_copy(update={"lr": 1e30, "clip_norm": None, "schedule": "constant"})
    with pytest.raises(NaNLossError, match=r"again with lr: 1e\+29, lr: 1e\+28; lower"):
        at_once(spec, sets, REGRESSION, wild)
    hot = [
        TrainingSet(
            (np.where(np.arange(64)[:, None] == 3, np.nan, sets[0].arrays[0]), sets[0].arrays[1]),
            sets[0].y,
            0,
        )
    ]
    with pytest.raises(NaNLossError):
        at_once(spec, [*hot, *sets[1:]], REGRESSION, OPTIONS)
    assert all(
        math.isfinite(loss) for net in at_once(spec, sets, REGRESSION, OPTIONS) for loss in net.report.losses
    )
