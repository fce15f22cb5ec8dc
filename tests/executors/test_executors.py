"""Settings of executors, and the rule for whose turn it is after a death."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.errors import ConfigError
from stackfeat.executors import make_executor, resolve_jobs
from stackfeat.executors.job import InOrder
from stackfeat.executors.processes import RetryingOrder

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


@given(
    deaths=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    n_jobs=st.integers(1, 3),
    retries=st.integers(0, 3),
    data=st.data(),
)
def test_turns_blame_exactly_the_keys_that_die_too_often(
    deaths: list[int], n_jobs: int, retries: int, data: st.DataObject
) -> None:
    """Simulates workers of which the one that runs key i dies the first deaths[i] times, in any order."""
    turns = RetryingOrder(InOrder([str(i) for i in range(len(deaths))]), retries)
    left = {str(i): n for i, n in enumerate(deaths)}
    running: list[str] = []
    done, given_up = set(), set()
    while True:
        while len(running) < n_jobs and (key := turns.next_key(len(running))) is not None:
            running.append(key)
            assert turns.deaths[key] == 0 or running == [key], "a suspect runs alone"
        if not running:
            break
        key = data.draw(st.sampled_from(running))
        running.remove(key)
        if left[key] == 0:
            turns.ended(key, 1.0, well=True)
            done.add(key)
            continue
        left[key] -= 1
        if not turns.died(key):
            given_up.add(key)
    assert done | given_up == set(left)
    assert given_up == {key for key in left if deaths[int(key)] > retries}
