"""Features stand for columns wherever inputs read them; rows get the values of others, and a typical row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArrayInput, LazyRows, Samples, Table
from stackfeat.data.schema.features import Feature, correlated, features_of, varied, with_typical
from stackfeat.data.schema.load import LoadedData, load
from stackfeat.tasks.task import Task


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedData:
    """Rows of two tables that share a column, with a date, a category and missing cells."""
    frame = pd.DataFrame(
        {
            "size": [1.0, 2.0, 4.0, np.nan, 3.0] * 6,
            "shape": (["round"] * 3 + ["square", ""]) * 6,
            "day": pd.date_range("2024-01-01", periods=30).strftime("%Y-%m-%d"),
            "y": np.arange(30) % 7 * 1.5,
        }
    )
    frame.to_csv(tmp_path / "train.csv", index=False)
    inputs = {"left": {"columns": ["size", "shape"]}, "right": {"columns": ["size", "day"]}}
    options = DataOptions(train="train.csv", target="y", inputs=inputs)
    return load(options, tmp_path, "regression", "rmse")


def test_a_column_is_one_feature_in_all_tables_that_read_it(loaded: LoadedData) -> None:
    size, shape, day = features_of(loaded.train.inputs, loaded.schema)
    assert (size.name, size.kind, size.inputs) == ("size", "numeric", {"left", "right"})
    assert shape.inputs == {"left"} and shape.codes == {"left": (0,)}
    # Its parts are one column of the file.
    assert day.kind == "date" and len(day.numbers["right"]) > 1
    joined = Feature.joined([size, day])
    assert joined.columns == ("size", "day") and joined.inputs == {"left", "right"}


def test_a_variant_has_the_values_of_other_rows_in_its_columns_alone(loaded: LoadedData) -> None:
    samples, rows = loaded.train, np.array([0, 1, 2])
    size, shape, day = features_of(samples.inputs, loaded.schema)
    donors = np.array([2, 0, 1])
    made = varied(samples, rows, [(size, donors), (Feature.joined([shape, day]), donors)])
    assert made.n_rows == 6 and made.ids.tolist() == samples.ids[np.tile(rows, 2)].tolist()
    left, right = made.inputs["left"], made.inputs["right"]
    before, after = samples.inputs["left"], samples.inputs["right"]
    assert isinstance(left, Table) and isinstance(right, Table)
    assert isinstance(before, Table) and isinstance(after, Table)
    np.testing.assert_array_equal(left.numeric[:3, 0], before.numeric[donors, 0])
    np.testing.assert_array_equal(right.numeric[:3, 0], before.numeric[donors, 0])
    np.testing.assert_array_equal(left.codes[:3], before.codes[rows])
    np.testing.assert_array_equal(left.numeric[3:], before.numeric[rows])
    np.testing.assert_array_equal(left.codes[3:], before.codes[donors])
    np.testing.assert_array_equal(right.numeric[3:, 1:], after.numeric[donors, 1:])
    # The rows that they came from are as they were.
    assert before.numeric[0, 0] == 1.0


def test_the_typical_row_holds_medians_and_the_most_frequent_category(loaded: LoadedData) -> None:
    whole = with_typical(loaded.train.take(np.array([3])), loaded.schema, loaded.summary)
    left, right = whole.inputs["left"], whole.inputs["right"]
    assert isinstance(left, Table) and isinstance(right, Table) and whole.n_rows == 2
    assert left.numeric[1, 0] == np.sort([1, 2, 3, 4] * 6)[11]
    assert left.levels[0][left.codes[1, 0]] == "round"
    parts = dict(zip(right.numeric_names, right.numeric[1], strict=True))
    assert parts["day.day"] == 15 and parts["day.days"] == (pd.Timestamp("2024-01-15") - pd.Timestamp(0)).days


def test_arrays_are_moved_as_rows_and_lengths_go_with_them() -> None:
    values = np.arange(24).reshape(4, 3, 2)
    sequence = ArrayInput(values, "sequence", lengths=np.array([3, 2, 1, 3]))
    lazy = ArrayInput(LazyRows(values), "array")
    samples = Samples(np.arange(4).astype(str), {"seq": sequence, "raw": lazy}, None, Task("regression"))
    seq = Feature("seq", "sequence", ("seq",), arrays=("seq",))
    made = varied(samples, np.array([0, 1]), [(seq, np.array([2, 3]))])
    moved, kept = made.inputs["seq"], made.inputs["raw"]
    assert isinstance(moved, ArrayInput) and isinstance(kept, ArrayInput)
    np.testing.assert_array_equal(np.asarray(moved), values[2:])
    assert moved.lengths is not None and moved.lengths.tolist() == [1, 3]
    np.testing.assert_array_equal(np.asarray(kept), values[:2])


def test_columns_that_say_the_same_are_found_through_missing_values_and_chains() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    columns = {"a": a, "b": np.exp(a), "c": -a + 0.1 * rng.normal(size=300), "d": rng.normal(size=300)}
    columns["constant"] = np.ones(300)
    numeric = np.column_stack(list(columns.values()))
    numeric[::17, 1] = np.nan
    table = Table(numeric, tuple(columns), np.zeros((300, 0), np.int32), (), ())
    samples = Samples(np.arange(300).astype(str), {"t": table}, None, Task("regression"))
    features = [Feature(name, "numeric", (name,), {"t": (j,)}) for j, name in enumerate(columns)]
    found = correlated(samples, features, 0.8)
    assert [[one.name for one in group] for group in found] == [["a", "b", "c"]]
    assert correlated(samples, features[:1], 0.8) == []


def test_a_text_is_a_feature_whose_cells_are_those_of_other_rows(tmp_path: Path) -> None:
    texts = [f"tale {i} of many words" for i in range(6)]
    pd.DataFrame({"a": range(6), "story": texts, "y": np.arange(6.0)}).to_csv(tmp_path / "t.csv", index=False)
    options = DataOptions(train="t.csv", target="y", types={"story": "text"})
    loaded = load(options, tmp_path, "regression", "rmse")
    _, story = features_of(loaded.train.inputs, loaded.schema)
    assert (story.kind, story.texts) == ("text", {"table": (0,)})
    made = varied(loaded.train, np.array([0, 1]), [(story, np.array([5, 4]))]).inputs["table"]
    assert isinstance(made, Table)
    assert made.texts[:, 0].tolist() == [texts[5], texts[4]] and made.numeric[:, 0].tolist() == [0, 1]
    last = with_typical(loaded.train, loaded.schema, loaded.summary).inputs["table"]
    assert isinstance(last, Table) and last.texts[-1].tolist() == [""]
