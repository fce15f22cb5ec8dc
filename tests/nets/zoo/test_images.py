"""Nets for images: the points that every net must pass, and augmentation in training only."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.errors import ConfigError, MissingExtraError, UsageError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo import images
from stackfeat.nets.zoo.images import CNN, Augment
from stackfeat.registry.names import ESTIMATORS, NETS, in_family
from stackfeat.registry.resolve import check_name, is_user_code, resolve
from stackfeat.tasks.task import Task

TASK = Task("multiclass", ("a", "b", "c"))
SMALL: dict[str, Any] = {"width": 8, "stages": 2, "augment": {}}


def rows(n: int = 64, channels: int = 1, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Noise with rows, columns or a grid of bright pixels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, channels, side, side)).astype(np.float32)
    across, down = np.arange(side) // 2 % 2, (np.arange(side) // 2 % 2)[:, None]
    patterns = [np.broadcast_to(across, (side, side)), np.broadcast_to(down, (side, side)), across ^ down]
    x += np.stack(patterns)[y][:, None] * 2
    return x, y.astype(np.int64)


def fit(
    x: np.ndarray, y: np.ndarray, task: Task = TASK, seed: int = 0, params: Any = SMALL, **train: Any
) -> FittedNet:
    spec = NetSpec(CNN, params, 0, task.n_outputs, shapes={"image": x.shape[1:]}, input_names=("image",))
    options = TrainOptions(**{"epochs": 12, "batch_size": 32, "lr": 5e-3, **train})
    loss: Any = "cross_entropy" if task.classes else "mse"
    return fit_net(spec, TrainingSet([x], y, seed), Training(options, task, loss))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (28, 28), (40, 33), (64, 64), (8, 9)])
def test_any_small_image_fits(channels: int, height: int, width: int) -> None:
    net = CNN(5, {"x": (channels, height, width)}, width=4).eval()
    assert net(torch.randn(3, channels, height, width)).shape == (3, 5)
    assert net(torch.randn(1, channels, height, width)).shape == (1, 5)


def test_it_overfits_a_few_rows_the_same_way_twice_and_its_layers_are_read() -> None:
    x, y = rows()
    net = fit(x, y)
    proba = net.predict([x])
    assert (proba.argmax(1) == y).mean() >= 0.98
    assert net.state_bytes() == fit(x, y).state_bytes()
    assert net.state_bytes() != fit(x, y, seed=1).state_bytes()
    assert str(net.penultimate) == "head:input"
    caught = net.embed([x], ["penultimate", "stages.0", "stem"])
    assert caught["penultimate"].shape == (64, 16)
    assert caught["stages.0"].shape == (64, 8) and caught["stem"].shape == (64, 8)
    np.testing.assert_array_equal(net.predict([x[:1]]), proba[:1])
    np.testing.assert_array_equal(net.predict([x[::-1]]), proba[::-1])
    again = FittedNet.from_state(net.state_bytes(), CNN)
    np.testing.assert_array_equal(again.predict([x]), proba)


def test_it_learns_values() -> None:
    x, y = rows()
    net = fit(x, y * 30.0 + 100, Task("regression"), epochs=25)
    assert np.corrcoef(net.predict([x])[:, 0], y)[0, 1] > 0.97


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_trains_in_mixed_and_double_precision(dtype: torch.dtype) -> None:
    x, y = (torch.from_numpy(values) for values in rows(32))
    torch.manual_seed(0)
    net = CNN(3, {"x": (1, 16, 16)}, width=8, stages=2, augment={"rotation": 10, "cutout": 0.2, "crop": 0.1})
    is_mixed = dtype == torch.bfloat16
    net, x = (net, x) if is_mixed else (net.double(), x.double())
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            loss = nn.functional.cross_entropy(net(x).float() if is_mixed else net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_augmentation_is_for_training_alone_and_seeded() -> None:
    x = torch.randn(16, 3, 20, 24)
    layer = Augment(flip=True, crop=0.2, rotation=20, cutout=0.3)
    assert layer.eval()(x) is x
    layer.train()
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert first.shape == x.shape and not torch.equal(layer(x), first)


def test_each_change_does_what_its_name_says() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 2, 10, 12)
    flipped = Augment(flip=True)(x)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    assert 60 < sum(mirrored) < 140 and sum(mirrored) + sum(kept) == 200
    # Shifted images are windows of the image with its edges repeated, all shifts up to 20 % occur.
    shifted = Augment(crop=0.2)(x)
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    seen = set()
    for a, b in zip(shifted, padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if torch.equal(a, b[:, i : i + 10, j : j + 12])]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25
    covered = (Augment(cutout=0.5)(torch.ones(500, 1, 20, 20)) == 0).float()
    assert 0.12 < float(covered.mean()) < 0.25 and float(covered.flatten(1).sum(1).max()) <= 100
    wheel = torch.zeros(50, 1, 21, 21)
    wheel[:, :, 10, :] = 1.0
    turned = Augment(rotation=90)(wheel)
    assert torch.allclose(turned[:, 0, 10, 10], torch.ones(50), atol=1e-4)
    assert (
        float((turned - wheel).abs().flatten(1).sum(1).min())
        < 20
        < float((turned - wheel).abs().flatten(1).sum(1).max())
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CNN(2, {"a": (1, 8, 8), "b": (3,)}), "one image; got the inputs a, b.*fusion"),
        (lambda: CNN(2, {"a": (9, 3)}), r"got a with rows of shape \(9, 3\)"),
        (lambda: CNN(2, {"a": (1, 4, 4)}), "at least 8 x 8"),
        (lambda: CNN(2, {"a": (1, 8, 8)}, width=0), "got width=0"),
        (lambda: CNN(2, {"a": (1, 8, 8)}, augment={"rotate": 3}), "got 'rotate'.*Did you mean 'rotation'"),
        (lambda: CNN(2, {"a": (1, 8, 8)}, augment={"crop": 3}), "crop must be from 0 to 0.5; got crop=3"),
    ],
)
def test_impossible_nets_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_models_of_libraries_are_named_without_trust_and_missing_ones_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stackfeat.registry import names as families

    assert not is_user_code("timm:resnet18", NETS)
    assert not in_family("timm:resnet18", ESTIMATORS) and not in_family("timm:", NETS)
    monkeypatch.setattr(families, "find_module", lambda name, folder: None)
    with pytest.raises(
        MissingExtraError, match=r"needs timm and torchvision, which are not.*stackfeat\[vision\]"
    ):
        check_name("timm:resnet18", NETS, "net")
    with pytest.raises(MissingExtraError, match=r"needs torchvision, which is not"):
        resolve("torchvision:resnet18", NETS, "net")


def test_a_torchvision_for_another_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(images.importlib, "import_module", broken)
    with pytest.raises(MissingExtraError, match=r"nms does not exist.*built for another torch.*index-url"):
        images.timm_net("resnet18")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torchvision, so that names and arguments are tested where it is not installed."""
    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")

    class Made(nn.Module):
        def __init__(self, num_classes: int, extra: int = 0) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, num_classes)
            self.extra = extra

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.head(self.conv(x).mean((2, 3)))
            return scores

    models.list_models = lambda module=None: ["resnet18", "vgg11"]  # type: ignore[attr-defined]
    models.get_model = lambda name, weights, **params: Made(**params)  # type: ignore[attr-defined]
    package.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def test_a_model_is_built_with_its_outputs_and_params(library: None) -> None:
    build = images.torchvision_net("resnet18")
    spec = NetSpec(build, {"extra": 3}, 0, 7, shapes={"x": (3, 16, 16)}, input_names=("x",))
    module: Any = spec.build()
    assert module(torch.randn(2, 3, 16, 16)).shape == (2, 7) and module.extra == 3
    with pytest.raises(ConfigError, match=r"no model 'resnet81'. Did you mean 'torchvision:resnet18'"):
        images.torchvision_net("resnet81")
    with pytest.raises(UsageError, match=r"3 channels; got 1"):
        build(n_outputs=2, shapes={"x": (1, 16, 16)})
    with pytest.raises(UsageError, match=r"nothing is downloaded in a run; got params pretrained=True"):
        build(n_outputs=2, shapes={"x": (3, 16, 16)}, pretrained=True)


@pytest.mark.slow
def test_a_model_of_timm_is_trained_as_any_other() -> None:
    try:
        build: Any = resolve("timm:resnet10t", NETS, "net")
    except MissingExtraError as error:
        pytest.skip(str(error))
    x, y = rows(32, 3, 32)
    spec = NetSpec(build, {}, 0, 3, shapes={"x": x.shape[1:]}, input_names=("x",))
    net = fit_net(spec, TrainingSet([x], y, 0), Training(TrainOptions(epochs=2), TASK, "cross_entropy"))
    assert net.predict([x]).shape == (32, 3) and net.penultimate is not None
