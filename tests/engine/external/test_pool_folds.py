"""Folds are found by what rows show of them, and are not found where there are none or others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from stackfeat.data.samples import Samples, Table
from stackfeat.engine.external.common_folds import families, fold_of
from stackfeat.engine.external.pool_folds import RUN_FOLDS, FoldSearch
from stackfeat.tasks.task import Task

N = 6000


def folds_by(splitter: Any, y: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    found = np.full(len(y), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for fold, (_, held) in enumerate(splitter.split(np.zeros((len(y), 1)), y, groups)):
            found[held] = fold
    return found


@pytest.mark.parametrize("n_rows", [101, 1003])
@pytest.mark.parametrize("seed", [0, 42, 2024])
def test_common_folds_are_those_of_scikit_learn(n_rows: int, seed: int) -> None:
    y = np.random.default_rng(n_rows).choice([5, 2, 9], size=n_rows, p=[0.1, 0.6, 0.3])
    splitters = {"KFold": KFold, "StratifiedKFold": StratifiedKFold}
    for family in families(y, is_classes=True):
        for n_folds in (3, 5, 10, 20):
            splitter = splitters[family.kind](n_folds, shuffle=True, random_state=seed)
            assert (fold_of(family, n_folds, seed) == folds_by(splitter, y)).all()
            # The name is what one would write.
            assert repr(eval(family.name(n_folds, seed), dict(splitters))) == repr(splitter)


class Rows:
    """A table with a label, and files made with folds of any kind."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.x = self.random.normal(size=(N, 4))
        self.truth = self.x @ np.array([1.0, 0.5, -0.5, 0.2])
        self.y = (self.random.random(N) < 1 / (1 + np.exp(-self.truth))).astype(np.int64)
        self.group = self.random.integers(0, 400, N)

    def search(self, run_folds: np.ndarray | None = None, is_whole: bool = True) -> FoldSearch:
        table = Table(self.x, ("a", "b", "c", "d"), np.empty((N, 0), np.int32), (), ())
        samples = Samples(
            np.arange(N).astype(str), {"table": table}, self.y, Task("binary", (0, 1)), group=self.group
        )
        return FoldSearch(samples, np.arange(N) % 7 if run_folds is None else run_folds, is_whole, 0)

    def file(self, fold_of: np.ndarray, size: float = 0.08) -> np.ndarray:
        """Return out-of-fold rows of models that are each a little off in the weight of each column."""
        n_folds = int(fold_of.max()) + 1
        off = size * self.random.normal(size=(n_folds, 5))
        values = self.truth + off[fold_of, 4] + (self.x * off[fold_of, :4]).sum(axis=1)
        values += 0.4 * self.random.standard_t(4, size=N)
        yes = 1 / (1 + np.exp(-values))
        return np.column_stack([1 - yes, yes])

    def unknown(self) -> np.ndarray:
        return self.file(self.random.integers(0, int(self.random.integers(3, 12)), N))


def test_folds_of_usual_splitters_are_found() -> None:
    rows = Rows(0)
    run_folds = folds_by(StratifiedKFold(5, shuffle=True, random_state=9), rows.y)
    made = {
        "KFold(5, shuffle=True, random_state=42)": KFold(5, shuffle=True, random_state=42),
        "StratifiedKFold(10, shuffle=True, random_state=2024)": StratifiedKFold(
            10, shuffle=True, random_state=2024
        ),
        "KFold(10)": KFold(10),
        "GroupKFold(6)": GroupKFold(6),
        RUN_FOLDS: StratifiedKFold(5, shuffle=True, random_state=9),
    }
    # Folds in the order of the rows show less, for the order may matter by itself.
    files = [
        (name, rows.file(folds_by(splitter, rows.y, rows.group), 0.3 if name == "KFold(10)" else 0.08))
        for name, splitter in made.items()
    ]
    found = rows.search(run_folds).find(iter([*files, ("unknown", rows.unknown())]))
    assert found == {name: name for name in made}


def test_the_surest_file_says_the_number_of_folds_of_those_that_show_about_as_much() -> None:
    search = Rows(0).search()
    place = {name: number for number, name in enumerate(search.splits)}
    three, five = (place[f"KFold({n}, shuffle=True, random_state=42)"] for n in (3, 5))
    other = place["StratifiedKFold(5, shuffle=True, random_state=42)"]
    sure = {name: np.zeros(len(search.splits)) for name in ("clear", "faint", "three", "other")}
    for name, split, value in (
        ("clear", five, 9.0), ("faint", three, 6.0), ("faint", five, 5.5),
        ("three", three, 8.0), ("three", five, 4.0), ("other", other, 6.0), ("other", five, 5.9),
    ):  # fmt: skip
        sure[name][split] = value
    found = search._by_the_surest({"clear": five, "faint": three, "three": three, "other": other}, sure)
    assert found == {"clear": five, "faint": five, "three": three, "other": other}


def test_rows_that_are_not_the_whole_file_show_the_folds_of_the_run_alone() -> None:
    rows = Rows(1)
    run_folds = folds_by(KFold(5, shuffle=True, random_state=1), rows.y)
    files = [("own", rows.file(run_folds)), ("other", rows.file(folds_by(KFold(5), rows.y)))]
    assert rows.search(run_folds, is_whole=False).find(iter(files)) == {"own": RUN_FOLDS}


@pytest.mark.parametrize(("n_pools", "n_files"), [(1, 6), pytest.param(20, 20, marks=pytest.mark.slow)])
def test_files_of_other_folds_are_said_to_have_none(n_pools: int, n_files: int) -> None:
    """Rows that drift with their order, and groups that are alike, are no folds."""
    n_named = 0
    for seed in range(n_pools):
        rows = Rows(10 + seed)
        files = []
        for number in range(n_files):
            oof = rows.unknown()
            drift = (
                np.cumsum(rows.random.normal(size=N)) / np.sqrt(N)
                if number % 2
                else rows.random.normal(size=400)[rows.group]
            )
            odds = oof[:, 1] / oof[:, 0] * np.exp(drift)
            files.append((str(number), np.column_stack([1 / (1 + odds), odds / (1 + odds)])))
        n_named += len(rows.search().find(iter(files)))
    # 0.2 of 20 pools are to be expected at most; two or more have a probability below 0.02.
    assert n_named < 2


def test_few_rows_and_constant_files_show_nothing() -> None:
    rows = Rows(4)
    constant = np.tile([0.5, 0.5], (N, 1))
    assert rows.search().find(iter([("flat", constant)])) == {}
    assert rows.search(np.where(np.arange(N) < 500, 0, -1)).find(iter([("few", rows.unknown())])) == {}
