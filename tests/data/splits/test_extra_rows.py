"""Which extra rows a fit may have, by hand; on inner splits they never validate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.extra_rows import ExtraRows, SplitsWithExtra
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.tasks.task import Task


def rows(ids: list[str], values: list[float], **roles: Any) -> Samples:
    numeric = np.array(values, dtype=np.float64)[:, None]
    codes = np.full((len(ids), 1), 2, dtype=np.int32)
    table = Table(numeric, ("x",), codes, ("c",), (("a", "b", "c"),))
    given = {name: np.array(of) for name, of in roles.items()}
    y = np.arange(len(ids)) % 2
    return Samples(np.array(ids), {"table": table}, y, Task("binary", ("n", "y")), **given)


def test_rows_that_share_an_id_a_group_or_all_features_with_a_judged_row_stay_out() -> None:
    train = rows(["a", "b", "c", "d"], [0.0, 1.0, np.nan, 3.0], group=[0, 0, 1, 2])
    extra = rows(["x", "c", "y", "z", "w"], [9.0, 9.0, np.nan, 9.0, 1.0], group=[0, 5, 5, 1, 5])
    found = ExtraRows(extra, train, False)
    assert found.allowed(np.array([0, 1]), np.array([2])).tolist() == [0, 4]
    assert found.allowed(np.array([2, 3]), np.array([0, 1])).tolist() == [1, 2, 3]
    assert found.allowed(np.array([0]), np.array([], dtype=int)).tolist() == [0, 1, 2, 3, 4]


def test_copies_in_another_precision_and_ids_among_blanks_stay_out() -> None:
    train = rows(["a", "b", "c"], [0.1, 1234.5678, 0.3])
    single = [float(np.float32(value)) for value in (0.1, 1234.5678)]
    extra = rows(["x", "y", " c", "z"], [*single, 5.0, 0.3001])
    assert extra.inputs["table"].numeric[0, 0] != 0.1
    assert ExtraRows(extra, train, False).allowed(np.array([], int), np.arange(3)).tolist() == [3]


def test_by_time_only_rows_no_later_than_those_fitted_on_may_train() -> None:
    train = rows(["a", "b", "c"], [0.0, 1.0, 2.0], time=[1.0, 2.0, 4.0])
    extra = rows(["u", "v", "w", "x"], [5.0, 6.0, 7.0, 8.0], time=[0.0, 2.0, 3.0, 4.0])
    assert ExtraRows(extra, train, True).allowed(np.array([0, 1]), np.array([2])).tolist() == [0, 1]
    assert ExtraRows(extra, train, False).allowed(np.array([0, 1]), np.array([2])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("draw", [0, 1])
def test_on_inner_splits_extra_rows_only_train_and_only_where_they_may(draw: int) -> None:
    names = [f"r{i}" for i in range(20)]
    train = rows(names, [float(i) for i in range(20)])
    # Every second extra row has the id of a training row.
    extra = rows([f"r{i}" if i % 2 else f"e{i}" for i in range(20)], [100.0 + i for i in range(20)])
    fitted, found = np.arange(5, 20), ExtraRows(extra, train, False)
    numbers = found.allowed(fitted, np.arange(5))
    inner = InnerSplits(train, fitted, "kfold", 0)
    fit, validation = SplitsWithExtra(inner, found, fitted, numbers)(0.3, draw)
    assert np.array_equal(validation, inner(0.3, draw)[1]) and validation.max() < len(fitted)
    behind = numbers[fit[fit >= len(fitted)] - len(fitted)]
    judged = fitted[validation]
    assert set(behind) == {number for number in numbers if number % 2 == 0 or number not in judged}
