"""What `explain` measured: written, read again, shown by the report's picture of columns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

import stackfeat as sf
from stackfeat.errors import StructureError
from stackfeat.output.explanation import Explanation, read_explanation
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.importance import Importance
from stackfeat.output.run_file import find_run_file
from stackfeat.store.disk import hash_file

Project = Any


@pytest.fixture(scope="module")
def found(plain_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    project = plain_run.copy(tmp_path_factory.mktemp("explained") / "plain")
    explanation = sf.explain(project.run_folder, repeats=2)
    assert isinstance(explanation, Explanation)
    return explanation


def test_a_row_of_the_csv_says_what_it_is_of(found: Explanation) -> None:
    rows = found.rows()
    assert {row[0] for row in rows} == {"column", "member", "block"}
    assert [row[1] for row in rows if row[0] == "column"] == [one.name for one in found.columns]


def test_the_picture_of_columns_shows_them_with_their_errors(found: Explanation) -> None:
    from matplotlib.figure import Figure

    evidence = Evidence(cast(Any, None), cast(Any, None), cast(Any, None), found)
    picture, plain = Importance(), Evidence(cast(Any, None), cast(Any, None), cast(Any, None))
    assert picture.why_not(evidence) == "" and "stackfeat explain RUN" in picture.why_not(plain)
    numbers = picture.numbers(evidence)
    assert set(numbers["what"]) == {"column", "member"}
    columns = [name for what, name in zip(numbers["what"], numbers["name"], strict=True) if what == "column"]
    assert columns == [one.name for one in found.columns]
    assert numbers["se"] == [one.se for one in (*found.columns, *found.members)]
    figure = Figure()
    picture.draw(numbers, figure)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == columns
    unsure = replace(found, columns=(), members=tuple(replace(one, se=None) for one in found.members))
    assert "no importance has a standard error" in picture.why_not(replace(evidence, explained=unsure))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 99}, "explain.json.* must be of format 1.* explain` again"),
        ({"columns": "none"}, "explain.json.*columns"),
        ({"more": 1}, "explain.json.*more"),
    ],
)
def test_a_file_of_another_make_is_refused(plain: Project, change: dict[str, Any], text: str) -> None:
    sf.explain(plain.run_folder, repeats=1)
    path = plain.run_folder / "explain.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    listed = find_run_file(plain.run_folder)
    assert listed is not None
    files = {**listed.files, "explain.json": type(listed.files["explain.json"])(hash_file(path))}
    (plain.run_folder / "run.json").write_bytes(type(listed)(**{**vars(listed), "files": files}).sealed())
    with pytest.raises(StructureError, match=text):
        read_explanation(plain.run_folder)
