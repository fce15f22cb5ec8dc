"""Provenance: which stored entries are behind every block and file of a run.

In:  a finished run.
Out: plain JSON, written into the run folder, by which `audit` finds everything without the data files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stackfeat.engine.jobs import Averaging
from stackfeat.errors import UsageError, as_written
from stackfeat.output.completed_run import Finished
from stackfeat.output.files import write_bytes
from stackfeat.output.run_file import PROVENANCE as FILE
from stackfeat.output.write import file_name
from stackfeat.store.manifest import read_sealed, seal
from stackfeat.structure import must, structured

FORMAT = 2
REMEDY = "run the config again"


@dataclass(frozen=True)
class BlockPlaces:
    """A block, what it reads, and for each repeat and fold the entry and the array of its OOF rows."""

    name: str
    member: str
    kind: Literal["prediction", "feature"]
    encoding: str | None
    reads: tuple[str, ...]
    oof: tuple[tuple[tuple[str, str] | None, ...], ...]


@dataclass(frozen=True)
class Index:
    """What `provenance.json` holds; see `provenance_json`."""

    format: int
    store: str
    folder: str
    samples: str
    test: str | None
    holdout: str | None
    folds: str
    n_folds: int
    n_repeats: int
    averaging: Averaging
    fits: Mapping[str, Mapping[str, str]]
    blocks: tuple[BlockPlaces, ...]
    files: Mapping[str, dict[str, Any]]

    def check(self, where: str) -> None:
        """Raise StructureError unless blocks have places for each repeat, and read what is before them."""
        before: set[str] = set()
        for block in self.blocks:
            must(
                len(block.oof) == self.n_repeats,
                f"{where}: {block.name}",
                "have places for each repeat",
                block.oof,
            )
            absent = [name for name in block.reads if "/" in name and name not in before]
            must(not absent, f"{where}: {block.name}", "read blocks before it", absent[:1])
            before.add(block.name)


def write_provenance(path: Path, finished: Finished, origin: Mapping[str, str]) -> None:
    """Write the file; `origin` says where the store and the config's folder are, seen from the run folder."""
    write_bytes(path, seal({**provenance_json(finished), **origin}))


def read_provenance(folder: Path) -> dict[str, Any]:
    """Return what the file of a run folder says, verified by its own hash and checked.

    Raises
    ------
    UsageError
        If there is none.
    DataError
        If it is damaged, or of another version.
    """
    path = folder / FILE
    try:
        index = read_sealed(path, FORMAT, REMEDY)
    except FileNotFoundError:
        raise UsageError(
            f"RUN must be the folder of a finished run, with {FILE}; got {folder}. "
            "Run its config with this version first: what is stored is not computed again"
        ) from None
    with as_written(str(path), REMEDY):
        structured(Index, index, str(path)).check(str(path))
    return index


def provenance_json(finished: Finished) -> dict[str, Any]:
    """Return keys of rows, folds and fits, the places of every block, and what files of
    rows out of fold, and of held-out rows, are made of.

    Returns
    -------
    dict
        ``blocks``, in the order of computing: name, member, encoding, what it reads, and for each repeat
        and fold the entry and the array of its OOF rows. ``fits``: by member, keys by ``repeat/fold``
        (fold ``all``: fitted on all rows; ``0-1``: two folds left out). ``holdout``: key of the
        held-out rows, or None.
    """
    plan = finished.plan
    fits: dict[str, dict[str, str]] = {}
    for (member, repeat, fold), key in plan.fits.items():
        fits.setdefault(member, {})[f"{repeat}/{fold}"] = key
    blocks = [
        {
            "name": name,
            "member": node.full_name,
            "kind": output.kind,
            "encoding": output.encoding,
            "reads": [*node.raw, *node.blocks],
            "oof": [plan.oof_places(name, repeat) for repeat in range(plan.sources.n_repeats)],
        }
        for name, (node, output) in plan.graph.blocks().items()
    ]
    files = {f"oof/{file_name(score)}": finished.oof_recipe(score) for score in finished.scores}
    if finished.held is not None:
        files |= {f"holdout/{file_name(score)}": finished.held_recipe(score) for score in finished.scores}
    return {
        "format": FORMAT,
        "samples": plan.sources.samples,
        "test": plan.sources.test,
        "holdout": plan.sources.holdout,
        "folds": plan.sources.folds,
        "n_folds": plan.sources.n_folds,
        "n_repeats": plan.sources.n_repeats,
        "averaging": finished.averaging.to_json(),
        "fits": fits,
        "blocks": blocks,
        "files": files,
    }
