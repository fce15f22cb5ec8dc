"""A tap as text and as data, and what taps mean in a net."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import mark
from stackfeat.layers.taps.tap import Tap, resolve_taps

names = st.from_regex(r"[a-z_][a-z0-9_]{0,4}(\.[a-z0-9_]{1,4}){0,2}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("fc.1", Tap("fc.1")),
        ("dnn.9:input", Tap("dnn.9", side="input")),
        ("lstm[0]", Tap("lstm", item=0)),
        ("lstm[1][0]", Tap("lstm", item=(1, 0))),
        ("net[features]", Tap("net", item="features")),
        ("act#0", Tap("act", call=0)),
        ("act#all", Tap("act", call="all")),
        ("fc:grad", Tap("fc", side="grad")),
        ("encoder.*.act", Tap("encoder.*.act")),
        (":input", Tap("", side="input")),
        ("a:input[1]#-2", Tap("a", side="input", item=1, call=-2)),
    ],
)
def test_a_tap_reads_back_as_it_was_written(text: str, tap: Tap) -> None:
    assert Tap.parse(text) == tap
    assert str(tap) == text


items = st.lists(st.integers(-3, 9) | st.from_regex(r"[a-z]{1,4}", fullmatch=True), max_size=2)


@given(
    names,
    st.sampled_from(["output", "input", "grad"]),
    items,
    st.integers(-3, 5) | st.just("all"),
)
def test_any_tap_reads_back_from_its_text(layer: str, side: Any, path: list[Any], call: Any) -> None:
    tap = Tap(layer, side=side, item=path[0] if len(path) == 1 else tuple(path) or None, call=call)
    assert Tap.parse(str(tap)) == tap
    assert eval(repr(tap), {"Tap": Tap}) == tap


@pytest.mark.parametrize("text", ["", "fc:middle", "fc[", "#0", "fc[]", "fc#x", f"fc#{'9' * 5_000}"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(TapError, match="must"):
        Tap.parse(text)


@pytest.mark.parametrize(
    "parts",
    [{}, {"layer": "a", "side": "left"}, {"layer": "a", "pool": "avg"}, {"layer": "a", "combine": "sum"}],
)
def test_parts_that_make_no_tap_are_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(TapError, match="must"):
        Tap(**parts)
    with pytest.raises(TapError, match="last must be"):
        Tap("a", last=0)
    with pytest.raises(TapError, match="number or 'all'"):
        Tap("a", call="first")  # type: ignore[arg-type]


def test_two_taps_of_one_key_are_refused() -> None:
    taps = [Tap("*", last=1), Tap("*", last=2)]
    with pytest.raises(TapError, match="key of its own"), tapped(nn.Sequential(nn.ReLU()), taps):
        pass
    with (
        pytest.raises(TapError, match="must mean one layer"),
        tapped(nn.Sequential(nn.ReLU(), nn.ReLU()), {"x": "*"}),
    ):
        pass


class Block(nn.Module):
    """Two layers of one name in each block, one of them twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"fc": nn.Linear(2, 2), "act": nn.ReLU()}) for _ in range(3)
        )
        self.tied = self.blocks[0]["fc"]
        self.pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_reads_come_in_the_order_of_the_taps_and_of_the_layers_of_a_pattern() -> None:
    net = Block()
    reads = resolve_taps(net, ["pair.1", "blocks.*.fc", Tap("pair.0", side="input")])
    assert [read.key for read in reads] == [
        "pair.1",
        *(f"blocks.{i}.fc" for i in range(3)),
        "pair.0:input",
    ]
    assert [read.from_pattern for read in reads] == [False, True, True, True, False]
    assert all(read.modules == (net.get_submodule(read.layers[0]),) for read in reads)


def test_a_layer_of_two_names_is_read_once_by_a_pattern_under_the_first_that_matches() -> None:
    net = Block()
    assert [read.key for read in resolve_taps(net, Tap(type=nn.Linear))] == [
        *(f"blocks.{i}.fc" for i in range(3)),
        "pair.0",
        "pair.1",
    ]
    assert [read.key for read in resolve_taps(net, "ti*")] == ["tied"]
    assert [read.key for read in resolve_taps(net, ["tied", "blocks.0.fc"])] == ["tied", "blocks.0.fc"]


def test_a_pattern_with_a_type_reads_only_layers_of_both() -> None:
    net = Block()
    assert [read.key for read in resolve_taps(net, Tap("blocks.1.*", type=nn.ReLU))] == ["blocks.1.act"]
    with pytest.raises(LayerNotFoundError, match=r"layer of Block; got layer='pair\.\*<ReLU>'"):
        resolve_taps(net, Tap("pair.*", type=nn.ReLU))


def test_parts_of_a_tap_go_with_every_layer_of_its_pattern() -> None:
    reads = resolve_taps(Block(), Tap("pair.*", side="input", item=0, call=1, pool="max"))
    for read, layer in zip(reads, ("pair.0", "pair.1"), strict=True):
        assert read.tap == Tap(layer, side="input", item=0, call=1, pool="max")
        assert read.key == f"{layer}:input[0]#1"


def test_the_last_of_a_pattern_are_one_read_of_all_its_layers() -> None:
    (read,) = resolve_taps(Block(), {"end": Tap("**.fc", last=2)})
    assert read.key == "end"
    assert read.layers == tuple(f"blocks.{i}.fc" for i in range(3)), "which ran last is told by a pass"
    assert read.where == "the output of '**.fc'"


def test_pooling_given_for_all_is_for_taps_written_as_text_alone() -> None:
    text, tap = resolve_taps(Block(), ["tied", Tap("pair.0", pool="max")], pool="flatten")
    assert (text.tap.pool, tap.tap.pool) == ("flatten", "max")


def test_a_key_may_name_a_pattern_of_one_layer_and_the_same_tap_twice_is_one() -> None:
    (read,) = resolve_taps(Block(), {"mine": "ti*"})
    assert (read.key, read.layers) == ("mine", ("tied",))
    assert len(resolve_taps(Block(), ["tied", "tied", Tap("tied")])) == 1


def test_a_wrong_side_or_pool_offers_the_right_word() -> None:
    with pytest.raises(TapError, match=r"side must be one of output, input, grad; got side='inpt'.*'input'"):
        Tap("fc", side="inpt")  # type: ignore[arg-type]
    with pytest.raises(TapError, match=r"pool must be one of .*; got pool='men'.*'mean'"):
        Tap("fc", pool="men")  # type: ignore[arg-type]
    with pytest.raises(TapError, match=r"side must be 'input', 'output' or 'grad'.*try 'fc:input'"):
        Tap.parse("fc:in")
    with pytest.raises(TapError, match=r"last=2, call=-2; use call=-1"):
        Tap("fc", last=2, call=-2)


class OddNames(nn.Module):
    """Names that hold what divides the text of a tap."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.by = nn.ModuleDict({name: nn.Linear(3, 3) for name in names})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.by.values():
            x = layer(x)
        return mark("gate:1", mark("gate#0", x))


@pytest.mark.parametrize(
    "names",
    [
        ("user:item", "conv[0]", "rank#1"),
        ("a:input", "a:output[0]#1", "a"),
        ("conv", "conv[0]", "conv#0", "conv:input"),
        ("[x]", "#1", ":y", "z*", "what?", "a b", "tab\there", "relu()"),
        ("module", "_orig_mod", "0", "-1", "all"),
    ],
)
def test_every_listed_name_is_read_as_text_or_the_error_says_how(names: tuple[str, ...]) -> None:
    net, x = OddNames(*names), torch.randn(4, 3)
    truth, value = {}, x
    for name, layer in net.by.items():
        value = truth[f"by.{name}"] = layer(value)
    truth |= {"gate#0": value, "gate:1": value}
    for name in list_layers(net, x).names:
        if name == "by":
            continue
        try:
            got = extract(net, x, [name])[name]
        except TapError as error:
            written = f"Tap({name!r})"
            assert written in str(error)
            got = extract(net, x, [eval(written, {"Tap": Tap})])[name]
        assert got == pytest.approx(truth[name].detach().numpy(), abs=1e-5)
        with tapped(net, [Tap(name), Tap(f"module.{name}")]) as caught:
            net(x)
        assert torch.equal(caught[Tap(name)], truth[name])


def test_a_name_that_holds_dividers_takes_sides_items_and_calls() -> None:
    net, x = OddNames("user:item", "rank#1"), torch.randn(4, 3)
    hidden = net.by["user:item"](x)
    with tapped(net, ["by.user:item#0", "by.rank#1:input", "by.rank#1:input[0]#-1", "by.*"]) as caught:
        net(x)
    assert set(caught) == {
        *("by.user:item#0", "by.rank#1:input", "by.rank#1:input[0]#-1", "by.user:item", "by.rank#1")
    }
    assert torch.equal(caught["by.rank#1:input[0]#-1"], hidden)
    assert str(find_penultimate(net, x)) == "by.rank#1:input"
    assert extract(net, x)["by.rank#1:input"] == pytest.approx(hidden.detach().numpy(), abs=1e-6)


def test_a_text_of_two_meanings_is_refused_with_both() -> None:
    net = OddNames("conv", "conv[0]")
    with pytest.raises(TapError, match=r"Tap\('by.conv', item=0\) or Tap\('by.conv\[0\]'\)"):
        resolve_taps(net, "by.conv[0]")
    assert resolve_taps(net, Tap("by.conv[0]"))[0].modules == (net.by["conv[0]"],)
    assert resolve_taps(net, Tap("by.conv", item=0))[0].modules == (net.by["conv"],)
