"""Resume a killed extraction where it stopped, with the same bytes.

In:  a folder, a recipe (weights, taps, settings) and the input rows as they are read.
Out: `extraction.json`, replaced after every chunk: the recipe, how many rows are written, and
     checksums of the inputs up to there, of all of them and of some rows each. Another recipe, other
     rows or a reboot start anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import DataWarning, StructureError, UsageError
from stackfeat.layers.extraction.files import FileOutputs, explained, final_path, open_output, write_json
from stackfeat.layers.extraction.inputs import ArraySource, Source
from stackfeat.store.disk import read_text_file
from stackfeat.structure import must, parse_json, structured

MOST_ROWS = 128


@dataclass
class RowSample:
    """Rows 0, k, 2k, ... with a checksum each; k doubles when they become too many.

    Attributes
    ----------
    stride : int
    sums : dict of int to int
        CRC-32 over the columns of a row, by the number of the row.
    """

    stride: int = 1
    sums: dict[int, int] = field(default_factory=dict)

    @property
    def rows(self) -> list[int]:
        return sorted(self.sums)

    def add(self, start: int, columns: Sequence[Tensor]) -> None:
        """Take some of the rows from number `start` on."""
        stop = start + len(columns[0])
        row = -(-start // self.stride) * self.stride
        while row < stop:
            self.sums[row] = row_sum(columns, row - start)
            row += self.stride
            if len(self.sums) > MOST_ROWS:
                self.stride *= 2
                self.sums = {kept: value for kept, value in self.sums.items() if kept % self.stride == 0}
                row = -(-row // self.stride) * self.stride

    def agrees(self, columns: Sequence[Tensor]) -> bool:
        """Whether these are the rows of the sample, in order."""
        found = [row_sum(columns, index) for index in range(len(columns[0]))]
        return found == [self.sums[row] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        return {"stride": self.stride, "sums": {str(row): value for row, value in self.sums.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RowSample:
        return cls(int(value["stride"]), {int(row): int(crc) for row, crc in value["sums"].items()})


def row_sum(columns: Sequence[Tensor], index: int) -> int:
    value = 0
    for column in columns:
        value = zlib.crc32(raw_bytes(column[index]), value)
    return value


def checksums(before: Sequence[int], columns: Sequence[Tensor]) -> list[int]:
    """Go on with the CRC-32 of each column: quick, and the same however rows are cut into chunks."""
    values = before or [0] * len(columns)
    return [zlib.crc32(raw_bytes(column), value) for column, value in zip(columns, values, strict=True)]


def raw_bytes(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")


logger = logging.getLogger(__name__)

RECORD = "extraction.json"

FORMAT = 2

CHUNK_BYTES = 32 << 20

SECONDS_BETWEEN_SYNCS = 20.0


@dataclass
class Record:
    """How far an extraction into a folder is.

    Attributes
    ----------
    folder : Path
    recipe : dict
        JSON values; what the bytes of the outputs depend on beside the inputs.
    checksums : list of int
        CRC-32 of each input column up to `n_done`.
    n_done : int
        Rows written.
    sample : RowSample
        Checksums of some of these rows.
    n_synced : int
        Rows known to be on the disk: what is left after a power cut.
    written : set of str
        Taps whose files in this folder are ours, those of earlier calls too.
    """

    folder: Path
    recipe: dict[str, Any]
    checksums: list[int] = field(default_factory=list)
    n_done: int = 0
    n_synced: int = 0
    is_finished: bool = False
    synced_at: float = field(default_factory=time.monotonic)
    noted_bytes: int = 0
    sample: RowSample = field(default_factory=RowSample)
    written: set[str] = field(default_factory=set)

    def add(self, columns: Sequence[Tensor]) -> None:
        """Count rows that have been written."""
        self.checksums = checksums(self.checksums, columns)
        self.sample.add(self.n_done, columns)
        self.n_done += len(columns[0])

    def note(self, outputs: FileOutputs, n_bytes: int) -> None:
        """Save the state after each chunk; now and then wait for the disk."""
        self.noted_bytes += n_bytes
        if self.noted_bytes < CHUNK_BYTES:
            return
        self.noted_bytes = 0
        if time.monotonic() - self.synced_at > SECONDS_BETWEEN_SYNCS:
            self.sync(outputs)
        self.save()

    def sync(self, outputs: FileOutputs) -> None:
        outputs.sync()
        self.n_synced, self.synced_at = self.n_done, time.monotonic()

    def save(self) -> None:
        state = {"format": FORMAT, "recipe": self.recipe, "checksums": self.checksums, "boot": boot_id()}
        rows = {"n_done": self.n_done, "n_synced": self.n_synced, "finished": self.is_finished}
        state |= {"sample": self.sample.to_json(), "written": sorted(self.written)}
        write_json(self.folder / RECORD, state | rows)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `extraction.json` says, or None where there is none that can be used."""
    try:
        state = parse_json(read_text_file(folder / RECORD), RECORD)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            restart(folder, f"{RECORD} has another format")
            return None
        structured(_Recorded, state, RECORD)
        structured(_Recipe, {"keys": state["recipe"].get("keys")}, f"{RECORD}.recipe")
    except FileNotFoundError:
        return None
    except (OSError, StructureError) as error:
        restart(folder, f"{RECORD} cannot be read ({error})")
        return None
    return state


@dataclass(frozen=True)
class _Rows:
    stride: int
    sums: Mapping[str, int]

    def __post_init__(self) -> None:
        must(
            self.stride >= 1 and all(row.isdecimal() for row in self.sums), "sample", "name rows", self.stride
        )


@dataclass(frozen=True)
class _Recorded:
    """What `Record.save` writes."""

    format: int
    recipe: dict[str, Any]
    checksums: tuple[Any, ...]
    boot: Any
    n_done: int
    n_synced: int
    finished: bool
    sample: _Rows
    written: tuple[str, ...]


@dataclass(frozen=True)
class _Recipe:
    keys: tuple[str, ...]


def refuse_foreign(folder: Path, keys: Sequence[str], state: dict[str, Any] | None) -> set[str]:
    """Return the taps whose files in a folder are ours.

    Raises
    ------
    UsageError
        If a file to be written is there already, and no extraction has written it.
    """
    if state is None and (folder / RECORD).exists():
        return set(keys)  # the record is damaged or of another version: a file of ours, too
    ours = {*state.get("written", ()), *state["recipe"]["keys"]} if state is not None else set()
    paths = [final_path(folder, key) for key in keys if key not in ours]
    for path in (path for name in paths for path in (name, name.with_name(f"{name.name}.part"))):
        if os.path.lexists(path):
            raise UsageError(
                f"out must be a folder without files of yours under the names of taps; got {path}, which no "
                "extraction has written; choose another folder, or move the file"
            )
    return {*ours, *keys}


def open_record(folder: Path, recipe: dict[str, Any], state: dict[str, Any] | None, source: Source) -> Record:
    """Return the record to go on with: an old one where everything agrees, else a new one."""
    fresh = Record(folder, recipe)
    if state is None or (state["finished"] and source.n_rows is None):
        return fresh  # a stream may have more rows by now
    changed = [name for name in recipe if state["recipe"].get(name) != recipe[name]]
    if changed:
        restart(folder, f"{', '.join(changed)} changed since the files were begun")
        return fresh
    same_boot = state["boot"] == boot_id()
    n_done = int(state["n_done"] if same_boot else state["n_synced"])
    if n_done == 0 or not files_hold(folder, recipe, finished=state["finished"]):
        return fresh
    if n_done != state["n_done"]:
        restart(folder, "the machine was restarted before all rows were on the disk")
        return fresh
    if not same_inputs(source, n_done, state):
        hint = "" if isinstance(source, ArraySource) else " (rows that are shuffled or augmented always do)"
        restart(folder, f"the input rows changed since the files were begun{hint}")
        return fresh
    if not state["finished"]:
        logger.info("%s: going on after %d rows", folder, n_done)
    record = Record(folder, recipe, list(state["checksums"]), n_done, int(state["n_synced"]))
    record.sample, record.is_finished = RowSample.from_json(state["sample"]), bool(state["finished"])
    return record


def files_hold(folder: Path, recipe: dict[str, Any], *, finished: bool) -> bool:
    """Say whether the files are there that the record speaks of."""
    for key in recipe["keys"]:
        path = final_path(folder, key)
        if not (path if finished else path.with_name(f"{path.name}.part")).is_file():
            restart(folder, f"the file of tap {key!r} is missing")
            return False
    return True


def finished_outputs(record: Record) -> dict[str, Any]:
    return {key: open_output(record.folder, key) for key in record.recipe["keys"]}


def remove_outputs(folder: Path) -> None:
    """Remove what extractions have written into a folder, and the folder if nothing else is in it."""
    state = read_record(folder)
    for key in [] if state is None else state["written"]:
        path = final_path(folder, key)
        path.with_name(f"{path.name}.part").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def restart(folder: Path, reason: str) -> None:
    warnings.warn(f"{folder}: {reason}: extraction starts from the first row", DataWarning, stacklevel=2)


def same_inputs(source: Source, n_rows: int, state: dict[str, Any]) -> bool:
    """Compare the first rows with what `state` says of them.

    All of them, but of a Dataset, where each row may be dear to make, those of the sample.
    """
    sample = RowSample.from_json(state["sample"])
    some = source.pick_rows(sample.rows)
    if some is not None:
        return sample.agrees(some)
    sums: list[int] = []
    n_read = 0
    for columns in source.again(n_rows):
        sums = checksums(sums, columns)
        n_read += len(columns[0])
    return n_read == n_rows and sums == list(state["checksums"])


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of the names, shapes and CRC-32 of every weight and buffer: at the speed of memory."""
    digest = hashlib.sha256()
    tensors = (*model.named_parameters(), *model.named_buffers())
    for name, tensor in tensors:
        line = f"{name} {tensor.dtype} {tuple(tensor.shape)} {zlib.crc32(raw_bytes(tensor)):08x}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def prepare_folder(out: str | Path) -> Path:
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"out must be a folder; got the file {folder}; name a folder for the files of the taps"
        )
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def boot_id() -> str:
    """Name the time since the machine started: pages written but not synced survive a kill, not a reboot."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text("ascii").strip() if path.is_file() else ""
