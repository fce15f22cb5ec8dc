"""The linear member with a gate for feature blocks."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from stackfeat.errors import MemberError, UsageError
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.gated_linear import GatedLinear
from stackfeat.meta.gating.linear_solver import softmax
from stackfeat.meta.scaling import Scale
from stackfeat.tasks.task import Task
from tests.meta.by_hand import centred_log_proba

THREE = Task("multiclass", ("a", "b", "c"))
EIGHT = Task("multiclass", tuple("abcdefgh"))
VALUES = Task("regression")


def sample(task, n=600, seed=0):
    """Predictions that know something, a block that knows more, a block of noise, targets, folds."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    if task.classes:
        y = np.argmax(hidden + 0.3 * rng.normal(size=(n, 3)), axis=1)
        scores = np.eye(3)[y] + rng.normal(size=(n, 3))
        base = centred_log_proba(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))
    else:
        y = hidden.sum(axis=1) * 10 + 500
        base = (y + 10 * rng.normal(size=n))[:, None]
    useful = (hidden @ rng.normal(size=(3, 12)) + 0.3 * rng.normal(size=(n, 12))).astype(np.float32)
    noise = rng.normal(size=(n, 40)).astype(np.float32)
    return base, Block("useful", useful, "scalar"), Block("noise", noise), y, np.arange(n) % 5


def loss_of(task, y, prediction):
    if task.classes:
        return -np.mean(np.log(prediction[np.arange(len(y)), y]))
    return np.mean((y - prediction[:, 0]) ** 2)


@pytest.mark.parametrize("task", [THREE, VALUES])
def test_a_useful_block_enters_and_noise_stays_out(task):
    base, useful, noise, y, folds = sample(task)
    model = GatedLinear().fit(base, [noise, useful], y, folds, task, gate_se=0.5, seed=0)
    scales = model.report()["scales"]
    assert scales["useful"] > 0
    assert scales["noise"] == 0
    assert model.report()["gain"] > 3 * model.report()["gain_se"]
    alone = GatedLinear().fit(base, [], y, folds, task, gate_se=0.5, seed=0)
    assert loss_of(task, y, model.predict(base, [useful])) < loss_of(task, y, alone.predict(base, []))


@pytest.mark.parametrize("task", [THREE, VALUES])
def test_noise_is_let_in_rarely_and_then_costs_little(task):
    extra, entered = [], 0
    for seed in range(8):
        base, _, noise, y, folds = sample(task, 1500, seed)
        fitted, new = slice(0, 700), slice(700, None)
        part = Block("noise", noise.values[fitted])
        rest = [Block("noise", noise.values[new])]
        models = [
            GatedLinear().fit(base[fitted], blocks, y[fitted], folds[fitted], task, gate_se=0.5, seed=0)
            for blocks in ([], [part])
        ]
        losses = [loss_of(task, y[new], model.predict(base[new], rest)) for model in models]
        extra.append(losses[1] / losses[0] - 1)
        entered += models[1].report()["scales"]["noise"] > 0
    assert entered <= 3
    assert np.mean(extra) < 0.003


def test_noise_labels_stay_at_chance():
    excess = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        y = rng.integers(3, size=1200)
        base = centred_log_proba(rng.dirichlet(np.ones(3), size=1200))
        blocks = [Block(f"b{number}", rng.normal(size=(1200, 20)), "zscore") for number in range(3)]
        fitted = GatedLinear().fit(
            base[:800], [Block(b.name, b.values[:800]) for b in blocks], y[:800], np.arange(800) % 5, THREE,
            gate_se=0.5, seed=0,
        )  # fmt: skip
        held_out = [Block(b.name, b.values[800:]) for b in blocks]
        excess.append(np.mean(fitted.predict(base[800:], held_out).argmax(axis=1) == y[800:]) - 1 / 3)
    assert abs(np.mean(excess)) < 3 * np.sqrt(2 / 9 / 400 / 5)


@pytest.mark.parametrize("task", [THREE, VALUES])
def test_without_blocks_it_is_scikit_learn_at_the_same_penalty(task):
    base, _, _, y, folds = sample(task)
    model = GatedLinear(penalties=[10.0]).fit(base, [], y, folds, task, gate_se=0.5, seed=0)
    assert model.report()["penalty"] == 10.0
    X = (base - base.mean(axis=0)) / base.std(axis=0)
    if task.classes:
        theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=2000).fit(X, y).predict_proba(X)
    else:
        theirs = Ridge(alpha=10.0).fit(X, y).predict(X)[:, None]
    np.testing.assert_allclose(model.predict(base, []), theirs, rtol=1e-4)


def test_good_members_of_few_rows_are_left_near_their_vote():
    rng = np.random.default_rng(0)
    losses = {"vote": [], "voted": [], "plain": []}
    votes = {str(m): np.eye(24, 8, k=-8 * m) for m in range(3)}
    for _ in range(5):
        y = rng.integers(8, size=4200)
        common = 1.5 * np.eye(8)[y] + rng.normal(size=(len(y), 8))
        proba = [softmax(1.5 * (common + 0.3 * rng.normal(size=common.shape))) for _ in range(3)]
        base = np.hstack([centred_log_proba(values) for values in proba])
        fit, new = slice(0, 200), slice(200, None)
        for name, given in (("voted", votes), ("plain", None)):
            model = GatedLinear().fit(
                base[fit], [], y[fit], np.arange(200) % 5, EIGHT, gate_se=0.5, seed=0, votes=given
            )
            losses[name].append(loss_of(EIGHT, y[new], model.predict(base[new], [])))
        losses["vote"].append(loss_of(EIGHT, y[new], softmax(base[new] @ sum(votes.values()) / 3)))
    vote, voted, plain = (np.mean(losses[name]) for name in ("vote", "voted", "plain"))
    assert vote < voted < plain  # here nothing beats the vote
    assert voted - vote < 0.5 * (plain - vote)


def test_overconfident_members_that_know_nothing_have_no_vote():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=600)
    base = centred_log_proba(softmax(3 * rng.normal(size=(600, 3))))
    model = GatedLinear().fit(
        base, [], y, np.arange(600) % 5, THREE, gate_se=0.5, seed=0, votes={"m": np.eye(3)}
    )
    assert model.report()["vote"].get("m", 0) == pytest.approx(0, abs=0.05)
    assert loss_of(THREE, y, model.predict(base, [])) == pytest.approx(np.log(3), abs=0.01)


def test_a_member_without_a_class_still_votes():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300) * 2  # the middle one of three never occurs
    base = centred_log_proba(softmax(2 * np.eye(3)[y] + rng.normal(size=(300, 3))))
    model = GatedLinear().fit(
        base, [], y, np.arange(300) % 5, THREE, gate_se=0.5, seed=0, votes={"m": np.eye(3)}
    )
    assert model.report()["vote"]["m"] > 0.5
    assert (model.predict(base, [])[:, 1] < 0.01).all()


def test_a_block_may_enter_where_predictions_are_left_at_their_vote():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=400)
    known = 1.5 * np.eye(3)[y] + rng.normal(size=(400, 3))
    base = centred_log_proba(softmax(1.5 * known))  # as good as can be: only its vote is needed
    more = Block("more", (np.eye(3)[y] + rng.normal(size=(400, 3))) @ rng.normal(size=(3, 10)))
    model = GatedLinear().fit(
        base, [more], y, np.arange(400) % 5, THREE, gate_se=0.5, seed=0, votes={"m": np.eye(3)}
    )
    report = model.report()
    assert report["scales"]["more"] > 0
    assert report["penalty"] < report["penalty_of_predictions"]


def test_probabilities_cover_all_classes_even_absent_ones():
    base, useful, _, y, folds = sample(THREE)
    keep = y != 1
    model = GatedLinear().fit(
        base[keep], [Block("useful", useful.values[keep])], y[keep], folds[keep], THREE, gate_se=0.5, seed=0
    )
    proba = model.predict(base, [useful])
    assert proba.shape == (600, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert np.all(proba > 0)
    one = GatedLinear().fit(base[:20], [], np.ones(20, int), folds[:20], THREE, gate_se=0.5, seed=0)
    assert np.all(one.predict(base, []).argmax(axis=1) == 1)


def test_rare_classes_few_rows_and_dead_columns_are_fine():
    base, useful, _, y, folds = sample(THREE, 60)
    y = np.where(np.arange(60) == 3, 2, y % 2)
    dead = Block("dead", np.ones((60, 4)))
    wide = Block(
        "wide", np.hstack([np.zeros((60, 3)), np.random.default_rng(0).normal(size=(60, 90))]), "scalar"
    )
    padded = np.hstack([base, np.full((60, 1), 7.0)])
    model = GatedLinear().fit(padded, [dead, wide, useful], y, folds, THREE, gate_se=0.5, seed=0)
    assert model.report()["scales"]["dead"] == 0
    assert np.isfinite(model.predict(padded, [dead, wide, useful])).all()
    tiny = GatedLinear().fit(padded[:4], [], y[:4], folds[:4], THREE, gate_se=0.5, seed=0)
    assert np.isfinite(tiny.predict(padded, [])).all()
    constant = GatedLinear().fit(base, [useful], np.full(60, 5.0), folds, VALUES, gate_se=0.5, seed=0)
    np.testing.assert_allclose(constant.predict(base, [useful]), 5.0, atol=1e-6)


def test_row_order_does_not_matter():
    base, useful, noise, y, folds = sample(THREE)
    order = np.random.default_rng(1).permutation(len(y))
    plain = GatedLinear().fit(base, [useful, noise], y, folds, THREE, gate_se=0.5, seed=0)
    mixed = GatedLinear().fit(
        base[order], [Block("useful", useful.values[order], "scalar"), Block("noise", noise.values[order])],
        y[order], folds[order], THREE, gate_se=0.5, seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(mixed.predict(base, [useful]), plain.predict(base, [useful]), atol=1e-4)


def test_same_seed_same_bytes():
    base, useful, noise, y, folds = sample(THREE)
    first, again = (
        GatedLinear().fit(base, [useful, noise], y, folds, THREE, gate_se=0.5, seed=0) for _ in range(2)
    )
    assert first.predict(base, [useful]).tobytes() == again.predict(base, [useful]).tobytes()


def test_one_fold_id_means_random_folds_and_a_log_line(caplog):
    base, useful, _, y, _ = sample(THREE)
    with caplog.at_level(logging.INFO):
        GatedLinear().fit(base, [useful], y, np.zeros(600, int), THREE, gate_se=0.5, seed=0)
    assert "fewer than two other folds" in caplog.text


def test_raw_features_of_fold_models_show_in_random_against_grouped_cv():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(800, 3))
    y, folds = hidden.argmax(axis=1), np.arange(800) % 4
    turned = np.einsum("ij,ijk->ik", hidden, rng.normal(size=(4, 3, 3))[folds])
    by_fold = np.einsum("ij,ik->ijk", np.eye(4)[folds], turned).reshape(800, -1)
    report = GatedLinear(penalties=[1.0]).fit(
        np.hstack([turned, by_fold]), [], y, folds, THREE, gate_se=0.5, seed=0
    ).report()  # fmt: skip
    assert report["random_cv_gain"] > 2 * report["random_cv_se"]


@pytest.mark.parametrize("task", [THREE, VALUES])
def test_arrays_and_json_bring_it_back(task):
    base, useful, noise, y, folds = sample(task)
    model = GatedLinear().fit(base, [useful, noise], y, folds, task, gate_se=0.5, seed=0)
    again = GatedLinear.from_arrays(model.arrays(), json.loads(json.dumps(model.to_json())))
    assert again.predict(base, [useful]).tobytes() == model.predict(base, [useful]).tobytes()
    assert again.report() == model.report()


def test_weights_count():
    base, _, _, y, folds = sample(THREE)
    twice = np.r_[np.arange(600), np.arange(300)]
    weight = np.where(np.arange(600) < 300, 2.0, 1.0)
    options = {"gate_se": 0.5, "seed": 0}
    weighted = GatedLinear(penalties=[10.0]).fit(base, [], y, folds, THREE, weight=weight * 5, **options)
    copied = GatedLinear(penalties=[15.0]).fit(base[twice], [], y[twice], folds[twice], THREE, **options)
    np.testing.assert_allclose(weighted.predict(base, []), copied.predict(base, []), atol=0.01)


def test_wrong_inputs_are_named():
    base, useful, noise, y, folds = sample(THREE)
    options = {"gate_se": 0.5, "seed": 0}
    with pytest.raises(UsageError, match="different names"):
        GatedLinear().fit(base, [useful, useful], y, folds, THREE, **options)
    with pytest.raises(UsageError, match="entries; got"):
        GatedLinear().fit(base, [], y[1:], folds, THREE, **options)
    with pytest.raises(UsageError, match="none negative"):
        GatedLinear().fit(base, [], y, folds, THREE, weight=-np.ones(600), **options)
    with pytest.raises(MemberError, match="noise must be finite"):
        GatedLinear().fit(base, [Block("noise", noise.values * np.nan)], y, folds, THREE, **options)
    model = GatedLinear().fit(base, [useful], y, folds, THREE, **options)
    with pytest.raises(UsageError, match="missing \\['useful'\\]"):
        model.predict(base, [noise])


def test_one_factor_keeps_the_proportions_of_columns():
    values = np.random.default_rng(0).normal(size=(500, 3)) * [5.0, 1.0, 0.0]
    together, each = Scale.fit(values, "scalar").apply(values), Scale.fit(values, "zscore").apply(values)
    np.testing.assert_allclose(
        together[:, 0].std() / together[:, 1].std(), values[:, 0].std() / values[:, 1].std()
    )
    np.testing.assert_allclose(each.std(axis=0), [1, 1, 0])
    assert not together[:, 2].any()


def test_noise_that_tells_groups_apart_enters_less_often_where_groups_are_counted():
    entered = {"rows": 0, "groups": 0}
    group = np.repeat(np.arange(15), 20)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = (rng.normal(size=15)[group] + 0.3 * rng.normal(size=300) > 0).astype(int)
        of_group = Block("group", rng.normal(size=(15, 3))[group] + 0.05 * rng.normal(size=(300, 3)))
        base = rng.normal(size=(300, 2))
        for counted, clusters in (("rows", None), ("groups", group)):
            model = GatedLinear(penalties=(10.0, 1000.0)).fit(
                base, [of_group], y, group % 5, Task("binary", (0, 1)), gate_se=1.0, seed=0, clusters=clusters
            )
            entered[counted] += model.report()["scales"]["group"] > 0
    assert entered["groups"] < entered["rows"]
    assert entered["rows"] >= 8, "by rows half of them pass for a gain"
