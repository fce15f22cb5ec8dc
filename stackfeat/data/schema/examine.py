"""Examine: everything that is wrong with the data files of a config, in one go, from a sample of their rows.

In:  `DataOptions`, `FoldOptions`, the folder that paths are relative to, the task and the metric.
Out: an `Examination`: problems, each with the option that it is about; warnings; what was guessed; the training rows.

The readers are those of `load`, which stops at the first error. Of a large file the first rows are looked at: what
these lack (a second class, a value) the others may have.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.data.files.array_files import ArchiveFile
from stackfeat.data.files.cells import column_cells
from stackfeat.data.files.format import IS_PART
from stackfeat.data.files.parsing import unknown_name
from stackfeat.data.files.tables import BUILTIN, beside, find_file, holds, read_frame
from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.data.samples import ArraySchema, Samples
from stackfeat.data.schema.column_types import ROLE_READERS, RoleCells, TypedColumns, type_columns
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.drift import TrainingSummary, drift_lines
from stackfeat.data.schema.guesses import Guess
from stackfeat.data.schema.label_sets import of_label_sets_found
from stackfeat.data.schema.load import (
    KnownRoles,
    category_order,
    check_columns,
    labels_in,
    read_extra,
)
from stackfeat.data.schema.number_texts import NumberTexts
from stackfeat.data.schema.roles import (
    of_classes,
    of_order,
    query_names,
    read_ids,
    read_targets,
    training_lists,
)
from stackfeat.data.schema.suspicions import of_copies, of_group, of_unseen
from stackfeat.data.splits.holdout import HELD_OUT
from stackfeat.data.splits.splitters import ensure_splittable, resolve_kind
from stackfeat.errors import ConfigError, DataError, DataWarning, LackError, StackfeatError
from stackfeat.registry.patterns import matches, matching
from stackfeat.registry.resolve import name_values, quote_values, quoted
from stackfeat.store.npy import read_header
from stackfeat.tasks.task import Kind, Task, task_class

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = 2**20
_MOST_SAID = 10


@dataclass
class Examination:
    """What was found in the data files.

    Attributes
    ----------
    problems : list of (str, str)
        The option that a problem is about, such as ``data.id``, and what must hold, was got, is to be done.
    warnings : list of str
        What may be wrong.
    guesses : list of Guess
    notes : list of str
        How many rows and columns there are.
    task : Task or None
        With the classes, where the target could be read.
    train, test : Samples or None
        Ids and roles of the rows that were looked at, without inputs.
    is_part, is_part_of_test : bool
        Whether only the first rows of the training or test file were looked at.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    guesses: list[Guess] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    task: Task | None = None
    train: Samples | None = None
    test: Samples | None = None
    is_part: bool = False
    is_part_of_test: bool = False

    @contextmanager
    def at(self, place: str, *, is_part: bool = False, columns: Sequence[str] = ()) -> Iterator[None]:
        """Note errors of the block as problems of an option, and warnings of ours; rows lack nothing in a part."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            except LackError as error:
                if not is_part:
                    self.note(place, error, columns)
            except (DataError, ConfigError) as error:
                self.note(place, error, columns)
        self.warnings += [str(item.message) for item in caught if issubclass(item.category, DataWarning)]

    def note(self, place: str, error: StackfeatError, columns: Sequence[str] = ()) -> None:
        """Note a problem for each line of an error; one that names a typed column is about its type."""
        for line in str(error).splitlines():
            typed = next(
                (f"data.types.{name}" for name in columns if f"column {quoted(name)}" in line), place
            )
            self.problems.append((typed, line.strip()))


def examine(
    options: DataOptions,
    folds: FoldOptions,
    folder: Path,
    task: Kind,
    metric: str,
    *,
    holds_out: bool = False,
) -> Examination:
    """Look at the data files of a config.

    Parameters
    ----------
    options : DataOptions
    folds : FoldOptions
    folder : Path
        What the paths in `options` are relative to.
    task : {"binary", "multiclass", "regression"}
    metric : str
    holds_out : bool
        Whether rows whose given fold is -1 are held out of all folds.
    """
    found = Examination()
    if options.train.startswith(BUILTIN):
        found.notes.append(f"{options.train} is read when the config is run")
        return found
    path = Path(find_file(options.train, folder))
    with found.at("data.train"):
        frame = read_frame(path, options, "train", MOST_BYTES)
        found.is_part = bool(frame.attrs.get(IS_PART))
        rows = f"the first {len(frame)} training rows" if found.is_part else f"{len(frame)} training rows"
        others = frame.columns.difference([*options.roles.values(), *options.drop])
        found.notes.append(f"{rows}, {len(others)} columns besides those with a role")
        examiner = _Examiner(found, options, folder, task, metric, path, frame)
        schema, summary = examiner.training_rows()
        examiner.folds(folds, holds_out=holds_out)
        if options.test is not None and not options.test.startswith(BUILTIN):
            examiner.test_rows(Path(find_file(options.test, folder)), schema, summary)
        if options.extra is not None and not found.problems and not found.is_part:
            examiner.extra_rows(schema, summary)
    return found


@dataclass
class _Examiner:
    """Goes through the columns of a training file, then through the other files."""

    found: Examination
    options: DataOptions
    folder: Path
    task: Kind
    metric: str
    path: Path
    frame: pd.DataFrame

    def training_rows(self) -> tuple[Schema, TrainingSummary]:
        """Examine the training file; return how its columns are read, and what they hold, as far as it is told."""
        options, frame, found = self.options, self.frame, self.found
        self._named_columns()
        inputs = self._inputs()
        wanted = set().union(*inputs.values())
        names = [name for name in frame.columns if name in wanted]
        texts = NumberTexts(frame, options)
        cells = self._role_cells(texts)
        typed = TypedColumns()
        with found.at("data.train", is_part=found.is_part, columns=list(options.types)):
            if not names and not options.array_inputs:
                raise LackError(
                    f"{self.path}: there must be a column to learn from; got roles alone; add one"
                )
            typed = type_columns(frame, names, options, str(self.path), texts)
        given, y = self._roles(cells), None
        if all(target in frame.columns for target in options.targets):
            with found.at("data.target", is_part=found.is_part):
                order = category_order(frame[options.targets[0]])
                found.task, _, y = read_targets(
                    cells.read, options, self.task, self.metric, str(self.path), order
                )
                has_order = order is not None or options.class_order is not None
                found.guesses += of_classes(found.task, options, order is not None)
                found.guesses += of_label_sets_found(found.task, y, options)
                found.guesses += of_order(found.task, has_order, self.metric)
                found.warnings += of_copies({} if found.is_part else typed.columns, y)
        typed.is_part = found.is_part
        found.guesses[:0] = list(typed.guesses(options))
        ids = np.arange(len(frame)).astype(str)
        if options.id is None or options.id in frame.columns:
            with found.at("data.id"):
                ids = read_ids(frame, options.id, str(self.path))
        arrays = self._arrays(self.path, len(frame))
        task = found.task or Task("regression")
        found.train = Samples(ids=ids, inputs={}, y=y, task=task, **given)
        with found.at("data.query", is_part=found.is_part):
            found.train = training_lists(found.train, str(self.path))
        summary = TrainingSummary.of(list(frame.columns), typed.columns, {})
        schema = Schema(
            task=task,
            label_type="float",
            id=options.id if options.id in frame.columns else None,
            target=options.target,
            roles={role: name for role, name in options.roles.items() if role in ROLE_READERS},
            columns=tuple(column for column, _ in typed.columns.values()),
            inputs={},
            left_out=typed.left_out,
            arrays=arrays,
        )
        return schema, summary

    def _named_columns(self) -> None:
        """Every column that an option names is there."""
        named = [(f"data.{role}", f"data.{role}", name) for role, name in self.options.roles.items()]
        named += [(f"data.types.{name}", "data.types", name) for name in self.options.types]
        for name, given in (self.options.inputs or {}).items():
            lengths = (
                None if holds(self.path, "arrays") or holds(given.lengths or "", "array") else given.lengths
            )
            columns = {"column": given.column, "lengths": lengths}
            keys = {f"data.inputs.{name}.{key}": column for key, column in columns.items() if column}
            named += [(key, key, column) for key, column in keys.items()]
        for place, key, name in named:
            if name not in self.frame.columns:
                self._unknown(place, f"{key} must be a column of the file", name, self.frame.columns)
        patterns = [(f"data.drop.{place}", "data.drop", name) for place, name in enumerate(self.options.drop)]
        for key, names in self.options.by_column.items():
            patterns += [(f"data.{key}.{name}", f"data.{key}", name) for name in names]
        for place, key, pattern in patterns:
            if pattern not in self.frame.columns and not matching(pattern, list(self.frame.columns)):
                self._unknown(place, f"{key} must match a column", pattern, self.frame.columns)

    def _unknown(self, place: str, must: str, name: str, known: Iterable[str]) -> None:
        listed = f"; columns are {name_values(known, _MOST_SAID)}"
        self.found.note(place, unknown_name(f"{self.path.name}: {must}", name, known, listed))

    def _inputs(self) -> dict[str, list[str]]:
        """Return the columns of each input; what names none, or the target, is a problem."""
        columns, options = list(self.frame.columns), self.options
        kept_out = set(options.roles.values())
        for given in (options.inputs or {}).values():
            kept_out.update(name for name in (given.column, given.lengths) if name is not None)
        for pattern in options.drop:
            kept_out.update(matching(pattern, columns))
        free = [name for name in columns if name not in kept_out]
        if options.inputs is None:
            return {"table": free}
        inputs = {}
        for name, given in options.inputs.items():
            chosen: set[str] = set()
            for place, pattern in enumerate(given.columns or ()):
                at = f"data.inputs.{name}.columns.{place}"
                if pattern in options.targets:
                    text = f"the target {pattern!r} cannot be an input; got it in input {name!r}. Remove it"
                    self.found.problems.append((at, text))
                    continue
                matched = [pattern] if pattern in columns else matching(pattern, free)
                if not matched:
                    self._unknown(at, f"data.inputs.{name} must match a column", pattern, free)
                chosen.update(matched)
            inputs[name] = [column for column in columns if column in chosen]
        return inputs

    def _role_cells(self, texts: NumberTexts) -> RoleCells:
        """Return the cells of the target and of each column with a role, of those that are there."""
        options = self.options
        columns = self.frame.columns
        there = {
            role: name for role, name in options.roles.items() if role in ROLE_READERS and name in columns
        }
        targets = [target for target in options.targets if target in columns]
        return RoleCells.of_roles(texts, targets, there, task_class(self.task), str(self.path))

    def _roles(self, cells: RoleCells) -> dict[str, np.ndarray]:
        """Return group, list, time, weight and fold of each row, those that can be read."""
        given, found = {}, self.found
        for role in ROLE_READERS:
            if role in cells.roles:
                with found.at(f"data.{role}", is_part=found.is_part):
                    given[role] = cells.read_role(role)
        found.warnings += of_group(self.options.group, None if found.is_part else given.get("group"))
        return given

    def folds(self, folds: FoldOptions, *, holds_out: bool) -> None:
        """See that the rows can be split; a part of them says nothing of it."""
        train, found = self.found.train, self.found
        options = self.options
        roles = {role: role in options.roles for role in ("time", "fold")}
        roles["group"] = options.groups is not None
        is_read = all(getattr(train, role) is not None for role, is_named in roles.items() if is_named)
        if train is None or train.y is None or found.is_part or not is_read:
            return
        if holds_out and train.fold is not None:
            train = train.take(np.flatnonzero(train.fold != HELD_OUT))
        with found.at("folds.n"):
            named = (roles["group"], roles["time"], roles["fold"])
            ensure_splittable(resolve_kind(folds, self.task, *named), folds, train)

    def test_rows(self, path: Path, schema: Schema, summary: TrainingSummary) -> None:
        """Examine the test file: its columns, its ids, its cells."""
        found, options = self.found, self.options
        with found.at("data.test"):
            frame = read_frame(path, options, "test", MOST_BYTES)
            found.is_part_of_test = bool(frame.attrs.get(IS_PART))
            rows = f"the first {len(frame)}" if found.is_part_of_test else f"{len(frame)}"
            found.notes.append(f"{rows} test rows")
            self._test_ids(frame, path, schema)
            columns = {column.name: column for column in schema.columns}
            with found.at("data.test"):
                needed = [*columns, *filter(None, (schema.id, schema.roles.get("query")))]
                check_columns(frame, needed, schema, options, str(path))
            present = {name: column.notation for name, column in columns.items() if name in frame.columns}
            drift = []
            for name, cells in column_cells(frame, present):
                with found.at("data.test"):
                    values = columns[name].read(cells, f"{path}: column {quoted(name)}")
                    is_time = name == schema.roles.get("time")
                    drift.append(summary.of_column(columns[name], values, cells, is_time=is_time))
            if not found.is_part and not found.is_part_of_test:
                # The first rows of an ordered file are unlike the others.
                patterns = options.drop
                named = [name for name in frame.columns if not any(matches(one, name) for one in patterns)]
                drift += summary.of_names(named, {*schema.targets, *schema.roles.values()})
                found.warnings += [f"{path}: {line}" for line in drift_lines(drift)]
            for target in () if found.is_part else options.targets:
                if target in frame.columns:
                    found.warnings += of_unseen(schema.task, target, labels_in(frame, target))
            self._arrays(path, len(frame), schema.arrays)

    def extra_rows(self, schema: Schema, summary: TrainingSummary) -> None:
        """Examine the file of rows that only train."""
        names = {column.name for column in schema.columns}
        inputs = {
            name: tuple(one for one in chosen if one in names) for name, chosen in self._inputs().items()
        }
        with self.found.at("data.extra.train"):
            schema = replace(schema, inputs=inputs)
            cells = self._role_cells(NumberTexts(self.frame, self.options))
            known = KnownRoles.of(self.options, cells.read)
            extra, _ = read_extra(schema, self.options, self.folder, summary, known, MOST_BYTES)
            self.found.notes.append(f"{extra.n_rows} extra rows")

    def _test_ids(self, frame: pd.DataFrame, path: Path, schema: Schema) -> None:
        train = self.found.train
        if schema.id is not None and schema.id not in frame.columns:
            return
        with self.found.at("data.test"):
            ids = read_ids(frame, schema.id, str(path))
            task = self.found.task or Task("regression")
            self.found.test = Samples(ids=ids, inputs={}, y=None, task=task)
            query = self.options.query
            if query is not None and query in frame.columns and self.options.label_separator is not None:
                cells = RoleCells(NumberTexts(frame, self.options), [query], [], str(path))
                self.found.test = replace(self.found.test, query_names=query_names(cells.read(query)))
            shared = (
                ids[np.isin(ids, train.ids)].tolist() if schema.id is not None and train is not None else []
            )
            if shared:
                self.found.warnings.append(
                    f"{len(shared)} ids are in both the training and the test file, such as {quote_values(shared)}; "
                    "if they are the same rows, test scores will look better than new data will be"
                )

    def _arrays(
        self, path: Path, n_rows: int, schemas: dict[str, ArraySchema] | None = None
    ) -> dict[str, ArraySchema]:
        """See from headers that the arrays of inputs are there, with a row for each sample."""
        for name, given in self.options.array_inputs.items():
            if given.array is None:
                continue
            place = f"data.inputs.{name}.array"
            with self.found.at(place):
                shape = _shape_of(path, given.array, place)
                if shape is not None and given.lengths is None and shape[:1] != (n_rows,):
                    raise DataError(
                        f"{path}: array {quoted(given.array)} must have a row for each of {n_rows} samples; got "
                        f"shape {shape}; write it in the order of the samples"
                    )
        return {}


def _shape_of(path: Path, array: str, what: str) -> tuple[int, ...] | None:
    """Return the shape of an array by its header; None where a table holds none, which `load` says."""
    if holds(array, "array"):
        file = beside(path, array)
        with file.open("rb") as stream:
            return read_header(stream, str(file)).shape
    return ArchiveFile.open(path).header(array, what).shape if holds(path, "arrays") else None
