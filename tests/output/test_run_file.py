"""run.json: which files are a run's own, what has changed since, and whether they are of one run."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import DataError, UsageError
from stackfeat.output.run_file import (
    FILE,
    FILES,
    RunFile,
    WrittenFile,
    find_run_file,
    foreign_files,
    hash_of,
    is_own_name,
    whole_run,
)
from stackfeat.store import hash_recipe
from stackfeat.store.manifest import seal

MARK = RunFile("a" * 32, "0.1.0", "whole", {"oof/a.csv": WrittenFile("1" * 64, "2" * 64)}, logs=("run.log",))


def put(folder: Path, name: str, text: str = "x") -> str:
    """Write a file and return its hash."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        *((name, True) for name in sorted(FILES)),
        ("oof/base.tree.csv", True),
        ("predictor/models/0/net.safetensors", True),
        ("oof", False),
        ("run.json", False),
        ("notes.txt", False),
        ("plots/a.png", False),
        ("oof/../../precious.csv", False),
        ("oof/./a.csv", False),
        ("oof//a.csv", False),
        ("/etc/passwd", False),
        ("./config.yaml", False),
        ("../config.yaml", False),
        ("oof\\..\\a.csv", False),
        ("oof/a\0.csv", False),
        ("oofs/a.csv", False),
        ("", False),
    ],
)
def test_only_plain_paths_below_a_runs_own_names_are_its_own(name: str, is_own: bool) -> None:
    assert is_own_name(name) is is_own


def test_what_is_sealed_is_read_back(tmp_path: Path) -> None:
    assert find_run_file(tmp_path) is None
    mark = replace(MARK, state="writing", before={"submission.csv": "3" * 64})
    (tmp_path / FILE).write_bytes(mark.sealed())
    found = find_run_file(tmp_path)
    assert found == replace(mark, logs=found.logs) and tuple(found.logs) == ("run.log",)
    assert found.names == {"oof/a.csv", "submission.csv", "run.log"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"../precious.csv": {"sha256": "0" * 64, "made_of": ""}}}, "must list files of a run"),
        ({"before": {"notes.txt": "0" * 64}}, "must list files of a run"),
        ({"logs": ["/etc/passwd"]}, "must list files of a run"),
        ({"state": "done"}, "state must be 'writing' or 'whole'; got 'done'"),
        ({"format": 0}, "must have format 1; got 0, of another version of stackfeat"),
        ({"files": {"oof/a.csv": "0" * 64}}, "must be an object"),
    ],
)
def test_a_sealed_list_that_no_run_writes_is_refused_with_what_to_do(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    value = json.loads(MARK.sealed())
    (tmp_path / FILE).write_bytes(seal({**value, **change}))
    with pytest.raises(
        DataError, match=f"{FILE}.*{message}.*; move the folder away or choose another outputs.dir"
    ):
        find_run_file(tmp_path)


def test_an_edited_mark_and_a_link_to_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(MARK.sealed().replace(b"oof/a.csv", b"oof/b.csv"))
    with pytest.raises(DataError, match="must be as it was written; got contents of another hash"):
        find_run_file(tmp_path)
    (tmp_path / "elsewhere").write_bytes(MARK.sealed())
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="must be a file that a run wrote; got a link; move the folder away"):
        find_run_file(tmp_path)


def test_a_hash_is_that_of_the_bytes_and_of_no_link_or_folder(tmp_path: Path) -> None:
    sha256 = put(tmp_path, "a", "some text")
    assert hash_of(tmp_path / "a") == sha256
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert [hash_of(tmp_path / name) for name in ("link", "none", ".")] == ["", "", ""]


def test_while_files_are_replaced_the_old_ones_and_the_new_ones_count_as_unchanged() -> None:
    mark = replace(MARK, before={"oof/a.csv": "old", "oof/b.csv": "gone"})
    assert mark.is_unchanged("oof/a.csv", "1" * 64) and mark.is_unchanged("oof/a.csv", "old")
    assert mark.is_unchanged("oof/b.csv", "gone")
    assert not mark.is_unchanged("oof/a.csv", "gone") and not mark.is_unchanged("oof/c.csv", "old")


def test_files_of_a_folder_are_current_only_all_together(tmp_path: Path) -> None:
    wanted = {"seed": 1}
    made_of = hash_recipe({"made_of": wanted})
    names = ("predictor/a", "predictor/sub/b")
    files = {name: WrittenFile(put(tmp_path, name, name), made_of) for name in names}
    mark = replace(MARK, files={**files, "predictors": WrittenFile("0" * 64)})
    assert set(mark.below("predictor")) == set(names), "not what begins alike"
    assert mark.is_current(tmp_path, "predictor", wanted) and mark.is_current(tmp_path, "predictor/a", wanted)
    assert not mark.is_current(tmp_path, "predictor", {"seed": 2}), "of another recipe"
    assert not mark.is_current(tmp_path, "oof", wanted), "nothing is there"
    put(tmp_path, "predictor/sub/b", "edited")
    assert not mark.is_current(tmp_path, "predictor", wanted)
    (tmp_path / "predictor/sub/b").unlink()
    assert not mark.is_current(tmp_path, "predictor", wanted)


def test_a_run_that_is_being_written_or_replaced_is_not_read(tmp_path: Path) -> None:
    with whole_run(tmp_path) as found:
        assert found is None, "a predictor that was copied alone"
    (tmp_path / FILE).write_bytes(MARK.sealed())
    with whole_run(tmp_path) as found:
        assert found is not None and found.id == MARK.id
    with (
        pytest.raises(UsageError, match="must be one run's while it is read; got a new one; do it again"),
        whole_run(tmp_path),
    ):
        (tmp_path / FILE).write_bytes(replace(MARK, id="b" * 32).sealed())
    with pytest.raises(UsageError, match=r"says state=writing.*run its config again"), whole_run(tmp_path):
        (tmp_path / FILE).write_bytes(replace(MARK, state="writing").sealed())
    with pytest.raises(UsageError, match="state=writing"), whole_run(tmp_path):
        pytest.fail("a half-written run was read")


def test_what_no_run_has_listed_is_foreign_and_other_names_are_nobodys_business(tmp_path: Path) -> None:
    for name in ("notes.txt", "plots/a.png", "oof/.DS_Store", "oof/a.csv", "config.yaml", "leaderboard.csv"):
        put(tmp_path, name)
    put(tmp_path, "predictor/deep/down/mine.bin")
    assert foreign_files(tmp_path, {"oof/a.csv", "config.yaml"}) == [
        "leaderboard.csv",
        "predictor/deep/down/mine.bin",
    ]
    assert (
        foreign_files(
            tmp_path, {"oof/a.csv", "config.yaml", "leaderboard.csv", "predictor/deep/down/mine.bin"}
        )
        == []
    )


@pytest.mark.parametrize("name", ["oof", "oof/a.csv", "oof/deep", "config.yaml"])
def test_a_link_is_never_a_runs_own_even_where_it_is_listed(name: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    put(precious, "a.csv")
    folder = tmp_path / "run"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(precious / "a.csv" if "." in name else precious)
    assert foreign_files(folder, {"oof/a.csv", "config.yaml", "oof/deep/a.csv"}) == [name]


def test_a_pipe_and_a_file_in_the_place_of_a_folder_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "oof").mkdir()
    os.mkfifo(tmp_path / "oof" / "a.csv")
    put(tmp_path, "test")
    assert foreign_files(tmp_path, {"oof/a.csv", "test"}) == ["oof/a.csv", "test"]
