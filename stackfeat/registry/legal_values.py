"""Rules for one value of a config: what scikit-learn's constraints and the types of arguments say of it.

In:  the expression of a constraint (``Interval(Real, 0, 1, closed="both")``) or of a type (``Sequence[int]``), parsed
     and not run.
Out: rules, one of which must hold; how they read; whether a value satisfies them. An expression that is not
     understood is a rule that everything satisfies.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stackfeat.registry.parameter_kinds import nested_estimator
from stackfeat.registry.resolve import suggest

_ANY = "any"
_SEED_LIMIT = 2**32 - 1
_MOST_WORDS = 12


@dataclass(frozen=True)
class Rule:
    """One form that a value may have.

    Attributes
    ----------
    kind : str
        any, null, boolean, whole, number, fraction (no whole number), word, text, list, mapping or object.
    least, most : float
        Of numbers.
    closed : {"both", "left", "right", "neither"}
        Which ends belong to the interval.
    words : tuple of str
        Texts that are legal.
    values : tuple
        Numbers that are legal.
    items : tuple of Rule
        Of a list: what each item must be, where that is known.
    is_hidden : bool
        Whether it is accepted and not advertised: a deprecated value.
    """

    kind: str
    least: float = -math.inf
    most: float = math.inf
    closed: str = "both"
    words: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    items: tuple[Rule, ...] = ()
    is_hidden: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value has this form."""
        if self.kind == _ANY:
            return True
        if self.kind in _OF_NUMBERS:
            is_kind = isinstance(value, _OF_NUMBERS[self.kind])
            return is_kind and (value in self.values if self.values else self._is_within(value))
        if self.kind == "list":
            is_list = isinstance(value, list | tuple)
            return is_list and (
                not self.items or all(any(rule.holds(item) for rule in self.items) for item in value)
            )
        return bool(_TESTS[self.kind](self, value))

    def _is_within(self, value: float) -> bool:
        above = value > self.least or (value == self.least and self.closed in ("both", "left"))
        below = value < self.most or (value == self.most and self.closed in ("both", "right"))
        return above and below

    @property
    def described(self) -> str:
        """How it reads after "must be"."""
        if self.kind == "word":
            return self.words[0] if len(self.words) == 1 else f"one of {', '.join(self.words[:_MOST_WORDS])}"
        if self.values:
            return f"one of {', '.join(map(str, self.values))}"
        if self.kind in _OF_NUMBERS:
            return f"{_NAMES[self.kind]}{self._bounds}"
        if self.kind == "list" and self.items:
            return f"a list of {_PLURALS.get(self.items[0].kind, 'values')}{self.items[0]._bounds}"
        return _NAMES[self.kind]

    @property
    def _bounds(self) -> str:
        lower = f"of at least {self.least:g}" if self.closed in ("both", "left") else f"above {self.least:g}"
        upper = f"at most {self.most:g}" if self.closed in ("both", "right") else f"below {self.most:g}"
        bounds = [*([lower] if self.least > -math.inf else []), *([upper] if self.most < math.inf else [])]
        return f" {' and '.join(bounds)}" if bounds else ""


_OF_NUMBERS: dict[str, Any] = {"whole": int, "number": (int, float), "fraction": float}
"""Kinds of numbers, and their types. True is a number here, as it is to scikit-learn."""
_TESTS: dict[str, Any] = {
    "null": lambda rule, value: value is None,
    "boolean": lambda rule, value: isinstance(value, bool),
    "word": lambda rule, value: isinstance(value, str) and value in rule.words,
    "text": lambda rule, value: isinstance(value, str),
    "mapping": lambda rule, value: isinstance(value, Mapping),
    "object": lambda rule, value: nested_estimator(value),
}
_NAMES = {
    "null": "null",
    "boolean": "true or false",
    "whole": "a whole number",
    "number": "a number",
    "fraction": "a fraction",
    "text": "text",
    "list": "a list",
    "mapping": "a mapping",
    "object": "{estimator: ..., params: ...}",
}
_PLURALS = {"whole": "whole numbers", "number": "numbers", "text": "texts"}

ANY = Rule(_ANY)
NULL = Rule("null")


def value_problem(rules: Sequence[Rule], value: Any) -> str | None:
    """Say what a value must be where none of the rules holds; None where one does.

    Examples
    --------
    >>> value_problem([Rule("whole", least=1), NULL], 0)
    'must be a whole number of at least 1 or null; got 0.'
    >>> value_problem([Rule("word", words=("gini", "entropy"))], "ginni")
    "must be one of gini, entropy; got 'ginni'. Did you mean 'gini'?"
    """
    if not rules or nested_estimator(value) or any(rule.holds(value) for rule in rules):
        return None
    shown = [rule.described for rule in rules if not rule.is_hidden]
    words = [word for rule in rules for word in rule.words if not rule.is_hidden]
    got = (
        {None: "null", True: "true", False: "false"}.get(value)
        if value is None or isinstance(value, bool)
        else None
    )
    hint = suggest(value, words) if isinstance(value, str) else ""
    text = got or repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"must be {' or '.join(dict.fromkeys(shown))}; got {text}.{hint}"


def rules_of_constraint(expression: ast.expr) -> tuple[Rule, ...]:
    """Return the rules that the expression of a constraint stands for; none where everything is legal."""
    if not isinstance(expression, ast.List | ast.Tuple):
        return ()
    rules = tuple(rule for item in expression.elts for rule in _of_item(item))
    if any(rule == ANY for rule in rules):
        return ()
    has_words = any(rule.kind == "word" for rule in rules)
    # A function can be named by a text alone, where texts are not listed.
    return rules if has_words else tuple(ANY if rule == _FUNCTION else rule for rule in rules)


_FUNCTION = Rule("object", words=("function",), is_hidden=True)
_SEVERAL = (Rule("list"), Rule("mapping", is_hidden=True))
_NAMED: dict[str, tuple[Rule, ...]] = {
    "boolean": (Rule("boolean"),),
    "verbose": (Rule("whole", least=0), Rule("boolean")),
    "random_state": (Rule("whole", least=0, most=_SEED_LIMIT), NULL),
    "array-like": _SEVERAL,
    "sparse matrix": (),
    "cv_object": (Rule("whole", least=2), *_SEVERAL, Rule("object"), NULL),
}
_TYPES: dict[str, tuple[Rule, ...]] = {
    "bool": (Rule("boolean"),),
    "str": (Rule("text"),),
    "dict": (Rule("mapping"),),
    "list": (Rule("list"),),
    "tuple": (Rule("list"),),
    "int": (Rule("whole"),),
    "float": (Rule("number"),),
    "Integral": (Rule("whole"),),
    "Real": (Rule("number"),),
    "callable": (_FUNCTION,),
}


def _of_item(item: ast.expr) -> tuple[Rule, ...]:
    if isinstance(item, ast.Constant):
        return (NULL,) if item.value is None else _NAMED.get(str(item.value), (ANY,))
    if isinstance(item, ast.Name | ast.Attribute):
        return _TYPES.get(_last_name(item), (Rule("object"),) if _last_name(item)[:1].isupper() else (ANY,))
    if isinstance(item, ast.Call):
        read = _CALLS.get(_last_name(item.func))
        return (ANY,) if read is None else read(item)
    return (ANY,)


def rule_of_range(range_: str) -> Rule:
    """Return the rule of a range such as ``"> 0, <= 1"``."""
    bounds = dict(part.split() for part in range_.split(", "))
    least, most = bounds.get(">=", bounds.get(">")), bounds.get("<=", bounds.get("<"))
    ends = {(True, True): "both", (True, False): "left", (False, True): "right", (False, False): "neither"}
    closed = ends[">" not in bounds, "<" not in bounds]
    return Rule(
        "number",
        -math.inf if least is None else float(least),
        math.inf if most is None else float(most),
        closed,
    )


def within(rule: Rule, range_: Rule) -> Rule:
    """Return a rule whose numbers, also those of its items, lie in a range; another kind of rule as it is."""
    if rule.kind in _OF_NUMBERS:
        return replace(rule, least=range_.least, most=range_.most, closed=range_.closed)
    return replace(rule, items=tuple(within(item, range_) for item in rule.items)) if rule.items else rule


def _last_name(expression: ast.expr) -> str:
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")


_NUMBERS = {"Integral": "whole", "Real": "number", "RealNotInt": "fraction"}


def _interval(call: ast.Call) -> tuple[Rule, ...]:
    kind = _NUMBERS.get(_last_name(call.args[0])) if len(call.args) == 3 else None
    given = [_literal(bound) for bound in call.args[1:]]
    closed = next((_literal(word.value) for word in call.keywords if word.arg == "closed"), None)
    is_known = all(bound is None or isinstance(bound, int | float) for bound in given)
    if kind is None or not is_known or not isinstance(closed, str):
        return (ANY,)
    least, most = (
        infinity if bound is None else bound
        for bound, infinity in zip(given, (-math.inf, math.inf), strict=True)
    )
    return (Rule(kind, least, most, closed),)


def _words(call: ast.Call) -> tuple[Rule, ...]:
    words = _literal(call.args[0]) if call.args else _UNKNOWN
    if not isinstance(words, set) or not all(isinstance(word, str) for word in words):
        return (ANY,)
    stated = [_literal(word.value) for word in call.keywords if word.arg == "deprecated"]
    old: set[str] = set().union(*(found if isinstance(found, set) else words for found in stated))
    shown = Rule("word", words=tuple(sorted(words - old)))
    return (shown, Rule("word", words=tuple(sorted(old)), is_hidden=True)) if old else (shown,)


def _numbers(call: ast.Call) -> tuple[Rule, ...]:
    kind = _NUMBERS.get(_last_name(call.args[0])) if len(call.args) == 2 else None
    values = _literal(call.args[-1])
    if kind is None or not isinstance(values, set):
        return (ANY,)
    return (Rule(kind, values=tuple(sorted(values))),)


def _hidden(call: ast.Call) -> tuple[Rule, ...]:
    return tuple(replace(rule, is_hidden=True) for rule in _of_item(call.args[0]) if rule != ANY)


_CALLS: dict[str, Any] = {
    "Interval": _interval,
    "StrOptions": _words,
    "Options": _numbers,
    "Hidden": _hidden,
    "HasMethods": lambda call: (ANY,) if "__iter__" in ast.unparse(call) else (Rule("object"),),
    "type": lambda call: (NULL,) if _literal(call.args[0]) is None else (ANY,),
}
_UNKNOWN = object()


def _literal(expression: ast.expr) -> Any:
    """Return the value of a literal, ``_UNKNOWN`` of anything else."""
    try:
        return ast.literal_eval(expression)
    except (ValueError, TypeError):
        return _UNKNOWN


def rules_of_annotation(expression: ast.expr | None) -> tuple[Rule, ...]:
    """Return the rules that the type of an argument stands for; none where everything is legal."""
    if expression is None:
        return ()
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.BitOr):
        sides = [rules_of_annotation(side) for side in (expression.left, expression.right)]
        return (*sides[0], *sides[1]) if all(sides) else ()
    if isinstance(expression, ast.Constant) and expression.value is None:
        return (NULL,)
    if isinstance(expression, ast.Subscript):
        name, inner = _last_name(expression.value), expression.slice
        if name in ("Sequence", "list", "tuple"):
            first = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
            return (Rule("list", items=rules_of_annotation(first)),)
        if name == "Literal":
            words = _literal(inner)
            words = words if isinstance(words, tuple) else (words,)
            return (Rule("word", words=words),) if all(isinstance(word, str) for word in words) else ()
        return (Rule("mapping"),) if name in ("Mapping", "dict") else ()
    return _TYPES.get(_last_name(expression), ()) if isinstance(expression, ast.Name) else ()
