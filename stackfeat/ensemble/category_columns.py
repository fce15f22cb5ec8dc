"""Category columns in the form that a library takes: most take them as they are, CatBoost does not.

In:  an estimator and a DataFrame with category columns, as trees read it.
Out: the frame it takes, and what its `fit` must be told beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


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
