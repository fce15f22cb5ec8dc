"""Boosters: what each library calls the settings of boosting that a member may choose by itself; nothing is imported.

In:  the path of a class and its params, as a config writes them.
Out: the `Booster`, its names, and whether the config leaves open how many rounds there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CUT = object()
"""Stands for a list of one number: how many rows of a list an NDCG counts."""

NDCG, OWN_CUT = "ndcg@", 10
"""How rankers are judged; under another metric of lists the first ten rows count."""


@dataclass(frozen=True)
class Booster:
    """A library's classifier and regressor by boosting, or its ranker, and the names of their settings.

    Attributes
    ----------
    classes : tuple of str
        Paths.
    rounds, rate, metric : tuple of str
        All names of a setting; the first is the one that is set.
    stopping : tuple of str
        Parameters that say when boosting stops, besides rounds: where one is given, nothing is searched.
    judges : mapping of str to mapping
        By loss of a run, what is set for validation rows to be judged by it; its own loss for any other.
    by_list : mapping
        Of a ranker, what is set for validation lists to be judged by the NDCG of so many of their first rows as `CUT`
        stands for, or braces in a text; empty otherwise.
    patience : str
        After how many rounds without a lower loss a search stops.
    searching, found : mapping
        What else is set in a search, and in the fit on all rows that follows.
    own_rounds : int
        The library's own number of rounds.
    fixed : mapping of str to collection of str
        Values with which a number of rounds cannot be found by stopping early.
    """

    classes: tuple[str, ...]
    rounds: tuple[str, ...]
    stopping: tuple[str, ...]
    rate: tuple[str, ...]
    metric: tuple[str, ...]
    judges: Mapping[str, Mapping[str, Any]]
    patience: str = "early_stopping_rounds"
    searching: Mapping[str, Any] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)
    own_rounds: int = 100
    fixed: Mapping[str, Collection[str]] = field(default_factory=dict)
    by_list: Mapping[str, Any] = field(default_factory=dict)

    def leaves_open(self, params: Mapping[str, Any]) -> bool:
        """Whether params say neither how many rounds there are nor when they stop."""
        if any(name in params for name in (*self.rounds, *self.stopping)):
            return False
        return not any(
            name in params and str(params[name]).lower() in values for name, values in self.fixed.items()
        )

    def judge(self, params: Mapping[str, Any], loss: str | None) -> Mapping[str, Any]:
        """Return what a search sets to judge by a run's loss; nothing where params name what judges."""
        if loss is None or any(name in params for name in self.metric):
            return {}
        if self.by_list:
            cut = int(loss.removeprefix(NDCG))
            return {name: _with_cut(value, cut) for name, value in self.by_list.items()}
        return self.judges.get(loss, {})

    def searched_loss(self, loss: str, metric: str) -> str:
        """Return what a search is judged by in a run of this loss and metric: of lists always an NDCG."""
        if not self.by_list:
            return loss
        return metric if metric.startswith(NDCG) else f"{NDCG}{OWN_CUT}"


def _with_cut(value: Any, cut: int) -> Any:
    if isinstance(value, str):
        return value.format(cut)
    return [cut] if value is CUT else value


_UNBOOSTED = ("dart", "rf", "random_forest")

_PLAIN = (
    Booster(
        classes=("lightgbm.LGBMClassifier", "lightgbm.LGBMRegressor"),
        rounds=(
            *("n_estimators", "num_iterations", "num_iteration", "n_iter", "num_tree", "num_trees"),
            *("num_round", "num_rounds", "nrounds", "num_boost_round", "max_iter"),
        ),
        stopping=("early_stopping_rounds", "early_stopping_round", "early_stopping", "n_iter_no_change"),
        rate=("learning_rate", "shrinkage_rate", "eta"),
        metric=("metric", "metrics", "metric_types"),
        judges={"mae": {"metric": "l1"}},
        fixed={
            **dict.fromkeys(("boosting_type", "boosting", "boost"), _UNBOOSTED),
            **dict.fromkeys(("metric", "metrics", "metric_types"), ("none", "null", "custom", "na", "")),
        },
    ),
    Booster(
        classes=("xgboost.XGBClassifier", "xgboost.XGBRegressor"),
        rounds=("n_estimators",),
        stopping=("early_stopping_rounds",),
        rate=("learning_rate", "eta"),
        metric=("eval_metric",),
        judges={"mae": {"eval_metric": "mae"}},
        fixed={"booster": ("dart", "gblinear")},
    ),
    Booster(
        classes=("catboost.CatBoostClassifier", "catboost.CatBoostRegressor"),
        rounds=("iterations", "n_estimators", "num_trees", "num_boost_round"),
        stopping=("early_stopping_rounds", "od_type", "od_wait", "od_pval", "use_best_model"),
        rate=("learning_rate", "eta"),
        metric=("eval_metric", "custom_metric"),
        judges={"mae": {"eval_metric": "MAE"}},
        own_rounds=1000,
    ),
    Booster(
        classes=(
            "sklearn.ensemble.HistGradientBoostingClassifier",
            "sklearn.ensemble.HistGradientBoostingRegressor",
        ),
        rounds=("max_iter",),
        stopping=("early_stopping", "n_iter_no_change", "validation_fraction", "tol", "warm_start"),
        rate=("learning_rate",),
        metric=("scoring",),
        judges={"mae": {"scoring": "neg_mean_absolute_error"}},
        patience="n_iter_no_change",
        searching={"early_stopping": True},
        found={"early_stopping": False},
    ),
)


_LISTS: Mapping[str, tuple[str, Mapping[str, Any], tuple[str, ...]]] = {
    "lightgbm": (
        "lightgbm.LGBMRanker",
        {"metric": "ndcg", "eval_at": CUT},
        ("eval_at", "ndcg_eval_at", "ndcg_at", "map_eval_at", "map_at"),
    ),
    "xgboost": ("xgboost.XGBRanker", {"eval_metric": "ndcg@{}"}, ()),
    "catboost": ("catboost.CatBoostRanker", {"eval_metric": "NDCG:top={};type=Exp"}, ()),
}
"""By library: its ranker, what judges lists, and further parameters that say what does."""


def _rankers() -> Iterator[Booster]:
    """Yield rankers, whose settings have the names of the other boosters of their library."""
    for booster in _PLAIN:
        library = booster.classes[0].partition(".")[0]
        if library in _LISTS:
            path, by_list, naming = _LISTS[library]
            metric = (*booster.metric, *naming)
            yield replace(booster, classes=(path,), metric=metric, judges={}, by_list=by_list)


BOOSTERS = (*_PLAIN, *_rankers())


def booster_of(path: str) -> Booster | None:
    """Return the booster that a class is of; None for every other class."""
    dotted = path.replace(":", ".")
    return next((booster for booster in BOOSTERS if dotted in booster.classes), None)


def searches_rounds(path: str, params: Mapping[str, Any]) -> bool:
    """Whether a member finds its number of rounds on inner splits: a booster that leaves it open, or stops early."""
    booster = booster_of(path)
    is_open = booster is not None and booster.leaves_open(params)
    return is_open or bool(params.get("early_stopping_rounds"))


def searched_loss(path: str, params: Mapping[str, Any], loss: str, metric: str) -> str | None:
    """Return the loss, or NDCG, of a run if the search for rounds depends on it."""
    booster = booster_of(path)
    if booster is None or not booster.leaves_open(params):
        return None
    judged = booster.searched_loss(loss, metric)
    return judged if booster.judge(params, judged) else None
