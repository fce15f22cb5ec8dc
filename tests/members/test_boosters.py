"""What boosting libraries call their settings, held against the libraries themselves."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from stackfeat.members.boosters import BOOSTERS, booster_of, searched_loss, searches_rounds
from stackfeat.members.construct import construct
from stackfeat.members.rounds import MOST_ROUNDS
from stackfeat.registry.allowed import is_allowed_path
from stackfeat.registry.parameters import estimator_problems, library_of

PATHS = [path for booster in BOOSTERS for path in booster.classes]
LGBM = "lightgbm.LGBMClassifier"


@pytest.mark.parametrize("path", PATHS)
def test_boosters_are_named_as_their_libraries_name_them(path: str) -> None:
    pytest.importorskip(library_of(path))
    booster = booster_of(path)
    assert booster is not None and is_allowed_path(path)
    search = {booster.rounds[0]: MOST_ROUNDS, booster.rate[0]: 0.05, booster.patience: 50}
    set_by_search = {
        **search,
        **booster.searching,
        **booster.judge({}, "ndcg@7" if booster.by_list else "mae"),
    }
    assert len(set_by_search) > len(search) + len(booster.searching)
    assert not estimator_problems(path, set_by_search)
    made = construct(path, set_by_search, seed=0, threads=1)
    assert {name: made.get_params()[name] for name in set_by_search} == set_by_search


def test_all_names_of_a_setting_are_known() -> None:
    from lightgbm.basic import _ConfigAliases

    booster = booster_of(LGBM)
    assert booster is not None
    ranker = booster_of("lightgbm.LGBMRanker")
    assert ranker is not None
    assert set(ranker.metric) == {*booster.metric, "eval_at"} | _ConfigAliases.get("eval_at")
    for names in (booster.rounds, booster.rate, booster.metric):
        assert set(names) == _ConfigAliases.get("num_iterations" if names is booster.rounds else names[0]) | {
            names[0]
        }
    assert set(booster.stopping) >= _ConfigAliases.get("early_stopping_round")
    catboost = pytest.importorskip("catboost")
    other = booster_of("catboost.CatBoostClassifier")
    assert other is not None
    known = set(inspect.signature(catboost.CatBoostClassifier.__init__).parameters)
    assert {*other.rounds, *other.stopping, *other.rate, *other.metric} <= known


@pytest.mark.parametrize(
    ("path", "params", "expected"),
    [
        (LGBM, {}, True),
        (LGBM, {"num_leaves": 7, "learning_rate": 0.1, "metric": "auc"}, True),
        (LGBM, {"n_estimators": 100}, False),
        (LGBM, {"num_boost_round": 100}, False),
        (LGBM, {"n_estimators": 100, "early_stopping_rounds": 5}, True),
        (LGBM, {"boosting_type": "dart"}, False),
        (LGBM, {"boosting": "rf"}, False),
        (LGBM, {"metric": "None"}, False),
        ("lightgbm:LGBMRegressor", {}, True),
        ("lightgbm.LGBMRanker", {}, True),
        ("lightgbm.LGBMRanker", {"n_estimators": 9}, False),
        ("xgboost.XGBRanker", {"learning_rate": 0.1}, True),
        ("catboost.CatBoostRanker", {}, True),
        ("xgboost.XGBRegressor", {}, True),
        ("xgboost.XGBRegressor", {"booster": "gblinear"}, False),
        ("xgboost.XGBRFClassifier", {}, False),
        ("catboost.CatBoostRegressor", {"num_trees": 9}, False),
        ("catboost.CatBoostRegressor", {"od_type": "Iter"}, False),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {}, True),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"early_stopping": True}, False),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 50}, False),
        ("sklearn.ensemble.GradientBoostingClassifier", {}, False),
        ("sklearn.ensemble.ExtraTreesClassifier", {}, False),
        ("my:Own", {"early_stopping_rounds": 3}, True),
        ("my:Own", {}, False),
    ],
)
def test_rounds_are_searched_where_nothing_is_said_of_them(
    path: str, params: dict[str, Any], expected: bool
) -> None:
    assert searches_rounds(path, params) is expected


@pytest.mark.parametrize(
    ("path", "params", "metric", "expected"),
    [
        ("lightgbm.LGBMRanker", {}, "ndcg@5", "ndcg@5"),
        ("lightgbm.LGBMRanker", {}, "map@3", "ndcg@10"),
        ("lightgbm.LGBMRanker", {"eval_at": [3]}, "ndcg@5", None),
        ("xgboost.XGBRanker", {}, "mrr", "ndcg@10"),
        ("xgboost.XGBRanker", {"eval_metric": "ndcg@3"}, "mrr", None),
        ("catboost.CatBoostRanker", {}, "ndcg@5", "ndcg@5"),
        ("catboost.CatBoostRanker", {"iterations": 9}, "ndcg@5", None),
        ("lightgbm.LGBMRegressor", {}, "ndcg@5", None),
    ],
)
def test_rankers_are_judged_by_the_ndcg_of_the_run(
    path: str, params: dict[str, Any], metric: str, expected: str | None
) -> None:
    assert searched_loss(path, params, "listwise", metric) == expected
