"""What jobs and outcomes are in single engines: what travels, threads, time."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.errors import MemberError
from stackfeat.executors import Executor, Outcome, make_executor, pinned_threads
from stackfeat.registry.user_code import Code

# Jobs are made inside functions, so that they travel by value: workers need not import this file.


def run(executor: Executor, job: Callable[[str], object], keys: list[str]) -> dict[str, Outcome]:
    outcomes = list(executor.submit(job, keys))
    assert sorted(outcome.key for outcome in outcomes) == sorted(keys)
    return {outcome.key: outcome for outcome in outcomes}


class Prepared:
    """A job that needs something once in every process."""

    prepared_at = 0.0

    def prepare(self, key: str) -> None:
        time.sleep(0.2)
        self.prepared_at = time.perf_counter()

    def __call__(self, key: str) -> bool:
        return self.prepared_at > 0


def test_what_a_process_does_once_counts_in_no_job() -> None:
    job = Prepared()
    outcome = run(make_executor("inline"), job, ["a"])["a"]
    assert outcome.value
    assert outcome.seconds <= time.perf_counter() - job.prepared_at


def test_an_interrupt_that_a_job_makes_up_costs_that_job_alone(shared_loky: Executor) -> None:
    def job(key: str) -> str:
        if key == "a":
            raise KeyboardInterrupt
        return key

    outcomes = run(shared_loky, job, ["a", "b"])
    assert isinstance(outcomes["a"].error, KeyboardInterrupt)
    assert outcomes["b"].value == "b"


def test_an_error_of_a_module_the_parent_cannot_import_comes_back_in_words(tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text(
        "class Odd(Exception): pass\ndef work(key):\n    raise Odd('odd ' + key)\n"
    )

    def job(key: str) -> None:
        import importlib

        importlib.import_module("only_there").work(key)

    with make_executor("loky", 1, code=Code(tmp_path)) as executor:
        outcomes = run(executor, job, ["a", "b"])
    assert type(outcomes["a"].error) is MemberError
    assert str(outcomes["a"].error) == "Odd: odd a"


def test_a_value_that_cannot_be_pickled_is_an_error_of_its_job(shared_loky: Executor) -> None:
    outcomes = run(shared_loky, lambda key: (i for i in "ab") if key == "a" else key, ["a", "b"])
    assert isinstance(outcomes["a"].error, TypeError)
    assert outcomes["b"].value == "b"


def test_thread_pools_are_looked_for_anew_where_something_was_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threadpoolctl

    found = []
    made = threadpoolctl.ThreadpoolController
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: found.append(made()) or found[-1])
    for name, n_searches in (("module_a_of_test", 1), ("", 1), ("module_b_of_test", 2)):
        if name:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        with pinned_threads(1):
            assert {pool["num_threads"] for pool in made().info()} <= {1}
        assert len(found) == n_searches


def test_threads_are_pinned_in_workers_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def job(key: str) -> int:
        import torch

        return torch.get_num_threads()

    with make_executor("loky", 1, threads_per_job=2) as executor:
        assert run(executor, job, ["a"])["a"].value == 2


def test_never_more_than_jobs_keys_are_in_flight(tmp_path: Path, shared_loky: Executor) -> None:
    def job(key: str) -> int:
        (tmp_path / key).touch()
        n_running = len(list(tmp_path.iterdir()))
        time.sleep(0.02)
        (tmp_path / key).unlink()
        return n_running

    outcomes = run(shared_loky, job, [str(i) for i in range(20)])
    assert max(outcome.value for outcome in outcomes.values()) <= 2


def test_outcomes_can_be_pickled() -> None:
    outcome = Outcome("a", None, 1.0, {"x": 1})
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_threads_stay_pinned_until_the_last_of_several_users_leaves() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with pinned_threads(3):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with pinned_threads(3):
        thread.start()
        assert inside.wait(10)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    leave.set()
    thread.join()
    assert os.environ.get("OMP_NUM_THREADS") == before
