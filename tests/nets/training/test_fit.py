"""fit_net: the built-in net, users' nets, weights, early stopping, bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, NaNLossError, TapError, UsageError
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("no", "yes"))
THREE = Task("multiclass", ("a", "b", "c"))
REGRESSION = Task("regression")
QUICK = TrainOptions(epochs=25, batch_size=32, lr=1e-2)


def make_data(n_rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, codes, and three classes that both decide."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(n_rows, 4)).astype(np.float32)
    codes = rng.integers(0, 3, size=(n_rows, 1))
    return numeric, codes, ((numeric[:, 0] > 0).astype(np.int64) + (codes[:, 0] == 2)).astype(np.int64)


class Plain(nn.Module):
    """A user's net: one float tensor, an output as `kind` says."""

    def __init__(self, n_features: int, n_outputs: int, kind: str = "logits", width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(inplace=True))
        self.head = nn.Linear(width, n_outputs)
        ends = {"logits": nn.Identity(), "proba": nn.Softmax(1), "log_proba": nn.LogSoftmax(1)}
        self.end = ends[kind]

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.head(self.body(x)))


class OneOutput(nn.Module):
    def __init__(self, n_features: int, sigmoid: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, 1)
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        score = self.linear(x)
        return (torch.sigmoid(score) if self.sigmoid else score)[:, 0]


def watched() -> tuple[list[Tensor], type[Plain]]:
    """Return a list of the last column of every training batch, and the net that fills it."""
    seen: list[Tensor] = []

    class Spy(Plain):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x[:, -1].clone())
            return super().forward(x)

    return seen, Spy


def fit(
    cls: Any, arrays: Any, y: np.ndarray, task: Task, params: dict[str, Any] | None = None, **settings: Any
) -> FittedNet:
    cardinalities = (3,) if getattr(cls, "accepts_categories", False) else ()
    spec = NetSpec(cls, params or {}, arrays[0].shape[1], task.n_outputs, cardinalities)
    loss = "cross_entropy" if task.classes else "mse"
    data = TrainingSet(arrays, y, settings.pop("seed", 0), settings.pop("weight", None))
    given = {"options": QUICK, "metric_loss": loss, **settings}
    return fit_net(spec, data, Training(task=task, **given))


def accuracy(net: FittedNet, arrays: Any, y: np.ndarray) -> float:
    return float((net.predict(arrays).argmax(axis=1) == y).mean())


def test_the_mlp_learns_numbers_and_categories() -> None:
    numeric, codes, y = make_data()
    net = fit(MLP, (numeric, codes), y, THREE)
    new_numeric, new_codes, new_y = make_data(seed=1)
    proba = net.predict((new_numeric, new_codes))
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert accuracy(net, (new_numeric, new_codes), new_y) > 0.9
    assert net.embed((new_numeric, new_codes), ["penultimate"])["penultimate"].shape == (300, 128)


@pytest.mark.parametrize("kind", ["logits", "proba", "log_proba"])
def test_a_net_that_ends_in_softmax_is_trained_as_well_as_one_that_does_not(kind: str) -> None:
    numeric, codes, y = make_data()
    one_hot = np.concatenate([numeric, np.eye(3, dtype=np.float32)[codes[:, 0]]], axis=1)
    net = fit(Plain, (one_hot,), y, THREE, {"kind": kind})
    reference = fit(Plain, (one_hot,), y, THREE, {"kind": "logits"})
    assert net.head.kind == kind
    np.testing.assert_allclose(net.predict((one_hot,)), reference.predict((one_hot,)), atol=0.02)
    assert accuracy(net, (one_hot,), y) > 0.9


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("positive", [0, 1])
def test_one_output_speaks_for_the_positive_class(sigmoid: bool, positive: int) -> None:
    numeric, _, _ = make_data()
    y = (numeric[:, 0] > 0).astype(np.int64)
    task = Task("binary", ("no", "yes"), positive=positive)
    options = QUICK.model_copy(update={"lr": 0.1})
    net = fit(OneOutput, (numeric,), y, task, {"sigmoid": sigmoid}, options=options)
    assert net.head.kind == ("proba" if sigmoid else "logits")
    assert accuracy(net, (numeric,), y) > 0.95
    with torch.no_grad():
        raw = net.module(torch.from_numpy(numeric)).numpy()
    assert (np.corrcoef(raw, net.predict((numeric,))[:, positive])[0, 1]) > 0.5


def test_regression_learns_a_standardised_target_and_gives_the_first_scale_back() -> None:
    numeric, _, _ = make_data(600)
    y = 1e5 + 2e4 * numeric[:, 0] - 1e4 * numeric[:, 1]
    for loss in ("mse", "mae", "huber"):
        net = fit(Plain, (numeric,), y.astype(np.float64), REGRESSION, metric_loss=loss)
        prediction = net.predict((numeric,))
        assert prediction.shape == (600, 1)
        assert np.sqrt(np.mean((prediction[:, 0] - y) ** 2)) < 3e3
    assert net.head.mean == pytest.approx(y.mean())


def test_zero_weights_hide_rows_and_scale_does_not_matter() -> None:
    numeric, _, _ = make_data()
    y = (numeric[:, 0] > 0).astype(np.int64)
    wrong = y.copy()
    wrong[:150] = 1 - wrong[:150]
    weight = np.r_[np.zeros(150), np.ones(150)]
    net = fit(Plain, (numeric,), wrong, BINARY, weight=weight)
    scaled = fit(Plain, (numeric,), wrong, BINARY, weight=weight * 8)
    assert accuracy(net, (numeric,), y) > 0.95
    assert net.state_bytes() == scaled.state_bytes()
    with pytest.raises(UsageError, match="not negative"):
        fit(Plain, (numeric,), y, BINARY, weight=weight - 1)


def test_balanced_classes_lift_the_rare_one() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.1).astype(np.int64)
    x = (rng.normal(size=(600, 2)) + y[:, None]).astype(np.float32)
    plain = fit(Plain, (x,), y, BINARY).predict((x,))[:, 1].mean()
    balanced = fit(Plain, (x,), y, BINARY, options=QUICK.model_copy(update={"class_weight": "balanced"}))
    assert balanced.predict((x,))[:, 1].mean() > plain + 0.1


@pytest.mark.parametrize("task", [THREE, REGRESSION])
def test_bytes_give_the_same_net_back(task: Task) -> None:
    numeric, codes, y = make_data()
    net = fit(MLP, (numeric, codes), y, task, {"hidden": [16, 8]})
    data = net.state_bytes()
    again = FittedNet.from_state(data, MLP, threads=1)
    assert again.predict((numeric, codes)).tobytes() == net.predict((numeric, codes)).tobytes()
    taps = ["penultimate", "blocks.0.0"]
    for key, values in net.embed((numeric, codes), taps).items():
        assert again.embed((numeric, codes), taps)[key].tobytes() == values.tobytes()
    assert again.state_bytes() == data
    assert again.report == net.report
    with pytest.raises(MemberError, match="safetensors"):
        FittedNet.from_state(data[:50], MLP)


def test_same_seed_same_bytes() -> None:
    numeric, codes, y = make_data()
    state = torch.get_rng_state()
    first, again, other = (
        fit(MLP, (numeric, codes), y, THREE, seed=seed).state_bytes() for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert first == again
    assert first != other


def test_tied_weights_are_stored() -> None:
    class Tied(nn.Module):
        def __init__(self, n_features: int) -> None:
            super().__init__()
            self.first = nn.Linear(n_features, n_features)
            self.second = nn.Linear(n_features, n_features)
            self.second.weight = self.first.weight
            self.head = nn.Linear(n_features, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(self.first(x).relu()).relu())

    numeric, _, _ = make_data()
    net = fit(Tied, (numeric,), (numeric[:, 0] > 0).astype(np.int64), BINARY)
    again = FittedNet.from_state(net.state_bytes(), Tied, threads=1)
    assert again.predict((numeric,)).tobytes() == net.predict((numeric,)).tobytes()


@pytest.mark.parametrize("stopping", ["refit", "inner"])
def test_early_stopping_uses_only_the_rows_given(stopping: str) -> None:
    seen, spy = watched()
    numeric, _, y = make_data()
    numeric[:, -1] = np.arange(300) / 300
    inner = (np.arange(0, 240), np.arange(240, 300))
    options = TrainOptions(epochs=30, batch_size=32, lr=1e-2, patience=2, early_stopping=stopping)
    net = fit(spy, (numeric,), y, THREE, options=options, inner=inner)
    rows = {round(float(value) * 300) for value in torch.cat(seen)}
    assert rows == set(range(300) if stopping == "refit" else range(240))
    first_phase = torch.cat(seen)[: 240 * 2]
    assert float(first_phase.max()) < 0.8
    if stopping == "refit":
        assert net.report.epochs == net.report.best_epoch
        assert net.report.validation_losses == ()
    else:
        assert len(net.report.validation_losses) == net.report.epochs


def test_early_stopping_without_an_inner_split_is_an_error() -> None:
    numeric, _, y = make_data()
    with pytest.raises(UsageError, match="inner split"):
        fit(Plain, (numeric,), y, THREE, options=TrainOptions(patience=2))


def noise(n_rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_rows, 6)).astype(np.float32), rng.integers(0, 3, n_rows)


def test_the_number_of_epochs_is_searched_inside_the_rows_given() -> None:
    seen, spy = watched()
    x, y = noise()
    x[:, -1] = np.arange(120) / 120
    inner = (np.arange(0, 90), np.arange(90, 120))
    net = fit(spy, (x,), y, THREE, {"width": 256}, options=TrainOptions(base_lr=0.05), inner=inner)
    rows = [round(float(value) * 120) for value in torch.cat(seen)]
    assert set(rows) == set(range(120))
    assert max(rows[: 90 * 20]) < 90, "the search comes first and never learns from the rows that judge it"
    assert rows.count(119) == net.report.epochs < 60, "random labels are not learnt by heart"
    assert net.report.validation_losses == ()


def test_what_can_be_learnt_is_trained_for_all_epochs() -> None:
    numeric, codes, y = make_data()
    inner = (np.arange(0, 240), np.arange(240, 300))
    net = fit(MLP, (numeric, codes), y, THREE, options=TrainOptions(), inner=inner)
    assert net.report.epochs > 20
    assert accuracy(net, (numeric, codes), y) > 0.97


@pytest.mark.parametrize("given", [{"epochs": 7}, {"early_stopping": "fixed"}])
def test_no_epochs_are_searched_where_their_number_is_given(given: dict[str, Any]) -> None:
    x, y = noise()
    inner = (np.arange(0, 90), np.arange(90, 120))
    net = fit(Plain, (x,), y, THREE, options=TrainOptions(**given), inner=inner)
    assert net.report.epochs == given.get("epochs", 60)
    again = fit(Plain, (x,), y, THREE, options=TrainOptions(**given))
    assert net.state_bytes() == again.state_bytes(), "the inner split changes nothing"


def test_inputs_go_by_name_where_forward_has_the_names() -> None:
    class Named(nn.Module):
        def __init__(self, shapes: dict[str, tuple[int, ...]], n_outputs: int) -> None:
            super().__init__()
            self.left = nn.Linear(shapes["left"][0], n_outputs)
            self.right = nn.Linear(shapes["right"][0], n_outputs)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.left(left) + self.right(right)

    numeric, _, _ = make_data()
    y = (numeric[:, 0] > 0).astype(np.int64)
    spec = NetSpec(Named, {}, 4, 2, shapes={"right": (1,), "left": (3,)}, input_names=("right", "left"))
    net = fit_net(
        spec, TrainingSet((numeric[:, :1], numeric[:, 1:]), y, 0), Training(QUICK, BINARY, "cross_entropy")
    )
    assert accuracy(net, (numeric[:, :1], numeric[:, 1:]), y) > 0.9
    with pytest.raises(TapError, match=r"left.*right|right.*left"):
        net.embed((numeric[:, :1], numeric[:, 1:]), ["penultimate"])


def test_unusable_nets_say_what_to_do() -> None:
    numeric, _, y = make_data()
    with pytest.raises(
        MemberError, match=r"arguments must fit Plain.*got \['colour', 'n_features', 'n_outputs'\]"
    ):
        fit(Plain, (numeric,), y, THREE, {"colour": "red"})
    with pytest.raises(MemberError, match="must return 3 columns for this multiclass task; got 5"):
        fit(Plain, (numeric,), y, THREE, {"n_outputs": 5})
    with pytest.raises(MemberError, match=r"forward of Plain must take \(torch.float32 \(32, 4\)\)"):
        fit(Plain, (numeric,), y, THREE, {"n_features": 7})
    with pytest.raises(NaNLossError, match="look for NaN"):
        fit(Plain, (np.full_like(numeric, np.nan),), y, THREE)
    with pytest.raises(UsageError, match="loss must fit the task"):
        fit(Plain, (numeric,), y, THREE, metric_loss="mse")


def test_pooling_of_the_penultimate_layer_is_the_callers_choice() -> None:
    class Images(nn.Module):
        def __init__(self, n_outputs: int) -> None:
            super().__init__()
            self.body = nn.Conv2d(1, 3, 3)
            self.head = nn.Conv2d(3, n_outputs, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x).relu()).mean(dim=(2, 3))

    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 1, 6, 6)).astype(np.float32)
    y = (images.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    net = fit(Images, (images,), y, BINARY)
    caught = net.embed((images,), {"small": "penultimate", "wide": Tap("penultimate", pool="flatten")})
    assert caught["small"].shape == (40, 3)
    assert caught["wide"].shape == (40, 3 * 16)
