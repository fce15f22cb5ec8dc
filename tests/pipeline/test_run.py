"""What a second run computes: nothing, or only what changed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stackfeat.pipeline.run import run

Project = Any


def test_a_second_run_fits_nothing_and_writes_the_same_bytes(net: Project, fits: list[str]) -> None:
    before = net.outputs()
    result = run(net.folder / "c.yaml")
    assert (fits, result.n_computed) == ([], 0)
    # Folds of the base, pairs of folds for the nested member, alignment, meta, votes.
    assert result.n_cached == 3 * 3 + 3 * 3 + 1 + 2 * 4 + 2 * 4
    assert net.outputs() == before
    assert result.leaderboard["cached"].all()


def test_counting_sees_every_fit_of_a_first_run(quick: Project, fits: list[str]) -> None:
    result = run(quick.folder / "c.yaml", overrides=["store=elsewhere"])
    counts = Counter(fits)
    assert counts == {
        "lightgbm.LGBMClassifier": 3,
        "sklearn.linear_model.LogisticRegression": 3,
        "gated_linear": 4,
        "soft": 4,
        "greedy": 4,
    }
    assert result.n_computed == 18
    assert not result.leaderboard["cached"].any()


def test_a_new_member_and_what_reads_it_are_all_that_is_computed(quick: Project, fits: list[str]) -> None:
    config = quick.config()
    config["levels"]["base"]["tree"] = {
        "estimator": "sklearn.tree.DecisionTreeClassifier",
        "params": {"max_depth": 3},
    }
    config["levels"]["meta"]["alone"] = {"estimator": "gated_linear", "inputs": ["base/tree/proba"]}
    config["levels"]["meta"]["apart"] = {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "params": {"C": 2.0},
        "inputs": ["base/gbm/proba"],
    }
    quick.write(config)
    result = run(quick.folder / "c.yaml")
    assert Counter(fits) == {
        "sklearn.tree.DecisionTreeClassifier": 3,
        "sklearn.linear_model.LogisticRegression": 4,
        "gated_linear": 8,
        "soft": 4,
        "greedy": 4,
    }
    assert set(result.leaderboard.query("cached")["member"]) == {"gbm", "linear"}


def test_removing_a_member_leaves_the_others_as_they_are(quick: Project, fits: list[str]) -> None:
    config = quick.config()
    del config["levels"]["final"]["greedy"]
    config["levels"]["final"]["soft"]["inputs"] = ["base/*/proba"]
    del config["levels"]["meta"]
    result = run(quick.write(config).folder / "c.yaml")
    assert set(fits) == {"soft"}
    assert not (quick.run_folder / "oof" / "meta.gated.csv").exists()
    assert set(result.leaderboard["member"]) == {"gbm", "linear", "soft"}


@pytest.mark.parametrize(
    ("override", "refitted"),
    [
        ("metric=accuracy", {"greedy"}),  # the vote that is fitted to the metric
        ("submit=final/soft", set()),
        ("name=other", set()),
        ("outputs.dir=elsewhere", set()),
        ("decision=argmax", set()),
        ("stack.meta_fit=fold", set()),
        ("stack.average=logit", set()),
        ("stack.averaging=early", set()),
        ("stack.averaging=refit", {"lightgbm.LGBMClassifier", "sklearn.linear_model.LogisticRegression"}),
        ("executor.retries=5", set()),
        ("levels.meta.gated.params={max_blocks: 2}", {"gated_linear", "soft", "greedy"}),
        (
            "levels.base.linear.params={C: 0.5}",
            {"sklearn.linear_model.LogisticRegression", "gated_linear", "soft", "greedy"},
        ),
    ],
)
def test_only_what_depends_on_a_changed_option_is_fitted(
    override: str, refitted: set[str], quick: Project, fits: list[str]
) -> None:
    run(quick.folder / "c.yaml", overrides=[override])
    assert set(fits) == refitted


def test_another_test_file_refits_nothing(net: Project, fits: list[str]) -> None:
    lines = (net.folder / "test.csv").read_text().splitlines()
    (net.folder / "test.csv").write_text("\n".join(lines[:31]) + "\n")
    result = run(net.folder / "c.yaml")
    assert result.n_computed > 0
    # Fold spaces are aligned on training rows, so not even their maps are fitted again.
    assert fits == []
    assert len(net.submission()) == 31


def test_a_touched_or_renamed_file_of_the_same_bytes_refits_nothing(quick: Project, fits: list[str]) -> None:
    (quick.folder / "train.csv").rename(quick.folder / "learn.csv")
    result = run(quick.folder / "c.yaml", overrides=["data.train=learn.csv"])
    assert (fits, result.n_computed) == ([], 0)


def test_a_run_without_a_test_file_reuses_the_fits_and_drops_the_submission(
    quick: Project, fits: list[str]
) -> None:
    config = quick.config()
    del config["data"]["test"]
    result = run(quick.write(config).folder / "c.yaml")
    assert fits == []
    assert result.submission is None
    assert not (quick.run_folder / "submission.csv").exists()
    assert not (quick.run_folder / "test").exists()
