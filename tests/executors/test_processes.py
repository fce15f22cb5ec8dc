"""Deaths, stops and interrupts: only the guilty job is lost, and no worker stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.errors import JobEnded, JobTimeoutError, UsageError, WorkerLostError
from stackfeat.executors import Executor, InlineExecutor, Outcome, make_executor
from stackfeat.executors.job import InOrder

# Jobs are made inside functions, so that they travel by value: workers need not import this file.


def run(executor: Executor, job: Callable[[str], object], keys: list[str]) -> dict[str, Outcome]:
    outcomes = list(executor.submit(job, keys))
    assert sorted(outcome.key for outcome in outcomes) == sorted(keys)
    return {outcome.key: outcome for outcome in outcomes}


def tried(folder: Path, key: str) -> int:
    """Return how often a job noted that it began."""
    return len(list(folder.glob(f"{key}.*")))


def make_deadly_job(folder: Path, deaths: dict[str, int]) -> Callable[[str], int]:
    """A job that kills its worker the first times it is given some keys."""

    def job(key: str) -> int:
        n_before = len(list(folder.glob(f"{key}.*")))
        (folder / f"{key}.{n_before}").touch()
        time.sleep(0.05)
        if n_before < deaths.get(key, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return n_before

    return job


def test_a_killed_worker_costs_its_job_one_try(tmp_path: Path) -> None:
    with make_executor("loky", 2, 1, retries=2) as executor:
        outcomes = run(executor, make_deadly_job(tmp_path, {"c": 2}), list("abcdef"))
    assert [outcome.error for outcome in outcomes.values()] == [None] * 6
    assert outcomes["c"].value == 2
    assert tried(tmp_path, "c") == 3
    assert all(tried(tmp_path, key) <= 2 for key in "abdef")


@pytest.mark.parametrize("retries", [0, 1])
def test_a_job_that_always_kills_is_given_up_and_only_that(tmp_path: Path, retries: int) -> None:
    with make_executor("loky", 2, 1, retries) as executor:
        outcomes = run(executor, make_deadly_job(tmp_path, {"b": 99}), list("abcd"))
        assert type(outcomes["b"].error) is WorkerLostError
        assert "worker died" in str(outcomes["b"].error)
        assert "out of memory?" in str(outcomes["b"].error)
        assert [outcomes[key].error for key in "acd"] == [None] * 3
        assert retries + 1 <= tried(tmp_path, "b") <= max(2, retries + 1)
        assert run(executor, lambda key: key, ["later"])["later"].value == "later"


def test_a_crash_in_native_code_costs_that_job_alone() -> None:
    def job(key: str) -> str:
        import ctypes

        return str(ctypes.string_at(0)) if key == "poison" else key

    with make_executor("loky", 1, 1, retries=0) as executor:
        outcomes = run(executor, job, ["poison", "fine"])
    assert isinstance(outcomes["poison"].error, WorkerLostError)
    assert outcomes["fine"].value == "fine"


def test_an_idle_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    with make_executor("loky", 1, 1, retries=0) as executor:
        pid = run(executor, lambda key: os.getpid(), ["a"])["a"].value
        os.kill(pid, signal.SIGKILL)
        # Its pipes are closed when the last of its threads is gone, which may be after the first.
        wait_until(lambda: not is_alive(pid) and len(list(Path(f"/proc/{pid}/task").glob("*"))) <= 1)
        assert run(executor, lambda key: key, ["b"])["b"].value == "b"


def test_leaving_the_loop_early_ends_running_jobs_and_the_engine_stays_usable(tmp_path: Path) -> None:
    def job(key: str) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0 if key == "0" else 1000)
        return os.getpid()

    with make_executor("loky", 2) as executor:
        for _ in executor.submit(job, ["0", "1", "2", "3"]):
            break
        wait_until(lambda: not any(is_alive(int(path.name)) for path in tmp_path.iterdir()))
        assert run(executor, lambda key: key, ["a"])["a"].value == "a"


def make_hanging_job(folder: Path, key_of_hanging: str) -> Callable[[str], str]:
    """A job that notes that it began, and on one key never ends: nor do the processes that it starts."""

    def job(key: str) -> str:
        if key == key_of_hanging:
            for own_session in (False, True):
                child = subprocess.Popen(["sleep", "1000"], start_new_session=own_session)
                (folder / str(child.pid)).touch()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (folder / str(os.getpid())).touch()
            (folder / "hangs").touch()
            time.sleep(1000)
        return key

    return job


def all_are_gone(folder: Path) -> bool:
    return not any(is_alive(int(path.name)) for path in folder.glob("[0-9]*"))


def test_a_job_beyond_the_timeout_is_ended_with_all_it_began_and_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.perf_counter
    # A long time passes as soon as the job hangs; what begins later is not older for it.
    monkeypatch.setattr(time, "perf_counter", lambda: real() + 5000 * (tmp_path / "hangs").exists())
    with make_executor("inline", timeout=2000) as executor:
        outcomes = run(executor, make_hanging_job(tmp_path, "b"), list("abc"))
        wait_until(lambda: all_are_gone(tmp_path))
    assert type(outcomes["b"].error) is JobTimeoutError
    assert "within executor.timeout=2000 s; got one that ran longer, and was ended" in str(
        outcomes["b"].error
    )
    assert [outcomes[key].value for key in "ac"] == ["a", "c"]


class EndsHanging(InOrder):
    """An order that wants a key's job ended as soon as it hangs."""

    def __init__(self, keys: list[str], folder: Path, key: str) -> None:
        super().__init__(keys)
        self.folder, self.key = folder, key
        self.told: list[tuple[str, bool]] = []

    def overdue(self) -> list[str]:
        return [self.key] if (self.folder / "hangs").exists() else []

    def ended(self, key: str, seconds: float, *, well: bool) -> None:
        self.told.append((key, well))


def test_an_order_ends_a_job_without_a_loss_to_the_others(tmp_path: Path) -> None:
    order = EndsHanging(list("abcdef"), tmp_path, "b")
    with make_executor("loky", 2) as executor:
        job = make_hanging_job(tmp_path, "b")
        outcomes = {outcome.key: outcome for outcome in executor.submit(job, order)}
    assert isinstance(outcomes["b"].error, JobEnded)
    assert [outcomes[key].value for key in "acdef"] == list("acdef")
    assert sorted(order.told) == [("a", True), ("b", False), *((key, True) for key in "cdef")]
    wait_until(lambda: all_are_gone(tmp_path))


def test_stopped_workers_and_what_they_began_are_ended_too(tmp_path: Path) -> None:
    with make_executor("loky", 2) as executor:
        outcomes = executor.submit(make_hanging_job(tmp_path, "b"), ["a", "b", "c"])
        assert {next(outcomes).key, next(outcomes).key} == {"a", "c"}
        wait_until(lambda: (tmp_path / "hangs").exists())
        for path in tmp_path.glob("[0-9]*"):
            os.kill(int(path.name), signal.SIGSTOP)
    wait_until(lambda: all_are_gone(tmp_path))


def test_what_a_job_prints_does_not_mix_with_its_answer(capfd: pytest.CaptureFixture[str]) -> None:
    def job(key: str) -> str:
        print("printed", flush=True)
        os.system("echo by a child")
        return key + sys.stdin.read()

    with make_executor("loky", 1) as executor:
        assert run(executor, job, ["a"])["a"].value == "a"
    assert capfd.readouterr() == ("", "printed\nby a child\n")


def test_a_second_submit_before_the_end_of_the_first_is_refused() -> None:
    with make_executor("loky", 1) as executor:
        first = executor.submit(lambda key: key, ["a", "b"])
        next(first)
        with pytest.raises(UsageError, match="one submit at a time"):
            next(executor.submit(lambda key: key, ["c"]))
        assert [outcome.key for outcome in first] == ["b"]


def test_an_interrupt_inline_goes_to_the_caller() -> None:
    def job(key: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(InlineExecutor().submit(job, ["a"]))


SCRIPT = """
    import os, sys, time
    from pathlib import Path
    from stackfeat.executors import make_executor

    if __name__ == "__main__":
        folder = sys.argv[1]
        def job(key, folder=folder):
            (Path(folder) / str(os.getpid())).touch()
            time.sleep(60)
        with make_executor("loky", 2) as executor:
            for outcome in executor.submit(job, ["a", "b", "c"]):
                print("outcome", outcome)
"""


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)]
)
def test_no_worker_outlives_a_parent_that_is_interrupted_or_killed(
    tmp_path: Path, number: signal.Signals, whole_group: bool
) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    pids = tmp_path / "pids"
    pids.mkdir()
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", pids],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
    )  # fmt: skip
    try:
        wait_until(lambda: len(list(pids.iterdir())) == 2)
        os.killpg(parent.pid, number) if whole_group else os.kill(parent.pid, number)
        wait_until(lambda: not any(is_alive(int(path.name)) for path in pids.iterdir()))
        output, errors = parent.communicate(timeout=600)
    finally:
        parent.kill()
    assert output == ""
    assert parent.returncode != 0
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in errors


DEAF_SCRIPT = """
    import ctypes, os, subprocess, sys
    from pathlib import Path
    from stackfeat.executors import make_executor

    if __name__ == "__main__":
        def job(key, folder=sys.argv[1]):
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            for pid in (child.pid, os.getpid()):
                (Path(folder) / str(pid)).touch()
            # Keeps the interpreter's lock: no thread of this process runs any more.
            ctypes.PyDLL(None).sleep(1000)
        with make_executor("loky", 1) as executor:
            list(executor.submit(job, ["a"]))
"""


def test_a_worker_in_c_code_that_lets_no_thread_run_does_not_outlive_its_parent(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(DEAF_SCRIPT))
    pids = tmp_path / "pids"
    pids.mkdir()
    command = [sys.executable, tmp_path / "script.py", pids]
    parent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})  # noqa: PTH109
    try:
        wait_until(lambda: len(list(pids.iterdir())) == 2)
    finally:
        parent.kill()
    parent.wait()
    wait_until(lambda: not any(is_alive(int(path.name)) for path in pids.iterdir()))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(is_so: Callable[[], bool], seconds: float = 600) -> None:
    limit = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)
