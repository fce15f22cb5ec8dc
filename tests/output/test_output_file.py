"""What --output may replace: files that the same command wrote, and with --force any file that is nobody's."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from stackfeat.errors import UsageError
from stackfeat.output.output_file import (
    has_columns,
    has_packed,
    refuse_foreign,
    refuse_output,
    refuse_place,
)
from tests.projects import Project

IS_TABLE = has_columns(["run", "score"])


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        ("", True),
        ("run,score\na,1\n", True),
        ("run,score\r\n", True),
        ('\ufeff"run","score"\n', True),
        ("run,score,se\n", False),
        ("row_id,a,b,label\n1,2,3,x\n", False),
        ("run\n", False),
        ("\0\n", False),
        ('"run', False),
    ],
)
def test_a_csv_file_is_ours_by_its_columns(content: str, is_ours: bool, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    if is_ours:
        refuse_output(path, IS_TABLE, force=False)
    else:
        with pytest.raises(
            UsageError, match=r"must be a new file, or one that .*t\.csv.* replace it with --force"
        ):
            refuse_output(path, IS_TABLE, force=False)
        refuse_output(path, IS_TABLE, force=True)


def test_a_zip_file_is_ours_by_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("student.json", "{}")
    assert has_packed("student.json")(path) and not has_packed("model.txt")(path)
    path.write_bytes(b"PK not a zip file")
    assert not has_packed("student.json")(path)


def test_what_is_new_or_empty_or_a_link_to_ours_is_written(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new.csv", IS_TABLE, force=False)
    (tmp_path / "t.csv").write_text("run,score\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "t.csv")
    refuse_output(tmp_path / "link.csv", IS_TABLE, force=False)
    (tmp_path / "t.csv").write_text("other\n")
    with pytest.raises(UsageError, match="holds something else"):
        refuse_output(tmp_path / "link.csv", IS_TABLE, force=False)


def test_force_replaces_neither_what_is_read_nor_folders_nor_pipes(tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("a\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"got .*d\.csv, which is DATA itself; choose another"):
        refuse_place(data, data=data)
    with pytest.raises(UsageError, match="which is a folder"):
        refuse_output(tmp_path, IS_TABLE, force=True)
    with pytest.raises(UsageError, match="which is a device or pipe"):
        refuse_output(tmp_path / "pipe", IS_TABLE, force=True)
    with pytest.raises(UsageError, match=r"--picture is written as plain text; got .*x\.csv\.gz"):
        refuse_place(tmp_path / "x.csv.gz", option="--picture")


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "runs/run", "test.csv", "-o", "train.csv"),
        ("predict", "runs/run", "test.csv", "-o", "notes.txt"),
        ("explain", "runs/run", "test.csv", "-o", "train.csv"),
        ("compare", "runs/run", "runs/two", "-o", "train.csv"),
        ("runs", "-o", "train.csv"),
        ("runs", "--picture", "plan.svg"),
        ("runs", "--picture", "train.svg"),
        ("export", "runs/run", "-o", "data.zip"),
        ("distil", "runs/run", "--student", "lightgbm", "-o", "data.zip"),
    ],
    ids=lambda command: " ".join(command),
)
def test_no_command_replaces_a_file_of_yours_unasked(
    command: tuple[str, ...], plain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plain.folder
    monkeypatch.chdir(folder)
    for name in ("notes.txt", "plan.svg", "data.zip"):
        (folder / name).write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    said = plain.cli(*command)
    assert said.code == 2 and "must be a new file, or one that the same command wrote" in said.err
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("columns", ["secret,notes", "label,notes", "proba", "base/bayes:cat"])
def test_notes_beside_ids_are_no_predictions(columns: str, plain: Project, tmp_path: Path) -> None:
    output = tmp_path / "notes.csv"
    content = f"row_id,{columns}\n1,2,mine\n"
    output.write_text(content)
    said = plain.cli("predict", plain.run_folder, plain.folder / "test.csv", "-o", output)
    assert said.code == 2 and "notes.csv, which holds something else" in said.err
    assert output.read_text() == content


def test_a_command_replaces_its_own_file_and_any_with_force(plain: Project, tmp_path: Path) -> None:
    output = tmp_path / "p.csv"
    command = ("predict", plain.run_folder, plain.folder / "test.csv", "-o", output)
    both = ("--members", "--spread")
    for options in ((), ("--proba",), ("--members",), both, ("--proba", *both, "--interval", ".8"), ()):
        assert plain.cli(*command, *options).code == 0
    once = output.read_bytes()
    output.write_text("mine")
    assert plain.cli(*command).code == 2 and output.read_text() == "mine"
    assert plain.cli(*command, "--force").code == 0 and output.read_bytes() == once
    for _ in range(2):
        said = plain.cli("export", plain.run_folder, "-o", tmp_path / "m.zip")
        assert said.code == 0, said.err
