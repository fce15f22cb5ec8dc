"""What every vote promises, over each kind of task that it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.members.vote_options import VoteOptions
from stackfeat.meta.votes import VOTES
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class Row:
    """What is special about a vote.

    Attributes
    ----------
    options : tuple of dict
        Options to try.
    keeps_values : bool
        Whether equal inputs come out as they went in.
    counts_weights : bool
        Whether a row that weighs twice counts as two rows.
    order_error : float
        How far values may differ with the order of inputs.
    """

    options: tuple[dict[str, Any], ...] = ({},)
    keeps_values: bool = True
    counts_weights: bool = True
    order_error: float = 1e-5


ROWS = {
    "soft": Row(({}, {"weights": (1.0, 3.0, 2.0)})),
    "hard": Row(({}, {"tie": "prior"}, {"tie": "lowest", "weights": (1.0, 3.0, 2.0)}), keeps_values=False),
    "weighted": Row(),
    # Mean ranks of few rows are often equal but for rounding, which the order of the sum decides.
    "rank": Row(keeps_values=False, counts_weights=False, order_error=0.2),
    "greedy": Row(({}, {"picks": 7, "bags": 2, "start": 1})),
}
TASKS = (
    Task("binary", ("no", "yes"), positive=0),
    Task("multiclass", (1, 2, 3)),
    Task("regression"),
    Task("regression", transform="log1p"),
)
CASES = [
    pytest.param(VOTES[name], task, options, id=f"{name}-{task.kind}-{task.transform}-{place}")
    for name, row in ROWS.items()
    for task in TASKS
    if VOTES[name].serves(task.kind)
    for place, options in enumerate(row.options)
]
Fit = Callable[..., Vote]
of_every_vote = pytest.mark.parametrize(("vote", "task", "given"), CASES)


def test_every_vote_has_a_row() -> None:
    assert list(ROWS) == list(VOTES)


@pytest.mark.parametrize("name", VOTES)
def test_the_table_of_the_docs_says_what_a_vote_is(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs/semantics.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` | "))
    learns, options, tasks = (cell.strip() for cell in row.split("|")[2:5])
    assert learns == ("yes" if VOTES[name].is_fitted else "no")
    assert options == ", ".join(f"`{option}`" for option in VOTES[name].options)
    assert tasks == ", ".join(VOTES[name].tasks or ("all",))


def draw(task: Task, n_rows: int = 60) -> tuple[np.ndarray, list[np.ndarray]]:
    """True values, and three predictions of them, the second of which is the best."""
    random = np.random.default_rng(0)
    if not task.classes:
        y = random.gamma(3.0, size=n_rows)
        return y, [np.abs(y + scale * random.normal(size=n_rows))[:, None] for scale in (2.0, 0.5, 1.0)]
    y = random.integers(0, task.n_outputs, n_rows)
    logits = [
        np.eye(task.n_outputs)[y] + s * random.normal(size=(n_rows, task.n_outputs)) for s in (3, 0.7, 1)
    ]
    return y, [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits]


def options_of(vote: type[Vote], given: dict[str, Any]) -> dict[str, Any]:
    return VoteOptions(vote=vote.name, inputs=("a/*",), **given).taken()


def fit(
    vote: type[Vote],
    task: Task,
    given: dict[str, Any],
    y: np.ndarray,
    inputs: list[np.ndarray],
    weight: np.ndarray | None = None,
) -> Vote:
    metric = get_metric("log_loss" if task.classes else "rmse", task.kind)
    return vote.fit(inputs, VoteTarget(task, y, weight, metric), options_of(vote, given))


@of_every_vote
def test_a_vote_looks_like_its_inputs(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, inputs = draw(task)
    combined = fit(vote, task, given, y, inputs).combine(inputs)
    assert combined.shape == inputs[0].shape and combined.dtype == np.float64
    assert np.isfinite(combined).all()
    if task.classes:
        assert (combined >= 0).all()
        np.testing.assert_allclose(combined.sum(axis=1), 1)


@of_every_vote
def test_equal_inputs_are_what_one_of_them_is(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, (one, *_) = draw(task)
    combined = fit(vote, task, given, y, [one] * 3).combine([one] * 3)
    if ROWS[vote.name].keeps_values or not task.classes:
        np.testing.assert_allclose(combined, one)
    elif vote.gives_probabilities:
        np.testing.assert_array_equal(combined[:, 0].argsort(), one[:, 0].argsort())
    else:
        np.testing.assert_array_equal(combined.argmax(axis=1), one.argmax(axis=1))


@of_every_vote
def test_the_order_of_inputs_does_not_matter(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, inputs = draw(task)
    order = [2, 0, 1]
    other = {**given, "weights": tuple(given["weights"][i] for i in order)} if "weights" in given else given
    turned = [inputs[i] for i in order]
    np.testing.assert_allclose(
        fit(vote, task, other, y, turned).combine(turned),
        fit(vote, task, given, y, inputs).combine(inputs),
        atol=ROWS[vote.name].order_error,
    )


@of_every_vote
def test_rows_are_combined_one_by_one(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, inputs = draw(task)
    fitted = fit(vote, task, given, y, inputs)
    alone = np.vstack([fitted.combine([p[i : i + 1] for p in inputs]) for i in range(5)])
    np.testing.assert_array_equal(alone, fitted.combine(inputs)[:5])


@of_every_vote
def test_a_vote_comes_back_from_json(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, inputs = draw(task)
    fitted = fit(vote, task, given, y, inputs)
    values = json.loads(json.dumps(fitted.to_json()))
    again = vote.from_json(values, task, options_of(vote, given), "vote.json")
    assert again == fitted and again.to_json() == fitted.to_json()
    assert again.n_inputs == 3
    np.testing.assert_array_equal(again.combine(inputs), fitted.combine(inputs))


@of_every_vote
def test_inputs_can_be_left_out(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, inputs = draw(task)
    fitted = fit(vote, task, given, y, inputs)
    np.testing.assert_array_equal(fitted.subset([0, 1, 2]).combine(inputs), fitted.combine(inputs))
    part = fitted.subset([2, 1])
    assert part.n_inputs == 2
    np.testing.assert_allclose(
        part.combine([inputs[2], inputs[1]]), fitted.subset([1, 2]).combine(inputs[1:]), atol=1e-12
    )
    alone = fitted.subset([1]).combine(inputs[1:2])
    if ROWS[vote.name].keeps_values:
        np.testing.assert_allclose(alone, inputs[1])


@of_every_vote
def test_a_row_that_weighs_twice_counts_as_two(vote: type[Vote], task: Task, given: dict[str, Any]) -> None:
    y, inputs = draw(task)
    times = np.random.default_rng(1).integers(1, 4, len(y))
    weighed = fit(vote, task, given, y, inputs, times.astype(np.float64)).combine(inputs)
    if ROWS[vote.name].counts_weights:
        repeated = fit(vote, task, given, y.repeat(times), [p.repeat(times, axis=0) for p in inputs])
        np.testing.assert_allclose(weighed, repeated.combine(inputs), atol=1e-5)
    else:
        np.testing.assert_array_equal(weighed, fit(vote, task, given, y, inputs).combine(inputs))


@pytest.fixture(scope="module", params=["binary", "regression"])
def time_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run over time folds in which every vote that serves the task is a member."""
    from stackfeat.config import load_config
    from stackfeat.pipeline.run import run

    kind, folder = request.param, tmp_path_factory.mktemp("votes")
    random = np.random.default_rng(0)
    X = random.normal(size=(120, 3))
    values = X @ [1.0, -1.0, 0.5] + random.normal(size=120)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(
        row=range(120), when=range(120), y=values if kind == "regression" else (values > 0).astype(int)
    )
    frame.to_csv(folder / "train.csv", index=False)
    line, tree = {
        "binary": ("sklearn.linear_model.LogisticRegression", "sklearn.tree.DecisionTreeClassifier"),
        "regression": ("sklearn.linear_model.Ridge", "sklearn.tree.DecisionTreeRegressor"),
    }[kind]
    votes = {name: {"vote": name, "inputs": ["base/*"]} for name in VOTES if VOTES[name].serves(kind)}
    config = {
        "task": kind,
        "metric": "rmse" if kind == "regression" else "log_loss",
        "data": {"train": "train.csv", "id": "row", "target": "y", "time": "when"},
        "folds": {"kind": "time", "n": 3},
        "levels": {
            "base": {
                "line": {"estimator": line},
                "tree": {"estimator": tree, "params": {"max_depth": 2}},
            },
            "final": votes,
        },
        "outputs": {"dir": "run"},
        "executor": {"kind": "inline"},
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    run(load_config(folder / "c.yaml"))
    return kind, folder / "run"


def test_every_vote_takes_time_folds(time_run: tuple[str, Path]) -> None:
    """The first rows are never predicted; what a vote learns costs it one more fold."""
    kind, folder = time_run
    fold_of = pd.read_csv(folder / "folds.csv")["fold"].to_numpy()
    assert (fold_of == -1).any()
    for name, vote in VOTES.items():
        if not vote.serves(kind):
            continue
        said = pd.read_csv(folder / "oof" / f"final.{name}.csv").iloc[:, 1:].to_numpy()
        first = 1 if vote.is_fitted else 0
        np.testing.assert_array_equal(np.isfinite(said).all(axis=1), fold_of >= first)
