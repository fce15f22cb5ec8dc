"""Resume a killed extraction where it stopped, with the same bytes.

In:  a folder, a recipe (weights, taps, settings) and the input rows as they are read.
Out: `extraction.json`, replaced after every chunk: the recipe, how many rows are written, and
     checksums of the inputs up to there, of all of them and of some rows each. Another recipe, other
     rows or a reboot start anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import DataWarning, StructureError, UsageError
from stackfeat.layers.extraction.files import FileOutputs, explained, final_path, part_path
from stackfeat.layers.extraction.inputs import ArraySource, Source
from stackfeat.store import disk
from stackfeat.structure import checked, must, parse_json, structured

logger = logging.getLogger(__name__)

RECORD = "extraction.json"
FORMAT = 2
MOST_ROWS = 128
CHUNK_BYTES = 32 << 20
SECONDS_BETWEEN_SYNCS = 20.0


@dataclass
class RowSample:
    """Rows 0, k, 2k, ... with a checksum each; k doubles when they become too many.

    Attributes
    ----------
    stride : int
    sums : dict of str to int
        CRC-32 over the columns of a row, by the number of the row.
    """

    stride: int = 1
    sums: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = all(row.isdecimal() and len(row) < 20 and row == str(int(row)) for row in self.sums)
        must(self.stride >= 1 and rows, f"{RECORD}.sample", "name rows", self.stride)

    @property
    def rows(self) -> list[int]:
        return sorted(map(int, self.sums))

    def add(self, start: int, columns: Sequence[Tensor]) -> None:
        """Take some of the rows from number `start` on."""
        stop = start + len(columns[0])
        row = -(-start // self.stride) * self.stride
        while row < stop:
            self.sums[str(row)] = row_sum(columns, row - start)
            row += self.stride
            if len(self.sums) > MOST_ROWS:
                self.stride *= 2
                self.sums = {kept: value for kept, value in self.sums.items() if int(kept) % self.stride == 0}
                row = -(-row // self.stride) * self.stride

    def agrees(self, columns: Sequence[Tensor]) -> bool:
        """Whether these are the rows of the sample, in order."""
        found = [row_sum(columns, index) for index in range(len(columns[0]))]
        return found == [self.sums[str(row)] for row in self.rows]


def row_sum(columns: Sequence[Tensor], index: int) -> int:
    value = 0
    for column in columns:
        value = zlib.crc32(raw_bytes(column[index]), value)
    return value


def checksums(before: Sequence[int], columns: Sequence[Tensor]) -> tuple[int, ...]:
    """Go on with the CRC-32 of each column: quick, and the same however rows are cut into chunks."""
    values = before or [0] * len(columns)
    return tuple(zlib.crc32(raw_bytes(column), value) for column, value in zip(columns, values, strict=True))


def raw_bytes(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")


@dataclass
class Record:
    """How far an extraction into a folder is, as `extraction.json` says it.

    Attributes
    ----------
    recipe : dict
        JSON values; what the bytes of the outputs depend on beside the inputs.
    boot : str
        Which start of the machine it was written after.
    checksums : tuple of int
        CRC-32 of each input column up to `n_done`.
    n_done : int
        Rows written.
    n_synced : int
        Rows known to be on the disk: what is left after a power cut.
    finished : bool
    sample : RowSample
        Checksums of some of these rows.
    written : tuple of str
        Taps whose files in this folder are ours, those of earlier calls too.
    """

    recipe: dict[str, Any]
    boot: str
    checksums: tuple[int, ...]
    n_done: int
    n_synced: int
    finished: bool
    sample: RowSample
    written: tuple[str, ...]
    format: int = FORMAT
    synced_at: float = field(default_factory=time.monotonic, init=False)
    noted_bytes: int = field(default=0, init=False)

    def add(self, columns: Sequence[Tensor], outputs: FileOutputs, folder: Path) -> None:
        """Count rows that have been written; save this after each chunk, now and then wait for the disk."""
        self.checksums = checksums(self.checksums, columns)
        self.sample.add(self.n_done, columns)
        self.n_done += len(columns[0])
        self.noted_bytes += outputs.n_bytes(len(columns[0]))
        if self.noted_bytes < CHUNK_BYTES:
            return
        self.noted_bytes = 0
        if time.monotonic() - self.synced_at > SECONDS_BETWEEN_SYNCS:
            outputs.sync()
            self.n_synced, self.synced_at = self.n_done, time.monotonic()
        self.save(folder)

    def save(self, folder: Path) -> None:
        """Replace the file at once."""
        values = asdict(self)
        state = {one.name: values[one.name] for one in fields(self) if one.init}
        path = folder / RECORD
        with explained(path):
            temporary = path.with_name(f"{RECORD}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            disk.write_file(temporary, json.dumps(state, indent=1, sort_keys=True).encode(), synced=False)
            temporary.replace(path)


def read_record(folder: Path) -> Record | None:
    """Return what `extraction.json` says, or None where there is none that can be used."""
    try:
        state = parse_json(disk.read_text_file(folder / RECORD), RECORD)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            restart(folder, f"{RECORD} has another format")
            return None
        record = structured(Record, state, RECORD)
        checked(tuple[str, ...], record.recipe.get("keys"), f"{RECORD}.recipe.keys")
    except FileNotFoundError:
        return None
    except (OSError, StructureError) as error:
        restart(folder, f"{RECORD} cannot be read ({error})")
        return None
    return record


def claim_files(folder: Path, keys: Sequence[str]) -> tuple[Record | None, tuple[str, ...]]:
    """Return what an earlier call has written, and the taps whose files in a folder are ours.

    Raises
    ------
    UsageError
        If a file to be written is there already, and no extraction has written it.
    """
    old = read_record(folder)
    if old is None and (folder / RECORD).exists():
        return None, tuple(sorted(keys))  # the record is damaged or of another version: a file of ours, too
    ours = {*old.written, *old.recipe["keys"]} if old is not None else set()
    for path in (make(folder, key) for key in keys if key not in ours for make in (final_path, part_path)):
        if os.path.lexists(path):
            raise UsageError(
                f"out must be a folder without files of yours under the names of taps; got {path}, which no "
                "extraction has written; choose another folder, or move the file"
            )
    return old, tuple(sorted({*ours, *keys}))


def open_record(folder: Path, recipe: dict[str, Any], old: Record | None, source: Source) -> Record:
    """Return the record to go on with: the old one where everything agrees, else a new one."""
    fresh = Record(recipe, boot_id(), (), 0, 0, False, RowSample(), ())
    if old is None or (old.finished and source.n_rows is None):
        return fresh  # a stream may have more rows by now
    changed = [name for name in recipe if old.recipe.get(name) != recipe[name]]
    if changed:
        restart(folder, f"{', '.join(changed)} changed since the files were begun")
        return fresh
    n_done = old.n_done if old.boot == fresh.boot else old.n_synced
    if n_done == 0 or not files_hold(folder, recipe, finished=old.finished):
        return fresh
    if n_done != old.n_done:
        restart(folder, "the machine was restarted before all rows were on the disk")
        return fresh
    if not same_inputs(source, old):
        hint = "" if isinstance(source, ArraySource) else " (rows that are shuffled or augmented always do)"
        restart(folder, f"the input rows changed since the files were begun{hint}")
        return fresh
    if not old.finished:
        logger.info("%s: going on after %d rows", folder, n_done)
    return replace(old, recipe=recipe, boot=fresh.boot)


def files_hold(folder: Path, recipe: dict[str, Any], *, finished: bool) -> bool:
    """Say whether the files are there that the record speaks of."""
    for key in recipe["keys"]:
        if not (final_path(folder, key) if finished else part_path(folder, key)).is_file():
            restart(folder, f"the file of tap {key!r} is missing")
            return False
    return True


def remove_outputs(folder: Path) -> None:
    """Remove what extractions have written into a folder, and the folder if nothing else is in it."""
    record = read_record(folder)
    for key in record.written if record is not None else ():
        part_path(folder, key).unlink(missing_ok=True)
        final_path(folder, key).unlink(missing_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def restart(folder: Path, reason: str) -> None:
    warnings.warn(f"{folder}: {reason}: extraction starts from the first row", DataWarning, stacklevel=2)


def same_inputs(source: Source, old: Record) -> bool:
    """Compare the first rows with what a record says of them.

    All of them, but of a Dataset, where each row may be dear to make, those of the sample.
    """
    some = source.pick_rows(old.sample.rows)
    if some is not None:
        return old.sample.agrees(some)
    sums: tuple[int, ...] = ()
    n_read = 0
    for columns in source.first_rows(old.n_done):
        sums = checksums(sums, columns)
        n_read += len(columns[0])
    return n_read == old.n_done and sums == old.checksums


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
