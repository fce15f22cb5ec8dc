"""check and import: what can be said of a config before a run. Nothing is computed or written.

In:  a config; for `import` also files that are no member of it yet.
Out: the plan as text: what the data files hold, members with what they read and pass on, and how many jobs are
     stored already; or the checks of other people's predictions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stackfeat.config import LoadedConfig, load_config
from stackfeat.config.planner import Planner, pools_of
from stackfeat.config.problems import Finding
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.graph import Graph, Node
from stackfeat.engine.jobs import Job
from stackfeat.errors import (
    ConfigError,
    DataError,
    LayerNotFoundError,
    Problem,
    StackfeatError,
    TapError,
    UsageError,
    described,
    machine_fault,
    one_line,
)
from stackfeat.output.run_folder import RunFolder
from stackfeat.pipeline.file_checks import check_files
from stackfeat.pipeline.prepare import N_ROWS, find_tapped_layers, first_rows, make_planner, open_store
from stackfeat.registry.resolve import name_values
from stackfeat.registry.user_code import first_on_path, serving_agreed
from stackfeat.store import LayeredStore, MemoryStore
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    from stackfeat.data.samples import Samples
    from stackfeat.engine.external.predictions import Check, State
    from stackfeat.members.net import NetMember
    from stackfeat.members.options import MemberOptions

NEW = "imported"


def describe_plan(loaded: LoadedConfig, *, deep: bool = False) -> str:
    """Return what the files hold, and the plan, as lines of text.

    Parameters
    ----------
    loaded : LoadedConfig
    deep : bool
        Also read all rows, build the nets and run them on the first rows, which imports torch.

    Raises
    ------
    DataError
        With everything that is wrong with the data files, as far as a sample of their rows tells.
    ConfigError
        If a net cannot be built, or a tap cannot be read (`deep`).
    """
    store = open_store(loaded)
    planner = make_planner(loaded, store, loaded.code.is_trusted)
    config = loaded.config
    folder = loaded.folder / config.run_dir
    RunFolder(folder, store.run).listed()
    data = _data_lines(planner)
    nets: dict[str, list[str]] = {}
    if deep:
        planner, nets = _tried(planner)
    plan = planner.plan()
    sources = plan.sources
    repeats = f" x {sources.n_repeats} repeats" if sources.n_repeats > 1 else ""
    share = config.stack.holdout
    part = "the rows of fold -1" if isinstance(share, str) else f"{100 * share:g} % of the rows"
    held = f", {part} held out of all levels" if share else ""
    rows = f"{sources.n_folds} folds ({planner.recipes.kind}){repeats}{held}"
    lines = [f"{one_line(config.name)}: {config.task}, {one_line(config.metric)}, {rows}", *data]
    n_missing = n_units = 0
    for level, nodes in plan.graph.levels().items():
        lines.append(f"{one_line(level)}:")
        for group in _groups(nodes, plan.graph):
            names = {node.full_name for node in group}
            units = [job for job in plan.jobs() if job.member in names]
            missing = [job for job in units if not all(store.has(step.key) for step in job.steps)]
            n_missing += len(missing)
            n_units += len(units)
            lines += _member_lines(group, units, missing)
            if plan.graph.options[group[0].full_name].is_calibrated:
                lines.append("    calibrated, where that lowers the out-of-fold loss by a standard error")
            lines += [f"    {line}" for line in nets.get(group[0].full_name, ())]
    lines.append(_jobs_line(sources.averaging == "refit"))
    stored = f" ({n_units - n_missing} of {n_units} are stored)" if n_missing < n_units else ""
    lines.append(f"{n_missing} jobs to compute{stored}; results go to {one_line(folder)}")
    return "\n".join(lines)


def _jobs_line(is_refit: bool) -> str:
    whole = (
        "one on all rows too (averaging: refit)" if is_refit else "above the first level one on all rows too"
    )
    return f"jobs: a fit for each fold and repeat; {whole}; an alignment for each tap"


def _data_lines(planner: Planner) -> list[str]:
    """Say what is in the data files, as an earlier run found it or by a look at a sample of their rows."""
    key = planner.recipes.samples.key
    if planner.store.has(key):
        entry = planner.store.read(key)
        task = Task.from_json(entry.structure("samples", dict[str, Any])["task"])
        notes = [*([task.described] if task.described else []), *entry.structure("notes", tuple[str, ...])]
        extra = planner.recipes.extra
        if extra is not None and planner.store.has(extra.key):
            notes += planner.store.read(extra.key).structure("notes", tuple[str, ...])
    else:
        found = check_files(planner.loaded)
        if found.problems:
            raise DataError(found.problems)
        notes = [*found.notes, *(f"warning: {text}" for text in found.warnings)]
    return ["data:", *(f"  {one_line(note)}" for note in (*planner.loaded.guesses, *notes))]


def _groups(nodes: Sequence[Node], graph: Graph) -> Iterator[list[Node]]:
    """Yield the members of a pool together, every other alone."""
    for place, group in groupby(
        nodes, lambda node: (node.path, graph.options[node.full_name].files is not None)
    ):
        members = list(group)
        yield from [members] if place[1] else [[node] for node in members]


def _member_lines(group: Sequence[Node], units: Sequence[Job], missing: Sequence[Job]) -> list[str]:
    node, is_pool = group[0], ":" in group[0].name and len(group) > 1
    reads = one_line(", ".join((*node.raw, *node.blocks)))
    gives = one_line(", ".join(output.name for output in node.outputs))
    state = f"{len(missing)} of {len(units)} jobs to compute" if missing else "stored"
    if 0 < len(missing) < len(units) and not is_pool:
        labels = [job.label.removeprefix(f"{node.full_name} ") for job in missing]
        state += f": {one_line(', '.join(labels))}"
    if is_pool:
        listed = one_line(name_values([one.name for one in group]))
        pool = node.name.partition(":")[0]
        return [f"  {pool}: {len(group)} files, {state}", f"    members {listed}", f"    gives {gives}"]
    return [f"  {one_line(node.name)}: {state}", f"    reads {reads}", f"    gives {gives}"]


def _tried(planner: Planner) -> tuple[Planner, dict[str, list[str]]]:
    """Build every net on the first training rows; return the planner that knows their layers, and what they give."""
    planner = replace(planner, store=LayeredStore([MemoryStore(), planner.store]))
    places = planner.loaded.places
    problems, shapes = list[Problem](), dict[str, list[str]]()
    with serving_agreed(planner.loaded.code):
        planner.read_own_rows()
        train = samples_of(planner.store, planner.recipes.samples.key)
        for level, members in planner.config.levels.items():
            for name, options in members.items():
                if not options.has_layers:
                    continue
                try:
                    with first_on_path(planner.loaded.folder if planner.trust_code else None):
                        found = _shapes(options, train, planner)
                except Exception as error:
                    path = f"levels.{level}.{name}"
                    is_tap = isinstance(error, TapError | LayerNotFoundError)
                    finding = Finding(f"{path}.{'emit' if is_tap else 'params'}", _said(error))
                    problems.append(places.problem(finding))
                    continue
                sizes = (f"{part} {' x '.join(map(str, shape))}" for part, shape in found.items())
                shapes[f"{level}/{name}"] = [f"built and run on {N_ROWS} rows at most: {', '.join(sizes)}"]
        if problems:
            raise ConfigError(problems)
        return find_tapped_layers(planner), shapes


def _shapes(options: MemberOptions, train: Samples, planner: Planner) -> dict[str, tuple[int, ...]]:
    """Return what a net gives on the first training rows; patterns of taps are replaced by the layers they mean."""
    rows, seed = first_rows(train, options), planner.config.seed
    net = cast("NetMember", options.member(planner.trust_code))
    if options.open_taps():
        layers = net.layers_of_patterns(rows, train.task, seed)
        net = cast("NetMember", options.with_layers(layers).member(planner.trust_code))
    return net.shapes(rows, train.task, seed)


def _said(error: Exception) -> str:
    if machine_fault(error) is not None:
        raise error
    return str(error) if isinstance(error, StackfeatError) else f"the net must run; got {described(error)}"


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
        found = {name: ensure_member(own, files, rows, planner.store) for name, own in given.items()}
        for pool in pools:
            verdicts = ensure_pool(pool, planner.pool_recipe(pool), files, rows, planner.store)
            found[pool.name] = [
                Check(one.member, _STATES[one.verdict], one.text) for one in verdicts.verdicts
            ]
    return found


_STATES: dict[str, State] = {"ok": "ok", "look": "warning", "refuse": "failed"}
