"""CPU time of greedy selection and of fitted vote weights over many members, under every metric.

In:  numbers of members, rows and classes; members are noisy copies of one truth, some much better than others.
Out: a markdown table: milliseconds of CPU for each pick of a bag, what a fit takes in all, and its peak of memory
     beyond the predictions. With --against the same of another checkout, in turns, each fit in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/greedy.py [--members 200] [--rows 100000] [--only roc_auc] [--against OLD]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {
    "log_loss": "multiclass",
    "brier": "multiclass",
    "accuracy": "multiclass",
    "balanced_accuracy": "multiclass",
    "f1_macro": "multiclass",
    "mcc": "multiclass",
    "quadratic_weighted_kappa": "multiclass",
    "roc_auc": "binary",
    "average_precision": "binary",
    "f1": "binary",
    "rmse": "regression",
    "mae": "regression",
    "r2": "regression",
    "pearson": "regression",
}


def main() -> None:
    """Print a row for each metric as it is done."""
    parser = argparse.ArgumentParser(description="Time greedy selection and fitted weights.")
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--vote", choices=["greedy", "weighted"], default="greedy")
    parser.add_argument("--kind", help="of the task, in the place of the usual one of each metric")
    parser.add_argument("--only", action="append", help="a metric; repeatable")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given, given.one)))
        return
    checkouts = [Path(__file__).resolve().parent.parent, *([given.against] if given.against else [])]
    print("| metric | task | ms a pick | CPU in all, s | memory, MB |\n|---|---|---|---|---|")
    for name in given.only or KINDS:
        found = [in_process(checkout, name) for checkout in checkouts]
        cells = [" / ".join(one[key] for one in found) for key in ("pick", "all", "memory")]
        print(f"| `{name}` | {found[0]['task']} | {' | '.join(cells)} |", flush=True)


def in_process(checkout: Path, name: str) -> dict[str, str]:
    """Measure one metric with the package of a checkout."""
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--one", name],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def measured(given: argparse.Namespace, name: str) -> dict[str, str]:
    """Fit the vote once; picks are counted where the average grows."""
    from stackfeat.meta.votes.greedy import greedy_selection
    from stackfeat.meta.votes.weighted import fit_simplex_weights
    from stackfeat.metrics import incremental_scores
    from stackfeat.metrics.registry import get_metric

    task, y, predictions = members(given.kind or KINDS[name], given)
    metric = get_metric(name, task.kind)
    picks = 0
    plain_add = incremental_scores.IncrementalScorer.add

    def counting_add(self: Any, candidate: int) -> None:
        nonlocal picks
        picks += 1
        plain_add(self, candidate)

    incremental_scores.IncrementalScorer.add = counting_add  # type: ignore[method-assign]
    before, started = peak(), time.process_time()
    if given.vote == "greedy":
        greedy_selection(predictions, y, metric, task)
    else:
        fit_simplex_weights(predictions, y, metric, task)
    seconds = time.process_time() - started
    each = f"{1000 * seconds / picks:.1f}" if picks else ""
    return {"task": task.kind, "pick": each, "all": f"{seconds:.1f}", "memory": f"{peak() - before:.0f}"}


def peak() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def members(kind: str, given: argparse.Namespace) -> tuple[Any, np.ndarray, list[np.ndarray]]:
    """Return a task, true values, and predictions that share a part of their errors."""
    from stackfeat.tasks.task import Task

    random, n = np.random.default_rng(0), given.rows
    noise = random.uniform(0.3, 1.2, given.members)
    if kind == "regression":
        y = random.gamma(3.0, size=n)
        shared = y + random.normal(size=n)
        return Task(kind), y, [(shared + one * random.normal(size=n))[:, None] for one in noise]
    n_classes = 2 if kind == "binary" else given.classes
    task = Task(kind, tuple(range(n_classes)))
    y = random.integers(0, n_classes, n)
    shared = 3.0 * np.eye(n_classes)[y] + random.normal(size=(n, n_classes))
    predictions = []
    for one in noise:
        scores = np.exp(shared + one * random.normal(size=(n, n_classes)))
        predictions.append(scores / scores.sum(axis=1, keepdims=True))
    return task, y, predictions


if __name__ == "__main__":
    main()
