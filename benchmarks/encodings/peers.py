"""scikit-learn's own stacking, with the same kinds of base models, rows and folds.

In:  a `Draw`, the folds of the run.
Out: test predictions.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.encodings.rows import TARGET, Draw
from benchmarks.encodings.stack import BATCH, EPOCHS, HIDDEN, PATIENCE, boosting_params
from stackfeat.data.splits.folds import Folds


def scikit_learn_stacking(drawn: Draw, folds: Folds, seed: int) -> np.ndarray:
    """Fit `StackingClassifier` or `StackingRegressor`; return predictions of the test rows."""
    train, test = drawn.train[drawn.features].copy(), drawn.test[drawn.features].copy()
    for name in train.select_dtypes(exclude="number"):
        levels = sorted(train[name].dropna().unique())
        train[name] = train[name].astype("category").cat.set_categories(levels)
        test[name] = test[name].astype("category").cat.set_categories(levels)
    splits = [(rows, held_out) for rows, held_out in folds.splits[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if drawn.kind == "regression":
            mean, sd = drawn.train[TARGET].mean(), drawn.train[TARGET].std()
            stack = StackingRegressor(_models(drawn, seed), RidgeCV(), cv=splits)
            stack.fit(train, (drawn.train[TARGET] - mean) / sd)
            return np.asarray(stack.predict(test) * sd + mean)[:, None]
        stack = StackingClassifier(_models(drawn, seed), LogisticRegression(max_iter=1000), cv=splits)
        stack.fit(train, drawn.train[TARGET].to_numpy())
        return np.asarray(stack.predict_proba(test))


def _models(drawn: Draw, seed: int) -> list[tuple[str, Any]]:
    is_value = drawn.kind == "regression"
    net = (MLPRegressor if is_value else MLPClassifier)(
        hidden_layer_sizes=HIDDEN,
        max_iter=EPOCHS,
        batch_size=BATCH,
        early_stopping=True,
        validation_fraction=0.15,
        n_iter_no_change=PATIENCE,
        learning_rate_init=0.002,
        random_state=seed,
    )
    boosting = (LGBMRegressor if is_value else LGBMClassifier)(
        **boosting_params(drawn.kind), random_state=seed, n_jobs=1, verbosity=-1
    )
    return [("mlp", make_pipeline(_scaled(), net)), ("gbm", boosting)]


def _scaled() -> Pipeline:
    """Imputed and standardised numbers, one-hot categories."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
