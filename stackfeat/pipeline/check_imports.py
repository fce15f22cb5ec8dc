"""import: the gate for other people's predictions, as a dry run.

In:  a config with imported members, or files that are no member yet.
Out: the checks of each, printed as a table. Rows and predictions are kept in memory, nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.config import load_config
from stackfeat.errors import DataError, UsageError, one_line
from stackfeat.log import console
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.registry.user_code import serving_agreed
from stackfeat.store import LayeredStore, MemoryStore

if TYPE_CHECKING:
    from stackfeat.members.imported_rows import Check

NEW = "imported"
MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "failed": "FAILED"}


@dataclass(frozen=True)
class NewFiles:
    """Files that no config names yet; paths as given on the command line."""

    oof: Path
    test: str | None = None
    folds: Path | None = None
    score: float | None = None

    def member(self, folder: Path) -> dict[str, Any]:
        """Return the member to add to a config in this folder."""
        paths = {"oof": self.oof, "test": self.test, "folds": self.folds}
        given: dict[str, Any] = {
            role: Path(os.path.relpath(path, folder)).as_posix() for role, path in paths.items() if path
        }
        return {"predictions": given | ({} if self.score is None else {"score": self.score})}


def check_imports(
    config: Path,
    new: NewFiles | None = None,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
) -> dict[str, list[Check]]:
    """Run the gate on the imported members of a config, or on new files alone.

    Returns
    -------
    dict of str to list of Check
        Checks by member; ``imported`` for new files.

    Raises
    ------
    ConfigError, DataError
        If the config or its own data cannot be used.
    UsageError
        If there is nothing to check.
    """
    from stackfeat.engine.external.stored import ensure_member

    added: list[str] = []
    if new is not None:
        # A level of its own, so that no pattern of the config reads it.
        member = json.dumps({NEW: new.member(config.absolute().parent)})
        added = [f"levels.{NEW}={member}"]
    loaded = load_config(config, overrides=[*overrides, *added], trust_code=trust_code, data_roots=data_roots)
    planner = make_planner(loaded, open_store(loaded), loaded.code.is_trusted)
    planner = replace(planner, store=LayeredStore([MemoryStore(), planner.store]))
    given = {name: own.files for name, own in planner.graph().options.items() if own.files is not None}
    if new is not None:
        given = {NEW: given[f"{NEW}/{NEW}"]}
    if not given:
        raise UsageError(
            f"there must be predictions to check; got none in {config}. Give --oof FILE, or add a member "
            "with predictions: {oof: FILE, test: FILE}"
        )
    with serving_agreed(loaded.code):
        planner.read_own_rows()
        rows, files = planner.run_rows(), planner.files()
    return {name: ensure_member(own, files, rows, planner.store) for name, own in given.items()}


def print_checks(found: Mapping[str, Sequence[Check]]) -> int:
    """Print a table for each member; return the exit code: that of wrong data where a check failed."""
    from rich.table import Table

    printer = console(soft_wrap=False)
    for member, checks in found.items():
        table = Table(
            "check", "", "found", title=one_line(member), title_justify="left", box=None, pad_edge=False
        )
        for check in checks:
            table.add_row(check.name, MARKS[check.state], one_line(check.text))
        printer.print(table, markup=False)
        n_failed = sum(check.state == "failed" for check in checks)
        n_warned = sum(check.state == "warning" for check in checks)
        verdict = f"refused: {n_failed} failed" if n_failed else f"accepted, {n_warned} warnings"
        printer.print(f"{verdict}\n", markup=False, highlight=False)
    has_failed = any(check.state == "failed" for checks in found.values() for check in checks)
    return DataError.exit_code if has_failed else 0
