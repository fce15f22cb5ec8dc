"""The stack-leak guard on scores that are written down: who wins where, and what is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stackfeat.engine.graph import Node
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.options import Output
from stackfeat.members.vote_options import VoteOptions
from stackfeat.metrics.registry import get_metric
from stackfeat.output.scores import (
    HeldScore,
    Score,
    choose_submission,
    find_overfit,
    fold_scale_warning,
    overfit_warnings,
)
from stackfeat.tasks.task import Kind, Task

LOSS = get_metric("log_loss", "binary")
AUC = get_metric("roc_auc", "binary")
COMMON = np.random.default_rng(0).normal(size=200)


def member(name: str, oof: float, held: float | None, noise: float = 0.01, vote: str | None = None) -> Score:
    """A score whose paired differences to others have about `noise` as standard error."""
    level, short = name.split("/")
    options = VoteOptions(vote=vote, inputs=("a",)) if vote else EstimatorOptions(estimator="e")  # type: ignore[arg-type]
    node = Node(level, short, (), (), (Output("proba", "prediction"),), 0)
    seed = sum(map(ord, name))
    wobble = COMMON + noise * np.random.default_rng(seed).normal(size=200)
    holdout = None if held is None else HeldScore(held, 1.0, 50, held + wobble)
    return Score(node, options, oof, 0.01, oof, [oof], 500, None, {}, oof + wobble, holdout)


def names(scores: list[Score], metric: object = LOSS) -> list[str]:
    return [item.member.node.full_name for item in find_overfit(scores, metric)]  # type: ignore[arg-type]


def test_a_level_that_wins_out_of_fold_and_loses_on_the_holdout_is_found() -> None:
    scores = [member("base/a", 0.40, 0.40), member("base/b", 0.45, 0.30), member("meta/m", 0.35, 0.50)]
    (found,) = find_overfit(scores, LOSS)
    assert (found.member.node.full_name, found.rival.node.full_name) == ("meta/m", "base/a")
    assert found.gap == pytest.approx(0.10)
    paired = np.std(scores[2].holdout.bootstrap - scores[0].holdout.bootstrap, ddof=1)  # type: ignore[union-attr]
    assert found.se == pytest.approx(paired) and found.se < 0.02
    (text,) = overfit_warnings([found], LOSS, "auto")
    assert text.startswith(
        "meta/m beats base/a out of fold (log_loss 0.35 against 0.4) but loses on the 50 held-out rows"
    )
    assert "worse by 0.1 ± 0.01" in text and text.endswith("submit: auto prefers the lower level")
    assert "because submit names it" in overfit_warnings([found], LOSS, "m")[0]
    assert overfit_warnings([found], LOSS, "base/b")[0].endswith("submit: base/b decides what is submitted")


@pytest.mark.parametrize(
    ("oof", "held", "noise"),
    [(0.35, 0.38, 0.01), (0.45, 0.60, 0.01), (0.35, 0.42, 0.05)],
    ids=["wins_on_both", "loses_on_both", "within_one_error"],
)
def test_other_members_are_left_in_peace(oof: float, held: float, noise: float) -> None:
    scores = [member("base/a", 0.40, 0.40, noise), member("meta/m", oof, held, noise)]
    assert names(scores) == []


def test_greater_is_better_turns_everything_round() -> None:
    scores = [member("base/a", 0.80, 0.80), member("meta/m", 0.90, 0.70), member("meta/n", 0.70, 0.90)]
    assert names(scores, AUC) == ["meta/m"]
    assert names(scores, LOSS) == ["meta/n"]
    overfit = {item.member.node.full_name for item in find_overfit(scores, AUC)}
    assert choose_submission(scores, AUC, "auto", overfit).node.full_name == "meta/n"


def test_an_overfitted_member_is_no_rival_for_the_levels_above() -> None:
    scores = [member("base/a", 0.40, 0.40), member("meta/m", 0.20, 0.60), member("top/t", 0.25, 0.50)]
    assert names(scores) == ["meta/m", "top/t"], "it does not beat meta/m, but base/a"


def test_without_held_out_rows_nothing_is_found() -> None:
    assert names([member("base/a", 0.40, None), member("meta/m", 0.35, None)]) == []


def test_a_hard_vote_is_no_rival_under_a_metric_of_probabilities() -> None:
    scores = [
        member("base/a", 0.40, 0.40),
        member("meta/h", 0.30, 0.40, vote="hard"),
        member("top/t", 0.35, 0.50),
    ]
    assert names(scores) == ["top/t"]


def chosen(scores: list[Score], *refused: str) -> str:
    return choose_submission(scores, LOSS, "auto", refused).node.full_name


def test_the_holdout_decides_what_auto_submits() -> None:
    scores = [member("base/a", 0.30, 0.50), member("base/b", 0.40, 0.40), member("meta/m", 0.20, 0.45)]
    assert chosen(scores) == "base/b"
    assert choose_submission(scores, LOSS, "meta/m").node.full_name == "meta/m"


def test_within_one_error_of_the_best_on_the_holdout_votes_and_lower_levels_come_first() -> None:
    base, meta = member("base/a", 0.40, 0.405), member("meta/m", 0.30, 0.400)
    soft, greedy = (member(f"top/{vote}", 0.30, 0.404, vote=vote) for vote in ("soft", "greedy"))
    assert chosen([base, meta]) == "base/a"
    assert chosen([base, meta, soft]) == "top/soft"
    assert chosen([base, meta, soft, greedy]) == "top/greedy"
    assert chosen([base, meta, soft, greedy], "top/greedy") == "top/soft", (
        "the guard comes before the preference"
    )


def test_within_one_error_of_the_best_members_that_keep_their_levels_come_first() -> None:
    base, meta = member("base/a", 0.400, None), member("meta/m", 0.405, None)
    greedy, far = member("top/greedy", 0.404, None, vote="greedy"), member("base/far", 0.50, None)
    off = [replace(score, levels_off=2) for score in (base, greedy)]
    assert chosen([base, meta, greedy, far]) == "top/greedy"
    assert chosen([*off, meta, far]) == "meta/m"
    assert chosen([*off, far]) == "top/greedy", "one that is worse by more does not come first"
    assert chosen([off[0], meta]) == "meta/m" and chosen([base, meta]) == "base/a"
    assert chosen([*off, replace(meta, levels_off=1)]) == "meta/m", "where none keeps them, the nearest"


def test_a_member_without_holdout_score_is_not_chosen_beside_those_that_have_one() -> None:
    assert chosen([member("base/a", 0.10, None), member("base/b", 0.40, 0.40)]) == "base/b"
    assert chosen([member("base/a", 0.10, None), member("base/b", 0.40, None)]) == "base/a"


def scored(name: str, pooled: float, fold_mean: float, se: float = 0.01) -> Score:
    options = EstimatorOptions(estimator="sklearn.svm.SVC")
    node = Node("base", name, ("table",), (), (), 0)
    return Score(node, options, pooled, se, fold_mean, [fold_mean], 100, None, {}, np.array([pooled]))


@pytest.mark.parametrize(
    ("kind", "classes", "remedy"), [("binary", (0, 1), "rank"), ("multiclass", (0, 1, 2), "logit")]
)
def test_a_gap_above_two_standard_errors_is_warned_of(
    kind: Kind, classes: tuple[int, ...], remedy: str
) -> None:
    scores = [scored("svm", 0.80, 0.83), scored("near", 0.82, 0.83), scored("better", 0.86, 0.83)]
    (text,) = fold_scale_warning(scores, get_metric("roc_auc", kind), Task(kind, classes))
    assert "for base/svm: fold models are on different scales" in text
    assert text.endswith(f"Try stack.average: {remedy}")


def test_metrics_that_rank_nothing_are_left_alone() -> None:
    task = Task("binary", (0, 1))
    assert fold_scale_warning([scored("svm", 0.9, 0.5)], get_metric("log_loss", "binary"), task) == []
