"""Tables of the page: captions, headings and cells, each with what it is sorted by.

In:  the content of a report.
Out: `Table` values, which the template writes; numbers have the digits that their standard errors allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stackfeat.data.schema.summary import percent
from stackfeat.output.digits import places_of, significant, to_error, with_error
from stackfeat.output.report.pictures.thresholds import SCORES, threshold_rows
from stackfeat.output.report.times import Times

N_TOP = 10
STRIP_WIDTH = 120
_LEAST_WEIGHT = 0.0005
_MOST_PARTS = 10


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it is sorted by, and for fold strips where the dots are and what they say."""

    text: str
    sort: str = ""
    dots: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Row:
    """A row: its cells, and whether it stands out: ``chosen`` or ``past`` a limit."""

    cells: Sequence[Cell]
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table. `kinds` of columns: ``text``, ``name``, ``words`` (longer), ``number`` or ``strip``."""

    caption: str
    headings: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[Row]
    is_sortable: bool = False


def top_table(content: Mapping[str, Any]) -> Table:
    """Return the best members."""
    members = content["members"][:N_TOP]
    caption = f"The best {len(members)} of {len(content['members'])} members"
    held = ["holdout"] if content["counts"]["held_out"] else []
    rows = [
        Row(
            [
                Cell(_name(one)),
                _number(one["score"], one["se"]),
                _error(one["se"]),
                *([_number(one["holdout"], one["holdout_se"])] if held else []),
            ],
            "chosen" if one["is_submitted"] else "",
        )
        for one in members
    ]
    headings = ["member", content["metric"]["name"], "± se", *held]
    return Table(caption, headings, ["name"] + ["number"] * (len(headings) - 1), rows)


def leaderboard_table(content: Mapping[str, Any], times: Mapping[str, Times]) -> Table:
    """Return all members with everything that is known of them."""
    members = content["members"]
    low, high = _strip_range(members)
    is_weighed = any(one["weight"] is not None for one in members)
    is_timed = any(time.row is not None for time in times.values())
    held = ["holdout", "± holdout"] if content["counts"]["held_out"] else []
    others = list(members[0]["metrics"]) if members else []
    headings = [
        *("level", "member", content["metric"]["name"], "± se", "fold mean"),
        *held,
        *("folds", *others, *(["weight"] if is_weighed else []), "fit s"),
        *(["predict µs/row"] if is_timed else []),
    ]
    rows = []
    for one in members:
        time = times.get(_full_name(one))
        per_row = None if time is None or time.row is None else time.row * 1e6
        held_cells = [_number(one["holdout"], one["holdout_se"]), _error(one["holdout_se"])] if held else []
        rows.append(
            Row(
                [
                    Cell(one["level"]),
                    Cell(f"{one['member']} (submitted)" if one["is_submitted"] else one["member"]),
                    _number(one["score"], one["se"]),
                    _error(one["se"]),
                    _number(one["fold_mean"], one["se"]),
                    *held_cells,
                    _strip(one, low, high),
                    *(_padded(one["metrics"][name], 4) for name in others),
                    *([_weight(one["weight"])] if is_weighed else []),
                    _padded(None if time is None else time.fit, 3),
                    *([_padded(per_row, 3)] if is_timed else []),
                ],
                "chosen" if one["is_submitted"] else "",
            )
        )
    kinds = [
        "text",
        "name",
        *["number"] * (3 + len(held)),
        "strip",
        *["number"] * (len(others) + is_weighed + 1 + is_timed),
    ]
    places = places_of(members[0]["se"]) if members else None
    ends = [significant(end, 4) if places is None else f"{end:.{places}f}" for end in (low, high)]
    caption = (
        f"All members on the same {content['counts']['scored']:,} rows, best first; strips go from "
        f"{ends[0]} to {ends[1]}, dots beyond stand at their ends"
    )
    return Table(caption, headings, kinds, rows, is_sortable=True)


def members_table(content: Mapping[str, Any]) -> Table:
    """Return what members are: their learners, options, and what their fits found."""
    keys = {"learner": "learner", "options": "options that are not defaults"}
    if any(one.get("chosen") for one in content["members"]):
        keys["chosen"] = "found by the fits of the folds"
    rows = [
        Row(
            [Cell(_full_name(one)), *(Cell(one.get(key) or "") for key in keys)],
            "chosen" if one["is_submitted"] else "",
        )
        for one in content["members"]
    ]
    kinds = ["name", "text", *["words"] * (len(keys) - 1)]
    return Table("What members are", ["member", *keys.values()], kinds, rows)


def weights_table(found: Mapping[str, Any]) -> Table:
    """Return the weights of one vote."""
    blocks = [one for one in found["blocks"] if max(one["weight"], one["held_out"] or 0.0) >= _LEAST_WEIGHT]
    has_held = any(one["held_out"] is not None for one in blocks)
    rows = [
        Row(
            [
                Cell(one["block"]),
                Cell(f"{one['weight']:.3f}", repr(one["weight"])),
                Cell("" if one["se"] is None else f"± {one['se']:.3f}"),
                *([Cell(_held_weight(one))] if has_held else []),
            ],
            "past" if one["is_flattered"] else "",
        )
        for one in blocks
    ]
    held = ["on held-out rows"] if has_held else []
    n_none = len(found["blocks"]) - len(blocks)
    rest = f"; {n_none} more have none" if n_none else ""
    headings = ["input", "weight", "± se", *held]
    return Table(
        f"Weights of {found['member']}{rest}", headings, ["name", *["number"] * (len(headings) - 1)], rows
    )


def _held_weight(one: Mapping[str, Any]) -> str:
    if one["held_out"] is None:
        return ""
    error = "" if one["held_out_se"] is None else f" ± {one['held_out_se']:.3f}"
    return f"{one['held_out']:.3f}{error}"


def intervals_table(found: Mapping[str, Any]) -> Table:
    """Return what intervals of several levels hold, all rows and each part of them."""
    parts = found["parts"]
    shown = parts if len(parts) <= _MOST_PARTS else ["lowest class", "highest class"]
    rows = []
    for one in found["levels"]:
        known = [share for share in one["parts"] if share is not None]
        shares = one["parts"] if len(parts) <= _MOST_PARTS else [min(known), max(known)]
        rows.append(
            Row(
                [
                    Cell(f"{100 * one['level']:g} %", _sort(one["level"])),
                    _share(one["coverage"]),
                    Cell(f"± {100 * one['se']:.1f}", _sort(one["se"])),
                    _plain(one["size"], 4),
                    *map(_share, shares),
                ],
                "chosen" if one["level"] == found["level"] else "",
            )
        )
    of_groups = ", on average over groups" if found["levels"][0]["unit"] == "groups" else ""
    caption = (
        f"Share of targets that {found['name']} hold out of fold{of_groups}, of all rows and of parts of them"
    )
    headings = ["asked", "held", "± se", found["size"], *shown]
    return Table(caption, headings, ["number"] * len(headings), rows)


def _share(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{100 * value:.1f} %", _sort(value))


def blocks_table(content: Mapping[str, Any]) -> Table:
    """Return what was measured of feature blocks."""
    headings = [
        "block",
        "fold guessed",
        "OOF or test",
        "cosine, anchors",
        "cosine, others",
        "anchors",
        "random CV gain",
        "in words",
    ]
    rows = []
    for name, found in content["blocks"].items():
        measured = [found.get(key) for key in ("fold_id", "auc", "anchor_cosine", "held_out_cosine")]
        gain, error, n_anchors = (found.get(key) for key in ("random_cv_gain", "random_cv_se", "n_anchors"))
        rows.append(
            Row(
                [
                    Cell(name),
                    *(Cell("–" if value is None else f"{value:.2f}", _sort(value)) for value in measured),
                    Cell("–" if n_anchors is None else f"{n_anchors} for {found['width']} columns"),
                    Cell("–" if gain is None else f"{gain:+.3f} ± {error:.3f}", _sort(gain)),
                    Cell("; ".join(found["warnings"]) or "comparable"),
                ],
                "past" if found["warnings"] else "",
            )
        )
    caption = (
        "Are columns of fold models, and of out-of-fold and test rows, comparable? Meta-learners need both"
    )
    return Table(caption, headings, ["name", *["number"] * 4, "text", "number", "words"], rows)


def pool_table(pool: Mapping[str, Any]) -> Table:
    """Return the files of somebody else's predictions."""
    rows = [
        Row(
            [
                Cell(one["member"]),
                Cell(one["verdict"]),
                Cell("yes" if one["is_used"] else "no"),
                _plain(one["score"], 5),
                Cell(str(one["n_files"]), str(one["n_files"])),
                Cell(one["folds"]),
                Cell("; ".join(one["reasons"])),
            ],
            "" if one["verdict"] == "ok" else "past",
        )
        for one in pool["files"]
    ]
    twins = "; those of one row say nearly the same, and their mean takes part" if pool["has_twins"] else ""
    headings = ["member", "verdict", "used", "score", "files", "folds", "reasons"]
    kinds = ["name", "text", "text", "number", "number", "text", "words"]
    return Table(f"{pool['n_files']} files{twins}", headings, kinds, rows, is_sortable=True)


def columns_table(data: Mapping[str, Any]) -> Table:
    """Return the columns that are read."""
    rows = [
        Row(
            [
                Cell(one["column"]),
                Cell(one["type"]),
                Cell("" if one["missing"] is None else percent(one["missing"]), _sort(one["missing"])),
                Cell("" if one["levels"] is None else str(one["levels"]), _sort(one["levels"])),
                Cell(one["training"]),
                *([Cell(one["test"] or "alike")] if data["has_test"] else []),
            ],
            "past" if one["test"] else "",
        )
        for one in data["columns"]
    ]
    n_more = data["n_columns"] - len(rows)
    caption = f"{data['n_columns']} columns that are read" + (f"; the first {len(rows)}" if n_more else "")
    test = ["test rows"] if data["has_test"] else []
    kinds = ["name", "text", "number", "number", "words", *["words"] * len(test)]
    return Table(
        caption,
        ["column", "type", "missing", "levels", "training rows", *test],
        kinds,
        rows,
        is_sortable=True,
    )


def left_out_table(data: Mapping[str, Any]) -> Table:
    """Return the columns that are not read."""
    rows = [Row([Cell(name), Cell(why)]) for name, why in data["left_out"].items()]
    return Table("Columns that are left out", ["column", "why"], ["name", "words"], rows)


def worst_table(content: Mapping[str, Any]) -> Table:
    """Return the rows that are predicted worst."""
    names, listed = content["worst_rows"]["columns"], content["worst_rows"]["rows"]
    written = [_whole if all(map(_is_whole, column)) else _value for column in zip(*listed, strict=True)]
    rows = [Row([write(value) for write, value in zip(written, values, strict=True)]) for values in listed]
    kinds = [
        "number" if all(isinstance(one, int | float) for one in column) else "text"
        for column in zip(*listed, strict=True)
    ]
    caption = "Rows with the greatest loss out of fold: wrong labels and rare cases are found here"
    return Table(caption, names, kinds, rows, is_sortable=True)


def thresholds_table(content: Mapping[str, Any]) -> Table:
    """Return the rules by which predictions become labels."""
    found = content["thresholds"]
    n = max(map(len, found["rules"].values()))
    names = found["names"] if len(found["names"]) == n else [f"cut {number + 1}" for number in range(n)]
    rows = [
        Row([Cell(place), *(_plain(value, 4) for value in numbers), *[Cell("")] * (n - len(numbers))])
        for place, numbers in found["rules"].items()
    ]
    said = {
        "threshold": "A row is called positive above this probability",
        "offsets": "What is added to the log-probability of each class before the most probable one is taken",
        "cuts": "Values between two cuts get the label in between",
    }
    caption = f"{said.get(found['kind'], found['kind'])}; each fold's rule was fitted on the other folds"
    return Table(caption, ["for", *names], ["text", *["number"] * n], rows)


def threshold_scores_table(content: Mapping[str, Any]) -> Table:
    """Return what scores are at some thresholds, and at the one in use."""
    numbers = content["pictures"]["threshold_scores"]
    rows = []
    for place in threshold_rows(numbers, N_TOP):
        at = {name: column[place] for name, column in numbers.items()}
        scores = [Cell(with_error(at[name], at[f"{name}_se"]), _sort(at[name])) for name in SCORES]
        first = [_plain(at["threshold"], 3), Cell(f"{100 * at['called']:.1f} %", _sort(at["called"]))]
        rows.append(Row([*first, *scores], "chosen" if at["is_chosen"] else ""))
    caption = (
        f"Scores out of fold where rows above a threshold are called {numbers['class'][0]}, with standard errors; "
        "the threshold that new rows are decided by stands out"
    )
    return Table(caption, ["threshold", "rows called", *SCORES], ["number"] * 6, rows, True)


def _full_name(one: Mapping[str, Any]) -> str:
    return f"{one['level']}/{one['member']}"


def _name(one: Mapping[str, Any]) -> str:
    return f"{_full_name(one)} (submitted)" if one["is_submitted"] else _full_name(one)


def _number(value: float | None, se: float | None) -> Cell:
    return Cell(to_error(value, se), _sort(value))


def _error(se: float | None) -> Cell:
    places = places_of(se)
    return Cell(significant(se, 2) if places is None else f"{se:.{places}f}", _sort(se))


def _plain(value: float | None, digits: int) -> Cell:
    return Cell("" if value is None else significant(value, digits), _sort(value))


def _padded(value: float | None, digits: int) -> Cell:
    """Numbers of one column below each other: zeros at the end are kept."""
    is_small = value is not None and 0 < abs(value) < 10 ** (digits - 1)
    return Cell(f"{value:#.{digits}g}", _sort(value)) if is_small else _plain(value, digits)


def _weight(weight: float | None) -> Cell:
    return Cell("" if weight is None else f"{weight:.3f}", _sort(weight))


def _value(value: Any) -> Cell:
    if isinstance(value, float):
        return _padded(value, 4)
    return Cell("" if value is None else str(value), _sort(value) if isinstance(value, int) else "")


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _whole(value: float) -> Cell:
    return Cell(f"{value:.0f}", _sort(value))


def _sort(value: float | None) -> str:
    return "" if value is None else repr(value)


def _strip_range(members: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the scores between which strips lie: those of the better three quarters of the members."""
    better = members[: max(1, round(0.75 * len(members)))]
    known = [value for one in better for value in one["folds"] if value is not None]
    return (min(known), max(known)) if known else (0.0, 1.0)


def _strip(one: Mapping[str, Any], low: float, high: float) -> Cell:
    spread = (high - low) or 1.0
    dots = [
        (
            round((min(max(value, low), high) - low) / spread * STRIP_WIDTH, 1),
            f"fold {fold}: {to_error(value, one['se'])}",
        )
        for fold, value in enumerate(one["folds"])
        if value is not None
    ]
    return Cell("; ".join(text for _, text in dots), _sort(one["fold_mean"]), dots)
