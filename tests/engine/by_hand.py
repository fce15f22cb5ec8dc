"""Small rows in a store in memory, and plans over them that a test can carry out and compute by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from stackfeat.config import RunConfig
from stackfeat.data.samples import Samples, Table, save_samples
from stackfeat.data.splits.folds import Folds, save_folds
from stackfeat.engine.graph import build_graph
from stackfeat.engine.jobs import Sources
from stackfeat.engine.plan import Plan, make_plan
from stackfeat.engine.worker import run_steps
from stackfeat.members.settings import RunSettings
from stackfeat.store import MemoryStore
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("no", "yes"))
_numbers = count()

BAYES = {"estimator": "sklearn.naive_bayes.GaussianNB", "prepare": "none"}
PRIOR = {"estimator": "sklearn.dummy.DummyClassifier", "prepare": "none"}


def rows(n_rows: int, seed: int = 0, task: Task = BINARY, **roles: Any) -> Samples:
    """Return rows of two numbers, of which the first knows the class."""
    random = np.random.default_rng(seed)
    y = np.arange(n_rows) % 2
    X = random.normal(size=(n_rows, 2)) + np.stack([1.5 * y, np.zeros(n_rows)], axis=1)
    table = Table(X, ("a", "b"), np.zeros((n_rows, 0), dtype=np.int32), (), ())
    ids = np.array([f"r{number:03d}" for number in random.permutation(n_rows)])
    return Samples(ids, {"table": table}, y, task, **roles)


def folds_of_rows(n_rows: int, n_folds: int = 3, n_repeats: int = 1, kind: str = "stratified") -> Folds:
    """Return folds of neighbouring pairs of rows, other ones in every repeat; time: of runs of rows."""
    everything = np.arange(n_rows)
    if kind == "time":
        parts = np.array_split(everything, n_folds + 1)
        splits = [[(np.concatenate(parts[: k + 1]), parts[k + 1]) for k in range(n_folds)]] * n_repeats
    else:
        splits = [
            [(everything[fold_of != k], everything[fold_of == k]) for k in range(n_folds)]
            for fold_of in ((everything // 2 // (repeat + 1)) % n_folds for repeat in range(n_repeats))
        ]
    return Folds(kind, tuple(map(tuple, splits)), n_rows)


def keep_rows(store: MemoryStore, samples: Samples) -> str:
    """Store rows under a key of their own: a process remembers rows by key."""
    key = f"rows-{next(_numbers)}"
    with store.write(key, "samples", {"stage": "samples"}) as writer:
        save_samples(samples, writer)
    return key


def keep_folds(store: MemoryStore, folds: Folds) -> str:
    key = f"folds-{next(_numbers)}"
    with store.write(key, "folds", {"stage": "folds"}) as writer:
        save_folds(folds, writer)
    return key


def keep_arrays(store: MemoryStore, **arrays: np.ndarray) -> str:
    key = f"arrays-{next(_numbers)}"
    with store.write(key, "fit", {"stage": "fit"}) as writer:
        for name, values in arrays.items():
            writer.array(name, values)
    return key


@dataclass(frozen=True)
class Engine:
    """Rows and folds in a store in memory, and a plan over them."""

    store: MemoryStore
    samples: Samples
    test: Samples
    folds: Folds
    plan: Plan

    def X(self, rows: Any = slice(None)) -> np.ndarray:
        table = self.samples.inputs["table"]
        assert isinstance(table, Table)
        return table.numeric[rows]

    def carry_out(self) -> Engine:
        """Make the entries of all jobs."""
        for job in self.plan.jobs():
            run_steps(self.store, job.steps)
        return self


def engine(
    levels: Mapping[str, Any],
    samples: Samples | None = None,
    folds: Folds | None = None,
    averaging: Any = "late",
    raw: Sequence[str] = ("table",),
) -> Engine:
    """Return a plan of a config's levels over 24 rows in three folds."""
    samples = rows(24) if samples is None else samples
    folds = folds_of_rows(samples.n_rows) if folds is None else folds
    test = rows(7, seed=1)
    store = MemoryStore()
    kind = samples.task.kind
    config = RunConfig(task=kind, metric="log_loss", data={"train": "a.csv"}, levels=levels)
    sources = Sources(
        samples=keep_rows(store, samples),
        test=keep_rows(store, test),
        folds=keep_folds(store, folds),
        n_folds=folds.n_folds,
        n_repeats=folds.n_repeats,
        is_time=folds.is_time,
        seed=3,
        settings=RunSettings(threads=1, loss="cross_entropy", metric="log_loss"),
        source_hash=lambda name: None,
        averaging=averaging,
    )
    return Engine(store, samples, test, folds, make_plan(build_graph(config.levels, kind), sources))
