"""New rows unlike the training rows: `run`, its report and `predict` name each column that is off, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from stackfeat.engine.predictor import HASHES, WIRING, write_hashes
from stackfeat.errors import DataWarning
from tests.projects import Project, plain_config

Row = dict[str, str]


def times(row: Row, name: str, factor: float) -> Row:
    return {**row, name: f"{float(row[name]) * factor:g}" if row[name] else ""}


CHANGES: dict[str, tuple[Callable[[Row], Row], str]] = {
    "upper case": (
        lambda row: {**row, "colour": row["colour"].upper()},
        "column 'colour': 40 of 40 cells are not among training's values, such as '[ABC]', '[ABC]', '[ABC]'; they "
        "would be with lower case",
    ),
    "times 1,000": (
        lambda row: times(row, "b", 1000),
        "column 'b': values are about 1,000 times training's",
    ),
    "emptied": (lambda row: {**row, "c": ""}, "column 'c': all 40 cells are empty, [0-9] % in training"),
    "added": (lambda row: {**row, "e": "7"}, "column 'e': training has no such column, so it is not read"),
}


@pytest.mark.parametrize("name", [*CHANGES, "nothing", "all of them"])
def test_predict_names_each_column_that_is_off(
    name: str, plain: Project, recwarn: pytest.WarningsRecorder
) -> None:
    chosen = {"nothing": [], "all of them": [*CHANGES]}.get(name, [name])

    def change(row: Row) -> Row:
        for one in chosen:
            row = CHANGES[one][0](row)
        return row

    path = plain.rewritten(change)
    said = plain.cli("predict", plain.run_folder, path, "-o", plain.folder / "out.csv")
    assert said.code == 0, said.err
    lines = [str(one.message) for one in recwarn if "column '" in str(one.message)]
    assert len(lines) == len(chosen)
    for one in chosen:
        assert [line for line in lines if re.match(f"{re.escape(str(path))}: {CHANGES[one][1]}", line)], lines


@pytest.mark.parametrize("options", [(), ("--isolate",)], ids=["", "isolated"])
def test_what_predict_warns_of_stands_in_its_answer_for_programs(
    options: tuple[str, ...], plain: Project
) -> None:
    change, said = CHANGES["upper case"]
    data = plain.rewritten(change)
    command = ("predict", plain.run_folder, data, "-o", plain.folder / "o.csv", "--json", *options)
    with pytest.warns(DataWarning) if not options else nullcontext():
        found = json.loads(plain.cli(*command).out)
    assert [re.match(f"{re.escape(str(data))}: {said}", text) is not None for text in found["warnings"]] == [
        True
    ]


def test_predict_refuses_a_file_without_a_column_and_names_what_it_may_be_called(plain: Project) -> None:
    path = plain.rewritten(lambda row: {("Colour" if name == "colour" else name): row[name] for name in row})
    said = plain.cli("predict", plain.run_folder, path, "-o", plain.folder / "out.csv")
    assert said.code == 3
    assert "missing here: colour; only here: Colour; rename or add them. Did you mean 'Colour'?" in said.err


def test_a_run_says_at_every_time_which_columns_of_the_test_file_are_off(build: Any) -> None:
    config = plain_config()
    config["data"]["test"] = "new.csv"
    project = build(config=config, n_rows=80)
    path = project.rewritten(lambda row: {**CHANGES["upper case"][0](row), "c": "", "later": "1"})
    project.write(config)
    for _ in range(2):
        said = project.run()
        assert said.code == 0, said.err
        log = (project.run_folder / "run.log").read_text()
        for text in (
            CHANGES["upper case"][1],
            "column 'c': all 40 cells are empty",
            "column 'later': training has no",
        ):
            assert re.search(f"warning: {re.escape(str(path))}: {text}", said.out)
            assert re.search(f"WARNING {re.escape(str(path))}: {text}", log)
        report = (project.run_folder / "report.html").read_text()
        assert "40 of 40 cells are not among training" in report and "all 40 cells are empty" in report


def test_a_predictor_without_a_summary_predicts_and_says_that_nothing_was_compared(
    plain: Project, recwarn: pytest.WarningsRecorder
) -> None:
    folder = plain.run_folder / "predictor"
    path = plain.rewritten(CHANGES["emptied"][0])
    arguments = ("predict", plain.run_folder, path, "-o", plain.folder / "out.csv")
    assert plain.cli(*arguments).code == 0
    expected = (plain.folder / "out.csv").read_bytes()
    described = json.loads((folder / WIRING).read_text())
    assert len(json.dumps(described.pop("summary"))) < 10_000
    entries = list(json.loads((folder / HASHES).read_text())["entries"])
    (folder / WIRING).write_text(json.dumps(described))
    (folder / HASHES).unlink()
    write_hashes(folder, entries)
    recwarn.clear()
    said = plain.cli(*arguments)
    assert said.code == 0, said.err
    assert (plain.folder / "out.csv").read_bytes() == expected
    (text,) = [str(one.message) for one in recwarn if "summary" in str(one.message)]
    assert "columns were not compared with those of training; run the config again with this version" in text
