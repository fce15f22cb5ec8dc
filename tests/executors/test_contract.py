"""What every kind of executor keeps: each key gets one outcome, with the same values and errors from all of them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackfeat.errors import MemberError, NaNLossError
from stackfeat.executors import EXECUTORS, Executor, InlineExecutor, Outcome, ProcessExecutor, make_executor
from stackfeat.executors.watching import Epoch, tell_epoch
from stackfeat.registry.user_code import Code
from stackfeat.store import MemoryStore, Store, hash_recipe

# Jobs are made inside functions, so that they travel by value: workers need not import this file.


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest, shared_loky: Executor) -> Executor:
    """An engine of each kind; for tests that leave it usable."""
    return shared_loky if request.param == "loky" else make_executor(request.param)


def run(executor: Executor, job: Callable[[str], object], keys: list[str]) -> dict[str, Outcome]:
    outcomes = list(executor.submit(job, keys))
    assert sorted(outcome.key for outcome in outcomes) == sorted(keys)
    return {outcome.key: outcome for outcome in outcomes}


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("can_end", [False, True])
def test_an_executor_is_of_its_class_or_of_one_that_can_end_jobs(kind: str, can_end: bool) -> None:
    with make_executor(kind, 3, can_end=can_end) as executor:
        assert isinstance(executor, EXECUTORS[kind] if not can_end else Executor)
        assert executor.n_jobs == (3 if EXECUTORS[kind].is_parallel else 1)
        assert executor.ends_jobs or not can_end


def test_the_kinds_of_a_config_are_the_classes() -> None:
    assert {"inline": InlineExecutor, "loky": ProcessExecutor} == EXECUTORS


def test_every_key_gets_its_value_and_time(executor: Executor) -> None:
    outcomes = run(executor, lambda key: key * 2, list("abcdef"))
    assert {key: outcome.value for key, outcome in outcomes.items()} == {key: key * 2 for key in "abcdef"}
    assert all(outcome.error is None and outcome.seconds >= 0 for outcome in outcomes.values())


def test_no_keys_give_no_outcomes(executor: Executor) -> None:
    assert run(executor, lambda key: key, []) == {}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_stop_lets_running_jobs_end_and_begins_no_more(kind: str) -> None:
    with make_executor(kind, 2) as executor:
        outcomes = []
        for outcome in executor.submit(lambda key: time.sleep(0.05), [str(i) for i in range(40)]):
            outcomes.append(outcome)
            executor.stop()
        assert 1 <= len(outcomes) <= 4
        assert [outcome.value for outcome in executor.submit(lambda key: key, ["more"])] == ["more"]


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


def test_user_code_is_found_on_the_given_paths(tmp_path: Path) -> None:
    (tmp_path / "my_pkg_of_test.py").write_text("ANSWER = 42\n")

    def job(key: str) -> int:
        import importlib

        return int(importlib.import_module("my_pkg_of_test").ANSWER)

    before = list(sys.path)
    for kind in EXECUTORS:
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


class Heard:
    """A watch that remembers what it was told."""

    def __init__(self) -> None:
        self.started_keys: list[str] = []
        self.epochs: list[tuple[str, Epoch]] = []

    def started(self, key: str) -> None:
        self.started_keys.append(key)

    def epoch(self, key: str, epoch: Epoch) -> None:
        assert key in self.started_keys
        self.epochs.append((key, epoch))


def test_a_watch_is_told_what_begins_and_how_far_trainings_are(executor: Executor) -> None:
    def job(key: str) -> str:
        from stackfeat.executors import watching

        watching.EVERY_SECONDS = 0.0 if key == "often" else 1000.0
        for number in range(3):
            watching.tell_epoch(number + 1, 3)
        watching.EVERY_SECONDS = 0.5
        return key

    watch = Heard()
    outcomes = list(executor.submit(job, ["often", "seldom"], watch))
    assert sorted(outcome.value for outcome in outcomes) == ["often", "seldom"]
    assert sorted(watch.started_keys) == ["often", "seldom"]
    assert watch.epochs == [("often", Epoch(number, 3)) for number in (1, 2, 3)]


def test_nobody_need_listen(executor: Executor) -> None:
    def job(key: str) -> str:
        from stackfeat.executors.watching import tell_epoch

        tell_epoch(1, 2)
        return key

    tell_epoch(1, 2)
    assert run(executor, job, ["a"])["a"].value == "a"
