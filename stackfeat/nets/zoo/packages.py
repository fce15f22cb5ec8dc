"""Import what an extra brings, or say which extra is missing."""

from __future__ import annotations

import importlib
from typing import Any

from stackfeat.errors import MissingExtraError


def import_extra(package: str, net: str, extra: str) -> Any:
    """Return an optional package.

    Raises
    ------
    MissingExtraError
        If it is not installed; names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(
            f"net {net!r} needs package {package!r}, which is not installed. "
            f'Install it: pip install "stackfeat[{extra}]"'
        ) from error
