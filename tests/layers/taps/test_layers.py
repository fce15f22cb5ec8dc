"""Names and patterns of layers, whatever wraps the net."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.layers import (
    layer_names,
    match_name,
    match_pattern,
    named_layers,
    never_called,
    not_found,
    unique_layers,
    unwrap,
)

names = st.from_regex(r"[a-z_][a-z0-9_]{0,4}(\.[a-z0-9_]{1,4}){0,2}", fullmatch=True)


@settings(max_examples=40)
@given(st.lists(names, min_size=1, max_size=12, unique=True))
def test_two_stars_match_every_name_and_a_name_matches_itself(given_names: list[str]) -> None:
    assert match_pattern("**", given_names) == given_names
    for name in given_names:
        assert match_pattern(name, given_names) == [name]
        stars = ".".join("*" for _ in name.split("."))
        assert match_pattern(stars, given_names) == [
            other for other in given_names if other.count(".") == name.count(".")
        ]


def test_many_stars_between_dots_end_at_once() -> None:
    assert match_pattern(".".join(["**", "*"] * 20), ["a." * 30 + "a", "a"]) == ["a." * 30 + "a"]
    assert match_pattern(".".join(["**"] * 50_000), ["a.b", "c"]) == ["a.b", "c"]
    assert match_pattern("**.*a*a*a*a*a*a*a*a*a*a*a*b", ["a" * 3_000]) == []


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1)))


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda net: nn.DataParallel(torch.optim.swa_utils.AveragedModel(net)),
    ],
    ids=["parallel", "averaged", "both"],
)
def test_names_are_those_of_the_net_inside_whatever_wraps_it(wrap: Any) -> None:
    net = make_net()
    model = wrap(net)
    assert list(named_layers(model)) == [name for name, _ in net.named_modules()]
    inside = unwrap(model)
    assert named_layers(model)["1.1"] is inside.get_submodule("1.1")
    assert type(inside) is nn.Sequential


def test_a_wrapper_deep_inside_adds_no_segment_but_a_layer_called_module_does() -> None:
    net = nn.ModuleDict({"a": nn.DataParallel(make_net()), "module": nn.ReLU()})
    assert layer_names(net) == ("a", "a.0", "a.1", "a.1.0", "a.1.1", "module")
    layers = named_layers(net)
    assert match_name(layers, "a.module.1.0") == "a.1.0"
    assert match_name(layers, "_orig_mod.a._orig_mod.module.1.0") == "a.1.0"
    assert match_name(layers, "_orig_mod.module") == "module"
    assert match_name(layers, "a.modul.1.0") is None


def test_a_scripted_net_is_refused_and_a_scripted_part_is_named_but_never_called() -> None:
    with pytest.raises(
        TapError, match=r"must not be scripted or traced.*got .*; pass the module it was made"
    ):
        unwrap(torch.jit.trace(make_net(), torch.ones(1, 2)))
    net = nn.Sequential(torch.jit.trace(make_net(), torch.ones(1, 2)))
    layers = named_layers(net)
    assert list(layers) == ["", "0"], "what is inside runs where no hook is heard"
    assert never_called(layers, "0") == "is scripted: hooks do not run there; tap the module before scripting"


def test_a_layer_of_several_names_is_unique_under_its_first() -> None:
    net = make_net()
    net.append(net[1])
    assert layer_names(net) == ("0", "1", "1.0", "1.1", "2", "2.0", "2.1")
    assert list(unique_layers(net)) == ["", "0", "1", "1.0", "1.1"]


def test_a_net_that_holds_itself_has_an_end() -> None:
    net = make_net()
    net[1].parent = net  # type: ignore[assignment]
    assert layer_names(net) == ("0", "1", "1.0", "1.1")


def test_what_is_never_called_says_why_and_what_is_called_is_left_alone() -> None:
    class Own(nn.MultiheadAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.out_proj(x)

    net = nn.ModuleDict(
        {"plain": nn.MultiheadAttention(4, 1), "own": Own(4, 1), "list": nn.ModuleList([nn.ReLU()])}
    )
    layers = named_layers(net)
    assert "tap 'plain[0]', which is what out_proj returns" in str(never_called(layers, "plain.out_proj"))
    assert never_called(layers, "own.out_proj") is None, "a forward of one's own may well call it"
    assert never_called(layers, "plain") is None
    assert "container (ModuleList) that is never called itself; tap what is inside: list.0" in str(
        never_called(layers, "list")
    )
    alone = named_layers(nn.MultiheadAttention(4, 1))
    assert "tap ':output[0]'" in str(never_called(alone, "out_proj"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a", "ab"]),
        ("a?", ["ab"]),
        ("**.c", ["a.c", "a.b.c"]),
        ("a.**.c", ["a.c", "a.b.c"]),
        ("a.**", ["a", "a.c", "a.b.c"]),
        ("a.*.c", ["a.b.c"]),
        ("*.c", ["a.c"]),
    ],
)
def test_a_star_stays_within_a_segment_and_two_stars_are_any_number_of_them(
    pattern: str, expected: list[str]
) -> None:
    assert match_pattern(pattern, ["", "a", "ab", "a.c", "a.b.c"]) == expected


def test_an_unknown_name_offers_near_ones_and_those_that_end_like_it() -> None:
    net = nn.ModuleDict({"encoder": nn.ModuleDict({"head": nn.ReLU()}), "body": nn.ReLU()})
    layers = named_layers(net)
    error = not_found(net, "head", layers)
    assert isinstance(error, LayerNotFoundError)
    assert (
        str(error) == "a tap must name a layer of ModuleDict; got layer='head'. Did you mean 'encoder.head'?"
    )
    assert "Layers: encoder, encoder.head, body" in str(not_found(net, "xyz", layers))
    many = nn.Sequential(*(nn.ReLU() for _ in range(300)))
    assert str(not_found(many, "xyz", named_layers(many))).endswith("... (stackfeat.list_layers shows all)")


def slicing() -> nn.Module:
    """A part that chooses its forward when it is made."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.forward = self.forward_slicing  # type: ignore[method-assign]

        def forward_slicing(self, x: Tensor) -> Tensor:
            return self.inner(x) + 1

    return Part()


def bound_by_partial() -> nn.Module:
    part = nn.Module()
    part.inner = nn.Linear(4, 4)
    part.forward = functools.partial(lambda self, x: self.inner(x).tanh(), part)
    return part


def hooked_by_a_loader() -> nn.Module:
    """As libraries that place weights do: the old forward is kept, and wrapped."""
    part = nn.Linear(4, 4)
    old = part.forward

    def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return old(*args, **kwargs) * 2

    part.forward = functools.update_wrapper(functools.partial(forward, part), old)  # type: ignore[method-assign]
    return part


def container_with_a_forward() -> nn.Module:
    part = nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 4)])
    part.forward = lambda x: part[1](part[0](x))  # type: ignore[method-assign]
    return part


@pytest.mark.parametrize("make", [slicing, bound_by_partial, hooked_by_a_loader, container_with_a_forward])
def test_a_forward_that_is_set_on_the_instance_is_read(make: Any) -> None:
    net, x = nn.Sequential(make(), nn.Linear(4, 2)).eval(), torch.randn(5, 4)
    truth = net[0](x).detach()
    table = list_layers(net, x)
    assert not table["0"].problem
    assert table["0"].calls == 1
    assert extract(net, x, "0")["0"] == pytest.approx(truth.numpy(), abs=1e-6)
    for taps in ("0", "*", "**"):
        with tapped(net, taps) as caught:
            net(x)
        assert torch.equal(caught["0"], truth)


def test_a_forward_that_changes_on_the_instance_is_looked_at_anew() -> None:
    net, x = nn.Sequential(slicing(), nn.Linear(4, 2)).eval(), torch.randn(5, 4)
    assert extract(net, x, "0")["0"].shape == (5, 4)
    net[0].forward = lambda x: x - x.mean(0)  # type: ignore[method-assign]
    with pytest.raises(TapError, match="must not depend on other rows"):
        extract(net, x, "0")
