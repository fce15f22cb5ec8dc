"""From a config to a plan: which members it holds, what its keys depend on, and how pipelines are averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner, open_executor
from stackfeat.config.run_config import ExecutorOptions
from stackfeat.engine.blocks import folds_of, samples_of
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.rows import row_recipes
from stackfeat.errors import TrustError
from stackfeat.executors import Executor
from stackfeat.executors.job import InlineExecutor
from stackfeat.executors.processes import ProcessExecutor
from stackfeat.registry.user_code import NO_CODE
from stackfeat.store import MemoryStore

Plan = Callable[..., Planner]


@pytest.fixture
def planner(load: Callable[..., LoadedConfig], good: str) -> Plan:
    """A function that makes a planner of the good config with some lines more, without a store on disk."""

    def make(*lines: str, text: str | None = None, trust_code: bool = False) -> Planner:
        loaded = load("\n".join([*lines, text or good]), trust_code=trust_code)
        config = loaded.config
        options = (config.data, config.folds, loaded.folder, config.task, config.metric)
        recipes = row_recipes(*options, source_hash=loaded.source_hash, holdout=config.stack.holdout)
        return Planner(loaded, MemoryStore(), recipes, trust_code)

    return make


def keys(made: Planner) -> dict[Any, str]:
    plan = made.plan()
    return {**plan.fits, **plan.emits}


def test_a_plan_holds_every_member_and_fold_before_a_file_has_been_parsed(planner: Plan) -> None:
    made = planner("folds: {n: 3}")
    plan = made.plan()
    members = {"base/mlp", "base/gbm", "meta/gated", "final/soft"}
    assert {(name, fold) for name, _, fold in plan.fits if isinstance(fold, int)} == {
        (name, fold) for name in members for fold in range(3)
    }
    assert made.store.keys() == []


def test_a_member_that_is_left_out_takes_along_what_reads_nothing_else(planner: Plan, good: str) -> None:
    text = good.replace('"base/*/*"', "base/mlp/proba")
    names = {node.full_name for node in planner(text=text).graph({"base/mlp"}).nodes}
    assert names == {"base/gbm"}
    names = {node.full_name for node in planner().graph({"base/mlp"}).nodes}
    assert names == {"base/gbm", "meta/gated", "final/soft"}


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("seed: 7", True),
        ("folds: {n: 4}", True),
        ("name: another", False),
        ("submit: final/soft", False),
        ("executor: {kind: inline, jobs: 3, retries: 0}", False),
        ("limits: {time: 1h}", False),
        ("stack: {views: last}", False),
    ],
)
def test_keys_change_with_what_changes_results_and_with_nothing_else(
    line: str, changes: bool, planner: Plan
) -> None:
    before, after = keys(planner()), keys(planner(line))
    assert not changes or set(before.values()).isdisjoint(after.values())
    assert changes or before == after


def test_one_more_row_in_the_data_changes_every_key(planner: Plan, folder: Path) -> None:
    before = keys(planner())
    (folder / "train.csv").write_text((folder / "train.csv").read_text() + "new,o1,0.5,a\n")
    assert set(before.values()).isdisjoint(keys(planner()).values())


@pytest.mark.parametrize(
    ("stack", "is_time", "expected"),
    [
        ("{}", False, Averaging("mean", "all", False)),
        ("{}", True, Averaging("mean", "all", True)),
        ("{views: all}", True, Averaging("mean", "all", False)),
        ("{views: last, meta_fit: fold, average: logit}", False, Averaging("logit", "fold", True)),
        ("{averaging: early}", False, Averaging("mean", "all", False, "early")),
        ("{averaging: refit}", True, Averaging("mean", "all", False, "refit")),
    ],
)
def test_views_follow_time_unless_the_config_says_otherwise(
    stack: str, is_time: bool, expected: Averaging, planner: Plan
) -> None:
    made = planner(f"stack: {stack}")
    assert replace(made, recipes=replace(made.recipes, is_time=is_time)).averaging() == expected


def test_rows_and_folds_are_put_into_the_store_once_and_are_those_of_the_files(planner: Plan) -> None:
    made = planner("folds: {n: 3}", "stack: {holdout: 0.2}")
    assert made._n_rows() is None, "nothing has been read"
    made.read_own_rows()
    before = made.store.keys()
    made.read_rows()
    assert made.store.keys() == before
    rows = made.run_rows()
    assert rows.held is not None and rows.test is not None and made._n_rows() == rows.train.n_rows
    assert {*rows.train.ids, *rows.held.ids} == {f"train{i}" for i in range(60)}
    assert (rows.train.n_rows, rows.held.n_rows, rows.test.n_rows) == (48, 12, 60)
    assert made._checkpoint_rows().n_held == 12
    np.testing.assert_array_equal(samples_of(made.store, made.recipes.samples.key).ids, rows.train.ids)
    assert folds_of(made.store, made.recipes.folds.key).n_folds == 3


@pytest.mark.parametrize(("as_", "n"), [("stacks", 2), ("blocks", 1)])
def test_repeats_are_stacks_of_their_own_unless_they_are_blocks(as_: str, n: int, planner: Plan) -> None:
    made = planner(f"folds: {{n: 3, repeats: 2, repeats_as: {as_}}}")
    assert made._sources().n_repeats == n
    assert {repeat for _, repeat, _ in made.plan().fits} == set(range(n))


def test_files_of_members_are_found_by_the_id_and_target_of_the_data(planner: Plan, good: str) -> None:
    assert (planner().files().id_name, planner().files().target) == ("row_id", "label")
    assert planner(text=good.replace("  id: row_id\n", "")).files().id_name == "id"


def test_a_metric_of_ones_own_needs_trust_also_here(planner: Plan, good: str, folder: Path) -> None:
    (folder / "mine_planned.py").write_text(
        "def loss(y, p):\n    return float(len(y))\nloss.needs, loss.greater_is_better = 'proba', False\n"
    )
    made = planner(text=good.replace("log_loss", "mine_planned:loss"), trust_code=True)
    assert made.metric().name == "mine_planned:loss"
    with pytest.raises(TrustError, match="trust"):
        replace(made, trust_code=False).metric()
    made.read_own_rows()
    text = (folder / "mine_planned.py").read_bytes()
    assert made.run_rows().metric_code == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    ("options", "can_end", "kind"),
    [
        ({"kind": "inline"}, False, InlineExecutor),
        ({"kind": "inline"}, True, ProcessExecutor),
        ({"kind": "inline", "timeout": "90s"}, False, ProcessExecutor),
        ({"kind": "loky", "jobs": 2}, False, ProcessExecutor),
    ],
)
def test_jobs_that_may_have_to_be_ended_run_in_processes(
    options: dict[str, Any], can_end: bool, kind: type[Executor]
) -> None:
    with open_executor(ExecutorOptions(**options), NO_CODE, can_end=can_end) as executor:
        assert type(executor) is kind
