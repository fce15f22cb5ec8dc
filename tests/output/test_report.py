"""The report: one page that is whole, escaped, readable by everybody, and the same bytes every time."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
)

import stackfeat as sf
from stackfeat.errors import DataError, UsageError
from stackfeat.output.report import drawing, page
from stackfeat.output.report.next_steps import next_steps
from stackfeat.output.report.pictures import PICTURES
from stackfeat.output.report.pictures.thresholds import Ranked, weights_of
from stackfeat.output.run_file import WrittenFile, find_run_file
from tests.pages import Page
from tests.projects import Build, Project, base_config, build_project, plain_config, with_net

EVIL = '<script>alert("x")</script> $\\frac{a}{b}$ & "q"'
MOST_BYTES = 2**20


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Finished runs of every kind of task, with their pictures drawn."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "svg_of", drawing.svg_of)
        for task, metric in (("binary", "roc_auc"), ("multiclass", "log_loss"), ("regression", "rmse")):
            config = base_config(task, metric)
            config = with_net(config) if task == "multiclass" else config
            found[task] = build_project(tmp_path_factory.mktemp(task) / "project", task, config)
            said = found[task].run()
            assert said.code == 0, said.err
    return found


@pytest.fixture(params=["binary", "multiclass", "regression"])
def project(request: pytest.FixtureRequest, reported: dict[str, Project]) -> Project:
    return reported[request.param]


def content_of(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "report.json").read_text())
    return found


def labels_of(project: Project) -> pd.Series:
    return pd.read_csv(project.folder / "train.csv", dtype={"row_id": str}).set_index("row_id")["label"]


def oof_of(project: Project, member: str) -> pd.DataFrame:
    name = project.scores()["members"][member]["file"]
    return pd.read_csv(project.run_folder / "oof" / name, dtype={"id": str}).set_index("id")


def pictures_of(found: Page) -> Iterator[str]:
    for image in found.root.all("img"):
        source = image.attributes["src"]
        assert source is not None and source.startswith("data:image/svg+xml;base64,")
        yield base64.b64decode(source.partition(",")[2]).decode()


def test_the_page_is_whole_offline_and_readable_by_everybody(project: Project) -> None:
    path = project.run_folder / "report.html"
    found, text = Page.of(path), path.read_text("utf-8")
    assert path.stat().st_size < MOST_BYTES
    assert not re.search(r"(?:src|href)=\"(?!data:|pictures/|#)", text), "nothing is fetched"
    assert " style=" not in text and not re.search(r"\son\w+=", text)
    levels = [int(one.name[1]) for one in found.root.all("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image.attributes["alt"] for image in found.root.all("img"))
    assert all(strip.attributes["aria-label"] for strip in found.root.all("svg"))
    for table in found.root.all("table"):
        assert table.all("caption")[0].text and not table.all("caption")[0].text.endswith(".")
        assert all(cell.attributes["scope"] == "col" and cell.text for cell in table.all("th"))
    assert [one.name for one in found.root.all("header", "main", "footer")] == ["header", "main", "footer"]
    assert not [one for one in found.root.all("details") if "open" in one.attributes]
    ids = [one.attributes["id"] for one in found.root.all("details")]
    assert len(set(ids)) == len(ids)


def test_style_and_script_are_allowed_by_their_hashes_alone(project: Project) -> None:
    found = Page.of(project.run_folder / "report.html")
    policy = next(
        one.attributes["content"] or ""
        for one in found.root.all("meta")
        if one.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for name in ("style", "script"):
        (tag,) = found.root.all(name)
        digest = base64.b64encode(hashlib.sha256("".join(tag.words).encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"


def test_pictures_are_drawn_of_the_numbers_beside_them(project: Project) -> None:
    content, found = content_of(project), Page.of(project.run_folder / "report.html")
    drawn = list(pictures_of(found))
    assert len(drawn) == len(content["pictures"]) >= 5
    for text in drawn:
        assert text.startswith("<svg") and text.endswith("</svg>")
        assert "var(--ink)" in text and "prefers-color-scheme:dark" in text
        assert "<script" not in text and "<metadata" not in text
    links = {one.attributes["href"] for one in found.root.all("a")}
    assert links == {f"pictures/{name}.csv" for name in content["pictures"]}
    for name, numbers in content["pictures"].items():
        with (project.run_folder / "pictures" / f"{name}.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        assert sorted(header) == sorted(numbers)
        for column, cells in zip(header, zip(*rows, strict=True), strict=True):
            for cell, value in zip(cells, numbers[column], strict=True):
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                assert float(cell) == value if is_number else cell == ("" if value is None else str(value))
    assert set(content["missing"]) | set(content["pictures"]) <= set(PICTURES)
    for name in content["missing"]:
        assert PICTURES[name].title in found.text, "what is missing is said"
        assert not content["missing"][name].startswith("it could not be made")


def test_a_kind_of_task_has_its_own_pictures(reported: dict[str, Project]) -> None:
    classes = {"confusion", "roc", "precision_recall", "reliability"}
    for task, project in reported.items():
        of_two = {"threshold_scores", "cumulative_gains"} & set(content_of(project)["pictures"])
        assert len(of_two) == (2 if task == "binary" else 0)
        names = set(content_of(project)["pictures"])
        assert (names & {*classes, "predicted", "residuals"}) == (
            {"predicted", "residuals"} if task == "regression" else classes
        )


def test_the_same_results_give_the_same_bytes(reported: dict[str, Project], draws: None) -> None:
    project = reported["multiclass"]
    names = [
        "report.html",
        "report.json",
        *(f"pictures/{name}.csv" for name in content_of(project)["pictures"]),
    ]
    before = {name: (project.run_folder / name).read_bytes() for name in names}
    for name in names:
        (project.run_folder / name).unlink()
    assert project.run().code == 0
    assert {name: (project.run_folder / name).read_bytes() for name in names} == before


def test_the_confusion_matrix_is_that_of_scikit_learn(reported: dict[str, Project]) -> None:
    project = reported["multiclass"]
    content, y = content_of(project), labels_of(reported["multiclass"])
    oof = oof_of(project, content["submitted"])
    numbers = pd.DataFrame(content["pictures"]["confusion"]).pivot(
        index="truth", columns="predicted", values="rows"
    )
    names = sorted(set(y))
    expected = confusion_matrix(y.loc[oof.index], oof.idxmax(axis=1), labels=names)
    assert numbers.loc[names, names].to_numpy().tolist() == expected.tolist()


def test_areas_under_curves_are_those_of_scikit_learn(reported: dict[str, Project]) -> None:
    project = reported["binary"]
    content, y = content_of(project), labels_of(project)
    oof = oof_of(project, content["submitted"])
    roc = pd.DataFrame(content["pictures"]["roc"])
    whole = roc[roc["fold"] == "all"]
    assert whole["area"].iloc[0] == pytest.approx(roc_auc_score(y.loc[oof.index] == "yes", oof["yes"]))
    assert set(roc["fold"]) == {"all", "0", "1", "2"} and set(roc["class"]) == {"yes"}
    assert whole[["false positive rate", "true positive rate"]].iloc[-1].tolist() == [1.0, 1.0]


def test_scores_by_threshold_are_those_of_scikit_learn(reported: dict[str, Project]) -> None:
    project = reported["binary"]
    content, y = content_of(project), labels_of(project)
    oof = oof_of(project, content["submitted"])
    true, proba = y.loc[oof.index] == "yes", oof["yes"]
    numbers = pd.DataFrame(content["pictures"]["threshold_scores"])
    assert len(numbers) > 20 and set(numbers["class"]) == {"yes"}
    for at in numbers.iloc[::7].itertuples():
        called = proba > at.threshold
        assert at.called == pytest.approx(called.mean())
        assert at.precision == pytest.approx(precision_score(true, called))
        assert at.recall == pytest.approx(recall_score(true, called))
        found, expected = [at.F1, at.MCC], [f1_score(true, called), matthews_corrcoef(true, called)]
        assert found == pytest.approx(expected)
    (chosen,) = numbers[numbers["is_chosen"]].itertuples()
    assert chosen.threshold == 0.5, "nothing is fitted for the area under the curve"
    # A share of independent rows; a hundred resamples know its error to about a tenth.
    share = chosen.recall
    assert chosen.recall_se == pytest.approx(np.sqrt(share * (1 - share) / true.sum()), rel=0.35)


def test_the_threshold_in_use_is_the_fitted_one(build: Build) -> None:
    project = build("binary", plain_config("binary", "f1"))
    assert project.run().code == 0
    content = content_of(project)
    numbers = pd.DataFrame(content["pictures"]["threshold_scores"])
    (chosen,) = numbers[numbers["is_chosen"]]["threshold"]
    assert [chosen] == content["thresholds"]["rules"]["new rows"]
    assert chosen != 0.5
    text = (project.run_folder / "report.html").read_text("utf-8")
    assert "the threshold that new rows are decided by stands out" in text


def test_cumulative_gains_count_the_positives_of_the_likeliest_rows(reported: dict[str, Project]) -> None:
    project = reported["binary"]
    content, y = content_of(project), labels_of(project)
    oof = oof_of(project, content["submitted"])
    true = (y.loc[oof.index] == "yes").to_numpy()
    order = np.argsort(-oof["yes"].to_numpy(), kind="stable")
    assert oof["yes"].nunique() == len(oof), "without ties every prefix is one of rows"
    numbers = pd.DataFrame(content["pictures"]["cumulative_gains"])
    whole = numbers[numbers["fold"] == "all"]
    n = len(true)
    for at in whole.itertuples():
        # Between two rows the share grows evenly.
        expected = np.interp(at.rows * n, np.arange(n + 1), np.r_[0, np.cumsum(true[order])]) / true.sum()
        assert at.found == pytest.approx(expected)
        assert at.lift == pytest.approx(expected / at.rows)
        assert at.perfect == pytest.approx(min(1, at.rows / true.mean()))
    assert whole["found"].iloc[-1] == whole["lift"].iloc[-1] == 1
    assert set(numbers["fold"]) == {"all", "0", "1", "2"}


def test_rows_of_one_probability_share_their_positives() -> None:
    true, proba = np.array([True, False, False, True]), np.array([0.9, 0.4, 0.4, 0.4])
    ranked = Ranked.of(true, proba, np.ones((1, 4)))
    assert ranked.gains(np.array([0.25, 0.5, 0.75, 1.0]))[0] == pytest.approx([1 / 2, 2 / 3, 5 / 6, 1])
    scores = ranked.scores(np.array([0.4, 0.9]))
    assert scores["precision"][0, 0] == 1 and scores["recall"][0, 0] == 0.5
    assert np.isnan(scores["precision"][0, 1]) and scores["MCC"][0, 1] == 0, "nothing is called positive"
    heavier = Ranked.of(true, proba, np.array([[1.0, 3.0, 1.0, 1.0]]))
    assert heavier.scores(np.array([0.1]))["precision"][0, 0] == pytest.approx(2 / 6)


def test_rows_of_a_group_are_resampled_together() -> None:
    """Pairs of equal rows say no more than one of each, so their error is greater by the square root of two."""
    errors = {}
    for grouped in (False, True):
        rng = np.random.default_rng(0)
        proba = np.repeat(rng.random(200), 2)
        true = np.repeat(rng.random(200) < proba[::2], 2)
        train = SimpleNamespace(
            weight=None, group=np.repeat(np.arange(200), 2) if grouped else None, time=None
        )
        finished = SimpleNamespace(train=train, folds=SimpleNamespace(is_time=False))
        evidence: Any = SimpleNamespace(
            finished=finished, rows=np.arange(400), fold_of=np.zeros(400, dtype=np.int64)
        )
        ranked = Ranked.of(true, proba, weights_of(evidence))
        errors[grouped] = ranked.scores(np.array([0.5]))["recall"][1:, 0].std()
    assert errors[True] / errors[False] == pytest.approx(np.sqrt(2), rel=0.25)


def test_reliability_compares_what_was_said_with_what_happened(reported: dict[str, Project]) -> None:
    project = reported["binary"]
    content, y = content_of(project), labels_of(project)
    oof = oof_of(project, content["submitted"])
    numbers = pd.DataFrame(content["pictures"]["reliability"])
    whole = numbers[numbers["fold"] == "all"]
    assert whole["rows"].sum() == len(oof)
    assert np.average(whole["said"], weights=whole["rows"]) == pytest.approx(oof["yes"].mean())
    happened = np.average(whole["happened"], weights=whole["rows"])
    assert happened == pytest.approx((y.loc[oof.index] == "yes").mean())


def test_residuals_and_tenths_are_those_of_the_predictions(reported: dict[str, Project]) -> None:
    project = reported["regression"]
    content, y = content_of(project), labels_of(project)
    oof = oof_of(project, content["submitted"])["prediction"]
    numbers = pd.DataFrame(content["pictures"]["residuals"])
    lowest = oof.sort_values().index[:16]
    first = numbers[numbers["fold"] == "all"].iloc[0]
    assert first["rows"] == 16
    assert first["50 %"] == pytest.approx(np.median(y.loc[lowest] - oof.loc[lowest]))
    cells = pd.DataFrame(content["pictures"]["predicted"])
    assert cells[cells["what"] == "rows"]["rows"].sum() == len(oof)


def test_other_metrics_gains_and_worst_rows_are_right(reported: dict[str, Project]) -> None:
    project = reported["multiclass"]
    content, y = content_of(project), labels_of(project)
    oof = oof_of(project, content["submitted"])
    truth = y.loc[oof.index]
    for one in content["members"]:
        table = oof_of(project, f"{one['level']}/{one['member']}")
        assert one["metrics"]["accuracy"] == pytest.approx((table.idxmax(axis=1) == truth).mean())
    shares = truth.value_counts(normalize=True)[list(oof.columns)]
    constant = log_loss(truth, np.tile(shares, (len(truth), 1)), labels=list(oof.columns))
    assert content["gains"]["constant"]["score"] == pytest.approx(constant)
    submitted = project.scores()["members"][content["submitted"]]["score"]
    assert content["gains"]["constant"]["gain"] == pytest.approx(constant - submitted)
    worst = content["worst_rows"]
    loss = -np.log([oof.loc[row, label] for row, label in truth.items()])
    assert worst["rows"][0][worst["columns"].index("loss")] == pytest.approx(loss.max())
    assert worst["rows"][0][0] == oof.index[loss.argmax()]


def test_the_constant_that_a_metric_likes_best_is_compared(build: Build) -> None:
    project = build("regression", plain_config("regression", "mae"))
    assert project.run().code == 0
    y = labels_of(project)
    constant = mean_absolute_error(y, np.full(len(y), np.median(y)))
    assert content_of(project)["gains"]["constant"]["score"] == pytest.approx(constant)


def test_what_people_wrote_is_shown_as_text(build: Build, draws: None) -> None:
    config = plain_config("multiclass")
    config |= {"name": EVIL, "outputs": {"dir": "runs/run"}}
    project = build("multiclass", config)
    train, test = project.folder / "train.csv", project.folder / "test.csv"
    for path in (train, test):
        table = pd.read_csv(path, dtype=str).rename(columns={"a": EVIL})
        table["colour"] = table["colour"].replace("a", EVIL)
        if path == train:
            table["label"] = table["label"].replace("low", EVIL)
        table["row_id"] = table["row_id"].replace("000", EVIL)
        table.to_csv(path, index=False)
    said = project.run()
    assert said.code == 0, said.err
    path = project.run_folder / "report.html"
    found = Page.of(path)
    assert len(found.root.all("script")) == 1 and "<script>alert" not in path.read_text()
    assert found.root.all("h1")[0].text == EVIL
    assert any(EVIL in text for row in found.table("5 columns") for text in row.values())
    drawn = list(pictures_of(found))
    assert drawn and not any("<script>" in text for text in drawn)
    assert any("&lt;script" in text for text in drawn), "names stand in pictures as they are, formulas too"
    assert not content_of(project)["missing"].keys() & {"confusion", "roc"}


def test_what_to_try_next_is_true_of_this_run(reported: dict[str, Project]) -> None:
    for task, project in reported.items():
        content = content_of(project)
        lines = content["next"]
        assert len(lines) == 3
        n_base = sum(one["level"] == "base" for one in content["members"])
        assert any("Add members: 2 on the first level" in text for text in lines) == (n_base == 2), task
        single = content["gains"]["single"]
        is_small = single is not None and single["gain"] <= single["se"]
        assert any("Nothing measurable is gained" in text for text in lines) == is_small, task


def test_a_weak_member_is_named_where_more_than_a_standard_error_says_so(
    reported: dict[str, Project],
) -> None:
    project = reported["binary"]
    content, y = content_of(project), labels_of(project)
    weakest = content["gains"]["weakest"]
    oof = oof_of(project, weakest["member"])
    base = {f"{one['level']}/{one['member']}": one["score"] for one in content["members"] if one["is_base"]}
    assert weakest["member"] == min(base, key=lambda name: base[name])
    # Under the area under the curve every constant has a half.
    assert weakest["gain"] == pytest.approx(roc_auc_score(y.loc[oof.index] == "yes", oof["yes"]) - 0.5)
    for gain, is_said in ((0.1, False), (-0.01, False), (-0.03, True)):
        found = {**content, "gains": {**content["gains"], "weakest": {**weakest, "gain": gain, "se": 0.02}}}
        text = f"Repair or remove {weakest['member']}: it is 0.030 ± 0.020 worse"
        assert any(text in line for line in next_steps(found)) == is_said


def test_a_picture_that_cannot_be_made_costs_no_run(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(evidence: Any) -> Any:
        raise ValueError("no numbers")

    monkeypatch.setattr(PICTURES["roc"], "numbers", fail)
    project = build("multiclass", plain_config("multiclass"))
    said = project.run()
    assert said.code == 0
    assert (
        "the report is written without ROC curve: no numbers" in (project.run_folder / "run.log").read_text()
    )
    assert content_of(project)["missing"]["roc"] == "it could not be made: ValueError"
    assert not Path(project.run_folder / "pictures" / "roc.csv").exists()


def plain_run(build: Build, task: str = "multiclass") -> Project:
    project = build(task, plain_config(task, "rmse" if task == "regression" else "log_loss"))
    assert project.run().code == 0
    return project


def test_the_page_made_anew_is_the_page_of_the_run(
    reported: dict[str, Project], tmp_path: Path, draws: None
) -> None:
    for task, project in reported.items():
        made = project.copy(tmp_path / task)
        path = made.run_folder / "report.html"
        before = path.read_bytes()
        path.unlink()
        said = made.cli("report", made.run_folder, "--json")
        assert said.code == 0, said.err
        answer = json.loads(said.out)
        assert answer["report"] == str(path) and set(answer["pictures"]) == set(content_of(made)["pictures"])
        assert path.read_bytes() == before
        assert made.cli("audit", made.run_folder, "--no-null").code == 0, "the folder is whole"


def test_without_the_store_only_times_of_predictions_are_missing(build: Build) -> None:
    project = plain_run(build)
    path = project.run_folder / "report.html"
    with_store = Page.of(path)
    (project.folder / ".stackfeat").rename(project.folder / "elsewhere")
    said = project.cli("report", project.run_folder)
    assert said.code == 0 and "missing: times of predictions: there is no store" in said.out
    without = Page.of(path)
    rows, before = without.table("All members"), with_store.table("All members")
    assert "predict µs/row" in before[0] and float(before[0]["predict µs/row"]) > 0
    assert [{**row, "predict µs/row": ""} for row in rows] == [
        {**row, "predict µs/row": ""} for row in before
    ]
    assert project.cli("report", project.run_folder, "--store", project.folder / "elsewhere").code == 0
    assert Page.of(path).text == with_store.text


def test_a_report_that_somebody_changed_is_refused(build: Build) -> None:
    project = plain_run(build)
    content = project.run_folder / "report.json"
    content.write_text(content.read_text().replace("multiclass", "binary", 1))
    said = project.cli("report", project.run_folder)
    assert said.code == DataError.exit_code and "must be as the run wrote it" in said.err
    (project.run_folder / "run.json").unlink()
    said = project.cli("report", project.run_folder)
    assert said.code == UsageError.exit_code and "run the config again" in said.err.lower()


def test_values_of_another_kind_do_not_reach_the_page(build: Build) -> None:
    project = plain_run(build)
    path, mark = project.run_folder / "report.json", project.run_folder / "run.json"
    content, marked = json.loads(path.read_text()), find_run_file(project.run_folder)
    assert marked is not None
    content["members"][0]["score"] = {"html": "<b>"}
    path.write_text(json.dumps(content))
    written = WrittenFile(hashlib.sha256(path.read_bytes()).hexdigest())
    mark.write_bytes(replace(marked, files={**marked.files, "report.json": written}).sealed())
    said = project.cli("report", project.run_folder)
    assert said.code == DataError.exit_code and "score" in said.err


def test_every_picture_is_a_method_that_returns_a_figure(reported: dict[str, Project]) -> None:
    from matplotlib.figure import Figure

    for project in reported.values():
        result = sf.run(project.folder / "c.yaml")
        names = content_of(project)["pictures"]
        for name in PICTURES:
            method = getattr(result, f"plot_{name}")
            assert method.__doc__.startswith("Draw ")
            if name in names:
                assert isinstance(method(), Figure)
            else:
                with pytest.raises(UsageError, match=f"plot_{name} must be a picture of this run; got none"):
                    method()
    assert {name for name in dir(sf.RunResult) if name.startswith("plot_")} == {
        f"plot_{name}" for name in PICTURES
    }


def test_losses_of_nets_are_drawn_by_epoch_and_stay_out_of_scores(reported: dict[str, Project]) -> None:
    project = reported["multiclass"]
    curves = pd.DataFrame(content_of(project)["pictures"]["learning_curves"])
    assert set(curves["member"]) == {"base/mlp"} and set(curves["fold"]) == {"0", "1", "2"}
    assert curves["step"].max() == 3 and set(curves["unit"]) == {"epoch"}
    reports = project.scores()["members"]["base/mlp"]["reports"]
    last = curves[(curves["fold"] == "1") & (curves["step"] == 3)]["loss"].item()
    assert last == pytest.approx(reports["0/1"]["loss"][0], rel=1e-4)
    assert "curves" not in reports["0/1"]


def test_what_was_explained_is_in_the_page_made_anew_and_in_those_of_later_runs(
    build: Build, draws: None
) -> None:
    project = plain_run(build)
    assert "not measured yet" in Page.of(project.run_folder / "report.html").text
    assert project.cli("explain", project.run_folder, "--repeats", "1").code == 0
    explained = json.loads((project.run_folder / "explain.json").read_text())
    assert project.cli("report", project.run_folder).code == 0
    made = {path.name: path.read_bytes() for path in project.run_folder.glob("report.*")}
    page_text = Page.of(project.run_folder / "report.html").text
    assert "Importance of columns and members" in page_text and "not measured yet" not in page_text
    with (project.run_folder / "pictures" / "importance.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = [(row["what"], row["name"], float(row["importance"])) for row in rows]
    assert named == [
        (what, one["name"], one["importance"])
        for what in ("column", "member")
        for one in explained[f"{what}s"]
    ]
    assert project.run().code == 0
    assert {path.name: path.read_bytes() for path in project.run_folder.glob("report.*")} == made
    assert project.run("--set", "seed=5").code == 0
    assert not (project.run_folder / "pictures" / "importance.csv").exists()


def test_a_member_of_weight_0_is_not_drawn_as_one_that_counts(build: Any) -> None:
    config = plain_config()
    at_random = {"estimator": "sklearn.dummy.DummyClassifier", "params": {"strategy": "stratified"}}
    config["levels"]["base"]["dice"] = at_random
    config["levels"]["final"] = {"best": {"vote": "greedy", "inputs": ["base/*/proba"], "picks": 5}}
    project = build(config={**config, "submit": "final/best"})
    assert project.run().code == 0
    with (project.run_folder / "pictures" / "stack.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["member"], row["reads"]): row for row in rows}
    assert float(found["final/best", "base/dice/proba"]["weight"]) == 0
    used = {read: row["is_used"] for read, row in found.items()}
    assert used["final/best", "base/linear/proba"] == used["base/linear", "table"] == "True"
    assert used["final/best", "base/dice/proba"] == used["base/dice", "table"] == "False"
