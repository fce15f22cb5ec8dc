"""The submission: test predictions in the form that the competition wants.

In:  averaged test predictions, ids, and a sample submission if there is one.
Out: a header and columns, checked: ids, order, column names, NaN, range, row sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.errors import DataError
from stackfeat.structure import structured
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.data.options import DataOptions
    from stackfeat.data.samples import Samples


Column = Sequence[Any] | np.ndarray


@dataclass(frozen=True)
class Submission:
    """A table ready to be written.

    Attributes
    ----------
    header : tuple of str
    columns : tuple of sequences
        Ids first, as text.
    """

    header: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Form:
    """What a submission looks like; kept with the predictor, so later files look the same.

    Attributes
    ----------
    id_name, target_name : str
    as_labels : bool
        Whether the metric wants labels rather than probabilities.
    sample_header : tuple of str or None
        Column names of the sample submission.
    separator : str or None
        Between labels, where one column holds a list of them; in a ranking between the ids of a list's rows.
    n_best : int or None
        How many labels are in such a list, the most probable first; without it those that were decided. Of a ranking
        how many ids, and all without it.
    list_name : str or None
        Of a ranking that has a row for each list, the column of these.
    """

    id_name: str
    target_name: str
    as_labels: bool
    sample_header: tuple[str, ...] | None = None
    separator: str | None = None
    n_best: int | None = None
    list_name: str | None = None

    @classmethod
    def of(
        cls,
        options: DataOptions,
        sample: pd.DataFrame | None,
        *,
        as_labels: bool = False,
        n_best: int | None = None,
    ) -> Form:
        """Return the form that the names of columns and a sample submission ask for."""
        header = None if sample is None else tuple(str(name) for name in sample.columns)
        separator = options.label_separator
        list_name = options.query if separator is not None else None
        return cls(options.id or "id", options.target_name, as_labels, header, separator, n_best, list_name)

    @property
    def is_by_list(self) -> bool:
        """Whether there is a row for each list of a ranking, not for each of its rows."""
        return self.list_name is not None

    def header(self, task: Task) -> tuple[str, ...]:
        """Return the names of the columns."""
        if self.list_name is not None:
            return self.sample_header or (self.list_name, self.id_name)
        is_one_value = 1 in task.widths and not task.quantiles
        is_one_column = is_one_value or (self.as_labels and task.n_targets == 1)
        is_list = self.separator is not None and (self.as_labels or self.n_best is not None)
        default = (self.target_name,) if is_one_column or is_list else task.columns
        return self.sample_header or (self.id_name, *default)

    def to_json(self) -> dict[str, Any]:
        later = ("separator", "n_best", "list_name")
        return {name: one for name, one in asdict(self).items() if name not in later or one is not None}

    @classmethod
    def from_json(cls, values: object, where: str = "form") -> Form:
        """Return the form that `to_json` described; StructureError if it is not made so."""
        return structured(cls, values, where)


def make_submission(
    ids: np.ndarray,
    prediction: np.ndarray,
    labels: np.ndarray | None,
    task: Task,
    form: Form,
    lists: np.ndarray | None = None,
) -> Submission:
    """Put predictions into columns.

    Parameters
    ----------
    ids : ndarray of str, shape (n_rows,)
    prediction : ndarray of shape (n_rows, n_outputs)
        Probabilities, or values on the scale of the target.
    labels : ndarray of shape (n_rows,) or None
        Decided class codes (or rounded values), where the metric wants labels.
    lists : ndarray of str, shape (n_rows,), optional
        Names of the lists that rows are of, where the form has a row for each list.

    Raises
    ------
    DataError
        If the sample's columns fit neither classes nor one target.
    """
    header = form.header(task)
    single = len(header) == 2
    if form.is_by_list and lists is not None:
        _check_finite(prediction)
        return Submission(tuple(header), _best_of_lists(ids, task.counted(prediction), lists, form))
    if task.has_label_sets and single and form.separator is None and header[1] in task.names:
        # Lists under the name of one label are no answer: columns of 0 and 1 go in, columns come out.
        raise _unlike_sample(header, task)
    if task.has_label_sets and single:
        columns: list[Column] = [_label_lists(prediction, labels, task, form)]
    elif task.has_label_sets and form.as_labels:
        decided = task.decided(prediction) if labels is None else labels
        columns = [decided[:, place] for place in _class_columns(header[1:], task)]
    elif not single:
        columns = [prediction[:, place] for place in _class_columns(header[1:], task)]
    elif 1 in task.widths and not form.as_labels:
        columns = [task.counted(prediction).reshape(len(prediction))]
    else:
        columns = [_labels(task.decided(prediction) if labels is None else labels, task, header)]
    _check_finite(prediction)
    task.check_submitted(prediction, single)
    return Submission(tuple(header), (ids.tolist(), *columns))


def _check_finite(prediction: np.ndarray) -> None:
    if not np.isfinite(prediction).all():
        raise DataError("a submission must hold finite numbers; got NaN or infinity in the test predictions")


def _best_of_lists(
    ids: np.ndarray, scores: np.ndarray, lists: np.ndarray, form: Form
) -> tuple[list[str], list[str]]:
    """Return the names of lists in the order of the file, and of each the ids of its best rows as a text."""
    header, separator = form.sample_header, form.separator or " "
    if header is not None and len(header) != 2:
        raise DataError(
            "the sample submission must have a column of queries and one of ids, as data.label_separator is set; got "
            f"{list(header)}. Check data.sample_submission, or remove data.label_separator"
        )
    torn = [identity for identity in ids.tolist() if separator in identity]
    if torn:
        raise DataError(
            f"ids must not hold what stands between them, data.label_separator ({separator!r}); got {torn[0]!r}. Use "
            "another separator"
        )
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(lists.tolist()):
        rows_of.setdefault(name, []).append(row)
    best = (sorted(rows, key=lambda row: -scores[row])[: form.n_best] for rows in rows_of.values())
    return list(rows_of), [separator.join(ids[row] for row in rows) for rows in best]


def _labels(decided: np.ndarray, task: Task, header: Sequence[str]) -> np.ndarray:
    if decided.ndim > 1:
        raise _unlike_sample(header, task)
    return task.labels_of(decided)


def _unlike_sample(header: Sequence[str], task: Task) -> DataError:
    return DataError(
        f"the sample submission must have an id and the columns {', '.join(task.columns)}; got {list(header)}. "
        "Check data.sample_submission, or remove it"
    )


def _label_lists(prediction: np.ndarray, labels: np.ndarray | None, task: Task, form: Form) -> list[str]:
    """Return the labels of each row as a text, the most probable first."""
    order = np.argsort(-prediction, axis=1, kind="stable")
    if form.n_best is not None:
        chosen = [row[: form.n_best] for row in order]
    else:
        decided = task.decided(prediction) if labels is None else labels
        chosen = [row[decided[at, row] > 0] for at, row in enumerate(order)]
    separator = " " if form.separator is None else form.separator
    return [separator.join(task.names[place] for place in row) for row in chosen]


def _class_columns(names: Sequence[str], task: Task) -> list[int]:
    """Match a sample's columns with those of a prediction: by the name itself, or by a common prefix before it."""
    labels = list(task.columns)
    if sorted(names) == sorted(labels):
        return [labels.index(name) for name in names]
    ending = [[place for place, label in enumerate(labels) if name.endswith(label)] for name in names]
    best = [max(places, key=lambda place: len(labels[place]), default=-1) for places in ending]
    if sorted(best) == list(range(len(labels))):
        return best
    kind = ("class", "classes") if task.most_classes else ("quantile", "quantiles")
    kind = ("target", "targets") if task.n_targets > 1 else kind
    raise DataError(
        f"the sample submission's columns must be an id and one column, or an id and a column for each {kind[0]}; "
        f"got {list(names)} for the {kind[1]} {labels}. Check data.sample_submission and data.target"
    )


def order_like_sample(
    submission: Submission, sample: pd.DataFrame, task: Task | None = None, form: Form | None = None
) -> Submission:
    """Return the rows in the sample's order; task and form tell what to do where that is not possible.

    Raises
    ------
    DataError
        If the sample names ids that are not predicted, twice, or too few; says which.
    """
    wanted = sample.iloc[:, 0].astype(str).tolist()
    ids = list(submission.columns[0])
    places = {identity: place for place, identity in enumerate(ids)}
    missing = [identity for identity in wanted if identity not in places]
    if missing:
        is_by_list = form is not None and form.is_by_list
        hint = "data.query, data.test" if is_by_list else "data.id and data.test"
        if task is not None and task.has_lists and not is_by_list:
            hint += "; if its rows are queries, with the ids of their best rows in a text, set data.label_separator"
        hint += ", and remove data.label_separator if it has a row for each row" if is_by_list else ""
        raise DataError(
            f"every id of the sample submission must be in the test file; got {len(missing)} that are not, "
            f"such as {', '.join(missing[:5])}. Check {hint}"
        )
    if len(set(wanted)) != len(wanted):
        twice = [identity for identity, count in Counter(wanted).items() if count > 1][:5]
        raise DataError(f"ids of the sample submission must differ; got {', '.join(twice)} more than once")
    if len(wanted) < len(ids):
        absent = sorted(set(ids) - set(wanted))[:5]
        raise DataError(
            f"the sample submission must name every test row; got {len(wanted)} ids for {len(ids)} rows, "
            f"without {', '.join(absent)}. Check data.sample_submission"
        )
    rows = [places[identity] for identity in wanted]
    return Submission(
        submission.header, tuple([column[row] for row in rows] for column in submission.columns)
    )


def check_sample(sample: pd.DataFrame, test: Samples, form: Form) -> None:
    """Raise DataError unless predictions of the test rows can be written like the sample submission."""
    even = np.full((test.n_rows, test.task.n_outputs), 1 / test.task.n_outputs)
    submission = make_submission(test.ids, even, None, test.task, form, test.query_names)
    order_like_sample(submission, sample, test.task, form)
