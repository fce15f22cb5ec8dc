"""Proving: what the store says of every block of a finished run.

In:  a store, the run's `provenance.json`, its rows and folds.
Out: `Provenance`: the faults of every block and of the files that show their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackfeat.data.folds import Folds
from stackfeat.data.samples import Samples
from stackfeat.ensemble.proof import Fault, Prover, indirect
from stackfeat.ensemble.proof_emitted import whole_fit
from stackfeat.output.written import Written
from stackfeat.store import Store


@dataclass(frozen=True)
class BlockProof:
    """What was proven of one block.

    Attributes
    ----------
    n_rows : int
        Out-of-fold rows of all repeats that were checked.
    faults : list of Fault
        Its own, and those of every fit that its rows went through.
    indirect : list of str
        Other ways on which labels could have come; none is a fault.
    """

    name: str
    n_rows: int
    faults: list[Fault]
    indirect: list[str]


@dataclass(frozen=True)
class Provenance:
    """What was proven from the store.

    Attributes
    ----------
    n_fits, n_noted : int
        Fits behind the blocks, and those among them that noted their rows themselves.
    file_faults : list of Fault
        OOF files of the run folder that are not what the run wrote.
    """

    n_rows: int
    n_fits: int
    n_noted: int
    blocks: list[BlockProof]
    file_faults: list[Fault]

    @property
    def faults(self) -> list[Fault]:
        """All faults, each once."""
        found = [fault for block in self.blocks for fault in block.faults]
        return list(dict.fromkeys([*found, *self.file_faults]))

    def to_json(self) -> dict[str, Any]:
        blocks = {
            block.name: {
                "n_rows": block.n_rows,
                "proven": not block.faults,
                "faults": [fault.to_json() for fault in block.faults],
                "indirect": block.indirect,
            }
            for block in self.blocks
        }
        counts = {"n_rows": self.n_rows, "n_fits": self.n_fits, "n_noted": self.n_noted}
        return {**counts, "blocks": blocks, "files": [fault.to_json() for fault in self.file_faults]}


def prove(store: Store, index: Mapping[str, Any], samples: Samples, folds: Folds, folder: Path) -> Provenance:
    """Check every place of every block of a run, and its OOF files."""
    names = {key: (member, unit) for member, units in index["fits"].items() for unit, key in units.items()}
    prover = Prover(store, samples, folds, names, (index["samples"], index["folds"]))
    blocks = []
    for block in index["blocks"]:
        faults: list[Fault] = []
        n_rows = 0
        for repeat, places in enumerate(block["oof"]):
            for fold, place in enumerate(places):
                if place is not None:
                    faults += prover.place(place, repeat, fold)
                    n_rows += len(prover.predicted(repeat, fold))
        for unit, key in index["fits"].get(block["member"], {}).items():
            faults += whole_fit(prover, key) if unit.endswith("/all") else []
        ways = indirect(prover, block["oof"])
        blocks.append(BlockProof(block["name"], n_rows, list(dict.fromkeys(faults)), ways))
    written = Written(folder)
    changed = [name for name, made_of in index["files"].items() if not written.is_current(name, made_of)]
    file_faults = [
        Fault("mismatch", name, detail="it is not the file that the run wrote from its entries")
        for name in changed
    ]
    return Provenance(samples.n_rows, prover.n_fits, prover.n_noted, blocks, file_faults)
