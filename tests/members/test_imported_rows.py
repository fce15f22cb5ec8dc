"""Folds from a file: aligned by id, compared as partitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stackfeat.data.splits.folds import Folds
from stackfeat.errors import DataError
from stackfeat.members.imported_rows import (
    Aligned,
    mean_of,
    partition_fingerprint,
    positions,
    read_fold_file,
)

IDS = np.array([f"r{i}" for i in range(6)])
FOLD_OF = np.array([0, 1, 2, 0, 1, 2])


def folds(fold_of: np.ndarray = FOLD_OF) -> Folds:
    splits = tuple((np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(3))
    return Folds("kfold", (splits,), len(fold_of))


def write(path: Path, fold_of: list[object], ids: list[str] | None = None) -> Path:
    rows = [f"{i},{fold}" for i, fold in zip(ids or IDS[::-1], fold_of, strict=True)]
    path.write_text("\n".join(["id,fold", *rows]) + "\n")
    return path


def test_rows_are_matched_by_id_and_numbers_may_differ(tmp_path: Path) -> None:
    same = read_fold_file(write(tmp_path / "a.csv", list(FOLD_OF[::-1])), IDS, folds(), "id")
    assert same.is_identical and same.is_same and same.n_folds == 3 and same.agreement == 1.0
    other = read_fold_file(write(tmp_path / "b.csv", [2, 1, 0, 2, 1, 0][::-1]), IDS, folds(), "id")
    assert other.is_same and not other.is_identical
    different = read_fold_file(write(tmp_path / "c.csv", [0, 0, 1, 1, 2, 2]), IDS, folds(), "id")
    assert not different.is_same and different.agreement < 1


def test_a_group_on_both_sides_is_counted(tmp_path: Path) -> None:
    file = read_fold_file(write(tmp_path / "a.csv", [0, 0, 1, 1, 2, 2]), IDS, folds(), "id")
    assert file.split_groups(np.array([0, 0, 1, 1, 2, 2])) == 0
    assert file.split_groups(np.array([0, 1, 1, 2, 2, 2])) == 2
    assert file.split_groups(None) == 0


def test_rows_beyond_the_training_rows_are_counted_where_they_were_in_a_fold(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*FOLD_OF, 1, -1], [*IDS, "x", "y"])
    assert read_fold_file(path, IDS, folds(), "id").n_other == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,folds\nr0,1\n", r"got 'id', 'folds'\. Did you mean 'folds'\?"),
        ("name,fold\nr0,1\n", r"the columns 'id' \(or 'id'\) and 'fold'"),
        ("id,fold\nr0,1\nr1,1\n", "4 are missing, such as ids 'r2', 'r3'"),
        ("id,fold\nr0,1.5\n", "whole numbers from 0"),
        ("id,fold\nr0,1\nr0,1\n", "must be unique"),
    ],
)
def test_wrong_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_fold_file(tmp_path / "a.csv", IDS, folds(), "id")


def test_the_fingerprint_is_of_the_partition() -> None:
    assert partition_fingerprint(FOLD_OF) == partition_fingerprint((FOLD_OF + 1) % 3)
    assert partition_fingerprint(FOLD_OF) != partition_fingerprint(np.array([0, 0, 1, 1, 2, 2]))
    # A row in no fold is not a fold of its own.
    assert partition_fingerprint(np.array([-1, 0, 1])) != partition_fingerprint(np.array([0, 1, 2]))


def test_the_mean_of_members_goes_by_id_and_takes_what_all_have() -> None:
    def of(
        oof: float, test: list[tuple[str, float]], other: list[tuple[str, float]], n_views: int = 1
    ) -> Aligned:
        ids, values = [name for name, _ in test], np.array([[value] for _, value in test])
        others = np.array([[value] for _, value in other]).reshape(-1, 1)
        views = tuple(values + view for view in range(n_views))
        return Aligned(
            np.full((2, 1), oof), np.array(ids), views, np.array([name for name, _ in other]), others
        )

    first = of(1.0, [("a", 1.0), ("b", 2.0), ("c", 9.0)], [("x", 1.0), ("y", 5.0)])
    second = of(2.0, [("b", 4.0), ("a", 3.0)], [("y", 7.0)], n_views=2)
    mean = mean_of([first, second])
    assert mean.oof.tolist() == [[1.5], [1.5]]
    assert mean.test_ids.tolist() == ["a", "b"]
    # The first has one view, which stands for both.
    assert [view.ravel().tolist() for view in mean.test] == [[2.0, 3.0], [2.5, 3.5]]
    assert mean.other_ids.tolist() == ["y"] and mean.other.tolist() == [[6.0]]
    alone = mean_of([first])
    assert alone.oof.tolist() == first.oof.tolist() and alone.test_ids.tolist() == first.test_ids.tolist()


def test_places_of_ids_are_those_of_a_search_and_remembered_ones_are_not_changed() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.array([f"r{number}" for number in range(50)]))
    ids.flags.writeable = False
    for _ in range(20):
        wanted = np.array([f"r{number}" for number in rng.integers(80, size=30)])
        wanted.flags.writeable = False
        expected = [ids.tolist().index(one) if one in ids else -1 for one in wanted]
        found = positions(ids, wanted)
        assert found.tolist() == expected
        found[:] = 7
        assert positions(ids, wanted).tolist() == expected
