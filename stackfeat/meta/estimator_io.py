"""Fit an estimator of any library, and ask it for predictions.

In:  an estimator, columns, targets, row weights.
Out: the fitted estimator; predictions with all classes in order; and `FitInfo`, what a fit leaves beside its arrays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from stackfeat.data.prepare.weights import mean_one
from stackfeat.errors import MemberError
from stackfeat.meta.rankers import fit_ranker, is_ranker
from stackfeat.store import Entry
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)


def is_catboost(estimator: Any) -> bool:
    return type(estimator).__name__.startswith("CatBoost")


def as_taken(estimator: Any, columns: Any) -> Any:
    """Return the columns; for CatBoost category codes as whole numbers, -1 where missing or not seen in `fit`."""
    names = _categories(estimator, columns)
    if not names:
        return columns
    return columns.assign(**{name: columns[name].cat.codes.astype(np.int32) for name in names})


def fit_keywords(estimator: Any, columns: Any) -> dict[str, Any]:
    """Return what `fit` must be told of the columns given to `as_taken`: which of them are categories."""
    names = _categories(estimator, columns)
    return {"cat_features": names} if names else {}


def _categories(estimator: Any, columns: Any) -> list[str]:
    if not is_catboost(estimator) or not isinstance(columns, pd.DataFrame):
        return []
    return [str(name) for name in columns.select_dtypes("category").columns]


def target_tags(estimator: Any) -> Any:
    """Return what scikit-learn knows of the targets that an estimator takes; None where it knows nothing."""
    try:
        return get_tags(estimator).target_tags
    except (AttributeError, TypeError):
        return None


def fit_estimator(
    estimator: Any,
    columns: Any,
    y: np.ndarray,
    weight: np.ndarray | None,
    task: Task | None = None,
    *,
    must_weigh: bool = True,
) -> Any:
    """Fit, with row weights where there are any, divided by their mean; rankers get the rows of a list together.

    Parameters
    ----------
    task : Task, optional
        Says what of y is learnt, and which rows are of a list; without it y itself is learnt.
    must_weigh : bool
        Whether an estimator whose `fit` takes no weights is an error; it is fitted without them otherwise.

    Raises
    ------
    MemberError
        If there are weights, and the estimator's `fit` must take them and does not.
    """
    if task is not None and task.is_label and len(np.unique(y)) == 1:
        return only_class(int(y[0]), len(y))
    taken, keywords = as_taken(estimator, columns), fit_keywords(estimator, columns)
    lists = None
    if task is not None:
        lists, y = task.lists(y), task.learnt(y)
    if lists is not None and is_ranker(estimator):
        return fit_ranker(estimator, taken, y, lists, weight, keywords)
    if weight is None:
        return estimator.fit(taken, y, **keywords)
    if not has_fit_parameter(estimator, "sample_weight"):
        if not must_weigh:
            logger.info("%s takes no sample_weight; the gate fits it without", type(estimator).__name__)
            return estimator.fit(taken, y, **keywords)
        raise MemberError(
            f"{type(estimator).__name__}.fit must take sample_weight, because data.weight is set, or "
            "data.extra.factor; it does not. Use another estimator, or remove data.weight and set factor: auto"
        )
    return estimator.fit(taken, y, sample_weight=mean_one(weight), **keywords)


def only_class(code: int, n_rows: int) -> Any:
    """Return what is to be said of a label that all rows have, or none: the other class gets half a row's share."""
    from sklearn.dummy import DummyClassifier

    y, weight = np.array([code, 1 - code]), np.array([n_rows, 0.5])
    return DummyClassifier(strategy="prior").fit(np.zeros((2, 1)), y, sample_weight=weight)


def predict_rows(estimator: Any, columns: Any, task: Task) -> np.ndarray:
    """Return what `Task.ask` gets to know from the estimator, float64 of shape (n_rows, n_outputs)."""
    return task.ask(estimator, as_taken(estimator, columns))


_PREDICTS_OTHERWISE = ("pred_", "start_iteration", "num_iteration_predict", "predict_")


@dataclass(frozen=True)
class LightGBM:
    """A fitted estimator of LightGBM that is asked with an array, in the place of a frame that it would copy twice.

    Categories are their numbers, as LightGBM itself makes them of a frame whose categories are 0, 1, ...
    """

    fitted: Any

    @classmethod
    def all_of(cls, estimators: Sequence[Any]) -> list[LightGBM] | None:
        """Return what asks them; None where one is of another kind, or predicts in a way of its own."""
        return [cls(one) for one in estimators] if all(map(_is_plain_lightgbm, estimators)) else None

    @property
    def classes_(self) -> np.ndarray:
        return np.asarray(self.fitted.classes_)

    def predict(self, columns: np.ndarray) -> np.ndarray:
        """Return values, or the probabilities of the second class or of all, as LightGBM does."""
        return np.asarray(self.fitted.booster_.predict(columns, num_threads=self.fitted.n_jobs or 1))

    def predict_proba(self, columns: np.ndarray) -> np.ndarray:
        said = self.predict(columns)
        return said if said.ndim > 1 else np.column_stack([1.0 - said, said])


def _is_plain_lightgbm(estimator: Any) -> bool:
    kind = type(estimator)
    if kind.__module__ != "lightgbm.sklearn" or kind.__name__ not in ("LGBMClassifier", "LGBMRegressor"):
        return False
    # A class that all rows are of is no model.
    return hasattr(estimator, "booster_") and not any(
        name.startswith(_PREDICTS_OTHERWISE) for name in estimator.get_params()
    )


@dataclass(frozen=True)
class FitInfo:
    """The file ``info.json`` of a fit.

    Attributes
    ----------
    report : mapping
        What the fitted member says of itself.
    unsaved : str or None
        Why the member cannot score later data; None where it can.
    warnings : tuple of str
        What libraries warned of.
    row_seconds : float or None
        Of what the fit gives for a row that it was not fitted on, of `seconds`; None where it gave none.
    """

    seconds: float
    report: Mapping[str, Any]
    unsaved: str | None
    warnings: tuple[str, ...] = ()
    row_seconds: float | None = None

    @classmethod
    def of(cls, entry: Entry) -> FitInfo:
        """Read it from the entry of a fit; DamagedEntryError if it is not made so."""
        info: FitInfo = entry.structure("info", cls)
        return info
