"""Check `data`, `folds` and paths: roles of columns, named inputs, kinds of folds, and where files may lie.

In:  a RunConfig, the folders that it may read.
Out: findings. Files are looked for, not opened; columns are checked when the files are loaded.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.data.files.tables import BUILTIN, BUILTIN_SETS, beside, holds
from stackfeat.data.options import InputOptions
from stackfeat.data.splits.splitters import resolve_kind
from stackfeat.errors import ConfigError, DataWarning
from stackfeat.metrics.registry import declared
from stackfeat.options import FOLDERS as RUN_FOLDERS
from stackfeat.registry.resolve import suggest
from stackfeat.tasks.task import DEFAULT_QUANTILES, TASKS, task_class


def data_findings(config: RunConfig) -> Iterator[Finding]:
    """Yield all findings about `data` and `folds`."""
    for option, message in config.data.problems():
        yield Finding(f"data.{option}", message)
    yield from _built_in_findings(config)
    yield from _extra_findings(config)
    yield from _task_findings(config)
    try:
        kind = kind_of_folds(config)
    except ConfigError as error:
        yield from (Finding(problem.where or "folds.kind", problem.message) for problem in error.problems)
    else:
        yield from _fold_findings(config, kind)


def kind_of_folds(config: RunConfig) -> str:
    """Return the kind of folds, resolved; ConfigError where the data do not allow it."""
    data = config.data
    has_group, has_time, has_fold = (one is not None for one in (data.groups, data.time, data.fold))
    return resolve_kind(config.folds, config.task, has_group, has_time, has_fold)


def _built_in_findings(config: RunConfig) -> Iterator[Finding]:
    """Check names such as sklearn:digits; train and test are parts of one data set."""
    for role in ("train", "test"):
        source = getattr(config.data, role)
        if source and source.startswith(BUILTIN):
            name = source.removeprefix(BUILTIN)
            if name not in BUILTIN_SETS:
                legal, hint = ", ".join(BUILTIN_SETS), suggest(name, BUILTIN_SETS)
                message = f"must be one of {legal} after 'sklearn:'; got {name!r}.{hint}"
                yield Finding(f"data.{role}", message)
            elif role == "test" and config.data.train != source:
                message = f"must be the data set of data.train ({config.data.train}); got {source}"
                yield Finding("data.test", message)


def _extra_findings(config: RunConfig) -> Iterator[Finding]:
    """Check that extra rows are rows of a table, and those of another file."""
    data = config.data
    if data.extra is None:
        return
    if data.array_inputs:
        got = f"got the input {next(iter(data.array_inputs))!r} of arrays or images"
        yield Finding("data.extra", f"extra rows are rows of tables; {got}. Remove extra, or the input")
    for role in ("train", "test"):
        if data.extra.train == getattr(data, role):
            message = (
                f"must be another file than data.{role}; got {data.extra.train!r} for both. Remove extra"
            )
            yield Finding("data.extra.train", message)


def _task_findings(config: RunConfig) -> Iterator[Finding]:
    task = task_class(config.task)
    if config.data.positive is not None and not task.most_classes:
        message = f"only classes can be positive; got task={config.task}. Remove it"
        yield Finding("data.positive", message)
    elif config.data.positive is not None and not task.takes_positive:
        message = f"data.positive={config.data.positive!r} has no effect in a {config.task} task. Remove it"
        warnings.warn(message, DataWarning, stacklevel=2)
    if config.interval is not None and not task.has_regions:
        message = f"needs values or classes; got task={config.task}, whose scores only order rows. Remove it"
        yield Finding("interval", message)
    if task.has_lists and config.data.query is None:
        message = "names the list that each row belongs to; got none. Add query: COLUMN"
        yield Finding("data.query", message)
    if config.data.query is not None and not task.has_lists:
        message = f"only a ranking has queries; got task={config.task}. Write group: {config.data.query}"
        yield Finding("data.query", message)
    if config.data.class_order is not None and not task.most_classes:
        yield Finding("data.class_order", f"only classes have an order; got task={config.task}. Remove it")
    if config.data.quantiles is not None and not task.is_by_level:
        by_level = " or ".join(kind for kind in TASKS if task_class(kind).is_by_level)
        message = (
            f"only a {by_level} task predicts quantiles; got task={config.task}. Remove it, or change task"
        )
        yield Finding("data.quantiles", message)
    find_problem = declared(config.metric).levels_problem
    complaint = find_problem(config.data.quantiles or DEFAULT_QUANTILES) if find_problem else None
    if complaint and task.is_by_level:
        yield Finding("metric", f"{config.metric} {complaint}")
    given = config.data.target_transform
    for place, one in given.items() if isinstance(given, dict) else [("", given)]:
        if one not in ("auto", *task.transforms):
            message = f"{one} needs a numeric target; got task={config.task}. Use auto or none"
            yield Finding(".".join(filter(None, ["data.target_transform", place])), message)
    targets = config.data.targets
    if task.has_label_sets and len(targets) == 1 and config.data.label_separator is None:
        message = (
            f"must be a list of columns of 0 and 1 in task {config.task}; got {targets[0]!r}. Name them all, or set "
            "data.label_separator"
        )
        yield Finding("data.target", message)
    are_lists = task.has_lists or (task.has_label_sets and len(targets) == 1)
    if config.data.label_separator is not None and not are_lists:
        message = "is for lists of labels in one column, in task multilabel, and of ids, in task ranking"
        yield Finding("data.label_separator", f"{message}; got task={config.task}. Remove it")
    if declared(config.metric).needs == "label" and len(targets) > 1 and not task.has_label_sets:
        message = (
            f"of labels is not for several targets; got {config.metric}. Choose one of values, such as rmse"
        )
        yield Finding("metric", message)
    if len(targets) > 1 and not task.takes_targets:
        several = " and ".join(kind for kind in TASKS if task_class(kind).takes_targets)
        message = f"must be one column in task {config.task}; got {config.data.target_name}"
        yield Finding("data.target", f"{message}. Several are for {several}")


def _fold_findings(config: RunConfig, kind: str) -> Iterator[Finding]:
    for name in ("gap", "test_size", "max_train_size"):
        if config.folds.is_set(name) and kind not in ("time", "custom"):
            message = f"only time folds have {name}; got folds of kind {kind}. Remove it, or name data.time"
            yield Finding(f"folds.{name}", message)
    share = config.stack.holdout
    if kind == "column" and not isinstance(share, str) and share > 0:
        # Given folds say which rows stand apart but not why, so rows drawn by us could tear groups apart.
        message = f"given folds (data.fold) need given held-out rows; got a share, {share:g}"
        remedy = "Mark the rows with -1 in data.fold and set stack.holdout: column, or use another folds.kind"
        yield Finding("stack.holdout", f"{message}. {remedy}")
    elif kind != "column" and isinstance(share, str):
        message = f"column needs given folds; got folds of kind {kind}"
        yield Finding("stack.holdout", f"{message}. Name data.fold, or give a share such as 0.1")


ROOTS_VARIABLE = "STACKFEAT_DATA_ROOTS"

FOLDERS = ("outputs.dir", "store")


@dataclass(frozen=True)
class Allowed:
    """What the user allows besides the config.

    Attributes
    ----------
    folder : Path
        The config's folder; paths are relative to it.
    data_roots : tuple of Path
        Further folders that paths may lead to.
    trust_code : bool
        Whether the config may name code outside the tables and trusted packages.
    overridden : collection of str
        Paths given with ``--set``: the user's own words, so folders to write to may lie anywhere.
    """

    folder: Path
    data_roots: tuple[Path, ...] = ()
    trust_code: bool = False
    overridden: Collection[str] = ()

    def resolve(self, path: str) -> Path | None:
        """Return the absolute path behind all links, or None where it leaves the allowed folders."""
        found = (self.folder / path).resolve()
        roots = [self.folder, *self.data_roots]
        return found if any(found.is_relative_to(root.resolve()) for root in roots) else None

    def file_problem(self, path: str, remedy: str = "", suffix: str = "") -> str | None:
        """Say what is wrong with the file at a path, or None.

        Parameters
        ----------
        remedy : str
            What else to do where there is no such file, and none of a name like it.
        suffix : str
            Of the files whose names may be meant.
        """
        try:
            found = self.resolve(path)
            is_file = found is not None and found.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            return _no_path("file", path, error)
        if found is None:
            return self.outside(path)
        if is_file:
            return None
        if found.is_dir():
            return f"must be a file; got the folder {path!r}. Name a file in it"
        if found.exists():
            return f"must be a regular file; got {path!r}, a pipe or device. Write it to a file"
        hint = _hint(found, suffix)
        return f"there is no file {path!r} in {self.folder}.{hint or remedy}"

    def data_folder_problem(self, path: str) -> str | None:
        """Say what is wrong with a folder to read from, or None."""
        try:
            found = self.resolve(path)
            if found is None:
                return self.outside(path)
            return None if found.is_dir() else f"there is no folder {path!r} in {self.folder}.{_hint(found)}"
        except (OSError, ValueError, RuntimeError) as error:
            return _no_path("folder", path, error)

    def outside(self, path: str) -> str:
        """Say that a path leaves the allowed folders."""
        return (
            f"paths stay inside the config's folder ({self.folder}), links followed; got {path!r}. "
            f"Move it there, or allow its folder with --data-root DIR or {ROOTS_VARIABLE}"
        )


def _hint(missing: Path, suffix: str = "") -> str:
    """Return which file or folder beside a missing one may be meant."""
    beside = missing.parent.iterdir() if missing.parent.is_dir() else ()
    return suggest(missing.name, [item.name for item in beside if item.name.endswith(suffix)])


def _no_path(kind: str, path: str, error: Exception) -> str:
    """Return what is said of a text that the file system takes for no path."""
    reason = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return f"must be the path of a {kind}; got {path[:80]!r} ({reason})"


def data_roots_from(roots: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return `roots` and those of the environment variable STACKFEAT_DATA_ROOTS, made absolute."""
    named = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    paths = [Path(root) for root in roots] + [Path(root) for root in named if root]
    return tuple(path.expanduser().resolve() for path in paths)


def path_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about files to read and folders to write."""
    problems = {}
    for role in ("train", "test", "sample_submission"):
        path = getattr(config.data, role)
        if path is not None and not path.startswith(BUILTIN):
            problems[f"data.{role}"] = allowed.file_problem(path)
    if config.data.extra is not None:
        problems["data.extra.train"] = allowed.file_problem(config.data.extra.train)
    for place, path in zip(FOLDERS, (config.run_dir, config.store), strict=True):
        problems[place] = _folder_problem(place, path, allowed)
    findings = [Finding(place, problem) for place, problem in problems.items() if problem]
    return findings or _nested(config.run_dir, config.store, allowed)


def _nested(run_dir: str, store: str, allowed: Allowed) -> list[Finding]:
    """Return whether results and store would tidy away each other's files."""
    results, entries = (allowed.folder / run_dir).resolve(), (allowed.folder / store).resolve()
    in_results = entries.relative_to(results).parts if entries.is_relative_to(results) else ("",)
    if results.is_relative_to(entries) or in_results[0] in RUN_FOLDERS:
        is_one = results == entries
        got = f"{run_dir!r} for both" if is_one else f"outputs.dir={run_dir!r} and store={store!r}"
        message = f"results and store need folders of their own; got {got}. Choose another outputs.dir"
        return [Finding("outputs.dir", message)]
    return []


def _folder_problem(place: str, path: str, allowed: Allowed) -> str | None:
    if "://" in path:
        message = f"must be a folder; got the address {path[:80]!r}. Nothing in a config reaches the network"
        return f"{message}: name a folder, or leave it out"
    try:
        found = (allowed.folder / path).resolve()
        is_inside, obstacle = allowed.resolve(path) is not None, _obstacle(allowed.folder / path)
    except (OSError, ValueError, RuntimeError) as error:
        return _no_path("folder", path, error)
    is_own_word = any(place == name or place.startswith(f"{name}.") for name in allowed.overridden)
    if not is_inside and not is_own_word:
        return f"{allowed.outside(path)}, or give it on the command line: --set {place}={path}"
    if obstacle is not None:
        return f"must be a folder; got {obstacle}. Choose another name"
    # A run replaces its own files, config.yaml among them, and removes stale ones.
    if found == allowed.folder.resolve():
        return f"must be a folder of its own; got the config's folder ({path!r}). Name one in it"
    return None


def _obstacle(path: Path) -> str | None:
    """Return what stands where a folder is to be, or where one above it is to be; None where nothing does."""
    above = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if above.is_dir():
        return None
    kind = "file" if above.is_file() else "pipe or device" if above.exists() else "broken link"
    there = f"the {kind} {str(above)!r}"
    return there if above == path else f"{str(path)!r}, which is below {there}"


def input_findings(config: RunConfig, allowed: Allowed) -> Iterator[Finding]:
    """Yield all findings about named inputs."""
    if config.data.inputs == {}:
        message = "must name at least one input; got none. Remove it for one input `table`"
        yield Finding("data.inputs", message)
    for name, options in (config.data.inputs or {}).items():
        path = f"data.inputs.{name}"
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            message = f"names use letters, digits, '.', '_' and '-' only; got {name!r}"
            yield Finding(path, message)
        problems = [*options.problems(), *_file_problems(options, config, allowed)]
        yield from (Finding(f"{path}.{option}", message) for option, message in problems)


def _file_problems(options: InputOptions, config: RunConfig, allowed: Allowed) -> Iterator[tuple[str, str]]:
    """Yield (option, message) for arrays and image folders that cannot be read."""
    for option, name in (("array", options.array), ("lengths", options.lengths)):
        if name is not None:
            for message in _array_problems(name, option, config, allowed):
                yield option, message
    if options.column is not None and (problem := allowed.data_folder_problem(options.root or ".")):
        yield "root", problem


def _array_problems(name: str, option: str, config: RunConfig, allowed: Allowed) -> Iterator[str]:
    """A npy file stands beside each data file; any other name means an array of a npz file."""
    for file in filter(None, (config.data.train, config.data.test)):
        if file.startswith(BUILTIN):
            yield f"arrays are read from files; got {file}. Name a npz file"
            return
        if holds(name, "array"):
            path = beside(Path(file), name)
            remedy = " ({name} stands for the data file's name without suffix)"
            if problem := allowed.file_problem(str(path), remedy, path.suffix):
                yield problem
        elif option == "array" and not holds(file, "arrays"):
            message = (
                f"names an array of a npz file; got {name!r} and {file}. Use a npz file, or a npy file beside"
            )
            yield f"{message} it, such as '{{name}}_{name}.npy'"
            return
