"""What holds for all tests, and the small projects that tests of several folders run or read.

No test depends on the speed of the machine. The arrays are so small that a second thread only spins; what
a test says of threads it sets itself.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when numpy and torch are imported
os.environ.pop("STACKFEAT_DATA_ROOTS", None)

import pytest
from hypothesis import HealthCheck, settings

from stackfeat.output.report import drawing, page
from tests.every_task import project_of
from tests.projects import Build, Config, Project, base_config, build_project, plain_config, with_net

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of the way of the garbage collector: it stays to the end."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Let processes that tests start hear signals that this one ignores, in the background or under nohup.

    A signal that is ignored is so in what is started too; one with a handler is not.
    """
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the sums of what tests counted, whatever process they ran in."""
    sums: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        sums.update({name: n for name, n in report.user_properties if name.startswith("counted ")})
    for name, n in sorted(sums.items()):
        terminalreporter.write_line(f"{name}: {n}")


@pytest.fixture(autouse=True, scope="session")
def nothing_is_flushed() -> Iterator[None]:
    """Leave what is written to the system: no test pulls the plug, and flushing takes a tenth of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_pictures_are_drawn() -> Iterator[None]:
    """Leave pictures undrawn, which takes longer than all else in a small run: `draws` draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "svg_of", lambda picture, numbers: "<svg/>")
        yield


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the pictures of reports that this test makes."""
    monkeypatch.setattr(page, "svg_of", drawing.svg_of)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that makes a project in a new folder."""

    def new(task: str = "multiclass", config: Config | None = None, n_rows: int = 160) -> Project:
        return build_project(tmp_path / f"project{len(list(tmp_path.iterdir()))}", task, config, n_rows)

    return new


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    return base_config


@pytest.fixture(scope="session")
def add_net() -> Callable[[Config], Config]:
    return with_net


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a finished run without nets; tests work on copies of it."""
    project = build_project(tmp_path_factory.mktemp("quick") / "project")
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a finished run of two small members and a vote, the quickest there is."""
    project = build_project(tmp_path_factory.mktemp("plain") / "project", config=plain_config(), n_rows=80)
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.fixture(scope="session")
def net_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a finished run with a net, aligned features, and trees that read them."""
    config = with_net(base_config())
    config["levels"]["meta"]["trees"] = {
        **config["levels"]["base"]["gbm"],
        "inputs": ["base/*/*", "table"],
    }
    project = build_project(tmp_path_factory.mktemp("net") / "project", config=config)
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.fixture(scope="session")
def run_of_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Return a function from the name of a task to its finished run; tests work on copies of it."""

    @cache
    def finished(name: str) -> Project:
        project = project_of(name, tmp_path_factory.mktemp("task") / "project")
        said = project.run()
        assert said.code == 0, said.err
        return project

    return finished


@pytest.fixture
def quick(quick_run: Project, tmp_path: Path) -> Project:
    return quick_run.copy(tmp_path / "quick")


@pytest.fixture
def plain(plain_run: Project, tmp_path: Path) -> Project:
    return plain_run.copy(tmp_path / "plain")


@pytest.fixture
def net(net_run: Project, tmp_path: Path) -> Project:
    return net_run.copy(tmp_path / "net")


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Pretend a CUDA device; the list is what was asked of it."""
    from tests.cuda import pretend_cuda

    with pretend_cuda(monkeypatch) as log:
        yield log


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return a list that gets the learner's name at every fit of a member in this process."""
    from stackfeat.engine import worker as work

    made = work.make_member
    fitted: list[str] = []

    def make_counted(values: Any, trust_code: bool = False) -> Any:
        member = made(values, trust_code)
        kinds = ("net", "estimator", "vote", "predictions")
        name = next(str(values[kind]) for kind in kinds if kind in values)
        return Counted(member, name, fitted)

    monkeypatch.setattr(work, "make_member", make_counted)
    return fitted


@dataclass(frozen=True)
class Counted:
    """A member that notes its fits."""

    member: Any
    name: str
    fitted: list[str]

    def fit(self, rows: Any, context: Any) -> Any:
        self.fitted.append(self.name)
        return self.member.fit(rows, context)

    def load(self, entry: Any, task: Any, settings: Any) -> Any:
        return self.member.load(entry, task, settings)
