"""Growing averages under metrics of labels: only the rows and classes that one more vote can turn are looked at.

In:  what `IncrementalScorer` takes, and a score of counts.
Out: exact losses. A row's label can only become a class that, with the highest probability that any candidate gives
     it, reaches the leading class with its lowest one. Other rows are known to be safe for some votes, and are not
     looked at before; of these only such classes are read, once, and kept in single precision. What that leaves too
     close to call is scored as the plain algorithm does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.metrics.incremental_scores import CHUNK_CELLS, HALF_ULP, IncrementalScorer
from stackfeat.tasks.task import Task

SLACK = 1e-12
"""Sums of probabilities that differ by no more than this (relative) may be ties of means."""

MOST_KEPT = 1 << 25
"""Numbers kept of cells in single precision, 128 MB."""

MOST_AHEAD = 100
"""Votes after which every row is looked at again."""

CELLS_AT_ONCE = 2_048
"""Cells read from all candidates before they are written down in another order."""

ROUNDING = 1e-9
"""Relative, of how far classes are apart."""

ScoreOfCounts = Callable[[np.ndarray, Task], float]


class KeptCells:
    """What some candidates say of cells in single precision, each cell read once, its numbers side by side.

    Parameters
    ----------
    predictions : sequence of float arrays (n, n_classes)
        Of the candidates.
    """

    def __init__(self, predictions: Sequence[np.ndarray]) -> None:
        self.predictions = predictions
        self.most = max(1, MOST_KEPT // len(predictions))
        # Memory is taken where something is written only.
        self.values = np.empty((min(predictions[0].size, self.most), len(predictions)), dtype=np.float32)
        self.slots = np.full(predictions[0].size, -1, dtype=np.int32)
        self.n_kept = 0

    def keep(self, cells: np.ndarray) -> None:
        """Read what is not known yet of different cells, at most `most`; where there is no room, forget others."""
        new = cells[self.slots[cells] < 0]
        if self.n_kept + len(new) > len(self.values):
            self.slots[:], self.n_kept, new = -1, 0, cells
        for start in range(0, len(new), CELLS_AT_ONCE):
            some = new[start : start + CELLS_AT_ONCE]
            # All cells exist; that they do is not checked one by one.
            read = np.stack([one.take(some, mode="clip") for one in self.predictions])
            places = slice(self.n_kept, self.n_kept + len(some))
            self.values[places] = read.T
            self.slots[some] = np.arange(places.start, places.stop)
            self.n_kept = places.stop

    def of(self, cells: np.ndarray) -> np.ndarray:
        """Return the numbers of cells that are kept, float32 (n_cells, n_candidates)."""
        found: np.ndarray = self.values.take(self.slots[cells], axis=0)
        return found


@dataclass(frozen=True)
class Block:
    """Rows with about as many classes that may win.

    Attributes
    ----------
    rows : int64 array (n_rows,)
    codes : int64 array (width, n_rows)
        Classes: that which leads without a candidate, then the others; where a row has fewer, the leader again.
    behind : float64 array (width - 1, n_rows)
        How far the average's sums of the others are behind; infinite where a row has fewer.
    """

    rows: np.ndarray
    codes: np.ndarray
    behind: np.ndarray

    def parts(self, n_rows: int) -> Iterator[Block]:
        """Yield so many rows at a time."""
        for start in range(0, len(self.rows), n_rows):
            some = slice(start, start + n_rows)
            yield Block(self.rows[some], self.codes[:, some], self.behind[:, some])

    def winners(self, kept: KeptCells, n_classes: int, slack: float) -> tuple[list[np.ndarray], np.ndarray]:
        """Return for each other class where it surely wins, bool (n_rows, n_candidates), and what is close."""
        cells = self.rows * n_classes + self.codes
        is_other = np.isfinite(self.behind)
        kept.keep(np.concatenate([cells[0], cells[1:][is_other]]))
        leader = kept.of(cells[0])
        ahead = [kept.of(one) for one in cells[1:]]
        for values, behind in zip(ahead, self.behind.astype(np.float32), strict=True):
            values -= leader
            values -= behind[:, None]
        if len(ahead) == 1:
            wins = ahead[0] > slack
            return [wins], (ahead[0] >= -slack) & ~wins
        best, second = np.zeros_like(leader), np.full_like(leader, -np.inf)
        place = np.zeros(leader.shape, dtype=np.uint8 if len(ahead) < 256 else np.int32)
        for number, values in enumerate(ahead, 1):
            np.copyto(place, number, where=values > best)
            np.maximum(second, np.minimum(best, values), out=second)
            np.maximum(best, values, out=best)
        close = best - second <= slack
        place[close] = 0
        return [place == number for number in range(1, len(ahead) + 1)], close


class LabelScorer(IncrementalScorer):
    """A metric of labels that is a score of counts: what accuracy and scores of confusion matrices share.

    Attributes
    ----------
    leader : int64 array (n,)
        The class that leads each row.
    due : float64 array (n,)
        The size from which another class might lead with one more vote, at the earliest.
    """

    unit = 1.0
    n_bins: int

    def prepare(self) -> None:
        self.lowest, self.highest = extremes(self.predictions)
        self.largest = float(max(np.abs(self.lowest).max(), np.abs(self.highest).max()))
        self.candidates, self.kept = np.zeros(0, dtype=np.int64), KeptCells(self.predictions[:1])
        self.leader, self.due = np.zeros(len(self.y), dtype=np.int64), np.zeros(len(self.y))

    def set(self, weights: np.ndarray) -> None:
        super().set(weights)
        self.due[:] = 0.0

    @abstractmethod
    def bins(self, y: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return where rows of these true classes are counted if these codes win, int64."""

    @abstractmethod
    def score(self, counts: np.ndarray) -> float:
        """Return the score of counts (n_bins,), greater is better; NaN where undefined."""

    def losses(self, candidates: np.ndarray) -> np.ndarray:
        if not self.total.any():
            return np.asarray([self._loss_alone(self.predictions[one]) for one in candidates])
        rows, is_open = self._find_leaders()
        leading = self.bins(self.y, self.leader)
        counts = self._count(leading, slice(None))
        if not np.array_equal(candidates, self.candidates):
            self.candidates = candidates
            self.kept = KeptCells([self.predictions[one] for one in candidates])
        changes = np.zeros((self.n_bins, len(candidates)))
        for block in self._blocks(rows, is_open, leading):
            self._add_changes(changes, block, leading)
        return np.asarray([self._loss(counts + one) for one in changes.T])

    def _add_changes(self, changes: np.ndarray, block: Block, leading: np.ndarray) -> None:
        """Add to counts (n_bins, n_candidates) what each candidate turns in some rows."""
        # Here, because metrics are asked for their facts where SciPy is too slow to import.
        from scipy.sparse import csc_array

        # Numbers, and the average's lead over them, are rounded to single precision, and so are their differences.
        slack = 16 * HALF_ULP * self.largest + SLACK * (self.size + 1)
        winners, close = block.winners(self.kept, self.task.n_outputs, slack)
        before, y = leading[block.rows], self.y[block.rows]
        # Counts of rows are exact in single precision.
        dtype = np.float32 if self.weight is None else np.float64
        weight = np.ones(len(y), dtype=dtype) if self.weight is None else self.weight[block.rows]
        ends = np.arange(0, 2 * len(y) + 1, 2)
        for codes, wins in zip(block.codes[1:], winners, strict=True):
            bins = np.column_stack([self.bins(y, codes), before]).ravel()
            steps = np.column_stack([weight, np.negative(weight)]).ravel()
            moves = csc_array((steps, bins, ends), (self.n_bins, len(y)))
            changes += moves @ wins.astype(dtype)
        by_candidate = close.T
        for candidate in np.flatnonzero(by_candidate.any(axis=1)).tolist():
            rows = block.rows[by_candidate[candidate]]
            # Equal means are a tie even where rounding keeps the sums apart.
            codes = self._codes(int(self.candidates[candidate]), rows)
            changes[:, candidate] += self._count(self.bins(self.y[rows], codes), rows)
            changes[:, candidate] -= self._count(leading[rows], rows)

    def _codes(self, candidate: int, rows: np.ndarray) -> np.ndarray:
        """Return the labels of rows with a candidate."""
        means = (self.total[rows] + self.predictions[candidate][rows]) / (self.size + 1)
        return np.asarray(means.argmax(axis=1))

    def _loss_alone(self, prediction: np.ndarray) -> float:
        codes = prediction.argmax(axis=1) if prediction.shape[1] > 2 else prediction[:, 1] > prediction[:, 0]
        return self._loss(self._count(self.bins(self.y, codes.astype(np.int64)), slice(None)))

    def _loss(self, counts: np.ndarray) -> float:
        score = self.score(counts)
        return float("inf") if np.isnan(score) else -score

    def _count(self, bins: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        weight = None if self.weight is None else self.weight[rows]
        return np.bincount(bins, weights=weight, minlength=self.n_bins)

    def _find_leaders(self) -> tuple[np.ndarray, np.ndarray]:
        """Bring the leaders up to date; return the rows where another class might win, and such classes.

        These are an int64 array (n_found,), and a bool array (n_classes, n_found).
        """
        rows = np.flatnonzero(self.due <= self.size)
        step = max(1, CHUNK_CELLS // self.task.n_outputs)
        found = [self._looked_at(rows[start : start + step]) for start in range(0, len(rows), step)]
        is_open = np.concatenate([np.zeros((self.task.n_outputs, 0), dtype=bool), *found], axis=1)
        some = np.flatnonzero(is_open.any(axis=0))
        return rows[some], is_open[:, some]

    def _looked_at(self, rows: np.ndarray) -> np.ndarray:
        """Set the leaders of rows, and when they are due again; return which others one more vote may let win."""
        cells = (of.take(rows, axis=0) for of in (self.total, self.lowest, self.highest))
        total, lowest, highest = (np.ascontiguousarray(of.T) for of in cells)
        leader, columns = first_largest(total), np.arange(len(rows))
        # How far a class is behind, and how much of that a vote can make up for.
        behind = (total[leader, columns] - total) * (1.0 - ROUNDING) - SLACK * (self.size + MOST_AHEAD)
        gain = np.maximum(highest - lowest[leader, columns], np.finfo(np.float64).tiny)
        behind[leader, columns] = np.inf
        is_open: np.ndarray = behind <= gain
        with np.errstate(over="ignore"):
            votes = np.divide(behind, gain, out=behind).min(axis=0)
        self.leader[rows] = leader
        self.due[rows] = self.size + np.floor(np.clip(votes - 1.0, 0.0, MOST_AHEAD))
        return is_open

    def _blocks(self, rows: np.ndarray, is_open: np.ndarray, leading: np.ndarray) -> Iterator[Block]:
        """Yield the rows that one more candidate may turn, if it makes a difference to the counts."""
        n_others = np.add.reduce(is_open, axis=0, dtype=np.uint8 if len(is_open) < 256 else np.int32)
        y, differs = self.y[rows], np.zeros(len(rows), dtype=bool)
        for code, one in enumerate(is_open):
            differs |= one & (self.bins(y, np.full(len(y), code)) != leading[rows])
        n_others = np.where(differs, n_others, 0)
        width, narrower = 2, 1
        while narrower < len(is_open):
            width = min(width, len(is_open))
            some = np.flatnonzero((n_others >= narrower) & (n_others < width))
            if len(some):
                block = self._block(rows[some], is_open[:, some], width)
                yield from block.parts(
                    max(1, min(CHUNK_CELLS // len(self.candidates), self.kept.most // width))
                )
            width, narrower = 2 * width, width

    def _block(self, rows: np.ndarray, is_open: np.ndarray, width: int) -> Block:
        leader = self.leader[rows]
        codes, behind = np.repeat(leader[None], width, axis=0), np.full((width - 1, len(rows)), np.inf)
        most = self.total[rows, leader]
        filled = np.zeros(len(rows), dtype=np.int64)
        for code, one in enumerate(is_open):
            places = np.flatnonzero(one)
            behind[filled[places], places] = most[places] - self.total[rows[places], code]
            filled[places] += 1
            codes[filled[places], places] = code
        return Block(rows, codes, behind)


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
    """Return the lowest and the highest of the predictions of every cell, (n, n_columns)."""
    lowest, highest = np.array(predictions[0]), np.array(predictions[0])
    step = max(1, CHUNK_CELLS // lowest.shape[1])
    for start in range(0, len(lowest), step):
        rows = slice(start, start + step)
        for one in predictions[1:]:
            np.minimum(lowest[rows], one[rows], out=lowest[rows])
            np.maximum(highest[rows], one[rows], out=highest[rows])
    return lowest, highest


def first_largest(values: np.ndarray) -> np.ndarray:
    """Return the first largest row of each column, int64: `argmax` over few rows, many columns at a time."""
    # Small numbers are written faster.
    small = np.uint8 if len(values) < 256 else np.int32
    best, found = values[0].copy(), np.zeros(values.shape[1], dtype=small)
    for row, value in enumerate(values[1:], 1):
        np.copyto(found, row, where=value > best)
        np.maximum(best, value, out=best)
    return found.astype(np.int64)
