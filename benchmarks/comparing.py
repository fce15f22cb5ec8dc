"""How often `compare` calls two configs different: two seeds of one config, and configs of which one is better.

In:  generated tables of 1,500 rows, five folds; models of scikit-learn and LightGBM.
Out: two markdown tables. The first: the share of pairs of seeds that are called different at 5 %, by rows alone, by
     rows and training (as `compare` does), and by Nadeau-Bengio's test. The second: the share of pairs in which the
     better config is named, by how many standard errors it is better on 20,000 fresh rows (of the paired difference
     over as many rows as there are training rows).

    OMP_NUM_THREADS=1 python benchmarks/comparing.py [--pairs 150] [--only MLP]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from scipy import stats
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

from stackfeat.metrics.paired import Gap, Part, folds_part, gap_of

N_ROWS, N_FOLDS, N_FRESH = 1_500, 5, 20_000
Model = Callable[[int], Any]
SEEDED: dict[str, Model] = {
    "extra trees": lambda seed: ExtraTreesClassifier(20, min_samples_leaf=5, random_state=seed),
    "LightGBM, bagged": lambda seed: LGBMClassifier(
        n_estimators=40,
        num_leaves=7,
        subsample=0.7,
        subsample_freq=1,
        colsample_bytree=0.6,
        random_state=seed,
        n_jobs=1,
        verbose=-1,
    ),
    "MLP": lambda seed: MLPClassifier((16,), max_iter=40, random_state=seed),
}


def draw(n_rows: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X = random.normal(size=(n_rows, 8))
    logit = X[:, 0] + 0.7 * X[:, 1] - 0.5 * X[:, 2] + 0.6 * X[:, 3] * X[:, 4]
    return X, (random.random(n_rows) < 1 / (1 + np.exp(-logit))).astype(int)


def losses(y: np.ndarray, proba: np.ndarray) -> np.ndarray:
    proba = np.clip(proba, 1e-6, 1 - 1e-6)
    return np.asarray(-np.where(y == 1, np.log(proba), np.log(1 - proba)))


def out_of_fold(
    X: np.ndarray, y: np.ndarray, model: Model, seed: int, fold_seed: int, fresh: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities out of fold, the fold of each row, and the mean of the fold models on fresh rows."""
    proba, fold_of, later = np.zeros(len(y)), np.zeros(len(y), dtype=int), []
    splits = StratifiedKFold(N_FOLDS, shuffle=True, random_state=fold_seed).split(X, y)
    for fold, (train, held) in enumerate(splits):
        fitted = model((seed * 100 + fold) % 2**31).fit(X[train], y[train])
        proba[held], fold_of[held] = fitted.predict_proba(X[held])[:, 1], fold
        if fresh is not None:
            later.append(fitted.predict_proba(fresh)[:, 1])
    return proba, fold_of, np.mean(later, axis=0) if later else np.empty(0)


def judged(gaps: np.ndarray, *assignments: np.ndarray) -> tuple[Gap, float, float]:
    """Return what `compare` makes of differences of rows, and the p-values of rows alone and of Nadeau and Bengio."""
    rows = Part(float(gaps.var(ddof=1)) / len(gaps), len(gaps) - 1)
    share, parts, whole = 1 / (N_FOLDS - 1), [], []
    for fold_of in assignments:
        inside = [gaps[fold_of == fold] for fold in range(N_FOLDS)]
        means = [float(part.mean()) for part in inside]
        parts.append(folds_part(means, [float(part.var(ddof=1)) / len(part) for part in inside], share))
        whole.append(folds_part(means, [0.0] * N_FOLDS, share, prior_folds=0).variance)
    value = float(gaps.mean())
    corrected = 2 * stats.t.sf(abs(value) / np.sqrt(np.mean(whole)), N_FOLDS - 1)
    return gap_of(value, rows, parts), gap_of(value, rows, []).p, float(corrected)


def seeds_apart(model: Model, n_pairs: int, *, same_folds: bool) -> list[float]:
    """Return the share of pairs of seeds that each test calls different."""
    found = []
    for number in range(n_pairs):
        random = np.random.default_rng(number)
        X, y = draw(N_ROWS, random)
        one, two = random.integers(0, 10**6, 2)
        proba, fold_of, _ = out_of_fold(X, y, model, int(one), 0)
        other, other_folds, _ = out_of_fold(X, y, model, int(two), 0 if same_folds else 1)
        assignments = [fold_of] if same_folds else [fold_of, other_folds]
        gap, rows, corrected = judged(losses(y, proba) - losses(y, other), *assignments)
        found.append((rows < 0.05, gap.p < 0.05, corrected < 0.05))
    return [float(share) for share in np.mean(found, axis=0)]


def named(n_pairs: int) -> list[tuple[float, bool, bool]]:
    """Return, for each pair, by how many standard errors one config is better, and whether it is named."""
    found = []
    for number in range(n_pairs):
        random = np.random.default_rng(10_000 + number)
        X, y = draw(N_ROWS, random)
        fresh, labels = draw(N_FRESH, random)
        weaker = X.copy()
        # A column that matters, hidden behind more or less noise.
        hidden = int(random.integers(0, 3))
        noise = float(random.uniform(0.2, 2.0))
        weaker[:, hidden] += noise * random.normal(size=N_ROWS)
        fresh_weaker = fresh.copy()
        fresh_weaker[:, hidden] += noise * random.normal(size=N_FRESH)

        def line(seed: int) -> LogisticRegression:
            return LogisticRegression()

        proba, fold_of, later = out_of_fold(X, y, line, 0, 0, fresh)
        other, _, later_other = out_of_fold(weaker, y, line, 0, 0, fresh_weaker)
        truth = losses(labels, later_other) - losses(labels, later)
        gap, _, corrected = judged(losses(y, other) - losses(y, proba), fold_of)
        size = float(truth.mean() / (truth.std(ddof=1) / np.sqrt(N_ROWS)))
        found.append((size, gap.p < 0.05 and gap.value > 0, corrected < 0.05 and gap.value > 0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--only", choices=[*SEEDED, "named"], help="one of the models, or the second table")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| models | folds | rows alone | rows and training | Nadeau-Bengio alone |\n|---|---|---|---|---|")
    for name, model in SEEDED.items():
        for same in (True, False) if given.only in (None, name) else ():
            shares = seeds_apart(model, given.pairs, same_folds=same)
            told = " | ".join(f"{100 * share:.0f} %" for share in shares)
            print(f"| {name} | {'the same' if same else 'different'} | {told} |", flush=True)
    print("\n| better by | pairs | rows and training | Nadeau-Bengio alone |\n|---|---|---|---|")
    found = named(given.pairs) if given.only in (None, "named") else []
    for low, high in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 99)):
        part = [one for one in found if low <= one[0] < high]
        if part:
            shares = [100 * float(np.mean([one[place] for one in part])) for place in (1, 2)]
            told = " | ".join(f"{share:.0f} %" for share in shares)
            print(f"| {low} to {high} standard errors | {len(part)} | {told} |", flush=True)


if __name__ == "__main__":
    main()
