"""Provenance: which stored entries are behind every block and file of a run.

In:  a finished run.
Out: plain JSON, written into the run folder, by which `audit` finds everything without the data files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stackfeat.engine.jobs import Averaging
from stackfeat.engine.recipes import Place
from stackfeat.errors import as_written
from stackfeat.output.completed_run import CompletedRun
from stackfeat.output.run_file import PROVENANCE as FILE
from stackfeat.output.run_file import no_run
from stackfeat.output.write import file_name
from stackfeat.store.manifest import read_sealed, seal
from stackfeat.structure import must, structured

FORMAT = 2
REMEDY = "run the config again"
AGAIN = "run its config with this version first: what is stored is not computed again"


@dataclass(frozen=True)
class BlockPlaces:
    """A block, what it reads, and for each repeat and fold the entry and the array of its OOF rows."""

    name: str
    member: str
    kind: Literal["prediction", "feature"]
    encoding: str | None
    reads: tuple[str, ...]
    oof: tuple[tuple[Place | None, ...], ...]


@dataclass(frozen=True)
class Index:
    """What `provenance.json` holds: keys of rows, folds and fits, and what blocks and files are made of.

    Attributes
    ----------
    store, folder : str
        Where the store and the config's folder are, seen from the run folder.
    holdout : str or None
        Key of the held-out rows.
    fits : mapping
        By member, keys by ``repeat/fold`` (fold ``all``: fitted on all rows; ``0-1``: two folds left out).
    blocks : tuple of BlockPlaces
        In the order of computing.
    files : mapping
        What files of rows out of fold, and of held-out rows, are made of.
    """

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

    @classmethod
    def of(cls, finished: CompletedRun, *, store: str, folder: str) -> Index:
        """Return what is to be known of a run."""
        plan = finished.plan
        fits: dict[str, dict[str, str]] = {}
        for (member, repeat, fold), key in plan.fits.items():
            fits.setdefault(member, {})[f"{repeat}/{fold}"] = key
        files = {
            f"{rows.folder}/{file_name(score)}": rows.made_of
            for score in finished.scores
            for rows in finished.predicted(score)
            if rows.folder != "test"
        }
        blocks = [
            BlockPlaces(
                name,
                node.full_name,
                output.kind,
                output.encoding,
                reads=(*node.raw, *node.blocks),
                oof=tuple(tuple(plan.oof_places(name, repeat)) for repeat in range(plan.sources.n_repeats)),
            )
            for name, (node, output) in plan.graph.blocks().items()
        ]
        names = ("samples", "test", "holdout", "folds", "n_folds", "n_repeats")
        return cls(
            format=FORMAT,
            store=store,
            folder=folder,
            **{name: getattr(plan.sources, name) for name in names},
            averaging=finished.averaging,
            fits=fits,
            blocks=tuple(blocks),
            files=files,
        )

    def sealed(self) -> bytes:
        """Return the text of the file."""
        return seal({**asdict(self), "averaging": self.averaging.to_json()})

    def check(self, where: str) -> None:
        """Raise StructureError unless blocks have places for each repeat, and read what is before them."""
        before: set[str] = set()
        for block in self.blocks:
            has_all = len(block.oof) == self.n_repeats
            must(has_all, f"{where}: {block.name}", "have places for each repeat", block.oof)
            absent = [name for name in block.reads if "/" in name and name not in before]
            must(not absent, f"{where}: {block.name}", "read blocks before it", absent[:1])
            before.add(block.name)


def read_provenance(folder: Path) -> Index:
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
        values = read_sealed(path, FORMAT, REMEDY)
    except FileNotFoundError:
        raise no_run(folder, FILE, AGAIN) from None
    with as_written(str(path), REMEDY):
        index = structured(Index, values, str(path))
        index.check(str(path))
    return index
