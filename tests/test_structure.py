"""JSON becomes a dataclass exactly, or one line says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from stackfeat.errors import DataError, StructureError
from stackfeat.structure import parse_json, structured


@dataclass(frozen=True)
class Inner:
    x: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    fold: int | str
    inner: Inner
    inners: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (0, "")
    table: Mapping[str, tuple[float, ...]] | None = None
    order: Sequence[int] = ()
    flag: bool = False
    anything: Any = None


WHOLE: dict[str, Any] = {
    "name": "n",
    "fold": "all",
    "inner": {"x": 1},
    "inners": [{"x": 0.5, "kind": "b"}],
    "pair": [3, "three"],
    "table": {"t": [1.5]},
    "order": [2, 1],
    "flag": True,
    "anything": {"deep": [None]},
}


def test_every_kind_of_field_is_read() -> None:
    read = structured(Outer, WHOLE, "w")
    assert read.inner == Inner(1.0) and read.inners == (Inner(0.5, "b"),)
    assert read.pair == (3, "three") and read.table == {"t": (1.5,)} and read.order == (2, 1)
    assert read.flag is True and read.anything == {"deep": [None]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, r"w\.name must be text; got 3"),
        ({"fold": 1.5}, r"w\.fold must be .*; got 1\.5"),
        ({"fold": True}, r"w\.fold must be"),
        ({"fold": 2**70}, r"w\.fold must be a number of 64 bits"),
        ({"inner": {"x": float("nan")}}, r"w\.inner\.x must be a finite number; got nan"),
        ({"inner": {"x": "1"}}, r"w\.inner\.x must be a number; got '1'"),
        ({"inner": {}}, r"w\.inner must have the field 'x'"),
        ({"inner": [1]}, r"w\.inner must be an object"),
        ({"inners": [{"x": 1, "kind": "c"}]}, r"w\.inners\[0\]\.kind must be 'a' or 'b'; got 'c'"),
        ({"pair": [1]}, r"w\.pair must have 2 items"),
        ({"table": {"t": [None]}}, r"w\.table\['t'\]\[0\] must be a number; got None"),
        ({"order": "21"}, r"w\.order must be a list"),
        ({"flag": 1}, r"w\.flag must be true or false; got 1"),
        ({"more": 1}, r"w must have no other fields than .*; got 'more'"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StructureError, match=message) as caught:
        structured(Outer, {**WHOLE, **change}, "w")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert isinstance(caught.value, DataError)


@pytest.mark.parametrize("value", [None, 3, "x", [], [1]])
def test_no_object_is_no_dataclass(value: object) -> None:
    with pytest.raises(StructureError, match="w must be an object"):
        structured(Outer, value, "w")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 200 + b"]" * 200,
        b"1" * 5000,
        b"nul",
    ],
    ids=len,
)
def test_what_is_no_json_is_one_error(text: bytes) -> None:
    with pytest.raises(StructureError, match=r"f\.json must be JSON"):
        parse_json(text, "f.json")


def test_numbers_that_are_none_are_refused_where_they_must_be_finite() -> None:
    assert parse_json(b"[1]", "f", finite=True) == [1]
    for text in (b"[NaN]", b"[-Infinity]"):
        with pytest.raises(StructureError, match="no number of JSON"):
            parse_json(text, "f", finite=True)
