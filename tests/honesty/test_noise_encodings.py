"""Labels of pure noise, by encoding and meta-learner: no block may carry a row's own label.

Ten draws. A flexible map between fold spaces, which does carry it, must be caught by the same harness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stackfeat.audit.audit import audit


def ridge_to_first(spaces: list[np.ndarray], **options: Any) -> Any:
    """Map every fold's activations onto the first fold's by least squares: knowledge distillation.

    The maps are fitted on all anchors, whichever a fold may use.
    """

    class Ridge:
        anchor_cosine = held_out_cosine = 1.0

        def __init__(self, maps: list[np.ndarray]) -> None:
            self.maps = maps
            self.n_columns = maps[0].shape[1]

        def transform(self, space: int, rows: np.ndarray) -> np.ndarray:
            return np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float32) @ self.maps[space]

        def arrays(self) -> dict[str, np.ndarray]:
            return {str(space): values for space, values in enumerate(self.maps)}

    maps = []
    for rows in spaces:
        design = np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float64)
        gram = design.T @ design + 1e-3 * np.eye(design.shape[1])
        maps.append(np.linalg.solve(gram, design.T @ spaces[0]).astype(np.float32))
    return Ridge(maps)


def ridges_loaded(entry: Any) -> dict[str, Any]:
    loaded = {}
    for part, names in entry.json("report")["maps"].items():
        loaded[part] = ridge_to_first([np.zeros((1, 1))])
        loaded[part].maps = [entry.array(f"map/{part}/{name}") for name in sorted(names, key=int)]
    return loaded


LIMIT_OF_MANY = 4.0
"""Five tables hold some 300 comparisons; one of them passes three standard errors by chance."""

LOGISTIC = {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 0.1}}
TREES = {
    "estimator": "lightgbm.LGBMClassifier",
    "params": {"n_estimators": 40, "min_child_samples": 5, "num_leaves": 7},
}


def overfitted_net(*encodings: str) -> dict[str, Any]:
    """A net that knows its training rows' labels by heart."""
    return {
        "net": "mlp",
        "params": {"hidden": [256, 128], "dropout": 0.0},
        "train": {"epochs": 30, "batch_size": 64, "lr": 0.003, "weight_decay": 0.0},
        "emit": ["proba", {"tap": "penultimate", "encode": list(encodings)}],
    }


def over(block: str) -> dict[str, Any]:
    """Every kind of meta-learner over a block, with and without a gate."""
    both = ["base/mlp/proba", block]
    return {
        "alone": {**LOGISTIC, "inputs": [block]},
        "linear": {**LOGISTIC, "inputs": both, "gate": False},
        "linear_gate": {**LOGISTIC, "inputs": both},
        "gated_linear": {"estimator": "gated_linear", "inputs": both},
        "trees": {**TREES, "inputs": both, "gate": False},
        "trees_gate": {**TREES, "inputs": both},
    }


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("encoding", ["geometry", "aligned", "reference", "relative", "raw"])
def test_no_meta_learner_over_an_encoding_looks_better_than_on_test_rows(
    make_harness: Any, encoding: str
) -> None:
    levels = {"base": {"mlp": overfitted_net(encoding)}, "meta": over(f"base/mlp/*@{encoding}")}
    harness = make_harness(classes=True, n_rows=500, n_test=1500, n_columns=20).run(
        10, levels, folds={"n": 5}
    )
    print(harness.gaps().to_string())
    print(harness.table().to_string())
    better = harness.gaps().query("z > 3")
    assert better.empty, better.to_string()
    faults = harness.faults(LIMIT_OF_MANY)
    assert faults.empty, faults.to_string()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_flexible_map_between_folds_is_caught(make_harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness of the encodings must see a leak where there is one."""
    from stackfeat.encodings import alignment

    monkeypatch.setattr(alignment, "align", ridge_to_first)
    monkeypatch.setattr(alignment, "load_alignments", ridges_loaded)
    levels = {"base": {"mlp": overfitted_net("aligned")}, "meta": over("base/mlp/*@aligned")}
    harness = make_harness(classes=True, n_rows=500, n_test=1500, n_columns=20).run(
        10, levels, folds={"n": 5}
    )
    print(harness.gaps().to_string())
    gaps = harness.gaps().set_index(["member", "metric"])["z"]
    assert gaps["meta.alone", "roc_auc"] > 5 and gaps["meta.linear", "roc_auc"] > 5
    assert set(harness.faults()["part"]) == {"oof"}


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False], ids=["ridge", "orthogonal"])
def test_an_audit_finds_a_flexible_map_between_folds(
    arena: Any, draw_noise: Any, monkeypatch: pytest.MonkeyPatch, leaks: bool
) -> None:
    from stackfeat.encodings import alignment

    if leaks:
        monkeypatch.setattr(alignment, "align", ridge_to_first)
        monkeypatch.setattr(alignment, "load_alignments", ridges_loaded)
    per = {**LOGISTIC, "each": "base/*/*@*"}
    levels = {"base": {"mlp": overfitted_net("aligned")}, "meta": {"per": per}}
    rows = draw_noise(750, 20, 0, True, "r")
    test = draw_noise(250, 20, 0, True, "t").drop(columns="y")
    ran = arena.run(levels, rows, test, folds={"n": 5})
    found = audit(ran.result.folder, rows=500, permutations=6)
    assert found.null is not None
    print(*found.null.verdicts, sep="\n")
    assert not found.provenance.faults, "maps see no rows that they must not: only the rerun can tell"
    assert found.null.above == (["meta/per:mlp.penultimate@aligned"] if leaks else [])
