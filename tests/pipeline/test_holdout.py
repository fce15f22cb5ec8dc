"""stack.holdout from the command line: what is printed, written, predicted later, and refused."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pages import Page

Project = Any


@pytest.fixture(scope="module")
def held_run(net_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a finished run with a fifth of the rows held out."""
    project = net_run.copy(tmp_path_factory.mktemp("held") / "project")
    config = project.config()
    config["stack"] = {"holdout": 0.2}
    config["submit"] = "meta/trees"
    said = project.write(config).run()
    assert said.code == 0, said.err
    (project.folder / "said.txt").write_text(said.out + said.err)
    return project


def held_files(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(project.run_folder.glob("holdout/*"))}


def leaderboard(project: Project) -> list[dict[str, str]]:
    with (project.run_folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_member_has_its_holdout_score_in_every_place(held_run: Project) -> None:
    rows = leaderboard(held_run)
    assert list(rows[0])[:10] == [
        *(
            "level",
            "member",
            "metric",
            "score",
            "se",
            "fold_mean",
            "holdout",
            "holdout_se",
            "fold_0",
            "fold_1",
        )
    ]
    scores, page = held_run.scores(), Page.of(held_run.run_folder / "report.html")
    printed = (held_run.folder / "said.txt").read_text()
    assert "holdout  holdout_se" in printed
    assert scores["holdout"] == {"n_rows": 32} and "32 held-out rows" in page.text
    assert "held out of all levels: 32 of 160 rows (20.0%), classes in proportion" in page.text
    assert "on held-out rows" in page.table("Weights of")[0]
    shown = {f"{row['level']}/{row['member'].split()[0]}": row for row in page.table("All members")}
    assert len(rows) == 7
    for row in rows:
        found = scores["members"][f"{row['level']}/{row['member']}"]
        assert [found["holdout"], found["holdout_se"]] == [float(row["holdout"]), float(row["holdout_se"])]
        assert float(shown[f"{row['level']}/{row['member']}"]["holdout"]) == pytest.approx(
            found["holdout"], abs=0.01
        )
        # To the second digit of the standard error of the score.
        places = 1 - math.floor(math.log10(float(row["se"])))
        assert f"{float(row['holdout']):.{places}f}" in printed


def test_the_files_say_which_rows_were_held_out(held_run: Project) -> None:
    with (held_run.run_folder / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "repeat", "fold", "holdout"] and len(rows) == 160
    held = [row["id"] for row in rows if row["holdout"] == "True"]
    assert len(held) == 32 and held == [row["id"] for row in rows if row["fold"] == "-1"]
    for folder, ids in (("holdout", held), ("oof", [row["id"] for row in rows if row["fold"] != "-1"])):
        with (held_run.run_folder / folder / "meta.trees.csv").open(newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == ids
    assert len(held_files(held_run)) == 7


def test_a_second_run_computes_nothing_and_later_rows_get_the_submission(
    held_run: Project, fits: list[str], tmp_path: Path
) -> None:
    project = held_run.copy(tmp_path / "again")
    before, held = project.outputs(), held_files(project)
    said = project.run()
    assert fits == [] and "jobs computed: 0" in said.err + said.out
    assert (project.outputs(), held_files(project)) == (before, held)
    shutil.rmtree(project.folder / ".stackfeat")
    out = project.folder / "out.csv"
    assert project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", out).code == 0
    assert out.read_bytes() == before["submission.csv"]


@pytest.mark.parametrize("averaging", ["late", "early", "refit"])
def test_held_out_rows_are_predicted_as_later_rows_are(
    averaging: str, held_run: Project, tmp_path: Path
) -> None:
    """The saved predictor, which has none of the rows, gives the very numbers of holdout/."""
    project = held_run.copy(tmp_path / "later")
    before = held_files(project)
    if averaging != "late":
        said = project.run("--set", f"stack.averaging={averaging}")
        assert said.code == 0, said.err
        assert held_files(project)["meta.trees.csv"] != before["meta.trees.csv"]
    with (project.run_folder / "holdout" / "meta.trees.csv").open(newline="") as file:
        wanted = list(csv.reader(file))
    ids = {row[0] for row in wanted[1:]}
    lines = (project.folder / "train.csv").read_text().splitlines()
    kept = [line for line in lines[1:] if line.split(",")[0] in ids]
    (project.folder / "held.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    out = project.folder / "out.csv"
    said = project.cli("predict", project.run_folder, project.folder / "held.csv", "-o", out)
    assert said.code == 0, said.err
    with out.open(newline="") as file:
        assert list(csv.reader(file))[1:] == wanted[1:]


@pytest.mark.slow
def test_the_number_of_jobs_changes_no_byte(held_run: Project, tmp_path: Path) -> None:
    project = held_run.copy(tmp_path / "jobs")
    for name in (".stackfeat", "runs"):
        shutil.rmtree(project.folder / name)
    assert project.run("--set", "executor={kind: loky, jobs: 2}").code == 0
    assert project.outputs() == held_run.outputs() and held_files(project) == held_files(held_run)


def test_the_seed_of_the_folds_alone_decides_who_is_held_out(quick: Project) -> None:
    config = quick.config()
    quick.write(config | {"levels": {"base": {"linear": config["levels"]["base"]["linear"]}}})

    def folds(*changes: str) -> bytes:
        given = [part for change in ("stack.holdout=0.2", *changes) for part in ("--set", change)]
        assert quick.run(*given).code == 0
        content: bytes = quick.outputs()["folds.csv"]
        return content

    first = folds()
    assert folds("seed=7") == first
    assert folds("folds.seed=7") != first


def test_check_says_that_rows_are_held_out(held_run: Project) -> None:
    assert (
        "3 folds (stratified), 20 % of the rows held out of all levels"
        in held_run.cli("check", held_run.folder / "c.yaml").out
    )


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["stack.holdout=0.6"], 2, "stack.holdout: must be a share from 0 to 0.5, or column; got 0.6"),
        (["stack.holdout=-0.1"], 2, "must be a share from 0 to 0.5, or column; got -0.1"),
        (["stack.holdout=some"], 2, "stack.holdout: must be a number or 'column'; got 'some'"),
        (
            ["stack.holdout=column"],
            2,
            "stack.holdout: column needs given folds; got folds of kind stratified",
        ),
        (
            ["data.fold=d", "stack.holdout=0.1"],
            2,
            "given folds (data.fold) need given held-out rows; got a share, 0.1",
        ),
        (["stack.holdout=0.03"], 3, "stack.holdout must hold out at least 10 rows"),
        (["stack.holdout=0.5", "folds.n=40"], 3, "(stack.holdout leaves 80 rows, without 80)"),
    ],
)
def test_a_holdout_that_cannot_be_is_explained(
    changes: list[str], code: int, message: str, quick: Project
) -> None:
    said = quick.run(*[part for change in changes for part in ("--set", change)])
    assert said.code == code
    assert message in said.err and "Traceback" not in said.err


def test_members_whose_holdout_score_is_undefined_are_listed_without_one(
    build: Any, make_config: Any
) -> None:
    config = make_config("regression", "narrow:score")
    config["stack"] = {"holdout": 0.2}
    project = build("regression", config)
    (project.folder / "narrow.py").write_text(
        "def score(y, p):\n    return float('nan') if len(y) < 50 else -abs(y - p).mean()\n"
    )
    said = project.run("--trust-code")
    assert said.code == 0, said.err
    assert {row["holdout"] + row["holdout_se"] for row in leaderboard(project)} == {""}
    # Nothing can be judged on these rows, so the OOF scores decide.
    scores = project.scores()
    assert scores["members"][scores["submitted"]]["holdout"] is None
    assert len(held_files(project)) == 5
