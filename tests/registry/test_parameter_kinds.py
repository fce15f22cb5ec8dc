"""Kinds of parameters: what is let in is let in wherever it stands, and everything else is refused with its place."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from stackfeat.registry.parameter_kinds import (
    BOOSTERS,
    COUNT,
    FAMILIES,
    MOST_WEIGHTS,
    NETS,
    SKLEARN,
    Kind,
    is_name,
    nested_estimator,
    problems,
)

NUMBER = Kind()
WORD = Kind(words=frozenset({"auto", "sqrt"}))
NAMES = Kind(free=frozenset({"items", "keys"}))


def messages(kind: Kind, value: Any) -> list[tuple[tuple[str | int, ...], str]]:
    return list(problems(kind, value))


@pytest.mark.parametrize("kind", [NUMBER, WORD, NAMES, Kind(is_true=False), Kind(widths=True)])
def test_none_false_and_lists_of_nothing_are_always_taken(kind: Kind) -> None:
    for value in (None, False, [], (), [None, [False, ()]]):
        assert messages(kind, value) == []


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (NUMBER, COUNT, None),
        (NUMBER, -COUNT, None),
        (NUMBER, np.float32(3), None),
        (NUMBER, COUNT + 1, "must be a number of at most 1e+07; got 10000001.0"),
        (NUMBER, -COUNT - 1, "must be a number of at most 1e+07; got -10000001.0"),
        (NUMBER, 10**200, "got a number of very many digits"),
        (NUMBER, math.inf, "must be a finite number; got inf"),
        (NUMBER, math.nan, "must be a finite number; got nan"),
        (Kind(odd=True), math.nan, None),
        (Kind(odd=True), -math.inf, None),
        (NUMBER, True, None),
        (Kind(is_true=False), True, "must be false; got true"),
        (NUMBER, "auto", "must be a number; got 'auto'"),
        (WORD, "auto", None),
        (WORD, "Auto", "must be a number or auto or sqrt; got 'Auto'"),
        (WORD, "auto,sqrt", "got 'auto,sqrt'"),
        (Kind(words=WORD.words, commas=True), "auto,sqrt", None),
        (Kind(words=WORD.words, commas=True), "auto,os.system", "got 'auto,os.system'"),
        (Kind(pattern=r"l[12]:\d+"), "l2:30", None),
        (Kind(pattern=r"l[12]:\d+"), "l2:30\n", "a text as documented"),
        (Kind(pattern=r"l[12]:\d+"), "xl2:30", "a text as documented"),
        (Kind(pattern=r"\d+"), "٣", "a text as documented"),
        (Kind(pattern=r"a*"), "a" * 2_001, "a text as documented"),
        (NUMBER, {"a": 1}, "must be a number; got {'a': 1}"),
        (NUMBER, object, "must be a number; got <class 'object'>"),
        (NUMBER, b"x" * 200, "..."),
    ],
)
def test_one_value_is_taken_or_refused_in_words(kind: Kind, value: Any, message: str | None) -> None:
    found = messages(kind, value)
    if message is None:
        assert found == []
    else:
        ((place, said),) = found
        assert place == () and message in said and len(said) < 200


def test_everything_wrong_in_a_list_is_named_by_its_place() -> None:
    found = messages(WORD, ["auto", 1e9, ["sqrt", "os:system"]])
    assert [place for place, _ in found] == [(1,), (2, 1)]
    deep: Any = "auto"
    for _ in range(9):
        deep = [deep]
    assert [message for _, message in messages(WORD, deep)] == ["must not be nested deeper than 8 lists"]
    assert messages(WORD, deep[0]) == []


def test_items_have_a_bound_of_their_own_where_there_is_one() -> None:
    kind = Kind(most=5, most_item=2)
    assert messages(kind, 5) == messages(kind, [2, -2]) == []
    assert [place for place, _ in messages(kind, [2, 5])] == [(1,)]
    assert messages(Kind(most=5), [5]) == []


def test_names_stand_alone_in_lists_or_as_keys_only_where_they_may() -> None:
    assert messages(NAMES, {"colour": 1, 0: 2.5}) == messages(NAMES, ["colour", "größe (cm)"]) == []
    assert messages(NAMES, "colour"), "alone they are no items"
    assert messages(Kind(free=frozenset({"text"})), "colour") == []
    assert messages(Kind(free=frozenset({"text"})), ["colour"]), "in a list they are not alone"
    ((place, message),) = messages(NAMES, {"/etc/passwd": 1})
    assert place == () and message == "must be a mapping from names; got '/etc/passwd'"
    assert [place for place, _ in messages(NAMES, {"a": 1e9, 3: "b" * 300})] == [("a",), ("3",)]


@pytest.mark.parametrize("name", ["colour", "a b", "x.y", "a/b", "C", "3", "", "ü" * 256, "a..b"])
def test_names_of_columns_pass(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "/x",
        "~/x",
        "\\\\host\\x",
        "C:\\x",
        "c:/x",
        "http://x",
        "../x",
        "a/../b",
        "a\\..",
        "..",
        "a\nb",
        "\x7f",
        "a" * 257,
    ],
)
def test_what_could_name_a_file_or_an_address_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_an_estimator_to_be_built_is_told_from_a_mapping_of_names() -> None:
    assert nested_estimator({"estimator": "x"}) and nested_estimator({"estimator": "x", "params": {}})
    for value in ({"estimator": 1}, {"params": {}}, {"estimator": "x", "more": 1}, {}, [], "x", None):
        assert not nested_estimator(value)
    assert messages(NAMES, {"estimator": "os.system"}), "no mapping from names"


def test_neighbours_of_widths_take_memory_for_their_product() -> None:
    widths = Kind(widths=True)
    side = math.isqrt(int(MOST_WEIGHTS))
    assert messages(widths, [side, side]) == []
    assert [place for place, _ in messages(widths, [side, side, 1])] == [()]
    assert messages(NUMBER, [side, side, 1]) == []
    assert messages(widths, [10_000] * 100), "small ones add up"


def test_every_row_of_the_tables_is_a_sound_kind() -> None:
    tables = {"sklearn": SKLEARN, "nets": NETS, **BOOSTERS, **FAMILIES}
    for table, kinds in tables.items():
        assert kinds, table
        for name, kind in kinds.items():
            assert name.isidentifier(), (table, name)
            assert kind.free <= {"text", "items", "keys"}, (table, name)
            assert 0 <= kind.most <= 1e100 and re.compile(kind.pattern), (table, name)
            assert all(messages(kind, word) == [] for word in kind.words), (table, name)
            for hostile in ("/etc/passwd", "http://x/y", "../x", "os:system\n", "__import__('os')"):
                assert is_name(hostile) or messages(kind, hostile), (table, name, hostile)
