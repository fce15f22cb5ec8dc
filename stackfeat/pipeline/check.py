"""check and import: what can be said of a config before a run. Nothing is computed or written.

In:  a config; for `import` also files that are no member of it yet.
Out: the plan as text: members with what they read and pass on, and how many jobs are stored already; or the
     checks of other people's predictions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.config import LoadedConfig, load_config
from stackfeat.config.planner import Planner
from stackfeat.engine.graph import Node
from stackfeat.errors import UsageError, one_line
from stackfeat.output.run_folder import RunFolder
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.registry.user_code import serving_agreed
from stackfeat.store import LayeredStore, MemoryStore
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    from stackfeat.engine.external.predictions import Check

NEW = "imported"


def describe_plan(loaded: LoadedConfig) -> str:
    """Return the plan as lines of text."""
    store = open_store(loaded)
    planner = make_planner(loaded, store)
    plan = planner.plan()
    config, sources = loaded.config, plan.sources
    repeats = f" x {sources.n_repeats} repeats" if sources.n_repeats > 1 else ""
    share = config.stack.holdout
    part = "the rows of fold -1" if isinstance(share, str) else f"{100 * share:g} % of the rows"
    held = f", {part} held out of all levels" if share else ""
    rows = f"{sources.n_folds} folds ({planner.recipes.kind}){repeats}{held}"
    lines = [f"{one_line(config.name)}: {config.task}, {one_line(config.metric)}, {rows}", *_classes(planner)]
    n_missing = 0
    for level, nodes in plan.graph.levels().items():
        lines.append(f"{one_line(level)}:")
        for node in nodes:
            units = [job for job in plan.jobs() if job.member == node.full_name]
            missing = [job for job in units if not all(store.has(step.key) for step in job.steps)]
            n_missing += len(missing)
            lines += _member_lines(node, len(units), len(missing))
    folder = loaded.folder / loaded.config.run_dir
    RunFolder(folder, store.run).listed()
    lines.append(f"{n_missing} units to compute; results go to {one_line(folder)}")
    return "\n".join(lines)


def _classes(planner: Planner) -> list[str]:
    """Classes and the positive one, once the training file has been read."""
    key = planner.recipes.samples.key
    if not planner.store.has(key):
        return ["the data files were not read: columns are checked when the config is run"]
    task = Task.from_json(planner.store.read(key).structure("samples", dict[str, Any])["task"])
    return [task.described] if task.described else []


def _member_lines(node: Node, n_units: int, n_missing: int) -> list[str]:
    reads = one_line(", ".join((*node.raw, *node.blocks)))
    gives = one_line(", ".join(output.name for output in node.outputs))
    state = f"{n_missing} of {n_units} units to compute" if n_missing else "stored"
    return [f"  {one_line(node.name)}: {state}", f"    reads {reads}", f"    gives {gives}"]


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
    """Run the checks of the imported members of a config, or on new files alone.

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
    from stackfeat.engine.external.predictions import ensure_member

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
