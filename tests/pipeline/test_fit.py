"""fit, run without a config, and configs that leave members out: all are the run of what `init` writes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.config.scaffold import Wishes
from stackfeat.errors import DataError, UsageError
from stackfeat.output.digits import to_error
from stackfeat.pipeline import fit as module
from tests.projects import Project as Folder
from tests.projects import table, write_table

Project = Any
LINEAR = {"base": {"linear": {"estimator": "sklearn.linear_model.LogisticRegression"}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with train.csv and test.csv, in which first configs have members that take no time."""
    write_table(tmp_path / "train.csv", table("binary", 120, 0, True, 0))
    write_table(tmp_path / "test.csv", table("binary", 30, 600, False, 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the quickest members of first configs."""
    import stackfeat.config.scaffold as scaffold

    def written(preset: str, about: Any, limit: Any = None) -> Any:
        estimator = {"estimator": "sklearn.linear_model.LogisticRegression"}
        return iter([("linear", "a line", estimator, False)])

    monkeypatch.setattr(scaffold, "written_members", written)
    monkeypatch.setattr(scaffold, "read_by_meta", lambda *about: ["base/*/proba"])


def config_of(run_folder: Path) -> dict[str, Any]:
    from stackfeat.config.yaml_file import parse_yaml

    values: dict[str, Any] = parse_yaml((run_folder / "config.yaml").read_text()).values
    return values


@pytest.mark.usefixtures("few")
def test_files_frames_and_the_command_give_one_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_files = sf.fit("train.csv", target="label", test="test.csv", metric="roc_auc", name="files")
    said = capsys.readouterr().out
    assert "task: binary, guessed: two values: no and yes" in said
    train, test = (
        pd.read_csv("train.csv", dtype={"row_id": "str"}),
        pd.read_csv("test.csv", dtype={"row_id": "str"}),
    )
    by_frames = sf.fit(train, target="label", test=test, metric="roc_auc", name="frames", verbose=False)
    assert capsys.readouterr().out == ""
    assert by_frames.submission is not None and by_files.submission is not None
    assert by_frames.submission.read_bytes() == by_files.submission.read_bytes()
    assert by_files.folder == folder / "runs" / "files"
    assert "# guessed: two values" in by_files.config and "metric: roc_auc   # as told" in by_files.config
    again = sf.fit(train, target="label", test=test, metric="roc_auc", name="frames", verbose=False)
    assert again.n_computed == 0

    ran = Folder(folder).cli(
        "run", "train.csv", "--target", "label", "--test", "test.csv", "--metric", "roc_auc", "--limit", "10m"
    )
    assert ran.code == 0, ran.err
    assert ran.out.count("guessed: two values") == 1 and "jobs computed: 0" in ran.out
    assert ran.out.index("guessed") < ran.out.index("leaderboard"), "before the work begins"
    own = folder / "runs" / folder.name
    assert (own / "submission.csv").read_bytes() == by_files.submission.read_bytes()
    assert config_of(own)["limits"]["time"] == "10m"


@pytest.mark.usefixtures("few")
def test_a_run_of_another_frame_or_other_options_replaces_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv("train.csv", dtype={"row_id": "str"})
    first = sf.fit(frame, target="label", metric="roc_auc")
    assert first.folder == folder / "runs" / "fit" and "holds a run" not in capsys.readouterr().out
    report = (first.folder / "scores.json").read_bytes()
    other = sf.fit(frame.iloc[:-10], target="label", metric="roc_auc")
    assert other.folder == folder / "runs" / "fit-2"
    assert (
        "runs/fit holds a run of other data or other options; this one is in runs/fit-2"
        in capsys.readouterr().out
    )
    third = sf.fit(frame.iloc[:-10], target="label", metric="log_loss", verbose=False)
    assert third.folder == folder / "runs" / "fit-3"
    assert (first.folder / "scores.json").read_bytes() == report
    for one, metric, rows in ((first, "roc_auc", frame), (other, "roc_auc", frame.iloc[:-10])):
        again = sf.fit(rows, target="label", metric=metric, verbose=False)
        assert (again.folder, again.n_computed) == (one.folder, 0), "the very same call finds its own folder"


@pytest.mark.usefixtures("few")
def test_a_result_shows_itself_and_holds_what_it_found(folder: Path) -> None:
    result = sf.fit("train.csv", target="label", test="test.csv", verbose=False)
    assert repr(result).startswith("RunResult(") and len(repr(result)) < 200
    page = result._repr_html_()
    assert "<table" in page and "linear" in page and result.submitted in page and str(result.report) in page
    first = result.leaderboard.iloc[0]
    score, se = (to_error(first[name], first["se"]) for name in ("score", "se"))
    assert f">{score}</t" in page and f">{se}</t" in page, "as many digits as the error allows"
    assert page.count(f">{result.submitted}</th>") == 1, "the submitted member stands out"
    proba = result.predictor.predict_proba(pd.read_csv("test.csv"))
    assert result.submission is not None
    submission = pd.read_csv(result.submission, float_precision="round_trip")
    np.testing.assert_array_equal(proba[:, 1], submission.iloc[:, 1])
    oof = result.oof
    assert oof.shape == (120, 2 * len(result.leaderboard)) and oof.index.name == "id"
    assert oof.index[3] == "003" and "base/linear:yes" in oof
    np.testing.assert_array_equal(
        oof[["base/linear:no", "base/linear:yes"]], result.block("base/linear/proba").oof
    )


@pytest.mark.usefixtures("few")
def test_options_that_init_alone_has_are_named_as_its_own(folder: Path) -> None:
    path = folder / "towns.csv"
    path.write_bytes("town,y\nKöln,1\nUlm,0\n".encode("latin-1"))
    with pytest.raises(DataError, match="set --encoding of stackfeat init, such as"):
        sf.fit("towns.csv", target="y", verbose=False)
    ran = Folder(folder).cli("run", "towns.csv", "--target", "y")
    assert ran.code == 3 and "set --encoding of stackfeat init, such as" in ran.err


@pytest.mark.usefixtures("few")
def test_groups_are_a_column_or_an_array(folder: Path) -> None:
    frame = pd.read_csv("train.csv")
    groups = np.arange(120) // 4
    result = sf.fit(frame, target="label", groups=groups, verbose=False)
    folds = pd.read_csv(result.folder / "folds.csv")
    assert folds.groupby(groups)["fold"].nunique().eq(1).all()
    named = sf.fit(frame.assign(owner=groups), target="label", groups="owner", verbose=False)
    assert config_of(named.folder)["data"]["group"] == "owner"


@pytest.mark.usefixtures("few")
def test_the_task_is_told_or_guessed(folder: Path) -> None:
    told = sf.fit("train.csv", target="label", task="multiclass", verbose=False)
    assert config_of(told.folder)["task"] == "multiclass"
    assert re.search("task: multiclass +# as told", told.config)


def test_lists_of_a_ranking_are_a_column_or_an_array(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import stackfeat.config.scaffold as scaffold

    ridge = [("linear", "a line", {"estimator": "sklearn.linear_model.Ridge"}, False)]
    monkeypatch.setattr(scaffold, "written_members", lambda *about, **limit: iter(ridge))
    monkeypatch.setattr(scaffold, "read_by_meta", lambda *about: ["base/*/prediction"])
    rng, lists = np.random.default_rng(0), np.arange(120) // 6
    frame = pd.DataFrame(rng.normal(size=(120, 3)), columns=["a", "b", "c"])
    frame = frame.assign(page=lists, grade=np.clip(np.round(frame["a"] + 1), 0, 3).astype(int))
    frame.to_csv("pages.csv", index=False)
    by_array = sf.fit(frame.drop(columns="page"), target="grade", query=lists, verbose=False, name="array")
    assert config_of(by_array.folder)["data"]["query"] == "query"
    by_name = sf.fit(frame, target="grade", task="ranking", query="page", verbose=False, name="column")
    ran = Folder(folder).cli("run", "pages.csv", "--target", "grade", "--task", "ranking", "--query", "page")
    assert ran.code == 0, ran.err
    for run_folder in (by_array.folder, by_name.folder, folder / "runs" / "pages"):
        assert config_of(run_folder)["task"] == "ranking"
        assert pd.read_csv(run_folder / "folds.csv").groupby(lists)["fold"].nunique().eq(1).all()
    assert config_of(folder / "runs" / "pages")["data"]["query"] == "page"
    assert by_name.score == by_array.score > 0.8


@pytest.mark.usefixtures("few")
def test_a_config_of_four_lines_runs(folder: Path) -> None:
    lines = "train: train.csv\ntest: test.csv\ntarget: label\nmetric: roc_auc\n"
    (folder / "c.yaml").write_text(lines)
    checked = Folder(folder).cli("check", folder / "c.yaml")
    assert checked.code == 0 and "task: binary, guessed: two values" in checked.out
    result = sf.run(folder / "c.yaml")
    assert set(config_of(result.folder)["levels"]) == {"base", "meta", "final"}
    assert any("task: binary, guessed" in note for note in result.notes)
    assert result.submission is not None


@pytest.mark.usefixtures("few")
def test_the_first_level_may_be_auto_beside_others(folder: Path) -> None:
    data = {"train": "train.csv", "target": "label", "id": "row_id", "drop": ["d"]}
    mine = {"stack": {"estimator": "gated_linear", "inputs": ["base/*/proba"]}}
    config = {"data": data, "task": "binary", "metric": "log_loss", "levels": {"base": "auto", "my": mine}}
    (folder / "c.yaml").write_text(json.dumps(config))
    result = sf.run(folder / "c.yaml", overrides=["folds.n=3"])
    assert set(result.leaderboard["level"]) == {"base", "my"}
    written = config_of(result.folder)
    assert written["data"]["drop"] == ["d"] and written["folds"]["n"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: train.csv\ntarget: labl\nmetric: roc_auc\n",
            "data.target: .*must have the column 'labl'.*label",
        ),
        ("train: no.csv\ntarget: label\nmetric: roc_auc\n", "data.train: there is no file 'no.csv'"),
        ("train: ../x.csv\ntarget: label\nmetric: roc_auc\n", "paths stay inside the config's folder"),
        (
            "train: train.csv\ntarget: label\nmetric: auc_roc\n",
            "metric must be one of .*roc_auc.*; got .auc_roc",
        ),
        (
            "train: train.csv\ntarget: label\nlevels: {my: {a: {vote: soft, inputs: []}}, base: auto}\n",
            "first level",
        ),
        ("train: train.csv\ndata: {train: train.csv, target: label}\nmetric: roc_auc\n", "train"),
    ],
)
def test_a_short_config_that_is_wrong_says_where(text: str, message: str, folder: Path) -> None:
    (folder / "c.yaml").write_text(text)
    with pytest.raises((DataError, UsageError, sf_errors()), match=message):
        sf.run(folder / "c.yaml")


def sf_errors() -> Any:
    from stackfeat.errors import ConfigError

    return ConfigError


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train": "train.csv", "target": "labl"}, DataError, r"^target: .*'labl'.*[Dd]id you mean 'label'"),
        ({"train": "train.csv", "target": "label", "preset": "god"}, UsageError, r"preset must be.*good"),
        (
            {"train": np.zeros((2, 2)), "target": "y"},
            UsageError,
            r"train must be a DataFrame or a path; got ndarray",
        ),
        (
            {"train": "train.csv", "target": {"label"}},
            UsageError,
            r"target must be the name of a column.*got set",
        ),
        ({"train": "train.csv", "target": "label", "limit": "soon"}, UsageError, r"^limit must be a time"),
        (
            {"train": "train.csv", "target": "label", "groups": [1, 2]},
            UsageError,
            r"groups must name a column",
        ),
        ({"train": "train.csv", "target": "label", "metric": "auc"}, Exception, r"roc_auc"),
        (
            {"train": "train.csv", "target": "label", "task": "binery"},
            UsageError,
            r"task must be one of binary, .*got task='binery'",
        ),
        (
            {"train": "train.csv", "target": "label", "task": "ranking"},
            UsageError,
            r"task ranking needs the list of each row; got no query; name its column",
        ),
        (
            {"train": "train.csv", "target": "label", "task": "binary", "query": "a"},
            UsageError,
            r"^query names the lists of a ranking; got task binary",
        ),
        (
            {"train": "train.csv", "target": "label", "query": [1, 2]},
            UsageError,
            r"query must name a column where train is a file",
        ),
    ],
)
def test_a_call_that_makes_no_sense_says_why(
    arguments: dict[str, Any], error: Any, message: str, folder: Path
) -> None:
    with pytest.raises(error, match=message):
        sf.fit(**arguments)


def test_groups_of_another_length_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"groups must have a value for each of 120 rows; got shape \(3,\)"):
        sf.fit(pd.read_csv("train.csv"), target="label", groups=[1, 2, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "train.csv"], "--target"),
        (["run", "c.yaml", "--target", "label"], "--target is for a training file"),
        (["run", "c.yaml", "--task", "binary"], "--task is for a training file"),
        (["run", "c.yaml", "--query", "page"], "--query is for a training file"),
        (["run", "train.csv", "--target", "label", "--set", "seed=1"], "--set is for a config"),
    ],
)
def test_options_of_a_file_and_of_a_config_are_kept_apart(
    arguments: list[str], message: str, folder: Path
) -> None:
    (folder / "c.yaml").write_text("name: x\n")
    said = Folder(folder).cli(*arguments)
    assert said.code == 2 and message in said.err


def test_a_frame_of_mixed_cells_is_kept_as_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": [1, "x", None], "y": [0, 1, 0]})
    path = module._as_file(frame, "train", folder)
    assert path.suffix == ".csv" and path.parent == folder / ".stackfeat" / "frames"
    assert module._as_file(frame, "train", folder) == path


@pytest.mark.usefixtures("few")
def test_run_and_fit_print_that_dates_are_not_taken_as_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = pd.date_range("2024-01-01", periods=150)
    frame = pd.read_csv("train.csv").head(120).assign(day=days[:120].strftime("%Y-%m-%d"))
    frame.to_csv("dated.csv", index=False)
    rows = pd.read_csv("test.csv").head(30).assign(day=days[120:].strftime("%d/%m/%Y"))
    rows.to_csv("later.csv", index=False)
    said = "doubtful: day holds dates, but is not taken as time: 30 of 30 cells of it in later.csv"
    sf.fit("dated.csv", target="label", test="later.csv")
    assert said in capsys.readouterr().out
    ran = Folder(folder).cli("run", "dated.csv", "--target", "label", "--test", "later.csv")
    assert ran.code == 0, ran.err
    assert (
        ran.out.count(said) == 1
        and "dates like 2026-11-21" in ran.out
        and "`stackfeat init --time day`" in ran.out
    )


def test_where_all_rows_to_predict_are_later_a_twin_that_reads_the_date_knows_the_newest_level(
    tmp_path: Path,
) -> None:
    random, place = np.random.default_rng(0), np.arange(1300)
    frame = pd.DataFrame(
        {
            "x": random.normal(size=1300),
            "day": (np.datetime64("2020-01-01") + place // 4).astype(str),
            "y": 5.0 * (place // 200) + random.normal(size=1300),
        }
    )
    train, later = frame[:1240], frame[1240:].drop(columns="y")
    train.to_csv(tmp_path / "train.csv", index=False)
    later.to_csv(tmp_path / "later.csv", index=False)
    files = (tmp_path / "train.csv", "y", tmp_path / "later.csv", None)
    loaded, text = module.config_of_files(*files, Wishes(preset="quick"), tmp_path)
    assert "time: day   # guessed" in text
    base = loaded.config.levels["base"]
    twin = next(name for name in base if name.endswith("_dated"))
    pair = {name: base[name] for name in (twin.removesuffix("_dated"), twin)}
    few = replace(
        loaded, config=loaded.config.model_copy(update={"levels": {"base": pair}, "submit": "auto"})
    )
    result = sf.run(few)
    board = result.leaderboard.set_index("member")["score"]
    assert result.submitted == f"base/{twin}" and board[twin] < 0.5 * board[twin.removesuffix("_dated")]
    assert result.predictor.predict(later).mean() == pytest.approx(30.0, abs=1.5)
    with pytest.raises(DataError, match="day"):
        result.predictor.predict(later.drop(columns="day"))
