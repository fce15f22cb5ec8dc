"""What is remembered of one training column, and what is off about the same column of new rows.

In:  the numbers or category codes of a column; later those of another file.
Out: `NumberSummary` or `CategorySummary`, small and plain JSON; of new values `Finding`s, a word and a line with
     counts. Values of the same distribution give none, whatever their number: each threshold is that of a test, and
     of a least difference besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import lt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stackfeat.registry.resolve import quote_values, quoted
from stackfeat.structure import must

LEVELS = (0, 0.005, 0.01, 0.025, *(i / 20 for i in range(1, 20)), 0.975, 0.99, 0.995, 1)
"""Where the distribution of a column of numbers is remembered."""
MOST_LEVELS = 50
"""Categories whose frequencies are remembered."""

RARE, _LIKELY, _UNLIKELY, _SURE = 0.01, 0.05, 1e-3, 1e-5
_LEAST_SHARE, _LEAST_MISSING, _LEAST_SHIFT = 0.01, 0.05, 0.2
_KS_SURE, _KS_LIKELY = 2.7, 1.63
_FAR, _LEAST_FAR, _TIMES, _FEWEST = 10.0, 0.001, 8.0, 8
_UNITS = (
    1e9,
    1e6,
    1e4,
    1000,
    100,
    10,
    255,
    1024,
    86_400,
    3600,
    60,
    24,
    12,
    7,
    3.6,
    3.281,
    2.54,
    1.609,
    2.205,
)
_TENS = {10.0**power for power in range(-9, 10)}
_SIDES: tuple[Any, ...] = ("left", "right")

Written = Callable[[float], str]


class Finding(NamedTuple):
    """What is off about a column, in a word and in words with counts."""

    flag: str
    text: str


def percent(share: float) -> str:
    """Return a share such as ``12 %``, small ones with their first digit.

    Examples
    --------
    >>> percent(0.123), percent(0.0004)
    ('12 %', '0.04 %')
    """
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.01 else f"{100 * share:.1g} %"


def is_beyond_chance(n_now: int, n_cells: int, n_then: int, n_training: int, alpha: float = _SURE) -> bool:
    """Whether so many of new cells are rare where training's were drawn from the same distribution.

    Fisher's exact test of one side: `n_now` of `n_cells` against `n_then` of `n_training`.

    Examples
    --------
    >>> is_beyond_chance(33, 50, 0, 200), is_beyond_chance(3, 50, 10, 200)
    (True, False)
    """
    if not n_cells or n_now / n_cells <= n_then / max(n_training, 1):
        return False
    n_both, n_total = n_now + n_then, n_cells + n_training
    more = np.arange(n_now, min(n_both, n_cells) + 1)
    logs = _log_choose(n_both, more) + _log_choose(n_total - n_both, n_cells - more)
    return bool(np.exp(logs - _log_choose(n_total, n_cells)).sum() < alpha)


def _log_choose(n: int, k: np.ndarray | int) -> Any:
    # Its import takes a third of the second in which `check` answers, and most files need none of it.
    from scipy.special import gammaln

    return gammaln(n + 1) - gammaln(np.asarray(k) + 1.0) - gammaln(n - np.asarray(k) + 1.0)


@dataclass(frozen=True)
class CellCount:
    """How many cells a column has, and how many of them are missing."""

    n_cells: int
    n_missing: int

    def __post_init__(self) -> None:
        must(0 <= self.n_missing <= self.n_cells, "n_missing", "be a number of the cells", self.n_missing)

    @property
    def n_present(self) -> int:
        return self.n_cells - self.n_missing

    @property
    def missing_share(self) -> float:
        return self.n_missing / max(self.n_cells, 1)

    @property
    def described(self) -> str:
        return f", {percent(self.missing_share)} missing" if self.n_missing else ""

    def compared(self, now: CellCount) -> Iterator[Finding]:
        """Yield what is off about the missing cells of the same column in new rows."""
        before = f"{percent(self.missing_share)} in training"
        then, missing = (self.n_missing, self.n_cells), (now.n_missing, now.n_cells)
        if now.n_cells and not now.n_present:
            if is_beyond_chance(*missing, *then, _UNLIKELY if self.n_missing else RARE):
                yield Finding("empty", f"all {now.n_cells} cells are empty, {before}")
            return
        alpha = _SURE if self.n_missing else RARE
        is_off = is_beyond_chance(*missing, *then, alpha)
        is_off |= is_beyond_chance(now.n_present, now.n_cells, self.n_present, self.n_cells)
        if is_off and abs(now.missing_share - self.missing_share) > _LEAST_MISSING:
            share = percent(now.missing_share)
            yield Finding("missing", f"{now.n_missing} of {now.n_cells} cells are empty ({share}), {before}")


@dataclass(frozen=True)
class NumberSummary:
    """What is remembered of numbers, truth values or dates, or of the values of an array.

    Attributes
    ----------
    name, kind : str
    cells : CellCount
    n_rows : int
        Rows that the numbers are of: those of one row of an array are one witness, not many.
    values : tuple of float
        All different values where there are no more than `LEVELS`; else those at `LEVELS` of the distribution.
    below, up_to : tuple of float
        The shares of the cells below each value, and up to it.
    n_once : int or None
        Where all values are remembered: how many of them stand in one cell.
    magnitude : float
        The median of the absolute values other than 0; 0 where there are none.
    dtype : str
        Of arrays.
    """

    name: str
    kind: str
    cells: CellCount
    n_rows: int
    values: tuple[float, ...]
    below: tuple[float, ...]
    up_to: tuple[float, ...]
    n_once: int | None
    magnitude: float
    dtype: str = ""

    def __post_init__(self) -> None:
        n_values = {len(self.values), len(self.below), len(self.up_to)}
        must(len(n_values) == 1, self.name, "have shares for each of its values", sorted(n_values))
        is_rising = all(map(lt, self.values, self.values[1:]))
        must(is_rising, self.name, "have values that rise", self.values[:3])

    @classmethod
    def of(
        cls, name: str, kind: str, numbers: np.ndarray, n_rows: int | None = None, dtype: str = ""
    ) -> NumberSummary:
        """Summarise numbers, NaN where missing; `n_rows` where they are not one a row."""
        present = np.sort(numbers[~np.isnan(numbers)])
        starts = _starts(present)
        is_listed = len(starts) <= len(LEVELS)
        if is_listed:
            knots, n_once = present[starts], int((np.diff(starts, append=len(present)) == 1).sum())
        else:
            knots = present[_places(len(present))]
            knots = knots[_starts(knots)]
        size = np.sort(np.abs(present[present != 0]))
        return cls(
            name=name,
            kind=kind,
            cells=CellCount(len(numbers), len(numbers) - len(present)),
            n_rows=len(numbers) if n_rows is None else n_rows,
            values=tuple(knots.tolist()),
            **{name: tuple(shares.tolist()) for name, shares in _shares(present, knots).items()},
            n_once=n_once if is_listed else None,
            magnitude=float(size[(len(size) - 1) // 2] + size[len(size) // 2]) / 2 if len(size) else 0.0,
            dtype=dtype,
        )

    @property
    def median(self) -> float:
        return self.values[int(np.searchsorted(self.up_to, 0.5 - 1e-12))]

    def described(self, written: Written) -> str:
        """Return median, range and missing share in words."""
        if not self.values:
            return "no values"
        dtype = f"{self.dtype}, " if self.dtype else ""
        span = f"{written(self.values[0])} to {written(self.values[-1])}"
        return f"{dtype}median {written(self.median)}, {span}{self.cells.described}"

    def compared(self, now: NumberSummary, numbers: np.ndarray, written: Written) -> Iterator[Finding]:
        """Yield what is off in the numbers (NaN where missing) that `now` is the summary of."""
        yield from self.cells.compared(now.cells)
        if _kind_of(now.dtype) != _kind_of(self.dtype):
            yield Finding("dtype", f"dtype is {now.dtype}, {self.dtype} in training")
        present = numbers[~np.isnan(numbers)]
        if not len(present) or not self.values:
            return
        middles = f"median {written(now.median)}, {written(self.median)} in training"
        is_moved = self.distance(present) > max(_LEAST_SHIFT, self._noise(now, _KS_SURE))
        is_outside = self._outside(present)
        is_beyond = self._is_beyond(present, is_outside, now.n_rows)
        factor = self._factor(present, now) if is_moved or is_beyond else ""
        if factor:
            yield Finding("scale", f"values are about {factor} training's ({middles})")
        elif is_beyond:
            outside = present[is_outside]
            example = written(float(outside[np.abs(outside - self.median).argmax()]))
            span = f"{written(self.values[0])} to {written(self.values[-1])}"
            where = f"lie outside training's range ({span})"
            if self.n_once is not None and np.all((outside > self.values[0]) & (outside < self.values[-1])):
                where = f"are none of training's {len(self.values)} ({span})"
            yield Finding("range", f"{len(outside)} of {len(present)} values {where}, such as {example}")
        elif is_moved:
            yield Finding("shift", f"values are distributed otherwise ({middles})")

    def distance(self, numbers: np.ndarray) -> float:
        """Return the greatest difference of the two distribution functions at the remembered values."""
        now = _shares(np.sort(numbers), np.asarray(self.values))
        gaps = [np.abs(now["below"] - self.below), np.abs(now["up_to"] - self.up_to)]
        return float(np.max(gaps))

    def _noise(self, now: NumberSummary, sure: float) -> float:
        """Return the distance that is not exceeded by chance."""
        return float(sure * np.sqrt(1 / max(self.n_rows, 1) + 1 / max(now.n_rows, 1)))

    def _outside(self, numbers: np.ndarray) -> np.ndarray:
        """Which numbers training does not know: none of its values, or beyond the first and last of them."""
        if self.n_once is not None:
            return ~np.isin(numbers, self.values)
        return np.asarray((numbers < self.values[0]) | (numbers > self.values[-1]))

    def _is_beyond(self, numbers: np.ndarray, is_outside: np.ndarray, n_rows: int) -> bool:
        """Whether more numbers are not known than a sample lets expect, or some lie far outside."""
        low, high = self.values[0], self.values[-1]
        share, n_rows = float(is_outside.mean()), min(n_rows, len(numbers))
        n_expected = 2 if self.n_once is None else self.n_once
        is_many = is_beyond_chance(round(share * n_rows), n_rows, n_expected, self.n_rows)
        is_far = np.abs(numbers - (low + high) / 2) > _FAR * max((high - low) / 2, abs(high) * 1e-9)
        n_far = int(np.ceil(is_far.mean() * n_rows))
        are_far = is_far.mean() > _LEAST_FAR and is_beyond_chance(n_far, n_rows, 0, self.n_rows, _LIKELY)
        return bool((is_many and share > _LEAST_SHARE) or are_far)

    def _factor(self, numbers: np.ndarray, now: NumberSummary) -> str:
        """Return what all values seem to be multiplied by, in words; empty where nothing fits."""
        if not now.magnitude or not self.magnitude or now.n_rows < _FEWEST:
            return ""
        ratio, plain = now.magnitude / self.magnitude, self.distance(numbers)
        fits = min(0.6 * plain, max(0.15, self._noise(now, _KS_LIKELY)))
        near = 1 + max(0.1, 3 / np.sqrt(min(now.n_rows, self.n_rows)))
        named = {factor: f"{factor:,.4g} times" for factor in _UNITS}
        named |= {1 / factor: f"1/{factor:,.4g} of" for factor in _UNITS}
        found = {f: self.distance(numbers / f) for f in named if 1 / near < ratio / f < near}
        # A power of ten that fits is the likelier mistake than 1024 or 3600 that fit a little better.
        fitting = sorted(factor for factor in found if found[factor] <= fits)
        tens = [factor for factor in fitting if factor in _TENS]
        if fitting:
            return named[min(tens or fitting, key=lambda factor: found[factor])]
        is_large = not 1 / _TIMES < ratio < _TIMES
        return f"{ratio:,.3g} times" if is_large and self.distance(numbers / ratio) <= fits else ""


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Return where each different value of sorted numbers begins; numpy.unique would sort them again."""
    is_first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


@lru_cache
def _places(n: int) -> np.ndarray:
    """Return which of `n` sorted numbers stand at `LEVELS`."""
    return np.quantile(np.arange(n), LEVELS, method="inverted_cdf").astype(np.int64)


def _shares(ordered: np.ndarray, knots: np.ndarray) -> dict[str, np.ndarray]:
    """Return which share of sorted numbers is below each knot, and up to it."""
    below, up_to = (np.searchsorted(ordered, knots, side) / max(len(ordered), 1) for side in _SIDES)
    return {"below": below, "up_to": up_to}


def _kind_of(dtype: str) -> str:
    """Return what a dtype is of: unsigned numbers of other sizes have other ranges, floats have not."""
    kind = np.dtype(dtype).kind if dtype else ""
    return dtype if kind == "u" else "number" if kind in ("f", "i") else kind


@dataclass(frozen=True)
class CategorySummary:
    """What is remembered of a column of categories besides its levels, which the schema holds.

    Attributes
    ----------
    name : str
    cells : CellCount
    n_once : int
        Rows whose level no other row has: so many unseen ones are to be expected among as many new rows.
    counts : dict of str to int
        Rows of the most frequent levels.
    """

    name: str
    cells: CellCount
    n_once: int
    counts: dict[str, int]

    kind = "categorical"

    @classmethod
    def of(cls, name: str, codes: np.ndarray, levels: Sequence[str]) -> CategorySummary:
        """Summarise codes into levels, below 0 where missing."""
        counts = np.bincount(codes[codes >= 0], minlength=len(levels))
        most = np.argsort(-counts, kind="stable")[:MOST_LEVELS].tolist()
        cells = CellCount(len(codes), int((codes == -1).sum()))
        return cls(name, cells, int((counts == 1).sum()), {levels[code]: int(counts[code]) for code in most})

    @property
    def described(self) -> str:
        """The most frequent levels and the missing share in words."""
        ordered = sorted(
            self.counts, key=lambda level: -self.counts[level]
        )  # as JSON, levels are in their own order
        most = [f"{quoted(level)} {percent(self._share(level))}" for level in ordered[:3]]
        return f"{', '.join(most) or 'no values'}{self.cells.described}"

    def compared(
        self, now: CategorySummary, unseen: Counter[str], levels: Sequence[str]
    ) -> Iterator[Finding]:
        """Yield what is off in a column of new rows.

        Parameters
        ----------
        now : CategorySummary
            By training's levels; the others are missing from its counts.
        unseen : Counter
            Cells that hold none of them, by text.
        levels : sequence of str
            Training's.
        """
        yield from self.cells.compared(now.cells)
        n_unseen, n_cells, n_training = unseen.total(), now.cells.n_present, self.cells.n_present
        if not n_cells or not n_training:
            return
        hint = Hint.of(unseen, levels)
        alpha = _SURE if self.n_once else RARE
        is_more = is_beyond_chance(n_unseen, n_cells, self.n_once, n_training, alpha)
        is_more &= n_unseen / n_cells - self.n_once / n_training > _LEAST_SHARE
        if is_more or is_beyond_chance(hint.n_cells, n_cells, 0, n_training, _LIKELY):
            said = f"{n_unseen} of {n_cells} cells are not among training's values"
            examples = quote_values(text for text, _ in unseen.most_common(3))
            yield Finding("unseen", f"{said}, such as {examples}{hint.told(n_unseen)}")
            return
        moved = {level: now.counts.get(level, 0) / n_cells - self._share(level) for level in self.counts}
        if 0.5 * sum(map(abs, moved.values())) > max(_LEAST_SHIFT, self._noise(now)):
            level = max(moved, key=lambda one: abs(moved[one]))
            shares = percent(self._share(level) + moved[level]), percent(self._share(level))
            text = f"{quoted(level)} stands in {shares[0]} of the cells, in {shares[1]} in training"
            yield Finding("shift", f"values are distributed otherwise: {text}")

    def _share(self, level: str) -> float:
        return self.counts[level] / max(self.cells.n_present, 1)

    def _noise(self, now: CategorySummary) -> float:
        """Return half the sum of the differences of shares that is not exceeded by chance.

        One cell more or less moves the sum by one cell's share, so it stays near its mean (McDiarmid's inequality).
        """
        n_then, n_now = self.cells.n_present, now.cells.n_present
        counts = np.array([[n, now.counts.get(level, 0)] for level, n in self.counts.items()])
        pooled = counts.sum(axis=1) / (n_then + n_now)
        both = 1 / n_then + 1 / n_now
        return float(0.5 * np.sqrt(2 / np.pi * pooled * (1 - pooled) * both).sum() + _KS_SURE * np.sqrt(both))


@dataclass(frozen=True)
class Hint:
    """In what way unseen texts are training's after all: how many cells are, and by what."""

    n_cells: int
    how: str

    @classmethod
    def of(cls, unseen: Counter[str], levels: Sequence[str]) -> Hint:
        """Try every way of writing; the first that explains most cells."""
        best = cls(0, "")
        for how, change in _WRITTEN.items():
            known = {change(level): level for level in levels}
            matched = {text: known[change(text)] for text in unseen if change(text) in known}
            n_cells = sum(unseen[text] for text in matched)
            if n_cells > best.n_cells:
                case = "lower" if all(one == one.lower() for one in matched.values()) else "upper"
                case = case if all(one == getattr(one, case)() for one in matched.values()) else "training's"
                best = cls(n_cells, how.format(case=case))
        return best if best.n_cells else cls._of_kinds(unseen, levels)

    @classmethod
    def _of_kinds(cls, unseen: Counter[str], levels: Sequence[str]) -> Hint:
        """Say where there are numbers in the place of words, or the reverse."""
        are_numbers = [_share_of_numbers(list(texts)) for texts in (unseen, levels)]
        if are_numbers[0] > 0.9 and are_numbers[1] < 0.1:
            return cls(0, "they are numbers, training's are words")
        if are_numbers[0] < 0.1 and are_numbers[1] > 0.9:
            return cls(0, "they are words, training's are numbers")
        return cls(0, "")

    def told(self, n_unseen: int) -> str:
        """Return the hint as the end of a sentence on so many unseen cells; empty where there is none."""
        if not self.n_cells:
            return f"; {self.how}" if self.how else ""
        subject = "they" if self.n_cells == n_unseen else f"{self.n_cells} of them"
        return f"; {subject} would be {self.how}"


def _whole(text: str) -> str:
    """Return ``3`` for ``3.0``, as a column of whole numbers is written once a cell is empty."""
    return text.partition(".")[0] if text.partition(".")[2].strip("0") == "" else text


_WRITTEN: dict[str, Callable[[str], str]] = {
    "with {case} case": str.casefold,
    "as whole numbers": _whole,
    "with {case} case, without spaces and marks": lambda text: "".join(filter(str.isalnum, text)).casefold(),
}


def _share_of_numbers(texts: Sequence[str]) -> float:
    if not texts:
        return 0.0
    return float(pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").notna().mean())
