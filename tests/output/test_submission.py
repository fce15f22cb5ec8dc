"""The submission has the form of the sample: columns, order of ids, labels as in the file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stackfeat.errors import DataError
from stackfeat.output.submission import Form, make_submission, order_like_sample
from stackfeat.tasks.task import Task

IDS = np.array(["007", "8", "NA"])
BINARY = Task("binary", ("bad", "good"))
ANIMALS = Task("multiclass", ("ant", "bee", "cat"))
PROBA = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])


def form(sample: tuple[str, ...] | None = None, *, as_labels: bool = False) -> Form:
    return Form("id", "animal", as_labels, sample)


def test_multiclass_probabilities_get_a_column_for_each_class() -> None:
    submission = make_submission(IDS, PROBA, None, ANIMALS, form())
    assert submission.header == ("id", "ant", "bee", "cat")
    assert submission.columns[0] == ["007", "8", "NA"]
    np.testing.assert_array_equal(submission.columns[3], PROBA[:, 2])


def test_binary_probabilities_are_those_of_the_positive_class() -> None:
    proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    np.testing.assert_array_equal(make_submission(IDS, proba, None, BINARY, form()).columns[1], proba[:, 1])
    first = Task("binary", ("bad", "good"), positive=0)
    np.testing.assert_array_equal(make_submission(IDS, proba, None, first, form()).columns[1], proba[:, 0])


def test_label_metrics_get_decided_labels_with_the_type_of_the_file() -> None:
    task = Task("multiclass", (3, 5, 9))
    submission = make_submission(IDS, PROBA, np.array([0, 2, 1]), task, form(as_labels=True))
    assert submission.header == ("id", "animal")
    assert list(submission.columns[1]) == [3, 9, 5]


@pytest.mark.parametrize("names", [("cat", "ant", "bee"), ("P_cat", "P_ant", "P_bee")])
def test_columns_follow_the_sample_by_label_or_by_ending(names: tuple[str, ...]) -> None:
    submission = make_submission(IDS, PROBA, None, ANIMALS, form(("id", *names)))
    np.testing.assert_array_equal(submission.columns[1], PROBA[:, 2])
    np.testing.assert_array_equal(submission.columns[2], PROBA[:, 0])


def test_numeric_labels_that_end_alike_are_told_apart() -> None:
    task = Task("multiclass", (1, 11, 21))
    header = ("id", "Class_11", "Class_21", "Class_1")
    submission = make_submission(IDS, PROBA, None, task, form(header))
    np.testing.assert_array_equal(submission.columns[1], PROBA[:, 1])
    np.testing.assert_array_equal(submission.columns[3], PROBA[:, 0])


def test_columns_that_fit_no_class_are_an_error_that_names_both() -> None:
    with pytest.raises(
        DataError, match=r"got \['dog', 'elk', 'fox'\] for the classes \['ant', 'bee', 'cat'\]"
    ):
        make_submission(IDS, PROBA, None, ANIMALS, form(("id", "dog", "elk", "fox")))


@pytest.mark.parametrize(("bad", "message"), [(np.nan, "finite"), (1.5, r"in \[0, 1\]"), (0.9, "sum to 1")])
def test_values_that_are_no_probabilities_never_reach_a_file(bad: float, message: str) -> None:
    proba = PROBA.copy()
    proba[1, 1] = bad
    with pytest.raises(DataError, match=message):
        make_submission(IDS, proba, None, ANIMALS, form())


def test_rows_follow_the_order_of_the_sample() -> None:
    sample = pd.DataFrame({"id": ["NA", "007", "8"], "animal": 0})
    submission = make_submission(
        IDS, PROBA, np.array([0, 1, 2]), ANIMALS, form(("id", "animal"), as_labels=True)
    )
    ordered = order_like_sample(submission, sample)
    assert ordered.columns == (["NA", "007", "8"], ["cat", "ant", "bee"])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["007", "8", "nine"], "not in|that are not, such as nine"),
        (["007", "8", "8"], "must differ; got 8 more than once"),
        (["007", "8"], "every test row; got 2 ids for 3 rows, without NA"),
    ],
)
def test_ids_that_do_not_fit_the_sample_are_named(ids: list[str], message: str) -> None:
    submission = make_submission(IDS, PROBA, None, ANIMALS, form())
    with pytest.raises(DataError, match=message):
        order_like_sample(submission, pd.DataFrame({"id": ids}))
