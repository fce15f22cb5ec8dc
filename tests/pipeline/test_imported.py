"""Somebody else's predictions as a member: aligned, checked, stored, voted over, and left out again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Project = Any
CLASSES = ("high", "low", "mid")
Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def with_mate(project: Project, **files: Any) -> Project:
    """Add an imported member, and let the meta-learner and the votes read it."""
    config = project.config()
    config["levels"]["base"]["mate"] = {
        "predictions": {"oof": "mate_oof.csv", "test": "mate_test.csv", **files}
    }
    return project.write(config)


def with_files_of_a_mate(quick: Project) -> Project:
    """Give a finished run the files of a team mate: the very predictions of its own linear member."""
    for part in ("oof", "test"):
        rows = read_rows(quick.run_folder / part / "base.linear.csv")
        order = np.random.default_rng(0).permutation(len(rows))
        # Other order of rows and columns, another name of the id.
        shuffled = [{"mid": rows[i]["mid"], "row_id": rows[i]["id"], **rows[i]} for i in order]
        write_rows(
            quick.folder / f"mate_{part}.csv", [{k: v for k, v in r.items() if k != "id"} for r in shuffled]
        )
    shutil.copy(quick.run_folder / "folds.csv", quick.folder / "mate_folds.csv")
    return with_mate(quick)


@pytest.fixture
def new_mate(quick: Project) -> Project:
    """A project with files that no run has read yet."""
    return with_files_of_a_mate(quick)


@pytest.fixture(scope="module")
def mate_run(quick_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = with_files_of_a_mate(quick_run.copy(tmp_path_factory.mktemp("mate") / "project"))
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.fixture
def mate(mate_run: Project, tmp_path: Path) -> Project:
    """A project with files of a team mate, and a finished run of it."""
    return mate_run.copy(tmp_path / "mate")


def change(project: Project, part: str, edit: Callable[[list[Row]], list[Row] | None]) -> Project:
    """Edit the rows of a file in place."""
    path = project.folder / f"mate_{part}.csv"
    rows = read_rows(path)
    write_rows(path, edit(rows) or rows)
    return project


def test_files_are_aligned_by_id_and_go_through_the_stack_as_any_member(
    new_mate: Project, fits: list[str]
) -> None:
    mate = new_mate
    said = mate.run()
    assert said.code == 0, said.err
    # The linear member itself is not fitted again.
    assert "sklearn.linear_model.LogisticRegression" not in fits
    scores = mate.scores()
    own, imported = scores["members"]["base/linear"], scores["members"]["base/mate"]
    assert imported["score"] == pytest.approx(own["score"], abs=1e-9)
    assert imported["folds"] == pytest.approx(own["folds"], abs=1e-9)
    for part in ("oof", "test"):
        ours = read_rows(mate.run_folder / part / "base.linear.csv")
        theirs = read_rows(mate.run_folder / part / "base.mate.csv")
        assert [row["id"] for row in ours] == [row["id"] for row in theirs]
        for name in CLASSES:
            assert [float(r[name]) for r in theirs] == pytest.approx([float(r[name]) for r in ours], abs=1e-9)
    assert imported["reports"]["0/0"] == {"imported": True, "one_view": True}
    assert any("base/mate/proba" in json.dumps(m["reports"]) for m in scores["members"].values())


def test_a_second_run_reads_nothing_again_and_another_byte_does(
    mate: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.engine.external import predictions

    assert mate.run().code == 0
    first = mate.outputs()
    read: list[str] = []
    made = predictions.read_predictions
    monkeypatch.setattr(
        predictions, "read_predictions", lambda path, *a, **k: read.append(path.name) or made(path, *a, **k)
    )
    assert mate.run().code == 0
    assert mate.outputs() == first and not read

    def nudge(rows: list[Row]) -> None:
        rows[0]["low"], rows[0]["mid"], rows[0]["high"] = "0.2", "0.3", "0.5"

    change(mate, "oof", nudge)
    assert mate.run().code == 0
    assert read == ["mate_oof.csv", "mate_test.csv"]
    assert mate.outputs()["oof/base.mate.csv"] != first["oof/base.mate.csv"]
    assert mate.outputs()["oof/base.gbm.csv"] == first["oof/base.gbm.csv"]


def test_a_renamed_file_is_found_in_the_store(mate: Project, fits: list[str]) -> None:
    assert mate.run().code == 0
    (mate.folder / "mate_oof.csv").rename(mate.folder / "other.csv")
    fits.clear()
    assert with_mate(mate, oof="other.csv").run().code == 0
    assert fits == []


WRONG: dict[str, tuple[Callable[[list[Row]], list[Row] | None], str]] = {
    "missing row": (lambda rows: rows[1:], r"ids: .*1 of 160 are missing: ids '\d+'"),
    "doubled row": (lambda rows: [*rows, rows[0]], r"ids in 'row_id' must be unique"),
    "empty cell": (lambda rows: [{**rows[0], "mid": ""}, *rows[1:]], "1 out-of-fold rows have empty cells"),
    "not a number": (
        lambda rows: [{**rows[0], "mid": "x"}, *rows[1:]],
        "every cell must be a number; got 'x'",
    ),
    "above one": (lambda rows: [{**rows[0], "mid": "1.2"}, *rows[1:]], r"must lie in \[0, 1\]; got 1.2"),
    "sum": (
        lambda rows: [{**rows[0], "mid": "0.9", "low": "0.9"}, *rows[1:]],
        "must sum to 1 within 0.01",
    ),
    "no class": (
        lambda rows: [{("middle" if k == "mid" else k): v for k, v in row.items()} for row in rows],
        r"missing: mid; got .*Did you mean 'middle'\?",
    ),
    "no id": (
        lambda rows: [{("rowid" if k == "row_id" else k): v for k, v in row.items()} for row in rows],
        r"must have the id column 'row_id' .*Did you mean 'rowid'\?",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_are_refused_before_anything_is_computed(
    what: str, mate: Project, fits: list[str]
) -> None:
    edit, message = WRONG[what]
    said = change(mate, "oof", edit).run("--set", "seed=7")
    assert said.code == 3 and not fits
    assert "base/mate: " in said.err
    _search(message, said.err)


def _search(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), text


def test_all_failures_of_all_members_are_named_at_once(mate: Project) -> None:
    change(mate, "oof", lambda rows: rows[2:])
    change(mate, "test", lambda rows: rows[1:])
    said = mate.run()
    assert said.code == 3
    assert "2 of 160 are missing" in said.err and "1 of 40 are missing" in said.err


@pytest.mark.parametrize(("claimed", "code"), [("right", 0), ("rounded", 0), (0.1, 3)])
def test_a_claimed_score_is_recomputed(claimed: Any, code: int, mate: Project) -> None:
    own = mate.scores()["members"]["base/linear"]["score"]
    value = {"right": own, "rounded": round(own, 2)}.get(claimed, claimed)
    said = with_mate(mate, score=value).run()
    assert said.code == code
    assert code == 0 or "claimed was 0.1" in said.err


def test_folds_are_compared_with_those_of_the_run(mate: Project) -> None:
    assert with_mate(mate, folds="mate_folds.csv").run().code == 0
    warnings = mate.scores()["warnings"]
    assert not [text for text in warnings if "base/mate: folds" in text]

    def other(rows: list[Row]) -> None:
        for i, row in enumerate(rows):
            row["fold"] = str(i % 3)

    change(mate, "folds", other)
    assert mate.run().code == 0
    (text,) = [text for text in mate.scores()["warnings"] if "base/mate: folds" in text]
    assert "other folds than the run's" in text


def test_rows_of_models_that_saw_their_labels_are_suspected(mate: Project) -> None:
    labels = {row["row_id"]: row["label"] for row in read_rows(mate.folder / "train.csv")}

    def leak(rows: list[Row]) -> None:
        for row in rows:
            for name in CLASSES:
                row[name] = "0.98" if labels[row["row_id"]] == name else "0.01"

    assert change(mate, "oof", leak).run().code == 0
    warnings = "\n".join(mate.scores()["warnings"])
    assert "base/mate: OOF like test: two-sample AUC" in warnings and "surer than test rows" in warnings
    assert "base/mate: its out-of-fold log_loss of 0.0202" in warnings
    assert "far above that of the best member" in warnings
    own = [text for text in warnings.splitlines() if text.startswith(("base/gbm", "base/linear"))]
    assert not own


def test_trees_do_not_read_one_test_file_unless_allowed(mate: Project) -> None:
    config = mate.config()
    config["levels"]["meta"]["trees"] = {
        "estimator": "sklearn.ensemble.ExtraTreesClassifier",
        "params": {"n_estimators": 10},
        "inputs": ["base/*/proba"],
    }
    said = mate.write(config).run()
    assert said.code == 2
    _search(r"levels.meta.trees.inputs: meta/trees is made of trees and reads 'base/mate/proba'", said.err)
    assert "allow_early: true" in said.err
    config["levels"]["base"]["mate"]["allow_early"] = True
    assert mate.write(config).run().code == 0


def test_a_test_file_of_each_fold_gives_each_pipeline_its_own_row(mate: Project) -> None:
    rows = read_rows(mate.folder / "mate_test.csv")
    for fold, share in enumerate((0.2, 0.3, 0.4)):
        part = [{**row, "low": str(share), "mid": "0.25", "high": str(0.75 - share)} for row in rows]
        write_rows(mate.folder / f"mate_test{fold}.csv", part)
    assert with_mate(mate, test="mate_test{fold}.csv").run("--set", "submit=mate").code == 0
    lows = {float(row["low"]) for row in read_rows(mate.run_folder / "test" / "base.mate.csv")}
    assert np.allclose(list(lows), 0.3)
    from stackfeat.config import load_config
    from stackfeat.pipeline.prepare import make_planner, open_store

    loaded = load_config(mate.folder / "c.yaml")
    plan = make_planner(loaded, store := open_store(loaded)).plan()
    for fold, share in enumerate((0.2, 0.3, 0.4)):
        key, name = plan.view_place("base/mate/proba", 0, fold, "fold")
        assert np.allclose(store.read(key).array(name)[:, CLASSES.index("low")], share)
    (mate.folder / "mate_test2.csv").unlink()
    said = mate.run()
    assert said.code == 2 and "there is no file 'mate_test2.csv'" in said.err


def predict(project: Project, data: str, *more: str) -> Any:
    out = project.folder / "out.csv"
    return project.cli("predict", project.run_folder, project.folder / data, "-o", out, *more)


def test_predicting_needs_the_rows_to_be_in_the_files(mate: Project) -> None:
    assert mate.run("--set", "submit=final/soft").code == 0
    assert predict(mate, "test.csv").code == 0
    assert (mate.folder / "out.csv").read_bytes() == (mate.run_folder / "submission.csv").read_bytes()
    later = [{**row, "row_id": f"new{i}"} for i, row in enumerate(read_rows(mate.folder / "test.csv"))]
    write_rows(mate.folder / "later.csv", later)
    said = predict(mate, "later.csv")
    assert said.code == 3
    _search(r"in the files of base/mate; 40 ids have none: 'new0', 'new1'", said.err)
    assert "--without" in said.err


def test_votes_do_without_a_member_and_fitted_members_do_not(mate: Project) -> None:
    config = mate.config()
    config["levels"]["final"]["plain"] = {"vote": "soft", "inputs": ["base/*/proba"], "weights": [1, 2, 5]}
    assert mate.write(config).run("--set", "submit=final/plain").code == 0
    later = [{**row, "row_id": f"new{i}"} for i, row in enumerate(read_rows(mate.folder / "test.csv"))]
    write_rows(mate.folder / "later.csv", later)
    said = predict(mate, "later.csv", "--without", "base/mate")
    assert said.code == 0, said.err
    parts = [read_rows(mate.run_folder / "test" / f"base.{name}.csv") for name in ("gbm", "linear")]
    for i, row in enumerate(read_rows(mate.folder / "out.csv")):
        wanted = [(float(parts[0][i][c]) + 2 * float(parts[1][i][c])) / 3 for c in CLASSES]
        assert [float(row[c]) for c in CLASSES] == pytest.approx(wanted, abs=1e-9)
    assert predict(mate, "test.csv", "--without", "mat").err.count("Did you mean")
    assert mate.run("--set", "submit=final/soft").code == 0
    said = predict(mate, "later.csv", "--without", "mate")
    assert said.code == 2
    _search(r"meta/gated was fitted with 'base/mate/proba'.*--without meta/gated", said.err)
    assert predict(mate, "later.csv", "--without", "mate", "--without", "meta/gated").code == 0
    said = predict(mate, "later.csv", "--without", "final/soft")
    assert said.code == 2 and "must leave the submitted member" in said.err


def test_held_out_rows_come_from_the_out_of_fold_file(mate: Project) -> None:
    said = mate.run("--set", "stack.holdout=0.25")
    assert said.code == 0, said.err
    held = {row["id"]: row for row in read_rows(mate.run_folder / "holdout" / "base.mate.csv")}
    theirs = {row["row_id"]: row for row in read_rows(mate.folder / "mate_oof.csv")}
    assert len(held) == 40
    for identity, row in held.items():
        assert float(row["low"]) == pytest.approx(float(theirs[identity]["low"]), abs=1e-9)


def test_a_nested_member_reads_imported_rows_as_they_are(mate: Project) -> None:
    config = mate.config()
    config["levels"]["base"]["mate"]["allow_early"] = True
    config["levels"]["meta"]["beside"] = {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "inputs": ["base/*/proba", "table"],
    }
    said = mate.write(config).run()
    assert said.code == 0 and mate.scores()["failed"] == [], said.err


@pytest.mark.parametrize("averaging", ["early", "refit"])
def test_every_averaging_takes_the_one_row(averaging: str, mate: Project) -> None:
    said = mate.run("--set", f"stack.averaging={averaging}", "--set", "submit=mate")
    assert said.code == 0, said.err
    assert predict(mate, "test.csv").code == 0


def test_values_are_imported_on_the_scale_of_the_target(build: Any, make_config: Any) -> None:
    project = build("regression", make_config("regression", "rmsle"))
    assert project.run().code == 0
    for part in ("oof", "test"):
        shutil.copy(project.run_folder / part / "base.linear.csv", project.folder / f"mate_{part}.csv")
    assert with_mate(project).run().code == 0
    members = project.scores()["members"]
    assert members["base/mate"]["score"] == pytest.approx(members["base/linear"]["score"], rel=1e-6)


def test_npy_files_need_ids_and_an_order_of_classes(mate: Project) -> None:
    rows = {part: read_rows(mate.folder / f"mate_{part}.csv") for part in ("oof", "test")}
    order = ("mid", "high", "low")
    for part, listed in rows.items():
        np.save(mate.folder / f"{part}.npy", [[float(row[name]) for name in order] for row in listed])
        np.save(mate.folder / f"{part}_ids.npy", [row["row_id"] for row in listed])
    said = with_mate(mate, oof="oof.npy", test="test.npy").run()
    assert said.code == 3 and "an npy file has no ids" in said.err
    ids = {"oof_ids": "oof_ids.npy", "test_ids": "test_ids.npy"}
    assert with_mate(mate, oof="oof.npy", test="test.npy", **ids).run().code == 0
    (text,) = [text for text in mate.scores()["warnings"] if "base/mate: classes" in text]
    assert "[mid, high, low]" in text
    assert with_mate(mate, oof="oof.npy", test="test.npy", classes=list(order), **ids).run().code == 0
    members = mate.scores()["members"]
    assert members["base/mate"]["score"] == pytest.approx(members["base/linear"]["score"], abs=1e-9)


def test_the_dry_run_prints_the_same_checks_and_stores_nothing(new_mate: Project) -> None:
    mate = new_mate
    before = {path for path in mate.folder.rglob("*") if path.is_file() and path.name != "file-hashes.json"}
    said = mate.cli("import", mate.folder / "c.yaml")
    assert said.code == 0, said.err
    for name in ("base/mate", "ids", "values", "score", "folds", "views", "OOF like test", "accepted"):
        assert name in said.out
    change(mate, "oof", lambda rows: rows[1:])
    said = mate.cli("import", mate.folder / "c.yaml")
    assert said.code == 3 and "FAILED" in said.out and "refused: 1 failed" in said.out
    after = {path for path in mate.folder.rglob("*") if path.is_file() and path.name != "file-hashes.json"}
    assert after == before


def test_the_dry_run_checks_files_that_no_config_names(
    mate: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = mate.config()
    del config["levels"]["base"]["mate"]
    mate.write(config)
    said = mate.cli("import", mate.folder / "c.yaml")
    assert said.code == 2 and "there must be predictions to check" in said.err
    monkeypatch.chdir(mate.folder)
    files = ["--oof", "mate_oof.csv", "--test", "mate_test.csv", "--folds", "mate_folds.csv"]
    said = mate.cli("import", "c.yaml", *files, "--score", "0.05")
    assert said.code == 3 and "claimed was 0.05" in " ".join(said.out.split())
    assert mate.cli("import", "c.yaml", *files).code == 0


def test_an_audit_says_what_it_cannot_prove_and_judges_the_rest(mate: Project) -> None:
    assert mate.run().code == 0
    said = mate.cli("audit", mate.run_folder, "--permutations", "1", "--rows", "60", "--jobs", "1")
    found = json.loads((mate.run_folder / "audit.json").read_text())
    blocks = found["provenance"]["blocks"]
    assert blocks["base/gbm/proba"]["proven"] and not blocks["base/gbm/proba"]["made_elsewhere"]
    assert not blocks["base/mate/proba"]["proven"] and blocks["base/mate/proba"]["faults"] == []
    assert "through base/mate, made elsewhere" in blocks["final/soft/proba"]["indirect"]
    assert "made from files" in found["null"]["failed"]["base/mate"]
    assert {v["member"] for v in found["null"]["verdicts"]} >= {"base/gbm", "final/soft"}
    assert "not provable" in said.out


def test_one_row_for_all_folds_is_noted_with_its_likeness(mate: Project) -> None:
    assert mate.run().code == 0
    report = (mate.run_folder / "report.html").read_text().replace("<wbr>", "")
    assert "one test file: its row stands for the models of all folds" in report
    assert "base/mate: OOF like test: two-sample AUC 0." in report


def test_rows_that_no_time_fold_predicts_need_not_be_there(mate: Project) -> None:
    config = mate.config()
    config["data"] |= {"time": "a"}
    for name in ("train.csv", "test.csv"):
        rows = read_rows(mate.folder / name)
        write_rows(mate.folder / name, [{**row, "a": str(i)} for i, row in enumerate(rows)])
    # The first quarter is never predicted.
    kept = {row["row_id"] for row in read_rows(mate.folder / "train.csv")[40:]}
    change(mate, "oof", lambda rows: [row for row in rows if row["row_id"] in kept])
    said = mate.write(config).run("--set", "folds.n=3")
    assert said.code == 0, said.err
    assert mate.scores()["failed"] == [] and "base/mate" in mate.scores()["members"]


def test_a_plan_is_made_without_reading_the_files(mate: Project) -> None:
    said = mate.cli("check", mate.folder / "c.yaml", "--set", "store=new")
    assert said.code == 0, said.err
    assert "mate: 3 of 3 jobs to compute" in said.out and not (mate.folder / "new").exists()
