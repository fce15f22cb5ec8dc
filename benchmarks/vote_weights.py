"""By how much votes weigh a member too much that was stopped on the rows it is weighed by.

    python -m benchmarks.vote_weights [--data DIR] [--cuts 10]

Of each set a fifth of the rows (whole groups, or what follows a stretch of time) is fresh. Four sound members, and
boosting that keeps, in each fold, the best of many numbers of rounds and seeds by the held-out rows themselves, are
weighed by a vote fitted out of fold, and by one fitted on half of the fresh rows; both votes are judged on the other
half. Printed: weights of the flattered member, and the loss of the two votes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from benchmarks.pseudo_tests import MEMBERS, N_FOLDS, SETS, cross_fitted, cut, table_of
from stackfeat.data.options import FoldOptions
from stackfeat.data.prepare.estimator import ScaledPrepare
from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds, make_folds
from stackfeat.members.construct import construct
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.meta.votes.weighted import WeightedVote
from stackfeat.metrics.registry import get_metric

SOUND = [name for name in MEMBERS if name != "boosting"]
TRIED = [(leaves, seed) for leaves in (7, 31) for seed in range(4)]
ROUNDS = range(10, 121, 10)


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(description="Weights out of fold and on fresh rows.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default="student_grades,lightgbm_rank,bike_sharing")
    parser.add_argument("--cuts", type=int, default=10)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        "| set | weight out of fold | on fresh rows | difference (se) | loss by OOF weights against fresh ones |"
    )
    print("|---" * 5 + "|")
    for name in arguments.sets.split(","):
        samples, metric = SETS[name](arguments.data)
        found = np.array([measure(samples, metric, number) for number in range(arguments.cuts)])
        gap, worse = found[:, 0] - found[:, 1], found[:, 2] / found[:, 3] - 1
        cells = [
            f"{found[:, 0].mean():.2f}",
            f"{found[:, 1].mean():.2f}",
            said(gap),
            f"{said(100 * worse)} %",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def said(values: np.ndarray) -> str:
    return f"{values.mean():+.2f} ({values.std(ddof=1) / np.sqrt(len(values)):.2f})"


def measure(samples: Samples, metric: str, number: int) -> tuple[float, float, float, float]:
    """Return the flattered member's weight out of fold and on fresh rows, and the losses of both votes."""
    train, test = cut(samples, number)
    task, folds = train.task, make_folds(FoldOptions(n=N_FOLDS), train)
    oof, later = cross_fitted(train, test, folds, number)
    one, other = flattered(train, test, folds)
    rows = np.flatnonzero(folds.fold_of(0) >= 0)
    half = np.random.default_rng(number).random(test.n_rows) < 0.5
    found = get_metric(metric, task.kind)
    outside = [later[name] for name in SOUND] + [other]
    votes = [
        WeightedVote.fit(
            [oof[name][rows] for name in SOUND] + [one[rows]],
            VoteTarget(task, train.labels[rows], None, found),
            {},
        ),
        WeightedVote.fit(
            [part[half] for part in outside], VoteTarget(task, test.labels[half], None, found), {}
        ),
    ]
    losses = [
        float(task.row_loss(test.labels[~half], vote.combine([part[~half] for part in outside])).mean())
        for vote in votes
    ]
    return float(votes[0].weights[-1]), float(votes[1].weights[-1]), losses[0], losses[1]


def flattered(train: Samples, test: Samples, folds: Folds) -> tuple[np.ndarray, np.ndarray]:
    """Return what boosting says that is chosen, in each fold, by the very rows that it predicts."""
    task = train.task
    oof = np.full((train.n_rows, task.n_outputs), np.nan)
    later = []
    for fitted_on, held_out in folds.splits[0]:
        tables = [table_of(part) for part in (train.take(fitted_on), train.take(held_out), test)]
        reader = ScaledPrepare().fit(tables[0])
        columns, inside, new = (reader.transform(table) for table in tables)
        best = np.inf
        for leaves, seed in TRIED:
            params = {"n_estimators": max(ROUNDS), "num_leaves": leaves, "colsample_bytree": 0.6}
            model = construct(f"lightgbm.LGBM{task.estimator_suffix}", params, seed=seed, threads=1)
            model.fit(columns, train.labels[fitted_on])
            for n_rounds in ROUNDS:
                said_inside = task.placed(getattr(model, task.method)(inside, num_iteration=n_rounds))
                loss = task.row_loss(train.labels[held_out], said_inside).mean()
                if loss < best:
                    best, kept = loss, (model, n_rounds)
                    oof[held_out] = said_inside
        model, n_rounds = kept
        later.append(task.placed(getattr(model, task.method)(new, num_iteration=n_rounds)))
    return oof, later[-1] if folds.is_time else np.mean(later, axis=0)


if __name__ == "__main__":
    main()
