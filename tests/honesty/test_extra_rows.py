"""Extra rows carry no label into the rows they are scored on: copies of training rows, noise, redrawn labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.honesty.redrawn import Law, advantages
from tests.honesty.test_redrawn_labels import built_in, check, kinds, shared


def with_extra(arena: Any, law: Law, levels: dict[str, Any], n_new: int, n_copies: int) -> Any:
    """Return a function that runs a stack beside fresh rows of the law and copies of training rows."""

    def predict(frame: pd.DataFrame, draw: int) -> dict[str, np.ndarray]:
        frame = frame.assign(id=[f"r{i}" for i in range(len(frame))])
        rng = np.random.default_rng([draw, 5])
        # Rows of the law with labels of their own, under columns that no training row has.
        fresh = law.columns.iloc[rng.permutation(len(frame))[:n_new]] * 1.001
        fresh = fresh.assign(y=law.draw(rng)[fresh.index], id=[f"e{i}" for i in range(n_new)])
        copies = frame.iloc[rng.permutation(len(frame))[:n_copies]]
        renamed = copies.assign(id=[f"c{i}" for i in range(n_copies)])
        moved = copies.assign(**{law.columns.columns[0]: copies[law.columns.columns[0]] + 1000.0})
        extra = pd.concat([fresh, renamed, moved], ignore_index=True)
        options = {"task": law.task, "seed": draw, "folds": {"kind": "kfold", "n": 3}}
        metric = "rmse" if law.task == "regression" else "log_loss"
        ran = arena.run(levels, frame, extra=extra, metric=metric, **options)
        return {member: ran.oof(member).loc[frame["id"]].to_numpy() for member in ran.members}

    return predict


@pytest.mark.parametrize(
    "n_classes", [2, pytest.param(0, marks=pytest.mark.slow)], ids=["binary", "regression"]
)
def test_no_member_knows_labels_of_its_own_rows_by_extra_rows(arena: Any, n_classes: int) -> None:
    law = built_in(n_classes, 300)
    levels = {"base": kinds(law)["base"]}
    check(advantages(law, with_extra(arena, law, levels, 200, 100), n_draws=2))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_classes", [2, 3, 0], ids=["binary", "multiclass", "regression"])
def test_no_kind_knows_labels_of_its_own_rows_by_extra_rows_over_twenty_draws(
    arena: Any, n_classes: int
) -> None:
    law = built_in(n_classes)
    levels = kinds(law, rounds=40, epochs=10)
    check(advantages(law, with_extra(arena, law, levels, 300, 150), n_draws=20))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("n_rows", [4_000, 12_000])
def test_no_kind_knows_labels_of_its_own_rows_by_extra_rows_on_larger_sets(arena: Any, n_rows: int) -> None:
    """More than 2,000 rows in a fold are sampled before it is asked whether extra rows are worth having."""
    law = shared("adult", "income", 2, n_rows)
    levels = kinds(law, rounds=40, epochs=3)
    check(advantages(law, with_extra(arena, law, levels, n_rows // 2, n_rows // 4), n_draws=20))


def test_a_copy_that_is_let_in_is_caught(arena: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were copies of held-out rows not left out, the test above would say so."""
    from stackfeat.data.splits.extra_rows import ExtraRows

    monkeypatch.setattr(ExtraRows, "allowed", lambda rows, fitted, judged: np.arange(rows.extra.n_rows))
    law = built_in(2, 300)
    levels = {"base": {"boosted": kinds(law, rounds=60)["base"]["boosted"]}}
    table = advantages(law, with_extra(arena, law, levels, 0, 250), n_draws=1)
    assert table.loc["base.boosted", "z"] > 6
