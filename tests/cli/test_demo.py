"""demo: the quickstart, written and run anywhere; other people's folders are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stackfeat.config import load_config
from stackfeat.errors import UsageError
from stackfeat.pipeline import demo
from stackfeat.pipeline.demo import quickstart, write_demo
from tests.projects import Project

ROOT = Path(__file__).parents[2]
SMALL = b"""
name: quickstart
task: multiclass
metric: log_loss
data: {train: "sklearn:iris", test: "sklearn:iris", target: target}
folds: {n: 3}
levels:
  base:
    linear: {estimator: sklearn.linear_model.LogisticRegression}
    tree: {estimator: sklearn.tree.DecisionTreeClassifier, params: {max_depth: 2}}
  final:
    soft: {vote: soft, inputs: ["base/*/proba"]}
outputs: {dir: runs/quickstart}
executor: {kind: inline}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(demo, "quickstart", lambda: SMALL)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def test_the_quickstart_of_the_package_is_that_of_the_checkout_and_loads_alone(tmp_path: Path) -> None:
    assert quickstart() == (ROOT / "configs" / "quickstart.yaml").read_bytes()
    path = write_demo(tmp_path / "new" / "demo")
    loaded = load_config(path)
    assert str(loaded.config.data.train).startswith("sklearn:") and loaded.folder == path.parent
    assert loaded.config.run_dir == "runs/quickstart"


def test_the_demo_runs_says_where_files_are_and_what_is_next(place: Project) -> None:
    said = place.cli("demo")
    assert said.code == 0, said.err
    folder = place.folder / "stackfeat-demo"
    assert (folder / "quickstart.yaml").read_bytes() == SMALL
    assert (folder / "runs" / "quickstart" / "submission.csv").is_file()
    assert sorted(path.name for path in place.folder.iterdir()) == ["stackfeat-demo"]
    for text in (
        "stackfeat-demo/quickstart.yaml",
        "report.html",
        "stackfeat run stackfeat-demo",
        "TRAIN.csv",
    ):
        assert text in said.out
    again = place.cli("demo", "--json", "-q")
    values = json.loads(again.out)
    assert again.code == 0 and values["computed"] == 0 and again.err == ""
    assert values["config"] == "stackfeat-demo/quickstart.yaml" and "stackfeat run TRAIN.csv" in str(
        values["next"]
    )
    commands = [text for text in values["next"].values() if text.startswith("stackfeat run stack")]
    assert place.cli(*commands[0].split()[1:], "-q").code == 0


@pytest.mark.parametrize("content", ["a file", "an edited config", "an old run", "a link"])
def test_a_folder_with_anything_else_in_it_is_refused_and_stays(content: str, place: Project) -> None:
    folder = place.folder / "taken"
    folder.mkdir()
    if content == "a file":
        (folder / "notes.txt").write_text("mine")
    elif content == "an edited config":
        (folder / "quickstart.yaml").write_bytes(SMALL + b"# mine\n")
    elif content == "an old run":
        (folder / "runs").mkdir()
    else:
        (place.folder / "mine.yaml").write_bytes(SMALL)
        (folder / "quickstart.yaml").symlink_to(place.folder / "mine.yaml")
    before = {path: path.is_file() and path.read_bytes() for path in place.folder.rglob("*")}
    said = place.cli("demo", "-o", folder)
    assert said.code == 2 and "a demo needs a folder of its own" in said.err and "--output" in said.err
    assert {path: path.is_file() and path.read_bytes() for path in place.folder.rglob("*")} == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match=r"a demo needs a folder of its own; got .*taken, which is a file"):
        write_demo(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
