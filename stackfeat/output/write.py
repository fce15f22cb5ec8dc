"""Write: the run folder, file by file.

In:  a finished run and its folder.
Out: config.yaml, folds.csv, leaderboard.csv, pool.csv, scores.json, oof/, test/, holdout/, submission.csv,
     predictor/, report.html, report.json, pictures/. They are a draft until all of them are there.

The saved predictor has the models of every pipeline up to the submitted member, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.json_schema import input_schema
from stackfeat.engine.external.pool_verdicts import COLUMNS
from stackfeat.engine.predictor import FORMAT, INPUT, MODELS, WIRING, write_hashes
from stackfeat.engine.wiring import Wiring
from stackfeat.log import VERSION
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.completed_run import CompletedRun, prediction_file
from stackfeat.output.explanation import Explanation
from stackfeat.output.files import finite, json_bytes, write_bytes, write_csv, write_json
from stackfeat.output.report.content import plain_content, report_content
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.page import render_page
from stackfeat.output.report.times import times_of
from stackfeat.output.run_file import SUBMISSION
from stackfeat.output.run_folder import Draft
from stackfeat.output.scores import Score
from stackfeat.output.submission import Form, make_submission, order_like_sample
from stackfeat.store import Store

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "predictor"
PICTURES = "pictures"
_CURVES = "curves"
"""Losses by epoch are drawn, and are nothing that a fit chose."""
_NOT_NEEDED = ("oof/", "anchor/", "rows/")


def write_predictor(draft: Draft, finished: CompletedRun, extra: dict[str, Any]) -> None:
    """Write everything that later rows need, unless it is there.

    Parameters
    ----------
    extra : dict
        JSON kept beside the wiring: the schema of the data, the form of a submission, the decision.
    """
    store = finished.store
    widenings = {score.name: score.widening for score in finished.scores}
    chosen, interval = finished.chosen.name, finished.interval_key
    wiring = Wiring.of(finished.plan, chosen, finished.averaging, finished.task, widenings, interval)
    unsaved = {
        member: why
        for member, repeat, fold, _ in wiring.fits
        if (why := finished.fits[member, repeat, fold].unsaved)
    }
    description = {"format": FORMAT, "version": VERSION} | wiring.to_json() | extra | {"unsaved": unsaved}
    rows = input_schema(Schema.from_json(extra["schema"]), DataOptions(**extra["data"]))
    made_of = {"description": json.loads(json.dumps(description)), "keys": list(wiring.keys), "rows": rows}
    if draft.keeps(FOLDER, made_of):
        return
    folder = draft.path(FOLDER, made_of)
    models = Store(folder / MODELS)
    for key in wiring.keys:
        entry = store.read(key)
        if not models.has(key):
            with models.write(key, entry.kind, entry.recipe) as writer:
                for name in entry.files:
                    if not name.startswith(_NOT_NEEDED):
                        writer.bytes(name, entry.bytes(name))
    write_json(folder / WIRING, description)
    write_json(folder / INPUT, rows)
    write_hashes(folder, wiring.keys)


def write_run(
    draft: Draft,
    finished: CompletedRun,
    *,
    config_yaml: str,
    form: Form,
    sample: pd.DataFrame | None,
    description: dict[str, Any],
    title: str,
    explained: Explanation | None = None,
) -> None:
    """Write every file of a run; the submission is checked before the first byte is written.

    Parameters
    ----------
    description : dict
        JSON kept with the predictor: how to read later data.
    explained : Explanation, optional
        What was explained of this very run before.
    """
    if finished.test is not None:
        chosen = finished.chosen
        prediction = next(rows.values() for rows in finished.predicted(chosen) if rows.folder == "test")
        labels = None if chosen.decision is None else Decision.from_json(chosen.decision).apply(prediction)
        lists = finished.test.query_names
        submission = make_submission(finished.test.ids, prediction, labels, finished.task, form, lists)
        submission = submission if sample is None else order_like_sample(submission, sample)
        write_csv(draft.path(SUBMISSION), submission.header, submission.columns)
    write_bytes(draft.path("config.yaml"), config_yaml.encode())
    _write_folds(draft.path("folds.csv"), finished)
    _write_predictions(draft, finished)
    names, rows = leaderboard(finished)
    write_csv(draft.path("leaderboard.csv"), names, list(zip(*rows, strict=True)))
    if finished.pools:
        verdicts = [row for pool in finished.pools for row in pool.rows()]
        write_csv(draft.path("pool.csv"), COLUMNS, list(zip(*verdicts, strict=True)))
    write_json(draft.path("scores.json"), scores_json(finished))
    write_predictor(
        draft, finished, {**description, "form": form.to_json(), "decision": finished.chosen.decision}
    )
    write_report(draft, Evidence.of(finished, description, explained), title)


def _write_folds(path: Path, finished: CompletedRun) -> None:
    """Write a row for each repeat and row of the training file; fold -1: held out, or never predicted."""
    held, n_repeats = finished.held, finished.folds.n_repeats
    ids = finished.train.ids if held is None else held.holdout.ids
    fold_of = np.full((n_repeats, len(ids)), -1)
    for repeat in range(n_repeats):
        fold_of[repeat, slice(None) if held is None else held.holdout.kept] = finished.folds.fold_of(repeat)
    table: dict[str, np.ndarray] = {
        "id": np.tile(ids, n_repeats),
        "repeat": np.repeat(np.arange(n_repeats), len(ids)),
        "fold": fold_of.ravel(),
    }
    if held is not None:
        table["holdout"] = np.tile(np.isin(np.arange(len(ids)), held.holdout.held), n_repeats)
    write_csv(path, list(table), [column.tolist() for column in table.values()])


def _write_predictions(draft: Draft, finished: CompletedRun) -> None:
    for score in finished.scores:
        for rows in finished.predicted(score):
            name = f"{rows.folder}/{file_name(score)}"
            if not draft.keeps(name, rows.made_of):
                columns = (rows.samples.ids.tolist(), *np.ascontiguousarray(rows.values().T))
                write_csv(draft.path(name, rows.made_of), ("id", *finished.task.columns), columns)


def file_name(score: Score) -> str:
    """Return the name of a member's files: ``level.member.csv``, percent-encoded where needed."""
    return prediction_file(score.node.level, score.node.name)


def leaderboard(finished: CompletedRun) -> tuple[list[str], list[list[Any]]]:
    """Return the header and rows of the leaderboard, best member first."""
    held = () if finished.held is None else ("holdout", "holdout_se")
    folds = [f"fold_{k}" for k in range(finished.folds.n_folds)]
    header = ["level", "member", "metric", "score", "se", "fold_mean", *held, *folds, "seconds", "cached"]
    rows = []
    for score in sorted(finished.scores, key=lambda s: finished.metric.signed(s.score)):
        values = [score.score, score.se, score.fold_mean, *holdout_values(finished, score).values()]
        spent = round(finished.seconds(score), 3), score.name not in finished.computed
        named = score.node.level, score.node.name, finished.metric.name
        rows.append([*named, *values, *score.folds, *spent])
    return header, rows


def holdout_values(finished: CompletedRun, score: Score) -> dict[str, float | None]:
    """A member's score on the held-out rows and its standard error; nothing in runs without such rows."""
    if finished.held is None:
        return {}
    held = score.holdout
    return {
        "holdout": None if held is None else held.score,
        "holdout_se": None if held is None or not np.isfinite(held.se) else held.se,
    }


def scores_json(finished: CompletedRun) -> dict[str, Any]:
    """Return what scores.json holds; nothing in it depends on time or on what was cached."""
    members = {
        score.name: {
            "score": score.score,
            "se": score.se,
            "fold_mean": score.fold_mean,
            **holdout_values(finished, score),
            "folds": score.folds,
            "n_rows": score.n_rows,
            "decision": score.decision,
            "fold_decisions": score.fold_decisions,
            "file": file_name(score),
            **({} if score.widening is None else {"widening": score.widening.to_json()}),
            # What the fits chose: penalties, gates, weights.
            "reports": {
                f"{repeat}/{fold}": finite({key: one for key, one in info.report.items() if key != _CURVES})
                for (member, repeat, fold), info in finished.fits.items()
                if member == score.name and "-" not in str(fold) and info.report
            },
        }
        for score in finished.scores
    }
    held = {} if finished.held is None else {"holdout": {"n_rows": finished.held.samples.n_rows}}
    interval = {} if finished.interval is None else {"interval": finished.interval.to_json()}
    return {
        **held,
        **interval,
        "metric": finished.metric.name,
        "greater_is_better": finished.metric.greater_is_better,
        "submitted": finished.chosen.name,
        "auto": choice_json(finished),
        "averaging": finished.averaging.to_json(),
        "members": members,
        "weights": {
            vote: {name: asdict(one) for name, one in w.items()} for vote, w in finished.weights.items()
        },
        "blocks": finished.diagnoses,
        "failed": sorted(finished.failed),
        "left_out": sorted(finished.left_out),
        "warnings": finished.warnings,
    }


def choice_json(finished: CompletedRun) -> dict[str, Any] | None:
    """Return what ``submit: auto`` is worth; None where nothing was chosen out of fold."""
    choice = finished.choice
    if choice is None:
        return None
    return {
        "score": choice.score,
        "se": choice.se,
        "n_rows": choice.n_rows,
        "optimism": finished.optimism,
        "choices": choice.choices,
    }


def write_report(draft: Draft, evidence: Evidence, title: str) -> None:
    """Write the page, what it holds as JSON, and the numbers of its pictures as csv."""
    content = plain_content(report_content(evidence, title))
    for name, numbers in content["pictures"].items():
        write_csv(draft.path(f"{PICTURES}/{name}.csv"), list(numbers), list(numbers.values()))
    data = json_bytes(content)
    write_bytes(draft.path("report.json"), data)
    # Made of the very text that `stackfeat report` reads later.
    page = render_page(json.loads(data), times_of(evidence.finished.fits))
    write_bytes(draft.path("report.html"), page.encode())
