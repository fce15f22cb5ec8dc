"""The rule of ``submit: auto``, and what choosing by it is worth on rows that the choice has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.recipes import Contender, SelectRecipe
from stackfeat.engine.selection import choose, select_member
from stackfeat.store import MemoryStore
from stackfeat.tasks.quantile import of_quantiles
from tests.engine.by_hand import folds_of_rows, keep_arrays, keep_folds, keep_rows, rows


def kept(
    samples: Samples, folds: Folds, predictions: list[np.ndarray], metric: str = "log_loss", **given: object
) -> tuple[MemoryStore, SelectRecipe]:
    """A store with predictions of all rows by some members, and the recipe of the choice among them."""
    store, contenders = MemoryStore(), []
    for number, values in enumerate(predictions):
        places = tuple((keep_arrays(store, oof=values[held_out]), "oof") for _, held_out in folds.splits[0])
        with store.write(f"score-{number}", "score", {"stage": "score"}) as writer:
            writer.json("score", {"fold_decisions": given.get("rules", {})})
        contenders.append(Contender(f"base/m{number}", (2, 0), (places,), f"score-{number}"))
    recipe = SelectRecipe(
        contenders=tuple(contenders), samples=keep_rows(store, samples), folds=keep_folds(store, folds),
        average="mean", metric=metric, metric_code=None, seed=1, first_fold=int(given.get("first_fold", 0)),  # type: ignore[call-overload]
    )  # fmt: skip
    return store, recipe


def said(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


def opinions(y: np.ndarray, n_members: int, seed: int, noise: float = 1.0) -> list[np.ndarray]:
    """Probabilities of members of one strength, whose errors have nothing in common."""
    random = np.random.default_rng(seed)
    return [
        said(1 / (1 + np.exp(-(2 * y - 1 + noise * random.normal(size=len(y)))))) for _ in range(n_members)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_rule_takes_the_lowest_rank_within_one_error_of_the_best(seed: int) -> None:
    random = np.random.default_rng(seed)
    losses, ranks = random.normal(size=6).round(1).tolist(), [(int(r),) for r in random.integers(0, 3, 6)]
    errors = random.uniform(0, 1.5, size=(6, 6))
    best = int(np.argmin(losses))
    close = [n for n in range(6) if n == best or losses[n] - losses[best] <= errors[n, best]]
    expected = min(close, key=lambda n: (ranks[n], losses[n]))
    assert choose(losses, ranks, lambda one, other: errors[one, other]) == expected


def test_the_rule_asks_for_no_more_errors_than_it_needs() -> None:
    asked = []

    def error(one: int, other: int) -> float:
        asked.append(one)
        return 0.0

    assert choose([0.1, 0.5, 0.2], [(0,), (1,), (2,)], error) == 0 and asked == []
    assert choose([0.1, 0.5, 0.2], [(1,), (2,), (0,)], error) == 0 and asked == [2]


def test_among_equals_the_choice_is_worth_what_fresh_rows_say_and_the_winners_own_score_is_not() -> None:
    of_choice, of_winner = [], []
    for seed in range(20):
        samples, folds = rows(200), folds_of_rows(200, 5)
        predictions = opinions(samples.y, 200, seed)
        store, recipe = kept(samples, folds, predictions)
        found = select_member(store, recipe, False)[1]["select"]
        fresh = np.mean([sk.log_loss(samples.y, one) for one in opinions(samples.y, 200, 1000 + seed)])
        of_choice.append((found["score"] - fresh) / found["se"])
        of_winner.append((min(sk.log_loss(samples.y, one) for one in predictions) - fresh) / found["se"])
    limit = 3 / np.sqrt(20)
    assert abs(np.mean(of_choice)) < limit
    assert np.mean(of_winner) < -2


def test_a_folds_own_labels_do_not_move_its_choice_and_those_of_others_do() -> None:
    samples, folds = rows(120), folds_of_rows(120, 3)
    predictions = opinions(samples.y, 8, 0)
    choices = []
    for turned in (None, 1):
        y = samples.y.copy()
        if turned is not None:
            held_out = folds.splits[0][turned][1]
            y[held_out] = 1 - y[held_out]
        store, recipe = kept(replace(samples, y=y), folds, predictions)
        choices.append(select_member(store, recipe, False)[1]["select"]["choices"])
    assert choices[0]["1"] == choices[1]["1"]
    assert choices[0] != choices[1]


def test_it_is_the_score_of_what_each_fold_chose() -> None:
    samples, folds = rows(90), folds_of_rows(90, 3)
    predictions = opinions(samples.y, 5, 3)
    store, recipe = kept(samples, folds, predictions)
    arrays, values = select_member(store, recipe, False)
    together = np.empty((90, 2))
    for fold, (train, held_out) in enumerate(folds.splits[0]):
        losses = [sk.log_loss(samples.y[train], one[train]) for one in predictions]
        assert values["select"]["choices"][str(fold)] == f"base/m{np.argmin(losses)}"
        together[held_out] = predictions[int(np.argmin(losses))][held_out]
    assert values["select"]["score"] == pytest.approx(sk.log_loss(samples.y, together))
    assert values["select"]["n_rows"] == 90
    assert values["select"]["se"] == pytest.approx(arrays["bootstrap"].std(ddof=1))


def test_with_folds_in_time_the_choice_is_made_on_earlier_rows() -> None:
    samples, folds = rows(80), folds_of_rows(80, 3, kind="time")
    predictions = opinions(samples.y, 6, 1)
    store, recipe = kept(samples, folds, predictions)
    found = select_member(store, recipe, False)[1]["select"]
    fold_of = folds.fold_of(0)
    assert list(found["choices"]) == ["1", "2"] and found["n_rows"] == (fold_of >= 1).sum()
    for fold in (1, 2):
        earlier = (fold_of >= 0) & (fold_of < fold)
        losses = [sk.log_loss(samples.y[earlier], one[earlier]) for one in predictions]
        assert found["choices"][str(fold)] == f"base/m{np.argmin(losses)}"


def test_among_equals_quantiles_that_keep_their_levels_are_chosen_first() -> None:
    """Two members lose alike; the one of the lower rank says intervals of half the width."""
    random, task = np.random.default_rng(4), of_quantiles((0.1, 0.9))
    y = random.normal(size=4000)
    # Of a normal law: pinball loss is flat around the best constants, and coverage is not.
    wide, narrow = (np.tile([-reach, reach], (len(y), 1)) for reach in (1.2816, 1.15))
    plain = rows(len(y))
    samples, folds = replace(plain, y=y, task=task), folds_of_rows(len(y), 4)
    store, recipe = kept(samples, folds, [narrow, wide], metric="pinball")
    first, second = recipe.contenders
    recipe = replace(recipe, contenders=(replace(first, rank=(0, 0)), replace(second, rank=(1, 0))))
    losses = [
        sk.mean_pinball_loss(y, narrow[:, 1], alpha=0.9),
        sk.mean_pinball_loss(y, wide[:, 1], alpha=0.9),
    ]
    assert abs(losses[0] - losses[1]) < 0.003
    assert task.levels_off(y, narrow) > 0 == task.levels_off(y, wide)
    found = select_member(store, recipe, False)[1]["select"]["choices"]
    assert set(found.values()) == {"base/m1"}
    # Where both are as far off, ranks decide as ever.
    store, other = kept(samples, folds, [narrow, narrow.copy()], metric="pinball")
    first, second = other.contenders
    other = replace(other, contenders=(replace(first, rank=(1, 0)), replace(second, rank=(0, 0))))
    assert set(select_member(store, other, False)[1]["select"]["choices"].values()) == {"base/m1"}


def test_labels_are_those_that_the_rule_of_each_fold_decided() -> None:
    samples, folds = rows(60), folds_of_rows(60, 3)
    predictions = opinions(samples.y, 2, 5)
    rules = {str(fold): {"kind": "threshold", "numbers": [0.3 + 0.1 * fold]} for fold in range(3)}
    store, recipe = kept(samples, folds, predictions, "f1", rules=rules)
    found = select_member(store, recipe, False)[1]["select"]
    decided = np.empty(60)
    for fold, (_, held_out) in enumerate(folds.splits[0]):
        chosen = predictions[int(found["choices"][str(fold)][-1])]
        decided[held_out] = chosen[held_out, 1] >= 0.3 + 0.1 * fold
    assert found["score"] == pytest.approx(sk.f1_score(samples.y, decided))


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "log_loss"])
def test_a_member_whose_scale_differs_by_fold_is_not_preferred(metric: str) -> None:
    """On folds drawn at random: it ranks the rows of each fold better than the other member, and all rows worse."""
    scores = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
    score = scores.get(metric, lambda y, p: -sk.log_loss(y, p))
    n = 1000
    for seed in range(5):
        samples, folds = rows(n), folds_of_rows(n, 5)
        sound = opinions(samples.y, 1, seed)[0]
        better = opinions(samples.y, 1, 100 + seed, noise=0.8)[0]
        fold_of = folds.fold_of(0)
        odds = better[:, 1] / better[:, 0] * np.exp(np.array([-3.0, 2.0, 0.0, 3.0, -2.0])[fold_of])
        moved = said(odds / (1 + odds))
        if metric != "log_loss":
            within = [
                np.mean([score(samples.y[fold_of == k], one[fold_of == k, 1]) for k in range(5)])
                for one in (sound, moved)
            ]
            assert within[1] > within[0]
        assert score(samples.y, moved[:, 1]) < score(samples.y, sound[:, 1])
        store, recipe = kept(samples, folds, [sound, moved], metric)
        found = select_member(store, recipe, False)[1]["select"]
        assert set(found["choices"].values()) == {"base/m0"}
        assert abs(found["score"]) == pytest.approx(abs(score(samples.y, sound[:, 1])))
