"""predict: new data through the saved predictor of a run, written like its submission."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.config.data_checks import ROOTS_VARIABLE, Allowed, data_roots_from
from stackfeat.data.files.packing import unpacked_name
from stackfeat.data.files.parsing import parsing
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.drift import TrainingSummary
from stackfeat.data.schema.inputs import paths_named
from stackfeat.data.schema.load import load_rows
from stackfeat.data.schema.roles import read_ids
from stackfeat.engine.predictor import REMEDY, Predictor, load_predictor
from stackfeat.engine.worker import fit_recipe
from stackfeat.errors import DataError, DataWarning, TrustError, UsageError, as_written
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.files import write_csv
from stackfeat.output.run_file import FILE, is_own_name, whole_run
from stackfeat.output.submission import Form, make_submission
from stackfeat.pipeline.students import load_student, read_file
from stackfeat.registry.resolve import quoted, source_hash
from stackfeat.registry.trust import code_of_run, explaining_refusals
from stackfeat.registry.user_code import importing


def predict_file(
    run_folder: Path,
    data: Path,
    output: Path,
    *,
    trust_code: bool | None = None,
    without: Sequence[str] = (),
    data_roots: Sequence[Path] = (),
) -> int:
    """Predict the rows of a file; return how many there are.

    Parameters
    ----------
    run_folder : Path
        Folder of a finished run, with its `predictor/`; or a student's file.
    data : Path
        A file with the columns of the training file; a target column is ignored.
    output : Path
        A csv file like the submission of the run.
    trust_code : bool, optional
        Needed where the run needed it. None: unless `stackfeat trust` remembers the config that made this
        very folder; False: not even then.
    without : sequence of str
        Members that votes shall do without, such as imported ones that do not know these rows.
    data_roots : sequence of Path
        Folders besides that of `data` that the predictor's paths of arrays and images may lead to.

    Raises
    ------
    DataError
        If there is no predictor, the file's columns do not fit, or the predictor names files elsewhere.
    UsageError
        If the output would replace the data or a file of the run.
    """
    _refuse_output(Path(output), Path(run_folder), Path(data))
    if Path(run_folder).is_file():
        return _predict_by_student(Path(run_folder), Path(data), Path(output), without)
    code = code_of_run(Path(run_folder), trust_code)
    with whole_run(Path(run_folder)), explaining_refusals(code):
        predictor, values = load_predictor(Path(run_folder) / "predictor", trust_code=code.is_trusted)
    predictor = predictor.leave_out(without) if without else predictor
    predictor.refuse_unsaved()
    way = FileForm.from_json(values, f"{predictor.folder}")
    refuse_paths_outside(way.data, Path(data), data_roots, f"{predictor.folder}")
    samples = load_rows(Path(data), way.schema, way.data, summary=way.summary)
    if way.summary is None:
        warnings.warn(
            f"{predictor.folder} holds no summary of the training data, as an earlier version wrote it: columns were "
            f"not compared with those of training; {REMEDY} to have it",
            DataWarning,
            stacklevel=2,
        )
    if code.is_trusted and not code.is_remembered:
        refuse_changed_code(predictor, Path(run_folder) / way.code)
    with explaining_refusals(code), importing(code.beside(Path(run_folder) / way.code)):
        prediction = np.asarray(predictor.task.to_target_scale(predictor.predict(samples)))
    with as_written(f"{predictor.folder}", REMEDY):
        labels = None if way.decision is None else way.decision.apply(prediction)
        submission = make_submission(samples.ids, prediction, labels, predictor.task, way.form)
    # Where a link leads to: the link stays.
    write_csv(Path(output).resolve(), submission.header, submission.columns)
    return samples.n_rows


def _predict_by_student(file: Path, data: Path, output: Path, without: Sequence[str]) -> int:
    if without:
        raise UsageError(
            "--without leaves members out of a stack; got a student, which is one model; drop it"
        )
    student = load_student(file)
    frame = read_file(data, student.data)
    ids = read_ids(frame, student.schema.id, str(data))
    prediction = student.outputs(frame)
    labels = None if student.decision is None else student.decision.apply(prediction)
    with as_written(str(file), REMEDY):
        submission = make_submission(ids, prediction, labels, student.schema.task, student.form)
    write_csv(output.resolve(), submission.header, submission.columns)
    return len(ids)


def refuse_changed_code(predictor: Predictor, folder: Path) -> None:
    """Raise TrustError unless the user's own code in a folder is that of the run.

    Code that was agreed to and remembered is compared where it is imported.
    """
    for key in dict.fromkeys(predictor.plan.fits.values()):
        fit = fit_recipe(predictor.store, key)
        name = fit.member.get("net") or fit.member.get("estimator")
        if fit.code is not None and isinstance(name, str) and source_hash(name, folder) != fit.code:
            raise TrustError(
                f"the code of a model must be as it was in the run; got {name!r} in {folder}, which is not; "
                "put it back, or run the config again"
            )


@dataclass(frozen=True)
class FileForm:
    """How a predictor reads a file and what it writes.

    Attributes
    ----------
    code : str
        The folder of the user's own code, from the run folder on.
    """

    schema: Schema
    summary: TrainingSummary | None
    data: DataOptions
    form: Form
    decision: Decision | None
    code: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> FileForm:
        """Return what the description of a predictor says of files.

        Raises
        ------
        StructureError
            If it is not made as a run makes it.
        """
        with as_written(where, REMEDY):
            decision, summary = values["decision"], values.get("summary")
            return cls(
                Schema.from_json(values["schema"]),
                None if summary is None else TrainingSummary.from_json(summary),
                DataOptions(**values["data"]),
                Form.from_json(values["form"]),
                None if decision is None else Decision.from_json(decision),
                str(values["code"]),
            )


def refuse_paths_outside(options: DataOptions, data: Path, data_roots: Sequence[Path], where: str) -> None:
    """Raise DataError where a predictor would read files that neither lie beside the data nor were allowed.

    A run keeps paths inside the folders of its user; those in a received predictor were kept by nobody.
    """
    allowed = Allowed(data.absolute().parent, data_roots_from(data_roots))
    for place, path in paths_named(options, data.absolute()):
        with parsing(f"{where}: {place}", "must be a path", REMEDY):
            is_inside = allowed.resolve(str(path)) is not None
        if not is_inside:
            raise DataError(
                f"{where}: {place}: what a predictor reads stays inside the folder of DATA ({allowed.folder}), links "
                f"followed; got {quoted(str(path))}; move it there, or allow its folder with --data-root DIR or "
                f"{ROOTS_VARIABLE}"
            )


def _refuse_output(output: Path, run_folder: Path, data: Path) -> None:
    """Refuse to replace what is read, and what is no file; any other file was named by the user to be replaced."""
    place, folder = output.resolve(), run_folder.resolve()
    name = place.relative_to(folder).as_posix() if place.is_relative_to(folder) else ""
    if place == data.resolve() or name == FILE or (name and is_own_name(name)) or place.is_dir():
        what = "DATA itself" if place == data.resolve() else "a folder" if place.is_dir() else "a file of RUN"
        raise UsageError(f"--output must be a file of its own; got {output}, which is {what}; choose another")
    if unpacked_name(output) != output:
        raise UsageError(
            f"--output is written as plain text; got {output}; name {unpacked_name(output)} and pack it"
        )
    if output.exists() and not place.is_file():
        # It would be replaced, as a file is: a device of the machine would be gone for everybody.
        raise UsageError(f"--output must be a file; got {output}, which is a device or pipe; name a csv file")
