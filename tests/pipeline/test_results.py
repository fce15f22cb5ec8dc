"""What a run measures of its feature blocks stands in scores.json, the log and the report, and warns once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import log_loss

from tests.pages import Page
from tests.projects import base_config, plain_config

Project = Any


def test_every_feature_block_is_measured_and_shown(net: Project) -> None:
    blocks = net.scores()["blocks"]
    assert set(blocks) == {"base/mlp/penultimate@geometry", "base/mlp/penultimate@aligned"}
    page = Page.of(net.run_folder / "report.html")
    rows = {row["block"]: row for row in page.table("Are columns of fold models")}
    log = (net.run_folder / "run.log").read_text()
    for name, found in blocks.items():
        for measure in ("fold_id", "auc", "random_cv_gain", "random_cv_se"):
            assert isinstance(found[measure], float), (name, measure)
            assert f"{measure} {found[measure]:.3g}" in log
        assert (found["n_anchors"] is not None) == name.endswith("@aligned")
        row = rows[name]
        assert row["fold guessed"] == f"{found['fold_id']:.2f}"
        assert row["random CV gain"].startswith(f"{found['random_cv_gain']:+.3f} ±")
        assert row["in words"] == ("; ".join(found["warnings"]) or "comparable")
    assert "0.33 is guessing; above 0.67" in page.text


def test_raw_activations_are_found_and_warned_of_once(
    build: Callable[..., Project], make_config: Callable[..., Any]
) -> None:
    config = make_config()
    net = {
        "net": "mlp",
        "params": {"hidden": [64]},
        "train": {"epochs": 25, "batch_size": 16, "lr": 5e-3},
        "emit": ["proba", {"tap": "penultimate", "encode": ["raw", "geometry"]}],
    }
    config["levels"] = {"base": {"mlp": net}}
    project = build(config=config, n_rows=240)
    assert project.run().code == 0
    scores = project.scores()
    found = scores["blocks"]["base/mlp/penultimate@raw"]
    assert found["fold_id"] > 0.67
    assert (
        found["random_cv_gain"] > 0.05 > scores["blocks"]["base/mlp/penultimate@geometry"]["random_cv_gain"]
    )
    assert len(found["warnings"]) >= 2
    assert len([text for text in scores["warnings"] if "penultimate@raw" in text]) == 1


def test_a_time_split_has_no_random_counterpart(
    build: Callable[..., Project], add_net: Any, make_config: Any
) -> None:
    config = add_net(make_config())
    config["levels"].pop("meta")
    config["levels"].pop("final")
    config["data"]["time"] = "row_id"
    config["data"].pop("id")
    project = build(config=config)
    assert project.run().code == 0
    assert {found["random_cv_gain"] for found in project.scores()["blocks"].values()} == {None}
    assert "–" in (project.run_folder / "report.html").read_text()


def test_the_score_of_a_run_is_that_of_choices_by_the_rows_of_other_folds(
    build: Callable[..., Project],
) -> None:
    project = build("binary", base_config("binary"))
    said = project.run()
    assert said.code == 0
    scores = project.scores()
    auto, chosen = scores["auto"], scores["members"][scores["submitted"]]
    folds = pd.read_csv(project.run_folder / "folds.csv", dtype=str).set_index("id")["fold"]
    y = pd.read_csv(project.folder / "train.csv", dtype=str).set_index("row_id")["label"]
    parts = []
    for fold, name in auto["choices"].items():
        table = pd.read_csv(project.run_folder / "oof" / scores["members"][name]["file"], dtype={"id": str})
        parts.append(table[table["id"].map(folds) == fold])
    together = pd.concat(parts)
    positive = together.columns[-1]
    truth = y.loc[together["id"]].to_numpy() == positive
    assert auto["n_rows"] == len(together) == len(y)
    assert auto["score"] == pytest.approx(log_loss(truth, together[positive]), abs=1e-6)
    assert auto["optimism"] == pytest.approx(auto["score"] - chosen["score"])
    headline = (
        f"{scores['submitted']} is submitted: log_loss {auto['score']:.3f} ± {auto['se']:.3f} out of fold"
    )
    assert 0.01 <= auto["se"] < 0.1, "an error of two decimals shows three"
    assert headline in said.out and headline in Page.of(project.run_folder / "report.html").text


def test_nothing_is_chosen_out_of_fold_where_submit_names_a_member_or_held_out_rows_decide(
    build: Callable[..., Project],
) -> None:
    project = build("binary", plain_config("binary"))
    first = next(iter(project.config()["levels"]["base"]))
    assert project.run("--set", f"submit=base/{first}").code == 0
    assert project.scores()["auto"] is None
    assert project.run("--set", "stack.holdout=0.3").code == 0
    assert project.scores()["auto"] is None
