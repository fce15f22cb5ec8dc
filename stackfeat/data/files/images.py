"""Image files named by a column, as one array of equal squares.

In:  relative paths, the folder they are in, size, mode, how they become square.
Out: uint8 of shape (n_rows, channels, size, size); files that cannot be read are black and named.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import to_text
from stackfeat.data.files.parsing import parsing, reason, refuse_rows
from stackfeat.data.options import InputOptions
from stackfeat.data.samples import is_large
from stackfeat.errors import DataError, DataWarning, MissingExtraError, machine_fault
from stackfeat.registry.resolve import cut, name_values
from stackfeat.store.disk import allocate, refuse_no_file

if TYPE_CHECKING:
    from PIL.Image import Image

DECODERS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Nothing else is parsed: other decoders of PIL run foreign programs or are rarely tested."""
MOST_BROKEN = 0.5


def read_images(paths: pd.Series, given: InputOptions, root: Path, where: str) -> np.ndarray:
    """Read one image for each row.

    Parameters
    ----------
    paths : Series of text
        Relative to `root`, and inside it.
    given : InputOptions
        `size`, `mode`, `resize`, `broken`, `stream`.
    root : Path
    where : str
        Named in messages.

    Returns
    -------
    ndarray or memmap of shape (n_rows, channels, size, size), uint8
        On disk, in a file that is gone with it, where it is large.

    Raises
    ------
    DataError
        If a cell is empty, a path leaves `root`, more than half of the files cannot be read, or any of
        them with ``broken: error``.
    MissingExtraError
        Without Pillow.

    Warns
    -----
    DataWarning
        Naming every file that cannot be read.
    """
    _pillow()
    files = _find_files(paths, root, where)
    size, n_channels = int(given.size or 0), 3 if given.mode == "RGB" else 1
    pixels = _empty((len(files), n_channels, size, size), given.stream)
    broken: dict[str, str] = {}
    for row, file in enumerate(files):
        try:
            pixels[row] = read_image(file, size, given.mode, given.resize)
        except Exception as error:  # decoders raise whatever they meet in a damaged file
            fault = None if isinstance(error, MemoryError) else machine_fault(error)
            if fault is not None:
                raise fault from error
            is_unknown = type(error).__name__ == "UnidentifiedImageError"
            why = "not an image of a known format" if is_unknown else reason(error)
            broken[cut(str(paths.iloc[row]))] = why
    if broken:
        _report(broken, len(files), given, root, where)
    return pixels


def read_image(path: Path, size: int, mode: str = "RGB", resize: str = "short_side") -> np.ndarray:
    """Return one image, uint8 of shape (channels, size, size).

    ``short_side`` scales the shorter side to `size` and cuts the middle out; ``pad`` scales the longer
    one and fills with black; ``stretch`` scales both. Photographs are turned the way their camera says.
    """
    image_module, ops = _pillow()
    refuse_no_file(path.stat(), path)
    with warnings.catch_warnings():
        # A picture that unpacks to gigabytes is an attack or a mistake, not a warning.
        warnings.simplefilter("error", image_module.DecompressionBombWarning)
        with image_module.open(path, formats=DECODERS) as opened:
            image: Image = ops.exif_transpose(opened).convert(mode)
    bilinear, square = image_module.Resampling.BILINEAR, (size, size)
    if resize == "stretch":
        image = image.resize(square, bilinear)
    else:
        image = (ops.pad if resize == "pad" else ops.fit)(image, square, bilinear)
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError(
            "image files are read with Pillow; install it with: pip install 'stackfeat[images]'"
        ) from error
    return Image, ImageOps


def _find_files(paths: pd.Series, root: Path, where: str) -> list[Path]:
    text = to_text(paths)
    missing = text.isna().to_numpy()
    refuse_rows(missing, f"{where}: every row must have an image path", "fill the cells in")
    with parsing(where, "root must be a folder", "correct root"):
        if not root.is_dir():
            raise DataError(f"{where}: root must be a folder; got {root}, which is not there; correct root")
    with parsing(where, "every cell must be the path of a file", "correct the cells"):
        base = root.resolve()
        files = [(base / str(path)).resolve() for path in text]
    outside = np.array([not file.is_relative_to(base) for file in files])
    inside = f"{where}: image paths stay inside {root}, links followed"
    refuse_rows(outside, inside, "move the files there", text)
    return files


def _empty(shape: tuple[int, ...], stream: bool | None) -> np.ndarray:
    on_disk = is_large(shape[0], shape[1:]) if stream is None else stream
    if not on_disk or 0 in shape:
        return np.zeros(shape, dtype=np.uint8)
    with tempfile.TemporaryFile(prefix="stackfeat-") as file:
        # A memory map of a file without blocks ends the process with SIGBUS where the disk is full.
        allocate(file.fileno(), math.prod(shape))
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _report(broken: dict[str, str], n_rows: int, given: InputOptions, root: Path, where: str) -> None:
    by_reason: dict[str, list[str]] = {}
    for path, why in broken.items():
        by_reason.setdefault(why, []).append(path)
    is_most = len(broken) > MOST_BROKEN * n_rows
    listed = "; ".join(
        f"{why}: {name_values(names) if is_most else ', '.join(names)}" for why, names in by_reason.items()
    )
    if is_most:
        raise DataError(
            f"{where}: more than half of the images cannot be read ({len(broken)} of {n_rows}) in {root}; got "
            f"{listed}; correct root or the paths"
        )
    message = f"{where}: {len(broken)} of {n_rows} images cannot be read: {listed}"
    if given.broken == "error":
        raise DataError(f"{message}; repair them, or set broken: warn to use black images instead")
    warnings.warn(f"{message}; they are black images to the nets", DataWarning, stacklevel=5)
