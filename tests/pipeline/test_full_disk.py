"""A machine that fails: full disks, a store that vanishes, limits. One message, exit 1, and the run goes on."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stackfeat.store import disk
from tests.projects import build_project

Project = Any
GO_ON = "Finished folds are stored: run the same command to go on"


def tiny(build: Callable[..., Project], make_config: Callable[..., dict[str, Any]], **parts: Any) -> Project:
    """Two members, a vote, three folds: every kind of file, and few of each."""
    config = {**make_config("binary", "roc_auc"), **parts}
    config["levels"] = {
        "base": {
            "linear": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "bayes": {"estimator": "sklearn.naive_bayes.GaussianNB"},
        },
        "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
    }
    return build("binary", config, n_rows=60)


@pytest.fixture
def project(build: Callable[..., Project], make_config: Callable[..., dict[str, Any]]) -> Project:
    return tiny(build, make_config)


@pytest.fixture(scope="module")
def wanted(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., dict[str, Any]]
) -> dict[str, bytes]:
    """What the run gives on a machine that works."""
    other = tiny(partial(build_project, tmp_path_factory.mktemp("whole") / "project"), make_config)
    assert other.run().code == 0
    found: dict[str, bytes] = other.outputs()
    return found


class FullDisk:
    """Stands for the store's one write function; fails at the n-th call, or from there on."""

    def __init__(self, fails_at: int, *, stays_full: bool = False, number: int = errno.ENOSPC) -> None:
        self.real = disk.write_all
        self.fails_at, self.stays_full, self.number = fails_at, stays_full, number
        self.n_calls = 0

    def __call__(self, descriptor: int, data: Any, offset: int | None = None) -> None:
        self.n_calls += 1
        if self.n_calls == self.fails_at or (self.stays_full and self.n_calls > self.fails_at):
            self.real(descriptor, memoryview(data).cast("B")[: len(data) // 2], offset)
            raise OSError(self.number, os.strerror(self.number))
        self.real(descriptor, data, offset)


def assert_one_message(said: Any, *texts: str) -> None:
    assert said.code == 1, said
    assert "Traceback" not in said.err + said.out
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert said.err.startswith("error: ")
    for text in texts:
        assert text in said.err


def leftovers(folder: Path) -> list[str]:
    """Files that are not whole, or should be gone."""
    found = [*folder.rglob("*.tmp"), *folder.glob(".stackfeat/tmp/*"), *folder.glob(".stackfeat/jobs/*")]
    found += folder.glob("runs/*/.predictor-*")
    return [str(path) for path in found]


def writes_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> int:
    counting = FullDisk(0)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_all", counting)
        assert project.run("--quiet").code == 0
    return counting.n_calls


def check_full_disk_at(
    project: Project, fails_at: int, wanted: dict[str, bytes], patch: pytest.MonkeyPatch, **how: Any
) -> None:
    for name in ("runs", ".stackfeat"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    with patch.context() as broken:
        broken.setattr(disk, "write_all", FullDisk(fails_at, **how))
        said = project.run("--quiet")
    assert_one_message(said, os.strerror(how.get("number", errno.ENOSPC)), GO_ON)
    assert leftovers(project.folder) == []
    said = project.run("--quiet")
    assert said.code == 0, said.err
    assert project.outputs() == wanted


def test_a_disk_that_is_full_at_some_writes(
    project: Project, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_writes = writes_of(project.copy(project.folder.with_name("counted")), monkeypatch)
    assert n_writes > 100
    for fails_at in range(1, n_writes + 1, n_writes // 3):
        check_full_disk_at(project, fails_at, wanted, monkeypatch, stays_full=fails_at % 2 == 0)
    check_full_disk_at(project, n_writes, wanted, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_disk_that_is_full_at_every_write(
    project: Project, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for fails_at in range(1, writes_of(project.copy(project.folder.with_name("counted")), monkeypatch) + 1):
        check_full_disk_at(project, fails_at, wanted, monkeypatch, stays_full=fails_at % 2 == 0)


@pytest.mark.parametrize(
    "number",
    [
        errno.EDQUOT,
        errno.EROFS,
        errno.EMFILE,
        *(pytest.param(number, marks=pytest.mark.slow) for number in (errno.EFBIG, errno.EIO)),
    ],
)
def test_other_faults_of_the_disk_end_the_run_too(
    number: int, project: Project, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_full_disk_at(project, 40, wanted, monkeypatch, number=number)
