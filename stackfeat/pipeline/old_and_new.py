"""Old and new: two models of one stack, on rows that the old one was not trained on.

In:  the old run's pipelines and training rows, the new run and its training file.
Out: the score of each and their difference with its standard error, paired over rows (groups, blocks of time).
     Each row goes through one pipeline of either model: of the new one through that of its fold, which did not see
     it, of the old one through that of the same number. An average of all pipelines would win by averaging alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples, Table, load_samples
from stackfeat.data.splits.folds import hash_rows
from stackfeat.engine.fitted import fit_recipe
from stackfeat.engine.judged import Judged
from stackfeat.engine.predictor import Predictor
from stackfeat.engine.scoring import oof_prediction
from stackfeat.meta.votes.averaging import average_oof
from stackfeat.output.digits import significant, with_error
from stackfeat.output.run_result import RunResult
from stackfeat.output.saved_predictor import SavedPredictor
from stackfeat.pipeline.teacher import Teacher
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore

KNOWN_GROUPS = "The old model may know other rows of these groups, the new one's folds do not: it is favoured"


@dataclass(frozen=True)
class OldAndNew:
    """How two models do on the same rows.

    Attributes
    ----------
    n_rows : int
        Rows of the new training file.
    n_fresh : int
        Those that the old model was not trained on, and where folds follow time, that are later than its rows.
    n_scored : int
        Those of them that the new model predicts out of fold.
    old, new : float or None
        Scores; None where there is none.
    gain, se : float or None
        By how much the new model is better, and the standard error.
    is_in_time : bool
        Whether fresh rows are later ones.
    caution : str
        What the comparison cannot rule out; empty where there is nothing.
    """

    metric: str
    n_rows: int
    n_fresh: int
    n_scored: int
    old: float | None = None
    new: float | None = None
    gain: float | None = None
    se: float | None = None
    is_in_time: bool = False
    caution: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        later = " and later than its rows" if self.is_in_time else ""
        fresh = f"{self.n_fresh:,} of {self.n_rows:,} rows are new to the old model{later}"
        if self.old is None or self.new is None or self.gain is None:
            why = f"{self.metric} has no value on them" if self.n_scored else "there is nothing to compare on"
            return f"{fresh}; {why}"
        word = "better" if self.gain >= 0 else "worse"
        caution = f". {self.caution}" if self.caution else ""
        return (
            f"{fresh}; on {self.n_scored:,} of them, each by one pipeline: {self.metric} "
            f"{significant(self.old, 4)} by the old model, {significant(self.new, 4)} by the new one out of fold, "
            f"which is {word} by "
            f"{with_error(abs(self.gain), self.se)}{caution}"
        )


def compare_models(
    model: SavedPredictor,
    teacher: Teacher,
    result: RunResult,
    old_rows: Samples,
    store: EntryStore,
    train: Path,
) -> OldAndNew:
    """Score the old and the new model on rows that the old one was not trained on.

    Parameters
    ----------
    model : SavedPredictor
        The old one.
    teacher : Teacher
        Its pipelines.
    result : RunResult
        The new run, over the file `train`.
    old_rows : Samples
        Training rows of the old run.
    store : EntryStore
        Of the old run.
    """
    plan, metric = result.plan, str(result.leaderboard["metric"].iloc[0])
    new_rows, folds = load_samples(result.store.read(plan.sources.samples)), result.folds
    read = replace(model.rows_of(train), y=new_rows.y)
    known = [old_rows, *extra_rows(model.predictor, store)]
    has_ids = model.way.schema.id is not None
    is_fresh = ~np.logical_or.reduce([was_trained_on(read, rows, has_ids=has_ids) for rows in known])
    is_fresh &= _is_later(new_rows, known, is_time=folds.is_time)
    block = plan.graph.node(result.submitted).prediction
    assert block is not None
    task, average = new_rows.task, result.averaging.average
    # Of repeats the first one, as of the old model: each row through one pipeline of either.
    oof, covered = oof_prediction(result.store, [plan.oof_places(block, 0)], folds, task, "mean")
    rows, fold_of = np.flatnonzero(is_fresh & covered), folds.fold_of(0)
    counts = OldAndNew(
        metric,
        new_rows.n_rows,
        int(is_fresh.sum()),
        len(rows),
        is_in_time=folds.is_time,
        caution="" if new_rows.group is None else KNOWN_GROUPS,
    )
    if not len(rows):
        return counts
    judged = Judged.of(new_rows, metric, model.predictor.trust_code, fold_of, folds.is_time)
    if result.averaging.ranks_within_folds(folds.is_time) and judged.metric.ranking:
        judged = replace(judged, within=fold_of)
    judged, fold_of = judged.take(rows), fold_of[rows]
    with model.importing():
        said = [said_by_folds(teacher, read.take(rows), fold_of, is_time=folds.is_time), oof[rows]]
    every = np.ones(len(rows), dtype=bool)
    sides = [
        np.asarray(task.to_target_scale(average_oof([one], [fold_of], every, task, average))) for one in said
    ]
    if judged.metric.needs == "label" and model.way.decision is not None:
        sides = [model.way.decision.apply(side) for side in sides]
    seed = derive_seed(plan.sources.seed, "old and new")
    old, new = (judged.defined(side) for side in sides)
    if old is None or new is None:
        return counts
    before, after = (judged.bootstrap(side, seed) for side in sides)
    signed = judged.metric.signed
    se = float(np.nanstd(after - before, ddof=1))
    gain = signed(old) - signed(new)
    return replace(counts, old=old, new=new, gain=gain, se=se if np.isfinite(se) else None)


def said_by_folds(teacher: Teacher, samples: Samples, fold_of: np.ndarray, *, is_time: bool) -> np.ndarray:
    """Return what the old pipeline of each row's number says of it, float64 (n, n_outputs); by time the last one."""
    numbers = teacher.folds()
    own = np.array(numbers[-1:] if is_time else numbers)
    pipeline_of = own[fold_of % len(own)]
    said = np.empty((samples.n_rows, samples.task.n_outputs))
    for fold in np.unique(pipeline_of).tolist():
        rows = np.flatnonzero(pipeline_of == fold)
        said[rows] = teacher.pipeline(fold).predict_pipeline(samples.take(rows), fold)
    return said


def _is_later(rows: Samples, known: Sequence[Samples], *, is_time: bool) -> np.ndarray:
    """Return which rows are later than all that is known, where folds follow time; else all of them."""
    if not is_time or rows.time is None:
        return np.ones(rows.n_rows, dtype=bool)
    last = max(float(one.time.max()) for one in known if one.time is not None)
    return np.asarray(rows.time > last)


def was_trained_on(rows: Samples, known: Samples, *, has_ids: bool) -> np.ndarray:
    """Return which rows are among those of a training, bool (n_rows,): by their ids, or all features and the label.

    Parameters
    ----------
    rows, known : Samples
        With labels, read in one way.
    has_ids : bool
        Whether ids name rows; else they number those of a file.
    """
    own, others = _marks(rows), _marks(known)
    # NumPy 2.0 fails over tables of such great numbers, which it takes where they are near each other.
    found = np.isin(own, others, kind="sort")
    if has_ids:
        found |= np.isin(np.char.strip(rows.ids), np.char.strip(known.ids))
    return np.asarray(found)


_MIX = np.uint64(0x9E3779B97F4A7C15)


def _marks(samples: Samples) -> np.ndarray:
    """Return a number for the features and the label of each row, uint64."""
    labels = (samples.labels.astype(np.float64).reshape(samples.n_rows, -1) + 0.0).view(np.uint64)
    inputs = {
        # A copy of a file may hold numbers as float32.
        name: replace(values, numeric=values.numeric.astype(np.float32))
        if isinstance(values, Table)
        else values
        for name, values in samples.inputs.items()
    }
    marks = hash_rows(inputs)
    for column in labels.T:
        marks = (marks ^ column) * _MIX
    return marks


def extra_rows(predictor: Predictor, store: EntryStore) -> Iterator[Samples]:
    """Yield the rows that trained models beside those of the training file."""
    recipes = (fit_recipe(predictor.store, key) for key in predictor.plan.fits.values())
    for key in {recipe.extra.samples for recipe in recipes if recipe.extra is not None}:
        yield load_samples(store.read(key))
