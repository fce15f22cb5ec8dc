"""Roles of columns: the target as labels or numbers, and the rows of a file as `Samples`.

In:  the columns of a file, the kind of task, `positive`, the order of classes, the transform of the target.
Out: a `Task` with its classes and `y`; `Samples` with ids, roles and tables, checked value by value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import (
    BOOLEANS,
    Cells,
    TextCells,
    as_str,
    is_text,
    parsed_cells,
    text_cells,
    to_text,
)
from stackfeat.data.files.parsing import name_rows, refuse_rows, unknown_name
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples, Table, no_texts
from stackfeat.data.schema.columns import Column, LabelType, infer_type, to_dates, to_numbers
from stackfeat.data.schema.guesses import Guess, counted, in_list, option
from stackfeat.data.schema.label_sets import read_known_label_sets, read_label_sets
from stackfeat.errors import DataError, LackError
from stackfeat.metrics.registry import declared
from stackfeat.registry.resolve import SHOWN, name_values, quote_values, quoted
from stackfeat.tasks.ranking import orders_any
from stackfeat.tasks.task import DEFAULT_QUANTILES, Kind, Label, Task, task_class

_INTEGER = r"-?(0|[1-9]\d{0,17})"
_FLOAT = r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"
_LABEL_TYPES: dict[str, LabelType] = {"b": "bool", "f": "float"}
_MOST_CLASSES = 50


def read_target(
    values: Cells,
    options: DataOptions,
    task_kind: Kind,
    metric: str,
    where: str,
    order: Sequence[Label] | None = None,
) -> tuple[Task, LabelType, np.ndarray]:
    """Return the task, the type of its labels, and y (int64 codes, or float64 on the scale to learn).

    Parameters
    ----------
    order : sequence of labels, optional
        The order of the classes that the file brings; ``data.class_order`` wins.

    Raises
    ------
    DataError
        If values are missing, constant, of the wrong kind, or negative where the metric forbids it; or the order does
        not name every class.
    """
    _refuse_missing_target(values, options.target_name, where, bool(task_class(task_kind).most_classes))
    if options.positive is not None and not task_class(task_kind).takes_positive:
        raise DataError(
            f"data.positive is for binary tasks; got positive={options.positive!r}, task={task_kind}; remove it"
        )
    if not task_class(task_kind).most_classes:
        return _read_numbers(values, options, task_kind, metric, where)
    classes, codes, label_type = _read_labels(values)
    _check_classes(classes, len(values), task_kind, where)
    classes, codes = _in_order(classes, codes, options.class_order, order, where)
    texts = [str(label) for label in classes]
    positive = texts[-1] if options.positive is None else str(options.positive)
    if positive not in texts:
        legal = quote_values(classes)
        unknown = unknown_name(f"{where}: data.positive must be one of {legal}", options.positive, texts)
        raise LackError(str(unknown))
    place = texts.index(positive) if task_class(task_kind).takes_positive else 1
    return Task(kind=task_kind, classes=classes, positive=place), label_type, codes


def read_targets(
    cells_of: Callable[[str], Cells],
    options: DataOptions,
    task_kind: Kind,
    metric: str,
    where: str,
    order: Sequence[Label] | None = None,
) -> tuple[Task, LabelType, np.ndarray]:
    """Return what `read_target` does, of one target or of several: then y has a column for each."""
    if task_class(task_kind).has_label_sets:
        found, labels = read_label_sets(cells_of, options, where)
        return found, "int", labels
    if len(options.targets) == 1:
        target = options.targets[0]
        place = f"{where}: column {quoted(target)}"
        return read_target(cells_of(target), options, task_kind, metric, place, order)
    if not task_class(task_kind).takes_targets:
        raise DataError(
            f"data.target must be one column in task {task_kind}; got {name_values(options.targets)}; name one, or "
            "choose another task"
        )
    tasks, columns = [], []
    for target in options.targets:
        place, one = f"{where}: column {quoted(target)}", options.model_copy(update={"target": target})
        task, label_type, y = read_target(cells_of(target), one, task_kind, metric, place)
        tasks.append(task)
        columns.append(y)
    return task_class(task_kind).of_parts(tasks, options.targets), label_type, np.column_stack(columns)


def read_known_targets(
    cells_of: Callable[[str], Cells], task: Task, options: DataOptions, where: str
) -> np.ndarray:
    """Return y of rows that are read beside the training file, of one target or several; see `read_known_target`."""
    if task.has_label_sets:
        return read_known_label_sets(cells_of, task, options, where)
    targets = options.targets
    columns = [
        read_known_target(cells_of(target), part, target, f"{where}: column {quoted(target)}")
        for part, target in zip(task.parts, targets, strict=True)
    ]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def read_known_target(values: Cells, task: Task, target: str, where: str) -> np.ndarray:
    """Return y of rows that are read beside the training file: its classes, or numbers on the scale to learn.

    Raises
    ------
    DataError
        If values are missing, of the wrong kind, or no class of the training file.
    """
    _refuse_missing_target(values, target, where, bool(task.most_classes))
    if not task.most_classes:
        y = to_numbers(values, where)
        _refuse_no_targets(type(task), y, where)
        if task.transform == "log1p":
            refuse_rows(
                y < 0, f"{where}: members learn log1p of the target, which must be at least 0", _REPAIR, y
            )
            return np.asarray(np.log1p(y))
        return y
    classes, codes, _ = _read_labels(values)
    texts = [str(label) for label in task.classes]
    own = [_as_class(label, task.classes) for label in classes]
    for label in own:
        if label not in texts:
            legal = quote_values(task.classes)
            must = f"{where}: the target must be one of the training file's classes ({legal})"
            raise DataError(str(unknown_name(must, label, texts)))
    return np.asarray(np.array([texts.index(label) for label in own], dtype=np.int64)[codes])


_REPAIR = "remove these rows"


def _refuse_missing_target(values: Cells, target: str, where: str, has_classes: bool) -> None:
    """Raise DataError where a training row has no target; texts that were taken for missing values are named."""
    missing = values.is_missing if isinstance(values, TextCells) else values.isna().to_numpy()
    must, remedy = f"{where}: every training row must have a target", "remove these rows"
    found = values.missing_counts() if isinstance(values, TextCells) else {}
    if found:
        n_empty = int(missing.sum()) - sum(found.values())
        empty = f" and {n_empty} empty cells" if n_empty else ""
        if has_classes:
            key, name = option("not_missing", target, found), "a class" if len(found) == 1 else "classes"
            remedy = f"if this is {name}: {key}; if it is missing, fill in or remove these rows"
        raise DataError(
            f"{must}; got {counted(found)}{empty}, read as missing, in {name_rows(missing)}; {remedy}"
        )
    refuse_rows(missing, must, remedy)


def _in_order(
    classes: tuple[Label, ...],
    codes: np.ndarray,
    given: Sequence[Label] | None,
    brought: Sequence[Label] | None,
    where: str,
) -> tuple[tuple[Label, ...], np.ndarray]:
    """Return the classes in the order that the config gives or the file brings, and the codes that go with it."""
    texts = [str(label) for label in classes]
    order = [_as_class(label, classes) for label in (given if given is not None else brought or ())]
    if given is None:
        # A file may bring categories that no row has.
        order = [label for label in order if label in texts]
    if not order:
        return classes, codes
    must = f"{where}: data.class_order must name every class once"
    for label in order:
        if label not in texts:
            listed = f", which no row has; classes are {quote_values(classes)}"
            raise LackError(str(unknown_name(must, label, texts, listed)))
    absent = [label for label in texts if label not in order]
    if absent:
        raise DataError(
            f"{must}; got {quote_values(order)}, without {quote_values(absent)}; add what is absent"
        )
    places = [texts.index(label) for label in order]
    rank = np.argsort(places)
    return tuple(classes[place] for place in places), rank[codes].astype(np.int64)


def _as_class(label: Label, classes: Sequence[Label]) -> str:
    """Return a label as the text of the class that it is: 2 is the class 2.0."""
    if isinstance(label, int | float) and not isinstance(label, bool):
        equal = [one for one in classes if isinstance(one, int | float) and one == label]
        return str(next((one for one in equal if not isinstance(one, bool)), label))
    return str(label)


def labels_like(values: Cells, classes: Sequence[Label]) -> tuple[list[str], LabelType]:
    """Return the labels of a column as texts, those of `classes` where they are some, and the type of the labels."""
    own, _, label_type = _read_labels(values)
    return [_as_class(label, classes) for label in own], label_type


def of_classes(task: Task, options: DataOptions, is_brought: bool) -> Iterator[Guess]:
    """Yield the order of the classes, who said it, and which one counts; `is_brought`: the file has an order."""
    if not task.most_classes:
        return
    shown = name_values((quoted(label) for label in task.classes), 4 * SHOWN)
    is_told = options.class_order is not None
    by = "data.class_order" if is_told else "the file's categories" if is_brought else "sorted"
    yield Guess(f"classes in their order ({by}): {shown}")
    yield from _of_case(task, options.target_name)
    if task.takes_positive:
        by = "data.positive" if options.positive is not None else "the last class"
        yield Guess(f"positive class ({by}): {quoted(task.classes[task.positive])}")


def _of_case(task: Task, target: str) -> Iterator[Guess]:
    """Yield a doubt for classes that are written alike but for upper and lower case."""
    alike: dict[str, list[str]] = {}
    for label in map(str, task.classes):
        alike.setdefault(label.casefold(), []).append(label)
    groups = [" and ".join(map(quoted, labels)) for labels in alike.values() if len(labels) > 1]
    if groups:
        said = f"classes of {quoted(target)} differ by upper and lower case alone: {name_values(groups)}"
        yield Guess(said, "write them alike if they are one", True)


def of_order(task: Task, has_order: bool, metric: str) -> Iterator[Guess]:
    """Yield a doubt where a metric counts by the order of classes, and nobody told the order of words."""
    is_word = any(isinstance(label, str) for label in task.classes)
    if declared(metric).decision == "ordinal" and is_word and len(task.classes) > 2 and not has_order:
        shown = name_values((quoted(label) for label in task.classes), 4 * SHOWN)
        natural = sorted(task.columns, key=lambda text: [int(part) for part in re.findall(r"[0-9]+", text)])
        said = f"{metric} takes the classes in the order of their texts: {shown}"
        yield Guess(said, f"name the order that is meant, such as {in_list('class_order', natural)}", True)


def _read_numbers(
    values: Cells, options: DataOptions, task_kind: Kind, metric: str, where: str
) -> tuple[Task, LabelType, np.ndarray]:
    y = to_numbers(values, where)
    if y.min() == y.max():
        raise LackError(f"{where}: target values must differ; got {y[0]} in every row; check data.target")
    _refuse_no_targets(task_class(task_kind), y, where)
    of_metric = declared(metric).target_transform
    told = options.transform_of(options.target_name)
    transform = of_metric if told == "auto" else told
    if "log1p" in (transform, of_metric):
        reason = f"metric {metric}" if of_metric == "log1p" else "target_transform: log1p"
        refuse_rows(y < 0, f"{where}: {reason} needs a target of at least 0", "use rmse", y)
    if not declared(metric).takes_zeros:
        refuse_rows(y == 0, f"{where}: metric {metric} needs targets other than 0", "use smape or mae", y)
    levels = (options.quantiles or DEFAULT_QUANTILES) if task_class(task_kind).is_by_level else ()
    task = Task(kind=task_kind, transform=transform, quantiles=levels)
    return task, "float", np.log1p(y) if transform == "log1p" else y


def _refuse_no_targets(task: type[Task], y: np.ndarray, where: str) -> None:
    wrong, must = task.target_problem(y)
    refuse_rows(wrong, f"{where}: {must}", "repair these rows, or use task: regression", y)


def _read_labels(values: Cells) -> tuple[tuple[Any, ...], np.ndarray, LabelType]:
    """Return the classes in ``np.unique`` order, int64 codes, and the type of the labels."""
    if isinstance(values, TextCells) or is_text(values) or values.dtype.kind not in "biuf":
        cells = text_cells(values)
        labels, label_type = _type_labels(cells.texts)
        codes = np.searchsorted(cells.distinct, cells.codes)
    else:
        codes, unique = pd.factorize(values)
        labels, label_type = np.array(unique.tolist()), _LABEL_TYPES.get(values.dtype.kind, "int")
    # Two texts may be one number ("1.0" and "1.00"), so codes go through the typed labels.
    classes, rank = np.unique(labels, return_inverse=True)
    return tuple(classes.tolist()), rank[codes].astype(np.int64), label_type


def _type_labels(texts: list[str]) -> tuple[np.ndarray, LabelType]:
    """Return labels with the type all of them can be written in without loss; ``007`` stays text."""
    series = pd.Series(texts, dtype="str")
    if series.str.fullmatch(_INTEGER).all():
        return np.array([int(text) for text in texts], dtype=np.int64), "int"
    if series.str.fullmatch(_FLOAT).all():
        return np.array([float(text) for text in texts]), "float"
    if series.isin(BOOLEANS).all():
        return np.array([BOOLEANS[text] == 1.0 for text in texts]), "bool"
    return np.array(texts), "str"


def _check_classes(classes: tuple[Any, ...], n_rows: int, task_kind: Kind, where: str) -> None:
    shown = quote_values(classes)
    if len(classes) == 1:
        raise LackError(
            f"{where}: the target must have at least 2 classes; got {shown} in every row; check data.target"
        )
    most = task_class(task_kind).most_classes
    if len(classes) > most:
        raise DataError(
            f"{where}: task {task_kind} needs exactly {most} classes; got {len(classes)}: {shown}; "
            "use task: multiclass"
        )
    if len(classes) > max(_MOST_CLASSES, n_rows // 2):
        raise LackError(
            f"{where}: a class must have many rows; got {len(classes)} classes in {n_rows} rows; "
            "use task: regression, or check data.target"
        )


def build_table(columns: Sequence[Column], values: Mapping[str, np.ndarray], n_rows: int) -> Table:
    """Put read columns together: numbers, then categories, then texts."""
    coded, texts = ([one for one in columns if one.type == kind] for kind in ("categorical", "text"))
    numeric = [column for column in columns if column.type not in ("categorical", "text")]
    return Table(
        numeric=np.hstack([np.zeros((n_rows, 0)), *(values[column.name] for column in numeric)]),
        numeric_names=tuple(name for column in numeric for name in column.numeric_names),
        codes=np.column_stack(
            [np.zeros((n_rows, 0), dtype=np.int32), *(values[column.name] for column in coded)]
        ),
        code_names=tuple(column.name for column in coded),
        levels=tuple(column.levels for column in coded),
        texts=np.column_stack([no_texts(n_rows), *(values[column.name] for column in texts)]),
        text_names=tuple(column.name for column in texts),
        word_names=tuple(column.name for column in texts if column.by_words),
    )


def read_ids(frame: pd.DataFrame, column: str | None, where: str) -> np.ndarray:
    """Return ids exactly as in the file, str of shape (n_rows,); row numbers from 0 without a column.

    Raises
    ------
    DataError
        If ids are missing or not unique.
    """
    if column is None:
        return np.arange(len(frame)).astype(str)
    values = frame[column]
    text = as_str(values) if is_text(values) else to_text(values)
    missing = (text.isna() | (text.str.strip() == "")).to_numpy()
    refuse_rows(missing, f"{where}: every row must have an id in {quoted(column)}", "fill them in")
    doubled = text.duplicated(keep=False)
    if doubled.any():
        raise DataError(
            f"{where}: ids in {quoted(column)} must be unique; got {quote_values(text[doubled].unique())} more than "
            f"once, in {name_rows(doubled.to_numpy())}; remove the duplicates, or name another column as data.id"
        )
    return text.to_numpy(dtype=object).astype(np.str_)


def read_group(values: Cells, where: str, role: str = "group") -> np.ndarray:
    """Return int64 numbers of the groups, in the sorted order of their texts."""
    return read_known_group(values, (), where, role)


def read_known_group(values: Cells, known: Sequence[str], where: str, role: str = "group") -> np.ndarray:
    """Return int64 numbers of the groups: those of `known` by their place there, then others by their texts."""
    cells = text_cells(values)
    _refuse_missing(cells.is_missing, where, role)
    others = sorted(set(cells.texts).difference(known))
    numbers = {text: number for number, text in enumerate([*known, *others])}
    return np.asarray(cells.looked_up([numbers[text] for text in cells.texts], -1)).astype(np.int64)


def training_lists(samples: Samples, where: str) -> Samples:
    """Return training rows whose target knows their lists; without lists the same rows.

    Raises
    ------
    DataError
        As `Samples.with_lists`, and if no list has rows of different relevance.
    """
    samples = samples.with_lists(where)
    lists = None if samples.y is None or samples.query is None else samples.task.lists(samples.y)
    if lists is not None and not orders_any(samples.labels):
        raise LackError(
            f"{where}: some query must have rows of different relevance, or there is nothing to rank; got none in "
            f"{len(np.unique(lists))} queries of {samples.n_rows} rows; check data.query and data.target"
        )
    return samples


def query_names(values: Cells) -> np.ndarray:
    """Return the text of each row's list."""
    cells = text_cells(values)
    return np.asarray(cells.looked_up(cells.texts, "")).astype(str)


def group_names(values: Cells) -> list[str]:
    """Return the texts of groups in the order of their numbers."""
    return sorted(set(text_cells(values).texts))


def read_time(values: Cells, where: str) -> np.ndarray:
    """Return float64 that increases with time: the numbers, or seconds since 1970."""
    cells = parsed_cells(values)
    if isinstance(cells, TextCells) and not cells.texts:
        _refuse_missing(cells.is_missing, where, "time")
    type_ = infer_type(cells)
    if type_ == "date":
        dates = to_dates(cells)
        _refuse_missing(np.isnat(dates), where, "time")
        seconds: np.ndarray = (dates - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        return seconds
    if type_ != "numeric" and not (isinstance(cells, TextCells) and cells.block.is_numeric[cells.place]):
        example = quoted(str(cells.texts[0] if isinstance(cells, TextCells) else cells.iloc[0]))
        raise DataError(
            f"{where}: time must be numbers or dates such as 2024-01-31; got {example}; convert the column"
        )
    time = to_numbers(cells, where)
    _refuse_missing(np.isnan(time), where, "time")
    return time


def holds_dates(values: Cells) -> bool:
    """Return whether `read_time` reads cells as dates, not as numbers."""
    return infer_type(parsed_cells(values)) == "date"


def read_known_time(values: Cells, has_dates: bool, where: str) -> np.ndarray:
    """Return times as `read_time` does, on the scale of a training file that has dates, or numbers."""
    time = read_time(values, where)
    if holds_dates(values) != has_dates:
        wanted, got = ("dates", "numbers") if has_dates else ("numbers", "dates")
        raise DataError(
            f"{where}: time must be {wanted}, as in the training file; got {got}; convert the column"
        )
    return time


def read_weight(values: Cells, where: str) -> np.ndarray:
    """Return float64 weights, at least 0."""
    weight = to_numbers(values, where)
    refuse_rows(~(weight >= 0), f"{where}: weights must be at least 0", "repair them", weight)
    if not weight.any():
        raise LackError(f"{where}: some weight must be above 0; got 0 in every row; remove data.weight")
    return weight


def read_fold(values: Cells, where: str) -> np.ndarray:
    """Return int64 fold numbers 0, 1, ...; a column that counts from 1 is shifted. -1 is held out."""
    fold = to_numbers(values, where)
    _refuse_missing(np.isnan(fold), where, "fold")
    held_out = fold == -1
    present = np.unique(fold[~held_out])
    first = present[0] if len(present) else -1.0
    expected = first + np.arange(len(present))
    if first not in (0.0, 1.0) or len(present) < 2 or not np.array_equal(present, expected):
        raise LackError(
            f"{where}: folds must be numbered 0, 1, ... without gaps, at least two; "
            f"got {name_values(f'{value:g}' for value in np.unique(fold))}; number them anew"
        )
    return np.where(held_out, -1, fold - first).astype(np.int64)


def _refuse_missing(missing: np.ndarray, where: str, role: str) -> None:
    refuse_rows(missing, f"{where}: every row must have a {role}", "fill the cells in")
