"""What the gate of the linear member chooses, and what its report says of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stackfeat.meta.gating import linear_gate as module
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.linear_gate import GateOptions, choose
from stackfeat.meta.gating.linear_solver import Softmax, Squares
from stackfeat.meta.gating.opinion_pool import ReadoutScores
from stackfeat.meta.scaling import Scale

OPTIONS = GateOptions(gate_se=0.5, penalties=(100.0, 10.0, 1.0), scales=(0.3, 1.0), max_blocks=5, seed=0)


def given(n=120, readout=0.0):
    """A problem of values: a weak prediction, a block that knows more, one of noise with a dead column."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=(n, 2))
    y = hidden.sum(axis=1)
    base = 0.5 * y[:, None] + random.normal(size=(n, 1))
    said = {"one": readout * y[:, None] + random.normal(size=(n, 1))} if readout else {}
    blocks = [
        Block("noise", np.hstack([random.normal(size=(n, 4)), np.ones((n, 1))])),
        Block("useful", hidden + 0.1 * random.normal(size=(n, 2)), "scalar", said),
    ]
    return {
        "problem": Squares(y),
        "base": base,
        "votes": {"m": np.ones((1, 1))},
        "blocks": blocks,
        "scales": [Scale.fit(block.values, block.scaling) for block in blocks],
        "readouts": [
            ReadoutScores.of(block, np.empty(0, dtype=np.int64), (0.0, 1.0), base) for block in blocks
        ],
        "weight": np.ones(n),
        "folds": np.arange(n) % 4,
        "options": OPTIONS,
    }


def test_a_useful_block_is_chosen_and_the_report_adds_up():
    chosen = choose(**given())
    report = chosen.report
    assert list(chosen.candidate.scales) == [1]
    assert report["scales"] == {"noise": 0.0, "useful": chosen.candidate.scales[1]}
    assert report["gain"] == pytest.approx(report["base_loss"] - report["loss"])
    assert report["gain"] > report["threshold_se"] * report["gain_se"] > 0
    assert [step["block"] for step in report["steps"] if step["accepted"]] == ["useful"]
    assert report["penalty"] == chosen.candidate.penalty
    assert json.loads(json.dumps(report)) == report


def test_the_prior_is_the_vote_by_the_shares_of_the_report():
    chosen = choose(**given())
    np.testing.assert_allclose(chosen.prior, [[chosen.report["vote"]["m"]]])
    assert chosen.shares == {}


def test_a_read_out_that_votes_has_a_share_beside_the_members():
    chosen = choose(**given(readout=3.0))
    assert chosen.report["voters"] == ["useful"] and chosen.report["scales"]["useful"] > 0
    assert list(chosen.report["vote"]) == ["m", "useful:one"]
    assert list(chosen.shares) == [1]
    np.testing.assert_allclose(chosen.shares[1], [chosen.report["vote"]["useful:one"]])
    np.testing.assert_allclose(chosen.prior, [[chosen.report["vote"]["m"]]])


@pytest.mark.parametrize("why", ["rows", "classes"])
def test_with_too_few_rows_or_classes_nothing_is_chosen(why):
    values = given(n=9 if why == "rows" else 120)
    if why == "classes":
        values["problem"] = Softmax(np.zeros(120, dtype=np.int64), 1)
    chosen = choose(**values)
    assert (chosen.candidate.base_penalty, chosen.candidate.penalty) == (100.0, 100.0)
    assert chosen.candidate.vote is None and not chosen.candidate.scales and not chosen.shares
    np.testing.assert_array_equal(chosen.prior, [[0.0]])
    assert chosen.report["scales"] == {"noise": 0.0, "useful": 0.0} and chosen.report["steps"] == []


def test_no_more_blocks_are_let_in_than_allowed():
    values = given()
    values["options"] = GateOptions(0.5, (10.0,), (1.0,), max_blocks=0, seed=0)
    assert not choose(**values).candidate.scales


def test_of_many_rows_a_seeded_sample_is_used_in_which_they_keep_their_labels(monkeypatch):
    monkeypatch.setattr(module, "MAX_GATE_ROWS", 60)
    values = given()
    first, again = choose(**values), choose(**values)
    assert first.report == again.report != choose(**{**values, "options": OPTIONS_OF_ANOTHER_SEED}).report
    assert 1 in first.candidate.scales
    # Rows that were not drawn have no part in the choice.
    drawn = np.sort(np.random.default_rng(0).permutation(120)[:60])
    others = np.setdiff1d(np.arange(120), drawn)
    y = values["problem"].target.copy()
    y[others] = 1e6
    assert choose(**{**values, "problem": Squares(y)}).report == first.report


def test_many_coefficients_leave_room_for_fewer_rows_but_never_for_few(monkeypatch):
    monkeypatch.setattr(module, "MAX_GATE_ROWS", 100)
    monkeypatch.setattr(module, "MAX_GATE_CELLS", 600)
    monkeypatch.setattr(module, "LEAST_CAPPED_ROWS", 20)
    n_used = [
        len(module._gate_rows(n_rows, n, 0))
        for n_rows, n in ((90, 1), (500, 1), (500, 10), (500, 99), (15, 99))
    ]
    assert n_used == [90, 100, 60, 20, 15]


OPTIONS_OF_ANOTHER_SEED = GateOptions(0.5, OPTIONS.penalties, OPTIONS.scales, 5, seed=1)


def test_folds_that_do_not_share_a_space_look_better_in_random_folds():
    random = np.random.default_rng(0)
    values = given(n=200)
    folds = values["folds"] = np.arange(200) % 4
    y = random.normal(size=200)
    # In each fold the prediction has another sign.
    base = (y * np.where(folds < 2, 1.0, -1.0))[:, None] * np.eye(4)[folds] + 0.1 * random.normal(
        size=(200, 4)
    )
    values |= {"problem": Squares(y), "base": base, "votes": {}, "blocks": [], "scales": [], "readouts": []}
    report = choose(**values).report
    assert report["random_cv_gain"] > 3 * report["random_cv_se"] > 0
    assert report["random_cv_gain"] == pytest.approx(report["loss"] - report["random_cv_loss"])
