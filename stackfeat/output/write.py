"""Write: the run folder, file by file.

In:  a finished run and its folder.
Out: config.yaml, folds.csv, leaderboard.csv, pool.csv, scores.json, oof/, test/, holdout/, submission.csv,
     predictor/, report.html. They are a draft until all of them are there.

The saved predictor has the models of every pipeline up to the submitted member, and nothing else. The report is
one static page, offline: everything in it is escaped, no script runs, nothing is fetched.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.encodings.diagnostics import fold_id_limit
from stackfeat.engine.external.pool_verdicts import COLUMNS, PoolVerdicts
from stackfeat.engine.predictor import FORMAT, MODELS, WIRING, write_hashes
from stackfeat.engine.wiring import Wiring
from stackfeat.log import VERSION
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.completed_run import CompletedRun, prediction_file
from stackfeat.output.files import write_bytes, write_csv, write_json
from stackfeat.output.run_file import SUBMISSION
from stackfeat.output.run_folder import Draft
from stackfeat.output.scores import Score, paired_gap
from stackfeat.output.submission import Form, make_submission, order_like_sample
from stackfeat.store import Store

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "predictor"
_STRIP_WIDTH = 160
_LEAST_WEIGHT = 0.0005
_NOT_NEEDED = ("oof/", "anchor/", "rows/")


def write_predictor(draft: Draft, finished: CompletedRun, extra: dict[str, Any]) -> None:
    """Write everything that later rows need, unless it is there.

    Parameters
    ----------
    extra : dict
        JSON kept beside the wiring: the schema of the data, the form of a submission, the decision.
    """
    store = finished.store
    wiring = Wiring.of(finished.plan, finished.chosen.name, finished.averaging, finished.task)
    unsaved = {
        member: why
        for member, repeat, fold, _ in wiring.fits
        if (why := finished.fits[member, repeat, fold].unsaved)
    }
    description = {"format": FORMAT} | wiring.to_json() | extra | {"unsaved": unsaved}
    made_of = {"description": json.loads(json.dumps(description)), "keys": list(wiring.keys)}
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
) -> None:
    """Write every file of a run; the submission is checked before the first byte is written.

    Parameters
    ----------
    description : dict
        JSON kept with the predictor: how to read later data.
    """
    if finished.test is not None:
        chosen = finished.chosen
        prediction = next(rows.values() for rows in finished.predicted(chosen) if rows.folder == "test")
        labels = None if chosen.decision is None else Decision.from_json(chosen.decision).apply(prediction)
        submission = make_submission(finished.test.ids, prediction, labels, finished.task, form)
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
    write_bytes(draft.path("report.html"), render_report(finished, title).encode())


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
            # What the fits chose: penalties, gates, weights.
            "reports": {
                f"{repeat}/{fold}": _finite(info.report)
                for (member, repeat, fold), info in finished.fits.items()
                if member == score.name and "-" not in str(fold) and info.report
            },
        }
        for score in finished.scores
    }
    held = {} if finished.held is None else {"holdout": {"n_rows": finished.held.samples.n_rows}}
    return {
        **held,
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


def _finite(value: Any) -> Any:
    """Return what a fit noted, with nothing in the place of numbers that JSON has not."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def render_report(finished: CompletedRun, title: str) -> str:
    """Return the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stackfeat.output", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(**page_values(finished, title))


def page_values(finished: CompletedRun, title: str) -> dict[str, Any]:
    """Return what the template shows, as plain values."""
    metric = finished.metric
    scores = sorted(finished.scores, key=lambda score: metric.signed(score.score))
    known = [value for score in scores for value in score.folds if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    return {
        "title": title,
        "version": VERSION,
        "metric": metric.name,
        "direction": "higher is better" if metric.greater_is_better else "lower is better",
        "chosen": finished.chosen.name,
        "verdict": verdict(finished),
        "n_folds": finished.folds.n_folds,
        "kind": finished.folds.kind,
        "rows": [_row(score, finished, low, high) for score in scores],
        "low": _short(low),
        "high": _short(high),
        "pools": [_pool(found) for found in finished.pools],
        "weights": _weights(finished),
        "fold_chance": f"{1 / finished.folds.n_folds:.2f}",
        "fold_limit": f"{fold_id_limit(finished.folds.n_folds):.2f}",
        "diagnoses": [_diagnosis(name, found) for name, found in finished.diagnoses.items()],
        "warnings": finished.warnings,
        "notes": finished.plain_notes,
        "failed": finished.failed,
        "left_out": finished.left_out,
        "n_train": finished.train.n_rows,
        "n_test": 0 if finished.test is None else finished.test.n_rows,
        "n_held": 0 if finished.held is None else finished.held.samples.n_rows,
    }


def _pool(found: PoolVerdicts) -> dict[str, Any]:
    """Return the files of a pool, those that somebody should look at first; twins stand with the first of them."""
    order = {"refuse": 0, "look": 1, "ok": 2}
    first = [one for one in found.verdicts if not one.twin_of]
    files = [
        {
            "member": one.member,
            "verdict": one.verdict,
            "used": "yes" if one.is_used else "no",
            "score": "" if one.score is None else _short(one.score),
            "n_files": 1 + len(found.twins.get(one.member, [])),
            "folds": one.folds or "unknown",
            "reasons": "; ".join(one.reasons),
        }
        for one in sorted(first, key=lambda one: order[one.verdict])
    ]
    merged = len(found.verdicts) - len(first)
    caption = f"{len(found.verdicts)} files; those of one row say nearly the same, and their mean takes part."
    return {
        "name": found.name,
        "caption": caption if merged else f"{len(found.verdicts)} files.",
        "files": files,
        "comparison": f"{found.comparison[:1].upper()}{found.comparison[1:]}",
    }


def verdict(finished: CompletedRun) -> str:
    """Say what is submitted, what to expect of it, and what stacking was worth."""
    chosen, metric = finished.chosen, finished.metric
    text = (
        f"{chosen.name} is submitted: {metric.name} {_short(finished.score)} ± {finished.se:.2g} out of fold"
    )
    if chosen.holdout is not None:
        text += f", {_short(chosen.holdout.score)} ± {chosen.holdout.se:.2g} on held-out rows"
    text += _on_choice(finished)
    base = [score for score in finished.scores if score.node.is_base]
    if not base or chosen.node.is_base:
        return f"{text}."
    single = min(base, key=lambda score: metric.signed(score.score))
    gain, se = paired_gap(single, chosen, metric)
    word = "better than" if gain >= 0 else "worse than"
    return f"{text}. It is {abs(gain):.2g} ± {se:.2g} {word} the best single model, {single.name}."


def _on_choice(finished: CompletedRun) -> str:
    """Say how the score of a choice came about, and what it hides of the submitted member's own."""
    choice, chosen = finished.choice, finished.chosen
    if choice is None:
        return ""
    n_alike, n_folds = list(choice.choices.values()).count(chosen.name), len(choice.choices)
    text = ", with the member chosen anew for each fold by the scores of the other folds"
    if n_alike == n_folds:
        return f"{text}: always this one"
    text += f": {n_alike} of {n_folds} times this one. By itself it scores {_short(chosen.score)}"
    optimism = finished.optimism
    if optimism is None or not optimism > 0:
        return text
    return f"{text}, which is optimistic by {optimism:.2g}, as it was chosen by that score"


def _row(score: Score, finished: CompletedRun, low: float, high: float) -> dict[str, Any]:
    spread = (high - low) or 1.0
    places = [
        None if value is None else round((value - low) / spread * _STRIP_WIDTH, 1) for value in score.folds
    ]
    return {
        "level": score.node.level,
        "member": score.node.name,
        "score": _short(score.score),
        "se": f"{score.se:.2g}",
        "fold_mean": "" if score.fold_mean is None else _short(score.fold_mean),
        "holdout": "" if score.holdout is None else _short(score.holdout.score),
        "holdout_se": "" if score.holdout is None else f"{score.holdout.se:.2g}",
        "folds": [
            (place, f"fold {k}: {_short(value)}")
            for k, (place, value) in enumerate(zip(places, score.folds, strict=True))
            if value is not None
        ],
        "seconds": f"{finished.seconds(score):.1f}",
        "state": "computed" if score.name in finished.computed else "cached",
        "is_chosen": score.name == finished.chosen.name,
    }


def _weights(finished: CompletedRun) -> list[dict[str, Any]]:
    """Weights of fitted votes on all out-of-fold rows, and on held-out rows alone."""
    tables = []
    for member, weights in finished.weights.items():
        items = sorted(weights.items(), key=lambda item: -item[1].whole)
        shown = [
            (
                block,
                f"{one.whole:.3f}",
                f"± {one.se:.2g}",
                "" if one.fresh is None else f"{one.fresh:.3f}",
                "" if one.fresh_se is None else f"± {one.fresh_se:.2g}",
                one.is_flattered(len(weights)),
            )
            for block, one in items
            if max(one.whole, one.fresh or 0.0) >= _LEAST_WEIGHT
        ]
        tables.append({"member": member, "items": shown})
    return tables


def _diagnosis(name: str, found: dict[str, Any]) -> dict[str, Any]:
    values = {key: found.get(key) for key in ("fold_id", "auc", "anchor_cosine", "held_out_cosine")}
    shown = {key: "–" if value is None else f"{value:.2f}" for key, value in values.items()}
    gain, error, n_anchors = (found.get(key) for key in ("random_cv_gain", "random_cv_se", "n_anchors"))
    return {
        "name": name,
        **shown,
        "random_cv": "–" if gain is None else f"{gain:+.3f} ± {error:.3f}",
        "anchors": "–" if n_anchors is None else f"{n_anchors} for {found['width']} columns",
        "words": "; ".join(found["warnings"]) or "comparable",
        "is_past": bool(found["warnings"]),
    }


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
