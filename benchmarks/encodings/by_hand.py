"""Stacks that a config cannot say, made by hand of the blocks of the run.

In:  the stored blocks of the base level.
Out: test predictions by the name of the stack.

One meta-learner is fitted on all OOF rows; then only the test rows differ. ``late``: the rows of each
fold model go through it, its predictions are averaged. ``early``: the rows are averaged over fold models
and go through it once. ``refit``: rows of one model that was fitted on all training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor

from benchmarks.encodings.stack import ALIGNED, GEOMETRY, RAW, meta_params
from benchmarks.encodings.stored import Block, Stored
from stackfeat.encodings import ENCODINGS
from stackfeat.meta.gating.blocks import Block as Gated
from stackfeat.meta.gating.gated_linear import GatedLinear
from stackfeat.meta.scaling import SMALLEST_PROBA, Scale

WAYS = ("late", "early", "refit")
Parts = Sequence[np.ndarray]
Predict = Callable[[Parts], np.ndarray]


def by_hand(stored: Stored, seed: int) -> dict[str, np.ndarray]:
    """Test predictions of every by-hand stack; ``NAME_late``, ``NAME_early``, ``NAME_refit``."""
    predictions = stored.predictions()
    blocks = [stored.blocks[name] for name in (GEOMETRY, ALIGNED)]
    raw = [stored.blocks[RAW]]
    stacks = {
        "one_trees": (boosted, [], False),
        "one_trees_open": (boosted, blocks, False),
        "one_trees_raw": (boosted, raw, False),
        "one_gated": (linear, blocks, True),
        "one_open": (linear, blocks, False),
        "one_raw": (linear, raw, False),
    }
    found: dict[str, np.ndarray] = {}
    for name, (fit, features, gate) in stacks.items():
        parts = [*predictions, *features]
        predict = fit(stored, [part.oof for part in parts], gate, seed)
        found |= {f"{name}_{way}": values for way, values in seen(predict, parts).items()}
    return found


def seen(predict: Predict, blocks: Sequence[Block]) -> dict[str, np.ndarray]:
    """Predictions of the test rows, seen three ways."""
    views = zip(*(block.views for block in blocks), strict=True)
    return {
        "late": np.mean([predict(view) for view in views], axis=0),
        "early": predict([np.mean(block.views, axis=0) for block in blocks]),
        "refit": predict([block.refit for block in blocks]),
    }


def boosted(stored: Stored, parts: Parts, gate: bool, seed: int) -> Predict:
    """LightGBM over predictions and features, as they are."""
    options = {**meta_params(stored.task.kind), "random_state": seed, "n_jobs": 1, "verbosity": -1}
    if stored.task.classes:
        classifier = LGBMClassifier(**options).fit(np.hstack(parts), stored.y)
        return lambda rows: np.asarray(classifier.predict_proba(np.hstack(rows)))
    regressor = LGBMRegressor(**options).fit(np.hstack(parts), stored.y)
    return lambda rows: np.asarray(regressor.predict(np.hstack(rows)))[:, None]


def linear(stored: Stored, parts: Parts, gate: bool, seed: int) -> Predict:
    """The solver of `gated_linear`; without a gate all columns share one penalty, chosen over folds."""
    n_predictions = len(stored.predictions())
    names = ("geometry", "aligned") if len(parts) == n_predictions + 2 else ("raw",)
    scales = [
        Scale.fit(part, ENCODINGS[name].scaling)
        for name, part in zip(names, parts[n_predictions:], strict=True)
    ]

    def design(rows: Parts) -> tuple[np.ndarray, list[Gated]]:
        base = [_read(part, stored.task.classes) for part in rows[:n_predictions]]
        features = list(zip(names, scales, rows[n_predictions:], strict=True))
        if not gate:
            return np.hstack([*base, *(scale.apply(part) for _, scale, part in features)]), []
        blocks = [Gated.encoded(name, part, ENCODINGS[name], stored.task) for name, _, part in features]
        return np.hstack(base), blocks

    base, features = design(parts)
    n_outputs = stored.task.n_outputs
    votes = {str(m): np.eye(base.shape[1], n_outputs, k=-m * n_outputs) for m in range(n_predictions)}
    model, folds = GatedLinear(), stored.folds.fold_of(0)
    model.fit(base, features, stored.y, folds, stored.task, gate_se=0.5, votes=votes, seed=seed)
    return lambda rows: model.predict(*design(rows))


def _read(prediction: np.ndarray, is_proba: bool) -> np.ndarray:
    if not is_proba:
        return np.asarray(prediction, dtype=np.float64)
    logs = np.log(np.maximum(prediction, SMALLEST_PROBA))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))
