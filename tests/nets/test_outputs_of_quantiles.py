"""What a net's output means where it is quantiles: its loss, and predictions that do not cross."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from stackfeat.errors import UsageError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.outputs import Head, find_head, row_losses
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.quantile import of_quantiles
from stackfeat.tasks.task import Task

TASK = of_quantiles((0.1, 0.5, 0.9))


def test_the_loss_of_rows_is_their_mean_pinball_loss() -> None:
    rng = np.random.default_rng(0)
    output, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    head = find_head("auto", output, output, TASK)
    assert head == Head("value", levels=(0.1, 0.5, 0.9))
    given = (torch.tensor(output, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), 0.0)
    rows = row_losses(head, "pinball", *given)
    columns = zip(TASK.quantiles, output.T, strict=True)
    expected = np.mean([mean_pinball_loss(y, one, alpha=level) for level, one in columns])
    assert rows.shape == (40,) and rows.mean().item() == pytest.approx(expected, rel=1e-5)
    assert row_losses(head, "pinball", *given, "sum").item() == pytest.approx(rows.sum().item(), rel=1e-5)


def test_predictions_are_sorted_on_the_scale_of_the_target() -> None:
    head = Head("value", mean=1.0, scale=2.0, levels=(0.1, 0.5, 0.9))
    said = head.predictions(np.array([[3.0, 1.0, 2.0]], dtype=np.float32))
    np.testing.assert_array_equal(said, [[3.0, 5.0, 7.0]])


def test_a_head_without_quantiles_says_nothing_of_them() -> None:
    assert "levels" not in Head("value").to_json()
    assert Head("value", levels=(0.5,)).to_json()["levels"] == (0.5,)


def test_one_net_learns_all_quantiles_and_is_the_same_when_it_was_stored() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(600, 2)).astype(np.float32)
    y = X[:, 0] + (0.3 + (X[:, 1] > 0)) * rng.normal(size=600)
    codes = np.zeros((600, 0), dtype=np.int64)
    options = TrainOptions(epochs=60, batch_size=64, lr=0.01)
    training = Training(options, TASK, "pinball", threads=1)
    net = fit_net(NetSpec(MLP, {}, 2, 3), TrainingSet((X, codes), y, 3), training)
    said = net.predict((X, codes))
    assert (np.diff(said, axis=1) >= 0).all()
    np.testing.assert_allclose((y[:, None] <= said).mean(axis=0), TASK.quantiles, atol=0.08)
    spread = said[:, 2] - said[:, 0]
    assert spread[X[:, 1] > 0].mean() > 1.5 * spread[X[:, 1] <= 0].mean()
    again = FittedNet.from_state(net.state_bytes(), MLP)
    np.testing.assert_array_equal(again.predict((X, codes)), said)


def test_another_loss_is_refused() -> None:
    training = Training(TrainOptions(loss="mse"), TASK, "pinball")
    with pytest.raises(UsageError, match="the loss must fit the task; got loss='mse' for task='quantile'"):
        _ = training.loss
    assert dict(TrainOptions(loss="pinball").problems("regression"))["loss"].startswith("must be auto or mse")
    assert not list(TrainOptions(loss="pinball").problems("quantile"))
    assert Task("quantile", quantiles=(0.5,)).losses == ("pinball",)
