"""Provenance: what the store says of every block of a finished run.

In:  a store, the run's `provenance.json`, its rows and folds.
Out: `Provenance`: the violations of every block and of the files that show their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stackfeat.audit.leakage_check import HoldoutChecker, LeakageChecker, Violation, check_refit, indirect
from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import load_holdout
from stackfeat.engine.recipes import FitRecipe
from stackfeat.output.provenance import BlockPlaces, Index
from stackfeat.output.run_file import find_run_file
from stackfeat.store import Store


@dataclass(frozen=True)
class BlockCheck:
    """What was proven of one block.

    Attributes
    ----------
    n_rows : int
        Out-of-fold rows of all repeats that were checked.
    faults : list of Violation
        Its own, and those of every fit that its rows went through.
    indirect : list of str
        Other ways on which labels could have come; none is a fault.
    is_elsewhere : bool
        Whether its member was made from files: which rows its models saw, the store cannot tell.
    """

    name: str
    n_rows: int
    faults: list[Violation]
    indirect: list[str]
    is_elsewhere: bool = False

    @property
    def is_proven(self) -> bool:
        return not self.faults and not self.is_elsewhere


@dataclass(frozen=True)
class Provenance:
    """What was proven from the store.

    Attributes
    ----------
    n_held : int or None
        Held-out rows, with ``stack.holdout``.
    n_fits, n_noted : int
        Fits behind the blocks, and those among them that noted their rows themselves.
    file_faults : list of Violation
        Files of the run folder with rows out of fold or held out that are not what the run wrote.
    held_faults : list of Violation
        Held-out rows that some fit was given, or whose way through the stack cannot be proven.
    """

    n_rows: int
    n_fits: int
    n_noted: int
    blocks: list[BlockCheck]
    file_faults: list[Violation]
    n_held: int | None = None
    held_faults: list[Violation] = field(default_factory=list)

    @property
    def faults(self) -> list[Violation]:
        """All faults, each once."""
        found = [fault for block in self.blocks for fault in block.faults]
        return list(dict.fromkeys([*found, *self.held_faults, *self.file_faults]))

    def to_json(self) -> dict[str, Any]:
        blocks = {
            block.name: {
                "n_rows": block.n_rows,
                "proven": block.is_proven,
                "made_elsewhere": block.is_elsewhere,
                "faults": [asdict(fault) for fault in block.faults],
                "indirect": block.indirect,
            }
            for block in self.blocks
        }
        counts = {"n_rows": self.n_rows, "n_fits": self.n_fits, "n_noted": self.n_noted}
        faults = [asdict(fault) for fault in self.held_faults]
        held = {"n_rows": self.n_held, "proven": not faults, "faults": faults}
        files = [asdict(fault) for fault in self.file_faults]
        return {**counts, "blocks": blocks, "holdout": None if self.n_held is None else held, "files": files}


def check_provenance(store: Store, index: Index, samples: Samples, folds: Folds, folder: Path) -> Provenance:
    """Check every place of every block of a run, its held-out rows, and the files that show both."""
    names = {key: (member, unit) for member, units in index.fits.items() for unit, key in units.items()}
    checker = LeakageChecker(store, samples, folds, names, (index.samples, index.folds))
    blocks = []
    elsewhere = made_elsewhere(checker, index)
    for block in index.blocks:
        faults: list[Violation] = []
        n_rows = 0
        for repeat, places in enumerate(block.oof):
            for fold, place in enumerate(places):
                if place is not None:
                    faults += checker.place(place, repeat, fold)
                    n_rows += len(checker.predicted(repeat, fold))
        for unit, key in index.fits.get(block.member, {}).items():
            faults += check_refit(checker, key) if unit.endswith("/all") else []
        ways = [*indirect(checker, block.oof), *_ways_from_elsewhere(block, elsewhere)]
        is_elsewhere = block.member in elsewhere[block.member]
        blocks.append(BlockCheck(block.name, n_rows, list(dict.fromkeys(faults)), ways, is_elsewhere))
    written = find_run_file(folder)
    changed = [
        name
        for name, made_of in index.files.items()
        if written is None or not written.is_current(folder, name, made_of)
    ]
    file_faults = [
        Violation("mismatch", name, detail="it is not the file that the run wrote from its entries")
        for name in changed
    ]
    n_held, held_faults = _check_holdout(checker, index)
    return Provenance(
        samples.n_rows, checker.n_fits, checker.n_noted, blocks, file_faults, n_held, held_faults
    )


def made_elsewhere(checker: LeakageChecker, index: Index) -> dict[str, list[str]]:
    """Return, by member, which members made from files are behind it, itself included."""
    found: dict[str, list[str]] = {}
    for block in index.blocks:
        member = block.member
        recipes = [checker.checked(key).recipe for key in index.fits.get(member, {}).values()]
        own = any(isinstance(recipe, FitRecipe) and recipe.sources for recipe in recipes)
        read = [name for item in block.reads for name in found.get("/".join(item.split("/")[:2]), ())]
        found[member] = sorted({*read, *([member] if own else ())})
    return found


def _ways_from_elsewhere(block: BlockPlaces, elsewhere: Mapping[str, list[str]]) -> list[str]:
    behind, ways = elsewhere[block.member], list[str]()
    if block.member in behind:
        ways.append("made from files: which labels its models saw is not known here")
    others = ", ".join(name for name in behind if name != block.member)
    return [*ways, *([f"through {others}, made elsewhere"] if others else [])]


def _check_holdout(checker: LeakageChecker, index: Index) -> tuple[int | None, list[Violation]]:
    """Check the held-out rows, if there are any, against every fit of the run and every one behind them."""
    key = index.holdout
    if key is None:
        return None, []
    entry = checker.checked(key).entry
    if entry is None:
        return 0, checker.checked(key).faults
    rows = load_samples(entry)
    held = HoldoutChecker(checker, rows, load_holdout(entry), key)
    faults = [*held.rows(), *held.fits(checker.names)]
    for name, made_of in index.files.items():
        for place in made_of["places"] if name.startswith("holdout/") else ():
            faults += held.place(place)
    return rows.n_rows, list(dict.fromkeys(faults))
