"""A splitter of one's own gets what it names, and whatever it does wrong is one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.folds import make_folds
from stackfeat.data.splits.splitters import make_splitter
from stackfeat.errors import ConfigError, DataError
from stackfeat.tasks.task import Task

N_ROWS = 40
HALF = np.arange(20), np.arange(20, 40)


def options(**given: Any) -> FoldOptions:
    return FoldOptions(kind="mine:Split", **given)


def samples() -> Samples:
    numbers = np.arange(float(N_ROWS))[:, None]
    table = Table(numbers, ("a",), np.zeros((N_ROWS, 0), dtype=np.int32), (), ())
    task = Task(kind="binary", classes=("no", "yes"), positive=1)
    return Samples(ids=np.arange(N_ROWS), inputs={"table": table}, y=np.arange(N_ROWS) % 2, task=task)


class Keeps:
    """Keeps what its constructor was given."""

    def __init__(self, **given: Any) -> None:
        self.given = given


def with_names(names: str) -> Any:
    scope: dict[str, Any] = {"Keeps": Keeps}
    arguments = ", ".join(f"{name}=None" for name in names.split())
    exec(f"def made({arguments}):\n    return Keeps(**locals())", scope)
    return scope["made"]


@pytest.mark.parametrize(
    ("names", "got"),
    [
        ("n_splits", {"n_splits": 4}),
        ("n", {"n": 4}),
        ("n_folds seed", {"n_folds": 4, "seed": 7}),
        ("n_splits shuffle random_state", {"n_splits": 4, "shuffle": True, "random_state": 7}),
        ("gap test_size max_train_size", {"gap": 2, "test_size": 3, "max_train_size": None}),
        ("width", {"width": None}),
        ("", {}),
    ],
)
def test_the_constructor_gets_what_it_names(names: str, got: dict[str, Any]) -> None:
    assert make_splitter(with_names(names), options(n=4, seed=7, gap=2, test_size=3)).given == got


def test_params_are_passed_on_verbatim_and_win() -> None:
    made = make_splitter(with_names("n_splits width"), options(n=4, params={"width": [1, 2], "n_splits": 9}))
    assert made.given == {"n_splits": 9, "width": [1, 2]}
    assert make_splitter(Keeps, options(n=4, params={"any": 1})).given == {"n_splits": 4, "any": 1}


def test_an_unknown_param_gets_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"folds.params.widht: .*got 'widht'.*n_splits, width.*mean 'width'"
    ):
        make_splitter(with_names("n_splits width"), options(params={"widht": 3}))


def test_params_of_a_built_in_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="params are for a splitter of your own"):
        FoldOptions(kind="kfold", params={"shuffle": True})


def test_a_constructor_that_fails_is_one_line() -> None:
    def failing(n_splits: int) -> None:
        raise KeyError("table\nof folds")

    def needy(path: str) -> None: ...

    for found, words in (
        (failing, "it raised KeyError"),
        (needy, "missing 1 required positional argument: 'path'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)) as told:
            make_splitter(found, options())
        assert "\n" not in str(told.value) and "mine:Split" in str(told.value)


@pytest.mark.parametrize("kind", [KFold, StratifiedKFold, GroupKFold, TimeSeriesSplit])
def test_splitters_of_scikit_learn_can_be_made(kind: Any) -> None:
    assert make_splitter(kind, options(n=4)).get_n_splits(groups=np.arange(9)) == 4


def endless() -> Iterator[Any]:
    while True:
        yield HALF


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (lambda: [], "must yield at least 2 folds; got 0"),
        (lambda: [HALF], "must yield at least 2 folds; got 1"),
        (endless, "must end after at most 1000 folds"),
        (lambda: None, r"must split 40 rows; it raised TypeError: 'NoneType' object is not iterable"),
        (lambda: 1 / 0, "it raised ZeroDivisionError"),
        (lambda: [np.arange(3), np.arange(3)], "must yield pairs .* got an array of int64"),
        (lambda: [(1, 2, 3)] * 2, "must yield pairs .*; got tuple of 3 as fold 0"),
        (
            lambda: [(np.arange(40) < 20, np.arange(40) >= 20)] * 2,
            r"an array of bool.*numpy.flatnonzero\(mask\)",
        ),
        (lambda: [(HALF[0] * 1.0, HALF[1])] * 2, "an array of float64, .*in fold 0"),
        (lambda: [(HALF[0][:, None], HALF[1])] * 2, r"an array of int64, shape=\(20, 1\)"),
        (lambda: [(["a"], [1])] * 2, "an array of <U1"),
        (lambda: [(HALF[0], HALF[1] + 1)] * 2, "row numbers from 0 to 39; got 21 to 40 in fold 0"),
        (lambda: [(HALF[0], -HALF[1])] * 2, "got -39 to -20"),
        (
            lambda: [(HALF[0], []), HALF[::-1]],
            "must have rows to train on and to predict; fold 0 has 20 and 0",
        ),
        (lambda: [(np.arange(21), HALF[1]), HALF[::-1]], "must be different rows .* fold 0 breaks this"),
        (lambda: [HALF, HALF], "a row must be predicted by one fold"),
        (lambda: [(HALF[0], HALF[1][1:]), (HALF[1], HALF[0])], "got 1 rows that none predicts, .* ids 20"),
    ],
)
def test_what_a_splitter_does_wrong_is_one_line(folds: Any, message: str) -> None:
    class Split:
        def split(self, X: Any, y: Any, groups: Any) -> Any:
            return folds()

    with pytest.raises((ConfigError, DataError), match=message) as told:
        make_folds(options(), samples(), Split())
    assert "\n" not in str(told.value)


def test_each_repeat_has_a_seed_of_its_own() -> None:
    class Seeded:
        def __init__(self, n: int, seed: int) -> None:
            self.n, self.seed = n, seed

        def split(self, X: Any, y: Any, groups: Any) -> Any:
            order = np.random.default_rng(self.seed).permutation(len(X))
            y[:] = 0
            return [(np.setdiff1d(order, part), part) for part in np.array_split(order, self.n)]

    rows, wanted = samples(), options(n=4, repeats=2)
    folds = make_folds(wanted, rows, make_splitter(Seeded, wanted))
    assert (folds.fold_of(0) != folds.fold_of(1)).any()
    assert rows.labels.sum() == 20, "a splitter must not change the labels of the run"
