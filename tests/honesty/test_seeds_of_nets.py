"""Nets of several seeds: an OOF row and its test view are means over the same nets, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.encodings.alignment import load_alignments
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.fitted import load_fitted
from stackfeat.meta.columns import Rows

NET: dict[str, Any] = {
    "net": "mlp",
    "params": {"hidden": [8, 6]},
    "train": {"epochs": 2, "batch_size": 32},
    "emit": ["proba", {"tap": "penultimate", "encode": ["geometry", "aligned"]}],
}


@pytest.mark.parametrize(
    ("seeds", "folds"), [(3, {}), (1, {"repeats": 3, "repeats_as": "blocks"})], ids=["seeds", "blocks"]
)
def test_every_block_is_the_mean_over_the_nets_of_a_fold(
    seeds: int, folds: dict[str, Any], arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(90, 1, 3), make_rows(40, 2, prefix="t").drop(columns="y")
    levels = {"base": {"mlp": {**NET, "seeds": seeds}}}
    ran = arena.run(levels, train, test, task="multiclass", folds={"n": 3, **folds})
    plan, store = ran.plan, ran.planner.store
    aligned = store.read(plan.aligns["base/mlp/penultimate@aligned", 0])
    alignment = load_alignments(aligned)["penultimate"]
    for fold in range(3):
        fitted = load_fitted(store, plan.fits["base/mlp", 0, fold], False)
        assert len(fitted.nets) == 3
        held_out = ran.folds.splits[0][fold][1]
        sources = {
            "oof": samples_of(store, plan.sources.samples).take(held_out),
            "view": samples_of(store, plan.sources.test),
        }
        for kind, samples in sources.items():
            rows = Rows(samples.n_rows, samples.inputs)
            single = [
                replace(fitted, nets=(net,), encoders=(encoders,)).emit(rows)
                for net, encoders in zip(fitted.nets, fitted.encoders, strict=True)
            ]
            mapped = [
                alignment.transform(3 * fold + i, one["tap/penultimate/0"]) for i, one in enumerate(single)
            ]
            assert not np.allclose(single[0]["proba"], single[1]["proba"])
            for name in ("proba", "penultimate@geometry", "penultimate@aligned"):
                parts = mapped if name.endswith("aligned") else [one[name] for one in single]
                block = f"base/mlp/{name}"
                if kind == "oof":
                    key, array = plan.oof_places(block, 0)[fold]
                else:
                    key, array = plan.view_place(block, 0, fold, "all")
                written = store.read(key).array(array)
                np.testing.assert_allclose(written, np.mean(parts, axis=0), rtol=1e-5, atol=1e-5)
