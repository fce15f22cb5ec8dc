"""The saved predictor: models of every pipeline up to the submitted member, nothing else.

In:  a finished plan, the store, how data are read and how a submission looks.
Out: the folder `predictor/` of a run, complete or not there; it needs neither store nor config.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackfeat.ensemble.fit_info import FitInfo
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.predictor import FORMAT, MODELS, WIRING, read_predictor, write_hashes
from stackfeat.ensemble.units import Averaging
from stackfeat.ensemble.wiring import Wiring
from stackfeat.errors import StackfeatError
from stackfeat.output.files import write_json
from stackfeat.store import EntryStore, Store
from stackfeat.task import Task

_NOT_NEEDED = ("oof/", "anchor/", "rows/")


def write_predictor(
    folder: Path,
    plan: Plan,
    member: str,
    averaging: Averaging,
    task: Task,
    store: EntryStore,
    extra: dict[str, Any],
) -> None:
    """Write everything that later rows need.

    Parameters
    ----------
    extra : dict
        JSON kept beside the wiring: the schema of the data, the form of a submission, the decision.
    """
    wiring = Wiring.of(plan, member, averaging, task)
    unsaved = _unsaved(store, {key: member for member, _, _, key in wiring.fits})
    description = {"format": FORMAT} | wiring.to_json() | extra | {"unsaved": unsaved}
    if _is_current(folder, description, wiring.keys):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".predictor-"))
    try:
        models = Store(temporary / MODELS)
        for key in wiring.keys:
            _copy_state(store, models, key)
        write_json(temporary / WIRING, description)
        write_hashes(temporary, wiring.keys)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_current(folder: Path, description: dict[str, Any], keys: Sequence[str]) -> bool:
    """Whether the folder holds this very predictor, every byte as it was written."""
    try:
        there, models = read_predictor(folder)
        return there == json.loads(json.dumps(description)) and all(models.verify(key) for key in keys)
    except (OSError, StackfeatError):
        return False


def _copy_state(source: EntryStore, target: Store, key: str) -> None:
    entry = source.read(key)
    if target.has(key):
        return
    with target.write(key, entry.kind, entry.manifest["recipe"]) as writer:
        for name in entry.manifest["files"]:
            if not name.startswith(_NOT_NEEDED):
                writer.bytes(name, entry.bytes(name))


def _unsaved(store: EntryStore, names: dict[str, str]) -> dict[str, str]:
    problems = {}
    for key, member in names.items():
        problem = FitInfo.of(store.read(key)).unsaved
        if problem:
            problems[member] = problem
    return problems
