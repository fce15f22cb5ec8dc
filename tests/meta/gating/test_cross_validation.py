"""Candidates of the linear member are fitted without each fold, scored on it, and searched for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from stackfeat.meta.gating.cross_validation import (
    Candidate,
    CrossValidation,
    extended,
    refine_penalty,
    search_penalty,
    search_prior,
)
from stackfeat.meta.gating.linear_solver import Softmax, Squares


def values(n=90, n_folds=3, informative=True):
    """Two columns of a base, of which one is a vote, and a block."""
    random = np.random.default_rng(0)
    y = random.normal(size=(n, 1))
    base = np.hstack([informative * y + random.normal(size=(n, 1)), random.normal(size=(n, 1))])
    block = (0.5 * y + random.normal(size=(n, 3))).astype(np.float32)
    weight = random.uniform(0.2, 2.0, n)
    vote = np.array([[1.0], [0.0]])
    return CrossValidation(
        Squares(y.ravel()),
        base,
        (vote,),
        (np.empty((0, n, 1)),),
        (block,),
        weight / weight.mean(),
        np.arange(n) % n_folds,
    )


def without_each_fold(cv, make, columns, y):
    """Held-out predictions of scikit-learn's estimator."""
    found = None
    for fold in np.unique(cv.fold_of):
        inside = cv.fold_of == fold
        model = make().fit(columns[~inside], y[~inside], sample_weight=cv.weight[~inside])
        said = (
            model.predict_proba(columns[inside])
            if hasattr(model, "predict_proba")
            else model.predict(columns[inside])
        )
        found = np.zeros((len(y), *said.shape[1:])) if found is None else found
        found[inside] = said
    return found


def test_losses_of_rows_are_those_of_ridge_fitted_without_their_fold():
    cv = values()
    y = cv.problem.target
    result = cv.run(Candidate(5.0, 5.0, None))
    said = without_each_fold(cv, lambda: Ridge(alpha=5.0), cv.base, y)
    errors = (said - y) ** 2
    np.testing.assert_allclose(result.losses, errors, rtol=1e-6)
    assert result.loss == pytest.approx(np.average(result.losses, weights=cv.weight))


def test_a_block_at_a_scale_is_ridge_on_the_scaled_columns_with_a_penalty_of_its_own():
    cv = values()
    y = cv.problem.target
    result = cv.run(Candidate(5.0, 20.0, None, scales={0: 0.3}))
    # A penalty of 20 on a column is a penalty of 5 on its half.
    columns = np.hstack([cv.base, 0.3 * cv.blocks[0].astype(float) / 2])
    errors = (without_each_fold(cv, lambda: Ridge(alpha=5.0), columns, y) - y) ** 2
    np.testing.assert_allclose(result.losses, errors, rtol=1e-4)


def test_losses_of_classes_are_those_of_logistic_regression_without_their_fold():
    random = np.random.default_rng(0)
    y = random.integers(3, size=90)
    base = np.eye(3)[y] + random.normal(size=(90, 3))
    cv = CrossValidation(Softmax(y, 3), base, (), (), (), np.ones(90), np.arange(90) % 3)
    result = cv.run(Candidate(2.0, 2.0, None))
    proba = without_each_fold(cv, lambda: LogisticRegression(C=0.5, tol=1e-10, max_iter=1000), base, y)
    np.testing.assert_allclose(result.losses, -np.log(proba[np.arange(90), y]), rtol=1e-2)


def test_labels_of_a_fold_do_not_move_the_fit_that_scores_it():
    cv = values()
    candidate = Candidate(1.0, 1.0, "free", scales={0: 0.3})
    before = cv.run(candidate)
    changed = cv.problem.target + 100.0 * (cv.fold_of == 1)
    after = replace(cv, problem=Squares(changed)).run(candidate)
    np.testing.assert_allclose(after.coefficients[1], before.coefficients[1])
    assert all(not np.allclose(after.coefficients[k], before.coefficients[k]) for k in (0, 2))


def test_the_strongest_penalty_leaves_the_vote_and_without_one_the_mean():
    cv = values()
    voted = cv.run(Candidate(1e9, 1e9, "equal"))
    for found in voted.coefficients:
        np.testing.assert_allclose(found[:2], cv.votes[0], atol=1e-4)
    for fold, found in enumerate(cv.run(Candidate(1e9, 1e9, None)).coefficients):
        rows = cv.fold_of != fold
        mean = np.average(cv.problem.target[rows], weights=cv.weight[rows])
        np.testing.assert_allclose(found.ravel(), [0, 0, mean], atol=1e-6)


def test_a_start_from_another_scale_or_block_changes_no_result():
    random = np.random.default_rng(0)
    y = random.integers(2, size=80)
    blocks = tuple(random.normal(size=(80, width)).astype(np.float32) for width in (2, 3))
    base = np.eye(2)[y] + random.normal(size=(80, 2))
    none = np.empty((0, 80, 2))
    cv = CrossValidation(Softmax(y, 2), base, (), (none, none), blocks, np.ones(80), np.arange(80) % 2)
    wanted = Candidate(1.0, 1.0, None, scales={1: 1.0, 0: 0.3})
    start = cv.run(Candidate(1.0, 1.0, None, scales={0: 0.1}))
    cold, warm = cv.run(wanted), cv.run(wanted, start)
    np.testing.assert_allclose(warm.losses, cold.losses, rtol=2e-2)
    # Coefficients carried to another scale give the very scores that they gave.
    carried = cv._carry(start, 0, wanted)
    np.testing.assert_allclose(
        cv.design(wanted) @ carried, cv.design(start.candidate) @ start.coefficients[0], rtol=1e-4, atol=1e-5
    )


def test_the_search_walks_down_and_stops_when_the_loss_has_risen_twice():
    cv, penalties = values(), (100.0, 1e4, 1.0, 1e-2, 1e-4, 10.0)
    found = search_penalty(cv, penalties, None)
    losses = {penalty: cv.run(Candidate(penalty, penalty, None)).loss for penalty in penalties}
    assert found.candidate.base_penalty == found.candidate.penalty == min(losses, key=losses.get)
    assert found.loss == pytest.approx(min(losses.values()))
    tried = []
    noise = Walked(**parts_of(values(informative=False)), tried=tried)
    search_penalty(noise, penalties, None)
    assert tried == [1e4, 100.0, 10.0]


def test_a_loss_that_rises_by_many_standard_errors_ends_the_walk_at_once():
    cv, tried = values(), []
    first = cv.run(Candidate(1e4, 1e4, None))
    clearly_better = replace(first, losses=np.zeros_like(first.losses), loss=0.0)
    search_penalty(Noted(**parts_of(cv), tried=tried), (1e4, 10.0, 1.0), None, strongest=clearly_better)
    assert tried == [(10.0, None)]


class Noted(CrossValidation):
    """Cross-validation that notes penalties and votes."""

    def __init__(self, tried, **given):
        super().__init__(**given)
        object.__setattr__(self, "tried", tried)

    def run(self, candidate, start=None):
        self.tried.append((candidate.penalty, candidate.vote))
        return super().run(candidate, start)


def test_a_vote_that_is_clearly_worse_is_not_walked_nor_zero_where_votes_are_best_as_they_are():
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    good, bad = y + 0.3 * rng.normal(size=400), rng.normal(size=400)
    parts = parts_of(values()) | {
        "problem": Squares(y),
        "base": np.column_stack([good, bad]),
        "votes": (np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])),
        "readouts": (),
        "blocks": (),
        "weight": np.ones(400),
        "fold_of": np.arange(400) % 4,
    }
    tried = []
    found = search_prior(Noted(**parts, tried=tried), (1e4, 1e3, 1e2))
    assert found.candidate.vote in ("simplex", "free")
    assert [penalty for penalty, vote in tried if vote == "equal"] == [1e4]
    if found.candidate.penalty >= 1e4:
        assert all(vote is not None for _, vote in tried)


class Walked(CrossValidation):
    """Cross-validation that notes penalties, each worse than the one before."""

    def __init__(self, tried, **given):
        super().__init__(**given)
        object.__setattr__(self, "tried", tried)

    def run(self, candidate, start=None):
        self.tried.append(candidate.penalty)
        return replace(super().run(candidate, start), loss=float(len(self.tried)))


def test_a_known_first_result_is_not_computed_again():
    cv = values()
    first = cv.run(Candidate(1e4, 1e4, None))
    tried = []
    search_penalty(Walked(**parts_of(cv), tried=tried), (1e4, 10.0), None, strongest=first)
    assert tried == [10.0]


def parts_of(cv):
    return {name: getattr(cv, name) for name in CrossValidation.__dataclass_fields__}


def test_coefficients_shrink_to_a_vote_that_knows_something_and_to_zero_where_it_does_not():
    penalties = (1e4, 10.0)
    assert search_prior(values(), penalties).candidate.vote is not None
    cv = values(informative=False)
    wrong = replace(cv, votes=(np.array([[30.0], [0.0]]),))
    assert search_prior(wrong, (10.0, 1.0)).candidate.vote in (None, "free")
    assert search_prior(replace(cv, votes=()), penalties).candidate.vote is None


def test_refining_moves_half_a_decade_at_most_and_never_to_a_worse_loss():
    cv = values()
    for candidate in (Candidate(10.0, 10.0, None), Candidate(1e4, 1e-4, None, scales={0: 1.0})):
        before = cv.run(candidate)
        after = refine_penalty(cv, before)
        assert after.loss <= before.loss
        moves = np.log10(
            [
                after.candidate.base_penalty / candidate.base_penalty,
                after.candidate.penalty / candidate.penalty,
            ]
        )
        if candidate.scales:
            # One of the two moves; here both ends are far from the best.
            assert sorted(np.abs(moves).round(6)) == [0, 0.5]
        else:
            assert moves[0] == pytest.approx(moves[1]) and abs(moves[0]) <= 0.5 + 1e-9


def test_a_prior_has_zeros_for_columns_of_blocks():
    np.testing.assert_array_equal(extended(np.ones((2, 3)), 4), [[1] * 3, [1] * 3, [0] * 3, [0] * 3])
