"""A run that is killed or interrupted goes on where it stopped, and ends with the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stackfeat.output.events import EVENTS, EventsReader, RunDone
from tests.every_task import EVERY_TASK, MARKED

Project = Any
RunOfTask = Callable[[str], Project]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
PARALLEL = ("--set", "executor={kind: loky, jobs: 2}")


@pytest.fixture(autouse=True)
def hang_ups_are_heard() -> Iterator[None]:
    """Under nohup every process that is started here would ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def fresh(project: Project, to: Path, keep_store: bool = False) -> Project:
    """Return a copy without results, and without what they were made from."""
    copy = project.copy(to)
    if not keep_store:
        shutil.rmtree(copy.folder / ".stackfeat")
    shutil.rmtree(copy.folder / "runs")
    return copy


def children(parent: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def events(project: Project, kind: str) -> list[dict[str, Any]]:
    """Return what a run has told so far of one kind of event."""
    path = project.run_folder / "events.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def n_jobs(project: Project) -> int:
    return sum(member["jobs"] for member in events(project, "plan")[0]["members"])


def wait_for_jobs(process: subprocess.Popen[str], project: Project, n_done: int) -> None:
    """Return when this many jobs are done."""
    limit = time.monotonic() + 600
    while len(events(project, "job_done")) < n_done:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < limit, "no job is done"
        time.sleep(0.005)


def worker_pids(process: subprocess.Popen[str]) -> list[int]:
    """Return the workers: children that run `executors/worker.py`."""
    found = []
    for pid in children(process.pid):
        with contextlib.suppress(OSError):
            if b"worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=600)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def check_rerun(project: Project, reference: Project) -> str:
    said = project.run()
    assert said.code == 0, said.err
    assert project.outputs() == reference.outputs()
    return str(said.out)


def kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_parent(process: subprocess.Popen[str]) -> None:
    process.kill()


def check_killed(project: Project, reference: Project, kill: Any, seed: int) -> None:
    """Kill a run after some of its jobs; the same command ends with the bytes of a run that was left alone."""
    draw = random.Random(seed)
    process = project.start("run", "c.yaml", *PARALLEL)
    wait_for_jobs(process, project, draw.randint(1, n_jobs(reference) // 2))
    time.sleep(draw.random() * 0.05)
    workers = worker_pids(process)
    kill(process)
    finish(process)
    assert process.returncode == -signal.SIGKILL, "it was killed in its midst"
    limit = time.monotonic() + 600
    while any(map(alive, workers)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not any(map(alive, workers)), "workers outlive a killed run"
    assert not (project.run_folder / "submission.csv").exists()
    said = re.search(r"jobs computed: (\d+), cached: (\d+)", check_rerun(project, reference))
    assert said is not None
    computed, cached = map(int, said.groups())
    assert computed and cached and computed + cached == n_jobs(reference), said.group()


@pytest.mark.parametrize(
    ("seed", "kill"),
    [
        (1, kill_parent),
        *[
            pytest.param(seed, kill, marks=pytest.mark.slow)
            for seed, kill in [(2, kill_group), (3, kill_parent), (4, kill_group), (5, kill_parent)]
        ],
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(
    seed: int, kill: Any, quick_run: Project, tmp_path: Path
) -> None:
    check_killed(fresh(quick_run, tmp_path / "killed"), quick_run, kill, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_parent, kill_group])
@pytest.mark.parametrize("task", EVERY_TASK)
def test_a_killed_run_of_every_task_resumes_to_the_same_bytes(
    task: str, kill: Any, run_of_task: RunOfTask, tmp_path: Path
) -> None:
    check_killed(
        fresh(run_of_task(task), tmp_path / "killed"), run_of_task(task), kill, EVERY_TASK.index(task)
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", EVERY_TASK)
def test_a_killed_worker_costs_only_its_job(task: str, run_of_task: RunOfTask, tmp_path: Path) -> None:
    project = fresh(run_of_task(task), tmp_path / "worker")
    process = project.start("run", "c.yaml", *PARALLEL)
    wait_for_jobs(process, project, 2)
    workers = worker_pids(process)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    _, err = finish(process)
    assert process.returncode == 0, err
    assert project.outputs() == run_of_task(task).outputs()


HOOKED = """
import atexit, ctypes, importlib, os, sys, time
place, how = sys.argv[1:3]
sys.argv[:] = ["stackfeat", *sys.argv[3:]]

def be_there():
    os.write(1, b"there\\n")
    if how == "native":
        # Waits in C for a lock that it holds itself: no signal makes it return.
        lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        library.pthread_mutex_lock(lock)
        library.pthread_mutex_lock(lock)
    while how == "deaf":
        try:
            time.sleep(1000)
        except BaseException:
            pass

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == place:
            be_there()

module, _, name = place.partition(":")
if module == "atexit":
    from stackfeat.pipeline import file_checks
    load = file_checks.load_config
    def load_config(*arguments, **options):
        atexit.register(be_there)
        return load(*arguments, **options)
    file_checks.load_config = load_config
elif name:
    owner = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    def hooked(*arguments, **options):
        be_there()
        return original(*arguments, **options)
    setattr(owner, name, hooked)
elif place != "main":
    sys.meta_path.insert(0, Finder())
from stackfeat.cli import main
if place == "main":
    be_there()
main()
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SAID = "interrupted; finished jobs are stored: run the same command to go on"


def start_hooked(
    project: Project, place: str, how: str, *options: str, command: Sequence[str] = ("run", "c.yaml")
) -> subprocess.Popen[str]:
    """Start a command that says when it comes to a place, and hangs there in some way."""
    script = project.folder.parent / "hooked.py"
    script.write_text(HOOKED)
    return subprocess.Popen(
        [sys.executable, "-P", str(script), place, how, *command, *options],
        cwd=project.folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(script.parent),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def session(leader: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == leader and state != "Z":
                found.append(int(folder.name))
    return found


def interrupt(process: subprocess.Popen[str], number: int, pause: float | None) -> tuple[int, str]:
    """Send a signal, and the same again after a pause; return the exit code and what was said."""
    process.send_signal(number)
    if pause is not None:
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
    _, err = finish(process)
    assert session(process.pid) == [], "processes outlive an interrupted run"
    assert "Traceback" not in err and "leaked" not in err, err
    assert process.returncode == 0 or err.count(SAID) == 1, err
    return process.returncode, err


def semaphores() -> set[str]:
    """Names of shared memory, less those with the number of a process that lives: other tests may run."""
    names = {path.name for path in Path("/dev/shm").glob("*")} if Path("/dev/shm").is_dir() else set()
    return {name for name in names if not any(map(lives, re.split(r"\D+", name)))}


def lives(number: str) -> bool:
    return bool(number) and Path("/proc", number).exists()


PLACES = [
    ("pandas", "native"),
    ("pandas", "deaf"),
    ("stackfeat.executors.processes:WorkerProcess.__init__", "deaf"),
    ("stackfeat.executors.processes:WorkerProcess.begin", "native"),
    ("stackfeat.store.store:Store.has", "goes on"),
    ("stackfeat.pipeline.results:write_run", "native"),
]
WITH_ALL_STORED = "stackfeat.pipeline.results:write_run"
EACH_ONCE = {
    (signal.SIGINT, "pandas", "native"),
    (signal.SIGINT, "stackfeat.executors.processes:WorkerProcess.begin", "native"),
    (signal.SIGINT, WITH_ALL_STORED, "native"),
    (signal.SIGTERM, "stackfeat.executors.processes:WorkerProcess.__init__", "deaf"),
    (signal.SIGHUP, "stackfeat.store.store:Store.has", "goes on"),
}


@pytest.mark.parametrize(
    ("number", "place", "how"),
    [
        pytest.param(
            number,
            place,
            how,
            id=f"{number.name}-{place}-{how}",
            marks=() if (number, place, how) in EACH_ONCE else pytest.mark.slow,
        )
        for number in SIGNALS
        for place, how in PLACES
    ],
)
def test_a_signal_ends_a_run_wherever_it_is(
    number: signal.Signals, place: str, how: str, plain_run: Project, tmp_path: Path
) -> None:
    project = fresh(plain_run, tmp_path / "project", keep_store=place == WITH_ALL_STORED)
    process = start_hooked(project, place, how, *PARALLEL)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    pause = {"native": 0.001, "deaf": 0.05, "goes on": None}[how]
    code, _ = interrupt(process, number, pause)
    assert code == 130
    assert not (project.run_folder / "submission.csv").exists()
    # Before a run works there is nobody to tell of it.
    if place.startswith("stackfeat.executors") or place == WITH_ALL_STORED:
        *_, last = EventsReader(project.run_folder / EVENTS).read()
        assert isinstance(last, RunDone)
        assert (last.exit_code, last.error) == (130, f"interrupted by {number.name}")


def test_a_signal_after_the_result_keeps_its_exit_code(plain: Project) -> None:
    process = start_hooked(plain, "atexit", "deaf")
    assert process.stdout is not None
    said = []
    while not said or said[-1] not in ("there\n", ""):
        said.append(process.stdout.readline())
    assert "submission:" in "".join(said) and said[-1] == "there\n", process.stderr and process.stderr.read()
    assert interrupt(process, signal.SIGINT, 0.01)[0] == 0


def test_an_interrupted_audit_leaves_no_temporary_folder(plain: Project) -> None:
    command = ("audit", "runs/run", "--permutations", "1")
    process = start_hooked(plain, "stackfeat.audit.permutation_test:_prepare", "deaf", command=command)
    assert process.stdout is not None
    assert "there\n" in iter(process.stdout.readline, "")
    folders = plain.folder.parent.glob("stackfeat-*")
    assert list(folders)
    assert interrupt(process, signal.SIGTERM, 0.01)[0] == 130
    assert not list(plain.folder.parent.glob("stackfeat-*"))


def test_a_run_under_nohup_goes_on_after_a_hang_up(plain: Project) -> None:
    project = plain
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start_hooked(project, "pandas", "goes on")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    assert interrupt(process, signal.SIGHUP, None)[0] == 0


@pytest.mark.parametrize("pause", [pytest.param(None, marks=pytest.mark.slow), 0.02])
def test_an_interrupted_run_says_so_and_resumes(
    pause: float | None, plain_run: Project, tmp_path: Path
) -> None:
    project = fresh(plain_run, tmp_path / "interrupted")
    before = semaphores()
    # Between two levels, with workers alive.
    process = start_hooked(project, "stackfeat.engine.schedule:at_least_grace", "deaf", *PARALLEL)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    assert worker_pids(process)
    assert interrupt(process, signal.SIGINT, pause)[0] == 130
    assert semaphores() <= before
    assert not (project.run_folder / "submission.csv").exists()
    check_rerun(project, plain_run)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("executor", ["{kind: loky, jobs: 2}", "{kind: inline}"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signals_at_random_moments(
    number: signal.Signals, executor: str, quick_run: Project, tmp_path: Path
) -> None:
    """Each run goes on where the one before was interrupted; a finished one begins anew."""
    draw, before = random.Random(f"{number}{executor}"), semaphores()
    project, seconds = fresh(quick_run, tmp_path / "first"), 4.0
    for trial in range(30):
        process = start_hooked(project, "main", "goes on", "--set", f"executor={executor}")
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        time.sleep(draw.random() * seconds)
        sent = time.monotonic()
        code, err = interrupt(process, number, draw.choice([None, draw.uniform(0.001, 0.3)]))
        print(f"{number.name}: gone after {time.monotonic() - sent:.2f} s, exit code {code}")
        assert code in (0, 130), err
        assert semaphores() <= before
        if code == 0 or trial == 29:
            check_rerun(project, quick_run)
            assert leftovers(project) == leftovers(quick_run)
            project = fresh(quick_run, tmp_path / f"after{trial}")


def leftovers(project: Project) -> list[str]:
    """Return the temporary files in a project."""
    return sorted(
        path.name for path in project.folder.rglob("*") if ".tmp" in path.name or path.parent.name == "tmp"
    )


@pytest.mark.parametrize("task", MARKED)
def test_an_interrupt_in_one_process_keeps_what_is_finished(
    task: str, run_of_task: RunOfTask, tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.members.estimator import GatedMember

    reference = run_of_task(task)
    project = fresh(reference, tmp_path / "interrupted")
    fits.clear()
    with monkeypatch.context() as patch:

        def interrupted(self: object, rows: object, context: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(GatedMember, "fit", interrupted)
        said = project.run()
    assert said.code == 130 and "run the same command to go on" in said.err
    base = set(fits) - {"gated_linear"}
    assert any("lightgbm" in name for name in base) and "mlp" in base
    fits.clear()
    check_rerun(project, reference)
    assert not base & set(fits) and fits.count("gated_linear") == 4
