"""The saved predictor: models of every pipeline up to the submitted member, nothing else.

In:  a finished plan, the store, how data are read and how a submission looks.
Out: the folder `predictor/` of a run; it needs neither store nor config.
"""

from __future__ import annotations

import json
from typing import Any

from stackfeat.ensemble.fit_info import FitInfo
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.predictor import FORMAT, MODELS, WIRING, write_hashes
from stackfeat.ensemble.units import Averaging
from stackfeat.ensemble.wiring import Wiring
from stackfeat.output.files import write_json
from stackfeat.output.run_folder import Draft
from stackfeat.store import EntryStore, Store
from stackfeat.task import Task

FOLDER = "predictor"
_NOT_NEEDED = ("oof/", "anchor/", "rows/")


def write_predictor(
    draft: Draft,
    plan: Plan,
    member: str,
    averaging: Averaging,
    task: Task,
    store: EntryStore,
    extra: dict[str, Any],
) -> None:
    """Write everything that later rows need, unless it is there.

    Parameters
    ----------
    extra : dict
        JSON kept beside the wiring: the schema of the data, the form of a submission, the decision.
    """
    wiring = Wiring.of(plan, member, averaging, task)
    unsaved = _unsaved(store, {key: member for member, _, _, key in wiring.fits})
    description = {"format": FORMAT} | wiring.to_json() | extra | {"unsaved": unsaved}
    made_of = {"description": json.loads(json.dumps(description)), "keys": list(wiring.keys)}
    if draft.keeps(FOLDER, made_of):
        return
    folder = draft.path(FOLDER, made_of)
    models = Store(folder / MODELS)
    for key in wiring.keys:
        _copy_state(store, models, key)
    write_json(folder / WIRING, description)
    write_hashes(folder, wiring.keys)


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
