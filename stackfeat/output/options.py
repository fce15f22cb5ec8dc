"""Options of `outputs`; torch-free."""

from __future__ import annotations

from stackfeat.options import Options


class OutputOptions(Options):
    """Where results go."""

    dir: str | None = None
