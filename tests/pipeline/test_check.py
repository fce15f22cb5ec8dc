"""check: what a look at the first rows tells, the plan, and with --deep what the nets give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackfeat.config import config_from_dict
from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.data.schema import examine as look
from stackfeat.pipeline.file_checks import check_files
from tests.pipeline.test_mistakes import Files, at

MLP = ("levels", "base", "mlp")


def test_deep_builds_the_nets_and_says_what_they_pass_on(tmp_path: Path) -> None:
    files = Files()
    at(*MLP, "emit", value=["proba", "blocks.*"])(files)
    project = files.write(tmp_path)
    shallow = project.cli("check", tmp_path / "c.yaml")
    assert shallow.code == 0 and "blocks.*@geometry" in shallow.out and "built" not in shallow.out
    deep = project.cli("check", tmp_path / "c.yaml", "--deep")
    assert deep.code == 0, deep.err
    assert re.search(r"built and run on 64 rows at most: proba 2, blocks\.", deep.out), deep.out
    assert "blocks.0@geometry" in deep.out and "blocks.*" not in deep.out
    assert not (tmp_path / ".stackfeat").exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("averaging", "n_jobs", "says"),
    [
        ("late", 13, "above the first level one on all rows"),
        ("refit", 16, r"one on all rows too \(averaging: refit\)"),
    ],
)
def test_fits_on_all_rows_are_counted_and_said(
    averaging: str, n_jobs: int, says: str, tmp_path: Path
) -> None:
    project = Files().write(tmp_path)
    said = project.cli("check", tmp_path / "c.yaml", "--set", f"stack.averaging={averaging}")
    assert said.code == 0 and re.search(says, said.out)
    assert f"{n_jobs} jobs to compute" in said.out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("emit", ["proba", "blocks.7"], r"levels\.base\.mlp\.emit: .*blocks.7"),
        ("emit", ["proba", {"tap": "nope.*", "last": 1, "name": "a"}], r"levels\.base\.mlp\.emit: .*nope"),
        ("params", {"hidden": [8], "activation": "selu", "embedding": 0}, r"levels\.base\.mlp\.params"),
    ],
)
def test_deep_names_what_cannot_be_read_or_built(
    option: str, value: object, says: str, tmp_path: Path
) -> None:
    files = Files()
    at(*MLP, option, value=value)(files)
    said = files.write(tmp_path).cli("check", tmp_path / "c.yaml", "--deep")
    assert said.code == 2, said.out
    assert re.search(says, said.err) and "bug" not in said.err, said.err


def test_of_a_large_file_the_first_rows_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MOST_BYTES", 400)
    cells = ["a, long\ntext", *["b"] * 79]
    labels = ["no"] * 40 + ["yes"] * 40
    lines = [
        f'{i},"{cell}",{i % 5},{label}' for i, (cell, label) in enumerate(zip(cells, labels, strict=True))
    ]
    (tmp_path / "t.csv").write_text("id,s,x,y\n" + "\n".join(lines) + "\n")
    options = DataOptions(train="t.csv", target="y", id="id")
    found = look.examine(options, FoldOptions(), tmp_path, "binary", "log_loss")
    # Sorted by class: what the first rows lack the others may have.
    assert found.is_part and found.problems == [], found.problems
    assert found.notes[0].startswith("the first ") and "training rows" in found.notes[0]
    (tmp_path / "t.csv").write_text("id,s,x,y\n" + "\n".join(["1,b,2,no", *lines]) + "\n")
    ((place, text),) = look.examine(options, FoldOptions(), tmp_path, "binary", "log_loss").problems
    assert place == "data.id" and "must be unique; got '1' more than once" in text


@pytest.mark.parametrize(
    ("most_bytes", "said"), [(400, "left out, if all rows are like these: c"), (9_000, "")]
)
def test_what_is_constant_in_the_first_rows_may_be_read_all_the_same(
    most_bytes: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MOST_BYTES", most_bytes)
    lines = [f"{i},{'no' if i % 2 else 'yes'},{int(i == 99)}" for i in range(100)]
    (tmp_path / "t.csv").write_text("x,y,c\n" + "\n".join(lines) + "\n")
    options = DataOptions(train="t.csv", target="y")
    found = look.examine(options, FoldOptions(), tmp_path, "binary", "log_loss")
    (left_out,) = [str(guess) for guess in found.guesses if "left out" in str(guess)] or [""]
    assert left_out.startswith(said) and bool(left_out) == bool(said)


def test_paths_in_messages_are_those_of_the_config(tmp_path: Path) -> None:
    files = Files()
    files.train["label"][4] = "maybe"
    files.write(tmp_path)
    (problem,) = check_files(config_from_dict(files.config, tmp_path)).problems
    assert problem.where == "data.target" and problem.message.startswith("train.csv: column 'label'")
