"""Recipes: one text for one meaning, nothing ambiguous, and differences a person can read."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.store import canonical_json, hash_recipe
from stackfeat.store.recipe import differences

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(), parts, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_canonical_text_reads_back_to_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), plain, max_size=5))
def test_order_of_keys_does_not_change_the_hash(recipe: dict[str, object]) -> None:
    assert hash_recipe(recipe) == hash_recipe(dict(reversed(recipe.items())))


@given(plain, plain)
def test_different_values_have_different_texts(a: object, b: object) -> None:
    if canonical_json(a) == canonical_json(b):
        assert a == b


def test_hash_is_the_sha256_of_the_text() -> None:
    assert hash_recipe({"b": (1, 2), "a": 0.1}) == hashlib.sha256(b'{"a":0.1,"b":[1,2]}').hexdigest()


def test_tuples_and_lists_are_the_same() -> None:
    assert canonical_json({"a": (1, (2,))}) == canonical_json({"a": [1, [2]]}) == '{"a":[1,[2]]}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match=r"recipe\.a\[1\] must be a finite number"):
        canonical_json({"a": [1, number]})


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value", [np.float64(1.0), np.int64(1), np.str_("a"), np.bool_(True), np.zeros(2), {1}, b"a", Colour.RED]
)
def test_values_that_only_look_plain_are_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"recipe\.train\.lr must be .* convert it first"):
        canonical_json({"train": {"lr": value}})


def test_keys_that_json_would_turn_into_text_are_refused() -> None:
    with pytest.raises(TypeError, match=r"keys of recipe\.a must be str; got 1"):
        canonical_json({"a": {1: 2}})


def test_differences_name_the_path_and_both_values() -> None:
    old = {"member": {"train": {"lr": 0.001}, "hidden": [64, 32]}, "seed": 1, "gone": None}
    new = {"member": {"train": {"lr": 0.01}, "hidden": [64]}, "seed": 1, "extra": {}}
    assert differences(old, new) == [
        "extra: (absent) -> {}",
        "gone: null -> (absent)",
        "member.hidden.1: 32 -> (absent)",
        "member.train.lr: 0.001 -> 0.01",
    ]
