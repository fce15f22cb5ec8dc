"""What a member is worth on the rows that no level has seen.

In:  the places of its predictions of the held-out rows, one for each pipeline, and its OOF score.
Out: the metric on their average, with a bootstrap: as test rows are scored, by labels that we have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.ensemble.averaging import average_views
from stackfeat.ensemble.decision import Decision
from stackfeat.ensemble.remembered import samples_of
from stackfeat.ensemble.scoring import N_RESAMPLES
from stackfeat.features.block import Reader
from stackfeat.metrics import get_metric
from stackfeat.store import EntryStore


def run_holdout_score(
    store: EntryStore, key: str, recipe: Mapping[str, Any], held: Mapping[str, Any], trust_code: bool
) -> None:
    """Make the entry of one member's score; `held`, the fitted members in memory, is not needed."""
    samples = samples_of(store, recipe["samples"])
    scored, bootstrap = score_holdout(store, recipe, samples, trust_code=trust_code)
    with store.write(key, "holdout_score", recipe) as writer:
        writer.json("score", scored)
        writer.array("bootstrap", bootstrap)


def score_holdout(
    store: Reader, recipe: Mapping[str, Any], samples: Samples, *, trust_code: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Score one member's predictions of the held-out rows.

    Parameters
    ----------
    samples : Samples
        The held-out rows, with their labels.

    Returns
    -------
    scored : dict
        ``score`` (None where the metric is undefined), ``se`` (row bootstrap), ``n_rows``.
    bootstrap : ndarray of shape (n_resamples,)
        Scores on resampled rows, the same rows for all members of a run.
    """
    task = samples.task
    metric = get_metric(recipe["metric"], task.kind, trust_code=trust_code)
    views = [store.read(key).array(name) for key, name in recipe["views"]]
    prediction = np.asarray(task.to_target_scale(average_views(views, task, recipe["average"])))
    # The rule for test rows: it was fitted on OOF rows, so it has not seen these labels.
    decision = store.read(recipe["score"]).structure("score", dict[str, Any])["decision"]
    decided = prediction if decision is None else Decision.from_json(decision).apply(prediction)
    y = task.to_target_scale(samples.labels)
    score = metric.score(y, decided, task, samples.weight)
    bootstrap = metric.bootstrap(
        y, [decided], task, samples.weight, n_resamples=N_RESAMPLES, seed=recipe["seed"]
    )[:, 0]
    defined = bool(np.isfinite(score))
    se = float(np.nanstd(bootstrap, ddof=1)) if defined else None
    return {"score": score if defined else None, "se": se, "n_rows": samples.n_rows}, bootstrap
