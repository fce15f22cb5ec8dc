"""check: what can be said of a config before a run. Nothing is computed or written.

In:  a config.
Out: the plan: what the data files hold, members with what they read and pass on, and how many jobs are stored
     already; as values, and as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner
from stackfeat.config.problems import Finding
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.graph import Graph, Node
from stackfeat.engine.plan import Plan
from stackfeat.errors import (
    ConfigError,
    DataError,
    LayerNotFoundError,
    Problem,
    StackfeatError,
    TapError,
    described,
    machine_fault,
    one_line,
)
from stackfeat.output.run_folder import RunFolder
from stackfeat.pipeline.file_checks import check_files
from stackfeat.pipeline.prepare import N_ROWS, find_tapped_layers, first_rows, make_planner, open_store
from stackfeat.registry.resolve import name_values
from stackfeat.registry.user_code import first_on_path, serving_agreed
from stackfeat.store import EntryStore, LayeredStore, MemoryStore
from stackfeat.tasks.task import Task, task_class

if TYPE_CHECKING:
    from stackfeat.data.samples import Samples
    from stackfeat.members.net import NetMember
    from stackfeat.members.options import MemberOptions


@dataclass(frozen=True)
class MemberPlan:
    """What a member, or a pool of files, will read and pass on, and how much of it is stored.

    Attributes
    ----------
    name : str
        Within its level; of a pool what its files have in common.
    files : tuple of str
        Members of a pool; empty for every other member.
    n_jobs : int
    missing : tuple of str
        Jobs that are to be computed, by repeat and fold.
    is_calibrated : bool
        Whether its predictions are calibrated where that helps.
    shapes : mapping of str to tuple of int
        Of what a net gives for the rows that it was tried on; empty where it was not.
    """

    level: str
    name: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    n_jobs: int
    missing: tuple[str, ...]
    files: tuple[str, ...] = ()
    is_calibrated: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield what is printed of it."""
        n_missing = len(self.missing)
        state = f"{n_missing} of {self.n_jobs} jobs to compute" if n_missing else "stored"
        if self.files:
            yield f"  {self.name}: {len(self.files)} files, {state}"
            yield f"    members {one_line(name_values(list(self.files)))}"
        else:
            if 0 < n_missing < self.n_jobs:
                state += f": {one_line(', '.join(self.missing))}"
            yield f"  {one_line(self.name)}: {state}"
            yield f"    reads {one_line(', '.join(self.reads))}"
        yield f"    gives {one_line(', '.join(self.gives))}"
        if self.is_calibrated:
            yield "    calibrated, where that lowers the out-of-fold loss by a standard error"
        if self.shapes:
            sizes = ", ".join(f"{part} {' x '.join(map(str, shape))}" for part, shape in self.shapes.items())
            yield f"    built and run on {N_ROWS} rows at most: {sizes}"


@dataclass(frozen=True)
class PlanReport:
    """What a run would compute; its text is what `check` prints.

    Attributes
    ----------
    folds : str
        Kind of folds.
    holdout : float or "column"
        Share of the rows that is held out of all levels; 0: none; ``column``: the rows of fold -1.
    interval : float or None
        The level at which intervals or class sets are measured.
    averaging : str
        What members above the first level see of test rows.
    data : tuple of str
        What the data files hold, what was guessed of them, and warnings.
    outputs : Path
        The run folder.
    """

    name: str
    task: str
    metric: str
    folds: str
    n_folds: int
    n_repeats: int
    holdout: float | str
    interval: float | None
    averaging: str
    data: tuple[str, ...]
    members: tuple[MemberPlan, ...]
    outputs: Path

    @property
    def n_jobs(self) -> int:
        return sum(member.n_jobs for member in self.members)

    @property
    def n_missing(self) -> int:
        """Jobs that are not stored."""
        return sum(len(member.missing) for member in self.members)

    @property
    def n_stored(self) -> int:
        return self.n_jobs - self.n_missing

    def to_json(self) -> dict[str, Any]:
        counts = {"n_jobs": self.n_jobs, "n_missing": self.n_missing, "n_stored": self.n_stored}
        return {**asdict(self), "outputs": self.outputs, **counts, "most_rows_tried": N_ROWS}

    def __str__(self) -> str:
        repeats = f" x {self.n_repeats} repeats" if self.n_repeats > 1 else ""
        is_named = isinstance(self.holdout, str)
        part = "the rows of fold -1" if is_named else f"{100 * float(self.holdout):g} % of the rows"
        held = f", {part} held out of all levels" if self.holdout else ""
        rows = f"{self.n_folds} folds ({self.folds}){repeats}{held}"
        lines = [f"{one_line(self.name)}: {self.task}, {one_line(self.metric)}, {rows}", "data:"]
        lines += [f"  {one_line(note)}" for note in self.data]
        if self.interval is not None:
            regions = task_class(self.task).region_words[0]
            lines.append(f"interval: {regions} of {100 * self.interval:g} %, measured out of fold")
        for level, members in groupby(self.members, lambda member: member.level):
            lines.append(f"{one_line(level)}:")
            lines += [line for member in members for line in member.lines()]
        lines.append(_jobs_line(self.averaging == "refit"))
        stored = f" ({self.n_stored} of {self.n_jobs} are stored)" if self.n_stored else ""
        lines.append(f"{self.n_missing} jobs to compute{stored}; results go to {one_line(self.outputs)}")
        return "\n".join(lines)


def describe_plan(loaded: LoadedConfig, *, deep: bool = False) -> PlanReport:
    """Return what the files hold, and the plan.

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
    RunFolder(folder, store.run, loaded.origin).listed()
    data = _data_notes(planner)
    nets: dict[str, dict[str, tuple[int, ...]]] = {}
    if deep:
        planner, nets = _tried(planner)
    plan = planner.plan()
    members = [
        replace(_member_plan(group, plan, store), shapes=nets.get(group[0].full_name, {}))
        for nodes in plan.graph.levels().values()
        for group in _groups(nodes, plan.graph)
    ]
    return PlanReport(
        name=config.name,
        task=config.task,
        metric=config.metric,
        folds=planner.recipes.kind,
        n_folds=plan.sources.n_folds,
        n_repeats=plan.sources.n_repeats,
        holdout=config.stack.holdout,
        interval=config.interval,
        averaging=plan.sources.averaging,
        data=tuple(data),
        members=tuple(members),
        outputs=folder,
    )


def _jobs_line(is_refit: bool) -> str:
    whole = (
        "one on all rows too (averaging: refit)" if is_refit else "above the first level one on all rows too"
    )
    return f"jobs: a fit for each fold and repeat; {whole}; an alignment for each tap"


def _data_notes(planner: Planner) -> list[str]:
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
    return [*planner.loaded.guesses, *notes]


def _groups(nodes: Sequence[Node], graph: Graph) -> Iterator[list[Node]]:
    """Yield the members of a pool together, every other alone."""
    for place, group in groupby(
        nodes, lambda node: (node.path, graph.options[node.full_name].files is not None)
    ):
        members = list(group)
        yield from [members] if place[1] else [[node] for node in members]


def _member_plan(group: Sequence[Node], plan: Plan, store: EntryStore) -> MemberPlan:
    node, names = group[0], {node.full_name for node in group}
    jobs = [job for job in plan.jobs() if job.member in names]
    missing = [job for job in jobs if not all(store.has(step.key) for step in job.steps)]
    is_pool = ":" in node.name and len(group) > 1
    return MemberPlan(
        level=node.level,
        name=node.name.partition(":")[0] if is_pool else node.name,
        reads=(*node.raw, *node.blocks),
        gives=tuple(output.name for output in node.outputs),
        n_jobs=len(jobs),
        missing=tuple(job.label.removeprefix(f"{node.full_name} ") for job in missing),
        files=tuple(one.name for one in group) if is_pool else (),
        is_calibrated=plan.graph.options[node.full_name].is_calibrated,
    )


def _tried(planner: Planner) -> tuple[Planner, dict[str, dict[str, tuple[int, ...]]]]:
    """Build every net on the first training rows; return the planner that knows their layers, and what they give."""
    planner = replace(planner, store=LayeredStore([MemoryStore(), planner.store]))
    places = planner.loaded.places
    problems, shapes = list[Problem](), dict[str, dict[str, tuple[int, ...]]]()
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
                shapes[f"{level}/{name}"] = found
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
