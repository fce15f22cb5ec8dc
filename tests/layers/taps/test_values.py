"""Tensors inside what layers are given and return: found, chosen, padded, copied."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from stackfeat.errors import TapError
from stackfeat.layers.taps.values import (
    all_tensors,
    as_float32,
    copied,
    first_tensor,
    for_autograd,
    map_tensors,
    padded,
    pick,
    pick_argument,
    real_columns,
)

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Answer:
    logits: Tensor
    extra: Any = None


def test_tensors_are_found_in_order_at_any_depth_and_nothing_else_is() -> None:
    a, b, c, d = (torch.full((1,), float(i)) for i in range(4))
    nested = ("text", {"x": [a, None], "y": Answer(b, (3, c))}, Pair(d, 2.5))
    assert list(map(float, all_tensors(nested))) == [0, 1, 2, 3]
    assert first_tensor(nested) is a
    assert first_tensor(("text", {"x": []}, Answer)) is None


def test_a_packed_sequence_counts_as_its_data() -> None:
    packed = pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    assert first_tensor([None, packed]) is packed.data
    assert pick((packed, torch.zeros(1)), (), "the output of 'lstm'") is packed


def test_an_item_is_a_position_a_key_a_field_or_a_key_that_looks_like_a_number() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    for value, item in (
        ((a, b), 1),
        ((a, b), -1),
        ({"1": b, "0": a}, 1),
        ({1: b, 0: a}, 1),
        ({"x": a, "y": b}, 1),
        (Answer(a, b), 1),
        (Answer(a, b), "extra"),
        (Pair(a, b), "right"),
    ):
        assert pick(value, (item,), "the output of 'fc'") is b, (value, item)


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ((1,), (2,), r"\[2\] must exist in the output of 'fc'; got a tuple of \['int'\]; correct the tap's"),
        ({"a": 1}, ("b",), r"\[b\] must exist in .*; got a dict with keys \['a'\]"),
        (
            Answer(torch.ones(1)),
            ("logit",),
            r"\[logit\] must exist.*a Answer with fields \['logits', 'extra'\]",
        ),
        (torch.ones(2), (0,), r"\[0\] must exist in the output of 'fc'; got Tensor"),
        (
            ("a", None),
            (),
            r"the output of 'fc' must hold a tensor; got a tuple of \['str', 'NoneType'\]; choose",
        ),
        ((None, torch.ones(1)), (0,), r"must hold a tensor at the item; got NoneType in a tuple of"),
    ],
)
def test_an_item_that_is_not_there_says_what_is(value: Any, path: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TapError, match=message):
        pick(value, path, "the output of 'fc'")


class Two(nn.Module):
    def forward(self, x: Tensor, other: Tensor | None = None, *, scale: Tensor | None = None) -> Tensor:
        return x


def test_an_argument_is_chosen_by_name_or_position_however_it_was_passed() -> None:
    x, y, z = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    for call in (
        ((x, y), {"scale": z}),
        ((x,), {"scale": z, "other": y}),
        ((), {"scale": z, "other": y, "x": x}),
    ):
        for path, expected in (((), x), ((0,), x), (("x",), x), (("other",), y), (("scale",), z)):
            if path == () and not call[0]:
                continue  # by default the first that was passed, in the order in which they were
            assert pick_argument(Two().forward, call, path, "the input of 'two'") is expected, (call, path)
    with pytest.raises(TapError, match=r"\[nothing\] must exist in the input of 'two'; got a dict with keys"):
        pick_argument(Two().forward, ((x,), {}), ("nothing",), "the input of 'two'")


def test_mapping_keeps_containers_and_what_is_no_tensor() -> None:
    x = torch.ones(2)
    value = {"a": [x, (x, "text")], "b": None}
    changed = map_tensors(lambda tensor: tensor + 1, value)
    assert changed["a"][0].tolist() == changed["a"][1][0].tolist() == [2, 2]
    assert isinstance(changed["a"][1], tuple)
    assert changed["a"][1][1] == "text"
    assert changed["b"] is None
    assert x.tolist() == [1, 1]


def test_nested_and_packed_rows_are_padded_with_zeros_and_their_lengths_told() -> None:
    rows = [torch.ones(2, 3), torch.ones(4, 3)]
    expected = torch.zeros(2, 4, 3)
    expected[0, :2], expected[1] = 1, 1
    packed = pack_padded_sequence(expected, torch.tensor([2, 4]), batch_first=True, enforce_sorted=False)
    for leaf in (packed, torch.nested.nested_tensor(rows)):
        values, lengths = padded(leaf)
        assert torch.equal(values, expected)
        assert lengths is not None
        assert lengths.tolist() == [2, 4], "in the order of the rows, not of their lengths"


def test_sparse_values_become_plain_ones_and_plain_ones_are_not_copied() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert padded(x)[0] is x
    assert torch.equal(padded(x.to_sparse())[0], x)


def test_a_copy_is_not_overwritten_and_leaves_the_graph_unless_it_is_to_stay() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    assert not copied(y).requires_grad
    kept = copied(y, detach=False)
    kept.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2]
    plain = torch.ones(2)
    copy = copied(plain)
    plain.zero_()
    assert copy.tolist() == [1, 1]


def test_what_was_made_in_inference_mode_may_enter_autograd_afterwards() -> None:
    with torch.inference_mode():
        made = torch.ones(2)
        copy = copied(made)
        args, kwargs = for_autograd((made, 3), {"y": [made]})
    weight = torch.ones(2, requires_grad=True)
    for values in (copy, args[0], kwargs["y"][0]):
        (values * weight).sum().backward()
    assert args[1] == 3
    plain = torch.ones(1)
    assert for_autograd((plain,), {})[0][0] is plain, "others are passed on as they are"


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([[1.5, -2.0]]),
        torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16),
        torch.tensor([[1.5, -2.0]], dtype=torch.float16),
        torch.tensor([[1.5, float("inf"), float("nan")]], dtype=torch.float64),
        torch.tensor([[True, False]]),
        torch.tensor([[0, 255]], dtype=torch.uint8),
        torch.tensor([[2**24, -(2**24)]]),
        torch.tensor([[65535]], dtype=torch.uint16),
        torch.tensor([[2**24]], dtype=torch.uint64),
        torch.empty(0, 3, dtype=torch.int64),
    ],
)
def test_what_float32_holds_is_the_same_numbers(values: Tensor) -> None:
    found = as_float32(values, "t")
    assert found.dtype is torch.float32
    assert torch.equal(found.double().nan_to_num(7), values.double().nan_to_num(7))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([[3, 2**24 + 1]]), "16777217, beyond"),
        (torch.tensor([[-(2**24) - 1]], dtype=torch.int32), "16777217, beyond"),
        (torch.tensor([[2**63]], dtype=torch.uint64), "9223372036854775808, beyond"),
        (torch.tensor([[1e39, 1.0]], dtype=torch.float64), "1e[+]39, which is infinite there"),
        (torch.tensor([[1j]]), "must be real here; got torch.complex64"),
    ],
)
def test_what_float32_does_not_hold_is_refused_by_name(values: Tensor, message: str) -> None:
    with pytest.raises(TapError, match=f"at tap 'layer.3'.*{message}"):
        as_float32(values, "layer.3")


def test_complex_columns_are_all_real_parts_and_then_all_imaginary_ones() -> None:
    values = torch.tensor([[1 + 2j, 3 + 4j]])
    assert real_columns(values, 1).tolist() == [[1, 3, 2, 4]]
    assert torch.equal(real_columns(values.real, 1), values.real)
