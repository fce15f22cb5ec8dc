"""import: the checks of other people's predictions before they join a stack. Nothing is stored.

In:  a config; or files that are no member of it yet.
Out: for each imported member what was looked at, and what a run would make of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.config import load_config
from stackfeat.config.planner import pools_of
from stackfeat.errors import UsageError
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.registry.user_code import serving_agreed
from stackfeat.store import LayeredStore, MemoryStore

if TYPE_CHECKING:
    from stackfeat.engine.external.predictions import Check, State

NEW = "imported"


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


@dataclass(frozen=True)
class CheckedImport:
    """What was found of an imported member, or of the files of a pool.

    Attributes
    ----------
    checks : tuple of Check
        Of a pool one for each file.
    n_used : int or None
        Files of a pool that a run would use; None for a single member.
    """

    checks: tuple[Check, ...]
    n_used: int | None = None

    @property
    def is_refused(self) -> bool:
        """Whether a run would leave the member out; it goes on with what is left of a pool."""
        return self.n_used is None and self.count("failed") > 0

    def count(self, state: State) -> int:
        """Return how many checks came to this."""
        return [check.state for check in self.checks].count(state)

    @property
    def verdict(self) -> str:
        n_failed, n_warned = self.count("failed"), self.count("warning")
        if self.n_used is not None:
            n_files = len(self.checks)
            found = f"{n_failed} refused, {n_warned} to look at"
            return f"a run would use {self.n_used} of {n_files} files ({found}) and go on"
        return f"refused: {n_failed} failed" if n_failed else f"accepted, {n_warned} warnings"

    def to_json(self) -> dict[str, Any]:
        own = {"refused": self.is_refused, "verdict": self.verdict, "n_used": self.n_used}
        return {**own, "checks": [asdict(check) for check in self.checks]}


def check_imports(
    config: Path,
    new: NewFiles | None = None,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
) -> dict[str, CheckedImport]:
    """Run the checks of the imported members of a config, or on new files alone.

    Returns
    -------
    dict of str to CheckedImport
        By member; ``imported`` for new files.

    Raises
    ------
    ConfigError, DataError
        If the config or its own data cannot be used, or a pool with which a run would end.
    UsageError
        If there is nothing to check.
    """
    from stackfeat.engine.external.pool import ensure_pool
    from stackfeat.engine.external.predictions import Check, ensure_member

    added: list[str] = []
    if new is not None:
        # A level of its own, so that no pattern of the config reads it.
        member = json.dumps({NEW: new.member(config.absolute().parent)})
        added = [f"levels.{NEW}={member}"]
    loaded = load_config(config, overrides=[*overrides, *added], trust_code=trust_code, data_roots=data_roots)
    planner = make_planner(loaded, open_store(loaded), loaded.code.is_trusted)
    planner = replace(planner, store=LayeredStore([MemoryStore(), planner.store]))
    given = {name: own.files for name, own in planner.graph().options.items() if own.files is not None}
    pools = [] if new is not None else pools_of(loaded.config)
    given = {name: own for name, own in given.items() if not any(name in pool.members for pool in pools)}
    if new is not None:
        given = {NEW: given[f"{NEW}/{NEW}"]}
    if not given and not pools:
        raise UsageError(
            f"there must be predictions to check; got none in {config}. Give --oof FILE, or add a member "
            "with predictions: {oof: FILE, test: FILE}"
        )
    with serving_agreed(loaded.code):
        planner.read_own_rows()
        rows, files = planner.run_rows(), planner.files()
        found = {
            name: CheckedImport(tuple(ensure_member(own, files, rows, planner.store)))
            for name, own in given.items()
        }
        for pool in pools:
            verdicts = ensure_pool(pool, planner.pool_recipe(pool), files, rows, planner.store)
            checks = [Check(one.member, _STATES[one.verdict], one.text) for one in verdicts.verdicts]
            found[pool.name] = CheckedImport(tuple(checks), sum(one.is_used for one in verdicts.verdicts))
    return found


_STATES: dict[str, State] = {"ok": "ok", "look": "warning", "refuse": "failed"}
