"""Alignment of one tap over the folds: activations of K fold models brought to common columns.

In:  stored activations of held-out rows, of test rows, and of a seeded sample of training rows.
Out: aligned OOF rows by fold and the maps; later rows go through the same maps.

Source of the method: generalised orthogonal Procrustes analysis (Gower 1975) on unlabelled
anchor rows. Maps are orthogonal, because flexible ones distil another fold's labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.features.block import Reader
from stackfeat.features.encodings.added_space import add_space
from stackfeat.features.encodings.anchors import anchor_rows, choose_anchors
from stackfeat.features.encodings.procrustes import Alignment, align
from stackfeat.store import Entry

Recipe = Mapping[str, Any]
ANCHOR_SEED = 0


def align_fold_spaces(
    store: Reader, recipe: Recipe, folds: Folds
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit one map for each fold model (and seed) and apply it to that fold's held-out rows.

    Returns
    -------
    arrays : dict
        ``oof/K``: float32 (n_rows of fold K, n_columns); ``map/...``: the fitted alignment.
    report : dict
        Which anchors were used and why, and the cosine between folds on held-out anchors.
    """
    fits = [store.read(key) for key in recipe["fits"]]
    n_seeds = int(fits[0].manifest["recipe"]["settings"]["seeds"])
    names = [f"tap/{recipe['tap']}/{seed}" for seed in range(n_seeds)]
    oof = [[fit.array(f"oof/{name}") for name in names] for fit in fits]
    tests = _test_activations(store, recipe, names)
    anchors = choose_anchors(
        oof[0][0], tests[0][0] if tests else None, n_train=folds.n_rows, seed=ANCHOR_SEED
    )
    if anchors.source == "test":
        spaces = [values[anchors.rows] for fold in tests for values in fold]
        usable = None
    else:
        spaces = [fit.array(f"anchor/{name}") for fit in fits for name in names]
        trained = [np.isin(anchors.rows, folds.splits[recipe["repeat"]][k][0]) for k in range(len(fits))]
        usable = [mask for mask in trained for _ in names]
    first = 0 if folds.is_time else None
    alignment = align(
        spaces,
        reduce=recipe["reduce"],
        usable=usable,
        reference=first,
        iterations=1 if folds.is_time else 5,
        seed=recipe["seed"],
    )
    arrays = {f"oof/{fold}": _mean_map(alignment, fold, values) for fold, values in enumerate(oof)}
    arrays |= {f"map/{name}": values for name, values in alignment.arrays().items()}
    report = {
        "anchors": anchors.source,
        "n_anchors": len(anchors.rows),
        "enough": bool(anchors.enough),
        "reason": anchors.reason,
        "n_seeds": n_seeds,
        "maps": sorted(alignment.arrays()),
        "anchor_cosine": _plain(alignment.anchor_cosine),
        "held_out_cosine": _plain(alignment.held_out_cosine),
    }
    return arrays, report


def add_refit_space(
    store: Reader, recipe: Recipe, folds: Folds
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Turn the space of a net refitted on all rows to the folds' common one, on the same anchors.

    Test rows alone go through this map: held-out rows keep the maps of their own fold models.

    Returns
    -------
    arrays : dict
        ``map/...``: the alignment of the folds, and behind them the refit's maps, one for each seed.
    report : dict
        That of the folds' alignment; ``refit`` is the position of the refit behind the folds.
    """
    entry, refit = store.read(recipe["align"]), store.read(recipe["fit"])
    fits = [store.read(key) for key in recipe["fits"]]
    report, alignment = entry.json("report"), load_alignment(entry)
    names = [f"tap/{recipe['tap']}/{seed}" for seed in range(report["n_seeds"])]
    if report["anchors"] == "test":
        tests = _test_activations(store, recipe, names)
        rows = anchor_rows(len(tests[0][0]), seed=ANCHOR_SEED)
        spaces = [values[rows] for fold in tests for values in fold]
        emitted = store.read(recipe["emit"])
        added = [emitted.array(f"viewrefit/{name}")[rows] for name in names]
        masks = [np.ones(len(rows), dtype=bool)] * len(spaces)
    else:
        rows = anchor_rows(folds.n_rows, seed=ANCHOR_SEED)
        spaces = [fit.array(f"anchor/{name}") for fit in fits for name in names]
        added = [refit.array(f"anchor/{name}") for name in names]
        trained = [np.isin(rows, folds.splits[recipe["repeat"]][k][0]) for k in range(len(fits))]
        masks = [mask for mask in trained for _ in names]
    for values in added:
        alignment = add_space(alignment, spaces, masks, values)
    arrays = {f"map/{name}": values for name, values in alignment.arrays().items()}
    return arrays, {**report, "refit": len(fits), "maps": sorted(alignment.arrays())}


def map_activations(store: Reader, recipe: Recipe) -> np.ndarray:
    """Return other rows' activations of one fold model, or of the refit, in the common columns, float32."""
    entry, emitted = store.read(recipe["align"]), store.read(recipe["emit"])
    report = entry.json("report")
    alignment = load_alignment(entry)
    view = recipe["fold"]
    values = [emitted.array(f"view{view}/tap/{recipe['tap']}/{seed}") for seed in range(report["n_seeds"])]
    return _mean_map(alignment, report["refit"] if view == "refit" else view, values)


def load_alignment(entry: Entry) -> Alignment:
    """Read the maps of a stored alignment."""
    names = entry.json("report")["maps"]
    return Alignment.from_arrays({name: entry.array(f"map/{name}") for name in names})


def _test_activations(store: Reader, recipe: Recipe, names: list[str]) -> list[list[np.ndarray]]:
    emits = recipe["emits"] or []
    return [
        [entry.array(f"view{fold}/{name}") for name in names]
        for fold, entry in enumerate(store.read(key) for key in emits)
    ]


def _mean_map(alignment: Alignment, fold: int, values: list[np.ndarray]) -> np.ndarray:
    """Map every seed's activations by its own map; seeds share the common columns, so they average."""
    n_seeds = len(values)
    mapped = [alignment.transform(fold * n_seeds + seed, rows) for seed, rows in enumerate(values)]
    return mapped[0] if n_seeds == 1 else np.asarray(np.mean(mapped, axis=0, dtype=np.float32))


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
