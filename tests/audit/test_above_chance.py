"""Skill against shuffled labels, and verdicts that stay quiet on noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from stackfeat.audit.above_chance import Skill, judge, measure_skill
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

BINARY = Task("binary", (0, 1))
MULTICLASS = Task("multiclass", ("a", "b", "c"))
VALUES = Task("regression")


def test_ranking_is_the_area_under_the_curve_or_spearmans_correlation() -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), size=200).round(1)
    y = rng.integers(0, 3, 200)
    by_class = [roc_auc_score(y == c, proba[:, c]) for c in range(3)]
    assert MULTICLASS.ordering(proba)(y) == pytest.approx(np.mean(by_class))
    assert MULTICLASS.ordering(proba)(y % 2) == pytest.approx(
        np.mean([roc_auc_score(y % 2 == c, proba[:, c]) for c in range(2)])
    )
    two = np.column_stack([1 - proba[:, 0], proba[:, 0]])
    assert BINARY.ordering(two)(y % 2) == pytest.approx(roc_auc_score(y % 2, two[:, 1]))
    values, target = rng.normal(size=(50, 1)), rng.normal(size=50).round(1)
    assert VALUES.ordering(values)(target) == pytest.approx(spearmanr(values[:, 0], target)[0])
    assert VALUES.ordering(np.ones((50, 1)))(target) == 0.0


@pytest.mark.parametrize("name", ["log_loss", "roc_auc", "brier"])
def test_skill_is_zero_for_noise_and_large_for_knowledge_whatever_the_metric(name: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    noise = rng.beta(0.3, 0.3, size=400)
    knows = 0.3 + 0.4 * y
    metric = get_metric(name, "binary")
    for positive, is_zero in ((noise, True), (knows, False), (np.full(400, 0.5), True)):
        proba = np.column_stack([1 - positive, positive])
        for skill in measure_skill(y, proba, metric, BINARY, seed=0).values():
            assert (abs(skill.value) <= 3 * skill.sd + 1e-12) == is_zero


def test_a_metric_that_reads_labels_leaves_ranking_and_an_absent_class_leaves_out_the_metric() -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(2), size=60)
    assert set(measure_skill(np.arange(60) % 2, proba, get_metric("f1", "binary"), BINARY, 0)) == {"ranking"}
    one_class = np.zeros(60, dtype=int)
    assert set(measure_skill(one_class, proba, get_metric("log_loss", "binary"), BINARY, 0)) == {"log_loss"}


def skills(rng: np.random.Generator, n_members: int, mean: float, spread: float) -> dict:
    """Five reruns of members that vary `spread` times as much as shuffled labels say."""
    return {
        (f"m{member}", "ranking"): [
            (Skill(float(rng.normal(mean, spread)), 1.0), Skill(float(rng.normal()), 1.0)) for _ in range(5)
        ]
        for member in range(n_members)
    }


@pytest.mark.parametrize(("n_members", "spread"), [(3, 1.0), (3, 3.0), (12, 1.0), (12, 3.0)])
def test_few_honest_audits_fail(n_members: int, spread: float) -> None:
    rng = np.random.default_rng(1)
    audits = [judge(skills(rng, n_members, 0.0, spread), base=()) for _ in range(300)]
    n_failed = sum(any(verdict.verdict == "above chance" for verdict in verdicts) for verdicts in audits)
    assert n_failed <= 9, "1 % are meant to fail, 3 of 300"


def test_a_leak_is_above_chance_and_pessimism_is_not() -> None:
    rng = np.random.default_rng(1)
    found = skills(rng, 6, 0.0, 1.0) | {("leak", "ranking"): [(Skill(4.0, 1.0), Skill(0.0, 1.0))] * 5}
    found[("low", "ranking")] = [(Skill(-4.0, 1.0), Skill(0.0, 1.0))] * 5
    above = {
        verdict.member: verdict for verdict in judge(found, base=()) if verdict.verdict == "above chance"
    }
    assert list(above) == ["leak"]
    assert above["leak"].gap.low > 0 and above["leak"].oof.mean == 4.0
    held_out = judge({("m", "ranking"): [(Skill(0.0, 1.0), Skill(4.0, 1.0))] * 5}, base=())
    assert held_out[0].verdict == "above chance", "labels that nobody was given cannot be known either"
