"""A predictor as one file: packed up for another machine, and unpacked where it is loaded.

In:  the ``predictor/`` of a run folder; or a zip file that anybody may have sent.
Out: a zip file, the same bytes for the same predictor; or its folder again, in a place of its own. Nothing in it is
     code, and every byte hangs on the hashes of ``hashes.json``, which are compared when it is read.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from stackfeat.engine.predictor import HASHES, INPUT, MODELS, WIRING, read_predictor
from stackfeat.errors import DataError, UsageError
from stackfeat.output.files import explained
from stackfeat.output.output_file import has_packed, refuse_foreign, refuse_place
from stackfeat.output.run_file import no_run, whole_run
from stackfeat.output.saved_predictor import FOLDER

MOST_BYTES = 1 << 36
MOST_FILES = 1_000_000
_ENTRY = r"entries/[0-9a-z_-]+/[0-9a-z_-]+(/[^/\\\x00]+)+"
_NAME = re.compile(
    rf"{FOLDER}/({re.escape(WIRING)}|{re.escape(INPUT)}|{re.escape(HASHES)}|{MODELS}/{_ENTRY})"
)
_MADE = (1980, 1, 1, 0, 0, 0)
"""The time of all files, so that the same predictor is the same bytes."""


def pack_predictor(run_folder: Path, output: Path, *, force: bool = False) -> int:
    """Write the predictor of a finished run as one file; return its size in bytes.

    Raises
    ------
    UsageError
        If the file is not called .zip, would replace something else, or lie among the files of a run.
    DataError
        If there is no predictor, or it is damaged.
    """
    if output.suffix != ".zip" or output.is_dir():
        raise UsageError(
            f"--output must be a file that ends in .zip; got {output}; name one such as model.zip"
        )
    refuse_place(output, run=run_folder, is_text=False)
    refuse_foreign(output, is_packed, force=force)
    if not run_folder.exists():
        raise no_run(run_folder, FOLDER)
    with whole_run(run_folder), explained(f"{output} must be a file that can be written", "Name another"):
        folder = run_folder / FOLDER
        _, store = read_predictor(folder)
        for key in store.manifests:
            entry = store.read(key)
            for name in entry.files:
                entry.bytes(name)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = {path: f"{FOLDER}/{path.relative_to(folder).as_posix()}" for path in files}
        draft = output.with_name(f".{output.name}.part")
        try:
            with zipfile.ZipFile(draft, "w") as archive:
                for path in files:
                    if _NAME.fullmatch(names[path]):
                        head = zipfile.ZipInfo(names[path], _MADE)
                        archive.writestr(head, path.read_bytes(), zipfile.ZIP_DEFLATED, 1)
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)
        return output.stat().st_size


@dataclass(frozen=True)
class UnpackedPredictor:
    """A folder with the ``predictor/`` of a file, for as long as this object is there."""

    path: Path
    held: tempfile.TemporaryDirectory[str] = field(repr=False)

    @property
    def folder(self) -> Path:
        return Path(self.held.name)


is_packed = has_packed(f"{FOLDER}/{WIRING}")
"""Whether a file holds a packed predictor."""


def unpack_predictor(path: Path) -> UnpackedPredictor:
    """Unpack a file that `pack_predictor` wrote; what is in it is verified when it is read.

    Raises
    ------
    DataError
        If it holds anything else.
    """
    held = tempfile.TemporaryDirectory(prefix="stackfeat-model-")
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_strange(path, archive)
            for item in archive.infolist():
                place = Path(held.name) / item.filename
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with archive.open(item) as source, place.open("wb") as sink:
                    while part := source.read(1 << 20):
                        sink.write(part)
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path} must be a file as `stackfeat export` writes it; got {type(error).__name__}; export it again"
        ) from error
    return UnpackedPredictor(path, held)


def _refuse_strange(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise DataError where a zip file holds what no predictor has, or unpacks beyond any sense."""
    items = archive.infolist()
    names = [item.filename for item in items]
    strange = [name for name in names if not _NAME.fullmatch(name) or ".." in name.split("/")]
    total = sum(item.file_size for item in items)
    is_large = total > MOST_BYTES or len(items) > MOST_FILES or total > 2000 * max(1, path.stat().st_size)
    if strange or is_large or len(set(names)) < len(names):
        got = f"{strange[0]!r}"[:80] if strange else f"{len(items)} files of {total:,} bytes"
        raise DataError(
            f"{path} must hold a predictor and nothing else, as `stackfeat export` writes it; got {got}; export it "
            "again"
        )
