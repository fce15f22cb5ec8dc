"""The run folder: one run at a time writes it, a kill leaves one run or says so, and files of others stay."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import StoreError, UsageError
from stackfeat.output import run_folder as run_folder_module
from stackfeat.output.run_file import RunFile, find_run_file
from stackfeat.output.run_folder import LOCK, RunFolder, logging_to


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, as text."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


class Killed(BaseException):
    """What a kill does: nothing is tidied up."""


N_STEPS = 200


def steps(monkeypatch: pytest.MonkeyPatch, die_at: int) -> list[int]:
    """Count what changes the run folder while it is written, and end before the nth such step."""
    done = [0]
    replace, unlink, rmtree = Path.replace, Path.unlink, run_folder_module.shutil.rmtree

    def counted(change: Any) -> Any:
        def step(path: Path, *arguments: Any, **options: Any) -> Any:
            if done[0] >= die_at:
                raise Killed
            done[0] += 1
            return change(path, *arguments, **options)

        return step

    def never_tidied(path: Any, *arguments: Any, **options: Any) -> Any:
        return None if done[0] >= die_at else rmtree(path, *arguments, **options)

    monkeypatch.setattr(Path, "replace", counted(replace))
    monkeypatch.setattr(Path, "unlink", counted(unlink))
    monkeypatch.setattr(run_folder_module.shutil, "rmtree", never_tidied)
    return done


def rewrite(folder: Path, run: str, files: dict[str, str]) -> None:
    place = RunFolder(folder, run * 32)
    with place.claimed("run.log"), place.rewriting() as draft:
        for name, text in files.items():
            path = draft.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def test_a_kill_at_every_step_leaves_one_run_or_says_that_it_is_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("config.yaml", "leaderboard.csv", "submission.csv", "predictor/predictor.json")
    old = {name: f"old {name}" for name in (*names, "oof/stale.csv", "predictor/models/stale")}
    new = {name: f"new {name}" for name in (*names, "oof/fresh.csv")}
    seen = set()
    for die_at in range(N_STEPS):
        folder = tmp_path / f"run{die_at}"
        rewrite(folder, "a", old)
        (folder / "oof" / ".DS_Store").write_text("")
        with monkeypatch.context() as patch:
            steps(patch, die_at)
            try:
                rewrite(folder, "b", new)
                is_done = True
            except Killed:
                is_done = False
        there = contents(folder)
        mark = find_run_file(folder)
        assert mark is not None
        results = {name: there[name] for name in {*old, *new} if name in there}
        if mark.state == "whole":
            assert results == (old if mark.id == "a" * 32 else new)
        seen.add((mark.id[0], mark.state))
        if there.get("leaderboard.csv", "").startswith("new"):
            assert not there.get("submission.csv", "").startswith("old")
        rewrite(folder, "c", new)
        assert {name: (folder / name).read_text() for name in new} == new
        assert not any((folder / name).exists() for name in set(old) - set(new))
        assert not list(folder.glob(".writing-*")) and not (folder / "edited").exists()
        if is_done:
            break
    assert is_done and seen == {("a", "whole"), ("b", "writing"), ("b", "whole")}


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    rewrite(tmp_path, "a", {"leaderboard.csv": "old", "oof/a.csv": "old"})
    (tmp_path / "oof" / "b.csv").mkdir()
    with pytest.raises(UsageError, match=r"oof/b\.csv, which no run has written"):
        rewrite(tmp_path, "b", {"leaderboard.csv": "new", "oof/b.csv": "new"})
    mark = find_run_file(tmp_path)
    assert mark is not None and mark.state == "whole" and mark.id == "a" * 32
    assert (tmp_path / "leaderboard.csv").read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "below a file", "pipe", "broken link"])
def test_a_place_where_no_folder_can_be_is_refused_before_anything_is_computed(
    kind: str, tmp_path: Path
) -> None:
    place = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "broken link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.write_text("mine")
    folder = place / "runs" if kind == "below a file" else place
    with pytest.raises(UsageError, match=f"outputs.dir must be a folder.*but {place} is none"):
        RunFolder(folder, "a" * 32).refuse_foreign()


def test_a_run_folder_removed_under_a_run_is_written_anew(tmp_path: Path) -> None:
    place = RunFolder(tmp_path / "run", "a" * 32)
    with place.claimed("run.log"):
        run_folder_module.shutil.rmtree(tmp_path / "run")
        with place.rewriting() as draft:
            draft.path("leaderboard.csv").parent.mkdir(parents=True)
            draft.path("leaderboard.csv").write_text("new")
    mark = find_run_file(tmp_path / "run")
    assert mark is not None and mark.state == "whole" and list(mark.files) == ["leaderboard.csv"]


def marked(folder: Path) -> RunFile:
    mark = find_run_file(folder)
    assert mark is not None
    return mark


def test_a_second_run_is_told_which_process_holds_the_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "a" * 32).claimed("run.log"):
        for refused in (RunFolder(tmp_path, "b" * 32).refuse_foreign, lambda: rewrite(tmp_path, "b", {})):
            with pytest.raises(
                UsageError, match=f"by one run at a time; got .* process {os.getpid()} on .*; wait"
            ):
                refused()
    RunFolder(tmp_path, "b" * 32).refuse_foreign()


def test_looking_at_a_folder_writes_nothing(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new" / "run", "a" * 32).refuse_foreign()
    RunFolder(tmp_path, "a" * 32).refuse_foreign()
    assert list(tmp_path.iterdir()) == []


def test_a_file_added_to_a_whole_run_is_listed_with_its_hash_and_the_rest_stays(tmp_path: Path) -> None:
    rewrite(tmp_path, "a", {"leaderboard.csv": "old"})
    before = marked(tmp_path)
    for text in (b"{}", b'{"verdict": "pass"}'):
        folder = RunFolder(tmp_path, "b" * 32)
        with folder.claimed("audit.log"):
            folder.add("audit.json", text)
        found = marked(tmp_path)
        assert (tmp_path / "audit.json").read_bytes() == text
        assert found.files["audit.json"].sha256 == hashlib.sha256(text).hexdigest()
        assert (found.id, found.state) == ("a" * 32, "whole")
        assert found.files["leaderboard.csv"] == before.files["leaderboard.csv"]
        assert list(found.logs) == ["run.log", "audit.log"]
    assert not (tmp_path / "edited").exists() and not list(tmp_path.glob(".writing-*"))


def test_an_added_file_that_somebody_has_edited_is_set_aside(tmp_path: Path) -> None:
    rewrite(tmp_path, "a", {"leaderboard.csv": "old", "audit.json": "{}"})
    (tmp_path / "audit.json").write_text("my notes")
    folder = RunFolder(tmp_path, "b" * 32)
    with folder.claimed("audit.log"):
        folder.add("audit.json", b"new")
    assert (tmp_path / "audit.json").read_text() == "new"
    assert [path.read_text() for path in (tmp_path / "edited").rglob("audit.json")] == ["my notes"]


def test_a_block_that_fails_leaves_the_older_files_as_they_were(tmp_path: Path) -> None:
    rewrite(tmp_path, "a", {"leaderboard.csv": "old", "oof/a.csv": "old"})
    before = contents(tmp_path)
    place = RunFolder(tmp_path, "b" * 32)
    with pytest.raises(KeyError), place.claimed("run.log"), place.rewriting() as draft:
        draft.path("leaderboard.csv").parent.mkdir(parents=True)
        draft.path("leaderboard.csv").write_text("new")
        raise KeyError
    assert {name: text for name, text in contents(tmp_path).items() if name != LOCK} == {
        name: text for name, text in before.items() if name != LOCK
    }


def test_files_of_the_same_recipe_stay_and_others_are_written_anew(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> list[bool]:
        place, kept = RunFolder(tmp_path, name * 32), []
        with place.claimed("run.log"), place.rewriting() as draft:
            for file, made_of in (("predictor", {"seed": seed}), ("oof/a.csv", {"of": 1})):
                kept.append(draft.keeps(file, made_of))
                if not kept[-1]:
                    path = draft.path(file, made_of) / ("model" if file == "predictor" else "")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"{name} {seed}")
        return kept

    assert run("a", 1) == [False, False]
    assert run("b", 1) == [True, True]
    assert run("c", 2) == [False, True], "of another recipe"
    assert (tmp_path / "predictor" / "model").read_text() == "c 2"
    assert (tmp_path / "oof" / "a.csv").read_text() == "a 1" and marked(tmp_path).id == "c" * 32
    (tmp_path / "oof" / "a.csv").write_text("edited")
    assert run("d", 2) == [True, False], "somebody has edited it"


def test_the_log_is_added_to_for_the_block_alone_and_levels_are_as_before(tmp_path: Path) -> None:
    package, path = logging.getLogger("stackfeat"), tmp_path / "new" / "run.log"
    before = (package.level, list(package.handlers))
    for name in ("one", "two\nforged"):
        with pytest.raises(KeyError), logging_to(path):
            logging.getLogger("stackfeat.engine").info("fold of %s", name)
            raise KeyError
        assert (package.level, package.handlers) == before
    logging.getLogger("stackfeat.engine").warning("after the block")
    lines = path.read_text().splitlines()
    assert [line.partition(" INFO ")[2] for line in lines[:2]] == ["fold of one", "fold of two"]
    assert lines[2:] == ["    forged"]


def test_a_log_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run.log").mkdir()
    with (
        pytest.raises(
            StoreError, match=r"must be a place that can be written; got .*choose another outputs\.dir"
        ),
        logging_to(tmp_path / "run.log"),
    ):
        pytest.fail("nothing was logged to")
