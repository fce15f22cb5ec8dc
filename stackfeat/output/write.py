"""Write: the run folder, file by file.

In:  a finished run and its folder.
Out: config.yaml, folds.csv, leaderboard.csv, scores.json, oof/, test/, holdout/, submission.csv,
     predictor/, report.html. They are a draft until all of them are there.

The saved predictor has the models of every pipeline up to the submitted member, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.plan import Plan
from stackfeat.engine.predictor import FORMAT, MODELS, WIRING, write_hashes
from stackfeat.engine.wiring import Wiring
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.output.completed_run import Finished
from stackfeat.output.files import write_bytes, write_csv, write_json
from stackfeat.output.report import render_report
from stackfeat.output.run_file import SUBMISSION
from stackfeat.output.run_folder import Draft
from stackfeat.output.scores import Score
from stackfeat.output.submission import Form, make_submission, order_like_sample
from stackfeat.store import EntryStore, Store, safe_name
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "predictor"

_NOT_NEEDED = ("oof/", "anchor/", "rows/")


def write_predictor(
    draft: Draft,
    plan: Plan,
    member: str,
    averaging: Averaging,
    task: Task,
    store: EntryStore,
    extra: dict[str, Any],
) -> None:
    """Write everything that later rows need, unless it is there.

    Parameters
    ----------
    extra : dict
        JSON kept beside the wiring: the schema of the data, the form of a submission, the decision.
    """
    wiring = Wiring.of(plan, member, averaging, task)
    unsaved = _unsaved(store, {key: member for member, _, _, key in wiring.fits})
    description = {"format": FORMAT} | wiring.to_json() | extra | {"unsaved": unsaved}
    made_of = {"description": json.loads(json.dumps(description)), "keys": list(wiring.keys)}
    if draft.keeps(FOLDER, made_of):
        return
    folder = draft.path(FOLDER, made_of)
    models = Store(folder / MODELS)
    for key in wiring.keys:
        _copy_state(store, models, key)
    write_json(folder / WIRING, description)
    write_hashes(folder, wiring.keys)


def _copy_state(source: EntryStore, target: Store, key: str) -> None:
    entry = source.read(key)
    if target.has(key):
        return
    with target.write(key, entry.kind, entry.manifest["recipe"]) as writer:
        for name in entry.manifest["files"]:
            if not name.startswith(_NOT_NEEDED):
                writer.bytes(name, entry.bytes(name))


def _unsaved(store: EntryStore, names: dict[str, str]) -> dict[str, str]:
    problems = {}
    for key, member in names.items():
        problem = FitInfo.of(store.read(key)).unsaved
        if problem:
            problems[member] = problem
    return problems


def write_run(
    draft: Draft,
    finished: Finished,
    *,
    config_yaml: str,
    form: Form,
    sample: pd.DataFrame | None,
    description: dict[str, Any],
    title: str,
) -> None:
    """Write every file of a run; the submission is checked before the first byte is written.

    Parameters
    ----------
    description : dict
        JSON kept with the predictor: how to read later data.
    """
    if finished.test is not None:
        prediction = finished.test_rows(finished.chosen)
        labels = finished.labels(finished.chosen, prediction)
        submission = make_submission(finished.test.ids, prediction, labels, finished.task, form)
        submission = submission if sample is None else order_like_sample(submission, sample)
        write_csv(draft.path(SUBMISSION), submission.header, submission.columns)
    write_bytes(draft.path("config.yaml"), config_yaml.encode())
    _write_folds(draft.path("folds.csv"), finished)
    _write_predictions(draft, finished)
    write_leaderboard(draft.path("leaderboard.csv"), finished)
    write_json(draft.path("scores.json"), scores_json(finished))
    extra = {**description, "form": form.to_json(), "decision": finished.chosen.decision}
    write_predictor(
        draft,
        finished.plan,
        finished.chosen.node.full_name,
        finished.averaging,
        finished.task,
        finished.store,
        extra,
    )
    write_bytes(draft.path("report.html"), render_report(finished, title).encode())


def _write_folds(path: Path, finished: Finished) -> None:
    ids = finished.train.ids if finished.held is None else finished.held.holdout.ids
    repeats = range(finished.folds.n_repeats)
    header = ["id", "repeat", "fold"]
    columns: list[Sequence[Any]] = [
        [identity for _ in repeats for identity in ids.tolist()],
        [repeat for repeat in repeats for _ in ids],
        [int(fold) for repeat in repeats for fold in _fold_of_file(finished, repeat)],
    ]
    if finished.held is not None:
        # Rows of fold -1 can also be rows that time folds never predict.
        is_held = np.isin(np.arange(len(ids)), finished.held.holdout.held)
        header.append("holdout")
        columns.append([bool(value) for _ in repeats for value in is_held])
    write_csv(path, header, columns)


def _fold_of_file(finished: Finished, repeat: int) -> np.ndarray:
    """The fold of every row of the training file; -1 for held-out rows and rows never predicted."""
    fold_of = finished.folds.fold_of(repeat)
    if finished.held is None:
        return fold_of
    holdout = finished.held.holdout
    whole = np.full(len(holdout.ids), -1, dtype=np.int64)
    whole[holdout.kept] = fold_of
    return whole


def _write_predictions(draft: Draft, finished: Finished) -> None:
    header = ("id", *finished.task.columns)
    for score in finished.scores:
        name = file_name(score)
        _write_rows(
            draft, f"oof/{name}", finished.oof_recipe(score), header, finished.train, finished.oof, score
        )
        if finished.test is not None:
            recipe = finished.test_recipe(score)
            _write_rows(draft, f"test/{name}", recipe, header, finished.test, finished.test_rows, score)
        if finished.held is not None:
            recipe, rows = finished.held_recipe(score), finished.held.samples
            _write_rows(draft, f"holdout/{name}", recipe, header, rows, finished.held_rows, score)


def _write_rows(
    draft: Draft,
    name: str,
    made_of: Any,
    header: Sequence[str],
    samples: Samples,
    predict: Callable[[Score], np.ndarray],
    score: Score,
) -> None:
    if draft.keeps(name, made_of):
        return
    columns = (samples.ids.tolist(), *np.ascontiguousarray(predict(score).T))
    write_csv(draft.path(name, made_of), header, columns)


def file_name(score: Score) -> str:
    """Return the name of a member's files: ``level.member.csv``, percent-encoded where needed."""
    return f"{safe_name(f'{score.node.level}.{score.node.name}')}.csv"


def leaderboard(finished: Finished) -> tuple[list[str], list[list[Any]]]:
    """Return the header and rows of the leaderboard, best member first."""
    n_folds = finished.folds.n_folds
    header = [
        "level",
        "member",
        "metric",
        "score",
        "se",
        "fold_mean",
        *(() if finished.held is None else ("holdout", "holdout_se")),
        *[f"fold_{k}" for k in range(n_folds)],
        "seconds",
        "cached",
    ]
    rows = []
    for score in sorted(finished.scores, key=lambda s: finished.metric.signed(s.score)):
        node = score.node
        seconds = round(finished.seconds[node.full_name], 3)
        cached = node.full_name not in finished.computed
        values = [
            score.score,
            score.se,
            score.fold_mean,
            *holdout_values(finished, score).values(),
            *score.folds,
        ]
        rows.append([node.level, node.name, finished.metric.name, *values, seconds, cached])
    return header, rows


def holdout_values(finished: Finished, score: Score) -> dict[str, float | None]:
    """A member's score on the held-out rows and its standard error; nothing in runs without such rows."""
    if finished.held is None:
        return {}
    held = score.holdout
    return {
        "holdout": None if held is None else held.score,
        "holdout_se": None if held is None or not np.isfinite(held.se) else held.se,
    }


def write_leaderboard(path: Path, finished: Finished) -> None:
    """Write leaderboard.csv."""
    header, rows = leaderboard(finished)
    write_csv(path, header, list(zip(*rows, strict=True)))


def scores_json(finished: Finished) -> dict[str, Any]:
    """Return what scores.json holds; nothing in it depends on time or on what was cached."""
    members = {
        score.node.full_name: {
            "score": score.score,
            "se": score.se,
            "fold_mean": score.fold_mean,
            **holdout_values(finished, score),
            "folds": score.folds,
            "n_rows": score.n_rows,
            "decision": score.decision,
            "fold_decisions": score.fold_decisions,
            "file": file_name(score),
            "reports": _fit_reports(finished, score),
        }
        for score in finished.scores
    }
    held = {} if finished.held is None else {"holdout": {"n_rows": finished.held.samples.n_rows}}
    return {
        **held,
        "metric": finished.metric.name,
        "greater_is_better": finished.metric.greater_is_better,
        "submitted": finished.chosen.node.full_name,
        "averaging": finished.averaging.to_json(),
        "members": members,
        "blocks": finished.diagnoses,
        "failed": sorted(finished.failed),
        "left_out": sorted(finished.left_out),
        "warnings": finished.warnings,
    }


def _fit_reports(finished: Finished, score: Score) -> dict[str, Any]:
    """What the fits chose (penalties, gates, weights), by repeat and fold."""
    reports = {}
    for (member, repeat, fold), key in finished.plan.fits.items():
        if member == score.node.full_name and "-" not in str(fold):
            report = FitInfo.of(finished.store.read(key)).report
            if report:
                reports[f"{repeat}/{fold}"] = _plain(report)
    return reports


def _plain(value: Any) -> Any:
    """Turn numpy scalars and non-finite numbers into what JSON has."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
