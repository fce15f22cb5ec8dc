"""A refitted net's space meets the folds' where orthogonal Procrustes on all anchors puts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import orthogonal_procrustes

from stackfeat.engine.blocks import anchors_of, usable_anchors


def by_hand(rows: np.ndarray, anchors: np.ndarray, usable: np.ndarray, target: np.ndarray) -> np.ndarray:
    centre = anchors[usable].mean(axis=0)
    scale = np.sqrt(np.mean(np.sum((anchors[usable] - centre) ** 2, axis=1)))
    turn = orthogonal_procrustes(anchors[usable] - centre, target[usable])[0]
    return np.asarray((rows - centre) / scale @ turn)


@pytest.mark.parametrize("is_time", [True, False])
@pytest.mark.parametrize("encoding", ["aligned", "reference"])
def test_the_refit_is_turned_to_the_target_of_the_folds(
    encoding: str, is_time: bool, arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    if encoding == "aligned" and not is_time:
        pytest.skip("a consensus, not a target: tests/encodings/test_procrustes.py")
    train, test = make_rows(200, 1), make_rows(40, 2, prefix="t").drop(columns="y")
    train["when"], test["when"] = np.arange(200), np.arange(200, 240)
    net = {
        "net": "mlp",
        "params": {"hidden": [6]},
        "train": {"epochs": 3, "batch_size": 16},
        "emit": ["proba", {"tap": "penultimate", "encode": [encoding]}],
    }
    data = {"time": "when"} if is_time else {"drop": ["when"]}
    stack = {"averaging": "refit"}
    ran = arena.run({"base": {"mlp": net}}, train, test, data=data, folds={"n": 3}, stack=stack)
    plan, store = ran.plan, ran.planner.store
    fit, refit = (store.read(plan.fits["base/mlp", 0, fold]) for fold in (0, "all"))
    anchors, refitted = (entry.array("anchor/tap/penultimate/0").astype(float) for entry in (fit, refit))
    assert len(anchors) == len(anchors_of(ran.folds))
    target = anchors
    if encoding == "reference":
        target = store.read(plan.references["base/mlp"]).array("tap/penultimate").astype(float)
    everywhere = np.ones(len(anchors), dtype=bool)
    usable = usable_anchors(ran.folds, 0)[0]
    assert usable.all() == is_time
    activations = store.read(plan.emits["base/mlp", 0, "all"]).array("viewrefit/tap/penultimate/0")
    expected_view = by_hand(activations, refitted, everywhere, target - target.mean(axis=0))
    expected_oof = by_hand(fit.array("oof/tap/penultimate/0"), anchors, usable, target - target.mean(axis=0))
    block = f"base/mlp/penultimate@{encoding}"
    places = plan.view_place(block, 0, "refit", "all"), plan.oof_places(block, 0)[0]
    view, oof = (store.read(key).array(name).astype(float) for key, name in places)
    # Products of rows do not depend on which axes the common columns are.
    np.testing.assert_allclose(view @ oof.T, expected_view @ expected_oof.T, atol=1e-4)
    assert np.abs(view @ oof.T).max() > 0.1
