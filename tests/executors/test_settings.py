"""Settings of executors, and the rule for whose turn it is after a death."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.errors import ConfigError
from stackfeat.executors import InlineExecutor, LokyExecutor, make_executor, resolve_jobs
from stackfeat.executors.turns import Turns

# Jobs are made inside functions, so that they travel by value: workers need not import this file.


@pytest.mark.parametrize("kind", ["dask", "ray", "slurm"])
def test_engines_that_are_not_built_are_named(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"kind='{kind}', which is not built yet; use loky"):
        make_executor(kind)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lokey"}, "must be inline or loky; got kind='lokey'"),
        ({"jobs": 0}, "got jobs=0"),
        ({"threads_per_job": 0}, "got threads_per_job=0"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_executor(**settings)  # type: ignore[arg-type]


def test_auto_jobs_are_the_cpus_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert (resolve_jobs("auto"), resolve_jobs("auto", 4), resolve_jobs("auto", 16), resolve_jobs(3)) == (
        6,
        1,
        1,
        3,
    )


def test_an_executor_can_be_chosen_by_its_class() -> None:
    assert isinstance(make_executor("loky", 2), LokyExecutor)
    assert isinstance(make_executor("inline"), InlineExecutor)


@given(
    deaths=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    n_jobs=st.integers(1, 3),
    retries=st.integers(0, 3),
    data=st.data(),
)
def test_turns_blame_exactly_the_keys_that_die_too_often(
    deaths: list[int], n_jobs: int, retries: int, data: st.DataObject
) -> None:
    """Simulates a pool in which key i kills its worker the first deaths[i] times, in any order."""
    turns = Turns([str(i) for i in range(len(deaths))], n_jobs, retries)
    left = {str(i): n for i, n in enumerate(deaths)}
    running: list[str] = []
    done, given_up = set(), set()
    while True:
        while (key := turns.next_key(len(running))) is not None:
            running.append(key)
            assert len(running) <= n_jobs
        if not running:
            break
        key = data.draw(st.sampled_from(running))
        if left[key] == 0:
            running.remove(key)
            turns.ended(key)
            done.add(key)
            continue
        left[key] -= 1
        blamed = turns.died(running)
        running = []
        if blamed is not None:
            assert blamed == key
            given_up.add(blamed)
    assert done | given_up == set(left)
    assert all(deaths[int(key)] > retries for key in given_up if n_jobs == 1)
    assert all(deaths[int(key)] > 0 for key in given_up)
    assert {key for key in left if deaths[int(key)] > retries + 1} <= given_up
