"""check: the plan of a config as text, without computing anything.

In:  a loaded config.
Out: members with what they read and hand on, and how many units are stored already.
"""

from __future__ import annotations

from typing import Any

from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner
from stackfeat.engine.graph import Node
from stackfeat.engine.plan import Plan
from stackfeat.errors import one_line
from stackfeat.output.run_folder import RunFolder
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.store import Store
from stackfeat.tasks.task import Task


def describe_plan(loaded: LoadedConfig) -> str:
    """Return the plan as lines of text."""
    store = open_store(loaded)
    planner = make_planner(loaded, store)
    plan = planner.plan()
    name, metric = one_line(loaded.config.name), one_line(loaded.config.metric)
    lines = [f"{name}: {loaded.config.task}, {metric}, {_folds(planner, plan)}"]
    lines += _classes(planner)
    n_missing = 0
    for level, nodes in plan.graph.levels().items():
        lines.append(f"{one_line(level)}:")
        for node in nodes:
            n_units, n_stored = _units(plan, node, store)
            n_missing += n_units - n_stored
            lines += _member_lines(node, n_units, n_stored)
    folder = loaded.folder / loaded.config.run_dir
    RunFolder(folder, store.run).listed()
    lines.append(f"{n_missing} units to compute; results go to {one_line(folder)}")
    return "\n".join(lines)


def _folds(planner: Planner, plan: Plan) -> str:
    repeats = f" x {plan.sources.n_repeats} repeats" if plan.sources.n_repeats > 1 else ""
    share = planner.config.stack.holdout
    part = "the rows of fold -1" if isinstance(share, str) else f"{100 * share:g} % of the rows"
    held = f", {part} held out of all levels" if share else ""
    return f"{plan.sources.n_folds} folds ({planner.recipes.kind}){repeats}{held}"


def _classes(planner: Planner) -> list[str]:
    """Classes and the positive one, once the training file has been read."""
    key = planner.recipes.samples.key
    if not planner.store.has(key):
        return ["the data files were not read: columns are checked when the config is run"]
    task = Task.from_json(planner.store.read(key).structure("samples", dict[str, Any])["task"])
    return [task.described] if task.described else []


def _units(plan: Plan, node: Node, store: Store) -> tuple[int, int]:
    jobs = [job for job in plan.jobs() if job.member == node.full_name]
    stored = [job for job in jobs if all(store.has(step.key) for step in job.steps)]
    return len(jobs), len(stored)


def _member_lines(node: Node, n_units: int, n_stored: int) -> list[str]:
    reads = one_line(", ".join((*node.raw, *node.blocks)))
    gives = one_line(", ".join(output.name for output in node.outputs))
    state = "stored" if n_stored == n_units else f"{n_units - n_stored} of {n_units} units to compute"
    return [f"  {one_line(node.name)}: {state}", f"    reads {reads}", f"    gives {gives}"]
