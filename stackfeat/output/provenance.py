"""Provenance: which stored entries are behind every block and file of a run.

In:  a finished run.
Out: plain JSON, written into the run folder, by which `audit` finds everything without the data files.
"""

from __future__ import annotations

from typing import Any

from stackfeat.output.finished import Finished
from stackfeat.output.write import file_name

FILE = "provenance.json"
FORMAT = 1


def provenance_json(finished: Finished) -> dict[str, Any]:
    """Return keys of rows, folds and fits, the places of every block, and what files of
    rows out of fold, and of held-out rows, are made of.

    Returns
    -------
    dict
        ``blocks``, in the order of computing: name, member, encoding, what it reads, and for each repeat
        and fold the entry and the array of its OOF rows. ``fits``: by member, keys by ``repeat/fold``
        (fold ``all``: fitted on all rows; ``0-1``: two folds left out). ``holdout``: key of the
        held-out rows, or None.
    """
    plan = finished.plan
    fits: dict[str, dict[str, str]] = {}
    for (member, repeat, fold), key in plan.fits.items():
        fits.setdefault(member, {})[f"{repeat}/{fold}"] = key
    blocks = [
        {
            "name": name,
            "member": node.full_name,
            "kind": output.kind,
            "encoding": output.encoding,
            "reads": [*node.raw, *node.blocks],
            "oof": [plan.oof_places(name, repeat) for repeat in range(plan.sources.n_repeats)],
        }
        for name, (node, output) in plan.graph.blocks().items()
    ]
    files = {f"oof/{file_name(score)}": finished.oof_recipe(score) for score in finished.scores}
    if finished.held is not None:
        files |= {f"holdout/{file_name(score)}": finished.held_recipe(score) for score in finished.scores}
    return {
        "format": FORMAT,
        "samples": plan.sources.samples,
        "test": plan.sources.test,
        "holdout": plan.sources.holdout,
        "folds": plan.sources.folds,
        "n_folds": plan.sources.n_folds,
        "n_repeats": plan.sources.n_repeats,
        "averaging": finished.averaging.to_json(),
        "fits": fits,
        "blocks": blocks,
        "files": files,
    }
