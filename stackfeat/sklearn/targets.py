"""y of one column or of several: labels and label sets for classifiers, values for regressors.

In:  y as it was given to `fit`: an array, list, DataFrame or sparse matrix of labels or values.
Out: what estimators are fitted on, and its task; estimators of one target, fitted for each of several.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, column_or_1d

from stackfeat.errors import UsageError
from stackfeat.members.class_labels import with_class_codes
from stackfeat.meta.estimator_io import is_catboost, only_class
from stackfeat.sklearn._compat import _fit_single_estimator
from stackfeat.sklearn.column_names import with_taken_names
from stackfeat.sklearn.inputs import encode_labels
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.multilabel import of_each_label, of_label_sets
from stackfeat.tasks.regression import of_values
from stackfeat.tasks.task import Task

SMALLEST_SHARE = float(np.finfo(np.float64).eps)
"""Probabilities nearer to 0 or 1 count as this near in log-odds, so that they are finite."""


def has_columns(y: Any) -> bool:
    """Whether y has several columns; one column alone is as good as none."""
    shape = getattr(y, "shape", None)
    if shape is None and y is not None:
        # Of lists of lists of labels it says what is to be done with them.
        type_of_target(y, input_name="y")
        shape = np.asarray(y).shape
    return shape is not None and len(shape) == 2 and shape[1] > 1


def read_classes(owner: Any, y: Any) -> tuple[np.ndarray, np.ndarray, Task]:
    """Return the classes, what classifiers are fitted on, and the task.

    Returns
    -------
    classes : ndarray
        Labels in ascending order; of label sets the places of the columns, as `MLPClassifier` has them.
    codes : int64 array of shape (n_samples,) or (n_samples, n_labels)
        Codes of the classes, or 1 where a row has a label.
    task : Task

    Raises
    ------
    ValueError
        If y are no classes, there is only one, or several columns are not 0 and 1.
    """
    if has_columns(y):
        codes, task = read_label_sets(owner, y)
        return np.arange(task.n_targets), codes, task
    classes, codes = encode_labels(owner, y)
    return classes, codes, of_labels(classes.tolist())


def read_label_sets(owner: Any, y: Any) -> tuple[np.ndarray, Task]:
    """Return a table of 0 and 1, int64, and its task; UsageError where it holds anything else."""
    names = names_of(y)
    table = check_array(y, accept_sparse=True, dtype=None, input_name="y")
    values = np.asarray(table.toarray() if issparse(table) else table)
    wrong = ~((values == 0) | (values == 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UsageError(
            "y of several columns must be 0 and 1, a column for each label that a row may have; got "
            f"{np.asarray(values[row, column]).item()!r} in column {column}; make columns of lists of labels "
            f"by MultiLabelBinarizer, or put {type(owner).__name__} into MultiOutputClassifier for columns of classes"
        )
    return values.astype(np.int64), of_label_sets(values, names)


def read_values(y: Any) -> tuple[np.ndarray, Task]:
    """Return what regressors are fitted on, (n_samples,) or (n_samples, n_targets), and the task.

    Raises
    ------
    ValueError
        If y are no values.
    """
    if has_columns(y):
        names = names_of(y)
        values = check_array(y, dtype=np.float64, input_name="y")
        return values, of_values(values, names)
    values = column_or_1d(y, warn=True)
    return values, of_values(values)


def names_of(y: Any) -> tuple[str, ...]:
    """Return the names of the columns of a DataFrame; nothing where they are no texts, or there are none."""
    names = tuple(getattr(y, "columns", ()))
    if not all(isinstance(name, str) for name in names):
        return ()
    if len(set(names)) < len(names):
        raise UsageError(f"columns of y must have different names; got {list(names)}; rename them")
    return names


def note_targets(owner: Any, task: Task) -> None:
    """Note the names of several targets in `targets_`; one has none."""
    if task.n_targets > 1:
        owner.targets_ = np.asarray(task.names, dtype=object)
    elif hasattr(owner, "targets_"):
        del owner.targets_


def column_ends(task: Task, width: int) -> list[str]:
    """Return how the names of so many columns of an estimator end: by named targets, by places, or not at all."""
    if width == 1:
        return [""]
    return (
        [f"_{name}" for name in task.targets] if width == len(task.targets) else list(map(str, range(width)))
    )


def unfitted(estimator: Any) -> Any:
    """Return a copy to fit; scikit-learn's clone refuses CatBoost with a parameter that is a list or mapping."""
    return deepcopy(estimator) if is_catboost(estimator) else clone(estimator)


def takes_all(estimator: Any, *, chooses: bool = False) -> bool:
    """Whether one fit of an estimator learns several targets, by what scikit-learn knows of it.

    Parameters
    ----------
    chooses : bool
        Whether something is chosen for each target, so that one by one is better where it can be.
    """
    try:
        tags = get_tags(estimator)
    except (AttributeError, TypeError):
        return False
    of_classes = tags.classifier_tags is not None and tags.classifier_tags.multi_label
    takes_several = bool(tags.target_tags.multi_output or of_classes)
    return takes_several and not (chooses and tags.target_tags.single_output)


def for_targets(estimator: Any, task: Task, *, at_once: bool = False) -> Any:
    """Return an unfitted estimator of the targets of a task: itself, or one that fits it for each of several.

    Parameters
    ----------
    at_once : bool
        Whether it is fitted once whatever its tags say, and may refuse.
    """
    if task.n_targets > 1:
        return estimator if at_once or takes_all(estimator) else OneByOne(estimator, task)
    return with_class_codes(estimator, task)


def probabilities(estimator: Any, said: Any, task: Task) -> Any:
    """Return what `predict_proba` of a fitted estimator said as an array; of label sets a column for each."""
    return of_each_label(said, getattr(estimator, "classes_", None)) if task.has_label_sets else said


def _has(method: str) -> Callable[[Any], bool]:
    return lambda owner: hasattr(owner.estimator, method)


@dataclass(eq=False, repr=False)
class OneByOne(BaseEstimator):
    """An estimator of one target that is fitted for each of several.

    Parameters
    ----------
    estimator : estimator
    task : Task
        Of several targets.

    Attributes
    ----------
    estimators_ : list of estimator
        One for each target. A label that all rows have, or none, has one that knows its share.
    """

    estimator: Any
    task: Task

    def fit(self, X: Any, y: np.ndarray, **params: Any) -> Self:
        """Fit a copy for each target, with the same weights and other metadata."""
        self.estimators_ = [
            self.fit_part(X, self.task.part_of_y(y, place), part, params)
            for place, part in enumerate(self.task.parts)
        ]
        return self

    def fit_part(self, X: Any, y: np.ndarray, part: Task, params: Any) -> Any:
        """Return a copy fitted for one target."""
        if part.is_label and len(np.unique(y)) == 1:
            return only_class(int(y[0]), len(y))
        estimator = self.copy(part)
        return _fit_single_estimator(estimator, with_taken_names(estimator, X), y, dict(params))

    def copy(self, part: Task) -> Any:
        """Return a copy to fit for one target."""
        return with_class_codes(unfitted(self.estimator), part)

    def columns(self, X: Any, place: int) -> Any:
        """Return what the estimator of one target reads."""
        return X

    def _asked(self, method: str, X: Any) -> list[Any]:
        return [
            getattr(one, method)(with_taken_names(one, self.columns(X, place)))
            for place, one in enumerate(self.estimators_)
        ]

    def predict(self, X: Any) -> np.ndarray:
        """Return labels or values, (n_samples, n_targets)."""
        return np.column_stack([np.ravel(said) for said in self._asked("predict", X)])

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each label, (n_samples, n_labels)."""
        return of_each_label(self._asked("predict_proba", X), [one.classes_ for one in self.estimators_])

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the decision value of each label, (n_samples, n_labels)."""
        return np.column_stack(
            [self._decided(one, self.columns(X, place)) for place, one in enumerate(self.estimators_)]
        )

    def _decided(self, one: Any, X: Any) -> np.ndarray:
        if hasattr(one, "decision_function"):
            return np.asarray(one.decision_function(with_taken_names(one, X)))
        # Of a label that all rows have, or none.
        return self.task.unbounded(of_each_label([one.predict_proba(X)], [one.classes_]), SMALLEST_SHARE)[
            :, 0
        ]

    @property
    def classes_(self) -> np.ndarray:
        """The places of the labels."""
        return np.arange(self.task.n_targets)

    @property
    def n_features_in_(self) -> int:
        """Columns that it was fitted on."""
        return int(self._known("n_features_in_"))

    @property
    def feature_names_in_(self) -> Any:
        """Names of the columns that it was fitted on."""
        return self._known("feature_names_in_")

    def _known(self, name: str) -> Any:
        found = [getattr(one, name) for one in getattr(self, "estimators_", ()) if hasattr(one, name)]
        if not found:
            raise AttributeError(f"{type(self).__name__} has no {name}: no estimator in it was told")
        return found[0]

    def __sklearn_tags__(self) -> Any:
        tags = deepcopy(get_tags(self.estimator))
        tags.target_tags.multi_output, tags.target_tags.single_output = True, False
        return tags
