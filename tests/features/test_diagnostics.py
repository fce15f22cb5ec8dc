"""Numbers that say whether folds, and OOF and test rows, are comparable."""

from __future__ import annotations

import numpy as np

from stackfeat.features.diagnostics import (
    BlockDiagnostics,
    compare_random_cv,
    fold_id_accuracy,
    random_cv_warning,
    two_sample_auc,
)
from stackfeat.features.two_sample import domain_auc


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


def test_every_threshold_warns_with_a_remedy():
    good = BlockDiagnostics("base/net/fc@aligned", 5, 0.25, 0.52, 0.8, 0.75)
    assert good.warnings() == ()
    bad = BlockDiagnostics("base/net/fc@raw", 5, 0.7, 0.9, 0.9, 0.4)
    text = "\n".join(bad.warnings())
    for part in (
        "gives away its fold",
        "averaging: late",
        "agree little",
        "base/net/fc@raw",
        "encode: geometry",
    ):
        assert part in text
    gap = BlockDiagnostics("b", 5, anchor_cosine=0.9, held_out_cosine=0.7)
    assert "too few anchors" in gap.warnings()[0]
    assert BlockDiagnostics("b", 5, fold_id=float("nan")).to_json()["fold_id"] is None


def test_random_cv_that_is_much_better_warns():
    rng = np.random.default_rng(0)
    grouped = rng.normal(size=400)
    gain, error = compare_random_cv(grouped, grouped - 0.2 + 0.1 * rng.normal(size=400))
    assert random_cv_warning("meta/gated", gain, error).startswith("meta/gated: rows of the same fold")
    assert random_cv_warning("meta/gated", *compare_random_cv(grouped, grouped + 0.1)) is None
