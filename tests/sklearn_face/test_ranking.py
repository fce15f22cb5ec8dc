"""Rankers as scikit-learn estimators: lists stay whole, and scores are those within them."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMRanker
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import ndcg_score
from sklearn.model_selection import GroupKFold, KFold

import stackfeat as sf
from stackfeat.errors import DataError, UsageError
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

RNG = np.random.default_rng(0)
QID = RNG.permutation(np.repeat([f"q{i}" for i in range(36)], np.arange(36) % 8 + 1))
X = pd.DataFrame(RNG.normal(size=(len(QID), 4)), columns=list("abcd"))
Y = (
    np.clip(np.round(1.5 + X["a"] + 0.5 * X["b"] + 0.5 * RNG.normal(size=len(QID))), 0, 3)
    .astype(int)
    .to_numpy()
)
NET = sf.NetRanker(net_params={"hidden": [8]}, epochs=25, batch_size=32, random_state=0)
MEMBERS = [
    ("lambda", LGBMRanker(n_estimators=10, min_child_samples=3, verbosity=-1, n_jobs=1)),
    ("line", Ridge()),
    ("grades", LogisticRegression()),
]
RANKERS = {
    "net": NET,
    "stack": sf.StackingRanker([*MEMBERS, ("net", NET)], cv=3),
    "stack of trees": sf.StackingRanker(MEMBERS, MEMBERS[0][1], cv=3),
    "soft": sf.VotingRanker(MEMBERS),
    "rank": sf.VotingRanker(MEMBERS, voting="rank"),
    "fitted": sf.VotingRanker(MEMBERS, weights="fit", cv=3),
}


def ndcg(scores: np.ndarray) -> float:
    task = Task("ranking")
    return get_metric("ndcg", "ranking").score(
        task.in_lists(Y.astype(float), np.unique(QID, return_inverse=True)[1]), scores, task
    )


def said(ranker, rows=slice(None)):
    if isinstance(ranker, sf.NetRanker):
        return ranker.predict(X.iloc[rows])
    return ranker.predict(X.iloc[rows], qid=QID[rows])


@pytest.mark.parametrize("ranker", RANKERS.values(), ids=RANKERS)
def test_it_orders_lists_whatever_the_order_of_rows(ranker) -> None:
    fitted = clone(ranker).fit(X, Y, qid=QID)
    scores = said(fitted)
    assert scores.shape == (len(QID),) and ndcg(scores) > ndcg(np.zeros(len(QID))) + 0.05
    order = np.random.default_rng(1).permutation(len(QID))
    np.testing.assert_allclose(said(fitted, order), scores[order], atol=1e-6)
    np.testing.assert_array_equal(said(pickle.loads(pickle.dumps(fitted))), scores)


def test_a_stack_reads_scores_in_units_of_their_list_and_hidden_layers() -> None:
    stack = clone(RANKERS["stack"]).fit(X, Y, qid=QID)
    for column in stack.oof_[:, :4].T:
        of_list = pd.Series(column).groupby(QID)
        assert (of_list.mean().abs() < 1e-9).all() and (of_list.std(ddof=0) < 1 + 1e-9).all()
    assert stack.oof_.shape[1] > 4 and pd.Series(stack.folds_).groupby(QID).nunique().max() == 1


class Spy(BaseEstimator):
    """Remembers the rows that it is fitted on."""

    def fit(self, X, y):
        self.rows_ = set(X["a"])
        return self

    def predict(self, X):
        return np.array([value in self.rows_ for value in X["a"]], dtype=float)


def test_no_row_is_read_by_an_estimator_that_saw_its_list() -> None:
    stack = sf.StackingRanker([("spy", Spy()), ("line", Ridge())], Ridge(), cv=4).fit(X, Y, qid=QID)
    for fold, spy in enumerate(fit.estimator.estimator_ for fit in stack.fits_["spy"].fits):
        held_out = np.flatnonzero(stack.folds_ == fold)
        lists = set(QID[held_out])
        seen = {name for name, value in zip(QID, X["a"], strict=True) if value in spy.rows_}
        assert lists.isdisjoint(seen) and len(held_out)


def test_votes_are_means_of_standardised_scores_and_of_ranks() -> None:
    members = [one.estimator_ for one in clone(RANKERS["soft"]).fit(X, Y, qid=QID).estimators_]
    values = [members[0].predict(X), members[1].predict(X), members[2].predict_proba(X) @ members[2].classes_]
    columns = pd.DataFrame(np.column_stack(values)).groupby(QID)
    scaled = columns.transform(
        lambda one: (one - one.mean()) / one.std(ddof=0) if one.std(ddof=0) > 0 else 0.0
    )
    np.testing.assert_allclose(
        said(clone(RANKERS["soft"]).fit(X, Y, qid=QID)), scaled.mean(axis=1), atol=1e-9
    )
    sizes = columns[0].transform("size")
    ranks = (columns.rank().mean(axis=1) - 0.5) / sizes
    np.testing.assert_allclose(said(clone(RANKERS["rank"]).fit(X, Y, qid=QID)), ranks, atol=1e-9)
    weights = clone(RANKERS["fitted"]).fit(X, Y, qid=QID).fitted_weights_
    assert weights.shape == (3,) and weights.sum() == pytest.approx(1.0)


def test_splitters_of_lists_are_taken_and_others_refused() -> None:
    stack = sf.StackingRanker(MEMBERS, cv=GroupKFold(4)).fit(X, Y, qid=QID)
    assert sorted(set(stack.folds_)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"a fold of cv must keep lists whole; got .* use GroupKFold"):
        sf.StackingRanker(MEMBERS, cv=KFold(3)).fit(X, Y, qid=QID)


@pytest.mark.parametrize(
    ("ranker", "y", "qid", "message"),
    [
        (NET, Y - 1, QID, "relevance must be a whole number from 0 to 31; got -1"),
        (NET, Y, QID[:-1], "qid must name the list of each row; got"),
        (
            NET,
            Y,
            np.where(np.arange(len(Y)) == 2, np.nan, QID.astype(object)),
            "qid must name .*; got none in row",
        ),
        (
            NET,
            Y,
            np.where(np.arange(len(Y)) == 2, 3, QID.astype(object)),
            "qid must hold names of one type; got",
        ),
        (NET, 0 * Y, QID, "some list must have rows of different relevance"),
        (NET, Y, np.arange(len(Y)), "some list must have rows of different relevance"),
        (RANKERS["stack"], Y, None, "qid must name a list for each fold.*; got 1, cv=3; give qid"),
        (
            RANKERS["stack"],
            Y,
            QID > "q2",
            "qid must name a list for each fold.*; got 2, cv=3; use cv=2 or less",
        ),
        (sf.VotingRanker(MEMBERS, voting="hard"), Y, QID, "voting must be one of soft, rank; got 'hard'"),
        (
            sf.VotingRanker(MEMBERS, voting="rank", weights=[1, 2, 3]),
            Y,
            QID,
            "a vote of ranks has no weights",
        ),
        (sf.VotingRanker(MEMBERS, weights=[1]), Y, QID, "weights must be equal in number to the estimators"),
        (sf.VotingRanker([*MEMBERS, MEMBERS[0]]), Y, QID, "of different names"),
    ],
)
def test_what_does_not_fit_is_refused(ranker, y, qid, message) -> None:
    with pytest.raises((ValueError, DataError, UsageError), match=message):
        clone(ranker).fit(X, y, qid=qid)


@pytest.mark.parametrize("loss", ["listwise", "pairwise", "mse"])
def test_a_net_learns_by_every_loss_and_stops_by_lists(loss) -> None:
    net = clone(NET).set_params(loss=loss, epochs=40, patience=5).fit(X, Y, qid=QID)
    assert net.n_iter_ <= 40 and ndcg(net.predict(X)) > 0.85


@pytest.mark.parametrize("ranker", [NET, RANKERS["soft"], RANKERS["stack of trees"]])
def test_its_score_is_the_mean_ndcg_of_the_lists_with_a_relevant_row(ranker) -> None:
    fitted = clone(ranker).fit(X, Y, qid=QID)
    frame = pd.DataFrame({"said": said(fitted), "gain": 2.0**Y - 1.0, "list": QID})
    lists = [one for _, one in frame.groupby("list") if one["gain"].any()]
    values = [1.0 if len(one) == 1 else ndcg_score([one["gain"]], [one["said"]], k=10) for one in lists]
    assert fitted.score(X, Y, qid=QID) == pytest.approx(np.mean(values), abs=1e-9)


def test_diagnostics_are_of_the_gate_and_of_hidden_layers() -> None:
    found = clone(RANKERS["stack"]).fit(X, Y, qid=QID).diagnostics_
    blocks = {"net/penultimate@geometry", "net/penultimate@aligned"}
    assert set(found["blocks"]) == blocks and found["gate"]
