"""The ledger: every run below a folder, what was changed, how much of the best score is luck, what a board says."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stackfeat.errors import UsageError
from stackfeat.output.run_notes import add_note
from stackfeat.pipeline.ledger import _on_best, ledger

Project = Any


def ran(project: Project, name: str, *changes: str) -> Path:
    said = project.run("--set", f"name={name}", *(word for change in changes for word in ("--set", change)))
    assert said.code == 0, said.err
    return project.folder / "runs" / name  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def many_runs(plain_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Five runs of one project, one of them with another metric, and a damaged folder."""
    project = plain_run.copy(tmp_path_factory.mktemp("ledger") / "project")
    ran(project, "two", "levels.base.tree.params.max_depth=2")
    ran(project, "three", "levels.base.tree.params.max_depth=2", "levels.base.linear.params={C: 0.1}")
    ran(project, "four", "levels.base.linear.params={C: 0.001}", "submit=base/linear")
    ran(project, "acc", "metric=accuracy")
    (project.folder / "runs" / "damaged").mkdir()
    (project.folder / "runs" / "damaged" / "run.json").write_text("{}")
    return project


@pytest.fixture
def many(many_runs: Project, tmp_path: Path) -> Project:
    return many_runs.copy(tmp_path / "many")


@pytest.mark.parametrize(("optimism", "said"), [(-1.1e-16, "0.000"), (0.00213, "0.002"), (-0.0031, "-0.003")])
def test_what_selection_costs_is_rounded_by_its_standard_error(optimism: float, said: str) -> None:
    best: Any = SimpleNamespace(path="runs/a", summary=SimpleNamespace(se=0.0123))
    assert _on_best(3, 3, optimism, best) == (
        f"best of 3 runs, runs/a: expect its score to be {said} worse, by selection"
    )


def test_every_run_is_listed_with_what_was_changed(many: Project) -> None:
    found = ledger(many.folder)
    assert [row.path for row in found.rows] == [
        *("runs/run", "runs/two", "runs/three", "runs/four"),
        *("runs/acc", "runs/damaged"),
    ]
    assert found.row("runs/run").changed == ""
    two, three = found.row("runs/two"), found.row("runs/three")
    assert (two.nearest, two.changed) == ("runs/run", "levels.base.tree.params.max_depth: 3 → 2")
    assert (three.nearest, three.changed) == ("runs/two", "levels.base.linear.params.C: – → 0.1")
    assert "run.json" in found.row("runs/damaged").summary.problem
    scores = many.scores()
    assert found.row("runs/run").summary.score == scores["auto"]["score"]
    by_metric = {group.metric: group for group in found.groups}
    assert by_metric["accuracy"].paths == ("runs/acc",) and by_metric["accuracy"].sentences == ()
    order = [found.row(path).summary.score for path in by_metric["log_loss"].paths]
    assert order == sorted(order)
    by_score = [row.path for row in ledger(many.folder, sort="score").rows]
    assert by_score == [*by_metric["log_loss"].paths, "runs/acc", "runs/damaged"]


def test_no_name_of_an_option_is_broken_where_there_is_no_room(
    many: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackfeat.cli.ledger_text._width", lambda: 80)
    lines = many.cli("runs", many.folder).out.splitlines()
    assert "runs/two: levels.base.tree.params.max_depth: 3 → 2 (from runs/run)" in lines
    assert not any("what changed" in line for line in lines)


def test_the_optimism_of_the_best_is_that_of_paired_resamples(many: Project) -> None:
    group = next(group for group in ledger(many.folder).groups if group.metric == "log_loss")
    assert group.n_paired == 4 and group.optimism is not None
    # By hand, on other resamples: submitted members are the same in all folds of these runs.
    y = np.searchsorted(["high", "low", "mid"], pd.read_csv(many.folder / "train.csv")["label"])
    losses = []
    for path in group.paths:
        submitted = json.loads((many.folder / path / "scores.json").read_text())
        assert {*(submitted["auto"] or {"choices": {}})["choices"].values()} <= {submitted["submitted"]}
        file = submitted["members"][submitted["submitted"]]["file"]
        proba = pd.read_csv(many.folder / path / "oof" / file).iloc[:, 1:].to_numpy()
        losses.append(-np.log(proba[np.arange(80), y]))
    values, random, hidden = np.stack(losses, axis=1), np.random.default_rng(5), []
    for _ in range(4000):
        drawn = values[random.integers(0, 80, 80)].mean(axis=0)
        best = drawn.argmin()
        hidden.append(values.mean(axis=0)[best] - drawn[best])
    assert group.optimism == pytest.approx(float(np.mean(hidden)), rel=0.35, abs=0.002)
    assert f"best of 4 runs, {group.paths[0]}: expect its score to be " in group.sentences[0]
    shutil.rmtree(many.folder / ".stackfeat")
    group = next(group for group in ledger(many.folder).groups if group.metric == "log_loss")
    assert group.optimism is None
    assert "is not known, as the rows of none of them can be read and paired" in group.sentences[0]


def test_public_scores_are_compared_with_those_of_cross_validation(many: Project) -> None:
    paths = [f"runs/{name}" for name in ("run", "two", "three", "four")]

    def told(*public: float) -> str:
        for path, score in zip(paths, public, strict=False):
            add_note(many.folder / path, lb=score)
        group = next(group for group in ledger(many.folder).groups if group.metric == "log_loss")
        return group.sentences[-1]

    assert (
        told(1.0, 1.1)
        == "public scores of at least 3 runs tell whether cross-validation can be trusted; 2 noted"
    )
    scores = [float(ledger(many.folder).row(path).summary.score or 0) for path in paths]
    text = told(*(score + 0.25 for score in scores))
    assert text.startswith(
        "too little to tell whether cross-validation can be trusted: rank correlation 1.00 (95 %: "
    )
    assert text.endswith("over 4 runs with public scores; these are 0.25 worse on average")
    group = next(group for group in ledger(many.folder).groups if group.metric == "log_loss")
    assert group.correlation is not None and group.mean_gap == pytest.approx(0.25)
    public = [5.0, 3.0, 7.0, 4.0]
    text = told(*public)
    assert f"rank correlation {stats.spearmanr(scores, public).statistic:.2f} " in text
    assert told(1.0, 1.0, 1.0, 1.0).startswith(
        "the 4 public scores, or the scores out of fold, are all equal"
    )


@pytest.mark.parametrize(
    ("turn", "verdict"), [(1, "can be trusted to order runs: "), (-1, "contradicts the public")]
)
def test_eight_runs_in_one_order_decide(turn: int, verdict: str, plain: Project) -> None:
    for number in range(8):
        folder = plain.folder / "runs" / f"copy{number}"
        shutil.copytree(plain.run_folder, folder)
        scores = json.loads((folder / "scores.json").read_text())
        scores["auto"]["score"] = 0.5 + number
        (folder / "scores.json").write_text(json.dumps(scores))
        add_note(folder, lb=turn * number)
    (group,) = ledger(plain.folder).groups
    assert any(text.startswith(f"cross-validation {verdict}") for text in group.sentences), group.sentences


def test_the_picture_is_the_same_bytes_and_its_numbers_stand_beside_it(many: Project, tmp_path: Path) -> None:
    for number, name in enumerate(("run", "two", "three")):
        add_note(many.folder / "runs" / name, lb=0.8 + number / 100, private=0.7 if number == 1 else None)
    for name in ("one", "other"):
        said = many.cli("runs", many.folder, "--picture", tmp_path / f"{name}.svg")
        assert said.code == 0, said.err
        assert f"wrote {tmp_path / name}.svg" in said.out and f"wrote {tmp_path / name}.csv" in said.out
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "other.svg").read_bytes()
    ElementTree.fromstring(drawn)
    assert b"runs/three" in drawn and not re.search(rb"20\d\d-\d\d-\d\d", drawn)
    with (tmp_path / "one.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert {name: float(row["public"]) for name, row in rows.items()} == {
        "runs/run": 0.8,
        "runs/two": 0.81,
        "runs/three": 0.8 + 2 / 100,
    }
    assert rows["runs/two"]["private"] == "0.7" and rows["runs/run"]["private"] == ""
    assert float(rows["runs/run"]["score"]) == many.scores()["auto"]["score"]


def test_a_picture_needs_points_and_a_name(many: Project, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"needs the public scores of at least 2 runs over the same data; got 0"
    ):
        ledger(many.folder).public_scores()
    for name in ("run", "two"):
        add_note(many.folder / "runs" / name, lb=0.8)
    said = many.cli("runs", many.folder, "--picture", tmp_path / "x.png")
    assert said.code == 2 and "must be a file that ends in .svg; got" in said.err
    said = many.cli("runs", many.folder, "--picture", tmp_path / "x.svg", "-o", tmp_path / "x.csv")
    assert said.code == 2 and "must be another file than the picture's numbers" in said.err
    assert list(tmp_path.glob("x.*")) == []


def test_no_file_of_a_run_is_replaced_by_a_list(many: Project) -> None:
    folder = many.folder / "runs" / "two"
    before = (folder / "leaderboard.csv").read_bytes()
    listed = many.cli("runs", many.folder, "-o", folder / "leaderboard.csv")
    drawn = many.cli("runs", many.folder, "--picture", folder / "leaderboard.svg")
    compared = many.cli("compare", many.run_folder, folder, "-o", folder / "leaderboard.csv")
    for said, option in ((listed, "--output"), (drawn, "--picture"), (compared, "--output")):
        assert said.code == 2 and f"{option} must be a file of its own" in said.err
    assert (folder / "leaderboard.csv").read_bytes() == before


def test_the_command_lists_what_its_json_and_csv_hold(many: Project, tmp_path: Path) -> None:
    add_note(many.folder / "runs" / "two", lb=0.8123, text="a\x1b[31m remark")
    said = many.cli("runs", many.folder, "-o", tmp_path / "runs.csv")
    assert said.code == 0, said.err
    assert "\x1b" not in said.out and max(map(len, said.out.splitlines()[:12])) <= 200
    found = json.loads(many.cli("runs", many.folder, "--json").out)
    words = re.sub(r"\s+", "", said.out)
    for run in found["runs"]:
        assert run["path"] in words
        assert run["problem"].replace(" ", "") in words and re.sub(r"\s+", "", run["changed"]) in words
    for group in found["groups"]:
        assert all(text in said.out for text in group["sentences"])
    with (tmp_path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [run["path"] for run in found["runs"]]
    assert rows[1]["public"] == "0.8123" and float(rows[1]["score"]) == found["runs"][1]["score"]


def test_folders_without_runs_are_said(tmp_path: Path, plain: Project) -> None:
    (tmp_path / "empty").mkdir()
    said = plain.cli("runs", tmp_path / "empty")
    assert (said.code, said.out) == (0, f"no run folders in {tmp_path / 'empty'}\n")
    with pytest.raises(UsageError, match=r"DIR must be a folder; got .*, which is not there"):
        ledger(tmp_path / "absent")


def test_runs_of_other_versions_and_other_data_stand_apart(many: Project) -> None:
    old = many.folder / "runs" / "old"
    shutil.copytree(many.run_folder, old)
    values = json.loads((old / "run.json").read_text())
    from stackfeat.store.manifest import seal

    (old / "run.json").write_bytes(seal({**values, "format": 0}))
    (old / "provenance.json").unlink()
    found = ledger(many.folder)
    row = found.row("runs/old")
    assert "of another version of stackfeat" in row.summary.problem
    assert row.summary.score == many.scores()["auto"]["score"] and row.data != found.row("runs/run").data
