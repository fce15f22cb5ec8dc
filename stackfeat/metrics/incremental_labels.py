"""Growing averages under metrics of labels: only the rows and classes that one more vote can turn are looked at.

In:  what `IncrementalScorer` takes, and a score of counts.
Out: exact losses. A row's label can only become a class that, with the highest probability that any candidate gives
     it, reaches the best class with its lowest one. Of the other rows nothing is read; of these only such classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.metrics.incremental_scores import CHUNK_CELLS, IncrementalScorer
from stackfeat.tasks.task import Task

MANY_ROWS = 0.2
"""Of all rows: where more may turn, a prediction is read as a whole."""

SLACK = 1e-12
"""Sums of probabilities that differ by no more than this (relative) may be ties of means."""

ScoreOfCounts = Callable[[np.ndarray, Task], float]


@dataclass(frozen=True)
class Block:
    """Rows with about as many classes that may win.

    Attributes
    ----------
    rows : int64 array (n_rows,)
    cells : int64 array (width, n_rows)
        Places in a raveled prediction: of the class that leads without a candidate, then of the others.
    total : float64 array (width, n_rows)
        The average's sums of these cells; minus infinity where a row has fewer.
    """

    rows: np.ndarray
    cells: np.ndarray
    total: np.ndarray

    def turned(self, prediction: np.ndarray, slack: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which rows a candidate turns, and the cells that win; then the rows too close to call."""
        # All cells exist; that they do is not checked one by one.
        values = prediction.take(self.cells, mode="clip")
        values += self.total
        if len(values) == 2:
            ahead = np.subtract(values[1], values[0], out=values[1])
            found = np.flatnonzero(ahead >= -slack)
            is_close = ahead[found] <= slack
            sure = found[~is_close]
            return self.rows[sure], self.cells[1, sure], self.rows[found[is_close]]
        best, second = values[0], np.full(values.shape[1], -np.inf)
        place = np.zeros(values.shape[1], dtype=np.int32)
        for number, value in enumerate(values[1:], 1):
            np.copyto(place, number, where=value > best)
            np.maximum(second, np.minimum(best, value), out=second)
            np.maximum(best, value, out=best)
        is_close = best - second <= slack
        sure = np.flatnonzero((place > 0) & ~is_close)
        return self.rows[sure], self.cells[place[sure], sure], self.rows[is_close]


class LabelScorer(IncrementalScorer):
    """A metric of labels that is a score of counts: what accuracy and scores of confusion matrices share.

    Totals are (n_classes, n).
    """

    unit = 1.0
    n_bins: int

    def prepare(self) -> None:
        self.lowest, self.highest = extremes(self.predictions)

    def part(self, candidate: int) -> np.ndarray:
        return self.predictions[candidate].T

    @abstractmethod
    def bins(self, y: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return where rows of these true classes are counted if these codes win, int64."""

    @abstractmethod
    def score(self, counts: np.ndarray) -> float:
        """Return the score of counts (n_bins,), greater is better; NaN where undefined."""

    def loss_of(self, total: np.ndarray, size: float) -> float:
        return super().loss_of(total.T, size)

    def losses(self, candidates: np.ndarray) -> np.ndarray:
        if not self.total.any():
            return np.asarray([self._loss_alone(self.predictions[one]) for one in candidates])
        leader = first_largest(self.total)
        leading = self.bins(self.y, leader)
        counts = self._count(leading, slice(None))
        blocks = list(self._blocks(leader))
        many = sum(len(block.rows) for block in blocks) > MANY_ROWS * len(self.y)
        found = []
        for candidate in candidates:
            prediction = self.predictions[candidate]
            if many:
                # Read in order, which memory is built for; what is picked out of it then comes from the cache.
                prediction.max()
            rows, codes = self._turned(blocks, prediction)
            turned = self._count(self.bins(self.y[rows], codes), rows) - self._count(leading[rows], rows)
            found.append(self._loss(counts + turned))
        return np.asarray(found)

    def _turned(self, blocks: Sequence[Block], prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows whose labels a candidate turns, or may turn, and their labels with it."""
        nothing = np.zeros(0, dtype=np.int64)
        turned = [block.turned(prediction, SLACK * (self.size + 1)) for block in blocks]
        rows, cells, close = map(np.concatenate, zip((nothing,) * 3, *turned, strict=True))
        codes = cells - rows * self.task.n_outputs
        if len(close):
            # Equal means are a tie even where rounding keeps the sums apart.
            means = (self.total[:, close] + prediction[close].T) / (self.size + 1)
            rows, codes = np.concatenate([rows, close]), np.concatenate([codes, first_largest(means)])
        return rows, codes

    def _loss_alone(self, prediction: np.ndarray) -> float:
        step = max(1, CHUNK_CELLS // prediction.shape[1])
        chunks = (prediction[start : start + step] for start in range(0, len(prediction), step))
        codes = np.concatenate([first_largest(np.ascontiguousarray(chunk.T)) for chunk in chunks])
        return self._loss(self._count(self.bins(self.y, codes), slice(None)))

    def _loss(self, counts: np.ndarray) -> float:
        score = self.score(counts)
        return float("inf") if np.isnan(score) else -score

    def _count(self, bins: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        weight = None if self.weight is None else self.weight[rows]
        return np.bincount(bins, weights=weight, minlength=self.n_bins)

    def _blocks(self, leader: np.ndarray) -> Iterator[Block]:
        """Yield the rows that one more candidate may turn."""
        is_open = self._open_cells()
        # The leader may be out of reach of what beats it, and comes first anyway.
        is_open[leader, np.arange(len(leader))] = False
        n_others = np.add.reduce(is_open, axis=0, dtype=np.uint8 if len(is_open) < 256 else np.int32)
        width, narrower = 2, 1
        while narrower < len(is_open):
            width = min(width, len(is_open))
            rows = np.flatnonzero((n_others >= narrower) & (n_others < width))
            step = CHUNK_CELLS // width
            for start in range(0, len(rows), step):
                chosen = rows[start : start + step]
                yield self._block(chosen, leader[chosen], is_open[:, chosen], width)
            width, narrower = 2 * width, width

    def _open_cells(self) -> np.ndarray:
        """Return which classes of which rows may win with one more candidate, bool (n_classes, n)."""
        reached = (self.total + self.lowest).max(axis=0)
        reached -= SLACK * (self.size + 1)
        is_open: np.ndarray = self.total + self.highest >= reached
        return is_open

    def _block(self, rows: np.ndarray, leader: np.ndarray, is_open: np.ndarray, width: int) -> Block:
        n_classes = len(is_open)
        cells = np.repeat((rows * n_classes + leader)[None], width, axis=0)
        total = np.full(cells.shape, -np.inf)
        total[0] = self.total[leader, rows]
        filled = np.zeros(len(rows), dtype=np.int64)
        for code in range(n_classes):
            places = np.flatnonzero(is_open[code])
            filled[places] += 1
            cells[filled[places], places] = rows[places] * n_classes + code
            total[filled[places], places] = self.total[code, rows[places]]
        return Block(rows, cells, total)


class AccuracyScorer(LabelScorer):
    """Share of right rows."""

    n_bins = 2

    def bins(self, y: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(y == codes, dtype=np.int64)

    def score(self, counts: np.ndarray) -> float:
        return float(counts[1] / counts.sum())


class ConfusionScorer(LabelScorer):
    """A score of the counts by true and predicted class.

    Parameters
    ----------
    score_of_counts : callable
        Of counts (n_classes, n_classes), true classes in rows, and the task: the score, greater is better.
    """

    def __init__(self, *given: Any, score_of_counts: ScoreOfCounts) -> None:
        self.score_of_counts = score_of_counts
        super().__init__(*given)

    def prepare(self) -> None:
        super().prepare()
        self.n_bins = self.task.n_outputs**2

    def bins(self, y: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(y * self.task.n_outputs + codes, dtype=np.int64)

    def score(self, counts: np.ndarray) -> float:
        square = counts.astype(np.float64).reshape(self.task.n_outputs, -1)
        return self.score_of_counts(square, self.task)


def extremes(predictions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest of the predictions of every cell, (n_columns, n)."""
    lowest, highest = np.array(predictions[0]), np.array(predictions[0])
    step = max(1, CHUNK_CELLS // lowest.shape[1])
    for start in range(0, len(lowest), step):
        rows = slice(start, start + step)
        for one in predictions[1:]:
            np.minimum(lowest[rows], one[rows], out=lowest[rows])
            np.maximum(highest[rows], one[rows], out=highest[rows])
    return np.ascontiguousarray(lowest.T), np.ascontiguousarray(highest.T)


def first_largest(values: np.ndarray) -> np.ndarray:
    """Return the first largest row of each column, int64: `argmax` over few rows, many columns at a time."""
    # Small numbers are written faster.
    small = np.uint8 if len(values) < 256 else np.int32
    best, found = values[0].copy(), np.zeros(values.shape[1], dtype=small)
    for row, value in enumerate(values[1:], 1):
        np.copyto(found, row, where=value > best)
        np.maximum(best, value, out=best)
    return found.astype(np.int64)
