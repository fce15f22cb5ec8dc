"""Trees as text: what is written predicts the same, and nothing that leads astray is passed to a parser."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from stackfeat.errors import StructureError
from stackfeat.store.booster_text import checked_text, plain_text

N_COLUMNS = 4


def rows() -> np.ndarray:
    random = np.random.default_rng(0)
    X = random.normal(size=(400, N_COLUMNS))
    X[:, 2] = random.integers(0, 40, 400)
    X[::7, [0]] = X[::9, [2]] = np.nan
    return X


@cache
def booster(n_classes: int, **params: Any) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    X, random = rows(), np.random.default_rng(1)
    model = LGBMRegressor if not n_classes else LGBMClassifier
    y = (
        random.normal(size=400) + 5 * (X[:, 2] % 2 == 1)
        if not n_classes
        else random.integers(0, n_classes, 400)
    )
    few = {"min_child_samples": 5, "min_data_per_group": 5, "cat_smooth": 1.0}
    made = model(n_estimators=6, num_leaves=12, verbose=-1, n_jobs=1, **few, **params)
    return made.fit(X, y, categorical_feature=[2]).booster_


def outputs(n_classes: int) -> int:
    return n_classes if n_classes > 2 else 1


@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_plain_text_predicts_the_same(n_classes: int) -> None:
    import lightgbm

    text = plain_text(booster(n_classes).model_to_string())
    assert checked_text(text, N_COLUMNS, outputs(n_classes)) == text
    again = lightgbm.Booster(model_str=text)
    assert np.array_equal(again.predict(rows()), booster(n_classes).predict(rows()))
    assert "[" not in text and "gain" not in text and "count" not in text


def test_a_tree_without_splits_is_written_too() -> None:
    text = plain_text(booster(0, min_split_gain=1e9).model_to_string())
    assert "num_leaves=1\n" in text
    assert checked_text(text, N_COLUMNS, 1)


def _line(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    """Change the numbers of the first line of a name, and what the head says of the size of its tree."""

    def changed(text: str) -> str:
        start = text.index(f"\n{name}=") + len(name) + 2
        end = text.index("\n", start)
        new = " ".join(change(text[start:end].split(" ")))
        text, grown = text[:start] + new + text[end:], len(new) - (end - start)
        if start < text.index("Tree="):
            return text
        at = text.index("tree_sizes=") + len("tree_sizes=")
        stop = text.index(" ", at)
        return text[:at] + str(int(text[at:stop]) + grown) + text[stop:]

    return changed


def _set(name: str, place: int, value: str) -> Callable[[str], str]:
    return _line(name, lambda numbers: [*numbers[:place], value, *numbers[place + 1 :]])


FORGED: dict[str, Callable[[str], str]] = {
    "a child far outside": _set("left_child", 0, "100000"),
    "a leaf far outside": _set("right_child", 1, "-100000"),
    "a loop": _set("left_child", 3, "0"),
    "a node twice": _line("left_child", lambda n: n[:1] + n[:1] + n[2:]),
    "a column that is not there": _set("split_feature", 0, "4"),
    "a column below 0": _set("split_feature", 0, "-1"),
    "a kind of split that is none": _set("decision_type", 0, "99"),
    "a set that is not there": _line("decision_type", lambda n: ["1"] * len(n)),
    "no number": _set("threshold", 0, "x"),
    "a number too large": _set("left_child", 0, "9" * 30),
    "no finite leaf": _set("leaf_value", 0, "inf"),
    "a leaf that is no number": _set("leaf_value", 0, "nan"),
    "fewer leaves than it says": _line("leaf_value", lambda n: n[1:]),
    "more leaves than it has": _set("num_leaves", 0, "4000"),
    "fewer bounds of sets": _line("cat_boundaries", lambda n: n[1:]),
    "bounds that go back": _set("cat_boundaries", 1, "100"),
    "bits beyond a word": _set("cat_threshold", 0, str(2**40)),
    "a longer tree": _set("tree_sizes", 0, "100000"),
    "a shorter tree": _set("tree_sizes", 0, "7"),
    "a tree of no size": _set("tree_sizes", 0, "0"),
    "columns that it has not": _set("max_feature_idx", 0, "900"),
    "another number of trees in a round": _set("num_tree_per_iteration", 0, "2"),
    "an objective with parameters": _set("objective", 0, "regression machines:1"),
    "parameters behind its trees": lambda text: (
        f"{text}\nparameters:\n[machines: 127.0.0.1]\nend of parameters\n"
    ),
    "linear leaves": lambda text: text.replace("is_linear=0", "is_linear=1"),
    "another line": lambda text: text.replace("is_linear=0", "leaf_const=1\nis_linear=0"),
    "sizes whose sum overflows": _line("tree_sizes", lambda n: [str(2**62)] * 4 + n),
    "sizes that are too long for any file": _line("tree_sizes", lambda n: ["9" * 17, *n[1:]]),
    "two spaces": _set("left_child", 1, ""),
    "a space at the end": _line("right_child", lambda n: [*n[:-1], n[-1] + " "]),
    "a minus within": _set("split_feature", 1, "1-1"),
    "a minus alone": _set("left_child", 0, "-"),
    "two minus signs": _set("left_child", 0, "--1"),
    "two numbers in one, and an empty one": _line("right_child", lambda n: ["1-1", "", *n[2:]]),
    "a plus": _set("split_feature", 0, "+1"),
    "a fraction for a child": _set("left_child", 0, "1.0"),
    "a number beyond 64 bits": _set("right_child", 0, str(2**64 + 1)),
    "a number that wraps": _set("cat_threshold", 0, str(2**64 + 5)),
    "a tab": _line("left_child", lambda n: [n[0] + "\t" + n[1], *n[2:]]),
    "a carriage return": _line("leaf_value", lambda n: [*n[:-1], n[-1] + "\r"]),
    "two points": _set("threshold", 0, "1.2.3"),
    "two fractions in one, and an empty one": _line("threshold", lambda n: ["1.2.3", "", *n[2:]]),
    "two signs of a fraction": _set("threshold", 0, "1-2"),
    "an exponent without digits": _set("threshold", 0, "1e"),
    "a space before": _line("threshold", lambda n: ["", *n[1:]]),
    "an exponent alone": _set("leaf_value", 0, "e5"),
    "a leaf too large": _set("leaf_value", 0, "1e999"),
    "a threshold that is no number": _set("threshold", 0, "nan"),
    "a leaf twice": _line("right_child", lambda n: ["-1"] * len(n)),
    "no leaves": _set("num_leaves", 0, "0"),
    "leaves below 0": _set("num_leaves", 0, "-5"),
    "no number of leaves": _set("num_leaves", 0, ""),
    "two numbers of leaves": _set("num_leaves", 0, "12 12"),
    "bounds without sets": lambda text: _set("num_cat", 0, "0")(text),
    "trees in another order": lambda text: text.replace("Tree=1", "Tree=2", 1),
    "a number of a tree with zeros": lambda text: text.replace("Tree=1\n", "Tree=01", 1),
    "a line less": lambda text: text.replace("shrinkage=1\n", "shrinkage=1", 1),
    "a name twice": lambda text: text.replace("decision_type=", "left_child=", 1),
    "text beyond ascii": lambda text: text.replace("shrinkage=1", "shrinkage=\u0661"),
    "a cut": lambda text: text[:-30],
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_text_that_leads_astray_is_refused(forged: str) -> None:
    text = plain_text(booster(0).model_to_string())
    assert "cat_boundaries" in text[: text.index("Tree=1")]
    changed = FORGED[forged](text)
    assert changed != text
    with pytest.raises(StructureError):
        checked_text(changed, N_COLUMNS, 1)
