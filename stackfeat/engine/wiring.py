"""The wiring of a saved stack: which fits it is made of and how they hang together, as a file says it.

In:  a plan, or the JSON of a predictor folder, which anybody may have written.
Out: JSON, or a plan in which every fit that it needs is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from stackfeat.encodings.options import EncodingName
from stackfeat.engine.graph import Graph, Node
from stackfeat.engine.jobs import Averaging, Sources
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import Fold
from stackfeat.members.options import Output
from stackfeat.members.settings import RunSettings
from stackfeat.meta.widening import Widening, checked_widenings
from stackfeat.structure import must, structured
from stackfeat.tasks.task import Task

MOST = {"n_folds": 10_000, "n_repeats": 100, "threads": 4096}


@dataclass(frozen=True)
class WiredNode:
    """A member as a file says it; `vote` says whether it does without some of its inputs."""

    level: str
    name: str
    raw: tuple[str, ...]
    blocks: tuple[str, ...]
    outputs: tuple[tuple[str, Literal["prediction", "feature"], EncodingName | None], ...]
    first_fold: int
    vote: bool = False

    @classmethod
    def of(cls, node: Node) -> WiredNode:
        outputs = tuple((output.name, output.kind, output.encoding) for output in node.outputs)
        wired = (node.level, node.name, node.raw, node.blocks, outputs, node.first_fold)
        return cls(*wired, vote=node.does_without_inputs)

    def node(self) -> Node:
        outputs = tuple(Output(name, kind, encoding=encoding) for name, kind, encoding in self.outputs)
        return Node(self.level, self.name, self.raw, self.blocks, outputs, self.first_fold, self.vote)


@dataclass(frozen=True)
class Wiring:
    """All that a prediction needs to know besides the fits themselves.

    Attributes
    ----------
    member, block : str
        The member that was submitted, and the block of its predictions.
    fits : tuple of (str, int, int or str, str)
        Member, repeat, fold, key.
    aligns : tuple of (str, int, str)
        Block, repeat, key of the maps of its fold spaces.
    unsaved : mapping of str to str
        Members that cannot score later data, and why.
    widenings : mapping of str to Widening
        Of the averages of calibrated members, by block.
    interval : str
        Key of the member's intervals; empty where there are none.
    """

    member: str
    block: str
    nodes: tuple[WiredNode, ...]
    fits: tuple[tuple[str, int, Fold, str], ...]
    aligns: tuple[tuple[str, int, str], ...]
    n_folds: int
    n_repeats: int
    is_time: bool
    threads: int
    averaging: Averaging
    task: Task
    unsaved: Mapping[str, str] = field(default_factory=dict)
    widenings: Mapping[str, Widening] = field(default_factory=dict)
    interval: str = ""

    @classmethod
    def of(
        cls,
        plan: Plan,
        member: str,
        averaging: Averaging,
        task: Task,
        widenings: Mapping[str, Widening | None] = MappingProxyType({}),
        interval: str = "",
    ) -> Wiring:
        """Return the wiring of everything up to a member; `widenings` by the names of members."""
        block = plan.graph.node(member).prediction
        assert block is not None
        fits, aligns = needed_fits(plan, member, averaging)
        return cls(
            member=member,
            block=block,
            nodes=tuple(WiredNode.of(node) for node in plan.graph.upstream(member)),
            fits=tuple((*fit, plan.fits[fit]) for fit in fits),
            aligns=tuple((*align, plan.test_maps[align]) for align in aligns),
            n_folds=plan.sources.n_folds,
            n_repeats=plan.sources.n_repeats,
            is_time=plan.sources.is_time,
            threads=plan.sources.settings.threads,
            averaging=averaging,
            task=task,
            widenings={
                node.prediction: widening
                for node in plan.graph.upstream(member)
                if node.prediction and (widening := widenings.get(node.full_name))
            },
            interval=interval,
        )

    @property
    def keys(self) -> list[str]:
        """Keys of all entries that are needed, each once."""
        intervals = [self.interval] if self.interval else []
        models = [*(fit[3] for fit in self.fits), *(align[2] for align in self.aligns)]
        return list(dict.fromkeys([*models, *intervals]))

    def to_json(self) -> dict[str, Any]:
        plain = {"averaging": self.averaging.to_json(), "task": self.task.to_json()}
        values = {**asdict(self), **plain}
        # Left out where there are none, so that predictors without any stay as they were.
        if not self.widenings:
            values.pop("widenings")
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Wiring:
        """Return the wiring that `to_json` described; `values` may hold more.

        Raises
        ------
        StructureError
            If it is not made so, or a fit is missing.
        """
        own = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        wiring = structured(cls, own, where)
        wiring.task.check(f"{where}.task")
        checked_widenings(wiring.widenings, wiring.task, f"{where}.widenings")
        for name, most in MOST.items():
            value = getattr(wiring, name)
            must(1 <= value <= most, f"{where}.{name}", f"be from 1 to {most}", value)
        wiring._refuse_gaps(where)
        return wiring

    def _refuse_gaps(self, where: str) -> None:
        """Raise StructureError unless nodes read what is before them, and each has just the fits it needs."""
        before: set[str] = set()
        for node in self.nodes:
            absent = [block for block in node.blocks if block not in before]
            must(not absent, f"{where}.nodes", "read blocks of earlier nodes", absent[:1])
            before |= {f"{node.level}/{node.name}/{name}" for name, _, _ in node.outputs}
        names = [f"{node.level}/{node.name}" for node in self.nodes]
        must(len(set(names)) == len(names), f"{where}.nodes", "differ in their names", names)
        must(self.member in names, f"{where}.member", "be one of its nodes", self.member)
        plan = self.plan()
        predicted = plan.graph.node(self.member).prediction
        must(predicted == self.block, f"{where}.block", "be of its member", self.block)
        fits, aligns = needed_fits(plan, self.member, self.averaging)
        must(set(fits) == set(plan.fits), f"{where}.fits", f"be the {len(fits)} needed", len(self.fits))
        wanted = f"be the {len(aligns)} needed"
        must(set(aligns) == set(plan.test_maps), f"{where}.aligns", wanted, len(self.aligns))

    def plan(self) -> Plan:
        """Return the plan with the keys of its fits; it names no rows yet."""
        sources = Sources(
            samples="",
            test=None,
            folds="",
            n_folds=self.n_folds,
            n_repeats=self.n_repeats,
            is_time=self.is_time,
            seed=0,
            settings=RunSettings(self.threads),
            source_hash=lambda name: None,
            averaging=self.averaging.averaging,
        )
        plan = Plan(Graph([node.node() for node in self.nodes]), sources)
        plan.fits.update({(member, repeat, fold): key for member, repeat, fold, key in self.fits})
        plan.test_maps.update({(block, repeat): key for block, repeat, key in self.aligns})
        return plan


def needed_fits(
    plan: Plan, member: str, averaging: Averaging
) -> tuple[list[tuple[str, int, Fold]], list[tuple[str, int]]]:
    """Return which fits and alignments a prediction of `member` goes through."""
    fits: list[tuple[str, int, Fold]] = []
    aligns: list[tuple[str, int]] = []
    nodes = plan.graph.upstream(member)
    read = {block for node in nodes for block in node.blocks}
    for node in nodes:
        for repeat in range(plan.sources.n_repeats):
            fits += [(node.full_name, repeat, fold) for fold in folds_used(plan, node, averaging)]
        aligns += [
            (node.block(output), repeat)
            for output in node.outputs
            if output.is_cross_fold and node.block(output) in read
            for repeat in range(plan.sources.n_repeats)
        ]
    return fits, aligns


def folds_used(plan: Plan, node: Node, averaging: Averaging) -> list[Fold]:
    """Fits that test rows go through."""
    if averaging.averaging == "refit" or (averaging.chain == "all" and not node.is_base):
        return ["all"]
    return list(plan.folds_of(node))
