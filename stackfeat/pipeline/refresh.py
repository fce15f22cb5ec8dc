"""refresh: the stack of a finished run fitted to new rows, with every decision as it was.

In:  the folder of a finished run with its store, and a new training file.
Out: a run folder of its own, and how the old and the new model do on rows that the old one was not trained on.

The run is that of a config in which the old run's decisions are written out; it is kept in the new folder. Members,
parameters, rounds, epochs, penalties, gates, weights, decision rules and types stay; only models are fitted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stackfeat.config import LoadedConfig
from stackfeat.config.load import config_from_dict
from stackfeat.config.run_config import RunConfig
from stackfeat.config.scaffold import folders_outside
from stackfeat.data.files.tables import BUILTIN, find_file, read_frame
from stackfeat.data.schema.changes import schema_changes
from stackfeat.errors import DataError, RunFailed, UsageError, as_written
from stackfeat.output.files import json_bytes
from stackfeat.output.live_table import Shown
from stackfeat.output.provenance import REMEDY
from stackfeat.output.run_file import REFRESH, find_run_file
from stackfeat.output.run_folder import RunFolder
from stackfeat.output.run_result import RunResult
from stackfeat.output.saved_predictor import SavedPredictor, load_run
from stackfeat.output.stored_run import open_rows, read_run
from stackfeat.pipeline.decided_config import FinishedRun
from stackfeat.pipeline.old_and_new import OldAndNew, compare_models
from stackfeat.pipeline.run import LOG, run
from stackfeat.pipeline.teacher import Teacher
from stackfeat.registry.trust import code_of_run

FEW_SECONDS = 300.0
"""Fits that took no longer in all are made in this process: to start others would take longer."""


@dataclass(frozen=True)
class Refreshed:
    """A run that was refreshed.

    Attributes
    ----------
    result : RunResult
        The new run.
    comparison : OldAndNew
        How the old and the new model do on new rows.
    """

    result: RunResult
    comparison: OldAndNew

    @property
    def folder(self) -> Path:
        """The new run folder."""
        return self.result.folder

    def to_json(self) -> dict[str, Any]:
        places = {"folder": str(self.folder), "predictor": str(self.folder / "predictor")}
        return {**places, "submitted": self.result.submitted, **self.comparison.to_json()}

    def __str__(self) -> str:
        return f"{self.comparison}\npredictor: {self.folder / 'predictor'}"


def refresh(
    run_folder: str | Path,
    train: str | Path,
    output: str | Path | None = None,
    *,
    store: str | Path | None = None,
    data_roots: Sequence[Path] = (),
    trust_code: bool | None = None,
    progress: bool | Shown = False,
) -> Refreshed:
    """Fit the stack of a finished run to new rows, with every decision as it was.

    Parameters
    ----------
    run_folder : path
        Folder of a finished run; it stays as it is.
    train : path
        The new training file, with the columns of the old one; it may hold the old rows too.
    output : path, optional
        The new run folder; by default that of the run with ``-refreshed`` behind its name.
    store : path, optional
        Where the run's store is now, if it was moved.
    data_roots : sequence of Path
        Further folders that the config's paths may lead to.
    trust_code : bool, optional
        As for `predict`.
    progress : bool or callable
        As for `run`.

    Raises
    ------
    UsageError
        If the folder is no run's, the output is another run's, or a member cannot be fitted to other rows.
    DataError
        If the file's columns, types or classes are not those of the run, each change in a line; or the run's rows or
        store are gone.

    Examples
    --------
    >>> refresh("runs/pets", "pets-june.csv").comparison.gain   # doctest: +SKIP
    """
    old = Path(run_folder)
    index, config = read_run(old)
    new = _output(old, output)
    entries, rows, folds = open_rows(old / index.store if store is None else Path(store), index)
    home = (old / index.folder).resolve()
    model = load_run(old, trust_code=trust_code, data_roots=data_roots, keeps=False)
    with as_written("the fits of the run", REMEDY):
        finished = FinishedRun.of(config, model, index, folds, entries)
        values = finished.decided()
    if finished.seconds < FEW_SECONDS and config.executor.kind == "loky":
        values["executor"] = {**values["executor"], "kind": "inline"}
    _refuse_changes(model, config, Path(train))
    loaded = _loaded(values, home, Path(train), new, data_roots, code_of_run(old, trust_code).is_trusted)
    _refuse_other(new, loaded)
    result = run(loaded, trust_code=trust_code, progress=progress)
    if result.submitted != values["submit"]:
        reasons = "; ".join(f"{name}: {why}" for name, why in result.failed.items())
        raise RunFailed(f"{values['submit']} must be fitted to the new rows; it could not be: {reasons}")
    teacher = replace(Teacher.of(model.predictor, index, folds.is_time, entries, old), choices={})
    comparison = compare_models(model, teacher, result, rows, entries, Path(train))
    outputs = RunFolder(new, _run_of(new))
    with outputs.claimed(LOG):
        outputs.add(REFRESH, json_bytes({"old": os.path.relpath(old, new), **comparison.to_json()}))
    return Refreshed(result, comparison)


def _run_of(folder: Path) -> str:
    found = find_run_file(folder)
    assert found is not None
    return found.id


def _output(old: Path, output: str | Path | None) -> Path:
    """Return the new run folder, which is not the old one, nor in it, nor around it."""
    # A name that says where from, such as "." or "..", is none of the folder's own.
    named = old if old.name.strip(".") else old.resolve()
    new = named.parent / f"{named.name}-refreshed" if output is None else Path(output)
    one, other = old.resolve(), new.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UsageError(
            f"--output must be a folder beside RUN, which stays as it is; got {new}; choose another"
        )
    return new


def _refuse_changes(model: SavedPredictor, config: RunConfig, train: Path) -> None:
    """Raise DataError where the new file is not one of the same schema."""
    path = find_file(str(train if str(train).startswith(BUILTIN) else train.resolve()), Path.cwd())
    frame = read_frame(path, config.data, "train")
    changes = schema_changes(frame, model.way.schema, config.data, str(path))
    if changes:
        listed = "".join(f"\n- {text}" for text in changes)
        raise DataError(
            f"{path}: a run is refreshed on rows of the same columns, types and classes; got these changes:{listed}"
        )


def _loaded(
    values: dict[str, Any],
    home: Path,
    train: Path,
    new: Path,
    data_roots: Sequence[Path],
    trust_code: bool,
) -> LoadedConfig:
    """Return the config of the new run, with paths as its folder sees them."""
    data = {**values["data"], "train": _seen_from(home, train)}
    values = {**values, "data": data, "outputs": {"dir": _seen_from(home, new)}, "cache": "auto"}
    roots = [*data_roots, *folders_outside((train, new), home)]
    return config_from_dict(values, home, trust_code=trust_code, data_roots=roots)


def _seen_from(home: Path, path: Path) -> str:
    place = path.resolve()
    return (place.relative_to(home) if place.is_relative_to(home) else place).as_posix()


def _refuse_other(new: Path, loaded: LoadedConfig) -> None:
    """Raise UsageError where the folder holds the results of other rows."""
    found = find_run_file(new)
    if found is None or found.state != "whole":
        return
    there = read_run(new)[1]
    levels, others = loaded.config.levels, there.levels
    is_alike = levels.keys() == others.keys() if REFRESH in found.files else levels == others
    if there.data.train != loaded.config.data.train or not is_alike:
        raise UsageError(
            f"--output must be a folder for this run; got {new}, with another run over {there.data.train}; "
            "choose another"
        )
