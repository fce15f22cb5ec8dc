"""The report: one static page, offline, with the leaderboard, the folds and what was noticed.

In:  a finished run.
Out: HTML text. Everything is escaped, no script runs, nothing is fetched.
"""

from __future__ import annotations

from typing import Any

from stackfeat.encodings.diagnostics import fold_id_limit
from stackfeat.log import VERSION
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.output.completed_run import Finished
from stackfeat.output.scores import Score, paired_gap

_STRIP_WIDTH = 160
_LEAST_WEIGHT = 0.0005


def render_report(finished: Finished, title: str) -> str:
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


def page_values(finished: Finished, title: str) -> dict[str, Any]:
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
        "chosen": finished.chosen.node.full_name,
        "verdict": _verdict(finished),
        "n_folds": finished.folds.n_folds,
        "kind": finished.folds.kind,
        "rows": [_row(score, finished, low, high) for score in scores],
        "low": _short(low),
        "high": _short(high),
        "weights": _weights(finished),
        "fold_chance": f"{1 / finished.folds.n_folds:.2f}",
        "fold_limit": f"{fold_id_limit(finished.folds.n_folds):.2f}",
        "diagnoses": [_diagnosis(name, found) for name, found in finished.diagnoses.items()],
        "warnings": finished.warnings,
        "notes": [note for note in finished.notes if not note.startswith("warning: ")],
        "failed": finished.failed,
        "left_out": finished.left_out,
        "n_train": finished.train.n_rows,
        "n_test": 0 if finished.test is None else finished.test.n_rows,
        "n_held": 0 if finished.held is None else finished.held.samples.n_rows,
    }


def _verdict(finished: Finished) -> str:
    chosen, metric = finished.chosen, finished.metric
    text = f"{chosen.node.full_name} scores {_short(chosen.score)} ± {chosen.se:.2g} ({metric.name}, out of fold)"
    if chosen.holdout is not None:
        text += f", {_short(chosen.holdout.score)} ± {chosen.holdout.se:.2g} on held-out rows"
    base = [score for score in finished.scores if score.node.is_base]
    if not base or chosen.node.is_base:
        return f"{text}."
    single = min(base, key=lambda score: metric.signed(score.score))
    gain, se = paired_gap(single, chosen, metric)
    word = "better than" if gain >= 0 else "worse than"
    return f"{text}: {abs(gain):.2g} ± {se:.2g} {word} the best single model, {single.node.full_name}."


def _row(score: Score, finished: Finished, low: float, high: float) -> dict[str, Any]:
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
        "seconds": f"{finished.seconds[score.node.full_name]:.1f}",
        "state": "computed" if score.node.full_name in finished.computed else "cached",
        "is_chosen": score.node.full_name == finished.chosen.node.full_name,
    }


def _weights(finished: Finished) -> list[dict[str, Any]]:
    """Weights of fitted votes in the fit on all rows (or the last pipeline)."""
    tables = []
    for score in finished.scores:
        name = score.node.full_name
        keys = [
            key
            for (member, repeat, fold), key in finished.plan.fits.items()
            if member == name and repeat == 0
        ]
        report = FitInfo.of(finished.store.read(keys[-1])).report if keys else {}
        if "weights" in report:
            items = sorted(report["weights"].items(), key=lambda item: -item[1])
            shown = [(block, f"{weight:.3f}") for block, weight in items if weight >= _LEAST_WEIGHT]
            tables.append({"member": name, "items": shown})
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
