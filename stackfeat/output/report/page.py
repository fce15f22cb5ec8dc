"""The page: the content of a report as one HTML file that works offline.

In:  plain values as ``report.json`` holds them, and how long fits took.
Out: HTML. Everything in it is escaped, its style and its small sorter are allowed by their hashes, pictures are part
     of it, and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stackfeat.output.digits import significant, to_error, with_error
from stackfeat.output.report.drawing import inches_of, svg_of
from stackfeat.output.report.pictures import PICTURES
from stackfeat.output.report.tables import (
    Table,
    blocks_table,
    columns_table,
    intervals_table,
    leaderboard_table,
    left_out_table,
    members_table,
    pool_table,
    threshold_scores_table,
    thresholds_table,
    top_table,
    weights_table,
    worst_table,
)
from stackfeat.output.report.times import Times

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

logger = logging.getLogger(__name__)

CSP = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; "
    "form-action 'none'"
)
_IN_PIXELS = 96
_BREAKS = re.compile(r"(?<=[/_:@])(?=.)|(?<=\.)(?=[^\W\d])")
"""Where names may wrap; numbers may not."""


@dataclass(frozen=True)
class Shown:
    """A picture on the page."""

    title: str
    source: str
    width: int
    height: int
    alt: str
    caption: str
    csv: str


@dataclass(frozen=True)
class Section:
    """A closed part of the page."""

    id: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Shown] = ()
    lines: Sequence[str] = ()
    terms: Sequence[tuple[str, str]] = field(default=())


def render_page(content: Mapping[str, Any], times: Mapping[str, Times]) -> str:
    """Return the page.

    Parameters
    ----------
    content : mapping
        What ``report.json`` holds.
    times : mapping of str to Times
        By full name of the member.
    """
    from markupsafe import Markup

    style, script = _text("report.css"), _text("report.js")
    return _template().render(
        content=content,
        csp=CSP.format(style=_hash(style), script=_hash(script)),
        style=Markup(style),
        script=Markup(script),
        verdict=_verdict(content),
        facts=_facts(content),
        top=top_table(content),
        sections=[one for one in _sections(content, times) if one.tables or one.pictures or one.lines],
        missing=[(PICTURES[name].title, why) for name, why in content["missing"].items() if name in PICTURES],
    )


def wrapped(text: str) -> Markup:
    """Return escaped text that may wrap within names, behind their marks, and not between a number and its error."""
    from markupsafe import Markup, escape

    held = text.replace(" ±", "\u00a0±").replace("± ", "±\u00a0")
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(held))


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stackfeat.output", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["wrapped"] = wrapped
    return environment.get_template("report.html")


@cache
def _text(name: str) -> str:
    return (files("stackfeat.output") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _verdict(content: Mapping[str, Any]) -> str:
    """Say what is submitted, what to expect of it, and its gains over a single member and a constant."""
    interval, single, constant = content["interval"], content["gains"]["single"], content["gains"]["constant"]
    text = content["headline"]
    if interval:
        low, high = (to_error(bound, content["se"]) for bound in interval)
        # It is that of the first score: what is known of held-out rows stands behind it.
        text = text.replace(" out of fold", f" out of fold (95 % interval {low} to {high})", 1)
    own, gains = content["own"], []
    if own["n_rows"] != content["n_rows"]:
        text += f". On all {own['n_rows']:,} rows of the leaderboard it scores {with_error(own['score'], own['se'])}"
    if single:
        gains.append(f"{_gain(single)} the best single member, {single['member']}")
    if constant:
        gains.append(
            f"{_gain(constant)} a constant prediction ({to_error(constant['score'], constant['se'])})"
        )
    return f"{text}: {', and '.join(gains)}." if gains else f"{text}."


def _gain(found: Mapping[str, Any]) -> str:
    if found["gain"] == 0 and not found["se"]:
        return "as good as"
    word = "better" if found["gain"] >= 0 else "worse"
    return f"{with_error(abs(found['gain']), found['se'])} {word} than"


def _facts(content: Mapping[str, Any]) -> str:
    counts, metric = content["counts"], content["metric"]
    held = f"{counts['held_out']:,} held-out rows, " if counts["held_out"] else ""
    repeats = f", {counts['repeats']} repeats" if counts["repeats"] > 1 else ""
    better = "higher is better" if metric["greater_is_better"] else "lower is better"
    return (
        f"{counts['train']:,} training rows, {held}{counts['test']:,} test rows, {counts['folds']} folds "
        f"({content['folds']}{repeats}); {metric['name']}, {better}; stackfeat {content['version']}"
    )


def _sections(content: Mapping[str, Any], times: Mapping[str, Times]) -> Iterator[Section]:
    def shown(*names: str) -> list[Shown]:
        return [one for name in names if (one := _shown(name, content)) is not None]

    yield Section(
        "leaderboard",
        f"All {len(content['members'])} members",
        [
            "Click or press a heading to sort. Strips show the scores of the folds on one scale. Times are those of "
            "a member alone, without the members that it reads: all its fits, and one row that it predicts."
            f"{_cost(content, times)}"
        ],
        [leaderboard_table(content, times), members_table(content)],
        shown("folds", "holdout"),
    )
    yield Section(
        "stack",
        "The stack",
        tables=[weights_table(one) for one in content["weights"]],
        pictures=shown("stack"),
    )
    yield Section(
        "judgement",
        "How good the submission is, by fold",
        pictures=shown(
            "confusion",
            "roc",
            "precision_recall",
            "reliability",
            "predicted",
            "residuals",
            "targets",
            "quantiles",
            "coverage",
            "positions",
            "class_shares",
            "distribution",
        ),
    )
    yield _intervals_section(content, shown("intervals"))
    if lines := [f"{one['text']}." for one in content.get("calibrations", ())]:
        yield Section("calibration", "Calibration", lines=lines, pictures=shown("calibrations"))
    if content["gates"] or content["blocks"]:
        yield Section(
            "gates",
            "Gates and feature blocks",
            tables=[blocks_table(content)] if content["blocks"] else [],
            lines=content["gates"],
            terms=_block_terms(content) if content["blocks"] else (),
        )
    if found := shown("importance"):
        yield Section("importance", "Importance", pictures=found)
    if found := shown("correlation", "greedy_path"):
        yield Section("together", "How members work together", pictures=found)
    if found := shown("learning_curves", "embeddings"):
        yield Section("nets", "How members learnt", pictures=found)
    for pool in content["pools"]:
        yield Section(
            f"pool-{pool['name']}", f"Files of {pool['name']}", [pool["comparison"]], [pool_table(pool)]
        )
    yield _data_section(content)
    if content["worst_rows"]["rows"]:
        yield Section("worst", "Worst rows", tables=[worst_table(content)])
    yield _thresholds_section(content, shown("threshold_scores", "cumulative_gains"))
    yield Section("again", "How to get this again", lines=_reproduction(content))


def _cost(content: Mapping[str, Any], times: Mapping[str, Times]) -> str:
    """Say what the submission costs with all that it reads; nothing where that is not known."""
    graph = content["pictures"].get("stack")
    if graph is None:
        return ""
    pairs = zip(graph["member"], graph["is_used"], strict=True)
    used = [
        times[name] for name in dict.fromkeys(name for name, is_used in pairs if is_used) if name in times
    ]
    if not used:
        return ""
    text = (
        f" The submission and what is behind it: fits took {significant(sum(one.fit for one in used), 3)} s"
    )
    rows = [one.row for one in used if one.row is not None]
    if len(rows) == len(used):
        text += f", and one pipeline predicts a row in {_duration(sum(rows))}"
    return f"{text}."


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"


def _intervals_section(content: Mapping[str, Any], pictures: Sequence[Shown]) -> Section:
    found = content.get("intervals")
    if not found:
        return Section("intervals", "Intervals")
    text = [found["text"]]
    if not found["is_asked"]:
        text.append(
            "New rows get theirs at any level by stackfeat predict RUN DATA --interval 0.9, or in Python by "
            "sf.load(RUN).interval(X, 0.9)."
        )
    title = f"{found['name'][:1].upper()}{found['name'][1:]}"
    return Section("intervals", title, text, [intervals_table(found)], pictures)


def _thresholds_section(content: Mapping[str, Any], pictures: Sequence[Shown]) -> Section:
    tables = [thresholds_table(content)] if content["thresholds"] else []
    if "threshold_scores" in content["pictures"]:
        tables.append(threshold_scores_table(content))
    return Section("thresholds", "Thresholds", tables=tables, pictures=pictures)


def _data_section(content: Mapping[str, Any]) -> Section:
    data = content["data"]
    tables = [columns_table(data)] if data["columns"] else []
    if data["left_out"]:
        tables.append(left_out_table(data))
    arrays = [
        f"Input {one['input']}: {one['kind']} of shape {tuple(one['shape'])}." for one in data["arrays"]
    ]
    return Section("data", "Data", arrays, tables, lines=content["notes"])


def _block_terms(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    chance, limit = content["fold_id"]["chance"], content["fold_id"]["limit"]
    return [
        (
            "fold guessed",
            "How often a small model guesses from which fold model a row comes (balanced accuracy). "
            f"{chance:.2f} is guessing; above {limit:.2f} folds are not comparable.",
        ),
        (
            "OOF or test",
            "How well out-of-fold rows can be told from test rows as the meta-learner sees them (AUC). 0.5 is not at "
            "all; above 0.6 the learner meets rows unlike those it was trained on.",
        ),
        (
            "cosine",
            "How alike aligned folds see the same row, on the rows they were aligned on and on others. Below 0.5 on "
            "others, or 0.1 less than on anchors: too few anchors.",
        ),
        ("anchors", "Rows that fold spaces were turned together on; twice the columns are enough."),
        (
            "random CV gain",
            "How much better a small model predicts a row when it was trained on rows of the same fold, in shares "
            "of the target's variance. Above 0.02 and two standard errors: columns mean different things in "
            "different folds.",
        ),
    ]


def _reproduction(content: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return [
        "stackfeat run config.yaml, with the config.yaml of this folder: what the store holds is not computed again.",
        f"Versions: {versions}.",
        "run.json lists every file of this folder with its SHA-256; provenance.json names the stored entries behind "
        "every block.",
        "The numbers of this page are in report.json, those of each picture in pictures/ as csv.",
    ]


def _shown(name: str, content: Mapping[str, Any]) -> Shown | None:
    numbers = content["pictures"].get(name)
    if numbers is None:
        return None
    picture = PICTURES[name]
    try:
        width, height = inches_of(picture, numbers)
        drawn = svg_of(picture, numbers)
        alt, caption = picture.alt(numbers), picture.caption(numbers)
    except Exception as error:
        # The page of a run of hours is not lost to one picture.
        logger.warning("the report is written without %s: %s", picture.title, error, exc_info=error)
        return None
    source = f"data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}"
    pixels = (round(width * _IN_PIXELS), round(height * _IN_PIXELS))
    return Shown(picture.title, source, *pixels, alt, caption, f"pictures/{name}.csv")
