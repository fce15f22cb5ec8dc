"""Real faults of a machine: small disks, limits, a store that vanishes, folders nobody may write to."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Build, plain_config

Project = Any
KILLER = """
import os, signal
from pathlib import Path
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Doomed(ClassifierMixin, BaseEstimator):
    def __init__(self, act="", place=""):
        self.act, self.place = act, place

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if Path(self.place).exists():
            ACTS[self.act](self.place)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

def remove_store(place):
    import shutil
    Path(place).unlink()
    shutil.rmtree(Path(place).parent / ".stackfeat")

def is_killed(place):
    os.kill(os.getpid(), signal.SIGKILL)

def own_file(place):
    open("/nowhere/of/mine.csv")

def no_memory(place):
    np.zeros((10**9, 10**9))

def other_memory(place):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")

def other_disk(place):
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise RuntimeError("cannot write the model") from error

ACTS = {f.__name__: f for f in (remove_store, is_killed, own_file, no_memory, other_memory, other_disk)}
"""


@pytest.fixture
def project(build: Build) -> Project:
    return build("binary", plain_config("binary", "roc_auc"), n_rows=80)


@pytest.fixture
def wanted(project: Project) -> dict[str, bytes]:
    """What the run gives on a machine that works."""
    other = project.copy(project.folder.with_name("sound"))
    assert other.run("-q").code == 0
    found: dict[str, bytes] = other.outputs()
    return found


def start(project: Project, *arguments: str, limit: Callable[[], None] | None = None) -> tuple[int, str, str]:
    """Run the config in a process of its own, under a limit."""
    process = project.start("run", "c.yaml", "-q", *arguments, preexec_fn=limit)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def assert_one_message(code: int, out: str, err: str) -> None:
    assert code == 1, (code, out, err)
    assert "Traceback" not in err + out
    assert len(err.strip().splitlines()) == 1 and err.startswith("error: "), err
    assert "run the same command to go on" in err


def assert_goes_on(project: Project, wanted: dict[str, bytes]) -> None:
    said = project.run("-q")
    assert said.code == 0, (said.out, said.err)
    assert project.outputs() == wanted


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
    ) if shutil.which("mount") else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip() if made else 'there is no mount'}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize(
    "size", ["256k", *(pytest.param(n, marks=pytest.mark.slow) for n in ("1m", "2m", "4m", "8m"))]
)
def test_a_small_disk_ends_the_run_and_a_larger_one_goes_on(
    size: str, project: Project, wanted: dict[str, bytes]
) -> None:
    store = project.folder / ".stackfeat"
    with mounted(store, f"size={size},mode=700"):
        code, out, err = start(project)
        if code == 0:
            assert project.outputs() == wanted
            return
        assert_one_message(code, out, err)
        assert "No space left" in err
        assert list(store.glob("tmp/*")) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(store)], check=True)
        assert_goes_on(project, wanted)


@pytest.mark.slow
def test_a_store_that_is_read_only(project: Project, wanted: dict[str, bytes]) -> None:
    store = project.folder / ".stackfeat"
    with mounted(store, "size=64m,mode=700"):
        subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
        code, out, err = start(project)
        assert_one_message(code, out, err)
        assert "Read-only file system" in err
        subprocess.run(["mount", "-o", "remount,rw", str(store)], check=True)
        assert_goes_on(project, wanted)


@pytest.mark.parametrize("kind", ["inline", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_limit_on_the_size_of_files(kind: str, project: Project, wanted: dict[str, bytes]) -> None:
    # Not below the size of what Python itself writes, such as a compiled module.
    limit = 3_000

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code, out, err = start(project, "--set", f"executor={{kind: {kind}, jobs: 1}}", limit=small_files)
    assert_one_message(code, out, err)
    assert "File too large" in err
    assert_goes_on(project, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inline", "loky"])
@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("remove_store", "must be"),
        ("no_memory", "fewer executor.jobs"),
        ("other_memory", "fewer executor.jobs"),
        ("other_disk", "No space left on device"),
    ],
)
def test_what_the_machine_fails_in_the_middle_of_a_member(
    act: str, words: str, kind: str, project: Project
) -> None:
    doomed(project, act)
    trigger = project.folder / "trigger"
    options = ("--trust-code", "--set", f"executor={{kind: {kind}, jobs: 2, retries: 0}}")
    assert start(project, *options)[0] == 0
    sound = project.outputs()
    for name in ("runs", ".stackfeat"):
        shutil.rmtree(project.folder / name)
    trigger.touch()
    code, out, err = start(project, *options)
    assert_one_message(code, out, err)
    assert words in err
    trigger.unlink(missing_ok=True)
    code, out, err = start(project, *options)
    assert code == 0, err
    assert project.outputs() == sound


def doomed(project: Project, act: str) -> None:
    (project.folder / "mine.py").write_text(KILLER)
    config = project.config()
    params = {"act": act, "place": str(project.folder / "trigger")}
    config["levels"]["base"]["doomed"] = {"estimator": "mine:Doomed", "params": params}
    project.write(config)


def test_a_worker_that_is_killed_at_every_try_ends_the_run_and_names_the_job(project: Project) -> None:
    doomed(project, "is_killed")
    (project.folder / "trigger").touch()
    options = ("--trust-code", "--set", "executor={kind: loky, jobs: 1, retries: 1}")
    said = project.run("-q", *options)
    assert_one_message(said.code, said.out, said.err)
    assert "base/doomed" in said.err and "out of memory?" in said.err
    assert "fewer executor.jobs" in said.err


def test_a_member_s_own_file_is_its_own_fault(project: Project) -> None:
    doomed(project, "own_file")
    (project.folder / "trigger").touch()
    said = project.run("-q", "--trust-code")
    assert said.code == 4 and "base/doomed" in said.out and "mine.csv" in said.out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inline", "loky"])
def test_a_temporary_folder_that_cannot_be_used_does_no_harm(
    kind: str, project: Project, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--set", f"executor={{kind: {kind}, jobs: 2}}")
    temporary = project.folder.with_name("temporary")
    with mounted(temporary, "size=64k"):
        monkeypatch.setenv("TMPDIR", str(temporary))
        with (temporary / "rest").open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 4096)
        code, out, err = start(project, *options)
        if code:
            assert_one_message(code, out, err)
            (temporary / "rest").unlink()
            code, out, err = start(project, *options)
        assert code == 0, err
        assert project.outputs() == wanted
