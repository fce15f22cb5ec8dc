"""stackfeat trust: no flag is needed until a byte changes, and no folder brings trust along."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackfeat.config import load_config
from stackfeat.errors import TrustError
from stackfeat.pipeline.run import run

Project = Any
MINE = """
import pathlib
import mine_helper
from sklearn.linear_model import LogisticRegression

pathlib.Path(__file__).with_name("ran").touch()


class Mine(LogisticRegression):
    pass


def share_right(y_true, y_pred):
    return float((y_true == y_pred).mean())
"""
OTHER = "from sklearn.linear_model import LogisticRegression\nclass Other(LogisticRegression): pass\n"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("STACKFEAT_STATE", str(tmp_path / "state"))
    before = set(sys.modules)
    yield tmp_path / "state"
    for name in {"mine", "mine_helper", "other"} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.fixture
def own(plain: Project) -> Project:
    """A project with an estimator and a metric of its own."""
    (plain.folder / "mine.py").write_text(MINE)
    (plain.folder / "mine_helper.py").write_text("X = 1\n")
    (plain.folder / "other.py").write_text(OTHER)
    config = plain.config()
    config["levels"]["base"] = {"own": {"estimator": "mine:Mine", "params": {"max_iter": 50}}}
    config |= {"metric": "mine:share_right", "submit": "own"}
    return plain.write(config)


def trust(project: Project, *arguments: object) -> Any:
    return project.cli("trust", project.folder / "c.yaml", *arguments)


def predict(project: Project, run_folder: Path | None = None, *arguments: object) -> Any:
    folder = run_folder or project.run_folder
    out = project.folder / "out.csv"
    return project.cli("predict", folder, project.folder / "test.csv", "-o", out, *arguments)


def test_trust_shows_files_and_names_and_runs_nothing(own: Project, state: Path) -> None:
    said = trust(own, "--yes")
    assert said.code == 0, said.err
    for text in (
        "c.yaml",
        "mine.py",
        "mine_helper.py",
        "estimator mine:Mine",
        "metric mine:share_right",
        "line",
    ):
        assert text in said.out
    assert "other.py" not in said.out and not (own.folder / "ran").exists()
    assert str(own.folder / "c.yaml") in own.cli("trust", "--list").out
    assert sorted(path.suffix for path in state.rglob("*") if path.is_file()) == [".json"]


def test_without_a_terminal_and_without_yes_nothing_is_remembered(own: Project, state: Path) -> None:
    said = trust(own)
    assert said.code == 2 and "--yes" in said.err and "mine.py" in said.out
    assert not state.exists()


def test_every_command_goes_without_the_flag_until_a_byte_changes(own: Project) -> None:
    config = own.folder / "c.yaml"
    said = own.run()
    assert said.code == 2 and "--trust-code" in said.err and f"stackfeat trust {config}" in said.err
    assert trust(own, "--yes").code == 0
    assert own.cli("check", config).code == 0
    said = own.run()
    assert said.code == 0, said.err
    assert predict(own).code == 0
    assert (own.folder / "out.csv").read_bytes() == (own.run_folder / "submission.csv").read_bytes()
    assert own.cli("audit", own.run_folder, "--permutations", "1", "--rows", "100").code in (0, 1)
    assert not [path for path in own.folder.rglob("*") if "trust" in path.name or path.suffix == ".pyc"]

    (own.folder / "mine_helper.py").write_text("X = 2\n")
    for said in (own.cli("check", config), own.run(), predict(own), own.cli("audit", own.run_folder)):
        assert said.code == 2 and "mine_helper.py" in said.err and "changed" in said.err.lower(), said
        assert "--trust-code" in said.err and "stackfeat trust" in said.err and "Traceback" not in said.err
    assert "changed" in own.cli("trust", "--list").out

    assert "mine_helper.py, changed" in trust(own, "--yes").out
    assert own.run().code == 0 and predict(own).code == 0
    assert trust(own, "--forget").code == 0
    assert own.run().code == 2 and predict(own).code == 2
    assert trust(own, "--forget").code == 2


def test_a_changed_config_is_not_trusted(own: Project) -> None:
    assert trust(own, "--yes").code == 0
    path = own.folder / "c.yaml"
    path.write_bytes(path.read_bytes() + b"\n")
    said = own.run()
    assert said.code == 2 and "c.yaml" in said.err and "changed" in said.err


def test_what_is_set_on_the_command_line_is_covered_only_as_far_as_it_was_shown(own: Project) -> None:
    assert trust(own, "--yes").code == 0
    config = own.folder / "c.yaml"
    assert own.cli("check", config, "--set", "seed=5").code == 0
    said = own.cli("check", config, "--set", "levels.base.own.estimator=other:Other")
    assert said.code == 2 and "Not among what was trusted: levels.base.own.estimator" in said.err


@pytest.mark.parametrize("how", ["copied", "moved", "linked config", "hard linked config"])
def test_no_other_folder_is_trusted(how: str, own: Project, tmp_path: Path) -> None:
    """Received folders hold evil code: what matters is that neither place nor contents bring trust along."""
    assert trust(own, "--yes").code == 0
    assert own.run().code == 0
    (own.folder / "ran").unlink()
    other = tmp_path / "received"
    if how == "copied":
        shutil.copytree(own.folder, other)
    elif how == "moved":
        own.folder.rename(other)
    else:
        shutil.copytree(own.folder, other)
        (other / "c.yaml").unlink()
        link = os.symlink if how == "linked config" else os.link
        link(own.folder / "c.yaml", other / "c.yaml")
    if how != "moved":
        (other / "mine.py").write_text(MINE.replace("'ran'", "'evil'"))
    received = type(own)(other)
    assert received.run().code == 2
    if how in ("copied", "moved"):
        assert predict(received).code == 2
    assert not (other / "ran").exists() and not (other / "evil").exists()


def test_a_folder_reached_by_another_name_is_the_same_folder(own: Project, tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to(own.folder, target_is_directory=True)
    assert trust(own, "--yes").code == 0
    assert own.cli("check", tmp_path / "name" / "c.yaml").code == 0


def test_a_run_whose_predictor_was_exchanged_is_not_trusted(own: Project) -> None:
    assert trust(own, "--yes").code == 0 and own.run().code == 0
    for name in ("config.yaml", "predictor/predictor.json"):
        before = (own.run_folder / name).read_bytes()
        (own.run_folder / name).write_bytes(before + b"\n")
        said = predict(own)
        assert said.code != 0 and not (own.folder / "out.csv").exists()
        (own.run_folder / name).write_bytes(before)
    assert predict(own).code == 0


def test_a_run_under_the_flag_is_not_remembered(own: Project) -> None:
    assert own.run("--trust-code").code == 0
    said = predict(own)
    assert said.code == 2 and "--trust-code" in said.err
    assert predict(own, None, "--trust-code").code == 0


def test_python_honours_it_unless_told_not_to(own: Project) -> None:
    config = own.folder / "c.yaml"
    with pytest.raises(TrustError):
        run(config)
    assert trust(own, "--yes").code == 0
    assert load_config(config).code.is_remembered
    with pytest.raises(TrustError, match="stackfeat trust"):
        run(config, trust_code=False)
    with pytest.raises(TrustError):
        load_config(config, trust_code=False)
    assert run(config).submitted == "base/own"
    assert load_config(config, trust_code=True).code.files is None


def test_planted_files_do_not_run_under_remembered_trust(own: Project) -> None:
    assert trust(own, "--yes").code == 0
    for name in ("colorsys", "sitecustomize", "conftest", "joblib", "lightgbm_plugin", "__init__"):
        (own.folder / f"{name}.py").write_text(f"open({str(own.folder / 'evil')!r}, 'w')\n")
    said = own.run("--set", "executor={kind: loky, jobs: 1}")
    assert said.code == 0, said.err
    assert predict(own).code == 0
    assert not (own.folder / "evil").exists()


def test_an_edit_after_the_check_ends_the_run(own: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody changes a file while a run is under way."""
    assert trust(own, "--yes").code == 0
    made = sys.modules["stackfeat.pipeline.run"].make_planner

    def make_and_edit(*arguments: Any) -> Any:
        planner = made(*arguments)
        (own.folder / "mine.py").write_text(MINE.replace('"ran"', '"evil"'))
        return planner

    monkeypatch.setattr(sys.modules["stackfeat.pipeline.run"], "make_planner", make_and_edit)
    said = own.run()
    assert said.code == 2 and "mine.py" in said.err and "changed" in said.err
    assert not (own.folder / "evil").exists() and not (own.folder / "ran").exists()


def test_a_config_without_code_of_its_own_needs_no_trust(quick: Project, state: Path) -> None:
    said = quick.cli("trust", quick.folder / "c.yaml")
    assert said.code == 0 and "without trust" in said.out and not state.exists()


def test_a_run_is_not_lost_where_it_cannot_be_remembered(
    own: Project, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert trust(own, "--yes").code == 0
    (state / "runs").write_text("a file in the way")
    said = own.run()
    assert said.code == 0 and (own.run_folder / "submission.csv").is_file()
    assert "must be yours and writable" in caplog.text
    assert predict(own).code == 2
