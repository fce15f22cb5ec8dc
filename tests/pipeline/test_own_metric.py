"""A metric of one's own that gives no number ends a run in one line that names it, or leaves out a member."""

from __future__ import annotations

from typing import Any

import pytest

from tests.projects import Project, plain_config

CODE = """
import numpy as np

calls = []

def later(value):
    # A number for the guesses before the run, another value for predictions.
    def metric(y_true, y_pred):
        calls.append(1)
        return 0.5 if len(calls) == 1 else value
    return metric

nan_later, infinite_later, array_later, none_later = later(np.nan), later(-np.inf), later(np.zeros(3)), later(None)

def raises_later(y_true, y_pred):
    calls.append(1)
    if len(calls) > 1:
        raise KeyError("no such column")
    return 0.5

def certain(y_true, y_pred):
    # Not defined for predictions that are all 0 or 1, as those of a full tree.
    return float("nan") if set(np.unique(y_pred)) <= {0.0, 1.0} else -float(np.mean((y_pred - y_pred.mean()) ** 2))

certain.needs = "proba"
"""


def project(build: Any, metric: str, **members: Any) -> Project:
    config = plain_config("binary", f"own:{metric}")
    config["levels"]["base"].update(members)
    made: Project = build("binary", config, n_rows=90)
    (made.folder / "own.py").write_text(CODE)
    return made


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "nan_later",
            "must return a finite number; got nan for out-of-fold predictions of 90 rows; repair the function",
        ),
        (
            "infinite_later",
            "must return a finite number; got -inf for out-of-fold predictions of 90 rows; repair",
        ),
        ("array_later", r"must return one number; got ndarray of shape (3,). Return a float"),
        ("none_later", "must return one number; got NoneType"),
        (
            "raises_later",
            "must return a number for 90 rows; it raised KeyError: 'no such column'; repair the function",
        ),
    ],
)
def test_a_metric_that_gives_no_number_is_named_once(metric: str, message: str, build: Any) -> None:
    said = project(build, metric).run("--trust-code")
    assert said.code == 1, said.err
    assert said.err.count(f"metric 'own:{metric}'") == 1
    assert f"error: no member could be scored: metric 'own:{metric}' {message}" in said.err
    assert "bug in stackfeat" not in said.err and "Traceback" not in said.err


def test_a_metric_that_is_not_defined_for_one_member_leaves_it_out(build: Any) -> None:
    tree = {"estimator": "sklearn.tree.DecisionTreeClassifier"}
    said = project(build, "certain", full=tree).run("--trust-code")
    assert said.code == 4, said.err
    assert "failed: base/full: metric 'own:certain' must return a finite number; got nan" in said.out
    assert "bug in stackfeat" not in said.err
