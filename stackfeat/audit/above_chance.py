"""Chance: is a prediction better than it would be if it knew nothing of the labels?

In:  labels, a prediction, a metric.
Out: skill, the score less its mean over shuffled labels, with the spread of that; and a verdict over
     several reruns. Shuffling keeps the prediction as it is, so it gives chance for any metric.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from stackfeat.metrics.metric import Metric
from stackfeat.tasks.task import Task

Score = Callable[[np.ndarray], float]
N_SHUFFLES = {"ranking": 60}
N_SHUFFLES_METRIC = 20
LEAST_LIMIT = 3.0
FALSE_ALARMS = 0.01
"""Share of audits of honest stacks that may fail by chance alone, over all that is tested."""


@dataclass(frozen=True)
class Skill:
    """A score less that of chance, higher is better, and its standard deviation at chance."""

    value: float
    sd: float


def measure_skill(
    y: np.ndarray, prediction: np.ndarray, metric: Metric, task: Task, seed: int
) -> dict[str, Skill]:
    """Return the skill of a prediction by ranking and, where it reads no labels, by the metric.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Class codes, or values on the members' scale.
    prediction : float64 ndarray of shape (n, n_outputs)
        Probabilities, or values on the members' scale.

    Returns
    -------
    dict of str to Skill
        ``ranking``: classes, mean one-against-rest area under the ROC curve; values, Spearman's
        correlation. Beside it the metric's name.
    """
    scores = {"ranking": task.ordering(prediction)}
    # A decision rule would have to be fitted for every shuffle; ranking judges those predictions.
    if metric.needs != "label":
        read = task.to_target_scale(prediction)
        scores[metric.name] = lambda labels: -metric.loss(task.to_target_scale(labels), read, task)
    found = {}
    for name, score in scores.items():
        rng = np.random.default_rng(seed)
        # A class that no row has leaves some metrics undefined.
        with suppress(ValueError):
            found[name] = _skill(score, y, task, N_SHUFFLES.get(name, N_SHUFFLES_METRIC), rng)
    return found


def _skill(score: Score, y: np.ndarray, task: Task, n_shuffles: int, rng: np.random.Generator) -> Skill:
    shuffled = [score(task.shuffled(y, rng)) for _ in range(n_shuffles)]
    return Skill(float(score(y) - np.mean(shuffled)), float(np.std(shuffled, ddof=1)))


@dataclass(frozen=True)
class Interval:
    """Mean skill over reruns, its standard error, and the ends of the 95 % confidence interval.

    Attributes
    ----------
    z : float
        The mean in standard errors.
    limit : float
        The z above which a skill is no chance.
    """

    mean: float
    se: float
    low: float
    high: float
    z: float
    limit: float

    @property
    def is_above(self) -> bool:
        return self.z > self.limit

    @classmethod
    def around(cls, mean: float, se: float, limit: float) -> Interval:
        width = float(norm.ppf(0.975)) * se
        z = mean / se if se > 0 else 0.0 if abs(mean) < 1e-12 else float(np.copysign(99.0, mean))
        return cls(mean, se, mean - width, mean + width, z, limit)


@dataclass(frozen=True)
class Verdict:
    """What reruns on permuted labels say of one member by one measure.

    Attributes
    ----------
    oof, held_out : Interval
        Skill on out-of-fold rows, and on rows that took no part.
    gap : Interval
        The first less the second.
    verdict : {"at chance", "above chance"}
        Above chance where either skill is above its limit. A skill below zero is no violation.
    """

    member: str
    measure: str
    n_reruns: int
    oof: Interval
    held_out: Interval
    gap: Interval
    verdict: Literal["at chance", "above chance"]


def judge(
    found: Mapping[tuple[str, str], Sequence[tuple[Skill, Skill]]], base: Container[str]
) -> list[Verdict]:
    """Return a verdict for each (member, measure).

    Parameters
    ----------
    found : mapping
        Out-of-fold and held-out skills of every rerun.
    base : container of str
        Members of the first level. Those above it read predictions whose models share labels, so
        their scores vary more between permutations than shuffled labels say.
    """
    share = FALSE_ALARMS / max(2 * len(found), 1)
    # Alike are those of one measure, all of the first level or all above it.
    groups: dict[tuple[str, bool], list[tuple[str, str]]] = {}
    for member, measure in found:
        groups.setdefault((measure, member in base), []).append((member, measure))
    parts: dict[tuple[str, str], list[Interval]] = {name: [] for name in found}
    for side in (0, 1):
        skills = {name: [pair[side] for pair in pairs] for name, pairs in found.items()}
        for alike in groups.values():
            excess, degrees = _excess([skills[name] for name in alike])
            limit = max(LEAST_LIMIT, float(norm.isf(share) if excess == 1.0 else student.isf(share, degrees)))
            for name in alike:
                at_chance = np.sqrt(np.mean([skill.sd**2 for skill in skills[name]]) / len(skills[name]))
                mean = float(np.mean([skill.value for skill in skills[name]]))
                parts[name].append(Interval.around(mean, float(at_chance) * excess, limit))
    verdicts = []
    for (member, measure), (oof, held_out) in parts.items():
        gap = Interval.around(oof.mean - held_out.mean, float(np.hypot(oof.se, held_out.se)), oof.limit)
        verdict: Literal["at chance", "above chance"] = "at chance"
        if oof.is_above or held_out.is_above:
            verdict = "above chance"
        verdicts.append(Verdict(member, measure, len(found[member, measure]), oof, held_out, gap, verdict))
    return verdicts


def _excess(skills: Sequence[Sequence[Skill]]) -> tuple[float, int]:
    """Return how much more members vary between reruns than at chance (at least 1), and from how many degrees.

    Pooled over members, because few reruns say little of the spread of one.
    """
    ratios = [
        np.var([skill.value for skill in several], ddof=1) / np.mean([skill.sd**2 for skill in several])
        for several in skills
        if len(several) > 1 and all(skill.sd > 0 for skill in several)
    ]
    degrees = sum(len(several) - 1 for several in skills)
    return (max(1.0, float(np.sqrt(np.mean(ratios)))) if ratios else 1.0), max(degrees, 1)
