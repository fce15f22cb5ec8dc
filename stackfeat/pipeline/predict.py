"""predict: new data through the saved predictor of a run: as an object, or from one file to another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples
from stackfeat.data.schema.drift import warn_of_drift
from stackfeat.data.schema.load import check_columns
from stackfeat.data.schema.roles import read_ids
from stackfeat.engine.predictor import REMEDY
from stackfeat.errors import DataWarning, MissingColumnsError, UsageError, as_written
from stackfeat.meta.intervals import checked_level
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.files import write_csv
from stackfeat.output.output_file import IsOurs, has_columns, refuse_foreign, refuse_place
from stackfeat.output.packed_predictor import is_packed, unpack_predictor
from stackfeat.output.saved_predictor import SavedPredictor, load_run
from stackfeat.output.submission import Form, make_submission
from stackfeat.pipeline.students import Student, load_student, read_file
from stackfeat.tasks.task import Task


def load(
    run: str | Path,
    *,
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
    without: Sequence[str] = (),
    allow_missing: bool = False,
) -> SavedPredictor | Student:
    """Return the predictor of a finished run, which predicts rows of any form as often as it is asked.

    Parameters
    ----------
    run : path
        Folder of a finished run, or a file that `stackfeat export` wrote of one; or a student's file, whose `Student`
        is returned.
    trust_code : bool, optional
        Needed where the run needed it. None: unless `stackfeat trust` remembers the config that made this
        very folder; False: not even then.
    data_roots : sequence of Path
        Folders besides that of the rows that the predictor's paths of arrays and images may lead to.
    without : sequence of str
        Members that votes shall do without, such as imported ones that do not know the rows.
    allow_missing : bool
        Whether a column that is not there counts as one without values, as training would fill it.

    Raises
    ------
    DataError
        If there is no predictor, it is damaged, or it was written by another version.
    StackfeatError
        If a member could not be saved.

    Examples
    --------
    >>> model = load("runs/pets")         # doctest: +SKIP
    >>> model.predict_proba(frame)        # doctest: +SKIP
    """
    run = Path(run)
    if run.is_file() and is_packed(run):
        return load_packed(
            run, trust_code=trust_code, data_roots=data_roots, without=without, allow_missing=allow_missing
        )
    if run.is_file():
        if without or allow_missing:
            raise UsageError(
                f"without and allow_missing are for runs; got a student, {run}, which is one model; leave them out"
            )
        return load_student(run)
    return load_run(
        run, trust_code=trust_code, data_roots=data_roots, without=without, allow_missing=allow_missing
    )


def load_packed(path: Path, *, trust_code: bool | None, **options: Any) -> SavedPredictor:
    """Return the predictor in a file that `stackfeat export` wrote; code of the user's own lies beside the file."""
    unpacked = unpack_predictor(path)
    model = load_run(
        unpacked.folder, trust_code=trust_code or False, code_folder=path.absolute().parent, **options
    )
    again = partial(load_packed, path, trust_code=trust_code, **options)
    return replace(model, held=unpacked, again=again)


@dataclass(frozen=True)
class Wanted:
    """What is written besides ids.

    Attributes
    ----------
    proba : bool
        Probabilities in the place of what is submitted.
    members : bool
        What each member says.
    interval : float or None
        A level: bounds, or the classes of a set.
    spread : bool
        How far the pipelines of the folds are apart.
    """

    proba: bool = False
    members: bool = False
    interval: float | None = None
    spread: bool = False


def predict_file(
    run_folder: Path,
    data: Path,
    output: Path,
    *,
    trust_code: bool | None = None,
    without: Sequence[str] = (),
    data_roots: Sequence[Path] = (),
    allow_missing: bool = False,
    wanted: Wanted = Wanted(),
    force: bool = False,
) -> int:
    """Predict the rows of a file; return how many there are.

    Parameters
    ----------
    run_folder : Path
        Folder of a finished run, with its `predictor/`; an exported file; or a student's file.
    data : Path
        A file with the columns of the training file; a target column is ignored.
    output : Path
        A csv file like the submission of the run, unless other columns are `wanted`.
    trust_code, without, data_roots, allow_missing
        As in `load`.
    force : bool
        Whether the output may replace a file of other columns.

    Raises
    ------
    DataError
        If there is no predictor, the file's columns do not fit, or the predictor names files elsewhere.
    UsageError
        If the output would replace the data, a file of a run, or a file of other columns.
    """
    data, output, run_folder = Path(data), Path(output), Path(run_folder)
    if wanted.interval is not None:
        checked_level(wanted.interval)
    refuse_place(output, run=run_folder, data=data)
    may_replace = partial(refuse_foreign, output, force=force)
    options: dict[str, Any] = {"data_roots": data_roots, "without": without, "allow_missing": allow_missing}
    options["keeps"] = False
    if run_folder.is_file() and is_packed(run_folder):
        said = _by_run(load_packed(run_folder, trust_code=trust_code, **options), data, wanted, may_replace)
    elif run_folder.is_file():
        said = _by_student(run_folder, data, without, allow_missing, wanted, may_replace)
    else:
        try:
            said = _by_run(load_run(run_folder, trust_code=trust_code, **options), data, wanted, may_replace)
        except MissingColumnsError as error:
            raise _with_cost(error, run_folder) from error
    # Where a link leads to: the link stays.
    columns = said.columns(wanted)
    write_csv(output.resolve(), tuple(columns), tuple(columns.values()))
    return len(said.ids)


def _with_cost(error: MissingColumnsError, run_folder: Path) -> MissingColumnsError:
    """Return the error with what it costs to go without the columns, where the run's rows are still there."""
    from stackfeat.pipeline.missing_columns import cost_without

    cost = cost_without(run_folder, error.columns) if error.columns else ""
    return MissingColumnsError(f"{error}; {cost}" if cost else str(error), error.columns)


@dataclass(frozen=True)
class Said:
    """What is predicted of the rows of a file."""

    ids: np.ndarray
    prediction: np.ndarray
    decision: Decision | None
    task: Task
    form: Form
    others: Mapping[str, np.ndarray]
    where: str
    lists: np.ndarray | None = None

    def columns(self, wanted: Wanted) -> dict[str, Sequence[object] | np.ndarray]:
        """Return the columns of the file that is written, by name."""
        if wanted.proba:
            if self.task.output != "proba":
                raise UsageError(f"--proba needs classes; got a run of a {self.task.kind}; leave it out")
            proba = dict(zip(self.task.columns, self.prediction.T, strict=True))
            return {self.form.id_name: self.ids.tolist(), **proba, **self.others}
        with as_written(self.where, REMEDY):
            labels = None if self.decision is None else self.decision.apply(self.prediction)
            submission = make_submission(self.ids, self.prediction, labels, self.task, self.form, self.lists)
        return {**dict(zip(submission.header, submission.columns, strict=True)), **self.others}


def _headers(task: Task, form: Form, members: Sequence[str] = ()) -> list[list[str]]:
    """Return the names of the columns that may be written, by any options: those of `Said.columns`."""
    proba = [[form.id_name, *task.columns]] if task.most_classes else []
    others = [
        [name for member in members for name in task.columns_of(member)],
        task.region_names,
        [*task.columns_of("spread")],
    ]
    chosen = product(*([[], names] for names in (others if members else [])))
    more = [[name for part in parts for name in part] for parts in chosen]
    return [[*dict.fromkeys([*first, *after])] for first in ([*form.header(task)], *proba) for after in more]


def _by_run(model: SavedPredictor, data: Path, wanted: Wanted, may_replace: Callable[[IsOurs], None]) -> Said:
    folder, way = f"{model.predictor.folder}", model.way
    of_rows = {"--members": wanted.members, "--spread": wanted.spread}
    for option in [option for option, is_given in of_rows.items() if is_given and way.form.is_by_list]:
        raise UsageError(
            f"{option} says something of each row; got a run whose submission has a row for each query "
            "(data.label_separator); leave it out, or use sf.load in Python"
        )
    may_replace(has_columns(*_headers(model.predictor.task, way.form, model.members)))
    samples, drift = model.compare(model.rows(data))
    warn_of_drift(drift, str(data))
    if way.summary is None:
        warnings.warn(
            f"{folder} holds no summary of the training data, as an earlier version wrote it: columns were "
            f"not compared with those of training; {REMEDY} to have it",
            DataWarning,
            stacklevel=2,
        )
    prediction, others = _predictions(model, samples, wanted)
    task, lists = model.predictor.task, samples.query_names
    return Said(samples.ids, prediction, way.decision, task, way.form, others, folder, lists)


def _predictions(
    model: SavedPredictor, samples: Samples, wanted: Wanted
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the predictions of rows, and the other columns that are wanted; rows pass through the models once."""
    others = dict[str, np.ndarray]()
    if wanted.interval is None and not wanted.spread:
        if not wanted.members:
            return model.predicted(samples), others
        outputs = model.member_outputs(samples)
        return outputs[model.submitted], model.member_columns(outputs)
    if wanted.members:
        by_member = model.member_views(samples)
        outputs = {member: model.averaged(views, member) for member, views in by_member.items()}
        others, views = model.member_columns(outputs), by_member[model.submitted]
    else:
        views = model.views(samples)
    if wanted.interval is not None:
        others |= model.predictor.task.region_columns(model.region(samples, views, wanted.interval))
    others |= model.spread_columns(views) if wanted.spread else {}
    return model.averaged(views), others


def _by_student(
    file: Path,
    data: Path,
    without: Sequence[str],
    allow_missing: bool,
    wanted: Wanted,
    may_replace: Callable[[IsOurs], None],
) -> Said:
    unfit = {"--without": bool(without), "--allow-missing": allow_missing, "--members": wanted.members}
    unfit |= {"--interval": wanted.interval is not None, "--spread": wanted.spread}
    for option in [option for option, is_given in unfit.items() if is_given]:
        raise UsageError(f"{option} is for a stack; got a student, which is one model; drop it")
    student = load_student(file)
    may_replace(has_columns(*_headers(student.schema.task, student.form)))
    frame = read_file(data, student.data)
    schema = student.schema
    needed = [*([] if schema.id is None else [schema.id]), *student.feature_names_in_]
    check_columns(frame, needed, schema, DataOptions(**student.data), str(data))
    ids = read_ids(frame, schema.id, str(data))
    prediction = student.outputs(frame)
    return Said(ids, prediction, student.decision, schema.task, student.form, {}, str(file))
