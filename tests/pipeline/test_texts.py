"""Columns of text from the config to the predictor: signal is found, noise is not, nothing odd stops a run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from tests.projects import Config, Project

GOOD, BAD = ("lovely", "great", "perfect", "soft"), ("awful", "torn", "cheap", "itchy")
OTHERS = tuple(f"word{i}" for i in range(40))


def reviews(n_rows: int, seed: int, *, is_noise: bool = False) -> pd.DataFrame:
    """Rows whose label two words of the text say, and a little a number; with noise nothing does."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n_rows)
    said = rng.integers(0, 2, n_rows) if is_noise else y
    texts = [
        " ".join(rng.permutation([*rng.choice(OTHERS, 8), *rng.choice(GOOD if one else BAD, 2)]))
        for one in said
    ]
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(n_rows)], "x": rng.normal(size=n_rows) + 0.3 * said})
    frame["review"] = [None if rng.random() < 0.05 else text for text in texts]
    return frame.assign(y=np.where(y == 1, "yes", "no"))


def config(**levels: Any) -> Config:
    members = levels or {
        "gbm": {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 20, "num_leaves": 7}},
        "terms": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "prepare": "sparse",
            "params": {"C": 5.0},
        },
        "mlp": {
            "net": "mlp",
            "params": {"hidden": [16]},
            "train": {"epochs": 15, "batch_size": 32, "lr": 0.02},
            "emit": ["proba", "penultimate"],
        },
        "cnn": {
            "net": "text_cnn",
            "params": {"width": 8, "filters": 4, "hidden": 8, "dropout": 0.0},
            "train": {"epochs": 6, "batch_size": 16, "lr": 0.02},
            "emit": ["proba", "hidden.0"],
        },
    }
    return {
        "name": "run",
        "task": "binary",
        "metric": "log_loss",
        "data": {
            "train": "train.csv",
            "test": "test.csv",
            "id": "id",
            "target": "y",
            "types": {"review": "text"},
        },
        "folds": {"n": 3},
        "levels": {"base": members, "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}}},
        "executor": {"kind": "inline"},
        "outputs": {"dir": "runs/run"},
    }


def project(folder: Path, values: Config, *, n_rows: int = 240, **others: Any) -> Project:
    folder.mkdir(exist_ok=True)
    reviews(n_rows, 1, **others).to_csv(folder / "train.csv", index=False)
    reviews(60, 2, **others).drop(columns="y").to_csv(folder / "test.csv", index=False)
    return Project(folder).write(values)


def scores(made: Project) -> dict[str, float]:
    with (made.run_folder / "leaderboard.csv").open(newline="") as file:
        return {f"{row['level']}/{row['member']}": float(row["score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = project(tmp_path_factory.mktemp("texts") / "a", config())
    said = made.run()
    assert said.code == 0, said.err
    return made


def test_every_member_learns_what_words_say(ran: Project) -> None:
    found = scores(ran)
    assert set(found) == {"base/gbm", "base/terms", "base/mlp", "base/cnn", "meta/gated"}
    assert max(found.values()) < 0.45 < np.log(2)
    test = pd.read_csv(ran.run_folder / "submission.csv")
    right = (reviews(60, 2).set_index("id")["y"] == "yes").loc[test["id"]].to_numpy()
    assert np.mean((test.iloc[:, -1].to_numpy() > 0.5) == right) > 0.85


def test_the_words_of_names_are_found_and_read_by_the_predictor(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 240)
    titles = np.where(rng.random(240) < 0.9, y, 1 - y)
    names = [f"Family{i}, {('Mr', 'Mrs')[title]}. First{i % 50}" for i, title in enumerate(titles)]
    frame = pd.DataFrame(
        {"id": range(240), "who": names, "x": rng.normal(size=240), "y": np.where(y, "yes", "no")}
    )
    frame.iloc[:180].to_csv(tmp_path / "train.csv", index=False)
    frame.iloc[180:].drop(columns="y").to_csv(tmp_path / "test.csv", index=False)
    members = {"line": {"estimator": "sklearn.linear_model.LogisticRegression"}}
    members["terms"] = {**members["line"], "prepare": "sparse"}
    members["gbm"] = {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 20, "num_leaves": 4}}
    members["mlp"] = {
        "net": "mlp",
        "params": {"hidden": [8]},
        "train": {"epochs": 15, "batch_size": 32, "lr": 0.02},
    }
    values = config(**members)
    values["data"]["types"] = {"who": "words"}
    made = Project(tmp_path).write(values)
    said = made.run()
    assert said.code == 0, said.err
    # The title is right in nine rows of ten: a log-loss of 0.33.
    assert max(score for name, score in scores(made).items() if name != "meta/gated") < 0.5
    submitted = pd.read_csv(made.run_folder / "submission.csv").iloc[:, -1].to_numpy()
    found = sf.load(made.run_folder).predict_proba(pd.read_csv(tmp_path / "test.csv"))[:, 1]
    np.testing.assert_allclose(found, submitted, atol=1e-9)
    assert np.mean((submitted > 0.5) == (y[180:] == 1)) > 0.8


def test_what_was_read_is_said(ran: Project) -> None:
    log = (ran.run_folder / "run.log").read_text()
    assert "read as text (data.types): review" in log and "1 text" in log


def test_the_predictor_gives_the_rows_of_the_run_and_takes_odd_ones(ran: Project) -> None:
    model = sf.load(ran.run_folder)
    test = pd.read_csv(ran.folder / "test.csv")
    submitted = pd.read_csv(ran.run_folder / "submission.csv").iloc[:, -1].to_numpy()
    np.testing.assert_allclose(model.predict_proba(test)[:, 1], submitted, atol=1e-9)
    odd = test.head(5).copy()
    odd["review"] = [None, "", "x" * 100_000, "new words only", 5]
    found = model.predict_proba(odd)
    assert np.isfinite(found).all()
    one_by_one = np.vstack([model.predict_proba(odd.iloc[[row]]) for row in range(len(odd))])
    np.testing.assert_array_equal(one_by_one, found)
    blank = test.head(2).copy()
    blank["review"] = [None, "   "]
    blank["x"] = 0.0
    np.testing.assert_array_equal(*model.predict_proba(blank))
    assert model.drift(test)["kind"].tolist().count("text") == 1


def test_a_second_run_fits_nothing(ran: Project) -> None:
    before = ran.outputs()
    assert "jobs computed: 0" in ran.run().out
    assert ran.outputs() == before


def test_a_text_can_be_explained_and_left_out_by_a_student(ran: Project, tmp_path: Path) -> None:
    said = ran.cli("explain", ran.run_folder)
    assert said.code == 0 and "review" in said.out
    student = ran.cli("distil", ran.run_folder, "--student", "lightgbm", "-o", tmp_path / "s.zip")
    # It has a number alone, and is no better than one trained on labels.
    assert student.code == 1 and "not shipped" in student.out


def test_words_say_nothing_of_labels_that_are_noise(tmp_path: Path) -> None:
    gained = []
    levels = config()["levels"]["base"]
    for seed in range(3):
        values = config(**{name: levels[name] for name in ("gbm", "terms", "cnn")})
        made = project(tmp_path / str(seed), {**values, "seed": seed}, is_noise=True)
        reviews(200, 10 + seed, is_noise=True).to_csv(made.folder / "train.csv", index=False)
        assert made.run().code == 0
        for member in ("terms", "cnn"):
            oof = pd.read_csv(made.run_folder / "oof" / f"base.{member}.csv").set_index("id")
            y = (
                (reviews(200, 10 + seed, is_noise=True).set_index("id")["y"] == "yes")
                .loc[oof.index]
                .to_numpy()
            )
            gained.append(np.mean((oof.iloc[:, -1].to_numpy() > 0.5) == y) - max(y.mean(), 1 - y.mean()))
        assert scores(made)["meta/gated"] > np.log(2) - 0.03
    assert np.mean(gained) < 3 * 0.5 / np.sqrt(600)


def test_a_net_that_reads_texts_needs_one(tmp_path: Path) -> None:
    values = config(bag={"net": "text_bag", "emit": ["proba"]})
    values["data"]["types"] = {"review": "categorical"}
    said = project(tmp_path / "d", values).cli("check", tmp_path / "d" / "c.yaml")
    assert said.code == 2, said.err
    assert (
        "base.bag.net: net 'text_bag' must have a column of text to read; got none. Declare one" in said.err
    )


def test_text_is_refused_where_nothing_can_read_it(tmp_path: Path) -> None:
    values = config()
    values["levels"]["meta"]["terms"] = {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "prepare": "sparse",
        "inputs": ["base/*/proba", "table"],
    }
    said = project(tmp_path / "c", values).cli("check", tmp_path / "c" / "c.yaml")
    assert (
        said.code == 2 and "prepare: sparse is for members that read raw inputs alone" in said.err + said.out
    )
