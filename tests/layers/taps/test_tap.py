"""A tap as text and as data, and what taps mean in a net."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stackfeat.errors import TapError
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.tap import Tap

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
