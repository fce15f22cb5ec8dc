"""Wrong configs and wrong data through the command line: one message, an exit code, no traces."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

Project = Any
Build = Any
TESTS = Path(__file__).parents[1]


def config_rows() -> list[Any]:
    """Every fourth row of the table of wrong configs; its own tests look at all of them."""
    rows = YAML(typ="safe", pure=True).load((TESTS / "config" / "wrong_configs.yaml").read_text())
    return [pytest.param(row, id=row["what"]) for row in rows[::4]]


def good_config() -> str:
    return str(load_module(TESTS / "config" / "conftest.py").GOOD)


def data_cases() -> list[Any]:
    cases = load_module(TESTS / "data" / "files" / "test_wrong_files.py").CASES
    return [pytest.param(case, id=case.name) for case in cases if case.task == "binary"][::2]


def load_module(path: Path) -> Any:
    import sys

    name = f"borrowed_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check_refused(project: Project, said: Any, code: int) -> None:
    assert said.code == code, said.err
    assert said.err.strip() and "Traceback" not in said.err
    assert said.out == ""
    assert not (project.folder / "runs").exists()
    left = [path for path in (project.folder / ".stackfeat").rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"file-hashes.json"}


@pytest.mark.parametrize("row", config_rows())
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_config_ends_with_its_line_and_code_2(command: str, row: Any, build: Build) -> None:
    project = build()
    text = good_config()
    (project.folder / "c.yaml").write_text(text.replace(row["old"], row["new"]))
    said = project.cli(command, project.folder / "c.yaml")
    check_refused(project, said, 2)
    assert f"c.yaml:{row['line']}: " in said.err
    assert re.search(row["says"].replace("?", r"\?"), said.err)


@pytest.mark.parametrize("case", data_cases())
def test_a_wrong_data_file_ends_with_its_name_and_code_3(case: Any, build: Build, make_config: Any) -> None:
    config = make_config(case.task, case.metric)
    config["data"] = {"train": "train.csv", "id": "id", "target": "y", **case.options}
    if case.test is not None:
        config["data"]["test"] = "test.csv"
    project = build(config=config)
    for name, content in (("train.csv", case.train), ("test.csv", case.test)):
        if content is not None:
            (project.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    said = project.run()
    # What the config alone tells is found before the data are read.
    check_refused(project, said, said.code)
    assert said.code in (2, 3)
    if said.code == 3:
        assert re.search(case.message, said.err)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("task: [", r"c\.yaml:1"),
        ("a: &x 1\nb: *x\n", "alias|anchor"),
        ("task: binary\ntask: binary\n", "each key stands once"),
        ("", "must be a mapping"),
        ("\x00", "c.yaml"),
    ],
)
def test_what_is_no_config_is_refused(content: str, says: str, build: Build) -> None:
    project = build()
    (project.folder / "c.yaml").write_text(content)
    said = project.run()
    check_refused(project, said, 2)
    assert re.search(says, said.err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "missing.yaml"], "missing.yaml"),
        (["run"], "CONFIG"),
        (["rum", "c.yaml"], "rum"),
        (["run", "c.yaml", "--sett", "a=1"], "--sett"),
        (["init", "train.csv"], "--target"),
        (["predict", "runs/run", "test.csv"], "--output|-o"),
        (["show", "--store", "nowhere"], "must be the folder of a store"),
        (["clean", "--store", "nowhere"], "must be the folder of a store"),
    ],
)
def test_a_wrong_command_line_ends_with_code_2(
    arguments: list[str], says: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = build()
    monkeypatch.chdir(project.folder)
    said = project.cli(*arguments)
    check_refused(project, said, 2)
    assert re.search(says, said.err)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("levels.base.gbm.parms={}", "Did you mean 'params'"),
        ("seed", "KEY=VALUE|key=value|must look like|="),
        ("seed=-1", "seed"),
        ("nothing.here=1", "nothing"),
        ("data.train=/etc/passwd", "data-root|folder"),
        ("data.train=../outside.csv", "data-root|folder"),
    ],
)
def test_a_wrong_override_ends_with_code_2(override: str, says: str, build: Build) -> None:
    project = build()
    said = project.run("--set", override)
    check_refused(project, said, 2)
    assert re.search(says, said.err)


def test_folds_that_the_data_cannot_give_are_data_errors(build: Build, make_config: Any) -> None:
    config = make_config()
    config["folds"]["n"] = 100
    project = build(config=config)
    said = project.run()
    check_refused(project, said, 3)
    assert "folds" in said.err


def test_a_store_that_everybody_may_write_to_is_refused(quick: Project) -> None:
    (quick.folder / ".stackfeat").chmod(0o777)
    said = quick.run()
    assert said.code == 1 and "must not be writable by everybody" in said.err and "Traceback" not in said.err
