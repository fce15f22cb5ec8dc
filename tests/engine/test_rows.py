"""Rows and folds are known by what they are made from, read once, and held-out rows stand apart."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.data.samples import load_samples
from stackfeat.data.splits.folds import load_folds
from stackfeat.engine.rows import RowRecipes, ensure_rows, n_folds, row_recipes
from stackfeat.errors import DataError
from stackfeat.store import MemoryStore


def write(folder: Path, n_rows: int = 60, name: str = "train.csv") -> None:
    random = np.random.default_rng(0)
    lines = [f"{i},{random.normal():.5f},{'ab'[i % 2]},{i // 10},{i}" for i in range(n_rows)]
    (folder / name).write_text("\n".join(["id,x,target,part,when", *lines]) + "\n")


def recipes(folder: Path, how: dict[str, Any] | None = None, holdout: Any = 0.0, **data: Any) -> RowRecipes:
    options = DataOptions(**{"train": "train.csv", "id": "id", **data})
    return row_recipes(options, FoldOptions(**(how or {})), folder, "binary", "log_loss", holdout=holdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("unused", [{"gap": 3}, {"repeats_as": "blocks"}, {"allow_leak": True}])
def test_options_that_the_kind_of_folds_does_not_use_are_not_in_its_key(unused: Any, folder: Path) -> None:
    assert recipes(folder, unused).folds.key == recipes(folder).folds.key
    for used in ({"n": 4}, {"seed": 1}, {"repeats": 2}, {"kind": "kfold"}):
        assert recipes(folder, used).folds.key != recipes(folder).folds.key, used


def test_a_gap_is_in_the_key_of_time_folds_and_of_what_is_held_out_before_them(folder: Path) -> None:
    plain, gapped = (recipes(folder, {"gap": gap}, 0.2, time="when") for gap in (0, 3))
    assert plain.is_time and plain.kind == "time"
    assert plain.folds.key != gapped.folds.key and plain.samples.key != gapped.samples.key
    plain, gapped = (recipes(folder, {"gap": gap}, 0.2) for gap in (0, 3))
    assert plain.samples.key == gapped.samples.key


def test_a_file_counts_by_its_bytes_and_its_name_does_not(folder: Path) -> None:
    before = recipes(folder)
    (folder / "train.csv").rename(folder / "other.csv")
    assert recipes(folder, train="other.csv").samples.key == before.samples.key
    write(folder, 61)
    after = recipes(folder)
    assert after.samples.key != before.samples.key and after.folds.key != before.folds.key


def test_test_rows_depend_on_the_training_file_and_not_the_reverse(folder: Path) -> None:
    write(folder, 10, "test.csv")
    before = recipes(folder, test="test.csv")
    write(folder, 12, "test.csv")
    after = recipes(folder, test="test.csv")
    assert before.test is not None and after.test is not None
    assert (before.samples.key, before.folds.key) == (after.samples.key, after.folds.key)
    assert before.test.key != after.test.key
    write(folder, 61)
    assert recipes(folder, test="test.csv").test != after.test


def ensured(
    folder: Path, store: MemoryStore, how: dict[str, Any] | None = None, holdout: Any = 0.0, **data: Any
) -> tuple[RowRecipes, list[str]]:
    made = recipes(folder, how, holdout, **data)
    options = DataOptions(**{"train": "train.csv", "id": "id", **data})
    return made, ensure_rows(made, options, FoldOptions(**(how or {})), folder, "binary", "log_loss", store)


def test_what_is_stored_is_not_read_again_and_its_notes_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.data.schema import load as reader

    store = MemoryStore()
    made, notes = ensured(folder, store, holdout=0.2)
    assert any("held out" in note for note in notes)

    def refuse(*given: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(reader, "load", refuse)
    assert ensured(folder, store, holdout=0.2) == (made, notes)


def test_rows_are_kept_or_held_out_and_folds_are_of_the_kept_ones(folder: Path) -> None:
    store = MemoryStore()
    made, _ = ensured(folder, store, {"n": 3}, 0.25)
    assert made.holdout is not None
    kept, held = (load_samples(store.read(recipe.key)) for recipe in (made.samples, made.holdout))
    assert held.n_rows == 15 and {*kept.ids, *held.ids} == set(map(str, range(60))) and kept.n_rows == 45
    assert load_folds(store.read(made.folds.key)).n_rows == 45


def test_folds_that_a_holdout_leaves_too_few_rows_for_name_it(folder: Path) -> None:
    with pytest.raises(DataError, match=r"\(stack\.holdout leaves 45 rows, without 15\)"):
        ensured(folder, MemoryStore(), {"n": 40}, 0.25)
    with pytest.raises(DataError) as caught:
        ensured(folder, MemoryStore(), {"n": 40})
    assert "holdout" not in str(caught.value)


def test_our_warnings_become_notes_and_others_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.data.splits import folds as splits

    made = splits.make_folds

    def warned(*given: Any) -> Any:
        warnings.warn("of a library", UserWarning, stacklevel=1)
        warnings.warn("of ours", splits.LeakWarning, stacklevel=1)
        return made(*given)

    monkeypatch.setattr(splits, "make_folds", warned)
    with pytest.warns(UserWarning, match="of a library") as shown:
        notes = ensured(folder, MemoryStore())[1]
    assert "warning: of ours" in notes
    assert [str(warning.message) for warning in shown] == ["of a library"]


def test_the_number_of_folds_is_that_of_given_ones_once_they_are_read(folder: Path) -> None:
    store = MemoryStore()
    made = recipes(folder, {"n": 4}, fold="part")
    assert (made.kind, n_folds(made, FoldOptions(n=4), store)) == ("column", 4)
    ensured(folder, store, {"n": 4}, fold="part")
    assert n_folds(made, FoldOptions(n=4), store) == 6
    assert n_folds(replace(made, kind="stratified"), FoldOptions(n=4), store) == 4
