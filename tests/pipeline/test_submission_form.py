"""The submission looks like the sample: columns, order of rows, ids and labels as they are in the files."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from tests.projects import Build, plain_config

Project = Any


def write(project: Project, rows: list[list[str]], name: str = "sample.csv") -> Project:
    with (project.folder / name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    config = project.config()
    config["data"]["sample_submission"] = name
    return project.write(config)


def ids(n_rows: int = 40) -> list[str]:
    return [f"{600 + i}" for i in range(n_rows)]


def test_class_columns_in_another_order_get_their_own_values(quick: Project) -> None:
    assert quick.run().code == 0
    header, *rows = quick.submission()
    by_class = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    order = ["mid", "high", "low"]
    backwards = ids()[::-1]
    write(quick, [["row_id", *order], *[[i, "0", "0", "0"] for i in backwards]])
    said = quick.run()
    assert said.code == 0, said.err
    header, *rows = quick.submission()
    assert header == ["row_id", *order]
    assert [row[0] for row in rows] == backwards
    assert all(row[1:] == [by_class[row[0]][name] for name in order] for row in rows)


def test_class_columns_with_a_prefix_are_matched(quick: Project) -> None:
    write(quick, [["key", "p_mid", "p_low", "p_high"], *[[i, "0", "0", "1"] for i in ids()]])
    said = quick.run()
    assert said.code == 0, said.err
    assert quick.submission()[0] == ["key", "p_mid", "p_low", "p_high"]


def test_one_column_takes_labels_in_multiclass(quick: Project) -> None:
    write(quick, [["row_id", "answer"], *[[i, "low"] for i in ids()]])
    assert quick.run().code == 0
    header, *rows = quick.submission()
    assert header == ["row_id", "answer"]
    assert {row[1] for row in rows} <= {"low", "mid", "high"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [["row_id", "high", "low", "mid"], *[[i, "0", "0", "0"] for i in ids(39)]],
            "got 39 ids for 40 rows, without 639",
        ),
        (
            [["row_id", "high", "low", "mid"], *[[i, "0", "0", "0"] for i in [*ids(), "999"]]],
            "got 1 that are not, such as 999",
        ),
        (
            [["row_id", "high", "low", "mid"], *[[i, "0", "0", "0"] for i in [*ids(), "600"]]],
            "got 600 more than once",
        ),
        ([["row_id", "high", "low"], *[[i, "0", "0"] for i in ids()]], "a column for each class"),
        (
            [["row_id", "high", "low", "medium"], *[[i, "0", "0", "0"] for i in ids()]],
            "a column for each class",
        ),
        ([["row_id"], *[[i] for i in ids()]], "column"),
    ],
    ids=["missing", "unknown", "twice", "class missing", "class unknown", "ids only"],
)
def test_a_sample_that_does_not_fit_is_refused_before_anything_is_computed(
    rows: list[list[str]], says: str, build: Build, fits: list[str]
) -> None:
    project = write(build(), rows)
    said = project.run()
    assert said.code == 3, said.err
    assert says in said.err and "Traceback" not in said.err
    assert fits == []
    assert not (project.folder / "runs").exists()


def test_a_regression_sample_names_the_column(build: Build) -> None:
    project = write(
        build("regression", plain_config("regression", "rmse")),
        [["row_id", "price"], *[[i, "0"] for i in ids()]],
    )
    said = project.run()
    assert said.code == 0, said.err
    assert project.submission()[0] == ["row_id", "price"]


def with_columns(project: Project, name: str, changes: dict[str, Any]) -> None:
    """Rewrite columns of a csv file: each change is called with (row number, value)."""
    path = project.folder / name
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        row.update({column: change(i, row[column]) for column, change in changes.items() if column in row})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    "make_id",
    [
        lambda i: f"{i:05d}",
        lambda i: str(2**64 + 7 * i),
        lambda i: "NA" if i == 3 else "null" if i == 4 else f"{i}.0",
        lambda i: f'x,"{i}" é',
        lambda i: f"{i}e5",
    ],
    ids=["leading zeros", "huge", "missing tokens", "quotes", "exponents"],
)
def test_ids_are_written_as_they_are_read(make_id: Any, build: Build) -> None:
    project = build(config=plain_config())
    for name in ("train.csv", "test.csv"):
        with_columns(project, name, {"row_id": lambda i, old: make_id(i)})
    said = project.run()
    assert said.code == 0, said.err
    wanted = [make_id(i) for i in range(40)]
    assert [row[0] for row in project.submission()[1:]] == wanted
    with (project.run_folder / "oof" / "base.tree.csv").open(newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [make_id(i) for i in range(160)]
    out = project.folder / "out.csv"
    assert project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", out).code == 0
    assert out.read_bytes() == (project.run_folder / "submission.csv").read_bytes()


def test_rows_without_an_id_column_are_numbered(build: Build) -> None:
    project = build(config=plain_config())
    config = project.config()
    del config["data"]["id"]
    said = project.write(config).run()
    assert said.code == 0, said.err
    header, *rows = project.submission()
    assert header[0] == "id" and [row[0] for row in rows] == [str(i) for i in range(40)]


@pytest.mark.parametrize(
    "labels",
    [("False", "True"), ("0", "1"), ("-1", "1"), ("007", "042"), ("no", "ja, doch"), ("1.5", "2.5")],
    ids=["bool", "int", "negative", "digits as text", "text", "float"],
)
def test_labels_are_written_as_in_the_file(labels: tuple[str, str], build: Build) -> None:
    project = build("binary", plain_config("binary", "accuracy"))
    names = {"no": labels[0], "yes": labels[1]}
    with_columns(project, "train.csv", {"label": lambda i, old: names[old]})
    said = project.run()
    assert said.code == 0, said.err
    assert {row[1] for row in project.submission()[1:]} == set(labels)
    header = (project.run_folder / "oof" / "base.tree.csv").read_text().splitlines()[0]
    assert all(label.split(",")[0] in header for label in labels)
    assert (
        project.cli(
            "predict", project.run_folder, project.folder / "test.csv", "-o", project.folder / "o.csv"
        ).code
        == 0
    )
    assert (project.folder / "o.csv").read_bytes() == (project.run_folder / "submission.csv").read_bytes()
