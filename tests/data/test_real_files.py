"""Real files beside the checkout: csv and parquet must give the same arrays, bit for bit."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load
from stackfeat.errors import DataWarning

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "target", "task"),
    [
        ("adult", "income", "binary"),
        ("california_housing", "median_house_value", "regression"),
        ("titanic", "Survived", "binary"),
    ],
)
def test_real_files_are_read_alike_from_csv_and_parquet(
    name: str, target: str, task: str, tmp_path: Path
) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("the real data sets are not beside the checkout")
    pytest.importorskip("pyarrow")
    frame = pd.read_parquet(REAL / name / "data.parquet")
    train = frame[frame["split"] == "train"].drop(columns="split")
    test = frame[frame["split"] == "test"].drop(columns=["split", target])
    loaded = []
    for suffix in ("csv", "parquet"):
        for part, rows in (("train", train), ("test", test)):
            write = getattr(rows, f"to_{suffix}")
            write(tmp_path / f"{part}.{suffix}", index=False)
        options = DataOptions(train=f"train.{suffix}", test=f"test.{suffix}", id="id", target=target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            loaded.append(load(options, tmp_path, task, "log_loss"))
    a, b = loaded
    assert a.schema == b.schema
    for left, right in ((a.train, b.train), (a.test, b.test)):
        assert left is not None and right is not None
        np.testing.assert_array_equal(left.inputs["table"].numeric, right.inputs["table"].numeric)
        np.testing.assert_array_equal(left.inputs["table"].codes, right.inputs["table"].codes)
