"""Category columns as CatBoost takes them, and untouched for everything else."""

from __future__ import annotations

import pandas as pd
import pytest
from lightgbm import LGBMClassifier

from stackfeat.meta.estimator_io import as_taken, fit_keywords

FRAME = pd.DataFrame(
    {"c0": [0.5, None, 2.0], "c1": pd.Categorical.from_codes([1, -1, 0], categories=pd.RangeIndex(2))}
)


def test_catboost_gets_whole_numbers_and_the_names_of_categories() -> None:
    model = pytest.importorskip("catboost").CatBoostClassifier()
    taken = as_taken(model, FRAME)
    assert taken["c1"].tolist() == [1, -1, 0] and taken["c1"].dtype == "int32"
    pd.testing.assert_series_equal(taken["c0"], FRAME["c0"])
    assert fit_keywords(model, FRAME) == {"cat_features": ["c1"]}
    assert as_taken(model, FRAME.to_numpy()).shape == (3, 2)
    assert fit_keywords(model, FRAME[["c0"]]) == {}


def test_other_libraries_get_the_frame_as_it_is() -> None:
    assert as_taken(LGBMClassifier(), FRAME) is FRAME
    assert fit_keywords(LGBMClassifier(), FRAME) == {}
