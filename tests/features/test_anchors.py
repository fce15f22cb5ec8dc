"""Which rows fold spaces are aligned on."""

from __future__ import annotations

import numpy as np

from stackfeat.features.encodings import anchor_rows, choose_anchors


def rows(n, d=5, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def test_test_rows_are_anchors_up_to_the_cap():
    anchors = choose_anchors(rows(100), rows(300, seed=1), n_train=500, seed=0, cap=50)
    assert (anchors.source, len(anchors.rows), anchors.enough) == ("test", 50, True)
    assert np.all(np.diff(anchors.rows) > 0)
    assert anchors.rows.max() < 300


def test_few_test_rows_give_way_to_training_rows():
    anchors = choose_anchors(rows(100), rows(9), n_train=500, seed=0)
    assert (anchors.source, len(anchors.rows)) == ("train", 500)
    assert "fewer than twice the 5 columns" in anchors.reason
    assert choose_anchors(rows(100), None, n_train=500, seed=0).source == "train"


def test_training_anchors_are_known_before_the_choice():
    anchors = choose_anchors(rows(100), None, n_train=500, seed=0, cap=40)
    np.testing.assert_array_equal(anchors.rows, anchor_rows(500, cap=40))


def test_test_rows_of_another_domain_give_way():
    anchors = choose_anchors(rows(100), rows(300, shift=3.0, seed=1), n_train=500, seed=0)
    assert anchors.source == "train"
    assert anchors.auc > 0.8
    assert "another domain" in anchors.reason
