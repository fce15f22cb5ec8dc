"""Numbers that say whether folds, and OOF and test rows, are comparable."""

from __future__ import annotations

import re

import numpy as np
import pytest

from stackfeat.encodings.diagnostics import (
    BlockDiagnostics,
    block_warnings,
    compare_random_cv,
    domain_auc,
    fold_id_accuracy,
    probe_losses,
    two_sample_auc,
)
from stackfeat.tasks.task import Task

CLASSES, VALUES = Task("multiclass", (0, 1, 2)), Task("regression")


def test_like_rows_cannot_be_told_apart_and_unlike_rows_can():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(500, 4)), rng.normal(size=(400, 4))
    assert 0.4 < domain_auc(a, b, seed=0) < 0.6
    assert domain_auc(a, b + 2, seed=0) > 0.95
    assert domain_auc(a, 0.3 * b, seed=0) > 0.8  # less spread, same centre
    assert np.isnan(domain_auc(a[:5], b, seed=0))


def test_fold_id_is_at_chance_only_where_folds_are_comparable():
    rng = np.random.default_rng(0)
    fold_of = np.arange(600) % 5
    rows = rng.normal(size=(600, 6))
    assert abs(fold_id_accuracy(rows, fold_of, seed=0) - 0.2) < 0.08
    assert fold_id_accuracy(rows + 3 * rng.normal(size=(5, 6))[fold_of], fold_of, seed=0) > 0.8
    fold_of[fold_of < 4] = -1
    assert np.isnan(fold_id_accuracy(rows, fold_of, seed=0))


def test_views_look_like_oof_rows_and_their_mean_does_not():
    rng = np.random.default_rng(0)
    oof = rng.normal(size=(500, 4))
    views = [rng.normal(size=(400, 4)) for _ in range(5)]
    assert 0.4 < two_sample_auc(oof, views, seed=0) < 0.6
    assert two_sample_auc(oof, views, seed=0, averaging="early") > 0.75


PAST = {
    "gives": {"fold_id": 0.7},
    "unlike OOF rows (AUC 0.90": {"auc": 0.9},
    "60 anchors for 32 columns (at least 64": {"n_anchors": 60, "width": 32},
    "agree little on rows outside the anchors (cosine 0.40": {"anchor_cosine": 0.45, "held_out_cosine": 0.4},
    "better on anchors (cosine 0.90) than on other rows (0.70)": {
        "anchor_cosine": 0.9,
        "held_out_cosine": 0.7,
    },
    "random CV better by 0.100 ± 0.010": {"random_cv_gain": 0.1, "random_cv_se": 0.01},
}
WITHIN = {
    "fold_id": 0.39,
    "auc": 0.59,
    "n_anchors": 64,
    "width": 32,
    "anchor_cosine": 0.75,
    "held_out_cosine": 0.7,
    "random_cv_gain": 0.1,
    "random_cv_se": 0.06,
}


def test_nothing_is_said_within_the_thresholds():
    assert BlockDiagnostics("base/net/fc@aligned", 5, **WITHIN).warnings() == ()
    small = {"random_cv_gain": 0.015, "random_cv_se": 0.001}
    assert BlockDiagnostics("base/net/fc@aligned", 5, **small).warnings() == (), (
        "sure, but too small to matter"
    )
    assert BlockDiagnostics("b", 5, fold_id=float("nan")).to_json()["fold_id"] is None


@pytest.mark.parametrize("part", PAST)
def test_every_threshold_is_said_once(part: str):
    (phrase,) = BlockDiagnostics("base/net/fc@aligned", 5, **PAST[part]).warnings()
    assert (
        part.replace("gives", "rows give away their fold (accuracy 0.70, chance 0.20, limit 0.40)") in phrase
    )


def test_there_is_one_warning_for_each_encoding_and_remedies_agree():
    everything = {name: value for values in PAST.values() for name, value in values.items()}
    encodings = ("geometry", "aligned", "reference", "relative", "raw")
    found = {
        f"base/{net}/fc@{encoding}": BlockDiagnostics(f"base/{net}/fc@{encoding}", 5, **everything).warnings()
        for net in ("a", "b")
        for encoding in encodings
    }
    texts = dict(zip(encodings, block_warnings(found), strict=True))
    for encoding, text in texts.items():
        assert text.count(f"base/a/fc@{encoding}: rows give away") == 1
        assert text.count(f"base/b/fc@{encoding}: rows give away") == 1
        assert text.count("the data have shifted") == 1
    assert "Set reduce" in texts["aligned"] and "Set reduce" in texts["reference"]
    assert "gated members" in texts["geometry"] and "gated members" in texts["relative"]
    assert "use encode: [geometry, aligned]" in texts["raw"]
    for encoding in ("geometry", "aligned"):
        assert not re.search(r"encode: \S*(geometry|aligned)", texts[encoding]), (
            "each would send to the other"
        )
    assert block_warnings({"base/a/fc@geometry": ()}) == []


def of_folds(rng: np.random.Generator, turned: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of which three columns say the class, in a basis of each fold's own where `turned`."""
    y, fold_of = rng.integers(0, 3, 900), np.arange(900) % 5
    rows = np.eye(3)[y] + 0.5 * rng.normal(size=(900, 3))
    rows = np.hstack([rows, rng.normal(size=(900, 5))])
    bases = [np.linalg.qr(rng.normal(size=(8, 8)))[0] if turned else np.eye(8) for _ in range(5)]
    return np.stack([row @ bases[fold] for row, fold in zip(rows, fold_of, strict=True)]), y, fold_of


@pytest.mark.parametrize("turned", [True, False])
def test_random_folds_are_better_only_where_folds_have_bases_of_their_own(turned: bool):
    values, y, fold_of = of_folds(np.random.default_rng(0), turned)
    for target, task in ((y, CLASSES), (y.astype(float), VALUES)):
        losses = probe_losses(values, target, fold_of, task=task, group=None, seed=0)
        assert losses is not None and len(losses[0]) == len(losses[1]) == 900
        gain, error = compare_random_cv(*losses)
        said = BlockDiagnostics("b@raw", 5, random_cv_gain=gain, random_cv_se=error).warnings()
        assert bool(said) == turned


def test_the_probe_is_the_cross_validation_it_says():
    values, y, fold_of = of_folds(np.random.default_rng(0), True)
    target = y.astype(float)
    losses = probe_losses(values, target, fold_of, task=VALUES, group=None, seed=0)
    X = (values - values.mean(axis=0)) / values.std(axis=0)
    expected = np.empty(900)
    for fold in range(5):
        inside = fold_of == fold
        centre, level = X[~inside].mean(axis=0), target[~inside].mean()
        Z = X[~inside] - centre
        w = np.linalg.solve(Z.T @ Z + 0.03 * 720 * np.eye(8), Z.T @ (target[~inside] - level))
        expected[inside] = ((X[inside] - centre) @ w + level - target[inside]) ** 2
    np.testing.assert_allclose(losses[0], expected / target.var(), rtol=1e-8)


def test_groups_do_not_make_random_folds_better():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(300), 3)
    # Rows of a group are nearly equal, and its target is noise: neighbours would give it away.
    values, y = (
        rng.normal(size=(300, 40))[group] + 0.01 * rng.normal(size=(900, 40)),
        rng.normal(size=300)[group],
    )
    options = {"task": VALUES, "seed": 0}
    alone = compare_random_cv(*probe_losses(values, y, group % 5, group=None, **options))
    whole = compare_random_cv(*probe_losses(values, y, group % 5, group=group, **options))
    assert alone[0] > 0.2
    assert abs(whole[0]) < 0.25 * alone[0]


@pytest.mark.parametrize("what", ["few rows", "one fold", "constant target"])
def test_the_probe_says_nothing_where_there_is_nothing_to_compare(what: str):
    values, y, fold_of = of_folds(np.random.default_rng(0), False)
    n_rows = 50 if what == "few rows" else 900
    y = np.zeros(900, dtype=int) if what == "constant target" else y
    fold_of = np.zeros(900, dtype=int) if what == "one fold" else fold_of
    found = probe_losses(values[:n_rows], y[:n_rows], fold_of[:n_rows], task=CLASSES, group=None, seed=0)
    assert found is None
