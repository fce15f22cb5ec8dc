"""The run folder: one run at a time writes it, a kill leaves one run or says so, and files of others stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import UsageError
from stackfeat.output import run_folder as run_folder_module
from stackfeat.output.run_file import find_run_file
from stackfeat.output.run_folder import RunFolder


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
