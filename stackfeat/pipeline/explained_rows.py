"""Explained rows: rows on their way through pipelines that had not seen them, and the losses that judge what changes.

In:  a finished run with its store; or a predictor and rows of a file.
Out: `ExplainedRows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.schema.given_rows import GivenRows
from stackfeat.data.schema.labelled_rows import with_labels
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.judged import Judged
from stackfeat.engine.passage import Passage
from stackfeat.engine.passed_rows import PassedRows
from stackfeat.engine.permutation_importance import Importance, Metered, Moved, number_units
from stackfeat.engine.predictor import Predictor
from stackfeat.engine.recipes import Place
from stackfeat.meta.votes.averaging import average_oof
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.saved_predictor import SavedPredictor
from stackfeat.pipeline.teacher import Teacher
from stackfeat.tasks.rows import spread_rows

UNLABELLED = (
    "without labels importance is how far predictions move, which is never below 0: noise that models read moves "
    "them, too"
)


@dataclass(frozen=True)
class Draw:
    """How many rows at most, how many permutations, and the seed of both."""

    rows: int
    repeats: int
    seed: int


@dataclass(frozen=True)
class ExplainedRows:
    """Rows, and what their importance is told by.

    Attributes
    ----------
    importance : Importance
    losses : Metered or Moved
        As those of `importance`; how far predictions move where there are no labels.
    rows : int64 array (n,)
        Their numbers in the file that they come from.
    units : str
        What standard errors count, in words.
    predictor : Predictor
        With the graph up to the submitted member.
    notes : tuple of str
    """

    importance: Importance
    losses: Metered | Moved
    rows: np.ndarray
    units: str
    predictor: Predictor
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """Of the rows as they are; None without labels."""
        if isinstance(self.losses, Moved):
            return None
        return self.losses.score(self.importance.prediction)

    @property
    def n_units(self) -> int:
        return len(np.unique(self.importance.units))


def held_out_rows(
    teacher: Teacher, train: Samples, folds: Folds, judged: Judged, rules: Mapping[int, Decision], draw: Draw
) -> ExplainedRows:
    """Return training rows, each through the pipeline of its fold, which had not seen it.

    Parameters
    ----------
    judged : Judged
        All training rows.
    rules : mapping of int to Decision
        By fold how predictions become labels; empty where the metric reads none.
    """
    numbers, average = teacher.folds(), teacher.whole.averaging.average
    parts, notes, chosen = list[PassedRows](), dict[str, None](), list[np.ndarray]()
    for fold in numbers:
        held = folds.splits[0][fold][1]
        places = train.task.spread(train.labels[held], max(1, draw.rows // len(numbers)), draw.seed)
        own = np.arange(len(places)) + sum(map(len, chosen))
        chosen.append(held[places])
        pipeline = replace(teacher.stack(fold), keeps=True)
        passage = Passage.of(pipeline.plan, pipeline.averaging, only=fold)
        place = passage.plan.view_place(pipeline.block, 0, fold, "fold")
        given = _given(teacher, pipeline, passage, fold, places)
        parts.append(
            PassedRows.of(passage, pipeline.parts, own, train.take(chosen[-1]), [place], "mean", given)
        )
        for node in teacher.imported(pipeline, fold):
            notes[f"predictions of {node.full_name} come from files: no column changes them"] = None
    if teacher.plan.sources.n_repeats > 1:
        notes[f"of {teacher.plan.sources.n_repeats} assignments of folds the first one is explained"] = None
    rows = np.concatenate(chosen)
    samples, fold_of = train.take(rows), folds.fold_of(0)[rows]
    units, words = _units(samples, fold_of, folds.is_time, draw)

    def decide(prediction: np.ndarray) -> np.ndarray:
        every = np.ones(len(prediction), dtype=bool)
        said = average_oof([prediction], [fold_of], every, train.task, average)
        return decided_by(rules, np.asarray(train.task.to_target_scale(said)), fold_of)

    losses = Metered(judged.take(rows), decide, units)
    importance = Importance(
        samples, parts, losses, units, draw.repeats, draw.seed, trains_others=not folds.is_time
    )
    return ExplainedRows(importance, losses, rows, words, teacher.whole, tuple(notes))


def decided_by(rules: Mapping[int, Decision], values: np.ndarray, fold_of: np.ndarray) -> np.ndarray:
    """Return what a metric reads of predictions on the scale of the target: labels where there are rules."""
    if not rules:
        return values
    first = next(iter(rules.values()))
    decided = np.empty(first.apply(values).shape)
    for fold in np.unique(fold_of).tolist():
        decided[fold_of == fold] = rules[fold].apply(values[fold_of == fold])
    return decided


def new_rows(model: SavedPredictor, rows: GivenRows, draw: Draw) -> ExplainedRows:
    """Return rows of a file, each through all pipelines, averaged as a prediction is."""
    predictor, way, task = model.predictor, model.way, model.predictor.task
    read = model.compare(rows, needs_ids=predictor.looks_up)[0]
    labelled = with_labels(read, rows, way.schema, way.data)
    random = np.random.default_rng(draw.seed)
    if labelled is None:
        chosen = spread_rows(random.permutation(read.n_rows), draw.rows, draw.seed)
    else:
        chosen = task.spread(labelled.labels, draw.rows, draw.seed)
    samples = (read if labelled is None else labelled).take(chosen)
    fold_of, is_time = np.zeros(samples.n_rows, dtype=np.int64), predictor.plan.sources.is_time
    units, words = _units(samples, fold_of, is_time, draw)
    passage, average = predictor.passage, predictor.averaging.average
    places = passage.places[predictor.block]
    widening = predictor.widenings.get(predictor.block)
    own = np.arange(len(chosen))
    part = PassedRows.of(passage, predictor.parts, own, samples, places, average, widening=widening)

    def decide(prediction: np.ndarray) -> np.ndarray:
        values = np.asarray(task.to_target_scale(prediction))
        return values if way.decision is None else way.decision.apply(values)

    def moved(prediction: np.ndarray) -> np.ndarray:
        return task.moved(*(np.asarray(task.to_target_scale(one)) for one in (part.prediction, prediction)))

    losses: Metered | Moved = Moved(moved, units)
    notes: tuple[str, ...] = (UNLABELLED,)
    if labelled is not None:
        judged = Judged.of(samples, way.metric, predictor.trust_code, fold_of, is_time)
        losses, notes = Metered(judged, decide, units), ()
    importance = Importance(samples, [part], losses, units, draw.repeats, draw.seed, trains_others=False)
    return ExplainedRows(importance, losses, chosen, words, predictor, notes)


def _units(samples: Samples, fold_of: np.ndarray, is_time: bool, draw: Draw) -> tuple[np.ndarray, str]:
    """Number what standard errors count, and say what it is."""
    kind = "whole groups" if samples.group is not None else "rows in time" if is_time else "rows"
    return number_units(fold_of, samples.group, samples.time, is_time, draw.seed), f"blocks of {kind}"


def _given(
    teacher: Teacher, pipeline: Predictor, passage: Passage, fold: int, places: np.ndarray
) -> dict[Place, np.ndarray]:
    """Return what imported members say of some held-out rows: their out-of-fold rows, which no column changes."""
    found: dict[Place, np.ndarray] = {}
    for node in teacher.imported(pipeline, fold):
        for output in node.outputs:
            place = teacher.plan.oof_places(node.block(output), 0)[fold]
            assert place is not None
            key = passage.plan.emits[node.full_name, 0, fold]
            found[key, f"view{fold}/{output.name}"] = teacher.store.read(place[0]).array(place[1])[places]
    return found
