"""What makes a killed extraction go on where it stopped, with the same bytes.

In:  a folder, a recipe (weights, taps, settings) and the input rows as they are read.
Out: `extraction.json`, replaced after every chunk: the recipe, how many rows are written, and a
     checksum of the inputs up to there. Another recipe, other rows or a reboot start anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import DataWarning, UsageError
from stackfeat.nets.extraction.files import FileOutputs, explained, final_path, open_output, write_json
from stackfeat.nets.extraction.inputs import ArraySource, Source

logger = logging.getLogger(__name__)

RECORD = "extraction.json"
FORMAT = 2
CHUNK_BYTES = 32 << 20
SECONDS_BETWEEN_SYNCS = 20.0
REPLAY_ROWS = 4096


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
    n_synced : int
        Rows known to be on the disk: what is left after a power cut.
    """

    folder: Path
    recipe: dict[str, Any]
    checksums: list[int] = field(default_factory=list)
    n_done: int = 0
    n_synced: int = 0
    is_finished: bool = False
    synced_at: float = field(default_factory=time.monotonic)
    noted_bytes: int = 0

    def add(self, columns: Sequence[Tensor]) -> None:
        """Count rows that have been written."""
        self.checksums = checksums(self.checksums, columns)
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
        write_json(self.folder / RECORD, state | rows)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `extraction.json` says, or None where there is none that can be used."""
    try:
        state = json.loads((folder / RECORD).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        restart(folder, f"{RECORD} cannot be read ({error})")
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        restart(folder, f"{RECORD} has another format")
        return None
    return state


def open_record(folder: Path, recipe: dict[str, Any], state: dict[str, Any] | None, source: Source) -> Record:
    """Return the record to go on with: an old one where everything agrees, else a new one."""
    fresh = Record(folder, recipe)
    if state is None or (state["finished"] and not isinstance(source, ArraySource)):
        return fresh  # a loader's rows are cheap to compare with nothing but themselves: read them again
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
    found = replay(source, n_done)
    if found is None:
        logger.info("%s: the first %d rows are taken as unchanged", folder, n_done)
    elif found != state["checksums"]:
        restart(folder, "the input rows changed since the files were begun")
        return fresh
    if not state["finished"]:
        logger.info("%s: going on after %d rows", folder, n_done)
    return Record(
        folder, recipe, list(state["checksums"]), n_done, int(state["n_synced"]), bool(state["finished"])
    )


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


def restart(folder: Path, reason: str) -> None:
    warnings.warn(f"{folder}: {reason}: extraction starts from the first row", DataWarning, stacklevel=2)


def replay(source: Source, n_rows: int) -> list[int] | None:
    """Return the checksums of the first rows, or None where reading them again is not cheap."""
    if not isinstance(source, ArraySource):
        return None
    sums: list[int] = []
    n_left = n_rows
    for columns in source.chunks(0, REPLAY_ROWS):
        sums = checksums(sums, [column[:n_left] for column in columns])
        n_left -= min(n_left, len(columns[0]))
        if n_left == 0:
            return sums
    return []


def checksums(before: Sequence[int], columns: Sequence[Tensor]) -> list[int]:
    """Go on with the CRC-32 of each column: quick, and the same however rows are cut into chunks."""
    values = before or [0] * len(columns)
    return [zlib.crc32(raw_bytes(column), value) for column, value in zip(columns, values, strict=True)]


def raw_bytes(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")


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
