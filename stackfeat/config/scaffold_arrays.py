"""Arrays of a first config: which arrays of a npz file are inputs, and the nets that read them.

In:  the npz file, and how many rows and what preset.
Out: inputs by name with their kinds, and members; both are written by `scaffold`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stackfeat.data.files.array_files import ArchiveFile
from stackfeat.data.files.tables import holds
from stackfeat.data.options import InputOptions

FEW_ROWS, MANY_ROWS = 500, 5_000
_NAMED = {"X", "x", "data", "inputs", "arr_0"}
"""Names of arrays that say nothing of what they hold: their kind does."""
_NETS = {
    "image": (("cnn", "cnn", ""), ("cnn_slim", "cnn", "{width: 24, dropout: 0.2}")),
    "sequence": (("tcn", "tcn", ""), ("gru", "gru", "{width: 48, depth: 1}")),
    "fusion": (("fusion", "fusion", ""), ("fusion_attending", "fusion", "{how: attention}")),
}
_MORE = {
    "sequence": (
        ("attention", "transformer_encoder", ""),
        ("inception", "inception_time", "{filters: 16, depth: 3}"),
    ),
}


@dataclass(frozen=True)
class ArrayInputs:
    """The inputs of a npz file that are arrays.

    Attributes
    ----------
    options : dict of str to InputOptions
        By the name of the input.
    kinds : dict of str to str
        ``table``, ``image``, ``sequence``, ``tokens`` or ``array``.
    shapes : dict of str to str
        Of a row, in words.
    """

    options: dict[str, InputOptions]
    kinds: dict[str, str]
    shapes: dict[str, str]

    @classmethod
    def of(cls, train: Path, target: str) -> ArrayInputs | None:
        """Return the arrays that have a row for each sample; None where the file is a table."""
        if not holds(train, "arrays"):
            return None
        archive = ArchiveFile.open(train)
        shapes = {name: stored.header.shape for name, stored in archive.arrays.items()}
        n_rows = next(
            (shapes[name][0] for name in (target, "y", "id") if len(shapes.get(name, ())) == 1), None
        )
        found = {
            name: shape
            for name, shape in shapes.items()
            if len(shape) > 1 and shape[0] == (n_rows or shape[0])
        }
        if not found or (list(found) == ["X"] and len(found["X"]) == 2):
            return None
        inputs = cls({}, {}, {})
        for name, shape in found.items():
            lengths = _lengths_of(name, shape, archive, len(found) == 1)
            inputs._add(name, archive.read(name, name, mapped=True), lengths)
        return inputs

    def _add(self, array: str, values: np.ndarray, lengths: str | None) -> None:
        from stackfeat.data.schema.inputs import guess_kind

        options = InputOptions(array=array, **({} if lengths is None else {"lengths": lengths}))
        kind = guess_kind(values, options, lengths is not None)
        name = kind if array in _NAMED and kind not in self.options else array
        self.options[name], self.kinds[name] = options, kind
        self.shapes[name] = f"{kind}: {' x '.join(map(str, values.shape[1:]))} of {values.dtype}"

    @property
    def tables(self) -> list[str]:
        """Inputs that estimators can read."""
        return [name for name, kind in self.kinds.items() if kind == "table"]

    def nets(self, preset: str) -> Iterator[tuple[str, str, str]]:
        """Yield name, net and params of the nets of a preset."""
        kinds = list(self.kinds.values())
        kind = "fusion" if len(kinds) > 1 else "sequence" if kinds == ["tokens"] else kinds[0]
        nets = _NETS.get(kind, _NETS["fusion"])
        yield from nets[:1] if preset == "quick" else nets
        if preset == "best":
            yield from _MORE.get(kind, ())

    @staticmethod
    def training(n_rows: int, preset: str) -> str:
        """Return how long nets are trained: few rows need more epochs for as many steps."""
        epochs = 100 if n_rows < FEW_ROWS else 40 if n_rows < MANY_ROWS else 12
        epochs = epochs // 2 if preset == "quick" else epochs
        return f"{{epochs: {epochs}, patience: {max(3, epochs // 5)}}}"


def _lengths_of(name: str, shape: tuple[int, ...], archive: ArchiveFile, is_alone: bool) -> str | None:
    """Return the array that says how many steps of each row are real, by its name and values."""
    named = [f"{name}_length", f"{name}_lengths", f"n_{name}", f"{name}_len"]
    for one in named + (["length", "lengths", "len"] if is_alone else []):
        if one in archive.arrays and archive.arrays[one].header.shape == shape[:1]:
            values = archive.read(one, one)
            if values.dtype.kind in "iu" and values.min() >= 1 and values.max() <= shape[1]:
                return one
    return None
