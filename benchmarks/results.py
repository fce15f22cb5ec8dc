"""Score a finished run on the labels of its test rows, which the run has never seen.

In:  a run folder, the training file, a file with the true test labels.
Out: markdown: a line that sums the run up; every member's out-of-fold and test scores with bootstrap
     standard errors; paired differences between members.

    python benchmarks/results.py configs/runs/adult --train work/data/adult/train.csv \
        --labels ../shared/data/adult/test_labels.parquet [--metric log_loss] [--compare meta/gated meta/logit]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from stackfeat.metrics.metric import Metric
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

N_RESAMPLES = 400
SEED = 0
PARTS = ("oof", "test")

Points = dict[str, float]
Scored = dict[tuple[str, str], tuple[Points, dict[str, np.ndarray]]]
"""By metric and part: each member's score, and its scores on resampled rows."""


def main() -> None:
    """Print the table, and write it where ``--output`` says."""
    parser = argparse.ArgumentParser(description="Score a finished run on the labels of its test rows.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--train", type=Path, required=True, help="the run's training file (csv or npz)")
    parser.add_argument(
        "--labels", type=Path, required=True, help="true labels of the test rows (parquet or csv)"
    )
    parser.add_argument(
        "--metric", action="append", default=[], help="a metric besides the run's; repeatable"
    )
    parser.add_argument(
        "--compare", nargs=2, action="append", default=[], metavar=("A", "B"), help="two members"
    )
    parser.add_argument("--output", "-o", type=Path, help="also write the table here")
    arguments = parser.parse_args()
    run = read_run(arguments.run, arguments.train, arguments.labels)
    metrics = [get_metric(name, run.task.kind) for name in (run.metric, *arguments.metric)]
    scored = {(m.name, part): getattr(run, part).scores(m, run.task) for m in metrics for part in PARTS}
    names = [metric.name for metric in metrics]
    pairs = [*submitted_against_singles(run, metrics[0], scored), *arguments.compare]
    parts = [summary(run, metrics[0], scored), score_table(run, names, scored)]
    text = "\n".join(
        line for part in [*parts, difference_table(names, scored, pairs)] for line in (*part, "")
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


@dataclass(frozen=True)
class Part:
    """Labels of some rows, and what each member says of them.

    Attributes
    ----------
    y : array of shape (n,) or (n, n_targets)
        Codes into ``task.classes``, values, or 1 where a row has a label.
    predictions : dict of str to array of shape (n, n_outputs)
    """

    y: np.ndarray
    predictions: dict[str, np.ndarray]

    def scores(self, metric: Metric, task: Task) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return each member's score, and its scores on resampled rows (the same rows for all)."""
        names, arrays = list(self.predictions), list(self.predictions.values())
        drawn = metric.bootstrap(self.y, arrays, task, n_resamples=N_RESAMPLES, seed=SEED)
        points = {name: metric.score(self.y, values, task) for name, values in self.predictions.items()}
        return points, dict(zip(names, drawn.T, strict=True))


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    task : Task
    metric : str
    submitted : str
        The member whose predictions are in ``submission.csv``.
    members : tuple of str
        All members, the best out-of-fold score first.
    singles : tuple of str
        Those of the first level, which read columns only.
    oof, test : Part
    """

    task: Task
    metric: str
    submitted: str
    members: tuple[str, ...]
    singles: tuple[str, ...]
    oof: Part
    test: Part


def read_run(folder: Path, train: Path, labels: Path) -> Run:
    """Read predictions by member name, and both sets of labels.

    Raises
    ------
    SystemExit
        If the ids of a prediction file and of its labels differ.
    """
    config = YAML(typ="safe", pure=True).load(folder / "config.yaml")
    scores = json.loads((folder / "scores.json").read_text())
    options = config["data"]
    known = read_target(train, options["id"], options["target"])
    table = (pd.read_parquet if labels.suffix == ".parquet" else pd.read_csv)(labels).set_index(options["id"])
    truth = table[known.columns] if isinstance(known, pd.DataFrame) else table.iloc[:, 0]
    task = make_task(config["task"], known, options["positive"])
    board = pd.read_csv(folder / "leaderboard.csv")
    ranked = [f"{level}/{member}" for level, member in zip(board["level"], board["member"], strict=True)]
    first = next(iter(config["levels"]))
    files = {name: scores["members"][name]["file"] for name in ranked}
    return Run(
        task=task,
        metric=config["metric"],
        submitted=scores["submitted"],
        members=tuple(ranked),
        singles=tuple(name for name in ranked if name.startswith(f"{first}/")),
        oof=read_part(folder / "oof", files, known, task),
        test=read_part(folder / "test", files, truth, task),
    )


def read_target(train: Path, row_id: str, target: str | list[str]) -> pd.Series | pd.DataFrame:
    """Return the labels of the training rows by id: a column, or one for each of several targets."""
    if train.suffix == ".npz":
        with np.load(train) as arrays:
            return pd.Series(arrays[target], index=arrays[row_id])
    names = [target] if isinstance(target, str) else target
    return pd.read_csv(train, usecols=[row_id, *names]).set_index(row_id)[target]


def make_task(kind: Any, target: pd.Series | pd.DataFrame, positive: Any) -> Task:
    """Return the task as the run saw it: sorted classes, the greater label positive unless told."""
    if isinstance(target, pd.DataFrame):
        return Task(kind, n_targets=target.shape[1], targets=tuple(target.columns))
    if kind == "regression":
        return Task("regression")
    classes = tuple(np.unique(target.to_numpy()).tolist())
    return Task(kind, classes, classes.index(positive) if positive is not None else len(classes) - 1)


def read_part(folder: Path, files: dict[str, str], target: pd.Series | pd.DataFrame, task: Task) -> Part:
    """Read one file for each member: rows that all of them predict (over time the first have none)."""
    names = [str(label) for label in task.classes] if task.classes else list(task.columns)
    predictions = {}
    for member, file in files.items():
        frame = pd.read_csv(folder / file)
        frame = frame.set_index(frame.columns[0])
        if set(frame.index) != set(target.index):
            raise SystemExit(
                f"{folder / file} must have the ids of the labels; got {len(frame)} ids, "
                f"labels have {len(target)}. Give the files that the run was made from"
            )
        predictions[member] = frame.loc[target.index, names].to_numpy(dtype=np.float64)
    values = target.to_numpy()
    y = np.searchsorted(np.asarray(task.classes), values) if task.classes else values.astype(task.dtype)
    said = np.logical_and.reduce([np.isfinite(rows).all(axis=1) for rows in predictions.values()])
    return Part(y[said], {member: rows[said] for member, rows in predictions.items()})


def submitted_against_singles(run: Run, metric: Metric, scored: Scored) -> list[list[str]]:
    """Return pairs: the submitted member, and the single model that is best out of fold, and on test rows."""
    best = []
    for part in PARTS:
        points, _ = scored[metric.name, part]
        best.append(min(run.singles, key=lambda name, points=points: metric.signed(points[name])))  # type: ignore[misc]
    return [[run.submitted, name] for name in dict.fromkeys(best) if name != run.submitted]


def summary(run: Run, metric: Metric, scored: Scored) -> list[str]:
    """Return the lines of a table of one row: the submitted member, out of fold and on test rows.

    ``test - OOF`` is in standard errors of the difference; ``ahead of`` counts the single models that are
    worse on test rows.
    """
    (oof, oof_drawn), (test, test_drawn) = (scored[metric.name, part] for part in PARTS)
    name = run.submitted
    error = float(np.hypot(np.nanstd(oof_drawn[name], ddof=1), np.nanstd(test_drawn[name], ddof=1)))
    best = min(run.singles, key=lambda single: metric.signed(test[single]))
    n_worse = sum(metric.signed(test[single]) > metric.signed(test[name]) for single in run.singles)
    cells = [
        f"{len(run.oof.y):,} / {len(run.test.y):,}",
        metric.name,
        with_error(oof[name], oof_drawn[name]),
        with_error(test[name], test_drawn[name]),
        f"{(test[name] - oof[name]) / error:+.1f}",
        f"{best.split('/', 1)[1]} {with_error(test[best], test_drawn[best])}",
        f"{n_worse} of {len(run.singles)}",
    ]
    heads = ["rows train / test", "metric", "submitted, OOF (se)", "test (se)", "test - OOF, in se"]
    heads += ["best single on test", "ahead of singles"]
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", f"| {' | '.join(cells)} |"]


def score_table(run: Run, metrics: list[str], scored: Scored) -> list[str]:
    """Return the lines of the table of members; the submitted one is bold."""
    lines = table_head("member", metrics)
    for name in run.members:
        cells = [
            with_error(points[name], drawn[name])
            for points, drawn in (scored[metric, part] for metric in metrics for part in PARTS)
        ]
        shown = f"**{name}**" if name == run.submitted else name
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return lines


def difference_table(metrics: list[str], scored: Scored, pairs: list[list[str]]) -> list[str]:
    """Return the lines of paired differences: both members on the same resampled rows."""
    lines = table_head("difference", metrics)
    for first, second in pairs:
        cells = [
            with_error(points[first] - points[second], drawn[first] - drawn[second], "+")
            for points, drawn in (scored[metric, part] for metric in metrics for part in PARTS)
        ]
        lines.append(f"| {first} - {second} | {' | '.join(cells)} |")
    return lines


def table_head(first: str, metrics: list[str]) -> list[str]:
    """Return the two lines above a table's rows."""
    heads = [f"{metric} OOF (se) | {metric} test (se)" for metric in metrics]
    return [f"| {first} | {' | '.join(heads)} |", "|---" * (1 + 2 * len(metrics)) + "|"]


def with_error(value: float, drawn: np.ndarray, sign: str = "") -> str:
    """Write a number and its standard error to as many places as the error is worth.

    Examples
    --------
    >>> with_error(0.92912, np.array([0.93, 0.934]))
    '0.9291 (0.0028)'
    """
    error = float(np.nanstd(drawn, ddof=1))
    places = 4 if not np.isfinite(error) or error <= 0 else int(np.clip(1 - np.floor(np.log10(error)), 0, 5))
    return f"{value:{sign}.{places}f} ({error:.{places}f})"


if __name__ == "__main__":
    main()
