"""The nets of the posts this grew from: two lines each, against hooks written by hand."""

from __future__ import annotations

from typing import Any

import torch
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


class SmallVGG(nn.Module):
    """VGG-16 with an eighth of its channels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in (8, 8, 0, 16, 16, 0, 32, 32, 32, 0, 64, 64, 64, 0, 64, 64, 64, 0):
            layers += (
                [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
                if after
                else [nn.MaxPool2d(2)]
            )
            before = after or before
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(32, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def test_vgg_with_in_place_activations() -> None:
    net, x = SmallVGG().eval(), torch.randn(2, 3, 32, 32)
    with sf.tapped(net, ["features.5", "features.6:input"]) as caught:
        net(x)
    same(caught["features.5"], by_hand(net, [net.features[5]], x)[0])
    assert (caught["features.5"] < 0).any()
    same(caught["features.6:input"], caught["features.5"])
    assert str(sf.find_penultimate(net, x)) == "classifier.3:input"


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
