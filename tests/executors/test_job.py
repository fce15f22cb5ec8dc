"""Outcomes: every key gets one, with the same values and errors from every engine."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stackfeat.errors import MemberError, NaNLossError
from stackfeat.executors import Executor, Outcome, make_executor, pinned_threads
from stackfeat.registry.user_code import Code
from stackfeat.store import MemoryStore, Store, hash_recipe

# Jobs are made inside functions, so that they travel by value: workers need not import this file.


@pytest.fixture(scope="module")
def shared_loky() -> Iterator[Executor]:
    with make_executor("loky", 2, 1, 2) as executor:
        yield executor


@pytest.fixture(params=["inline", "loky"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """An engine of each kind; for tests that leave it usable."""
    if request.param == "inline":
        return make_executor("inline")
    shared: Executor = request.getfixturevalue("shared_loky")
    return shared


def run(executor: Executor, job: Callable[[str], object], keys: list[str]) -> dict[str, Outcome]:
    outcomes = list(executor.submit(job, keys))
    assert sorted(outcome.key for outcome in outcomes) == sorted(keys)
    return {outcome.key: outcome for outcome in outcomes}


def test_every_key_gets_its_value_and_time(executor: Executor) -> None:
    outcomes = run(executor, lambda key: key * 2, list("abcdef"))
    assert {key: outcome.value for key, outcome in outcomes.items()} == {key: key * 2 for key in "abcdef"}
    assert all(outcome.error is None and outcome.seconds >= 0 for outcome in outcomes.values())


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


def test_no_keys_give_no_outcomes(executor: Executor) -> None:
    assert run(executor, lambda key: key, []) == {}


def make_training_job(store: Store | MemoryStore) -> Callable[[str], None]:
    def job(key: str) -> None:
        seed = int(key[:6], 16)
        x = np.random.default_rng(seed).normal(size=(200, 40))
        with store.write(key, "fit", {"seed": seed}) as writer:
            writer.array("weights", np.linalg.solve(x.T @ x, x.T @ np.sin(x[:, 0])))

    return job


def test_results_are_the_same_bytes_inline_and_in_two_processes(
    tmp_path: Path, shared_loky: Executor
) -> None:
    keys = [hash_recipe({"seed": i}) for i in range(8)]
    results = []
    for name, engine in {"inline": make_executor("inline"), "loky": shared_loky}.items():
        store = Store(tmp_path / name)
        run(engine, make_training_job(store), keys)
        results.append([store.read(key).array("weights").tobytes() for key in keys])
    assert results[0] == results[1]


def test_errors_come_back_as_values_with_their_traceback(executor: Executor) -> None:
    def job(key: str) -> str:
        if key == "bad":
            raise NaNLossError(f"diverged on {key}")
        return key

    outcomes = run(executor, job, ["good", "bad", "fine"])
    error = outcomes["bad"].error
    assert type(error) is NaNLossError
    assert str(error) == "diverged on bad"
    assert 'raise NaNLossError(f"diverged on {key}")' in "".join(error.__notes__)
    assert error.__traceback__ is None
    assert outcomes["good"].value == "good"


def make_unpicklable_error(kind: str) -> Callable[[str], None]:
    class TwoParts(Exception):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(f"{first} and {second}")

    class HoldsALock(Exception):
        pass

    def job(key: str) -> None:
        if kind == "lock":
            error = HoldsALock("one and two")
            error.lock = threading.Lock()  # type: ignore[attr-defined]
            raise error
        raise TwoParts("one", "two")

    return job


@pytest.mark.parametrize("kind", ["two", "lock"])
def test_errors_that_cannot_be_pickled_come_back_in_words(executor: Executor, kind: str) -> None:
    error = run(executor, make_unpicklable_error(kind), ["a"])["a"].error
    assert type(error) is MemberError
    assert str(error).endswith(": one and two")
    assert "Traceback" in error.__notes__[0]


def test_leaving_the_interpreter_is_an_error_of_the_job(executor: Executor) -> None:
    error = run(executor, lambda key: sys.exit(3), ["a"])["a"].error
    assert isinstance(error, SystemExit)


def test_an_error_that_is_no_exception_is_an_error_of_the_job(executor: Executor) -> None:
    def job(key: str) -> None:
        class Odd(BaseException):
            pass

        raise Odd("like pytest.fail")

    error = run(executor, job, ["a"])["a"].error
    assert error is not None and "like pytest.fail" in str(error)


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


def test_user_code_is_found_on_the_given_paths(tmp_path: Path) -> None:
    (tmp_path / "my_pkg_of_test.py").write_text("ANSWER = 42\n")

    def job(key: str) -> int:
        import importlib

        return int(importlib.import_module("my_pkg_of_test").ANSWER)

    before = list(sys.path)
    for kind in ("inline", "loky"):
        with make_executor(kind, 1, code=Code(tmp_path)) as executor:
            assert run(executor, job, ["a"])["a"].value == 42
    assert sys.path == before
    sys.modules.pop("my_pkg_of_test")


def test_threads_are_pinned_in_the_job_and_only_there(executor: Executor) -> None:
    def job(key: str) -> tuple[str, list[int]]:
        import numpy  # noqa: F401
        from threadpoolctl import threadpool_info

        return os.environ["OMP_NUM_THREADS"], [pool["num_threads"] for pool in threadpool_info()]

    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    variable, pools = run(executor, job, ["a"])["a"].value
    assert variable == "1"
    assert set(pools) == {1}
    assert {name: os.environ.get(name) for name in before} == before


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
