"""What is remembered of a column tells another distribution from the same one, for few rows and for many."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, ks_2samp

from stackfeat.data.schema.summary import (
    CategorySummary,
    CellCount,
    Finding,
    Hint,
    NumberSummary,
    is_beyond_chance,
)
from stackfeat.errors import StructureError
from stackfeat.structure import structured


def found(then: np.ndarray, now: np.ndarray, dtypes: tuple[str, str] = ("", "")) -> list[Finding]:
    """What is off about numbers beside those of training."""
    summaries = [
        NumberSummary.of("x", "numeric", one, dtype=kind)
        for one, kind in zip((then, now), dtypes, strict=True)
    ]
    return list(summaries[0].compared(summaries[1], now, "{:.6g}".format))


def flags(then: Any, now: Any) -> list[str]:
    return [one.flag for one in found(np.asarray(then, dtype=float), np.asarray(now, dtype=float))]


def compared(then: list[str], now: list[str]) -> list[Finding]:
    """What is off about categories; an empty text is a missing cell."""
    levels = tuple(sorted({text for text in then if text}))
    place = {text: code for code, text in enumerate(levels)}
    codes = [np.array([place.get(text, -2 if text else -1) for text in one]) for one in (then, now)]
    summaries = [CategorySummary.of("c", one, levels) for one in codes]
    unseen = Counter(text for text in now if text and text not in place)
    return list(summaries[0].compared(summaries[1], unseen, levels))


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 60), st.integers(1, 60))
@settings(max_examples=60)
def test_the_chance_of_so_many_cells_is_fishers(
    n_now: int, n_cells: int, n_then: int, n_training: int
) -> None:
    n_now, n_then = min(n_now, n_cells), min(n_then, n_training)
    tail = hypergeom.sf(n_now - 1, n_cells + n_training, n_now + n_then, n_cells)
    is_more = n_now / n_cells > n_then / n_training
    for alpha in (0.3, 0.05, 1e-3):
        if abs(tail - alpha) > 1e-9:
            assert is_beyond_chance(n_now, n_cells, n_then, n_training, alpha) == (is_more and tail < alpha)


@pytest.mark.parametrize("draw", ["normal", "lognormal", "counts", "zeros", "flag", "months"])
@pytest.mark.parametrize("n_now", [1, 7, 60, 2000])
def test_the_same_distribution_is_silent(draw: str, n_now: int) -> None:
    random = np.random.default_rng(n_now)
    draws = {
        "normal": lambda n: random.normal(size=n),
        "lognormal": lambda n: random.lognormal(sigma=2, size=n),
        "counts": lambda n: random.poisson(3, n).astype(float),
        "zeros": lambda n: np.where(random.random(n) < 0.02, random.exponential(size=n), 0.0),
        "flag": lambda n: (random.random(n) < 0.01).astype(float),
        "months": lambda n: random.integers(1, 13, n).astype(float),
    }
    for _ in range(20):
        then, now = draws[draw](900), draws[draw](n_now)
        then[random.random(900) < 0.2] = np.nan
        now[random.random(n_now) < 0.2] = np.nan
        assert flags(then, now) == []


def test_the_distance_of_distributions_is_that_of_kolmogorov_and_smirnov() -> None:
    random = np.random.default_rng(0)
    then, now = random.poisson(4, 500).astype(float), random.poisson(6, 300).astype(float)
    exact = ks_2samp(then, now).statistic
    assert NumberSummary.of("x", "numeric", then).distance(now) == pytest.approx(exact, abs=1e-12)
    then, now = random.normal(size=500), random.normal(0.5, 1, 300)
    near = NumberSummary.of("x", "numeric", then).distance(now)
    exact = ks_2samp(then, now).statistic
    assert exact - 0.05 < near <= exact


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1000, "about 1,000 times training's"),
        (0.001, "about 1/1,000 of training's"),
        (100, "about 100 times"),
        (2.54, "about 2.54 times"),
        (1 / 60, "about 1/60 of"),
        (37.3, "about 38.2 times"),  # the ratio of the medians
        (255, "about 255 times"),
    ],
)
@pytest.mark.parametrize("n_now", [25, 400])
def test_a_factor_of_all_values_is_named(factor: float, said: str, n_now: int) -> None:
    random = np.random.default_rng(1)
    then, now = random.gamma(3, 10, 800), random.gamma(3, 10, n_now)
    (off,) = found(then, now * factor)
    assert off.flag == "scale"
    assert n_now < 100 or said in off.text


def test_other_numbers_are_told_by_what_is_other_about_them() -> None:
    random = np.random.default_rng(2)
    then = random.normal(50, 10, 500)
    (off,) = found(then, np.full(30, np.nan))
    assert off == Finding("empty", "all 30 cells are empty, 0 % in training")
    half = np.where(np.arange(100) % 2, np.nan, random.normal(50, 10, 100))
    assert found(then, half) == [Finding("missing", "50 of 100 cells are empty (50 %), 0 % in training")]
    (off,) = found(then, np.append(random.normal(50, 10, 60), [900.0] * 6))
    assert off.flag == "range" and off.text.startswith("6 of 66 values lie outside training's range (")
    assert "such as 900" in off.text
    (off,) = found(then, random.normal(62, 10, 300))
    assert off.flag in ("shift", "range")
    (off,) = found(then, np.array([4000.0]))
    assert off.flag == "range" and "1 of 1 values" in off.text
    (off,) = found(np.arange(500) % 2 * 1.0, np.arange(40) % 2 * 0.5)
    assert (
        off.flag == "range" and off.text == "20 of 40 values are none of training's 2 (0 to 1), such as 0.5"
    )


def test_a_dtype_of_another_kind_is_named_with_the_scale_that_it_brings() -> None:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, 5000).astype(float)
    off = found(pixels, random.integers(0, 256, 2000) / 255, ("uint8", "float32"))
    assert [one.flag for one in off] == ["dtype", "scale"]
    assert off[0].text == "dtype is float32, uint8 in training" and "1/255 of training's" in off[1].text
    values = random.normal(size=500)
    assert found(values, values[:100], ("float64", "float32")) == []
    assert found(np.round(values), np.round(values[:100]), ("int64", "float32")) == []


@pytest.mark.parametrize(
    ("now", "how"),
    [
        (["MALE", "FEMALE"], "they would be with lower case"),
        (["Male", "FEMALE"], "they would be with lower case"),
        (["1", "2"], "they are numbers, training's are words"),
        (["fe-male", "Male"], "they would be with lower case, without spaces and marks"),
    ],
)
def test_how_unseen_categories_would_be_seen_is_said(now: list[str], how: str) -> None:
    (off,) = compared(["male", "female", "male", ""] * 50, now * 15)
    assert off.flag == "unseen"
    assert off.text.startswith("30 of 30 cells are not among training's values, such as ")
    assert off.text.endswith(f"; {how}")


@pytest.mark.parametrize(
    ("levels", "unseen", "told"),
    [
        (["A1", "B2"], {"a1": 3, "zz": 2}, "; 3 of them would be with upper case"),
        (["Ab", "cD"], {"AB": 3}, "; they would be with training's case"),
        (["3", "4"], {"3.0": 2, "4.00": 1}, "; they would be as whole numbers"),
        (["3", "4", "5"], {"three": 2}, "; they are words, training's are numbers"),
        (["ab"], {"xy": 1}, ""),
    ],
)
def test_a_hint_counts_the_cells_that_it_is_about(
    levels: list[str], unseen: dict[str, int], told: str
) -> None:
    assert Hint.of(Counter(unseen), levels).told(sum(unseen.values())) == told


def test_rare_categories_lead_to_expect_unseen_ones() -> None:
    random = np.random.default_rng(4)
    draw = [f"t{number}" for number in random.zipf(1.6, 1200)]
    assert len(set(draw[900:]) - set(draw[:900])) > 5
    assert compared(draw[:900], draw[900:]) == []
    assert compared(draw[:900], draw[900:901]) == []
    assert [one.flag for one in compared(draw[:900], [f"x{i}" for i in range(50)])] == ["unseen"]


def test_one_row_of_an_unseen_category_is_named_where_training_had_none_so_rare() -> None:
    (off,) = compared(["a", "b", "c"] * 100, ["z"])
    assert off.text == "1 of 1 cells are not among training's values, such as 'z'"
    assert compared(["a", "b"] * 10, ["z"]) == []  # of 20 rows one in 21 may be new


def test_other_shares_of_categories_are_named_with_the_one_that_moved_most() -> None:
    (off,) = compared(["a"] * 300 + ["b"] * 200 + ["c"] * 100, ["a"] * 20 + ["b"] * 80 + ["c"] * 20)
    assert off.flag == "shift" and "'a' stands in 17 % of the cells, in 50 % in training" in off.text
    assert compared(["a"] * 50 + ["b"] * 50, ["a"] * 3) == []


def test_categories_are_described_by_the_most_frequent_ones_after_json_too() -> None:
    summary = CategorySummary.of("c", np.array([0, 1, 1, 2, 2, 2]), ["a", "b", "c"])
    read = structured(CategorySummary, json.loads(json.dumps(asdict(summary), sort_keys=True)), "c")
    assert read.described == summary.described == "'c' 50 %, 'b' 33 %, 'a' 17 %"


def test_summaries_are_json_and_what_is_no_summary_is_refused() -> None:
    numbers = NumberSummary.of("x", "numeric", np.array([1.0, np.nan, 4.0]))
    again = json.loads(json.dumps(asdict(numbers)))
    assert structured(NumberSummary, again, "x") == numbers
    for wrong in (
        {"values": [4.0, 1.0]},
        {"up_to": [0.5]},
        {"cells": {"n_cells": 1, "n_missing": 2}},
        {"n_rows": "3"},
    ):
        with pytest.raises(StructureError):
            structured(NumberSummary, {**again, **wrong}, "x")
    assert CellCount(0, 0).missing_share == 0.0
