"""An explanation of a run, as plain values: what its columns, members, blocks, levels and gates are worth.

In:  what `stackfeat explain` measured; later ``explain.json`` of a run folder.
Out: `Explanation`, its JSON, and again the value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stackfeat.engine.level_gains import LevelGain
from stackfeat.engine.permutation_importance import Rise
from stackfeat.errors import DataError, as_written
from stackfeat.output.gates import GateVerdict
from stackfeat.output.run_file import EXPLANATION, PROVENANCE, find_run_file, hash_of
from stackfeat.structure import must, parse_json, structured

FORMAT = 1
HEADER = ("what", "name", "kind", "importance", "se", "low", "high")
HELD_OUT = "held-out rows"
REMEDY = "run `stackfeat explain` again"


@dataclass(frozen=True)
class Ranked:
    """One thing of a list, and its importance.

    Attributes
    ----------
    name, kind : str
    importance : float
        By how much the metric gets worse when rows get the values of others; without labels how far predictions move.
    se, low, high : float or None
        Standard error, and an interval that holds for all of the list together.
    """

    name: str
    kind: str
    importance: float
    se: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, name: str, kind: str, rise: Rise) -> Ranked:
        return cls(name, kind, rise.value, rise.se, rise.low, rise.high)

    @property
    def stands_out(self) -> bool:
        """Whether its importance is above zero by more than chance."""
        return self.low is not None and self.low > 0


@dataclass(frozen=True)
class Dropped:
    """What a vote loses without one of its inputs: `loss` of the metric, and its standard error."""

    vote: str
    member: str
    weight: float | None
    weight_se: float | None
    loss: float
    se: float | None


@dataclass(frozen=True)
class Explanation:
    """What a stack's predictions rest on.

    Attributes
    ----------
    member, metric : str
        The submitted member, and the metric that importance is in.
    has_labels : bool
        Without labels importance is how far predictions move.
    of : str
        Which rows: ``held-out rows``, or the name of a file.
    score : float or None
        Of these rows as they are.
    n_rows, n_units, repeats, seed : int
        Rows; units of the standard errors; permutations; of the draws.
    units : str
        What a unit is, in words.
    columns, groups, members, blocks : tuple of Ranked
        The most important first. Groups are columns of numbers that say nearly the same, swapped together.
    dropped : tuple of Dropped
    levels : tuple of LevelGain
    gates : tuple of GateVerdict
    notes : tuple of str
    """

    member: str
    metric: str
    has_labels: bool
    of: str
    score: float | None
    n_rows: int
    n_units: int
    units: str
    repeats: int
    seed: int
    columns: tuple[Ranked, ...]
    groups: tuple[Ranked, ...] = ()
    members: tuple[Ranked, ...] = ()
    blocks: tuple[Ranked, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    levels: tuple[LevelGain, ...] = ()
    gates: tuple[GateVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def is_of_run(self) -> bool:
        """Whether its rows are held-out rows of the run."""
        return self.of == HELD_OUT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return a row, as `HEADER` names its cells, for each column, group, member and block."""
        lists = {"column": self.columns, "group": self.groups, "member": self.members, "block": self.blocks}
        return [
            (what, one.name, one.kind, one.importance, one.se, one.low, one.high)
            for what, listed in lists.items()
            for one in listed
        ]


def read_explanation(folder: Path) -> Explanation | None:
    """Return what ``explain.json`` of a run folder says; None where there is none, or somebody has changed it.

    Raises
    ------
    StructureError
        If it is not made as `stackfeat explain` makes it.
    """
    path, listed = folder / EXPLANATION, find_run_file(folder)
    if listed is None or EXPLANATION not in listed.files or hash_of(path) != listed.files[EXPLANATION].sha256:
        return None
    with as_written(str(path), REMEDY):
        found = structured(Explanation, parse_json(path.read_bytes(), str(path), finite=True), str(path))
        must(found.format == FORMAT, str(path), f"be of format {FORMAT}", found.format)
    return found


def kept_explanation(folder: Path, provenance: bytes) -> Explanation | None:
    """Return the explanation in a run folder if it is of the run of this provenance, which keeps it."""
    try:
        is_same = (folder / PROVENANCE).read_bytes() == provenance
        return read_explanation(folder) if is_same else None
    except (OSError, DataError):
        return None
