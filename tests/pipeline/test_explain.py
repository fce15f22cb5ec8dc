"""What a stack's predictions rest on: planted columns come first, intervals of noise columns cover zero."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import DataError, UsageError
from stackfeat.output.explanation import Explanation, read_explanation
from tests.projects import Build, Config, Project, base_config, plain_config

N_NOISE = 20


def planted(folder: Path, task: str, *, groups: bool = False, n_rows: int = 600) -> Project:
    """Return a project whose target depends on three columns of 23, in a shuffled order."""
    rng = np.random.default_rng(7)
    names = ["signal0", "signal1", "signal2", *(f"noise{j:02d}" for j in range(N_NOISE))]
    frame = pd.DataFrame(rng.normal(size=(n_rows, len(names))), columns=names)
    value = 1.2 * frame["signal0"] + frame["signal1"] - 1.5 * frame["signal2"] + rng.normal(0, 0.7, n_rows)
    group = np.arange(n_rows) // 10
    if groups:
        # A constant column of each group besides, and what the group adds: rows of one are alike.
        value += rng.normal(size=group.max() + 1)[group]
        frame["noise00"] = rng.normal(size=group.max() + 1)[group]
    frame = frame[rng.permutation(names).tolist()]
    cuts = {"binary": [0.0], "multiclass": [-0.8, 0.8]}
    labels = {"binary": np.array(["no", "yes"]), "multiclass": np.array(["low", "mid", "high"])}
    frame["label"] = value if task == "regression" else labels[task][np.digitize(value, cuts[task])]
    if groups:
        frame["family"] = group
    folder.mkdir()
    frame.rename_axis("row_id").to_csv(folder / "train.csv")
    metric = {"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}[task]
    config = base_config(task, metric)
    config["data"].pop("test")
    config["data"] |= {"group": "family"} if groups else {}
    config["levels"]["base"]["gbm"]["params"]["n_estimators"] = 40
    config["submit"] = "final/greedy"
    return Project(folder).write(config)


@pytest.mark.parametrize(
    ("task", "groups"),
    [("regression", False), ("binary", False), ("multiclass", False), ("regression", True)],
)
def test_planted_columns_come_first_and_noise_covers_zero(tmp_path: Path, task: str, groups: bool) -> None:
    project = planted(tmp_path / "planted", task, groups=groups)
    assert project.run().code == 0
    found = sf.explain(project.run_folder)
    assert {one.name for one in found.columns[:3]} == {"signal0", "signal1", "signal2"}
    assert all(one.stands_out for one in found.columns[:3])
    noise = found.columns[3:]
    assert len(noise) == N_NOISE
    for one in noise:
        assert one.se is not None and one.low is not None and one.high is not None
        assert one.low <= 0 <= one.high, one
        assert one.high < 0.5 * found.columns[2].importance
    # Standard errors are no larger than they must be: on their scale noise spreads as it should.
    spread = np.std([one.importance / one.se for one in noise if one.se])
    assert 0.4 < spread < 1.5
    assert found.units == ("blocks of whole groups" if groups else "blocks of rows")
    assert found.score == pytest.approx(project.scores()["members"]["final/greedy"]["score"])


def same(project: Project, **options: Any) -> Explanation:
    found = sf.explain(project.run_folder, **options)
    assert isinstance(found, Explanation)
    return found


def test_rows_as_they_are_score_what_the_leaderboard_says_under_a_metric_of_labels(build: Build) -> None:
    project = build("binary", plain_config("binary", "f1"))
    assert project.run("--set", "submit=final/soft").code == 0
    assert same(project).score == pytest.approx(project.scores()["members"]["final/soft"]["score"])


def test_ranks_are_taken_within_folds_as_the_run_took_them(build: Build) -> None:
    config = plain_config("binary", "roc_auc")
    config["stack"] = {"average": "rank"}
    project = build("binary", config)
    assert project.run("--set", "submit=final/soft").code == 0
    assert same(project).score == pytest.approx(project.scores()["members"]["final/soft"]["score"])


def test_the_file_is_listed_is_the_same_bytes_again_and_goes_with_its_results(plain: Project) -> None:
    assert read_explanation(plain.run_folder) is None
    found = same(plain, seed=3)
    path = plain.run_folder / "explain.json"
    first = path.read_bytes()
    assert read_explanation(plain.run_folder) == found
    # A run that finds all of its results stored keeps it, and may write the folder again.
    assert plain.run().code == 0 and path.read_bytes() == first
    assert same(plain, seed=3) == found and path.read_bytes() == first
    assert same(plain, seed=4) != found and path.read_bytes() != first
    path.write_bytes(path.read_bytes() + b" ")
    assert read_explanation(plain.run_folder) is None
    assert plain.run("--set", "levels.base.tree.params.max_depth=2").code == 0
    assert not path.exists()


def test_the_command_says_all_and_writes_a_csv(plain: Project) -> None:
    assert plain.run("--set", "submit=final/soft").code == 0
    out = plain.folder / "importance.csv"
    said = plain.cli("explain", plain.run_folder, "--top", 2, "-o", out)
    assert said.code == 0, said.err
    assert "final/soft on 80 rows (held-out rows, each through the pipeline that had not seen it)" in said.out
    assert "and 3 columns more" in said.out and "final/soft without base/tree: log_loss" in said.out
    assert "s of CPU; wrote " in said.out and "/explain.json, " in said.out and "columns" in said.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows].count("column") == 5
    assert {row["name"] for row in rows if row["what"] == "member"} == {"base/linear", "base/tree"}
    said = plain.cli("explain", plain.run_folder, "--json")
    values = json.loads(said.out)
    assert values.pop("cpu_seconds") >= 0
    assert values.pop("files") == [str(plain.run_folder / "explain.json")]
    assert values == json.loads((plain.run_folder / "explain.json").read_text())
    assert float(rows[0]["importance"]) == values["columns"][0]["importance"]
    assert [one["level"] for one in values["levels"]] == ["base", "final"]


def test_rows_of_a_file_are_explained_by_their_labels_or_by_how_far_predictions_move(plain: Project) -> None:
    assert plain.run("--set", "submit=final/soft").code == 0
    shutil.rmtree(plain.folder / ".stackfeat")
    labelled = same(plain, data=plain.folder / "train.csv")
    model, frame = sf.load(plain.run_folder), pd.read_csv(plain.folder / "train.csv")
    said = model.predict_proba(frame)
    codes = np.searchsorted(model.classes_, frame["label"])
    assert labelled.has_labels and labelled.of == "train.csv" and labelled.n_rows == 80
    assert labelled.score == pytest.approx(-np.log(said[np.arange(80), codes]).mean())
    assert labelled.columns[0].name == "a" and labelled.columns[0].stands_out
    moved = same(plain, data=plain.folder / "test.csv")
    assert not moved.has_labels and moved.score is None and moved.columns[0].name == "a"
    assert all(one.importance >= 0 for one in moved.columns) and "without labels" in moved.notes[0]
    assert not (plain.run_folder / "explain.json").exists()
    packed = plain.folder / "model.zip"
    assert plain.cli("export", plain.run_folder, "-o", packed).code == 0
    assert sf.explain(packed, plain.folder / "test.csv").columns == moved.columns
    said_too = plain.cli("explain", plain.run_folder, plain.folder / "test.csv")
    assert said_too.code == 0 and "how far predictions move with values of other rows" in said_too.out
    with pytest.raises(DataError, match="run's store must be there"):
        sf.explain(plain.run_folder)


def test_columns_that_say_the_same_are_named_and_permuted_together(build: Build) -> None:
    project = build("regression", plain_config("regression", "rmse"))
    frame = pd.read_csv(project.folder / "train.csv")
    frame.assign(twin=frame["a"] * 2 + 1).to_csv(project.folder / "train.csv", index=False)
    config = project.config()
    config["data"].pop("test")
    assert project.write(config).run("--set", "submit=base/linear").code == 0
    found = same(project)
    (group,) = found.groups
    assert group.name == "a, twin" and group.kind == "group"
    assert not found.members and not found.dropped
    said = project.cli("explain", project.run_folder)
    assert "a, twin say nearly the same, so each alone looks weaker than it is" in said.out


def test_a_vote_without_an_input_is_fitted_again_and_given_weights_are_shared_out(plain: Project) -> None:
    assert plain.run("--set", "submit=final/soft").code == 0
    found = same(plain)
    assert len(found.dropped) == 2
    members = plain.scores()["members"]
    whole = members["final/soft"]["score"]
    for one in found.dropped:
        (other,) = {"base/linear", "base/tree"} - {one.member}
        # What is left of the mean of two is the other one.
        assert one.loss == pytest.approx(members[other]["score"] - whole)


def test_features_and_gates_of_a_net_are_part_of_it(net: Project) -> None:
    found = same(net, rows=90, repeats=2)
    names = {one.name for one in found.blocks}
    assert "base/gbm/proba" in names and any("@" in name for name in names)
    assert found.gates and all(gate.member.startswith("meta/") for gate in found.gates)
    assert [level.level for level in found.levels] == ["base", "meta", "final"]


def test_folds_in_time_are_explained_by_blocks_of_time(build: Build) -> None:
    config: Config = plain_config("regression", "rmse")
    config["data"] |= {"time": "row_id"}
    config["data"].pop("id")
    config["folds"] = {"kind": "time", "n": 3}
    project = build("regression", config, 120)
    assert project.run("--set", "submit=final/soft").code == 0
    found = same(project)
    assert found.units == "blocks of rows in time" and found.n_rows < 120
    assert found.score == pytest.approx(project.scores()["members"]["final/soft"]["score"])


def test_imported_predictions_stay_as_they_are(build: Build) -> None:
    project = build("binary", plain_config("binary", "log_loss"))
    frame = pd.read_csv(project.folder / "train.csv", dtype={"row_id": str})
    rng = np.random.default_rng(0)
    sure = np.where(frame["label"] == "yes", 0.7, 0.3) + rng.uniform(-0.25, 0.25, len(frame))
    pd.DataFrame({"row_id": frame["row_id"], "no": 1 - sure, "yes": sure}).to_csv(
        project.folder / "theirs.csv", index=False
    )
    config = project.config()
    config["data"].pop("test")
    config["levels"]["base"]["theirs"] = {"predictions": {"oof": "theirs.csv"}}
    said = project.write(config).run("--set", "submit=final/soft")
    assert said.code == 0, said.err
    found = same(project)
    assert found.score == pytest.approx(project.scores()["members"]["final/soft"]["score"])
    assert any("predictions of base/theirs come from files" in note for note in found.notes)
    assert {one.name for one in found.members} == {"base/linear", "base/tree", "base/theirs"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rows", 5], "rows must be at least 20; got rows=5"),
        (["--repeats", 0], "repeats must be at least 1; got repeats=0"),
        (["--seed", -1], "seed must be at least 0; got seed=-1"),
        (["--seed", 2**63], "seed must be at most 9223372036854775807; got seed=9223372036854775808"),
        (["--top", 0], "--top must be at least 1; got --top 0"),
        (["-o", "run.json"], "--output must be a file of its own"),
        (["DATA", "--store", "s"], "--store is for held-out rows; got DATA"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_predicted(
    plain: Project, arguments: list[Any], text: str
) -> None:
    places = {"run.json": plain.run_folder / "run.json", "DATA": plain.folder / "test.csv"}
    said = plain.cli("explain", plain.run_folder, *[places.get(one, one) for one in arguments])
    assert said.code == 2 and text in " ".join(said.err.split())
    assert not (plain.run_folder / "explain.json").exists()


def test_a_file_that_lacks_some_labels_is_refused(plain: Project) -> None:
    frame = pd.read_csv(plain.folder / "train.csv")
    frame.loc[3, "label"] = np.nan
    frame.to_csv(plain.folder / "new.csv", index=False)
    with pytest.raises(DataError, match="must have a target"):
        sf.explain(plain.run_folder, plain.folder / "new.csv")
    with pytest.raises(UsageError, match="RUN must be the folder of a finished run"):
        sf.explain(plain.folder)
