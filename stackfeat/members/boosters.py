"""Boosters: what each library calls the settings of boosting that a member may choose by itself; nothing is imported.

In:  the path of a class and its params, as a config writes them.
Out: the `Booster`, its names, and whether the config leaves open how many rounds there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Booster:
    """A library's classifier and regressor by boosting, and the names of their settings.

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

    def leaves_open(self, params: Mapping[str, Any]) -> bool:
        """Whether params say neither how many rounds there are nor when they stop."""
        if any(name in params for name in (*self.rounds, *self.stopping)):
            return False
        return not any(
            name in params and str(params[name]).lower() in values for name, values in self.fixed.items()
        )

    def judge(self, params: Mapping[str, Any], loss: str | None) -> Mapping[str, Any]:
        """Return what a search sets to judge by a run's loss; nothing where params name what judges."""
        is_named = any(name in params for name in self.metric)
        return {} if is_named or loss is None else self.judges.get(loss, {})


_UNBOOSTED = ("dart", "rf", "random_forest")

BOOSTERS = (
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


def booster_of(path: str) -> Booster | None:
    """Return the booster that a class is of; None for every other class."""
    dotted = path.replace(":", ".")
    return next((booster for booster in BOOSTERS if dotted in booster.classes), None)


def searches_rounds(path: str, params: Mapping[str, Any]) -> bool:
    """Whether a member finds its number of rounds on inner splits: a booster that leaves it open, or stops early."""
    booster = booster_of(path)
    is_open = booster is not None and booster.leaves_open(params)
    return is_open or bool(params.get("early_stopping_rounds"))


def searched_loss(path: str, params: Mapping[str, Any], loss: str) -> str | None:
    """Return the loss of a run if the search for rounds depends on it."""
    booster = booster_of(path)
    depends = booster is not None and booster.leaves_open(params) and booster.judge(params, loss)
    return loss if depends else None
