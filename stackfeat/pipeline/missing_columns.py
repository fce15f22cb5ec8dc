"""What a column that new rows lack is worth: the out-of-fold score of the stack that goes without it.

In:  a run folder whose store is still there, the columns.
Out: both scores in words; nothing where the run's rows are gone, or its models need code of the user's own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.columns import Column
from stackfeat.engine.judged import Judged
from stackfeat.engine.predictor import load_predictor
from stackfeat.errors import StackfeatError
from stackfeat.output.provenance import Index
from stackfeat.output.saved_predictor import FOLDER, FileForm
from stackfeat.output.stored_run import open_rows, read_run
from stackfeat.pipeline.teacher import Teacher
from stackfeat.registry.resolve import name_values

logger = logging.getLogger(__name__)

MOST_ROWS = 2_000
"""Out-of-fold rows that are predicted again, with the columns and without."""


@dataclass(frozen=True)
class Cost:
    """The score of out-of-fold rows as they are, and without values in some columns."""

    metric: str
    whole: float
    without: float
    n_rows: int

    def said(self, columns: Sequence[str]) -> str:
        return (
            f"without {name_values(columns)}, {self.metric} is {self.without:.4g} in place of {self.whole:.4g} out "
            f"of fold ({self.n_rows:,} rows)"
        )


def cost_without(run_folder: Path, columns: Sequence[str]) -> str:
    """Return what it costs to go without columns, in words; empty where that cannot be told."""
    try:
        cost = _cost(run_folder, frozenset(columns))
    except (StackfeatError, OSError) as error:
        logger.info("what missing columns cost is not known: %s", error)
        return ""
    return "" if cost is None else cost.said(columns)


def _cost(run_folder: Path, columns: Collection[str]) -> Cost | None:
    index, config = read_run(run_folder)
    entries, train, folds = open_rows(run_folder / index.store, index)
    whole, values = load_predictor(run_folder / FOLDER)
    schema = FileForm.from_json(values, str(run_folder / FOLDER)).schema
    teacher = Teacher.of(whole, index, folds.is_time, entries, run_folder)
    judged = Judged.of(train, config.metric, False, folds.fold_of(0), folds.is_time)
    lost = [column for column in schema.columns if column.name in columns]
    rows, said = [], []
    for fold, chosen in _held_out(teacher, index, train, [held for _, held in folds.splits[0]]):
        pipeline, part = teacher.pipeline(fold), train.take(chosen)
        rows.append(chosen)
        both = [pipeline.predict_pipeline(one, fold) for one in (part, _blanked(part, lost))]
        said.append([np.asarray(train.task.to_target_scale(one)) for one in both])
    if not rows:
        return None
    judged, task = judged.take(np.concatenate(rows)), train.task
    together = [np.concatenate([pair[side] for pair in said]) for side in (0, 1)]
    if judged.metric.needs == "label":
        together = [task.decided(one) for one in together]
    scores = [judged.defined(one) for one in together]
    if scores[0] is None or scores[1] is None:
        return None
    return Cost(config.metric, scores[0], scores[1], len(judged.y))


def _held_out(
    teacher: Teacher, index: Index, train: Samples, held: Sequence[np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield folds that are predicted, and some of their rows."""
    folds = teacher.folds()
    for fold in folds:
        few = train.task.spread(train.labels[held[fold]], max(1, MOST_ROWS // len(folds)), 0)
        yield fold, held[fold][few]


def _blanked(samples: Samples, columns: Sequence[Column]) -> Samples:
    """Return rows in which some columns have no values."""
    numbers = {name for column in columns for name in column.numeric_names}
    coded = {column.name for column in columns}
    inputs = dict(samples.inputs)
    for name, table in inputs.items():
        if isinstance(table, Table):
            numeric, codes = table.numeric.copy(), table.codes.copy()
            numeric[:, [one in numbers for one in table.numeric_names]] = np.nan
            codes[:, [one in coded for one in table.code_names]] = -1
            texts = table.texts.copy()
            texts[:, [one in coded for one in table.text_names]] = ""
            inputs[name] = replace(table, numeric=numeric, codes=codes, texts=texts)
    return replace(samples, inputs=inputs)
