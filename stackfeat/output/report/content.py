"""Content: everything that the report shows, as plain values.

In:  the evidence of a run.
Out: what ``report.json`` holds: the first screen, members, tables, and the numbers of every picture. Nothing in it
     depends on time or on what was cached.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from stackfeat.encodings.diagnostics import fold_id_limit
from stackfeat.engine.external.pool_verdicts import PoolVerdicts
from stackfeat.log import VERSION
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.report.data_tables import data_tables
from stackfeat.output.report.evidence import USUAL_LEVEL, Evidence
from stackfeat.output.report.next_steps import next_steps
from stackfeat.output.report.pictures import PICTURES
from stackfeat.output.report.pictures.picture import NothingToShow, Numbers, Picture
from stackfeat.output.report.pictures.trust import part_names
from stackfeat.output.scores import Score, paired_gap
from stackfeat.output.verdicts import calibrations, gate_verdicts, headline, on_choice, why_submitted
from stackfeat.seeds import derive_seed

logger = logging.getLogger(__name__)

FORMAT = 1
_N_WORST = 20
_WIDTH = 1.96
"""Standard errors on each side that hold 95 % of a normal distribution."""
_LIBRARIES = ("numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "xgboost", "catboost", "torch")
_FOLDERS = re.compile(r"^(?:/|[A-Za-z]:[/\\])[^:]*[/\\](?=[^/\\:]+: )")
"""Of the file that a text begins with: they are of this machine, and a report is read on others."""


def report_content(evidence: Evidence, title: str) -> dict[str, Any]:
    """Return what the report holds; `title` is the name of the run."""
    finished = evidence.finished
    pictures, missing = _pictures(evidence)
    members = _members(evidence)
    gains = _gains(evidence)
    content: dict[str, Any] = {
        "format": FORMAT,
        "title": title,
        "version": VERSION,
        "task": {"kind": evidence.task.kind, "described": evidence.task.described},
        "metric": {"name": finished.metric.name, "greater_is_better": finished.metric.greater_is_better},
        "submitted": finished.chosen.name,
        "score": finished.score,
        "se": _number(finished.se),
        "interval": _interval(finished.score, finished.se),
        "headline": headline(finished),
        "why": why_submitted(finished),
        "choice": on_choice(finished),
        "n_rows": finished.chosen.n_rows if finished.choice is None else finished.choice.n_rows,
        "own": {
            "score": finished.chosen.score,
            "se": _number(finished.chosen.se),
            "n_rows": finished.chosen.n_rows,
        },
        "gains": gains,
        "warnings": [_FOLDERS.sub("", text) for text in finished.warnings],
        "failed": dict(finished.failed),
        "left_out": list(finished.left_out),
        "counts": {
            "train": finished.train.n_rows,
            "test": 0 if finished.test is None else finished.test.n_rows,
            "held_out": 0 if finished.held is None else finished.held.samples.n_rows,
            "scored": len(evidence.scored_rows),
            "folds": finished.folds.n_folds,
            "repeats": finished.folds.n_repeats,
        },
        "folds": finished.folds.kind,
        "members": members,
        "weights": _weights(evidence),
        "intervals": _intervals(evidence),
        "calibrations": [asdict(verdict) for verdict in calibrations(finished)],
        "gates": [verdict.text for verdict in gate_verdicts(finished)],
        "blocks": dict(finished.diagnoses),
        "fold_id": {"chance": 1 / finished.folds.n_folds, "limit": fold_id_limit(finished.folds.n_folds)},
        "pools": [_pool(found) for found in finished.pools],
        "thresholds": _thresholds(evidence),
        "worst_rows": _worst_rows(evidence),
        "data": data_tables(evidence),
        "notes": list(finished.plain_notes),
        "versions": _versions(),
        "pictures": pictures,
        "missing": missing,
    }
    content["next"] = next_steps(content)
    return content


def _pictures(evidence: Evidence) -> tuple[dict[str, Numbers], dict[str, str]]:
    """Return the numbers of pictures, and why others are missing; those that do not concern it are not mentioned."""
    found: dict[str, Numbers] = {}
    missing: dict[str, str] = {}
    for name, picture in PICTURES.items():
        if not picture.is_for(evidence):
            continue
        why_not = picture.why_not(evidence)
        if why_not:
            missing[name] = why_not
            continue
        numbers = _numbers(picture, evidence, missing)
        if numbers is not None:
            found[name] = numbers
    return found, missing


def _numbers(picture: Picture, evidence: Evidence, missing: dict[str, str]) -> Numbers | None:
    """Return a picture's numbers; hours of work are not lost to a picture that cannot be made."""
    try:
        return picture.numbers(evidence)
    except NothingToShow as reason:
        missing[picture.name] = str(reason)
        return None
    except Exception as error:
        logger.warning("the report is written without %s: %s", picture.title, error, exc_info=error)
        missing[picture.name] = f"it could not be made: {type(error).__name__}"
        return None


def _members(evidence: Evidence) -> list[dict[str, Any]]:
    finished = evidence.finished
    used = finished.weights.get(finished.chosen.name, {})
    weights = {block.rpartition("/")[0]: one.whole for block, one in used.items()}
    return [
        {
            "level": score.node.level,
            "member": score.node.name,
            "score": score.score,
            "se": _number(score.se),
            "fold_mean": score.fold_mean,
            "folds": score.folds,
            "holdout": None if score.holdout is None else score.holdout.score,
            "holdout_se": None if score.holdout is None else _number(score.holdout.se),
            "weight": weights.get(score.name),
            "metrics": _other_metrics(evidence, score),
            "learner": score.options.learner,
            "options": flat_text(score.options.told),
            "chosen": _chosen(evidence, score),
            "is_base": score.node.is_base,
            "is_submitted": score is finished.chosen,
        }
        for score in evidence.scores
    ]


def _chosen(evidence: Evidence, score: Score) -> str:
    """Return the parameters that the fits of the folds found, from the least to the greatest."""
    found: dict[str, list[Any]] = {}
    for (member, _, fold), info in evidence.finished.fits.items():
        if member == score.name and str(fold).isdecimal():
            rounds = info.report.get("rounds", {}).get("params", {})
            for name, value in {**info.report.get("params", {}), **rounds}.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    found.setdefault(name, []).append(value)
    return ", ".join(
        f"{name} {min(values):g}" + (f" to {max(values):g}" if min(values) < max(values) else "")
        for name, values in found.items()
    )


def flat_text(options: Mapping[str, Any]) -> str:
    """Return options in a line, nested ones by their own names.

    Examples
    --------
    >>> flat_text({"params": {"hidden": [64, 32], "dropout": 0.1}, "seeds": 2})
    'hidden 64 32, dropout 0.1, seeds 2'
    """
    parts = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            parts.append(flat_text(value))
        elif isinstance(value, list):
            parts.append(
                f"{name} {' '.join(flat_text(one) if isinstance(one, Mapping) else str(one) for one in value)}"
            )
        elif value is not None:
            parts.append(f"{name} {value}")
    return ", ".join(part for part in parts if part)


def _other_metrics(evidence: Evidence, score: Score) -> dict[str, float | None]:
    """Scores by the other usual metrics of the task; labels are the most probable ones, whatever rule is fitted."""
    finished, prediction, judged = evidence.finished, evidence.predicted_whole(score), evidence.judged
    known = np.isfinite(prediction).all(axis=1)
    judged = judged.take(known)
    found: dict[str, float | None] = {}
    for name in evidence.task.reported:
        if name != finished.metric.name:
            try:
                value = (
                    METRICS[name]
                    .of(judged.task.kind)
                    .score(judged.y, prediction[known], judged.task, judged.weight)
                )
            except ValueError:
                value = float("nan")
            found[name] = _number(value)
    return found


def _gains(evidence: Evidence) -> dict[str, Any]:
    """How much better the submission is than the best single member, and than the best constant prediction.

    And how much better than that the weakest single member is.
    """
    finished, metric, chosen = evidence.finished, evidence.finished.metric, evidence.chosen
    base = [score for score in evidence.scores if score.node.is_base]
    gains: dict[str, dict[str, Any] | None] = {"single": None, "constant": None, "weakest": None}
    if base and not chosen.node.is_base:
        by, se = paired_gap(base[0], chosen, metric)
        gains["single"] = {"member": base[0].name, "gain": _number(by), "se": _number(se)}
    judged = evidence.judged
    if not len(judged.y):
        return gains
    rows = [np.tile(row, (len(judged.y), 1)) for row in evidence.task.constants(judged.y, judged.weight)]
    scores = [(score, given) for given in rows if (score := judged.defined(given)) is not None]
    if not scores:
        return gains
    score, given = min(scores, key=lambda one: metric.signed(one[0]))
    drawn = judged.bootstrap(given, derive_seed(finished.plan.sources.seed, "bootstrap"))

    def over(member: Score) -> dict[str, Any]:
        is_paired = len(judged.y) == member.n_rows
        error = float(np.nanstd(drawn - member.bootstrap, ddof=1)) if is_paired else float("nan")
        gain = metric.signed(score) - metric.signed(member.score)
        return {"gain": _number(gain), "se": _number(error)}

    gains["constant"] = {"score": score, **over(chosen)}
    if base:
        gains["weakest"] = {"member": base[-1].name, **over(base[-1])}
    return gains


def _weights(evidence: Evidence) -> list[dict[str, Any]]:
    """Weights of fitted votes on all out-of-fold rows, and on held-out rows alone."""
    return [
        {
            "member": member,
            "blocks": [
                {
                    "block": block,
                    "weight": one.whole,
                    "se": _number(one.se),
                    "held_out": one.fresh,
                    "held_out_se": one.fresh_se,
                    "is_flattered": one.is_flattered(len(weights)),
                }
                for block, one in sorted(weights.items(), key=lambda item: -item[1].whole)
            ],
        }
        for member, weights in evidence.finished.weights.items()
    ]


def _intervals(evidence: Evidence) -> dict[str, Any] | None:
    """What intervals, or class sets, are worth at several levels; None where there are none."""
    found, asked = evidence.intervals, evidence.finished.interval
    if not found:
        return None
    level = USUAL_LEVEL if asked is None else asked.level
    name, size = evidence.task.region_words
    return {
        "name": name,
        "size": size,
        "parts": list(part_names(evidence.task)),
        "level": level,
        "is_asked": asked is not None,
        "text": next(one.sentence for one in found if one.level == level),
        "levels": [one.to_json() for one in found],
    }


def _pool(found: PoolVerdicts) -> dict[str, Any]:
    """Return the files of a pool, those that somebody should look at first; twins stand with the first of them."""
    order = {"refuse": 0, "look": 1, "ok": 2}
    first = [one for one in found.verdicts if not one.twin_of]
    files = [
        {
            "member": one.member,
            "verdict": one.verdict,
            "is_used": one.is_used,
            "score": one.score,
            "n_files": 1 + len(found.twins.get(one.member, [])),
            "folds": one.folds or "unknown",
            "reasons": list(one.reasons),
        }
        for one in sorted(first, key=lambda one: order[one.verdict])
    ]
    return {
        "name": found.name,
        "n_files": len(found.verdicts),
        "has_twins": len(found.verdicts) > len(first),
        "files": files,
        "comparison": f"{found.comparison[:1].upper()}{found.comparison[1:]}",
    }


def _thresholds(evidence: Evidence) -> dict[str, Any]:
    """The rules that turn predictions into labels: that for new rows, and each fold's; empty where none is fitted."""
    chosen = evidence.chosen
    if chosen.decision is None:
        return {}
    rules = {
        "new rows": chosen.decision,
        **{f"fold {fold}": one for fold, one in chosen.fold_decisions.items()},
    }
    read = {place: Decision.from_json(one) for place, one in rules.items()}
    if not any(one.numbers for one in read.values()):
        return {}
    columns, rule = evidence.task.columns, read["new rows"]
    names = {"threshold": columns[rule.positive : rule.positive + 1], "offsets": columns}
    return {
        "kind": rule.kind,
        "names": list(names.get(rule.kind, [])),
        "rules": {place: list(one.numbers) for place, one in read.items()},
    }


def _worst_rows(evidence: Evidence) -> dict[str, list[Any]]:
    """The rows with the greatest loss of all that were looked at."""
    task, finished = evidence.task, evidence.finished
    y = finished.train.labels[evidence.rows]
    loss = task.row_loss(y, task.to_member_scale(evidence.prediction), task.unit_of(y))
    worst = np.argsort(-loss, kind="stable")[:_N_WORST]
    told = task.told(evidence.target[worst], evidence.prediction[worst])
    columns = {
        "id": finished.train.ids[evidence.rows[worst]].tolist(),
        "fold": evidence.folds[worst].tolist(),
        **told,
        "loss": loss[worst].tolist(),
    }
    return {"columns": list(columns), "rows": [list(row) for row in zip(*columns.values(), strict=True)]}


def _versions() -> dict[str, str]:
    found = {"stackfeat": VERSION}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _interval(score: float, se: float) -> list[float] | None:
    return [score - _WIDTH * se, score + _WIDTH * se] if np.isfinite(se) else None


def _number(value: Any) -> float | None:
    """Return a number, None in the place of one that JSON has not."""
    return float(value) if value is not None and np.isfinite(value) else None


def plain_content(values: Any) -> Any:
    """Return JSON values, with None in the place of numbers that JSON has not."""
    if isinstance(values, Mapping):
        return {str(name): plain_content(item) for name, item in values.items()}
    if isinstance(values, list | tuple):
        return [plain_content(item) for item in values]
    if isinstance(values, np.generic):
        values = values.item()
    return None if isinstance(values, float) and not np.isfinite(values) else values
