"""A glob, a folder or a manifest becomes the files of one member for each name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackfeat.config.data_checks import Allowed
from stackfeat.members.pool_files import PoolMatch, find_pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("oof/a.csv", "oof/b.csv", "oof/.c.csv", "oof/notes.md", "test/a.csv", "test/b.csv"):
        write(folder / name)
    return folder


def write(path: Path, text: str = "x\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def find(folder: Path, files: str, test: str | None = None) -> PoolMatch:
    return find_pool(files, test, Allowed(folder))


A_AND_B = {"a": ("oof/a.csv", "test/a.csv"), "b": ("oof/b.csv", "test/b.csv")}


@pytest.mark.parametrize("test", ["test/*.csv", "test", "test/"])
@pytest.mark.parametrize("files", ["oof/*.csv", "oof", "oof/"])
def test_files_are_paired_by_name(folder: Path, files: str, test: str) -> None:
    assert find(folder, files, test) == PoolMatch(A_AND_B)


def test_the_star_may_be_a_part_of_a_name_or_a_folder(folder: Path) -> None:
    for name in ("runs/v2-cat/oof.csv", "runs/v2-mlp/oof.csv", "runs/v2-/oof.csv", "runs/v1/oof.csv"):
        write(folder / name)
    (folder / "runs/v2-empty").mkdir()
    found = find(folder, "runs/v2-*/oof.csv").files
    assert found == {"cat": ("runs/v2-cat/oof.csv", None), "mlp": ("runs/v2-mlp/oof.csv", None)}


def test_test_files_of_each_fold_keep_the_placeholder(folder: Path) -> None:
    for name in "ab":
        write(folder / f"test/{name}_0.csv")
    assert find(folder, "oof/*.csv", "test/*_{fold}.csv").files["a"] == ("oof/a.csv", "test/a_{fold}.csv")


def test_a_manifest_names_files_of_any_name(folder: Path) -> None:
    write(folder / "pool.csv", "name,oof,test\nx,oof/a.csv,test/b.csv\ny,oof/b.csv,\n")
    found = find(folder, "pool.csv")
    assert found.files == {"x": ("oof/a.csv", "test/b.csv"), "y": ("oof/b.csv", None)} and not found.problems


@pytest.mark.parametrize(
    ("files", "test", "option", "message"),
    [
        ("off/*.csv", None, "files", "there is no folder 'off' in .* Did you mean 'oof'"),
        ("oof/x*.csv", None, "files", "must match at least one file; got none for 'oof/x\\*.csv'"),
        ("oof/*", None, "files", "all tables, .* got"),
        ("*/*.csv", None, "files", "a glob has one \\*"),
        ("oof/?.csv", None, "files", "a glob has one \\*"),
        ("../*.csv", None, "files", "paths stay inside the config's folder"),
        ("/etc/*.csv", None, "files", "paths stay inside the config's folder"),
        ("link/*.csv", None, "files", "paths stay inside the config's folder"),
        ("oof/*.csv", "test/x-*.csv", "files", "1 of 2 have none: 'oof/b.csv'"),
        ("test/x-*.csv", "oof/*.csv", "test", "its out-of-fold file.* 1 of 2 have none: 'oof/b.csv'"),
        ("oof/a*.csv", None, "files", "must match at least one"),
        ("twice", None, "files", "'twice/a.csv', 'twice/a.parquet' are both 'a'"),
        (
            "odd.csv",
            None,
            "files",
            "must have the columns name, oof .* got 'name', 'off'. Did you mean 'oof'",
        ),
        ("again.csv", None, "files", "line 3: names must be unique; got 'x' again"),
        ("hole.csv", None, "files", "line 2: every row names a member and its oof file"),
        ("none.csv", None, "files", "got no rows"),
        ("slash.csv", None, "files", "names of members are printable"),
        ("odd.csv", "test/*.csv", "test", "a manifest names the test files itself"),
    ],
)
def test_what_cannot_be_a_pool_is_explained(
    folder: Path, files: str, test: str | None, option: str, message: str
) -> None:
    write(folder.parent / "secret/a.csv")
    (folder / "link").symlink_to(folder.parent / "secret")
    for name in ("twice/a.csv", "twice/a.parquet", "oof/z.npy", "test/x-a.csv"):
        write(folder / name)
    write(folder / "odd.csv", "name,off\nx,oof/a.csv\n")
    write(folder / "again.csv", "name,oof\nx,oof/a.csv\nx,oof/b.csv\n")
    write(folder / "hole.csv", "name,oof\nx,\n")
    write(folder / "none.csv", "name,oof\n")
    write(folder / "slash.csv", "name,oof\na/b,oof/a.csv\n")
    found = find(folder, files, test)
    assert not found.files and len(found.problems) == 1
    assert found.problems[0][0] == option
    assert re.search(message, found.problems[0][1]), found.problems[0][1]


def test_a_link_to_a_file_outside_is_left_to_the_check_of_single_files(folder: Path) -> None:
    write(folder.parent / "secret.csv")
    (folder / "oof/s.csv").symlink_to(folder.parent / "secret.csv")
    path = find(folder, "oof/*.csv").files["s"][0]
    assert "paths stay inside" in (Allowed(folder).file_problem(path) or "")
