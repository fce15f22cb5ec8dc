"""Read-outs of blocks in the vote that the linear member shrinks to."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stackfeat.errors import UsageError
from stackfeat.meta.gating import forward_selection as module
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.cross_validation import Candidate, CrossValidation
from stackfeat.meta.gating.gated_linear import GatedLinear
from stackfeat.meta.gating.linear_solver import Softmax, Squares, softmax
from stackfeat.tasks.task import Task
from tests.meta.by_hand import centred_log_proba

SIX = Task("multiclass", tuple("abcdef"))
VALUES = Task("regression")


def told(task, y, size, rng):
    """Scores that know `size` of the target, beside noise."""
    truth = np.eye(task.n_outputs)[y] * 4 if task.classes else y[:, None]
    return size * truth + rng.normal(size=(len(y), task.n_outputs))


def sample(task, n=400, seed=0, size=0.5):
    """Base, votes, a block whose read-outs know something and whose columns are noise, y, folds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(6, size=n) if task.classes else rng.normal(size=n)
    scores = told(task, y, 0.5, rng)
    base = centred_log_proba(softmax(scores)) if task.classes else scores
    said = {
        "one": told(task, y, size, rng).astype(np.float32),
        "two": told(task, y, 0, rng).astype(np.float32),
    }
    block = Block("net", rng.normal(size=(n, 30)).astype(np.float32), readouts=said)
    return base, {"m": np.eye(task.n_outputs)}, block, y, np.arange(n) % 5


def fit(sampled, task, **options):
    base, votes, block, y, folds = sampled
    return GatedLinear(**options).fit(base, [block], y, folds, task, gate_se=0.5, votes=votes, seed=0)


def loss_of(task, y, predicted):
    if task.classes:
        return -np.mean(np.log(predicted[np.arange(len(y)), y]))
    return np.mean((y - predicted[:, 0]) ** 2)


@pytest.mark.parametrize("task", [SIX, VALUES])
def test_a_read_out_that_knows_something_votes_and_lowers_the_loss_of_new_rows(task):
    train, new = sample(task), sample(task, n=4000, seed=1)
    model = fit(train, task)
    report = model.report()
    assert report["voters"] == ["net"] and report["scales"]["net"] > 0
    assert report["vote"]["net:one"] > 0.3 > 0.15 > report["vote"]["net:two"]
    assert report["steps"][0] | {"gain": 0, "standard_error": 0} == {
        "block": "net", "scale": 1.0, "gain": 0, "standard_error": 0, "accepted": True, "enters": "vote",
        "judged_by": "fits",
    }  # fmt: skip
    alone = fit(silent(train), task)
    assert alone.report()["voters"] == []
    better, usual = (loss_of(task, new[3], found.predict(new[0], [new[2]])) for found in (model, alone))
    assert better < 0.9 * usual


def silent(sampled):
    """The same without read-outs."""
    base, votes, block, y, folds = sampled
    return base, votes, Block(block.name, block.values), y, folds


@pytest.mark.parametrize("task", [SIX, VALUES])
def test_read_outs_of_noise_are_let_in_rarely_and_then_cost_little(task):
    extra, entered = [], 0
    new = sample(task, n=4000, seed=99, size=0.0)
    for seed in range(6):
        train = sample(task, seed=seed, size=0.0)
        model, alone = fit(train, task), fit(silent(train), task)
        entered += bool(model.report()["voters"])
        loss, usual = (loss_of(task, new[3], found.predict(new[0], [new[2]])) for found in (model, alone))
        extra.append(loss / usual - 1)
    assert entered <= 3
    assert np.mean(extra) < 0.003


def test_read_outs_are_heard_where_members_know_nothing():
    base, votes, block, y, folds = sample(SIX)
    lost = centred_log_proba(softmax(np.random.default_rng(7).normal(size=base.shape)))
    vote = fit((lost, votes, block, y, folds), SIX).report()["vote"]
    assert vote["net:one"] > 0.3 > 0.2 > vote["m"]


def test_read_outs_vote_alone_where_predictions_have_no_units():
    base, _, block, y, folds = sample(SIX)
    vote = fit((base, {}, block, y, folds), SIX).report()["vote"]
    assert list(vote) == ["net:one", "net:two"] and vote["net:one"] > 0.3


def test_of_many_blocks_the_one_that_knows_most_is_tried_first():
    rng = np.random.default_rng(0)
    base, votes, _, y, folds = sample(SIX)
    read_outs = tuple(told(SIX, y, size, rng)[None] for size in (0, 0, 0.1, 0, 0.6, 0, 0.3))
    cv = CrossValidation(Softmax(y, 6), base, tuple(votes.values()), read_outs, (), np.ones(len(y)), folds)
    current = cv.run(Candidate(1e5, 1e5, "free"))
    assert module.screen_readouts(cv, current, range(7))[:3] == [4, 6, 2]


def test_columns_that_a_cheap_step_calls_hopeless_are_not_fitted():
    rng = np.random.default_rng(0)
    y = rng.normal(size=600)
    base, folds = (y + rng.normal(size=600))[:, None], np.arange(600) % 5
    noise, useful = (
        ((y * size)[:, None] + rng.normal(size=(600, 4))).astype(np.float32) for size in (0.0, 1.0)
    )
    cv = CrossValidation(Squares(y), base, (), (), (noise, useful), np.ones(600), folds)
    current = cv.run(Candidate(100.0, 100.0, None))
    candidates = module.screen(cv, current, (0, 1), (1.0, 0.1), (100.0, 10.0))
    assert [list(candidate.scales) for candidate in candidates] == [[1]]
    selected = module.select_blocks(
        cv, current, ("noise", "useful"), limit=0.5, scales=(1.0,), penalties=(100.0,), max_blocks=2
    )
    assert [(step.block, step.accepted) for step in selected.steps] == [("useful", True)]


def test_at_most_so_many_blocks_vote():
    base, votes, block, y, folds = sample(SIX)
    rng = np.random.default_rng(3)
    more = [Block(f"b{i}", block.values, readouts={"one": told(SIX, y, 0.5, rng)}) for i in range(3)]
    model = GatedLinear(max_blocks=2).fit(base, more, y, folds, SIX, gate_se=0.5, votes=votes, seed=0)
    assert len(model.report()["voters"]) == 2


@pytest.mark.parametrize("task", [SIX, VALUES])
def test_arrays_and_json_bring_voters_back_and_rows_are_predicted_alone(task):
    base, votes, block, y, folds = sample(task)
    model = fit((base, votes, block, y, folds), task)
    again = GatedLinear.from_arrays(model.arrays(), json.loads(json.dumps(model.to_json())))
    expected = model.predict(base, [block])
    np.testing.assert_array_equal(again.predict(base, [block]), expected)
    np.testing.assert_allclose(model.predict(base[7:9], [block.take(slice(7, 9))]), expected[7:9], rtol=1e-12)


def test_a_class_that_no_row_had_is_left_out_of_read_outs():
    base, votes, block, y, folds = sample(SIX)
    y = np.where(y == 4, 5, y)
    model = fit((base, votes, block, y, folds), SIX)
    assert model.report()["voters"] == ["net"]
    proba = model.predict(base, [block])
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert proba[:, 4].max() < 0.01


def test_a_missing_voter_is_named():
    base, votes, block, y, folds = sample(SIX)
    model = fit((base, votes, block, y, folds), SIX)
    with pytest.raises(UsageError, match="missing \\['net'\\], got \\['other'\\]"):
        model.predict(base, [Block("other", block.values)])


def test_read_outs_of_wrong_shape_or_not_finite_are_named():
    base, votes, block, y, folds = sample(SIX)
    short = Block("net", block.values, readouts={"one": np.zeros((399, 6))})
    with pytest.raises(UsageError, match="net:one must have shape \\(400, c\\)"):
        fit((base, votes, short, y, folds), SIX)
