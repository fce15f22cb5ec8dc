"""What happens around the steps: averaging, early stopping, mixing, a stop on request."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows
from stackfeat.nets.training.fit import train_net
from stackfeat.nets.training.hooks import Averaging, Validation, training_hooks
from stackfeat.nets.training.loop import Training, TrainingLoop
from stackfeat.nets.training.optimizer import FlatAdamW
from tests.nets.training.small import TASK, assert_close, cross_entropy, linear, make_rows, train, weights


def test_the_average_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, net, plain = make_rows(), linear(), linear()
    seen: list[dict[str, Tensor]] = []
    step = FlatAdamW.step

    def spied(self: FlatAdamW, **given: Any) -> None:
        step(self, **given)
        seen.append({name: values.detach().clone() for name, values in plain.named_parameters()})

    with monkeypatch.context() as patch:
        patch.setattr(FlatAdamW, "step", spied)
        train(plain, rows)
    train(net, rows, ema=0.6)
    averaged = torch.optim.swa_utils.AveragedModel(
        linear(), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.6)
    )
    averaged.n_averaged.fill_(1)  # so that the start counts as the first value
    for number, values in enumerate(seen, start=1):
        decay = min(0.6, (1 + number) / (10 + number))
        averaged.multi_avg_fn = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
        plain.load_state_dict(values)
        averaged.update_parameters(plain)
    assert_close(net, averaged.module)
    assert not torch.allclose(weights(net)[0], weights(plain)[0], atol=1e-4)


def test_averaged_weights_are_validated_and_kept_and_statistics_are_averaged_too() -> None:
    rows, validation = make_rows(), make_rows(32)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    options = TrainOptions(epochs=3, batch_size=16, lr=0.02, ema=0.95, patience=3)
    report = train_net(
        net, rows, Training(options, TASK, "cross_entropy"), loss=cross_entropy, seed=0, validation=validation
    )
    net.eval()
    with torch.no_grad():
        loss = float(F.cross_entropy(net(*validation.tensors), validation.y))
    assert loss == pytest.approx(min(report.validation_losses), rel=1e-5)
    raw = copy.deepcopy(net)
    train_net(
        raw,
        rows,
        Training(TrainOptions(epochs=1, lr=0.02), TASK, "cross_entropy"),
        loss=cross_entropy,
        seed=0,
    )
    averaged = copy.deepcopy(net)
    train_net(
        averaged,
        rows,
        Training(TrainOptions(epochs=1, lr=0.02, ema=0.95), TASK, "cross_entropy"),
        loss=cross_entropy,
        seed=0,
    )
    assert not torch.allclose(raw[1].running_mean, averaged[1].running_mean)


def test_the_best_epoch_is_kept_and_patience_ends_training() -> None:
    rows, validation = make_rows(40), make_rows(200)
    flipped = Rows(validation.inputs, 1 - validation.y)  # learning makes this loss worse
    net = linear()
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
        linear(),
        make_rows(),
        Training(TrainOptions(epochs=50), TASK, "cross_entropy", should_stop=lambda: True),
        loss=cross_entropy,
        seed=0,
    )
    assert (report.epochs, report.stopped) == (1, True)


def loop_with(*hooks: Any, **options: Any) -> TrainingLoop:
    training = Training(TrainOptions(**{"epochs": 4, "batch_size": 16, **options}), TASK, "cross_entropy")
    return TrainingLoop(linear(), make_rows(), training, cross_entropy, hooks=hooks)


def test_the_average_is_in_the_net_for_as_long_as_it_is_applied() -> None:
    averaging = Averaging(0.9)
    loop = loop_with(averaging)
    start = weights(loop.module)
    with torch.no_grad():
        for values in loop.module.parameters():
            values.add_(1.0)
    moved = weights(loop.module)
    with pytest.raises(KeyboardInterrupt), averaging.applied():
        assert all(torch.equal(a, b) for a, b in zip(weights(loop.module), start, strict=True))
        raise KeyboardInterrupt
    assert all(torch.equal(a, b) for a, b in zip(weights(loop.module), moved, strict=True))


def test_an_average_that_is_taken_on_is_the_one_that_was_left() -> None:
    averaging, resumed = Averaging(0.9), Averaging(0.9)
    loop = loop_with(averaging)
    loop.run()
    state = {name: values.clone() for name, values in averaging.state(loop).items()}
    other = loop_with(resumed)
    resumed.load_state(other, state)
    for name, values in resumed.state(other).items():
        assert torch.equal(values, state[name])
    with resumed.applied():
        pass
    assert all(torch.equal(resumed.state(other)[name], values) for name, values in state.items())


def follow(validation: Validation, loop: TrainingLoop, *losses: float) -> list[bool]:
    """Let epochs end with these validation losses; return after which of them training is over."""
    waiting, over = list(losses), []
    loop.validate = lambda rows: waiting.pop(0)  # type: ignore[method-assign]
    for number in range(len(losses)):
        with torch.no_grad():
            loop.module[0].bias.fill_(number + 1)
        loop.progress.losses.append(1.0)
        validation.on_epoch_end(loop)
        over.append(validation.is_over(loop))
    return over


def test_patience_counts_epochs_since_the_best_and_an_equal_loss_is_no_better() -> None:
    validation = Validation(make_rows(8), 2, None)
    loop = loop_with(validation)
    assert follow(validation, loop, 0.5, 0.6, 0.4, 0.4, 0.9) == [False, False, False, False, True]
    assert loop.progress.best_epoch == 3
    assert loop.progress.validation_losses == [0.5, 0.6, 0.4, 0.4, 0.9]
    validation.on_train_end(loop)
    assert (loop.module[0].bias == 3).all(), "the weights of the third epoch"


def test_without_patience_training_goes_on_and_the_best_is_kept_nevertheless() -> None:
    validation = Validation(make_rows(8), None, None)
    loop = loop_with(validation)
    assert follow(validation, loop, 0.1, 0.5, 0.6, 0.7) == [False] * 4
    validation.on_train_end(loop)
    assert (loop.module[0].bias == 1).all()


def test_a_validation_loss_that_is_not_a_number_is_worse_than_any_other() -> None:
    rows = make_rows(8)
    validation = Validation(Rows((rows.tensors[0] * float("nan"),), rows.y), 1, None)
    loop = loop_with(validation)
    loop.progress.losses.append(1.0)
    validation.on_epoch_end(loop)
    assert loop.progress.validation_losses == [math.inf]
    assert loop.progress.best_epoch == 1, "until there is a better one"
    assert follow(validation, loop, 0.5) == [False]
    assert loop.progress.best_epoch == 2


def test_a_training_resumed_after_its_best_epoch_ends_with_its_weights() -> None:
    validation = Validation(make_rows(8), 2, None)
    loop = loop_with(validation)
    follow(validation, loop, 0.2, 0.5)
    state = {name: values.clone() for name, values in validation.state(loop).items()}
    resumed = Validation(make_rows(8), 2, None)
    other = loop_with(resumed)
    assert dict(resumed.state(other)) == {}
    other.progress.best_epoch, other.progress.losses = 1, [1.0, 1.0, 1.0]
    other.progress.validation_losses = [0.2, 0.5, 0.6]
    resumed.load_state(other, state)
    assert resumed.is_over(other)
    resumed.on_train_end(other)
    assert (other.module[0].bias == 1).all()


def test_a_training_has_the_hooks_that_its_options_ask_for_the_average_before_validation() -> None:
    def names(validation: Rows | None = None, **options: Any) -> list[str]:
        training = Training(TrainOptions(**options), TASK, "cross_entropy")
        return [type(hook).__name__ for hook in training_hooks(training, validation, {})]

    assert names() == []
    assert names(mixup=0.2) == names(cutmix=1.0) == ["Mixing"]
    assert names(make_rows(8), ema=0.9, mixup=0.2) == ["Mixing", "Averaging", "Validation"]
    stopping = Training(TrainOptions(), TASK, "cross_entropy", should_stop=lambda: True)
    assert [type(hook).__name__ for hook in training_hooks(stopping, None, {})] == ["StopOnRequest"]
