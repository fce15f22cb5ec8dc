"""A report that was written, read again, and its page made anew: from the files of the run folder.

In:  a run folder, of this machine or received from somebody.
Out: the content of ``report.json``, checked; a new ``report.html``. Where the store is gone, all but the times of
     predictions is there.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackfeat.errors import DataError, StoreError, as_written
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.output.calibrations import CalibrationVerdict
from stackfeat.output.explanation import read_explanation
from stackfeat.output.files import csv_bytes, json_bytes
from stackfeat.output.provenance import read_provenance
from stackfeat.output.report.content import FORMAT, plain_content
from stackfeat.output.report.next_steps import next_steps
from stackfeat.output.report.page import render_page
from stackfeat.output.report.pictures import PICTURES
from stackfeat.output.report.pictures.importance import Importance
from stackfeat.output.report.times import Times, times_of
from stackfeat.output.run_file import FILE as MARK
from stackfeat.output.run_file import RunFile, hash_of, no_run, whole_run
from stackfeat.output.run_folder import RunFolder
from stackfeat.store import Store
from stackfeat.store.disk import read_text_file
from stackfeat.structure import must, parse_json, structured

CONTENT, PAGE, PLACE = "report.json", "report.html", "pictures"
IMPORTANCE = Importance()
REMEDY = "run the config again: what is stored is not computed again"
MOST_CELLS = 5_000_000


@dataclass(frozen=True)
class RemadeReport:
    """A page that was made anew.

    Attributes
    ----------
    path : Path
        Of the page.
    pictures : tuple of str
        Names of the pictures in it.
    missing : mapping of str to str
        What is not in it, and why.
    """

    path: Path
    pictures: tuple[str, ...]
    missing: Mapping[str, str]


def remake_report(folder: Path, store: Path | None = None) -> RemadeReport:
    """Write the page of a finished run anew, with what `explain` has found since.

    Parameters
    ----------
    folder : Path
        The run folder.
    store : Path, optional
        Where the run's store is now, if it was moved; it says how long predictions took.

    Raises
    ------
    UsageError
        If the folder is no finished run's, or of a version that wrote no ``report.json``.
    DataError
        If that was changed, or is damaged.
    """
    with whole_run(folder) as marked:
        content = read_content(folder, marked)
        explained = read_explanation(folder)
        times, missing = _times(folder, store)
    assert marked is not None
    files: dict[str, bytes] = {}
    if explained is not None and explained.is_of_run and not IMPORTANCE.why_not_of(explained):
        numbers = IMPORTANCE.of(explained)
        content["pictures"][IMPORTANCE.name] = plain_content(numbers)
        content["missing"].pop(IMPORTANCE.name, None)
        content["next"] = next_steps(content)
        files[f"{PLACE}/{IMPORTANCE.name}.csv"] = csv_bytes(list(numbers), list(numbers.values()))
        files[CONTENT] = json_bytes(content)
        content = json.loads(files[CONTENT])
    files[PAGE] = render_page(content, times).encode()
    outputs = RunFolder(folder, marked.id)
    with outputs.claimed("run.log"):
        for name, data in files.items():
            outputs.add(name, data)
    missing |= {PICTURES[name].title: why for name, why in content["missing"].items() if name in PICTURES}
    return RemadeReport(
        folder / PAGE, tuple(name for name in PICTURES if name in content["pictures"]), missing
    )


def read_content(folder: Path, marked: RunFile | None) -> dict[str, Any]:
    """Return what ``report.json`` of a run folder holds, as the run wrote it; `marked` is its ``run.json``.

    Raises
    ------
    UsageError
        If there is none.
    DataError
        If somebody changed it, or it is not made so.
    """
    path = folder / CONTENT
    if marked is None or CONTENT not in marked.files:
        raise no_run(folder, f"{MARK} and {CONTENT}", REMEDY)
    if hash_of(path) != marked.files[CONTENT].sha256:
        raise DataError(f"{path} must be as the run wrote it; got no file, or other bytes; {REMEDY}")
    with as_written(str(path), REMEDY):
        content: dict[str, Any] = parse_json(path.read_bytes(), str(path), finite=True)
        structured(_Content, content, str(path))
    return content


@dataclass(frozen=True)
class _Member:
    level: str
    member: str
    score: float
    se: float | None
    fold_mean: float | None
    folds: tuple[float | None, ...]
    holdout: float | None
    holdout_se: float | None
    weight: float | None
    metrics: Mapping[str, float | None]
    is_base: bool
    is_submitted: bool
    learner: str = ""
    options: str = ""
    chosen: str = ""


@dataclass(frozen=True)
class _Column:
    column: str
    type: str
    missing: float | None
    levels: int | None
    training: str
    test: str


@dataclass(frozen=True)
class _Array:
    input: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Data:
    columns: tuple[_Column, ...]
    n_columns: int
    arrays: tuple[_Array, ...]
    left_out: Mapping[str, str]
    has_test: bool


@dataclass(frozen=True)
class _Level:
    level: float
    coverage: float
    se: float
    size: float | None
    parts: tuple[float | None, ...]
    n_rows: int
    unit: str
    guaranteed: bool


@dataclass(frozen=True)
class _Intervals:
    name: str
    size: str
    parts: tuple[str, ...]
    level: float
    is_asked: bool
    text: str
    levels: tuple[_Level, ...]


@dataclass(frozen=True)
class _Content:
    """What a page needs of ``report.json``, so that no value of another kind reaches it."""

    title: str
    version: str
    task: Mapping[str, str]
    metric: Mapping[str, str | bool]
    submitted: str
    score: float
    se: float | None
    interval: tuple[float, float] | None
    headline: str
    why: str
    choice: str
    n_rows: int
    own: Mapping[str, float | int | None]
    gains: Mapping[str, Mapping[str, Any] | None]
    warnings: tuple[str, ...]
    failed: Mapping[str, str]
    left_out: tuple[str, ...]
    counts: Mapping[str, int]
    folds: str
    members: tuple[_Member, ...]
    weights: tuple[Mapping[str, Any], ...]
    gates: tuple[str, ...]
    blocks: Mapping[str, Mapping[str, Any]]
    fold_id: Mapping[str, float]
    pools: tuple[Mapping[str, Any], ...]
    thresholds: Mapping[str, Any]
    worst_rows: Mapping[str, Any]
    data: _Data
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    pictures: Mapping[str, Mapping[str, tuple[str | float | int | bool | None, ...]]]
    missing: Mapping[str, str]
    next: tuple[str, ...]
    format: int
    intervals: _Intervals | None = None
    calibrations: tuple[CalibrationVerdict, ...] = ()

    def __post_init__(self) -> None:
        must(self.format == FORMAT, "format", f"be {FORMAT}", self.format)
        for name, columns in self.pictures.items():
            lengths = {len(column) for column in columns.values()}
            must(len(lengths) == 1, name, "have columns of one length", sorted(lengths))
            must(sum(map(len, columns.values())) <= MOST_CELLS, name, "be small enough to draw", lengths)


def _times(folder: Path, store: Path | None) -> tuple[dict[str, Times], dict[str, str]]:
    """Return how long members took, and what is not known of that."""
    index = read_provenance(folder)
    place = store or folder / index.store
    try:
        if place.is_dir():
            entries = Store(place, "readonly")
            fits = {
                (member, 0, fold): FitInfo.of(entries.read(key))
                for member, listed in index.fits.items()
                for fold, key in listed.items()
            }
            return times_of(fits), {}
        why = f"there is no store {place}"
    except StoreError as error:
        why = str(error)
    rows = csv.DictReader(io.StringIO(read_text_file(folder / "leaderboard.csv").decode()))
    fit = {f"{row['level']}/{row['member']}": Times(float(row["seconds"])) for row in rows}
    return fit, {"times of predictions": why}
