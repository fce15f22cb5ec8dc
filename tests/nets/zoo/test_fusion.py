"""Several inputs in one net: each has an encoder, by name, in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.errors import UsageError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.fusion import Fusion
from stackfeat.tasks.task import Task

TASK = Task("multiclass", ("a", "b", "c", "d"))
ENCODERS: dict[str, Any] = {
    "image": {"net": "cnn", "width": 4, "stages": 1, "augment": {}},
    "text": {"net": "gru", "width": 8, "depth": 1},
    "table": {"net": "vector", "hidden": [16]},
}
hows = pytest.mark.parametrize("how", ["concat", "attention"])


def rows(n: int = 64) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Half of the class is in the text, half in the table; the image is noise."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2, n), rng.integers(0, 2, n)
    text = rng.integers(2, 6, (n, 7))
    lengths = rng.integers(3, 8, n)
    text[:, 1] = first
    table = rng.normal(size=(n, 3)).astype(np.float32)
    table[:, 0] = second * 4 - 2
    image = rng.normal(size=(n, 1, 8, 8)).astype(np.float32)
    return {"image": image, "text": text, "lengths": lengths, "table": table}, (first * 2 + second).astype(
        np.int64
    )


def spec_of(arrays: dict[str, np.ndarray], how: str) -> NetSpec:
    return NetSpec(
        Fusion,
        {"how": how, "encoders": ENCODERS, "width": 8, "hidden": 16, "dropout": 0.0},
        0,
        4,
        shapes={name: values.shape[1:] for name, values in arrays.items() if name != "lengths"},
        vocabulary={"text": 6},
        input_names=tuple(arrays),
        optional=("lengths",),
    )


def fit(arrays: dict[str, np.ndarray], y: np.ndarray, how: str, **train: Any) -> FittedNet:
    options = TrainOptions(**{"epochs": 30, "batch_size": 32, "lr": 1e-2, **train})
    spec = spec_of(arrays, how)
    return fit_net(spec, TrainingSet(list(arrays.values()), y, 0), Training(options, TASK, "cross_entropy"))


@hows
def test_it_overfits_rows_that_need_several_inputs(how: str) -> None:
    arrays, y = rows()
    net = fit(arrays, y, how)
    values = list(arrays.values())
    proba = net.predict(values)
    assert (proba.argmax(1) == y).mean() >= 0.98
    assert str(net.penultimate) == "head:input"
    caught = net.embed(values, ["penultimate", "encoders.text", "encoders.image.stem"])
    widths = {key: values.shape[1] for key, values in caught.items()}
    assert widths == {"penultimate": 16, "encoders.text": 8, "encoders.image.stem": 4}
    np.testing.assert_array_equal(net.predict([v[:1] for v in values]), proba[:1])
    again = FittedNet.from_state(net.state_bytes(), Fusion)
    np.testing.assert_array_equal(again.predict(values), proba)
    assert net.state_bytes() == fit(arrays, y, how).state_bytes()
    for name in ("text", "table"):
        mixed = {key: v[::-1] if key == name else v for key, v in arrays.items()}
        assert (net.predict(list(mixed.values())).argmax(1) == y).mean() < 0.8
    unseen = {**arrays, "text": arrays["text"] * 0 + 99}
    assert np.isfinite(net.predict(list(unseen.values()))).all()


@hows
def test_padding_of_one_input_changes_nothing(how: str) -> None:
    arrays, y = rows()
    net = fit(arrays, y, how, epochs=2)
    text = np.where(np.arange(7) < arrays["lengths"][:, None], arrays["text"], 5)
    other = {**arrays, "text": np.concatenate([text, text[:, :2]], axis=1)}
    np.testing.assert_allclose(
        net.predict(list(other.values())), net.predict(list(arrays.values())), rtol=1e-5
    )


@hows
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_trains_in_mixed_and_double_precision(how: str, dtype: torch.dtype) -> None:
    arrays, y = rows(32)
    is_mixed = dtype == torch.bfloat16
    torch.manual_seed(0)
    net = Fusion(
        4, {k: v.shape[1:] for k, v in arrays.items() if k != "lengths"}, {"text": 6}, 8, 16, how, ENCODERS
    )
    given = {name: torch.from_numpy(values) for name, values in arrays.items()}
    if not is_mixed:
        net = net.double()
        given = {name: v.double() if v.is_floating_point() else v for name, v in given.items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            output = net(**given)
        loss = nn.functional.cross_entropy(output.float() if is_mixed else output, torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_without_encoders_the_shape_decides() -> None:
    net = Fusion(2, {"i": (3, 16, 16), "s": (9, 2), "t": (5,), "v": (4,)}, {"t": 7})
    kinds = [type(encoder).__name__ for encoder in net.encoders.values()]
    assert kinds == ["CNN", "TCN", "TCN", "Sequential"]
    net.eval()
    v, s = torch.randn(3, 4), torch.randn(3, 9, 2)
    i, t = torch.randn(3, 3, 16, 16), torch.zeros(3, 5, dtype=torch.int64)
    lengths = {"s_lengths": torch.tensor([1, 5, 9]), "t_lengths": torch.tensor([5, 5, 1])}
    assert net(v=v, s=s, i=i, t=t, **lengths).shape == (3, 2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"shapes": {}}, "must have inputs by name"),
        ({"shapes": {"a.b": (3,)}}, r"no '\.'; got 'a\.b'"),
        (
            {"encoders": {"imgae": "cnn"}},
            r"encoders must be for inputs \(image\); got 'imgae'.*Did you mean 'image'",
        ),
        (
            {"encoders": {"image": "cnnn"}},
            r"encoder of 'image' must be one of .*; got 'cnnn'.*Did you mean 'cnn'",
        ),
        ({"how": "atention"}, r"got how='atention'.*Did you mean 'attention'"),
        ({"how": "attention", "width": 10}, r"multiple of heads; got width=10"),
        ({"hidden": 0}, r"hidden must be at least 1"),
    ],
)
def test_impossible_nets_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Fusion(**{"n_outputs": 2, "shapes": {"image": (1, 8, 8)}, **params})
