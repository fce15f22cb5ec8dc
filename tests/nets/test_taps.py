"""Taps against hooks written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.nets.taps import Tap, tapped


def read_by_hand(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """The oracle: a hook as anyone would write it."""
    seen = []
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[-1]


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.act = nn.Tanh()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.head(self.act(self.act(states[:, -1]) * 2))


def test_a_tap_reads_what_a_hand_written_hook_reads() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 3), nn.Sigmoid()))
    x = torch.randn(5, 4)
    with tapped(model, ["0", "2.0", "2.0:input"]) as caught:
        model(x)
    torch.testing.assert_close(caught["0"], read_by_hand(model, model[0], x), rtol=0, atol=0)
    torch.testing.assert_close(caught["2.0"], read_by_hand(model, model[2][0], x), rtol=0, atol=0)
    torch.testing.assert_close(caught["2.0:input"], read_by_hand(model, model[1], x), rtol=0, atol=0)
    assert not caught["0"].requires_grad


def test_in_place_layers_behind_or_at_a_tap_do_not_change_it() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
    x = torch.randn(8, 4)
    expected = nn.functional.linear(x, model[0].weight, model[0].bias)
    with tapped(model, ["0", "1:input", "1"]) as caught:
        model(x)
    torch.testing.assert_close(caught["0"], expected)
    torch.testing.assert_close(caught["1:input"], expected)
    torch.testing.assert_close(caught["1"], expected.relu())


def test_items_and_calls_are_chosen_as_written() -> None:
    model = Recurrent().eval()
    x = torch.randn(2, 7, 3)
    states, _ = model.lstm(x)
    first = model.act(states[:, -1])
    taps = ["lstm[0]", "lstm", "act", "act#0", "act#1", "act#-2"]
    with tapped(model, taps) as caught:
        model(x)
    assert set(caught) == set(taps)
    torch.testing.assert_close(caught["lstm[0]"], states.detach())
    torch.testing.assert_close(caught["lstm"], states.detach())
    torch.testing.assert_close(caught["act#0"], first.detach())
    torch.testing.assert_close(caught["act#-2"], first.detach())
    torch.testing.assert_close(caught["act"], model.act(first * 2).detach())
    torch.testing.assert_close(caught["act"], caught["act#1"])


def test_each_forward_pass_replaces_the_one_before() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with tapped(model, ["0#0"]) as caught:
        model(torch.zeros(1, 2))
        model(torch.zeros(3, 2))
    assert caught["0#0"].shape == (3, 2)


def test_hooks_are_gone_after_an_exception() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(RuntimeError), tapped(model, ["0", "0:input"]):
        model(torch.randn(2, 5))
    assert n_hooks(model) == 0
    with pytest.raises(LayerNotFoundError), tapped(model, ["0", "1"]):
        pass
    assert n_hooks(model) == 0


def test_an_unknown_layer_names_the_nearest() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(1, 1), "decoder": nn.Linear(1, 1)})
    with (
        pytest.raises(LayerNotFoundError, match=r"got layer='encodr'. Did you mean 'encoder'"),
        tapped(model, ["encodr"]),
    ):
        pass


def test_a_layer_that_is_not_called_says_so_when_it_is_read() -> None:
    model = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.randn(2, 3, 4)
    with tapped(model, ["out_proj"]) as caught:
        model(x, x, x)
    with pytest.raises(TapError, match="out_proj"):
        caught["out_proj"]


def test_a_shared_layer_can_be_tapped_by_either_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model.append(model[0])
    with tapped(model, ["2#0", "0#1"]) as caught:
        model(torch.ones(1, 2))
    assert set(caught) == {"2#0", "0#1"}


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("fc.1", Tap("fc.1")),
        ("dnn.9:input", Tap("dnn.9", side="input")),
        ("lstm[0]", Tap("lstm", item=0)),
        ("net[features]", Tap("net", item="features")),
        ("act#0", Tap("act", call=0)),
        ("a:input[1]#-2", Tap("a", side="input", item=1, call=-2)),
    ],
)
def test_a_tap_reads_back_as_it_was_written(text: str, tap: Tap) -> None:
    assert Tap.parse(text) == tap
    assert str(tap) == text


@pytest.mark.parametrize("text", ["encoder.*", "fc:grad", "act#all"])
def test_what_is_not_built_yet_is_an_error(text: str) -> None:
    with pytest.raises(TapError, match="not built yet"):
        Tap.parse(text)


@pytest.mark.parametrize("text", ["", "fc:middle", "fc[", "#0"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(TapError, match="must"):
        Tap.parse(text)
