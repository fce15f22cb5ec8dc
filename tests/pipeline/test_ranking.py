"""Rankings from the command line: rows of a list stay together, and scores are those within it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import UsageError
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task
from tests.projects import Project, write_table

N_LISTS, N_TEST_LISTS = 30, 8
BASE = {
    "lambda": {"estimator": "lightgbm.LGBMRanker", "params": {"n_estimators": 10, "min_child_samples": 3}},
    "values": {"estimator": "sklearn.linear_model.Ridge"},
    "grades": {"estimator": "sklearn.linear_model.LogisticRegression"},
}
LEVELS = {
    "base": BASE,
    "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/prediction"]}},
    "final": {
        "soft": {"vote": "soft", "inputs": ["base/*/prediction"]},
        "rank": {"vote": "rank", "inputs": ["base/*/prediction"]},
        "greedy": {"vote": "greedy", "inputs": ["*/*/prediction"], "picks": 5},
    },
}


def rows(first: int, n_lists: int, with_target: bool, seed: int) -> list[list[str]]:
    """A header and rows of lists of 1 to 9, mixed; relevance is of the row less what its list has in common."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n_lists):
        common = rng.normal(0, 3)
        for _ in range(1 + number % 9):
            own, noise = rng.normal(size=2)
            relevance = int(np.clip(np.round(1.5 + own + 0.3 * noise), 0, 3))
            cells = [f"{own + common:.4f}", f"{own + rng.normal():.4f}", f"{common:.4f}"]
            found.append([f"q{first + number}", *cells, *([str(relevance)] if with_target else [])])
    order = rng.permutation(len(found))
    header = ["row", "list", "a", "b", "c", *(["grade"] if with_target else [])]
    return [header, *([str(1000 * first + i), *found[j]] for i, j in enumerate(order))]


def config(levels: Any = None) -> dict[str, Any]:
    data = {"train": "train.csv", "test": "test.csv", "id": "row", "target": "grade", "query": "list"}
    return {
        "task": "ranking",
        "metric": "ndcg@10",
        "data": data,
        "folds": {"n": 3},
        "levels": levels or LEVELS,
        "executor": {"kind": "inline"},
    }


def project(folder: Path, **changed: Any) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "train.csv", rows(0, N_LISTS, True, 0))
    write_table(folder / "test.csv", rows(100, N_TEST_LISTS, False, 1))
    return Project(folder).write({**config(), **changed})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = project(tmp_path_factory.mktemp("ranking"))
    said = made.run()
    assert said.code == 0, said.err
    return made


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"row": str})


def of_members(run: Project, part: str) -> dict[str, pd.DataFrame]:
    return {path.stem: table(path) for path in sorted((run.run_folder / part).glob("*.csv"))}


def test_lists_are_whole_in_folds(run: Project) -> None:
    train, folds = (
        table(run.folder / "train.csv"),
        pd.read_csv(run.run_folder / "folds.csv", dtype={"id": str}),
    )
    of_list = train.merge(folds, left_on="row", right_on="id").groupby("list")["fold"]
    assert (of_list.nunique() == 1).all() and folds["fold"].nunique() == 3


def test_every_member_gives_scores_of_mean_0_and_spread_1_in_each_list(run: Project) -> None:
    for part, file in (("oof", "train.csv"), ("test", "test.csv")):
        lists = table(run.folder / file)["list"]
        for name, found in of_members(run, part).items():
            of_list = found["prediction"].groupby(lists.to_numpy())
            spread = of_list.std(ddof=0)
            assert (of_list.mean().abs() < 1e-9).all(), name
            # Test rows are averages over pipelines, whose spread is less where they disagree.
            assert ((spread < 1 + 1e-9) & ((spread > 1 - 1e-9) | (part == "test") | (spread == 0))).all(), (
                name
            )


def test_a_score_is_the_metric_of_the_files(run: Project) -> None:
    train, task = table(run.folder / "train.csv"), Task("ranking")
    y = task.in_lists(train["grade"].to_numpy(float), np.unique(train["list"], return_inverse=True)[1])
    with (run.run_folder / "leaderboard.csv").open(newline="") as file:
        scores = {f"{row['level']}.{row['member']}": float(row["score"]) for row in csv.DictReader(file)}
    for name, found in of_members(run, "oof").items():
        assert get_metric("ndcg@10", "ranking").score(
            y, found["prediction"].to_numpy(), task
        ) == pytest.approx(scores[name])
    assert min(scores.values()) > 0.75, "random order gives about 0.7, the best 1"


def test_votes_are_those_of_their_inputs(run: Project) -> None:
    inputs = [f"base.{name}" for name in BASE]
    oof, lists = of_members(run, "oof"), table(run.folder / "train.csv")["list"].to_numpy()
    scores = pd.concat([oof[name]["prediction"] for name in inputs], axis=1)
    ranks = scores.groupby(lists).rank()
    for name, mean in (("final.soft", scores.mean(axis=1)), ("final.rank", ranks.mean(axis=1))):
        expected = mean.groupby(lists).rank().round(6)
        np.testing.assert_array_equal(oof[name]["prediction"].round(9).groupby(lists).rank(), expected)


def test_a_predictor_scores_lists_in_any_order_and_needs_to_know_them(run: Project, tmp_path: Path) -> None:
    test, submitted = table(run.folder / "test.csv"), table(run.run_folder / "submission.csv")
    mixed = test.sample(frac=1.0, random_state=0)
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    said = run.cli("predict", run.run_folder, tmp_path / "mixed.csv", "-o", tmp_path / "p.csv")
    assert said.code == 0, said.err
    found = table(tmp_path / "p.csv").set_index("row").loc[submitted["row"], "grade"]
    np.testing.assert_allclose(found, submitted["grade"], atol=1e-9)
    # A list by itself is scored as it is among others.
    test[test["list"] == "q107"].to_csv(tmp_path / "one.csv", index=False)
    assert run.cli("predict", run.run_folder, tmp_path / "one.csv", "-o", tmp_path / "o.csv").code == 0
    one = table(tmp_path / "o.csv").set_index("row")["grade"]
    np.testing.assert_allclose(one, found.loc[one.index], atol=1e-9)
    test.drop(columns="list").to_csv(tmp_path / "without.csv", index=False)
    said = run.cli("predict", run.run_folder, tmp_path / "without.csv", "-o", tmp_path / "p.csv")
    assert said.code == 3 and "missing here: list" in said.err
    said = run.cli(
        "predict", run.run_folder, run.folder / "test.csv", "-o", tmp_path / "p", "--interval", 0.9
    )
    assert said.code == 2 and "intervals must be of values or classes; got task=ranking" in said.err


def test_explanations_and_audits_know_lists(run: Project) -> None:
    said = run.cli("explain", run.run_folder)
    assert said.code == 0 and "base/lambda" in said.out, said.err
    said = run.cli("audit", run.run_folder, "--permutations", 2)
    assert said.code == 0 and "no member is better than chance" in said.out, said.out + said.err


def test_the_report_shows_what_stands_at_each_place(run: Project) -> None:
    content = json.loads((run.run_folder / "report.json").read_text())
    assert not {"predicted", "residuals"} & set(content["pictures"])
    assert "pictures/positions.csv" in (run.run_folder / "report.html").read_text()
    numbers = pd.DataFrame(content["pictures"]["positions"])
    scores = json.loads((run.run_folder / "scores.json").read_text())
    train, said = (
        table(run.folder / "train.csv"),
        of_members(run, "oof")[scores["submitted"].replace("/", ".")],
    )
    place = said["prediction"].round(9).groupby(train["list"]).rank(ascending=False, method="first")
    expected = train["grade"].groupby(place.to_numpy()).mean()
    whole = numbers[numbers["fold"] == "all"].set_index("place")
    np.testing.assert_allclose(whole["relevance"], expected.loc[whole.index])
    assert (whole["best order"].iloc[0] >= whole["relevance"].iloc[0]) and set(numbers["fold"]) == {
        "all",
        "0",
        "1",
        "2",
    }


def test_a_first_config_runs(tmp_path: Path) -> None:
    made = project(tmp_path)
    names = ["--target", "grade", "--query", "list", "--test", tmp_path / "test.csv", "--preset", "quick"]
    said = made.cli("init", tmp_path / "train.csv", *names, "-o", tmp_path / "new.yaml")
    text = (tmp_path / "new.yaml").read_text()
    assert said.code == 0 and "task: ranking" in text and "query: list" in text, said.err
    said = made.cli("run", tmp_path / "new.yaml", "--set", "executor.kind=inline")
    assert said.code == 0, said.err
    for others, message in (
        (
            ["--task", "regression", "--query", "list"],
            "--query names the lists of a ranking; got --task regression",
        ),
        (["--task", "ranking"], "task ranking needs the list of each row; got no --query"),
        (["--metric", "ndcg@5"], "task ranking needs the list of each row; got no --query"),
        (["--query", "lists"], "--query: .* must have the column 'lists'"),
    ):
        said = made.cli(
            "init", tmp_path / "train.csv", "--target", "grade", *others, "-o", tmp_path / "no.yaml"
        )
        assert said.code in (2, 3) and re.search(message, said.err), said.err


@pytest.mark.parametrize("told", [("--task", "ranking"), ("--metric", "ndcg@10")])
@pytest.mark.parametrize("name", ["query_id", "qid", "Query"])
def test_a_first_config_of_a_ranking_finds_its_lists_by_name(
    told: tuple[str, str], name: str, tmp_path: Path
) -> None:
    made, output = project(tmp_path), tmp_path / "new.yaml"
    table(tmp_path / "train.csv").rename(columns={"list": name}).to_csv(tmp_path / "train.csv", index=False)
    said = made.cli("init", tmp_path / "train.csv", "--target", "grade", *told, "-o", output)
    assert said.code == 0, said.err
    assert f"query: {name}   # guessed: 30 lists in" in output.read_text()
    assert "  group: " not in output.read_text() and made.cli("check", output).code == 0


@pytest.mark.parametrize("seed", range(3))
def test_relevance_that_is_noise_stays_at_the_level_of_random_order(tmp_path: Path, seed: int) -> None:
    levels = {
        **LEVELS,
        "base": {**BASE, "net": {"net": "mlp", "params": {"hidden": [8]}, "train": {"epochs": 5}}},
    }
    levels["meta"] = {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}}
    made, rng = project(tmp_path, levels=levels), np.random.default_rng(seed)
    for name, with_grade in (("train.csv", True), ("test.csv", False)):
        frame = table(tmp_path / name)
        frame[["a", "b", "c"]] = rng.normal(size=(len(frame), 3))
        frame = frame.assign(grade=rng.integers(0, 4, len(frame))) if with_grade else frame
        frame.to_csv(tmp_path / name, index=False)
    assert made.run().code == 0
    train, task = table(tmp_path / "train.csv"), Task("ranking")
    y = task.in_lists(train["grade"].to_numpy(float), np.unique(train["list"], return_inverse=True)[1])
    metric = get_metric("ndcg@10", "ranking")
    chance = [metric.score(y, rng.normal(size=len(y)), task) for _ in range(300)]
    for name, found in of_members(made, "oof").items():
        score = metric.score(y, found["prediction"].to_numpy(), task)
        assert abs(score - np.mean(chance)) < 3.5 * np.std(chance), name


def test_rows_of_a_file_with_relevance_are_explained_by_their_lists(run: Project) -> None:
    said = run.cli("explain", run.run_folder, run.folder / "train.csv")
    assert said.code == 0 and "ndcg@10" in said.out, said.out + said.err


def test_lists_are_not_blended_without_a_run() -> None:
    scores = np.random.default_rng(0).normal(size=20)
    with pytest.raises(UsageError, match="a blend is of rows that stand for themselves; got metric='ndcg@5'"):
        sf.blend({"a": scores, "b": -scores}, np.arange(20) % 3, metric="ndcg@5")


def test_a_student_cannot_learn_it(run: Project, tmp_path: Path) -> None:
    said = run.cli("distil", run.run_folder, "--student", "lightgbm", "-o", tmp_path / "s.zip")
    assert said.code == 2 and "a student learns rows one by one; got a run of task=ranking" in said.err


def test_nets_learn_lists_by_every_loss(tmp_path: Path) -> None:
    net = {"net": "mlp", "params": {"hidden": [8]}, "emit": ["prediction", "penultimate"]}
    base = {
        loss: {**net, "train": {"epochs": 4, "batch_size": 32, "loss": loss}}
        for loss in ("listwise", "pairwise", "mse")
    }
    base["stops"] = {**net, "train": {"epochs": 4, "patience": 2}, "emit": ["prediction"]}
    levels = {"base": base, "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}}}
    made = project(tmp_path, levels=levels)
    said = made.run()
    assert said.code == 0, said.err
    assert len(of_members(made, "test")) == 5


def best_rows(found: pd.DataFrame, lists: pd.Series, most: int) -> dict[str, list[str]]:
    """The ids of the best rows of each list, the best first, by pandas."""
    rows = found.rename(columns={"id": "row"}).astype({"row": str})
    joined = rows.merge(lists.reset_index(), on="row").sort_values(
        "prediction", ascending=False, kind="stable"
    )
    return {name: part["row"].tolist()[:most] for name, part in joined.groupby("list")}


def test_a_submission_may_have_a_row_for_each_list(run: Project, tmp_path: Path) -> None:
    levels = {"base": {"values": BASE["values"]}}
    data = {**config()["data"], "label_separator": " "}
    made = project(tmp_path / "lists", data=data, metric="map@3", levels=levels)
    said = made.run()
    assert said.code == 0, said.err
    test = table(made.folder / "test.csv")
    expected = best_rows(of_members(made, "test")["base.values"], test.set_index("row")["list"], 3)
    submitted = pd.read_csv(made.run_folder / "submission.csv", dtype=str)
    assert list(submitted.columns) == ["list", "row"]
    assert submitted["list"].tolist() == list(dict.fromkeys(test["list"])), "in the order of the test file"
    assert dict(zip(submitted["list"], submitted["row"].str.split(" "), strict=True)) == expected
    assert max(map(len, expected.values())) == 3 and min(map(len, expected.values())) == 1
    out = tmp_path / "p.csv"
    said = made.cli("predict", made.run_folder, made.folder / "test.csv", "-o", out)
    assert said.code == 0 and out.read_bytes() == (made.run_folder / "submission.csv").read_bytes(), said.err
    said = made.cli("predict", made.run_folder, made.folder / "test.csv", "-o", tmp_path / "m", "--members")
    assert said.code == 2 and "--members says something of each row" in said.err
    assert not (tmp_path / "m").exists()


def test_a_sample_of_lists_gives_the_columns_and_the_order(tmp_path: Path) -> None:
    levels = {"base": {"values": BASE["values"]}}
    data = {**config()["data"], "sample_submission": "sample.csv"}
    made = project(tmp_path, data={**data, "label_separator": " "}, metric="mrr", levels=levels)
    test = table(made.folder / "test.csv")
    names = sorted(set(test["list"]))[::-1]
    pd.DataFrame({"searched": names, "found": "x y"}).to_csv(made.folder / "sample.csv", index=False)
    said = made.run()
    assert said.code == 0, said.err
    submitted = pd.read_csv(made.run_folder / "submission.csv", dtype=str)
    assert list(submitted.columns) == ["searched", "found"] and submitted["searched"].tolist() == names
    sizes = submitted["found"].str.split(" ").map(len)
    assert sizes.tolist() == test["list"].value_counts().loc[names].tolist(), "without K all rows"


@pytest.mark.parametrize(
    ("separator", "column", "message"),
    [
        (None, "list", "data.id and data.test; if its rows are queries, .* set data.label_separator"),
        (" ", "row", "data.query, data.test, and remove data.label_separator if it has a row for each row"),
    ],
)
def test_a_sample_of_the_other_form_is_refused_with_what_to_do(
    separator: str | None, column: str, message: str, tmp_path: Path
) -> None:
    data = {**config()["data"], "sample_submission": "sample.csv", "label_separator": separator}
    made = project(tmp_path, data=data)
    ids = sorted(set(table(made.folder / "test.csv")[column]))
    pd.DataFrame({"a": ids, "b": 0}).to_csv(made.folder / "sample.csv", index=False)
    said = made.cli("check", made.folder / "c.yaml")
    assert said.code == 3 and re.search(message, said.err), said.err


@pytest.mark.parametrize("command", ["check", "run"])
def test_ids_that_hold_the_separator_are_refused(command: str, tmp_path: Path) -> None:
    levels = {"base": {"values": BASE["values"]}}
    data = {**config()["data"], "sample_submission": "sample.csv", "label_separator": "1"}
    made = project(tmp_path, data=data, levels=levels)
    names = sorted(set(table(made.folder / "test.csv")["list"]))
    pd.DataFrame({"list": names, "row": "x"}).to_csv(made.folder / "sample.csv", index=False)
    said = made.cli(command, made.folder / "c.yaml")
    assert said.code == 3 and "ids must not hold what stands between them" in said.err, said.err
    assert not (made.run_folder / "submission.csv").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"data": {**config()["data"], "query": None}},
            "data.query: names the list that each row belongs to; got none",
        ),
        (
            {"task": "regression", "metric": "rmse"},
            "data.query: only a ranking has queries; got task=regression",
        ),
        ({"interval": 0.9}, "interval: needs values or classes; got task=ranking"),
        ({"metric": "rmse"}, "metric must fit task ranking; got 'rmse'"),
        ({"metric": "ndcg@0"}, "metric must be written as ndcg@K with a whole number of at least 1"),
        ({"stack": {"average": "rank"}}, "average"),
        ({"folds": {"kind": "kfold", "allow_leak": True}}, "kind: kfold ignores data.query"),
    ],
)
def test_what_does_not_fit_a_ranking_is_refused_before_it_runs(
    tmp_path: Path, changed: Any, message: str
) -> None:
    said = project(tmp_path, **changed).run()
    assert said.code == 2 and message in said.err, said.err


@pytest.mark.parametrize(
    ("grade", "message"),
    [
        ("1.5", "relevance must be a whole number from 0 to 31"),
        ("-1", "relevance must be"),
        ("high", "a number"),
    ],
)
def test_a_target_that_is_no_relevance_is_refused(tmp_path: Path, grade: str, message: str) -> None:
    made = project(tmp_path)
    train = table(tmp_path / "train.csv").astype({"grade": str})
    train.loc[3, "grade"] = grade
    train.to_csv(tmp_path / "train.csv", index=False)
    said = made.run()
    assert said.code == 3 and message in said.err, said.err


def test_lists_of_several_groups_are_refused(tmp_path: Path) -> None:
    made = project(tmp_path, data={**config()["data"], "group": "owner"})
    train = table(tmp_path / "train.csv")
    for name, owner, code in (("train.csv", train["list"].str[-1], 0), ("train.csv", train.index % 5, 3)):
        train.assign(owner=owner).to_csv(tmp_path / name, index=False)
        said = made.cli("check", tmp_path / "c.yaml")
        assert said.code == code, said.err
    assert "a query must be of one group" in said.err


def test_a_list_of_several_times_is_refused(tmp_path: Path) -> None:
    made = project(tmp_path, data={**config()["data"], "time": "day"})
    train = table(tmp_path / "train.csv")
    for days, code in ((train["list"].str[1:].astype(int), 0), (train.index, 3)):
        train.assign(day=days).to_csv(tmp_path / "train.csv", index=False)
        said = made.cli("check", tmp_path / "c.yaml")
        assert said.code == code, said.err
    n_torn = int((train["list"].value_counts() > 1).sum())
    assert "data.query: train.csv: rows of a query must have one time" in said.err
    assert f"got several in {n_torn} queries; write the query's latest time" in said.err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"list": lambda train: train.index}, "some query must have rows of different relevance"),
        (
            {"grade": lambda train: train["list"].str[1:].astype(int) % 3},
            "some query must have rows of different relevance",
        ),
        (
            {"list": lambda train: "one"},
            "folds.n: there must be at least 2 queries, as a fold holds whole ones; got 1",
        ),
        (
            {"list": lambda train: train.index % 2},
            "folds.n: there must be a query for each fold; got 2 queries, folds.n=3; use folds.n=2",
        ),
        (
            {"list": lambda train: train["list"].mask(train.index == 3)},
            "every row must have a query; got none in row",
        ),
    ],
)
def test_lists_that_nothing_can_be_learnt_from_are_refused(
    tmp_path: Path, changed: Any, message: str
) -> None:
    made = project(tmp_path)
    table(tmp_path / "train.csv").assign(**changed).to_csv(tmp_path / "train.csv", index=False)
    for command in ("check", "run"):
        said = made.cli(command, tmp_path / "c.yaml")
        assert said.code == 3 and message in said.err and "group" not in said.err, said.err


def test_rows_without_their_lists_are_refused_whatever_else_is_missing(run: Project, tmp_path: Path) -> None:
    table(run.folder / "test.csv").drop(columns=["list", "a"]).to_csv(tmp_path / "rows.csv", index=False)
    said = run.cli("predict", run.run_folder, tmp_path / "rows.csv", "-o", tmp_path / "out.csv")
    assert said.code != 0 and "'list' is needed, as rows are ranked within its lists" in said.err, said.err
    assert "allow-missing" not in said.err and "in place of" not in said.err


def test_folds_that_tear_lists_are_refused_whatever_may_leak(tmp_path: Path) -> None:
    made = project(tmp_path, data={**config()["data"], "fold": "part"}, folds={"allow_leak": True})
    train = table(tmp_path / "train.csv")
    train.assign(part=train.index % 3).to_csv(tmp_path / "train.csv", index=False)
    said = made.run()
    assert said.code == 3 and "rows of a query must stand on one side of a fold; fold 0 has" in said.err, (
        said.err
    )
