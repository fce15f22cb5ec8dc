"""A run in a line: read from a run folder whatever is in it, and found below a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stackfeat.output.run_notes import add_note
from stackfeat.output.run_summary import find_runs, summarise

Project = Any


def test_a_whole_run_tells_all(plain: Project) -> None:
    folder = plain.run_folder
    add_note(folder, lb=0.5, text="mine")
    found, scores = summarise(folder), plain.scores()
    assert found.problem == "" and found.name == "run"
    assert (found.metric, found.greater_is_better, found.submitted) == (
        "log_loss",
        False,
        scores["submitted"],
    )
    assert (found.score, found.se) == (scores["auto"]["score"], scores["auto"]["se"])
    assert found.members == tuple(scores["members"]) and found.choices == scores["auto"]["choices"]
    lines = (folder / "leaderboard.csv").read_text().splitlines()[1:]
    assert found.seconds == pytest.approx(sum(float(line.split(",")[-2]) for line in lines))
    assert (found.public, found.private, found.text) == (0.5, None, "mine")
    assert found.config["levels"]["base"]["tree"]["params"] == {"max_depth": 3}
    last = (folder / "run.log").read_text().splitlines()[-1]
    assert found.date.isoformat(" ", "milliseconds") == last[:23].replace(",", ".")


def test_a_named_member_has_its_own_score(plain: Project) -> None:
    assert plain.run("--set", "submit=base/tree").code == 0
    found, scores = summarise(plain.run_folder), plain.scores()
    assert scores["auto"] is None and found.choices == {}
    assert found.score == scores["members"]["base/tree"]["score"]


def test_the_date_survives_a_copy_and_without_a_log_it_is_that_of_the_mark(plain: Project) -> None:
    dated = summarise(plain.run_folder).date
    os.utime(plain.run_folder / "run.json", (10**9, 10**9))
    assert summarise(plain.run_folder).date == dated
    (plain.run_folder / "run.log").unlink()
    assert summarise(plain.run_folder).date.year == 2001


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "scores.json", "leaderboard.csv", "notes.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"{",
        b"[]",
        b"null",
        b'{"members": 3}',
        b"a,b\n1,2\n",
        b'{"auto": 1, "members": {}, "submitted": 1}',
    ],
)
def test_whatever_a_file_holds_the_run_is_listed(name: str, content: bytes, plain: Project) -> None:
    (plain.run_folder / name).write_bytes(content)
    found = summarise(plain.run_folder)
    assert found.folder == plain.run_folder and found.date.year > 2000
    if (name, content) not in {("config.yaml", b"[]"), ("leaderboard.csv", b""), ("leaderboard.csv", b"[]")}:
        is_quiet = name == "leaderboard.csv" and b"\n" not in content
        assert found.problem or is_quiet or name == "config.yaml"


def test_numbers_that_are_none_and_names_that_are_no_text_are_left_out(plain: Project) -> None:
    path = plain.run_folder / "scores.json"
    scores = json.loads(path.read_text())
    path.write_text(json.dumps({**scores, "auto": {"score": float("nan"), "se": True, "choices": {}}}))
    found = summarise(plain.run_folder)
    assert found.score is None and found.se is None
    path.write_text(json.dumps({**scores, "metric": {"a": 1}}))
    found = summarise(plain.run_folder)
    assert found.metric == "" and "must name members and metric by texts" in found.problem


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(plain: Project) -> None:
    for name in ("run.log", "leaderboard.csv"):
        (plain.run_folder / name).unlink()
        os.mkfifo(plain.run_folder / name)
    assert "regular file" in summarise(plain.run_folder).problem


def test_a_run_that_is_being_written_says_so(plain: Project) -> None:
    from dataclasses import replace

    from stackfeat.output.run_file import find_run_file

    found = find_run_file(plain.run_folder)
    assert found is not None
    (plain.run_folder / "run.json").write_bytes(replace(found, state="writing").sealed())
    assert "says state=writing" in summarise(plain.run_folder).problem


def test_runs_are_found_in_order_not_behind_links_and_not_without_end(tmp_path: Path) -> None:
    for name in ("b/run2", "a/deep/er/run1", ".hidden/run3", "b/run2/inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    if os.name == "posix":
        (tmp_path / "c").symlink_to(tmp_path / "b")
        (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert list(find_runs(tmp_path, 8, 1000)) == [tmp_path / "a/deep/er/run1", tmp_path / "b/run2"]
    assert list(find_runs(tmp_path, 2, 1000)) == [tmp_path / "b/run2"]
    assert list(find_runs(tmp_path, 8, 3)) == []
    assert list(find_runs(tmp_path / "b" / "run2", 8, 1000)) == [tmp_path / "b/run2"]
