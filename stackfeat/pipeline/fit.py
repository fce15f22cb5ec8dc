"""fit: from a table and the name of its target to a run, without a config of one's own.

In:  a DataFrame or a file, the column to predict, rows to predict, a metric, a limit of time.
Out: the config that `init` would write, and the run of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.config.guessed import OF_INIT, guesses_of, naming
from stackfeat.config.load import LoadedConfig, config_from_dict
from stackfeat.config.run_config import RunConfig
from stackfeat.config.scaffold import Wishes, folders_outside, scaffold_config
from stackfeat.config.yaml_file import parse_yaml
from stackfeat.errors import DataError, UsageError, one_line
from stackfeat.output.files import write_bytes
from stackfeat.output.run_file import find_run_file
from stackfeat.output.run_result import RunResult
from stackfeat.output.stored_run import read_run
from stackfeat.pipeline.run import run
from stackfeat.registry.resolve import suggest
from stackfeat.tasks.task import task_class

if TYPE_CHECKING:
    import pandas as pd

PRESETS = ("quick", "good", "best")
FRAMES = Path(".stackfeat") / "frames"
"""Where frames are kept that a run was given, so that it can be repeated."""
_NAMES = {
    **OF_INIT,
    **{f"--{name}": name for name in ("target", "metric", "limit", "test", "task", "query")},
    "--group": "groups",
}


def fit(
    train: Any,
    target: str | Sequence[str],
    test: Any = None,
    metric: str | None = None,
    preset: str = "good",
    limit: str | float | None = None,
    groups: Any = None,
    *,
    task: str | None = None,
    query: Any = None,
    name: str | None = None,
    verbose: bool = True,
    progress: bool = False,
) -> RunResult:
    """Train a stack on a table and write its run folder: ``runs/NAME`` in the working folder.

    Parameters
    ----------
    train : DataFrame or path
        With the column to predict.
    target : str or list of str
        Column to predict, or several.
    test : DataFrame or path, optional
        Rows to predict; then there is a submission.
    metric : str, optional
        What decides; by default the usual one of the task, which is guessed from the target.
    preset : {"quick", "good", "best"}
        How much is computed.
    limit : str or float, optional
        The longest that it may take, such as ``"10m"``, or in seconds.
    groups : str or array, optional
        A column whose rows stay in one fold, or with a DataFrame an array with a value for each row.
    task : str, optional
        Such as ``"ranking"``; by default it is guessed from the target.
    query : str or array, optional
        Of a ranking, the list of each row: a column, or with a DataFrame an array with a value for each row.
    name : str, optional
        Of the run; by default that of the training file, or ``fit``. Where its folder holds a run of another frame,
        or of other options, a number follows: ``fit-2``.
    verbose : bool
        Whether what was guessed is printed.
    progress : bool
        Whether what runs is shown, as `run` does.

    Returns
    -------
    RunResult
        `config` is what `stackfeat init` would have written, with each guess and its reason.

    Raises
    ------
    UsageError
        If an argument makes no sense.
    DataError
        If the data cannot be used; names columns and rows.

    Examples
    --------
    >>> result = fit(frame, target="price")        # doctest: +SKIP
    >>> result.predictor.predict(more)             # doctest: +SKIP
    """
    if preset not in PRESETS:
        raise UsageError(
            f"preset must be one of {', '.join(PRESETS)}; got {preset!r}.{suggest(str(preset), PRESETS)}"
        )
    if not isinstance(target, str):
        if not isinstance(target, list | tuple) or not all(isinstance(name, str) for name in target):
            raise UsageError(
                f"target must be the name of a column, or a list of names; got {type(target).__name__}; give a text"
            )
        target = tuple(target)
    if task is not None:
        task_class(task)
    folder = Path.cwd()
    train, group = _with_column(train, groups, "groups")
    train, lists = _with_column(train, query, "query")
    files = [
        None if one is None else _as_file(one, role, folder)
        for role, one in (("train", train), ("test", test))
    ]
    time = f"{limit:g}s" if isinstance(limit, int | float) else limit
    wishes = Wishes(group=group, task=task, metric=metric, preset=preset, limit=time, query=lists)
    assert files[0] is not None
    is_frame = not isinstance(train, str | Path)
    with naming(_NAMES):
        called = name or ("fit" if is_frame else None)
        overrides = [] if called is None else [f"name={called}"]
        loaded, text = config_of_files(files[0], target, files[1], None, wishes, folder, overrides)
    if verbose:
        for line in loaded.guesses:
            print(one_line(line))
    if is_frame:
        # A frame has another file whenever it has changed, so files cannot say whose results are where.
        loaded = replace(_in_a_folder_of_its_own(loaded, verbose=verbose), origin=None)
    return replace(run(loaded, progress=progress), config=text)


def _in_a_folder_of_its_own(loaded: LoadedConfig, *, verbose: bool) -> LoadedConfig:
    """Return the config under a name whose run folder holds nothing, or the results of the very same call."""
    config, name = loaded.config, loaded.config.name
    number = 1
    while _holds_others(loaded.folder / config.run_dir, config):
        number += 1
        config = config.model_copy(update={"name": f"{name}-{number}"})
    if number > 1 and verbose:
        there = loaded.config.run_dir
        print(
            one_line(f"{there} holds a run of other data or other options; this one is in {config.run_dir}")
        )
    return replace(loaded, config=config)


def _holds_others(folder: Path, config: RunConfig) -> bool:
    """Whether a folder holds results that are not those of a config, whatever its name."""
    try:
        if find_run_file(folder) is None:
            return False
        there = read_run(folder)[1]
    except (UsageError, DataError):
        # What cannot be read is not ours to replace.
        return True
    return there.to_json() | {"name": ""} != config.to_json() | {"name": ""}


def config_of_files(
    train: Path,
    target: str | tuple[str, ...],
    test: Path | None,
    sample_submission: Path | None,
    wishes: Wishes,
    folder: Path,
    overrides: Sequence[str] = (),
) -> tuple[LoadedConfig, str]:
    """Return the config that `init` would write for files, loaded, and its text."""
    text = scaffold_config(train, target, test, sample_submission, wishes, folder=folder)
    roots = folders_outside((train, test, sample_submission), folder)
    loaded = config_from_dict(parse_yaml(text).values, folder, overrides=overrides, data_roots=roots)
    return replace(loaded, guesses=guesses_of(text), origin=train), text


def _with_column(train: Any, given: Any, role: str) -> tuple[Any, str | None]:
    """Return the training data, and the column of its groups or lists: that of a name, or a further one."""
    if given is None or isinstance(given, str):
        return train, given
    if isinstance(train, str | Path):
        raise UsageError(
            f"{role} must name a column where train is a file; got {type(given).__name__}; give the column's name"
        )
    values = np.asarray(given)
    if values.ndim != 1 or len(values) != len(train):
        raise UsageError(
            f"{role} must have a value for each of {len(train)} rows; got shape {values.shape}; give one a row"
        )
    column = role
    while column in train.columns:
        column += "_"
    return train.assign(**{column: values}), column


def _as_file(given: Any, role: str, folder: Path) -> Path:
    """Return the file of what was given; a frame is written to one whose name says what is in it."""
    if isinstance(given, str | Path):
        return Path(given)
    if not (hasattr(given, "columns") and hasattr(given, "iloc")):
        hint = "; name its columns: pd.DataFrame(X, columns=[...])" if isinstance(given, np.ndarray) else ""
        raise UsageError(f"{role} must be a DataFrame or a path; got {type(given).__name__}{hint}")
    frame: pd.DataFrame = given.set_axis([str(name) for name in given.columns], axis=1)
    twice = frame.columns[frame.columns.duplicated()].unique().tolist()
    if twice:
        raise UsageError(f"{role}: names of columns must differ; got {twice[:5]} more than once; rename them")
    suffix, content = _written(frame)
    path = folder / FRAMES / f"{role}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    if not path.is_file():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, content)
    return path


def _written(frame: pd.DataFrame) -> tuple[str, bytes]:
    """Return a frame as a file: parquet where that can be written, else text."""
    if importlib.util.find_spec("pyarrow") is not None:
        from pyarrow.lib import ArrowException

        try:
            content: bytes = frame.to_parquet(index=False)
            return ".parquet", content
        except (ArrowException, TypeError, ValueError):
            # Cells of several types in one column: as text, which is how a file would hold them.
            pass
    return ".csv", frame.to_csv(index=False).encode()
