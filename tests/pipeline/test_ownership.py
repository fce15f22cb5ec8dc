"""A run folder is a run's alone: files of the user's own stay, and results are of one run or said to be half."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stackfeat.config.scaffold import Wishes
from stackfeat.errors import UsageError
from stackfeat.output.run_file import FILES, find_run_file
from stackfeat.output.run_folder import LOCK, RunFolder
from stackfeat.pipeline.fit import config_of_files

Project = Any
ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links as where they lead to."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_run_json_lists_every_file_with_its_hash(plain: Project) -> None:
    mark = json.loads((plain.run_folder / "run.json").read_text())
    assert mark["state"] == "whole" and len(mark["id"]) == 32 and mark["version"]
    there = set(contents(plain.run_folder)) - {"run.json", "run.log", "events.jsonl", LOCK}
    assert set(mark["files"]) == there
    assert all(sha256(plain.run_folder / name) == file["sha256"] for name, file in mark["files"].items())


@pytest.mark.parametrize(
    "mine",
    [
        *sorted(FILES),
        "oof/mine.csv",
        "test/images/cat.png",
        "holdout/x",
        "predictor/model.bin",
        "run.json",
        LOCK,
    ],
)
def test_a_folder_of_the_users_own_is_refused_before_anything_is_computed(
    mine: str, plain: Project, fits: list[str]
) -> None:
    path = plain.folder / "mine" / mine
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    (plain.folder / "mine" / "notes.txt").write_text("also precious")
    before = contents(plain.folder / "mine")
    said = plain.run("--set", "outputs.dir=mine", "--set", "seed=3")
    assert said.code == 2, said.err
    assert mine.split("/")[0] in said.err and "choose another outputs.dir" in said.err
    assert contents(plain.folder / "mine") == before
    assert fits == []
    said = plain.cli("check", plain.folder / "c.yaml", "--set", "outputs.dir=mine")
    assert said.code == 2 and mine.split("/")[0] in said.err


@pytest.mark.parametrize("name", ["oof", "predictor", "submission.csv", "run.log", "run.json", LOCK])
def test_links_under_our_names_are_refused_and_what_they_lead_to_stays(name: str, plain: Project) -> None:
    precious = plain.folder / "precious"
    precious.mkdir()
    (precious / "a.csv").write_text("precious")
    folder = plain.folder / "mine"
    folder.mkdir()
    (folder / name).symlink_to(precious if "." not in name else precious / "a.csv")
    assert plain.run("--set", "outputs.dir=mine").code == 2
    assert contents(precious) == {"a.csv": b"precious"}
    assert (folder / name).is_symlink()


def test_a_link_put_among_our_files_later_is_refused(plain: Project) -> None:
    precious = plain.folder / "precious"
    (plain.run_folder / "oof").rename(precious)
    (plain.run_folder / "oof").symlink_to(precious)
    before = contents(precious)
    said = plain.run("--set", "seed=3")
    assert said.code == 2 and "oof" in said.err
    assert contents(precious) == before


def test_other_files_in_a_run_folder_stay(plain: Project) -> None:
    for name in ("notes.txt", "analysis.ipynb", "plots/a.png", "test_ideas/x.csv", "oof/.DS_Store"):
        path = plain.run_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    config = plain.config()
    del config["levels"]["base"]["linear"]
    assert plain.write(config).run().code == 0
    assert not (plain.run_folder / "oof" / "base.linear.csv").exists()
    for name in ("notes.txt", "analysis.ipynb", "plots/a.png", "test_ideas/x.csv", "oof/.DS_Store"):
        assert (plain.run_folder / name).read_text() == name


def test_a_file_of_ones_own_put_into_oof_later_is_refused(plain: Project) -> None:
    before = contents(plain.run_folder)
    (plain.run_folder / "oof" / "mine.csv").write_text("precious")
    said = plain.run("--set", "seed=3")
    assert said.code == 2 and "oof/mine.csv" in said.err
    assert contents(plain.run_folder) == {**before, "oof/mine.csv": b"precious"}


def test_an_edited_file_is_set_aside_and_not_lost(plain: Project) -> None:
    before = plain.outputs()
    (plain.run_folder / "submission.csv").write_text("my own rounding")
    (plain.run_folder / "oof" / "base.tree.csv").write_text("my own rows")
    said = plain.run()
    assert said.code == 0
    assert "submission.csv was changed after a run had written it" in said.out
    assert plain.outputs() == before
    kept = {path.name: path.read_text() for path in (plain.run_folder / "edited").rglob("*.csv")}
    assert kept == {"submission.csv": "my own rounding", "base.tree.csv": "my own rows"}
    assert plain.run().code == 0


def test_an_edited_file_of_a_member_that_is_gone_is_set_aside_too(plain: Project) -> None:
    (plain.run_folder / "oof" / "base.linear.csv").write_text("my own rows")
    config = plain.config()
    del config["levels"]["base"]["linear"]
    assert plain.write(config).run().code == 0
    assert [path.read_text() for path in (plain.run_folder / "edited").rglob("*.csv")] == ["my own rows"]


@pytest.mark.parametrize("how", ["flipped", "cut", "foreign", "outside"])
def test_nothing_is_deleted_on_the_word_of_a_damaged_mark(how: str, plain: Project) -> None:
    mark = plain.run_folder / "run.json"
    (plain.folder / "precious.csv").write_text("precious")
    data = mark.read_bytes()
    if how == "flipped":
        mark.write_bytes(data.replace(b"oof/base.tree.csv", b"oof/base.trea.csv"))
    elif how == "cut":
        mark.write_bytes(data[: len(data) // 2])
    elif how == "foreign":
        mark.write_text('{"name": "another tool"}')
    else:
        from stackfeat.store.manifest import seal

        value = json.loads(data)
        del value["sha256"]
        value["files"]["oof/../../../precious.csv"] = {"sha256": "0" * 64, "made_of": ""}
        mark.write_bytes(seal(value))
    before = contents(plain.folder)
    said = plain.run("--set", "seed=3")
    assert said.code == 2 and "choose another outputs.dir" in said.err, said.err
    kept = contents(plain.folder)
    assert {name: kept[name] for name in before if not name.startswith(".stackfeat")} == {
        name: data for name, data in before.items() if not name.startswith(".stackfeat")
    }
    assert (
        plain.cli("predict", plain.run_folder, plain.folder / "test.csv", "-o", plain.folder / "p.csv").code
        == 3
    )


def test_a_folder_of_an_earlier_version_is_refused_with_the_reason(plain: Project) -> None:
    (plain.run_folder / "run.json").rename(plain.run_folder / ".written.json")
    before = contents(plain.run_folder)
    said = plain.run()
    assert said.code == 2 and "an earlier version" in said.err
    assert contents(plain.run_folder) == before


HOLDER = """
import sys
from pathlib import Path
from stackfeat.output.run_folder import RunFolder
with RunFolder(Path(sys.argv[1]), "f" * 32).claimed("run.log"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_on_one_folder_is_refused_while_the_first_lives(plain: Project) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(plain.run_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        before = contents(plain.run_folder)
        said = plain.run("--set", "seed=3")
        assert said.code == 2 and f"process {holder.pid} on" in said.err
        assert plain.cli("audit", plain.run_folder, "--no-null").code == 2
        assert contents(plain.run_folder) == before
        said = plain.cli("predict", plain.run_folder, plain.folder / "test.csv", "-o", plain.folder / "p.csv")
        assert said.code == 0, "the older result is whole until the new one is written"
    finally:
        holder.kill()
        holder.communicate()
    assert plain.run("--set", "seed=3").code == 0, "a lock of a dead run blocks nobody"
    assert not list(plain.run_folder.glob(".writing-*"))


def test_half_written_results_are_read_by_nobody(plain: Project) -> None:
    place = RunFolder(plain.run_folder, "d" * 32)
    with place.claimed("run.log"):
        found = find_run_file(plain.run_folder)
        assert found is not None
        from dataclasses import replace

        place._save(replace(found, state="writing"))
    for command in (
        ("predict", plain.run_folder, plain.folder / "test.csv", "-o", plain.folder / "p.csv"),
        ("audit", plain.run_folder, "--no-null"),
    ):
        said = plain.cli(*command)
        assert said.code == 2 and "run its config again" in said.err
    assert plain.run().code == 0
    assert plain.cli("audit", plain.run_folder, "--no-null").code == 0


def test_a_run_that_fails_leaves_the_older_result_whole(plain: Project) -> None:
    before = plain.outputs()
    config = plain.config()
    config["levels"] = {
        "base": {
            "bad": {"estimator": "sklearn.neighbors.KNeighborsClassifier", "params": {"n_neighbors": 10**6}}
        }
    }
    assert plain.write(config).run().code != 0
    assert plain.outputs() == before
    mark = find_run_file(plain.run_folder)
    assert mark is not None and mark.state == "whole"


def test_an_audit_goes_with_the_results_that_it_was_of(plain: Project) -> None:
    assert plain.cli("audit", plain.run_folder, "--no-null").code == 0
    assert plain.run().code == 0
    assert (plain.run_folder / "audit.json").exists(), "the same results"
    config = plain.config()
    config["levels"]["base"]["linear"]["params"] = {"C": 0.5}
    assert plain.write(config).run().code == 0
    assert not (plain.run_folder / "audit.json").exists()


def test_predict_does_not_replace_what_it_reads(plain: Project) -> None:
    data = plain.folder / "test.csv"
    before = contents(plain.folder)
    for output in (
        data,
        plain.run_folder / "submission.csv",
        plain.run_folder / "predictor" / "x.csv",
        plain.folder,
    ):
        said = plain.cli("predict", plain.run_folder, data, "-o", output)
        assert said.code == 2 and "--output must be a file of its own" in said.err
    assert contents(plain.folder) == before


def test_predict_replaces_no_device_pipe_or_link(
    plain: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("places")
    pipe, link, file = folder / "pipe", folder / "link", folder / "p.csv"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for output in (pipe, link):
        said = plain.cli("predict", plain.run_folder, plain.folder / "test.csv", "-o", output)
        assert said.code == 2 and "a device or pipe; name another" in said.err
    assert pipe.is_fifo() and link.is_symlink()
    link.unlink()
    link.symlink_to(file)
    assert plain.cli("predict", plain.run_folder, plain.folder / "test.csv", "-o", link).code == 0
    assert link.is_symlink() and file.is_file()


def test_a_run_does_not_replace_the_results_of_another_config(plain: Project) -> None:
    before = contents(plain.run_folder)
    other = plain.folder / "other.yaml"
    other.write_text((plain.folder / "c.yaml").read_text())
    for command in ("run", "check"):
        said = plain.cli(command, other)
        assert said.code == 2
        assert re.search(
            r"with results of \S*c\.yaml, for \S*other\.yaml; give it a name of its own", said.err
        )
    assert contents(plain.run_folder) == before
    assert plain.cli("run", other, "--set", "name=other").code == 0
    assert plain.run().code == 0, "its own results it replaces"
    (plain.folder / "c.yaml").rename(plain.folder / "renamed.yaml")
    assert plain.cli("run", plain.folder / "renamed.yaml").code == 0, "nothing is left that they are of"
    assert plain.cli("run", other).code == 2


def test_a_run_that_was_killed_leaves_word_of_its_config(plain: Project) -> None:
    shutil.rmtree(plain.run_folder)
    with RunFolder(plain.run_folder, "a" * 32, plain.folder / "c.yaml").claimed("run.log"):
        pass
    with pytest.raises(UsageError, match=r"with results of \S*c\.yaml, for \S*train\.csv"):
        RunFolder(plain.run_folder, "b" * 32, plain.folder / "train.csv").listed()


def test_training_files_of_one_name_have_folders_of_their_own(
    plain: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(plain.folder / "train.csv", tmp_path / name / "pets.csv")
        found, _ = config_of_files(Path(name, "pets.csv"), "label", None, None, Wishes(), tmp_path)
        loaded.append(found)
    assert loaded[0].config.run_dir == loaded[1].config.run_dir == "runs/pets"
    with RunFolder(tmp_path / "runs" / "pets", "a" * 32, loaded[0].origin).claimed("run.log"):
        pass
    with pytest.raises(UsageError, match=r"with results of \S*one/pets\.csv, for \S*two/pets\.csv"):
        RunFolder(tmp_path / "runs" / "pets", "b" * 32, loaded[1].origin).listed()
