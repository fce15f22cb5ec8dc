"""Names under which a unit finds the entries of its files."""

from __future__ import annotations

from stackfeat.store import Entry

PREDICTIONS = "predictions"
FOLDS = "folds"
STEM = "checkpoint"


def weights_role(seed: int, fold: int | None = None) -> str:
    """Return the name of a checkpoint: of this unit's fold, or of one of all folds."""
    return f"weights/{seed}" if fold is None else f"weights/{fold}/{seed}"


def file_of(entry: Entry) -> str:
    """Return the name of the checkpoint's bytes in its entry; its suffix says the format."""
    files: list[str] = list(entry.manifest["files"])
    return next(name for name in files if name.startswith(STEM))
