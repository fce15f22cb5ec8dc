"""The target of a first config: what a column holds, the task that it suggests, and why it cannot be learnt.

In:  columns of the training file that are to be predicted.
Out: their texts, the kind of task with the reason for it, or an error that says what to choose instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError
from stackfeat.registry.resolve import name_values, quote_values, quoted
from stackfeat.tasks.task import task_class

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 30


def target_texts(frame: pd.DataFrame, target: str, train: Path) -> tuple[pd.Series, dict[str, int]]:
    """Return the target as texts, numbers as a program writes them; every row must have one, and they must differ.

    Beside classes that are words, texts such as NA are taken for classes: they come with their counts.
    """
    import pandas as pd

    from stackfeat.data.files.cells import to_text
    from stackfeat.data.schema.column_types import notation_told

    texts = to_text(frame[target])
    notation = notation_told(frame, target, DataOptions(train=str(train)))
    if notation is not None:
        texts = pd.Series(notation.plain_texts(texts.fillna("")), dtype="str")
    where = f"{train}: column {quoted(target)}"
    n_missing = int(texts.isna().sum())
    if n_missing:
        given = frame[target][texts.isna()].dropna().astype("str").str.strip()
        counts = {str(word): int(n) for word, n in given[given != ""].value_counts().items()}
        if sum(counts.values()) == n_missing and not any(map(is_number, texts.dropna().unique())):
            return texts.fillna(given), counts
        words = list(counts)
        got = f"none ({quote_values(words)})" if words else "none"
        raise DataError(
            f"{where}: every training row must have a target; got {got} in {n_missing} of {len(texts)} rows; remove "
            "these rows, or give them as --test if they are the rows to predict"
        )
    if texts.nunique() == 1:
        raise DataError(
            f"{where}: target values must differ; got {quoted(texts.iloc[0])} in every row; choose another"
        )
    return texts, {}


def guess_task(values: pd.Series) -> tuple[str, str]:
    """Guess from the distinct values: few or text means classes."""
    distinct = set(values)
    n_distinct = len(distinct)
    if n_distinct == 2:
        return "binary", f"two values: {' and '.join(sorted(distinct))}"
    are_numbers = all(is_number(value) for value in distinct)
    is_whole = are_numbers and all(float(value).is_integer() for value in distinct)
    # A whole number that stands in one row is an amount: no class has a single row.
    is_class = is_whole and n_distinct <= MAX_CLASSES and n_distinct * 10 <= len(values)
    if not are_numbers or (is_class and values.value_counts().min() > 1):
        are_counts = "; whole numbers: --task regression if they are amounts or marks" if is_whole else ""
        return "multiclass", f"{n_distinct} classes{are_counts}"
    return "regression", f"numbers, {n_distinct} distinct values"


def guess_task_of_several(columns: Sequence[pd.Series]) -> tuple[str, str]:
    """Guess from several targets: columns of 0 and 1 are labels, others numbers."""
    if all(set(values) <= {"0", "1", "0.0", "1.0", "True", "False", "true", "false"} for values in columns):
        return "multilabel", f"{len(columns)} columns of 0 and 1"
    return "regression", f"{len(columns)} targets of numbers"


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_task(task: str, values: pd.Series, where: str) -> None:
    """Refuse a target that the task cannot have, or that is made of names."""
    n_distinct, n_rows = values.nunique(), len(values)
    most = task_class(task).most_classes
    if task_class(task).has_label_sets:
        return
    if not most:
        wrong = next((value for value in values if not is_number(value)), None)
        if wrong is not None:
            raise DataError(
                f"{where}: task {task} needs numbers; got {quoted(wrong)}; choose another target or --task"
            )
        return
    if n_distinct > most:
        raise DataError(
            f"{where}: task {task} needs exactly {most} classes; got {n_distinct}; use --task multiclass"
        )
    if n_distinct > max(50, n_rows // 10):
        example = quoted(values.iloc[0])
        raise DataError(
            f"{where}: a class must have many rows; got {n_distinct} distinct values in {n_rows} rows, such as "
            f"{example}; choose another --target, or --task regression if they are amounts"
        )
    if values.value_counts().min() < 2:
        rare = values.value_counts()
        names = name_values(quoted(name) for name in rare[rare < 2].index)
        raise DataError(
            f"{where}: every class must have at least 2 rows; got one of {names}; join rare classes or remove these "
            "rows"
        )


def skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    spread = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean()) / spread**3 if spread > 0 else 0.0
