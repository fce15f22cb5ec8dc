"""Rules read out of expressions hold for what they say, and everything else passes."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from stackfeat.registry.legal_values import (
    rule_of_range,
    rules_of_annotation,
    rules_of_constraint,
    value_problem,
    within,
)


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "good", "bad", "says"),
    [
        (
            '[Interval(Integral, 1, None, closed="left"), None]',
            [1, 9, None],
            [0, 1.5, "a"],
            "of at least 1 or null",
        ),
        ('[Interval(Real, 0.0, 1.0, closed="neither")]', [0.5], [0, 1, -1], "above 0 and below 1"),
        (
            '[Interval(RealNotInt, 0, 1, closed="right")]',
            [1.0, 0.2],
            [1, 0.0],
            "a fraction above 0 and at most 1",
        ),
        (
            '[StrOptions({"l1", "l2"}), "boolean"]',
            ["l1", True],
            ["l3", 1.5],
            "one of l1, l2 or true or false",
        ),
        ('["array-like", Integral]', [[1], 3], ["a", 0.5], "a list or a whole number"),
        ("[Options(Integral, {1, 2})]", [1], [3], "one of 1, 2"),
        ('[dict, Hidden(StrOptions({"old"}))]', [{}, "old"], ["new"], "must be a mapping; got"),
    ],
)
def test_a_constraint_says_what_is_legal(text: str, good: list[Any], bad: list[Any], says: str) -> None:
    rules = rules_of_constraint(expression(text))
    assert [value for value in good if value_problem(rules, value)] == []
    for value in bad:
        assert says in (value_problem(rules, value) or ""), value


@pytest.mark.parametrize(
    "text",
    [
        '"no_validation"',
        "[StrOptions(set(TABLE))]",
        "[Interval(Real, LOW, None, closed='left')]",
        "[callable]",
        "[make()]",
        "[type(thing)]",
        "TABLE",
        "[*ALL]",
        "lambda: 0",
        "[Interval(Real)]",
    ],
)
def test_what_is_not_understood_lets_everything_pass(text: str) -> None:
    rules = rules_of_constraint(expression(text))
    assert [value for value in (1, "x", 0.5, [1], {}, True) if value_problem(rules, value)] == []


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("int", [1], [0.5, "a", [1]]),
        ("float", [1, 0.5], ["a"]),
        ("str | None", ["a", None], [1]),
        ("Sequence[int]", [[1, 2], []], [1, ["a"], "a"]),
        ("tuple[float, ...]", [[0.5]], [0.5]),
        ("Mapping[str, Any]", [{}], [[1]]),
        ('Literal["a", "b"]', ["a"], ["c"]),
        ("Callable[[int], int]", [1, "a"], []),
    ],
)
def test_the_type_of_an_argument_says_what_is_legal(text: str, good: list[Any], bad: list[Any]) -> None:
    rules = rules_of_annotation(expression(text))
    assert [value for value in good if value_problem(rules, value)] == []
    assert [value for value in bad if not value_problem(rules, value)] == []


def test_a_range_narrows_numbers_and_those_in_lists() -> None:
    share = rule_of_range("> 0, <= 1")
    assert (share.holds(1), share.holds(0), share.holds(1.1)) == (True, False, False)
    (widths,) = rules_of_annotation(expression("Sequence[int]"))
    narrowed = within(widths, rule_of_range(">= 1"))
    assert narrowed.holds([3, 1]) and not narrowed.holds([0])
    assert value_problem([narrowed], [0]) == "must be a list of whole numbers of at least 1; got [0]."


def test_a_word_nearly_right_is_offered() -> None:
    rules = rules_of_constraint(expression('[StrOptions({"gini", "entropy"})]'))
    assert value_problem(rules, "ginni") == "must be one of entropy, gini; got 'ginni'. Did you mean 'gini'?"
