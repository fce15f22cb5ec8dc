"""Intervals of a submitted member: fitted on its out-of-fold rows once a run, applied to new rows by its predictor.

In:  the places of its OOF rows, the rows and folds of the run; or the entry that was made of them.
Out: an entry with quantiles, the texts of models of widths, and what they expect of OOF rows; how many targets the
     intervals of a level hold, each by quantiles of other folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.blocks import Contents, folds_of, samples_of
from stackfeat.engine.jobs import Job
from stackfeat.engine.judged import clusters_of
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import IntervalRecipe
from stackfeat.engine.scoring import oof_prediction
from stackfeat.errors import MemberError
from stackfeat.meta.intervals import Intervals, OofRows, Quantiles, WidthModel
from stackfeat.meta.votes.averaging import Average
from stackfeat.seeds import derive_seed
from stackfeat.store import Entry, EntryStore, reading
from stackfeat.structure import must
from stackfeat.tasks.task import Task

N_PARTS = 5

FORWARD_LEVELS = (0.8, 0.9, 0.95)
"""What is measured of intervals for later rows, for whatever level is asked."""

_WRITTEN_OUT = 1000.0

EXPECTED = "oof/expected"
"""It stays in the store: nothing of it is needed for new rows."""


def interval_job(plan: Plan, member: str, average: Average) -> Job:
    """Return the job that fits the intervals of a member."""
    block = plan.graph.node(member).prediction
    assert block is not None
    recipe = IntervalRecipe(
        block=block,
        places=tuple(tuple(plan.oof_places(block, repeat)) for repeat in range(plan.sources.n_repeats)),
        samples=plan.sources.samples,
        folds=plan.sources.folds,
        average=average,
        seed=derive_seed(plan.sources.seed, "interval"),
    )
    return Job(member, 0, "all", (recipe,), "interval")


def fit_intervals(store: EntryStore, recipe: IntervalRecipe, trust_code: bool) -> Contents:
    """Fit the intervals of a member.

    Returns
    -------
    arrays : dict
        Those of `Quantiles`, and ``oof/expected`` (n_rows, n_columns).
    values : dict
        ``intervals``, as `Described`.
    """
    _, _, rows, numbers, n_rows = _oof_rows(store, recipe)
    if not rows.splits:
        raise MemberError(
            "intervals need two folds, one of which is predicted before the other; got one; add folds"
        )
    found, expected = Intervals.fit(rows, recipe.seed)
    levels = FORWARD_LEVELS if rows.is_time else ()
    forward = zip(levels, _coverages(rows, expected, levels), strict=True)
    everywhere = np.full((n_rows, expected.shape[1]), np.nan)
    everywhere[numbers] = expected
    arrays = {item.name: getattr(found.quantiles, item.name) for item in fields(Quantiles)}
    texts = tuple(tuple(model.text for model in models) for models in found.widths)
    described = Described(
        widths=texts,
        n_columns=rows.columns.shape[1] if texts else 0,
        is_time=rows.is_time,
        forward=tuple((level, share) for level, share in forward if share is not None),
    )
    return arrays | {EXPECTED: everywhere}, {"intervals": asdict(described)}


def _coverages(rows: OofRows, expected: np.ndarray, levels: Sequence[float]) -> Iterator[float | None]:
    """Yield the share of rows whose targets are in their regions; None where no row can be judged."""
    for level, reach in zip(levels, rows.reach(expected, levels), strict=True):
        judged = ~np.isnan(reach).any(axis=1)
        region = _region(rows, reach, level, judged)
        yield float(rows.task.holds(region, rows.y[judged]).mean()) if judged.any() else None


def _region(rows: OofRows, reach: np.ndarray, level: float, judged: np.ndarray) -> np.ndarray:
    """Return the regions of some rows: those that predictions say, or those within reach."""
    said = rows.task.at_level(rows.prediction[judged], level)
    return rows.task.region(rows.prediction[judged], reach[judged]) if said is None else said


@dataclass(frozen=True)
class Described:
    """What the entry of intervals says besides arrays.

    Attributes
    ----------
    widths : tuple of tuple of str
        The text of the model of each pipeline and column.
    n_columns : int
        That these read.
    is_time : bool
        Whether folds follow time.
    forward : tuple of (float, float)
        Levels, and what share of rows regions of these levels hold that were taken from earlier rows.
    """

    widths: tuple[tuple[str, ...], ...]
    n_columns: int
    is_time: bool
    forward: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class SavedIntervals:
    """Intervals as a predictor has them."""

    intervals: Intervals
    described: Described

    @classmethod
    def of(cls, entry: Entry, task: Task) -> SavedIntervals:
        """Read them; DamagedEntryError if they are not made so."""
        with reading(entry):
            found, n_outputs = entry.structure("intervals", Described), task.n_regions
            quantiles = Quantiles.from_arrays(entry.array, n_outputs, "its intervals")
            is_whole = bool(found.widths) == task.has_widths
            is_whole &= all(len(texts) == n_outputs for texts in found.widths)
            must(is_whole, "its widths", f"be of {n_outputs} columns", len(found.widths))
            models = ((WidthModel.of(text, found.n_columns) for text in texts) for texts in found.widths)
            return cls(Intervals(task, quantiles, tuple(map(tuple, models))), found)

    @property
    def caution(self) -> str:
        """What is to be said of them where folds follow time; else nothing."""
        if not self.described.is_time:
            return ""
        measured = ", ".join(
            f"those of {100 * level:g} % held {100 * share:.1f} %" for level, share in self.described.forward
        )
        name = self.intervals.task.region_words[0]
        return f"{name} are not guaranteed where folds follow time" + (
            f"; of later rows than they were taken from, {measured}" if measured else ""
        )

    def region(
        self, samples: Samples, prediction: np.ndarray, views: np.ndarray, level: float, *, is_mean: bool
    ) -> np.ndarray:
        """Return the region of each row; `views` is (n_repeats, n_views, n_rows, n_outputs)."""

        def columns_of(values: np.ndarray) -> np.ndarray:
            columns, n = width_columns(samples, values), self.described.n_columns
            must(columns.shape[1] == n, "its intervals", f"read {n} columns", columns.shape[1])
            return columns

        # An OOF row is the mean of one pipeline of each repeat.
        each = views.mean(axis=0)
        return self.intervals.region(prediction, each, columns_of, level, is_mean=is_mean)


def width_columns(samples: Samples, prediction: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
    """Return what the size of an error is expected from, float32: all columns of tables, and the prediction."""
    tables = [values for values in samples.inputs.values() if isinstance(values, Table)]
    parts = [part[rows] for table in tables for part in (table.numeric, table.codes)]
    return np.column_stack([part.astype(np.float32, copy=False) for part in (*parts, prediction)])


@dataclass(frozen=True)
class IntervalScore:
    """How many targets the intervals of a level hold, out of fold.

    Attributes
    ----------
    level : float
        What is wanted.
    coverage, se : float
        What was measured: the share of rows (where there are groups: its mean over groups), and its standard error
        over rows, groups or blocks of time.
    size : float or None
        Mean width; or classes in a set. None where bounds are infinite, for lack of rows.
    parts : tuple of float or None
        The same share in each fifth of rows by width, narrow ones first; or in each class.
    n_rows : int
    unit : {"rows", "groups"}
        What a share is of.
    words : (str, str)
        `Task.region_words`.
    guaranteed : bool
        Whether rows like these are covered alike. Not where folds follow time: each row was later than those that its
        interval was taken from, and what comes may differ.
    """

    level: float
    coverage: float
    se: float
    size: float | None
    parts: tuple[float | None, ...]
    n_rows: int
    unit: str
    words: tuple[str, str]
    guaranteed: bool

    def __str__(self) -> str:
        name, mean_size = self.words
        size = "too few rows for finite bounds"
        if self.size is not None:
            size = f"{mean_size} {self.size:{'.0f' if self.size >= _WRITTEN_OUT else '.4g'}}"
        low = min(part for part in self.parts if part is not None)
        text = (
            f"{name} of {100 * self.level:g} % hold {100 * self.coverage:.1f} ± {100 * self.se:.1g} % out of fold, "
            f"{100 * low:.1f} % where it is lowest; {size}"
        )
        return text if self.guaranteed else f"{text}; measured forward in time, and not guaranteed"

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "words"}

    @property
    def sentence(self) -> str:
        text = str(self)
        return f"{text[0].upper()}{text[1:]}."


def measure_intervals(store: EntryStore, key: str, levels: Sequence[float]) -> list[IntervalScore]:
    """Return what the intervals of each level are worth out of fold; each fold's come of the rows of the others."""
    entry = store.read(key)
    with reading(entry):
        recipe = IntervalRecipe.from_json(entry.recipe, "its recipe")
        samples, folds, rows, numbers, _ = _oof_rows(store, recipe)
        found = rows.reach(entry.array(EXPECTED)[numbers], levels)
    clusters = clusters_of(samples, folds.fold_of(0), folds.is_time)
    own = None if clusters is None else clusters[numbers]
    return [_measured(rows, own, reach, level) for reach, level in zip(found, levels, strict=True)]


def _measured(rows: OofRows, clusters: np.ndarray | None, reach: np.ndarray, level: float) -> IntervalScore:
    judged = np.flatnonzero(~np.isnan(reach).any(axis=1))
    if not len(judged):
        raise MemberError(
            "there must be a fold whose training rows were predicted with intervals; got none; add folds"
        )
    region, y = _region(rows, reach, level, judged), rows.y[judged]
    held, size = rows.task.holds(region, y), rows.task.region_size(region)
    weight = np.ones(len(judged))
    if rows.units is not None:
        _, own, counts = np.unique(rows.units[judged], return_inverse=True, return_counts=True)
        weight = 1.0 / counts[own]
    coverage = float(np.average(held, weights=weight))
    own = np.arange(len(judged)) if clusters is None else np.unique(clusters[judged], return_inverse=True)[1]
    sums = np.bincount(own, weights=weight * (held - coverage))
    inside, mean_size = _parts(rows.task, y, size), float(np.average(size, weights=weight))
    return IntervalScore(
        level=level,
        coverage=coverage,
        se=float(np.sqrt(sums @ sums) / weight.sum()),
        size=mean_size if np.isfinite(mean_size) else None,
        parts=tuple(
            float(np.average(held[one], weights=weight[one])) if len(one) else None for one in inside
        ),
        n_rows=len(judged),
        unit="rows" if rows.units is None else "groups",
        words=rows.task.region_words,
        guaranteed=not rows.is_time,
    )


def _parts(task: Task, y: np.ndarray, size: np.ndarray) -> Sequence[np.ndarray]:
    """Return the rows of each fifth by the size of regions, or of each class."""
    if not task.most_classes:
        return np.array_split(np.argsort(size, kind="stable"), N_PARTS)
    return [np.flatnonzero(task.strata(y) == number) for number in range(task.n_outputs)]


def _oof_rows(store: EntryStore, recipe: IntervalRecipe) -> tuple[Samples, Folds, OofRows, np.ndarray, int]:
    """Return the rows of a run, its folds, the rows that are predicted, their numbers, and the number of all."""
    samples, folds = samples_of(store, recipe.samples), folds_of(store, recipe.folds)
    prediction, covered = oof_prediction(store, recipe.places, folds, samples.task, recipe.average)
    numbers = np.flatnonzero(covered)
    place = np.full(folds.n_rows, -1)
    place[numbers] = np.arange(len(numbers))
    parts = [[place[part[covered[part]]] for part in split] for split in folds.splits[0]]
    group, reads = samples.group, samples.task.has_widths
    rows = OofRows(
        task=samples.task,
        y=samples.labels[numbers],
        prediction=prediction[numbers],
        columns=width_columns(samples, prediction[numbers], numbers)
        if reads
        else np.zeros((len(numbers), 0)),
        splits=[(train, held_out) for train, held_out in parts if len(train) and len(held_out)],
        units=None if group is None else np.unique(group[numbers], return_inverse=True)[1],
        is_time=folds.is_time,
    )
    return samples, folds, rows, numbers, folds.n_rows
