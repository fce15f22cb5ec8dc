"""The wheel and the sdist build without a network, hold every file of the package, and run without this checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="paths of a POSIX environment")]
resource = pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, f'build_{sys.argv[1]}')(sys.argv[2]))"
MOST_CPU_SECONDS = 1.0


def build(kind: str, tree: Path, to: Path) -> Path:
    """Build with what is installed, as `pip wheel --no-build-isolation --no-deps` and `python -m build` do."""
    to.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(to)], cwd=tree, capture_output=True, text=True, check=True
    )
    return to / done.stdout.splitlines()[-1]


def package_files(names: list[str]) -> set[str]:
    kept = (name for name in names if name.startswith("stackfeat/") and not name.endswith("/"))
    return {name for name in kept if "__pycache__" not in name}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from: building leaves files beside it."""
    tree = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "stackfeat", tree / "stackfeat", ignore=shutil.ignore_patterns("__pycache__"))
    return tree


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and, from here, what it depends on; not this checkout."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    # Links in a folder that is named by a link are not followed: the checkout stays out.
    (site / "dependencies.pth").write_text(f"{Path(np.__file__).parent.parent}\n")
    return home / "bin" / "python"


def start(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(python), "-m", "stackfeat", *words], cwd=folder, env=variables, capture_output=True, text=True
    )


def test_the_wheel_holds_the_files_of_the_package_and_no_others(wheel: Path, sources: Path) -> None:
    own = package_files(
        [path.relative_to(sources).as_posix() for path in (sources / "stackfeat").rglob("*.*")]
    )
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        entry = next(packed.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert package_files(names) == own
    assert {"stackfeat/py.typed", "stackfeat/config/quickstart.yaml"} <= own
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"stackfeat"}
    assert "stackfeat = stackfeat.cli:main" in entry


def test_the_sdist_builds_the_same_wheel(sources: Path, wheel: Path, tmp_path: Path) -> None:
    packed = build("sdist", sources, tmp_path / "sdist")
    with tarfile.open(packed) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    again = build("wheel", tree, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())
        names = package_files(first.namelist())
        assert all(first.read(name) == second.read(name) for name in names)


def test_the_installed_wheel_runs_the_demo_without_the_checkout(python: Path, tmp_path: Path) -> None:
    code = "import stackfeat, sys; print(stackfeat.__file__, *sys.path, sep='\\n')"
    done = subprocess.run([str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.splitlines()[0]).is_relative_to(python.parent.parent)
    assert str(ROOT) not in done.stdout.splitlines()
    said = start(python, tmp_path, "demo", "--json")
    assert said.returncode == 0, said.stderr
    values = json.loads(said.stdout)
    assert values["score"] < 0.15 and len(values["leaderboard"]) == 13, (
        "log-loss of ten classes by chance is 2.3"
    )
    assert all((tmp_path / path).exists() for path in values["files"].values())
    data = tmp_path / "stackfeat-demo"
    shown = start(python, tmp_path, "show", "--store", str(data / ".stackfeat"), "--size", "--json")
    assert json.loads(shown.stdout)["n_entries"] > 77


def test_help_takes_less_than_a_second_of_cpu(python: Path, tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert start(python, tmp_path, "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"--help: {min(seconds):.2f} s of CPU")
    assert min(seconds) < MOST_CPU_SECONDS
