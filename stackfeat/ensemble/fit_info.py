"""What a fit leaves beside its arrays: how long it took, what it chose, whether it can score later data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stackfeat.store import Entry


@dataclass(frozen=True)
class FitInfo:
    """The file ``info.json`` of a fit.

    Attributes
    ----------
    report : mapping
        What the fitted member says of itself.
    unsaved : str or None
        Why the member cannot score later data; None where it can.
    warnings : tuple of str
        What libraries warned of.
    """

    seconds: float
    report: Mapping[str, Any]
    unsaved: str | None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Entry) -> FitInfo:
        """Read it from the entry of a fit; DamagedEntryError if it is not made so."""
        info: FitInfo = entry.structure("info", cls)
        return info
