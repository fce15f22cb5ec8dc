"""The task whose target is one value, and whose prediction is a column for each of several quantiles of it.

In:  levels between 0 and 1, ascending; values, predictions of shape (n_rows, n_levels).
Out: the pinball loss, of which the quantiles of the target are the best constants; columns that never cross.

Columns that cross are sorted within their row (rearranged), wherever predictions are made: that never raises the sum
of their pinball losses. V. Chernozhukov, I. Fernández-Val and A. Galichon, "Quantile and probability curves without
crossing", Econometrica 78, 2010, arXiv:0704.3649. Averages of sorted columns are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from stackfeat.structure import must
from stackfeat.tasks.regression import SURE, Regression, rank_correlation
from stackfeat.tasks.rows import checked_finite, is_above_zero, of_length
from stackfeat.tasks.task import DEFAULT_QUANTILES

SAME_LEVEL = 1e-9
"""Levels that differ by no more than this are the same."""

LEAST_HALF = 0.05
"""Of the distance between the outer quantiles: the middle one counts as no nearer to either of them."""

MOST_OFF = 0.02
"""As a share of the targets: so far from its level coverage may be, or a standard error where rows are few."""

REFUSED_SE = 2.0
"""Standard errors by which a shift must raise the loss of held-out folds to be refused.

The member was fitted on the fold that a shift is judged on when it predicted the folds that this shift comes from. So
what a fold lacks by chance asks others for the opposite, and every shift looks worse than it is on new rows.
"""


class Quantile(Regression):
    """Quantiles of one value."""

    prediction_text = "finite, ascending in each row"
    transforms = ("none", "log1p")
    averages = ("mean",)
    losses = ("pinball",)
    needs = ("value",)
    default_metric = row_metric = "pinball"
    calibrations = ("shift",)
    calibration_se = -REFUSED_SE
    pictures = ("quantiles", "coverage")
    reported = ("pinball", "wis", "crps", "coverage", "interval_width")
    has_widths = False
    is_by_level = True
    takes_targets = False

    @property
    def n_outputs(self) -> int:
        return len(self.quantiles)

    @property
    def n_regions(self) -> int:
        return 1

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"q{level:.12g}" for level in self.quantiles)

    def columns_of(self, member: str) -> tuple[str, ...]:
        return tuple(f"{member}:{name}" for name in self.columns)

    @property
    def described(self) -> str:
        return f"quantiles: {', '.join(f'{level:.12g}' for level in self.quantiles)}"

    @property
    def levels(self) -> np.ndarray:
        """The quantiles as float64 (n_levels,)."""
        return np.asarray(self.quantiles, dtype=np.float64)

    @property
    def middle(self) -> int:
        """The column nearest to the median."""
        return nearest_to_median(self.levels)

    def check(self, where: str) -> None:
        super().check(where)
        problem = quantile_problem(self.quantiles)
        must(not problem, f"{where}.quantiles", problem or "", self.quantiles)

    def checked(self, prediction: np.ndarray, who: str) -> np.ndarray:
        return np.sort(checked_finite(prediction, who), axis=1)

    def ask(self, estimator: Any, columns: Any) -> np.ndarray:
        name = type(estimator).__name__
        said = of_length(np.asarray(estimator.predict(columns)), len(columns), self.n_outputs, name)
        return self.checked(said[:, : self.n_outputs], name)

    def placed(self, said: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        return np.sort(super().placed(said), axis=1)

    def of_scores(self, scores: np.ndarray) -> np.ndarray:
        return np.sort(scores, axis=1)

    def to_member_scale(self, values: np.ndarray) -> np.ndarray:
        mapped = super().to_member_scale(values)
        return mapped if values.ndim == 1 else np.sort(mapped, axis=1)

    def counted(self, prediction: np.ndarray) -> np.ndarray:
        return prediction

    def perfect(self, y: np.ndarray) -> np.ndarray:
        return np.repeat(y.reshape(len(y), 1), self.n_outputs, axis=1)

    def losses_by_level(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the pinball loss of each row and level, float64 (n_rows, n_levels)."""
        return pinball_losses(y.reshape(len(y), 1) - prediction, self.levels)

    def row_loss(self, y: np.ndarray, prediction: np.ndarray, unit: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(self.losses_by_level(y, prediction).mean(axis=1))

    def constants(self, y: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
        """Return the quantiles of the target."""
        return [weighted_quantiles(y, self.levels, weight)]

    def told(self, y: np.ndarray, prediction: np.ndarray) -> dict[str, list[Any]]:
        outside = np.maximum(prediction[:, 0] - y, 0.0) - np.maximum(y - prediction[:, -1], 0.0)
        said = dict(zip(self.columns, prediction.T.tolist(), strict=True))
        return {"truth": y.tolist(), **said, "outside by": (-outside).tolist()}

    def guess(self, y: np.ndarray, as_labels: bool, random: np.random.Generator) -> np.ndarray:
        centre = 0.5 * random.permutation(y) + 0.5 * y.mean()
        return np.asarray(centre[:, None] + y.std() * (self.levels - 0.5))

    def is_near_chance(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> bool:
        weights = np.ones(len(y)) if weight is None else weight
        constant = np.tile(weighted_quantiles(y, self.levels, weight), (len(y), 1))
        gain = self.row_loss(y, constant) - self.row_loss(y, prediction)
        middle = prediction[:, self.middle]
        agreement = 0.0 if np.ptp(middle) == 0 else np.corrcoef(y, middle)[0, 1]
        return not (is_above_zero(gain, weights) or agreement * np.sqrt(len(y)) > SURE)

    def ordering(self, prediction: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return a function from values to Spearman's correlation with the column nearest to the median."""
        return rank_correlation(prediction[:, self.middle])

    # Intervals

    def levels_off(self, y: np.ndarray, prediction: np.ndarray) -> int:
        # Of a single quantile, whether as many lie below it.
        low = self.levels[0] if self.n_outputs > 1 else 0.0
        wanted = float(self.levels[-1] - low)
        inside = y <= prediction[:, -1]
        if self.n_outputs > 1:
            inside &= prediction[:, 0] <= y
        error = np.sqrt(wanted * (1.0 - wanted) / len(y))
        off = abs(inside.mean() - wanted) / max(MOST_OFF, error)
        return int(np.ceil(np.log2(max(off, 1.0)) - SAME_LEVEL))

    def at_level(self, prediction: np.ndarray, level: float) -> np.ndarray | None:
        low, high = self.place_of((1.0 - level) / 2.0), self.place_of((1.0 + level) / 2.0)
        return None if low is None or high is None else self.to_target_scale(prediction[:, [low, high]])

    def place_of(self, level: float) -> int | None:
        """Return the column of a level, None where it is not predicted."""
        near = np.flatnonzero(np.abs(self.levels - level) <= SAME_LEVEL)
        return int(near[0]) if len(near) else None

    def nonconformity(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return how far targets lie from the middle quantile, in units of the way to the outer one on their side.

        Conformalised quantile regression in the form of D. Kivaranovic and others, AISTATS 2020, arXiv:1905.10634.
        """
        below, above = self._halves(prediction)
        left = y - prediction[:, self.middle]
        return np.asarray(np.maximum(-left / below, left / above)[:, None])

    def region(self, prediction: np.ndarray, reach: np.ndarray) -> np.ndarray:
        below, above = self._halves(prediction)
        middle, by = prediction[:, self.middle], reach[:, 0]
        return self.to_target_scale(np.column_stack([middle - by * below, middle + by * above]))

    def _halves(self, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the way from the middle quantile to the lowest and to the highest, above 0."""
        if self.n_outputs == 1:
            return np.ones(len(prediction)), np.ones(len(prediction))
        low, middle, high = prediction[:, 0], prediction[:, self.middle], prediction[:, -1]
        least = np.maximum(LEAST_HALF * (high - low), 1e-9 * np.maximum(np.abs(middle), 1.0))
        return np.maximum(middle - low, least), np.maximum(high - middle, least)

    @property
    def region_names(self) -> list[str]:
        return ["lower", "upper"]

    def region_columns(self, region: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.region_names, region.T, strict=True))


def quantile_problem(levels: Sequence[float]) -> str | None:
    """Return what must hold of quantiles and does not, or nothing.

    Examples
    --------
    >>> quantile_problem((0.1, 0.5, 0.9)), quantile_problem((0.5, 0.1))
    (None, 'ascend, each once')
    """
    if not levels:
        return "name at least one level"
    if not all(0.0 < level < 1.0 for level in levels):
        return "lie between 0 and 1"
    if any(after - before <= SAME_LEVEL for before, after in pairwise(levels)):
        return "ascend, each once"
    return None


def nearest_to_median(levels: Sequence[float] | np.ndarray) -> int:
    """Return the place of the level that is nearest to one half."""
    return int(np.abs(np.asarray(levels) - 0.5).argmin())


def pinball_losses(left: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the pinball loss of targets less predictions (n_rows, n_levels), of that shape."""
    return np.asarray(np.maximum(levels * left, (levels - 1.0) * left))


def of_quantiles(quantiles: Sequence[float] | None, transform: str = "none") -> Quantile:
    """Return the task of these quantiles, of the usual ones for None."""
    levels = tuple(float(level) for level in quantiles) if quantiles is not None else DEFAULT_QUANTILES
    found = Quantile("quantile", transform=transform, quantiles=levels)  # type: ignore[arg-type]
    found.check("task")
    return found


def weighted_quantiles(values: np.ndarray, levels: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the quantiles of values whose k-th smallest of n stands at k / (n + 1), float64 (n_levels,).

    A new value of the same kind lies below the one of a level with just that probability.

    Examples
    --------
    >>> weighted_quantiles(np.arange(1.0, 10.0), np.array([0.1, 0.55]), None)
    array([1. , 5.5])
    """
    shares = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    order = order[shares[order] > 0]
    ordered, shares = values[order], shares[order] / shares[order].mean()
    # A weight stands for that many rows alike: its value lies in the middle of them.
    places = np.cumsum(shares) - 0.5 * shares + 0.5
    return np.asarray(np.interp(levels * (len(ordered) + 1), places, ordered))
