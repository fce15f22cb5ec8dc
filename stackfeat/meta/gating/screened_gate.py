"""The gate of estimators that are no linear models: blocks are screened by a proxy, then tried in few short fits.

In:  a way to make the estimator, its base columns, feature blocks, targets, inner folds.
Out: which blocks it gets. All trials together cost at most `SHARE` of one fit on the base, counted in rounds x rows x
     columns and not in seconds, so that every machine comes to the same result.

Short fits: few rounds at a higher learning rate, on a sample of the rows, one half of the folds predicting the other.
The proxy is a ridge step from the short fit's residuals to columns of a block and their squares; only a block that
lowers the proxy's held-out loss is tried, the best first, and the first that gains nothing ends the search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stackfeat.meta.columns import join, take_rows
from stackfeat.meta.estimator_io import fit_estimator, predict_rows
from stackfeat.meta.gating.blocks import MAX_BLOCKS, Block, GateStep, paired_gain, passes
from stackfeat.meta.gating.forward_selection import ridge_steps
from stackfeat.meta.gating.linear_solver import PROBLEMS, Problem
from stackfeat.meta.scaling import Scale
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)

SHARE = 0.25
"""Of the work of one fit on the base, what all trials may cost."""

FREE = 1_000_000
"""Rounds x rows x columns that trials may cost whatever a fit does: they take milliseconds."""

ROUNDS = 10

FASTEST = 0.3
"""Learning rate of short fits, where it was lower: rounds times rate is what they learn."""

ENOUGH_ROWS, MOST_ROWS = 2_000, 20_000

FEWEST_ROWS = 10

MAX_TRIALS = 3

FEWEST_COLUMNS, PROXY_COLUMNS = 8, 64

SMOOTHED = 0.01
"""Share of a uniform guess in the probabilities of short fits: few trees say 0 where more would not."""

LARGEST_SQUARE = 9.0
"""Of a standardised column: one far row must not be all that its square says."""

STRENGTHS = (10.0, 100.0, 1_000.0, 10_000.0)

_ROUNDS_NAMES = ("n_estimators", "iterations", "num_iterations", "num_boost_round", "num_trees", "n_iter")

_RATE_NAMES = ("learning_rate", "eta")


@dataclass(frozen=True)
class Budget:
    """How much short fits may read.

    Attributes
    ----------
    n_rows : int
    n_columns : int
        Of each block.
    n_trials : int
    price : float
        Of one column in one short fit on each half, as a share of one fit on the base.
    """

    n_rows: int
    n_columns: int
    n_trials: int
    price: float

    @classmethod
    def of(cls, n_rows: int, n_base: int, widest: int, rounds: int) -> Budget:
        """Share out the work: as many trials as leave enough rows, then as many rows as it pays for."""
        plain = rounds * n_rows * n_base
        allowed = max(SHARE * plain, FREE)
        short, n_columns = min(rounds, ROUNDS), min(widest, max(n_base, FEWEST_COLUMNS))
        for n_trials in range(MAX_TRIALS, 0, -1):
            width = (n_trials + 1) * n_base + n_columns * n_trials * (n_trials + 1) // 2
            rows = min(n_rows, MOST_ROWS, int(allowed / (short * width)))
            if rows >= min(n_rows, ENOUGH_ROWS):
                break
        return cls(rows, n_columns, n_trials, short * rows / plain)


def rounds_of(estimator: Any) -> int:
    """Rounds of boosting, or trees of a forest; 1 of an estimator that has none."""
    return max([1, *_of_rounds(estimator).values()])


def _of_rounds(estimator: Any) -> dict[str, int]:
    learner = type(getattr(estimator, "estimator", estimator)).__name__
    names = [*_ROUNDS_NAMES, *(["max_iter"] if "HistGradientBoosting" in learner else [])]
    params = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    return {name: int(params[name]) for name in names if isinstance(params.get(name), int | np.integer)}


def shortened(estimator: Any) -> Any:
    """Return the unfitted estimator with few rounds, at a learning rate that makes up for them."""
    found, rounds = _of_rounds(estimator), rounds_of(estimator)
    if rounds <= ROUNDS:
        return estimator
    params = estimator.get_params(deep=False)
    rates = {name: params[name] for name in _RATE_NAMES if isinstance(params.get(name), float)}
    faster = {name: max(rate, min(FASTEST, rate * rounds / ROUNDS)) for name, rate in rates.items()}
    return estimator.set_params(**dict.fromkeys(found, ROUNDS), **faster)


@dataclass(frozen=True)
class Screened:
    """What the search came to.

    Attributes
    ----------
    accepted : tuple of int
        Numbers of blocks, in order of entry.
    base_loss, loss : float or None
        Of short fits without blocks, and with those accepted; log-losses, or squared errors in units of the
        target's variance.
    work : float
        Rounds x rows x columns of all short fits, as a share of those of one fit on the base.
    steps : tuple of GateStep
    """

    accepted: tuple[int, ...]
    base_loss: float | None
    loss: float | None
    work: float
    steps: tuple[GateStep, ...]

    def report(self) -> dict[str, Any]:
        """Losses, work and steps; JSON values."""
        steps = [step.to_json() for step in self.steps]
        return {"base_loss": self.base_loss, "loss": self.loss, "work": self.work, "steps": steps}


def screened_search(
    make_estimator: Callable[[], Any],
    base: np.ndarray | pd.DataFrame,
    blocks: Sequence[Block],
    scales: Sequence[Scale],
    y: np.ndarray,
    weight: np.ndarray | None,
    fold_of: np.ndarray,
    task: Task,
    *,
    limit: float,
    seed: int,
    clusters: np.ndarray | None = None,
) -> Screened:
    """Let in the blocks that lower the held-out loss of short fits.

    Parameters
    ----------
    make_estimator : callable
        Returns a new, unfitted estimator.
    base : array or DataFrame of n rows
    blocks, scales : sequences of Block and of their Scale
        At least one.
    y : array of shape (n,)
    weight : float64 array of shape (n,) or None
        Mean one.
    fold_of : int64 array of shape (n,)
        Inner folds, from 0; the two halves of the rows keep them whole.
    task : Task
    limit : float
        Standard errors that a block must gain.
    seed : int
        Of the rows that are used.
    clusters : int64 array of shape (n,) or None
        Rows that standard errors do not count apart.
    """
    widest = max(block.values.shape[1] for block in blocks)
    budget = Budget.of(len(y), np.shape(base)[1], widest, rounds_of(make_estimator()))
    rows = np.sort(np.random.default_rng(seed).permutation(len(y))[: budget.n_rows])
    halves = tuple(np.flatnonzero(fold_of[rows] % 2 == half) for half in (0, 1))
    problem = PROBLEMS[task.losses[0]].pose(task.in_unit(y[rows]), task)[2]
    too_few = min(map(len, halves)) < FEWEST_ROWS
    if too_few or min(len(np.unique(y[rows][half])) for half in halves) < 2:
        logger.info("gate: too few rows, or one value of the target alone, in a half of the folds; no blocks")
        return Screened((), None, None, 0.0, ())
    used = {
        block.name: scale.apply(block.values[rows], np.float32)
        for block, scale in zip(blocks, scales, strict=True)
    }
    weights = np.ones(len(rows)) if weight is None else weight[rows]
    fits = ShortFits(
        make_estimator,
        take_rows(base, rows),
        y[rows],
        weights,
        weight is not None,
        halves,
        task,
        problem,
        None if clusters is None else clusters[rows],
    )
    return _search(fits, used, limit, budget)


def _search(fits: ShortFits, blocks: Mapping[str, np.ndarray], limit: float, budget: Budget) -> Screened:
    """Screen, try the most promising block, and go on from there as long as blocks gain."""
    names = list(blocks)
    entered: list[np.ndarray] = []
    n_read = np.shape(fits.base)[1]
    accepted: list[int] = []
    steps: list[GateStep] = []
    scores = fits.scores(entered)
    losses = base_losses = fits.problem.row_loss(scores)

    def mean(values: np.ndarray) -> float:
        return float(np.average(values, weights=fits.weight))

    while len(accepted) < min(budget.n_trials, MAX_BLOCKS, len(names)):
        waiting = [number for number in range(len(names)) if number not in accepted]
        proxies = {number: fits.proxy(scores, blocks[names[number]], budget.n_columns) for number in waiting}
        best = min(waiting, key=lambda number: mean(proxies[number].losses))
        gain, error = fits.gain(losses, proxies[best].losses)
        if not passes(gain, error, limit, mean(losses)):
            steps.append(GateStep(names[best], 1.0, gain, error, accepted=False, judged_by="proxy"))
            break
        columns = proxies[best].columns
        tried = fits.scores([*entered, columns])
        n_read += np.shape(fits.base)[1] + sum(one.shape[2] for one in (*entered, columns))
        after = fits.problem.row_loss(tried)
        gain, error = fits.gain(losses, after)
        taken = passes(gain, error, limit, mean(losses))
        steps.append(GateStep(names[best], 1.0, gain, error, taken))
        if not taken:
            break
        accepted.append(best)
        entered.append(columns)
        scores, losses = tried, after
    return Screened(tuple(accepted), mean(base_losses), mean(losses), n_read * budget.price, tuple(steps))


@dataclass(frozen=True)
class Proxy:
    """A ridge step to one block.

    Attributes
    ----------
    losses : float64 array of shape (n,)
        Held out.
    columns : float32 array of shape (2, n, c)
        Those of the block that mattered most in the step without each half.
    """

    losses: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class ShortFits:
    """Rows that short fits share; each half of them is predicted by a fit on the other.

    Attributes
    ----------
    make_estimator : callable
    base : array or DataFrame of n rows
    y, weight : arrays of shape (n,)
    is_weighted : bool
        Whether fits are given the weights.
    halves : two int64 arrays
        Rows.
    task : Task
    problem : Softmax or Squares
    clusters : int64 array of shape (n,) or None
    """

    make_estimator: Callable[[], Any]
    base: np.ndarray | pd.DataFrame
    y: np.ndarray
    weight: np.ndarray
    is_weighted: bool
    halves: tuple[np.ndarray, ...]
    task: Task
    problem: Problem
    clusters: np.ndarray | None = None

    def gain(self, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
        """Fall of the rows' losses, and its standard error; as `paired_gain`."""
        return paired_gain(before, after, self.weight, self.clusters)

    def scores(self, entered: Sequence[np.ndarray]) -> np.ndarray:
        """Held-out scores of short fits, float64 (n, n_outputs), on the base and columns of entered blocks."""
        out = np.empty((len(self.y), self.problem.n_outputs))
        for half, held_out in enumerate(self.halves):
            fitted = self.halves[1 - half]
            design = join(self.base, [columns[half] for columns in entered])
            estimator = fit_estimator(
                shortened(self.make_estimator()),
                take_rows(design, fitted),
                self.y[fitted],
                self.weight[fitted] if self.is_weighted else None,
                self.task,
                must_weigh=False,
            )
            prediction = predict_rows(estimator, take_rows(design, held_out), self.task)
            out[held_out] = self._as_scores(self.task.within(prediction, self.task.lists(self.y[held_out])))
        return out

    def _as_scores(self, prediction: np.ndarray) -> np.ndarray:
        """Return values in units of the problem, or logarithms of smoothed probabilities of classes that occur."""
        classes, (mean, sd), _ = type(self.problem).pose(self.task.in_unit(self.y), self.task)
        if not len(classes):
            return (prediction - mean) / sd
        return np.log((1 - SMOOTHED) * prediction[:, classes] + SMOOTHED / self.task.n_outputs)

    def proxy(self, scores: np.ndarray, block: np.ndarray, n_columns: int) -> Proxy:
        """Say what columns of a block, and their squares, tell of the residuals."""
        losses = np.empty((len(STRENGTHS), len(self.y)))
        found = [self._steps(scores, block, half) for half in (0, 1)]
        for half, held_out in enumerate(self.halves):
            for place, step in enumerate(found[half].steps):
                moved = scores[held_out] + found[half].design[held_out] @ step
                losses[place, held_out] = self.problem.take(held_out).row_loss(moved)
        best = int(np.argmin(losses @ self.weight))
        return Proxy(losses[best], np.stack([block[:, one.most(best, n_columns)] for one in found]))

    def _steps(self, scores: np.ndarray, block: np.ndarray, half: int) -> _Steps:
        """Fit ridge steps of each strength without one half."""
        fitted = self.halves[1 - half]
        problem, weight = self.problem.take(fitted), self.weight[fitted]
        residual = (problem.residual(scores[fitted]) * weight[:, None]).astype(np.float32)
        design = _with_squares(block, fitted)
        sizes = np.sum((design[fitted].T @ residual) ** 2, axis=1)
        width = block.shape[1]
        live = np.argsort(-(sizes[:width] + sizes[width:]), kind="stable")[:PROXY_COLUMNS]
        used = np.ascontiguousarray(design[:, np.concatenate([live, width + live])])
        curvature = problem.curvature(scores[fitted], weight)
        return _Steps(live, used, ridge_steps(used[fitted], residual, curvature, np.array(STRENGTHS)))


@dataclass(frozen=True)
class _Steps:
    """Ridge steps, one for each strength, in the `columns` of a block and their squares, which are the design."""

    columns: np.ndarray
    design: np.ndarray
    steps: list[np.ndarray]

    def most(self, strength: int, n_columns: int) -> np.ndarray:
        """Return the columns with the largest coefficients."""
        linear, square = np.split(np.sum(self.steps[strength] ** 2, axis=1), 2)
        return np.asarray(self.columns[np.argsort(-(linear + square), kind="stable")[:n_columns]])


def _with_squares(block: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Return columns of mean zero and unit variance in the rows fitted on, then their squares, made likewise."""
    linear = Scale.fit(block[fitted], "zscore").apply(block, np.float32)
    squares = np.minimum(linear**2, LARGEST_SQUARE)
    return np.hstack([linear, Scale.fit(squares[fitted], "zscore").apply(squares, np.float32)])
