"""The nets of the posts this grew from: two lines each, against hooks written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from torch import Tensor, nn

import stackfeat as sf


def by_hand(net: nn.Module, layers: list[nn.Module], *inputs: Any, inputs_of: bool = False) -> list[Tensor]:
    """What hooks as in the posts give, cloned."""
    seen: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _m, args: seen.append(args[0].clone()))
        if inputs_of
        else layer.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
        for layer in layers
    ]
    with torch.no_grad():
        net(*inputs)
    for handle in handles:
        handle.remove()
    return seen


def same(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6)


class BatchNormMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((20, 32), (32, 16), (16, 8)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        self.dnn = nn.Sequential(*layers, nn.Linear(8, 3), nn.Softmax(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.dnn(x)


def test_the_batch_norm_mlp_with_softmax() -> None:
    net, x = BatchNormMLP().eval(), torch.randn(7, 20)
    with sf.tapped(net, ["dnn.9", "dnn.9:input"]) as caught:
        net(x)
    same(caught["dnn.9"], by_hand(net, [net.dnn[9]], x)[0])
    same(caught["dnn.9:input"], by_hand(net, [net.dnn[9]], x, inputs_of=True)[0])
    assert str(sf.find_penultimate(net, x)) == "dnn.9:input"


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (1, 4, 8, 8, 16)
        for i in range(4):
            block = nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, padding=1),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            setattr(self, f"conv{i + 1}", block)
        self.flatten = nn.Flatten()
        self.linear = nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv4(self.conv3(self.conv2(self.conv1(x))))
        return self.linear(self.flatten(x))


def test_the_cnn_of_four_blocks() -> None:
    net, x = CNN().eval(), torch.randn(3, 1, 16, 16)
    with sf.tapped(net, ["linear.0", "linear.0:input", "conv*"]) as caught:
        net(x)
    same(caught["linear.0"], by_hand(net, [net.linear[0]], x)[0])
    same(caught["linear.0:input"], by_hand(net, [net.linear[0]], x, inputs_of=True)[0])
    assert caught["conv2"].shape == (3, 8, 4, 4)
    assert str(sf.find_penultimate(net, x)) == "linear.2:input"


class Branch(nn.Module):
    def __init__(self, shared: nn.Module, n_features: int) -> None:
        super().__init__()
        self.project = nn.Linear(n_features, 6)
        self.shared = shared

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.project(x)
        return self.shared(hidden), hidden


class Fusion(nn.Module):
    """Two inputs, a sub-network that both branches share, and a tuple as output."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True))
        self.left, self.right = Branch(shared, 3), Branch(shared, 5)
        self.fuse = nn.Sequential(nn.Linear(12, 8), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        fused = self.fuse(torch.cat([self.left(x)[0], self.right(y)[0]], dim=1))
        return self.head(fused), fused


def test_the_nested_fusion_net_with_two_inputs() -> None:
    net, x, y = Fusion().eval(), torch.randn(4, 3), torch.randn(4, 5)
    taps = ["left.shared.0#0", "right.shared.0#1", "left.shared#all", "right[1]", "fuse.0", ":output[1]"]
    (_, fused), caught = sf.Extractor(net, taps)(x, y)
    first, second = by_hand(net, [net.left.shared[0]], x, y)
    same(caught["left.shared.0#0"], first)
    same(caught["right.shared.0#1"], second)
    same(torch.cat(caught["left.shared#all"], dim=1), by_hand(net, [net.fuse[0]], x, y, inputs_of=True)[0])
    same(caught["right[1]"], net.right.project(y).detach())
    same(caught["fuse.0"], by_hand(net, [net.fuse[0]], x, y)[0])
    same(caught[":output[1]"], fused)
    assert str(sf.find_penultimate(net, x, y)) == "head:input"
    assert sf.list_layers(net, x, y)["right.shared.0"].calls == 2


VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


class VGG(nn.Module):
    """VGG-16, with all of its channels or fewer."""

    def __init__(self, divisor: int = 1, hidden: int = 4096, side: int = 7) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in (width // divisor for width in VGG16):
            layers += (
                [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
                if after
                else [nn.MaxPool2d(2)]
            )
            before = after or before
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(before * side**2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, 1000),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@pytest.mark.parametrize(
    ("sizes", "n_pixels", "n_weights"),
    [
        pytest.param((8, 32, 1), 32, 266_704, id="an eighth"),
        pytest.param((1, 4096, 7), 224, 138_357_544, id="true width", marks=pytest.mark.slow),
    ],
)
def test_vgg_16_with_in_place_activations(sizes: tuple[int, int, int], n_pixels: int, n_weights: int) -> None:
    net, x = VGG(*sizes).eval(), torch.randn(2, 3, n_pixels, n_pixels)
    assert sum(weight.numel() for weight in net.parameters()) == n_weights
    with sf.tapped(net, ["features.5", "features.6:input"]) as caught:
        net(x)
    before = by_hand(net, [net.features[5]], x)[0]
    same(caught["features.5"], before)
    assert (caught["features.5"] < 0).any()
    same(caught["features.6:input"], caught["features.5"])
    assert str(sf.find_penultimate(net, x)) == "classifier.6:input"
    features = sf.extract(net, x, ["features.5", "penultimate"])
    torch.testing.assert_close(
        torch.from_numpy(features["features.5"]), before.mean((2, 3)), rtol=1e-4, atol=1e-4
    )
    (last,) = by_hand(net, [net.classifier[6]], x, inputs_of=True)
    torch.testing.assert_close(torch.from_numpy(features["classifier.6:input"]), last, rtol=1e-3, atol=1e-4)


class WithFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        return {"logits": self.head(features), "features": features}


def test_a_net_that_also_returns_its_features() -> None:
    net, x = WithFeatures(), torch.randn(6, 5)
    output, caught = sf.Extractor(net, [":output[features]", sf.find_penultimate(net, x)])(x)
    assert torch.equal(caught[":output[features]"], output["features"])
    assert torch.equal(caught["head:input"], output["features"])


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 8)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def test_the_last_dropouts_of_a_transformer_stacked() -> None:
    net, x = Deep().eval(), torch.randn(4, 6, 16)
    with sf.tapped(net, sf.Tap("encoder.layers.*.dropout2", last=5, combine="stack")) as caught:
        net(x)
    wanted = by_hand(net, [layer.dropout2 for layer in net.encoder.layers[-5:]], x)
    assert caught["encoder.layers.*.dropout2"].shape == (4, 5, 6, 16)
    torch.testing.assert_close(
        caught["encoder.layers.*.dropout2"], torch.stack(wanted, dim=1), rtol=1e-5, atol=1e-5
    )


class ManyToMany(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 4), nn.Linear(3, 4), nn.Embedding(5, 4)
        self.mean, self.spread = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: Tensor, y: Tensor, *, codes: Tensor) -> dict[str, Any]:
        hidden = self.a(x) + self.b(y) + self.c(codes)
        return {"mean": self.mean(hidden), "rest": (self.spread(hidden), hidden)}


def test_several_inputs_and_outputs() -> None:
    net, x, y, codes = ManyToMany(), torch.randn(5, 2), torch.randn(5, 3), torch.randint(0, 5, (5,))
    output, caught = sf.Extractor(net, ["a", "c", "spread:input", ":output[rest][1]", ":input[codes]"])(
        x, y, codes=codes
    )
    same(caught["a"], net.a(x).detach())
    same(caught["c"], net.c(codes).detach())
    same(caught["spread:input"], output["rest"][1])
    same(caught[":output[rest][1]"], output["rest"][1])
    assert torch.equal(caught[":input[codes]"], codes)
    table = sf.list_layers(net, x, y, codes=codes)
    assert table.names == ("a", "b", "c", "mean", "spread")


@pytest.mark.parametrize("make", [BatchNormMLP, CNN], ids=lambda make: make.__name__)
def test_features_are_saved_for_matlab(make: Any, tmp_path: Path) -> None:
    """Two lines; what MATLAB reads are the rows that a hook gives."""
    net, x = make().eval(), torch.randn(6, 20) if make is BatchNormMLP else torch.randn(6, 1, 16, 16)
    layer = "dnn.9" if make is BatchNormMLP else "linear.0"
    features = sf.extract(net, x, [layer, f"{layer}:input"])
    (path,) = sf.save_features(features, tmp_path / "features.mat")
    saved = loadmat(path)
    name = layer.replace(".", "_")
    module = net.get_submodule(layer)
    np.testing.assert_allclose(saved[name], by_hand(net, [module], x)[0], rtol=1e-4, atol=1e-5)
    expected = by_hand(net, [module], x, inputs_of=True)[0]
    np.testing.assert_allclose(saved[f"{name}_input"], expected, rtol=1e-4, atol=1e-5)


def test_maps_and_filters_are_drawn(tmp_path: Path) -> None:
    net, x = CNN().eval(), torch.randn(2, 1, 16, 16)
    maps = sf.plot_feature_maps(sf.extract(net, x, "conv2.0", pool="none"), path=tmp_path / "maps.png")
    filters = sf.plot_filters(net, "conv1.0", path=tmp_path / "filters.png")
    (by_hook,) = by_hand(net, [net.conv2[0]], x)
    pictures = [axis.images[0].get_array() for axis in maps.axes if axis.images]
    assert len(pictures) == 8
    for picture, channel in zip(pictures, by_hook[0], strict=True):
        np.testing.assert_allclose(picture, channel, rtol=1e-4, atol=1e-5)
    kernels = [axis.images[0].get_array() for axis in filters.axes if axis.images]
    for picture, kernel in zip(kernels, net.conv1[0].weight.detach()[:, 0], strict=True):
        np.testing.assert_array_equal(np.asarray(picture).reshape(3, 3), kernel)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("maps.png", "filters.png"))
