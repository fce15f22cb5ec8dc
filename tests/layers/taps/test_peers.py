"""What users of other packages for reading nets do with them, written with this one.

Every test is a row of the table in docs/layers.md. Where a package can be imported its own result is the oracle;
elsewhere the test says what the package documents, with a hook or the net's own code as oracle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import stackfeat as sf
from tests.optional_packages import is_importable


def needs(package: str) -> None:
    if not is_importable(package):
        pytest.skip(f"needs {package}")


class Net(nn.Module):
    """Layers, a shared activation, a recurrent part, operators and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.relu = nn.Linear(6, 8), nn.Linear(8, 8), nn.ReLU(inplace=True)
        self.lstm, self.head = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)
        self.n_done = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_done = 0
        hidden = self.relu(self.fc1(x))
        hidden = self.relu(self.fc2(hidden) + hidden)
        self.n_done = 1
        states, _ = self.lstm(hidden[:, None])
        return torch.softmax(self.head(states[:, -1]), 1)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def by_hook(layer: nn.Module, net: nn.Module, x: Tensor) -> Any:
    seen = []
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        net(x)
    handle.remove()
    return seen[-1]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    needs("torchvision")
    from torchvision.models import resnet18

    torch.manual_seed(0)
    made: nn.Module = resnet18(weights=None).eval()
    return made


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_torchextractor_extractor(net: Net, x: Tensor) -> None:
    output, features = sf.Extractor(net, ["fc1", "fc2"])(x)
    assert torch.equal(output, net(x))
    assert torch.equal(features["fc2"], by_hook(net.fc2, net, x))
    # There the in-place ReLU behind it overwrites the value.
    assert torch.equal(features["fc1"], net.fc1(x))


def test_torchextractor_collect(net: Net, x: Tensor) -> None:
    with sf.Extractor(net, ["fc2"]) as extractor:
        net(x[:1])
        net(x)
        assert torch.equal(extractor.collect()["fc2"], by_hook(net.fc2, net, x))


def test_torchextractor_list_module_names(net: Net) -> None:
    assert list(sf.list_layers(net).names) == [name for name, _ in net.named_modules() if name]


def test_torchvision_create_feature_extractor(resnet: nn.Module) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = {"layer1.0.add": "sum", "layer1.0.relu_1": "block", "layer3": "maps", "flatten": "features"}
    taps = {"sum": "layer1.0.add()", "block": "layer1.0.relu#1", "maps": "layer3", "features": "flatten()"}
    with torch.no_grad():
        expected = create_feature_extractor(resnet, nodes)(IMAGES)
        _, found = sf.Extractor(resnet, taps)(IMAGES)
    assert set(found) == set(expected)
    # There the in-place ReLU behind the sum overwrites it, if both are asked for.
    for name in ("block", "maps", "features"):
        assert torch.equal(found[name], expected[name]), name
    assert torch.equal(found["sum"].relu(), expected["block"])


def test_torchvision_nodes_of_functions(net: Net, x: Tensor) -> None:
    taps = ["add()", "relu#0", "relu#1", "softmax()", "getitem()#0", "fc2.linear()"]
    with torch.no_grad(), sf.tapped(net, taps) as caught:
        output = net(x)
    first = net.fc1(x).relu()
    assert torch.equal(caught["relu#0"], first)
    assert torch.equal(caught["add()"], net.fc2(first) + first)
    assert torch.equal(caught["relu#1"], (net.fc2(first) + first).relu())
    assert torch.equal(caught["getitem()#0"], caught["relu#1"][:, None])
    assert torch.equal(caught["softmax()"], output)


def test_torchvision_get_graph_node_names(resnet: nn.Module) -> None:
    from torchvision.models.feature_extraction import get_graph_node_names

    nodes = {name for name in get_graph_node_names(resnet)[1] if name != "x"}
    table = sf.list_layers(resnet, IMAGES, functions=True)
    # The n-th call of a layer is a node of its own there.
    calls = {row.name.removesuffix("()"): row.calls or 0 for row in table}
    ours = {f"{name}_{n}" if n else name for name, n_calls in calls.items() for n in range(n_calls)}
    assert nodes <= ours


def test_torchvision_prunes_the_graph(net: Net, x: Tensor) -> None:
    sf.extract(net, x, "fc2")
    net.n_done = 2
    with sf.tapped(net, ["fc2"], stop=True) as caught:
        net(x)
    assert caught.stopped
    assert net.n_done == 0  # the rest did not run


def test_fx_control_flow(x: Tensor) -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.left(x) if x.sum() > 0 else self.right(x)) + 1

    net = Decides()
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(net)
    for rows in (x.abs(), -x.abs()):
        with sf.tapped(net, ["tanh()"]) as caught:
            output = net(rows)
        assert torch.equal(caught["tanh()"] + 1, output)


def test_timm_features_only() -> None:
    needs("timm")
    import timm

    torch.manual_seed(0)
    maps = timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1, 2)).eval()
    torch.manual_seed(0)
    whole = timm.create_model("resnet18", pretrained=False).eval()
    whole.load_state_dict(maps.state_dict(), strict=False)
    found = sf.extract(whole, IMAGES, ["layer1", "layer2"], pool="none")
    with torch.no_grad():
        for name, expected in zip(("layer1", "layer2"), maps(IMAGES), strict=True):
            assert np.allclose(found[name], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def vit() -> Any:
    needs("timm")
    import timm

    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, depth=5).eval()


def test_timm_pre_logits(vit: Any) -> None:
    with torch.no_grad():
        expected = vit.forward_head(vit.forward_features(IMAGES), pre_logits=True)
    found = sf.extract(vit, IMAGES, "penultimate")
    assert list(found) == ["head:input"]
    assert np.allclose(found["head:input"], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_timm_forward_intermediates(vit: Any) -> None:
    with torch.no_grad():
        expected = vit.forward_intermediates(
            IMAGES, indices=4, output_fmt="NLC", intermediates_only=True, return_prefix_tokens=True
        )
        last = sf.Tap("blocks.*", last=4, combine="stack")
        with sf.tapped(vit, [last]) as caught:
            vit(IMAGES)
    for i, (tokens, prefix) in enumerate(expected):
        whole = torch.cat([prefix, tokens], 1)
        torch.testing.assert_close(caught[last][:, i], whole, rtol=1e-4, atol=1e-5)


def test_baukit_trace(net: Net, x: Tensor) -> None:
    with torch.no_grad(), sf.tapped(net, "fc2") as caught:
        net(x)
    assert torch.equal(caught["fc2"], by_hook(net.fc2, net, x))


def test_baukit_stop(net: Net, x: Tensor) -> None:
    with sf.tapped(net, ["fc1", "fc2"], stop=True) as caught:
        net(x)
        pytest.fail("the net must have stopped")
    assert set(caught) == {"fc1", "fc2"}


def test_baukit_edit_output(net: Net, x: Tensor) -> None:
    handle = net.fc2.register_forward_hook(lambda _m, _i, output: output * 0)
    expected = net(x)
    handle.remove()
    with sf.edited(net, {"fc2": lambda value: value * 0}):
        assert torch.equal(net(x), expected)
    assert not torch.equal(net(x), expected)


def test_baukit_retain_input(net: Net, x: Tensor) -> None:
    with sf.tapped(net, ["fc2:input", "relu:input#0"]) as caught:
        net(x)
    assert torch.equal(caught["fc2:input"], net.fc1(x).relu())
    assert torch.equal(caught["relu:input#0"], net.fc1(x))  # before it is overwritten


def test_baukit_retain_grad(net: Net, x: Tensor) -> None:
    kept = []
    handle = net.head.register_forward_hook(
        lambda _m, _i, output: kept.append(output) or output.retain_grad()
    )
    with sf.tapped(net, ["head:grad"]) as caught:
        net(x)[:, 0].sum().backward()
    handle.remove()
    assert torch.equal(caught["head:grad"], kept[0].grad)


def test_baukit_detach_and_clone(net: Net, x: Tensor) -> None:
    with sf.tapped(net, ["fc1"]) as caught:
        net(x)
    assert not caught["fc1"].requires_grad
    with sf.tapped(net, ["fc1"], detach=False) as caught:
        net(x)
    caught["fc1"].sum().backward()
    assert torch.equal(caught["fc1"], net.fc1(x))
    assert torch.allclose(net.fc1.weight.grad, x.sum(0).expand(8, 6))


def test_surgeon_inspect(net: Net, x: Tensor) -> None:
    output, values = sf.Extractor(net, {"first": "fc1", "second": "fc2"})(x)
    assert torch.equal(output, net(x))
    assert list(values) == ["first", "second"]
    assert torch.equal(values["second"], by_hook(net.fc2, net, x))


def test_surgeon_get_layers(net: Net) -> None:
    assert set(sf.list_layers(net).names) == {"fc1", "fc2", "relu", "lstm", "head"}


def test_surgeon_extract(net: Net, x: Tensor) -> None:
    first = net.fc1(x).relu()
    found = sf.extract(net, x, "add()")["add()"]
    assert np.allclose(found, (net.fc2(first) + first).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_captum_layer_activation(net: Net, x: Tensor) -> None:
    found = sf.extract(net, x, [net.fc2])
    assert list(found) == ["fc2"]
    assert np.allclose(found["fc2"], by_hook(net.fc2, net, x).numpy(), rtol=1e-5, atol=1e-6)


def test_captum_layer_input(net: Net, x: Tensor) -> None:
    with sf.tapped(net, [sf.Tap(net.fc2, side="input")]) as caught:
        net(x)
    assert torch.equal(caught["fc2:input"], net.fc1(x).relu())


def test_captum_gradient_times_activation(net: Net, x: Tensor) -> None:
    with sf.tapped(net, ["fc2", "fc2:grad"]) as caught:
        net(x)[:, 1].sum().backward()
    kept = []
    handle = net.fc2.register_forward_hook(lambda _m, _i, output: kept.append(output))
    gradient = torch.autograd.grad(net(x)[:, 1].sum(), kept[0])[0]
    handle.remove()
    assert torch.allclose(caught["fc2"] * caught["fc2:grad"], kept[0] * gradient)


def test_captum_neuron_gradient(net: Net, x: Tensor) -> None:
    rows = x.clone().requires_grad_()
    with sf.tapped(net, ["fc1"], detach=False, stop=True) as caught:
        net(rows)
    gradient = torch.autograd.grad(caught["fc1"][:, 3].sum(), rows)[0]
    assert torch.allclose(gradient, net.fc1.weight[3].expand(5, 6))


def test_nnsight_save(net: Net, x: Tensor) -> None:
    with torch.no_grad(), sf.tapped(net, [net.fc2]) as caught:
        net(x)
    assert torch.equal(caught[net.fc2], by_hook(net.fc2, net, x))


def test_nnsight_set_value(net: Net, x: Tensor) -> None:
    def zero(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, 3] = 0
        return value

    with sf.edited(net, {net.fc2: zero}), sf.tapped(net, ["fc2"]) as caught:
        changed = net(x)
    assert not caught["fc2"][:, 3].any()
    assert not torch.equal(changed, net(x))


def test_nnsight_patch(net: Net, x: Tensor) -> None:
    other = x.flip(0)
    with torch.no_grad(), sf.tapped(net, ["relu#1"]) as caught:
        clean = net(x)
    with torch.no_grad(), sf.edited(net, {"relu#1": lambda _value: caught["relu#1"]}):
        assert torch.equal(net(other), clean)  # everything passes there


def test_nnsight_inputs_and_items(net: Net, x: Tensor) -> None:
    with torch.no_grad(), sf.tapped(net, ["head:input", "lstm[1][0]", "lstm[*]"]) as caught:
        net(x)
    _, (hidden, _) = by_hook(net.lstm, net, x)
    assert torch.equal(caught["lstm[1][0]"], hidden)
    assert torch.equal(caught["head:input"], caught["lstm[0]"][:, -1])
    assert set(caught) == {"head:input", "lstm[0]", "lstm[1][0]", "lstm[1][1]"}


def test_thingsvision_extract_features() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    images = torch.randn(30, 3, 8, 8)
    loader = DataLoader(TensorDataset(images, torch.zeros(30)), batch_size=7)
    found = sf.extract(net, loader, "1", pool="flatten")["1"]
    assert np.allclose(found, by_hook(net[1], net, images).flatten(1).numpy(), rtol=1e-4, atol=1e-5)


def test_thingsvision_files(net: Net, tmp_path: Path) -> None:
    rows = torch.randn(50, 6)
    found = sf.extract(net, rows, ["fc1", "fc2"], batch_size=16, out=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["fc1.npy", "fc2.npy"]
    assert np.array_equal(np.load(tmp_path / "fc2.npy"), found["fc2"])
    assert len(found["fc2"]) == 50


def test_torchlens_log_forward_pass(net: Net, x: Tensor) -> None:
    names = sf.list_layers(net, x, functions=True).names
    with torch.no_grad(), sf.tapped(net, [f"{name}#all" for name in names]) as caught:
        net(x)
    assert {name: len(caught[f"{name}#all"]) for name in names} == {
        **{"fc1": 1, "fc2": 1, "relu": 2, "lstm": 1, "head": 1},
        **{"add()": 1, "getitem()": 2, "softmax()": 1},
    }


def test_transformers_output_hidden_states() -> None:
    needs("transformers")
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertModel(BertConfig(vocab_size=50, **sizes)).eval()
    ids = torch.randint(5, 50, (4, 7))
    with torch.no_grad(), sf.tapped(bert, ["encoder.layer.*"]) as caught:
        expected = bert(input_ids=ids, output_hidden_states=True).hidden_states
    assert [torch.equal(caught[f"encoder.layer.{i}"], expected[i + 1]) for i in range(3)] == [True] * 3


def test_skorch_hidden_outputs() -> None:
    needs("skorch")
    from skorch import NeuralNetClassifier

    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    y = (X[:, 0] > 0).astype("int64")
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    trained = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0).fit(X, y)
    found = sf.extract(trained.module_, X, ["1", "2"])
    assert np.allclose(found["2"], trained.forward(X).numpy(), rtol=1e-4, atol=1e-5)
    assert found["1"].shape == (40, 4)
