"""Selection: which member is submitted, and what a choice like that is worth.

In:  scores of members, and how sure their differences are.
Out: the rule of ``submit: auto``; a job that applies it in each fold to the rows of the other folds, and scores
     what was chosen on the fold's own. The best of many scores is too good; this one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any, cast

import numpy as np

from stackfeat.data.splits.folds import Folds
from stackfeat.engine.blocks import Contents, folds_of, samples_of
from stackfeat.engine.jobs import Job
from stackfeat.engine.judged import Judged
from stackfeat.engine.recipes import Contender, OofMetricRecipe, ScoreRecipe, SelectRecipe
from stackfeat.engine.scoring import judged_rows, oof_prediction
from stackfeat.metrics.decision_rule import Decision
from stackfeat.store import EntryStore

Decided = Callable[[int], np.ndarray]
"""The number of a member to its OOF predictions, as labels where the metric wants them."""


def choose(
    losses: Sequence[float], ranks: Sequence[tuple[int, ...]], error: Callable[[int, int], float]
) -> int:
    """Return the number of the member to submit.

    Parameters
    ----------
    losses : sequence of float
    ranks : sequence of tuple of int
        Of the members whose loss is within one standard error of the lowest, the one of the lowest rank is taken;
        among equals the one of the lowest loss.
    error : callable
        Two members' numbers to the standard error of the difference of their losses, paired over rows. It is asked of
        no more members than needed.
    """
    numbers = range(len(losses))
    best = min(numbers, key=lambda number: losses[number])
    in_order = sorted(numbers, key=lambda number: (ranks[number], losses[number]))
    return next(
        number
        for number in in_order
        if number == best or losses[number] - losses[best] <= error(number, best)
    )


def select_job(scoring: Mapping[str, Job], ranks: Mapping[str, tuple[int, ...]]) -> Job | None:
    """Return the job that says what choosing is worth; None where there is no choice.

    Parameters
    ----------
    scoring : mapping
        The jobs of the OOF scores, by member.
    ranks : mapping
        Of the members that may be chosen.
    """
    recipes = {name: cast(ScoreRecipe, scoring[name].steps[0]) for name in ranks}
    if len(recipes) < 2:
        return None
    first = next(iter(recipes.values()))
    recipe = SelectRecipe(
        contenders=tuple(
            Contender(name, ranks[name], score.places, score.key) for name, score in recipes.items()
        ),
        **{item.name: getattr(first, item.name) for item in fields(OofMetricRecipe)},
    )
    return Job("submit", 0, "all", (recipe,), "select")


def select_member(store: EntryStore, recipe: SelectRecipe, trust_code: bool) -> Contents:
    """Choose a member for each fold by the rows of the others, and score these choices.

    Returns
    -------
    arrays : dict
        ``bootstrap``: scores of the choices on resampled rows, those of all members' scores where rows are the same.
    values : dict
        ``select``: ``score``, ``se``, ``n_rows``, and ``choices``, the name chosen for each fold. With time folds the
        choice is made on earlier rows, and rows without any do not count.
    """
    samples, folds = samples_of(store, recipe.samples), folds_of(store, recipe.folds)
    decided_of = _reader(store, recipe, folds)
    rows = _common_rows(recipe, folds)
    everywhere = judged_rows(samples, folds, recipe, trust_code)
    parts = _parts(folds, rows)
    losses, ranks = _judged_by_part(recipe, everywhere, decided_of, [train for train, _ in parts.values()])

    decided = np.full_like(decided_of(0), np.nan, dtype=np.float64)
    choices = {}
    for place, (fold, (train, held_out)) in enumerate(parts.items()):
        judged = everywhere.take(train)
        chosen = choose(
            losses[:, place].tolist(),
            ranks[place],
            _paired_error(judged, decided_of, train, recipe.seed),
        )
        decided[held_out] = decided_of(chosen)[held_out]
        choices[str(fold)] = recipe.contenders[chosen].name
    scored = np.sort(np.concatenate([held_out for _, held_out in parts.values()]))
    judged = everywhere.take(scored)
    score, bootstrap = judged.score(decided[scored]), judged.bootstrap(decided[scored], recipe.seed)
    judged.refuse_undefined(score, bootstrap)
    values = {
        "score": score,
        "se": float(np.nanstd(bootstrap, ddof=1)),
        "n_rows": len(scored),
        "choices": choices,
    }
    return {"bootstrap": bootstrap}, {"select": values}


def _common_rows(recipe: SelectRecipe, folds: Folds) -> np.ndarray:
    """Return the rows that every contender predicts, from the first fold that counts on."""
    covered = folds.fold_of(0) >= recipe.first_fold
    for repeat, splits in enumerate(folds.splits):
        predicted = np.zeros(folds.n_rows, dtype=bool)
        for fold, (_, held_out) in enumerate(splits):
            if all(contender.places[repeat][fold] is not None for contender in recipe.contenders):
                predicted[held_out] = True
        covered &= predicted
    return np.flatnonzero(covered)


def _parts(folds: Folds, rows: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return for each fold the rows to choose on and those to be predicted, among the given ones."""
    fold_of = folds.fold_of(0)
    found = {}
    for fold in np.unique(fold_of[rows]).tolist():
        train = np.intersect1d(folds.splits[0][fold][0], rows)
        if len(train):
            found[fold] = train, rows[fold_of[rows] == fold]
    return found


def _judged_by_part(
    recipe: SelectRecipe, judged: Judged, decided_of: Decided, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[list[tuple[int, ...]]]]:
    """Return the loss of each member on each part, (n_members, n_parts), infinite where undefined; ranks by part."""
    losses = np.full((len(recipe.contenders), len(parts)), np.inf)
    ranks: list[list[tuple[int, ...]]] = [[] for _ in parts]
    for number, contender in enumerate(recipe.contenders):
        decided = decided_of(number)
        for place, rows in enumerate(parts):
            part = judged.take(rows)
            score = part.defined(decided[rows])
            losses[number, place] = np.inf if score is None else judged.metric.signed(score)
            ranks[place].append((judged.task.levels_off(part.y, decided[rows]), *contender.rank))
    return losses, ranks


def _paired_error(
    judged: Judged, decided_of: Decided, rows: np.ndarray, seed: int
) -> Callable[[int, int], float]:
    @cache
    def bootstrap(number: int) -> np.ndarray:
        return judged.bootstrap(decided_of(number)[rows], seed)

    def error(one: int, other: int) -> float:
        return float(np.nanstd(bootstrap(one) - bootstrap(other), ddof=1))

    return error


def _reader(store: EntryStore, recipe: SelectRecipe, folds: Folds) -> Decided:
    """Return a reader of OOF predictions, which keeps few of them in memory."""
    task = samples_of(store, recipe.samples).task
    fold_of = folds.fold_of(0)

    @lru_cache(maxsize=4)
    def decided_of(number: int) -> np.ndarray:
        contender = recipe.contenders[number]
        prediction, covered = oof_prediction(store, contender.places, folds, task, recipe.average)
        values = np.full(prediction.shape, np.nan)
        values[covered] = task.to_target_scale(prediction[covered])
        rules = store.read(contender.score).structure("score", dict[str, Any])["fold_decisions"]
        if not rules:
            return values
        labels = np.full(values.shape if task.has_label_sets else len(values), np.nan)
        for fold, rule in rules.items():
            inside = covered & (fold_of == int(fold)) & (fold_of >= recipe.first_fold)
            labels[inside] = Decision.from_json(rule).apply(values[inside])
        return labels

    return decided_of
