"""Runs are compared row by row: the better of two is named, and chance is not."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from stackfeat.errors import DataError, UsageError
from stackfeat.output.digits import places_worth
from stackfeat.pipeline.compare import Comparison, compare
from tests.projects import Config, Project, base_config, plain_config, write_table

LOGISTIC = "sklearn.linear_model.LogisticRegression"


def planted(folder: Path, seed: int, n_rows: int = 600) -> Project:
    """A binary target of six columns; rows of test.csv are as many, with their labels in fresh.csv."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    X = random.normal(size=(2 * n_rows, 6))
    logit = X[:, 0] + 0.7 * X[:, 1] + 0.5 * X[:, 2] + 0.6 * X[:, 3]
    y = np.where(random.random(2 * n_rows) < 1 / (1 + np.exp(-logit)), "yes", "no")
    header = ["row_id", *"abcdef"]
    rows = [[f"{i:05d}", *(f"{value:.4f}" for value in X[i])] for i in range(2 * n_rows)]
    write_table(folder / "train.csv", [[*header, "label"], *([*rows[i], y[i]] for i in range(n_rows))])
    write_table(folder / "test.csv", [header, *rows[n_rows:]])
    np.save(folder / "fresh.npy", y[n_rows:] == "yes")
    config = {
        **base_config("binary", "log_loss"),
        "folds": {"n": 5},
        "levels": {"base": {"one": {"estimator": LOGISTIC}}},
    }
    return Project(folder).write(config)


def ran(project: Project, name: str, *changes: str) -> Path:
    said = project.run("--set", f"name={name}", *(word for change in changes for word in ("--set", change)))
    assert said.code == 0, said.err
    return project.folder / "runs" / name


def fresh_gap(project: Project, worse: Path, better: Path) -> tuple[float, float]:
    """By how much one run is better on the rows of test.csv, and the standard error over these rows."""
    y = np.load(project.folder / "fresh.npy")
    losses = []
    for run in (worse, better):
        proba = pd.read_csv(run / "test" / "base.one.csv")["yes"].to_numpy()
        losses.append(-np.log(np.where(y, proba, 1 - proba)))
    gaps = losses[0] - losses[1]
    return float(gaps.mean()), float(stats.sem(gaps))


SHRUNK = "levels.base.linear.params={C: 0.02}"
TREES = "levels.base.one={estimator: sklearn.ensemble.ExtraTreesClassifier, params: {n_estimators: 10, max_depth: 6}}"


@pytest.mark.parametrize("seed", range(2))
def test_the_better_of_two_configs_is_named_and_two_seeds_are_not(seed: int, tmp_path: Path) -> None:
    project = planted(tmp_path / "planted", seed)
    full, less = ran(project, "full"), ran(project, "less", "data.drop=[b]")
    gap, error = fresh_gap(project, less, full)
    assert gap > 3 * error
    found = compare(less, full)
    assert found.verdict.startswith("full is better than less: log_loss 0.")
    assert [run.name for run in found.runs] == ["full", "less"] and found.pairs[0].is_sure
    one, two = ran(project, "seed1", "seed=1", TREES), ran(project, "seed2", "seed=2", TREES)
    assert compare(one, two).verdict.startswith("no difference beyond chance: seed")


@pytest.mark.slow
def test_nine_of_ten_plantings_are_told_apart_and_nine_of_ten_pairs_of_seeds_are_not(tmp_path: Path) -> None:
    named = equal = n_planted = n_pairs = 0
    for seed in range(100, 140):
        project = planted(tmp_path / f"planted{seed}", seed, n_rows=1500)
        if n_planted < 10:
            full, less = ran(project, "full"), ran(project, "less", "data.drop=[b]")
            gap, error = fresh_gap(project, less, full)
            if gap >= 3 * error:
                n_planted += 1
                named += compare(full, less).verdict.startswith("full is better than less")
        if n_pairs < 10:
            one, two = (ran(project, f"seed{k}", f"seed={k}", TREES) for k in (2 * seed, 2 * seed + 1))
            n_pairs += 1
            equal += compare(one, two).verdict.startswith("no difference")
        if n_planted == n_pairs == 10:
            break
    assert (n_planted, n_pairs) == (10, 10)
    assert named >= 9
    assert equal >= 9


@pytest.fixture(scope="module")
def runs(plain_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Finished runs of one project: `run`, `deep` (another tree), `folds` (another assignment), `acc` (a metric)."""
    project = plain_run.copy(tmp_path_factory.mktemp("compared") / "project")
    ran(project, "deep", "levels.base.tree.params.max_depth=1", SHRUNK, "submit=final/soft")
    ran(project, "folds", "folds.seed=7")
    ran(project, "acc", "metric=accuracy", "submit=base/linear")
    return project


def folder_of(project: Project, name: str) -> Path:
    return project.folder / "runs" / name


def out_of_fold(project: Project, name: str, member: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities in the order of the training file."""
    y = pd.read_csv(project.folder / "train.csv")["label"].to_numpy()
    return y, pd.read_csv(folder_of(project, name) / "oof" / f"{member}.csv").iloc[:, 1:].to_numpy()


def test_scores_and_the_standard_error_are_those_of_the_files(runs: Project) -> None:
    found = compare(folder_of(runs, "run"), folder_of(runs, "deep"), member="base/linear")
    losses = {}
    for name in ("run", "deep"):
        y, proba = out_of_fold(runs, name, "base.linear")
        score = next(run.score for run in found.runs if run.name == name)
        assert score == pytest.approx(log_loss(y, proba))
        codes = np.searchsorted(["high", "low", "mid"], y)
        clipped = np.clip(proba, np.finfo(np.float64).eps, 1)
        losses[name] = -np.log(clipped[np.arange(len(y)), codes])
    pair = found.pair("run", "deep")
    better, worse = losses[pair.better], losses[pair.worse]
    assert pair.gap.value == pytest.approx(float((worse - better).mean()))
    assert pair.gap.se_rows == pytest.approx(float(stats.sem(worse - better)), rel=0.15)
    folds = pd.read_csv(folder_of(runs, "run") / "folds.csv")["fold"].to_numpy()
    parts = [(worse - better)[folds == fold] for fold in range(3)]
    excess = np.var([part.mean() for part in parts], ddof=1) - np.mean(
        [stats.sem(part) ** 2 for part in parts]
    )
    share = np.mean([len(part) / (80 - len(part)) for part in parts])
    wanted = max(0.0, excess) * 2 / (2 + 2) * (1 / 3 + share)
    assert pair.gap.se_training**2 == pytest.approx(wanted, rel=0.35, abs=1e-3)
    assert pair.test_share == pytest.approx(share) and pair.same_folds and pair.training == "folds"


def test_what_auto_chose_is_compared_with_its_cross_fitted_score(runs: Project) -> None:
    found = compare(folder_of(runs, "run"), folder_of(runs, "deep"))
    by_name = {run.name: run for run in found.runs}
    assert by_name["run"].compared == "auto" and by_name["deep"].compared == "final/soft"
    scores = json.loads((folder_of(runs, "run") / "scores.json").read_text())
    assert by_name["run"].score == pytest.approx(scores["auto"]["score"])
    assert by_name["run"].se == pytest.approx(scores["auto"]["se"], rel=0.2)


def test_other_folds_are_compared_and_said(runs: Project) -> None:
    found = compare(folder_of(runs, "run"), folder_of(runs, "folds"))
    assert not found.pairs[0].same_folds
    assert any(
        "folds differ: the comparison holds, as every row is out of fold" in note for note in found.notes
    )
    assert [one.path for one in found.differences] == ["folds.seed"]
    assert found.differences[0].values == ("42", "7")


def test_several_runs_are_corrected_and_the_best_is_optimistic(runs: Project) -> None:
    found = compare(*(folder_of(runs, name) for name in ("run", "deep", "folds")))
    assert len(found.pairs) == 3
    assert all(pair.p_corrected >= pair.gap.p for pair in found.pairs)
    assert found.optimism is not None and found.optimism >= 0
    assert any("corrected for 3 comparisons (Holm)" in note for note in found.notes)
    assert any(note.startswith("best of 3 runs: expect its score to be 0.") for note in found.notes)
    assert found.verdict.startswith("no difference beyond chance: ")


def test_other_metrics_need_one_that_both_are_scored_with(runs: Project) -> None:
    folders = folder_of(runs, "run"), folder_of(runs, "acc")
    with pytest.raises(UsageError, match=r"got log_loss \(run\), accuracy \(acc\); give --metric NAME"):
        compare(*folders)
    y, proba = out_of_fold(runs, "acc", "base.linear")
    losses = compare(*folders, metric="log_loss")
    assert next(run.score for run in losses.runs if run.name == "acc") == pytest.approx(log_loss(y, proba))
    shares = compare(*folders, metric="accuracy", member="base/linear")
    classes = np.array(["high", "low", "mid"])
    for run in shares.runs:
        assert run.score == pytest.approx(accuracy_score(y, classes[proba.argmax(axis=1)]))
    assert shares.pairs[0].gap.se == 0 and shares.verdict.startswith("no difference: ")
    with pytest.raises(ValueError, match="metric must fit task multiclass; got 'rmse'"):
        compare(*folders, metric="rmse")


def test_rows_are_matched_by_id_and_common_rows_are_said(runs: Project) -> None:
    other = runs.copy(runs.folder.parent / "fewer")
    shutil.rmtree(other.folder / "runs")
    rows = (other.folder / "train.csv").read_text().splitlines()
    (other.folder / "train.csv").write_text("\n".join([rows[0], *reversed(rows[11:])]) + "\n")
    found = compare(folder_of(runs, "run"), ran(other, "fewer"))
    assert found.n_rows == 70
    assert any(note.startswith("the 70 rows that all runs predict are compared") for note in found.notes)
    y, proba = out_of_fold(runs, "run", "final.soft")
    assert next(run.score for run in found.runs if run.name == "run") == pytest.approx(
        log_loss(y[10:], proba[10:])
    )


def test_other_labels_and_targets_are_refused(runs: Project) -> None:
    other = runs.copy(runs.folder.parent / "labels")
    shutil.rmtree(other.folder / "runs")
    train = pd.read_csv(other.folder / "train.csv", dtype=str, keep_default_na=False)
    train.loc[3, "label"] = "low" if train.loc[3, "label"] != "low" else "mid"
    train.to_csv(other.folder / "train.csv", index=False)
    with pytest.raises(
        UsageError, match=r"got 1 of 80 ids with another: id 003 is \w+ in run and \w+ in labels"
    ):
        compare(folder_of(runs, "run"), ran(other, "labels"))
    train["label"] = [f"{number}.5" for number in range(len(train))]
    train.to_csv(other.folder / "train.csv", index=False)
    other.write(plain_config("regression", "rmse"))
    with pytest.raises(
        UsageError, match=r"same target; got run \(multiclass, classes: .*\) and values \(regression\)"
    ):
        compare(folder_of(runs, "run"), ran(other, "values"), metric="log_loss")
    train["row_id"] = [f"x{number}" for number in range(len(train))]
    train["label"] = "low"
    train.loc[::2, "label"] = "mid"
    train.loc[::3, "label"] = "high"
    train.to_csv(other.folder / "train.csv", index=False)
    other.write(plain_config())
    with pytest.raises(
        UsageError, match=r"at least 20 rows of the same ids; got 0 in common of 80 \(run\), 80 \(ids\)"
    ):
        compare(folder_of(runs, "run"), ran(other, "ids"))


def test_wrong_runs_and_members_are_named(runs: Project, tmp_path: Path) -> None:
    run = folder_of(runs, "run")
    with pytest.raises(UsageError, match=r"compare takes 2 to 30 runs; got 1"):
        compare(run)
    with pytest.raises(UsageError, match=r"compare takes different runs; got .* more than once"):
        compare(run, run.parent / "." / "run")
    with pytest.raises(UsageError, match="RUN must be the folder of a finished run"):
        compare(run, tmp_path)
    with pytest.raises(UsageError, match=r"got 'base/tre'\. Did you mean 'base/tree'\?"):
        compare(run, folder_of(runs, "deep"), member="base/tre")
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    with pytest.raises(
        DataError, match=r"the run's store must be there; got no folder .*; say where it is with --store"
    ):
        compare(run, copied)
    found = compare(run, copied, store=runs.folder / ".stackfeat")
    assert found.verdict.startswith("no difference: ")


def test_repeats_show_what_the_training_adds(runs: Project) -> None:
    one, two = (
        ran(runs, name, "folds.repeats=3", *changes, "submit=base/linear")
        for name, changes in (("three", []), ("four", [SHRUNK]))
    )
    found = compare(one, two)
    (pair,) = found.pairs
    assert pair.training == "repeats" and pair.test_share is None
    # By hand, from the entries that hold the rows of each repeat.
    from stackfeat.pipeline.opened_run import OpenedRun

    losses = {}
    for folder in (one, two):
        run = OpenedRun.of(folder, folder.name)
        places = next(block.oof for block in run.index.blocks if block.name == "base/linear/proba")
        each = []
        for repeat, listed in enumerate(places):
            proba = np.empty((80, 3))
            for fold, place in enumerate(listed):
                assert place is not None
                proba[run.folds.splits[repeat][fold][1]] = run.store.read(place[0]).array(place[1])
            each.append(log_loss(run.samples.labels, proba))
        losses[folder.name] = np.array(each)
    gaps = losses["three"] - losses["four"]
    assert pair.gap.se_training == pytest.approx(stats.sem(gaps))
    mixed = compare(one, folder_of(runs, "run"), member="base/linear")
    assert mixed.pairs[0].training == "folds"
    assert any("more repeats average more fits" in note for note in mixed.notes)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Projects of 120 rows in ten groups, or in time, whose labels are those of `planted`."""

    def make(change: Callable[[Config], None], task: str = "binary") -> Project:
        project = planted(tmp_path / f"made{len(list(tmp_path.iterdir()))}", 5, n_rows=120)
        train = pd.read_csv(project.folder / "train.csv", dtype={"row_id": str})
        train["owner"] = [f"o{row % 10}" for row in range(len(train))]
        train["day"] = range(len(train))
        train.to_csv(project.folder / "train.csv", index=False)
        config = {**project.config(), "levels": {"base": {"one": {"estimator": LOGISTIC}}}}
        config["data"].pop("test")
        config["data"]["drop"] = ["owner", "day"]
        change(config)
        return project.write(config)

    yield make


def test_groups_are_resampled_whole(made: Callable[..., Project]) -> None:
    def by_owner(config: Config) -> None:
        config["data"] |= {"group": "owner", "drop": ["day"]}

    project = made(by_owner)
    found = compare(ran(project, "full"), ran(project, "less", "data.drop=[day, a]"))
    assert found.units == "10 groups"
    assert any("a paired bootstrap over 10 groups" in note for note in found.notes)


def test_folds_that_follow_time_are_the_unit(made: Callable[..., Project]) -> None:
    def by_day(config: Config) -> None:
        config["data"] |= {"time": "day", "drop": ["owner"]}
        config["folds"] = {"n": 5, "kind": "time"}
        config["metric"] = "roc_auc"

    project = made(by_day)
    full = ran(project, "full")
    found = compare(full, ran(project, "less", "data.drop=[owner, a]"))
    scores = json.loads((full / "scores.json").read_text())["members"]["base/one"]
    assert next(run.score for run in found.runs if run.name == "full") == pytest.approx(scores["score"])
    losses = compare(full, project.folder / "runs" / "less", metric="log_loss")
    assert losses.units == "5 folds that follow time" and 0 < losses.pairs[0].gap.df <= 4 + 6


def test_another_order_of_classes_is_no_other_target(made: Callable[..., Project]) -> None:
    project = made(lambda config: None)
    one = ran(project, "one")
    two = ran(project, "two", "data.class_order=[yes, no]")
    for metric in ("log_loss", "accuracy"):
        assert compare(one, two, metric=metric).pairs[0].gap.value == pytest.approx(0.0, abs=1e-9)
    y = pd.read_csv(project.folder / "train.csv")["label"] == "yes"
    proba = pd.read_csv(one / "oof" / "base.one.csv")["yes"]
    assert compare(one, two, metric="roc_auc").runs[0].score == pytest.approx(roc_auc_score(y, proba))


def test_digits_follow_the_standard_error() -> None:
    assert [places_worth(error) for error in (0.0012, 0.5, 12.0, 0.0)] == [4, 2, 0, 4]


def test_the_command_says_all_that_its_json_holds(runs: Project, tmp_path: Path) -> None:
    folders = folder_of(runs, "run"), folder_of(runs, "deep")
    runs.cli("note", folders[0], "--lb", "0.81")
    said = runs.cli("compare", *folders, "-o", tmp_path / "pairs.csv")
    assert said.code == 0, said.err
    found = json.loads(runs.cli("compare", *folders, "--json").out)
    assert said.out.splitlines()[-1] == found["verdict"]
    assert "public" in said.out and "private" not in said.out
    for text in (found["metric"], "0.81", "levels.base.tree.params.max_depth", *found["notes"]):
        assert text in said.out
    assert max(map(len, (line for line in said.out.splitlines() if " " * 3 in line))) <= 100
    with (tmp_path / "pairs.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    pair = found["pairs"][0]
    assert row["better"] == pair["better"] and float(row["gain"]) == pair["gap"]["value"]
    assert float(row["se"]) == pair["gap"]["se"] and row["beyond_chance"] == str(pair["beyond_chance"])
    assert isinstance(compare(*folders), Comparison) and str(compare(*folders)) == found["verdict"]
