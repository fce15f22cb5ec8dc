"""Passage: the way that new rows take through the fits and maps of a stack, in memory.

In:  a plan with the keys of its fits, a store that holds them, rows.
Out: what is asked of which part in which order, and where what it says then stands; the parts, read once or always.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.encodings.alignment import Maps
from stackfeat.engine.blocks import ReadPlace
from stackfeat.engine.fitted import Fit, emit_views, load_fit
from stackfeat.engine.jobs import Averaging, Job
from stackfeat.engine.plan import Plan, align_emit_recipes, emit_recipe_of, note_keys
from stackfeat.engine.recipes import AlignEmitRecipe, EmitRecipe, Place
from stackfeat.engine.scoring import view_places
from stackfeat.engine.wiring import folds_used
from stackfeat.members.protocol import Narrowable
from stackfeat.store import EntryStore
from stackfeat.store.entry import plain_array


class Part(Protocol):
    """Something of a stack that rows pass through."""

    def asked(self, step: Any, samples: Samples, read: ReadPlace) -> dict[str, np.ndarray]:
        """Return what it gives, by the names of an entry."""


class FitPart(Fit):
    """A fitted member that rows pass through."""

    def asked(self, step: EmitRecipe, samples: Samples, read: ReadPlace) -> dict[str, np.ndarray]:
        return emit_views(step, self, samples, read)


class MapPart(Maps):
    """Maps that activations pass through."""

    def asked(self, step: AlignEmitRecipe, samples: Samples, read: ReadPlace) -> dict[str, np.ndarray]:
        view = f"view{step.fold}"
        return {view: self.mapped(step.fold, lambda name: read((step.emit, f"{view}/{name}")))}


@dataclass(frozen=True)
class Parts:
    """Fitted members and maps of a store.

    Attributes
    ----------
    keeps : bool
        Whether they stay in memory; else each is read when rows pass through it, and forgotten.
    """

    store: EntryStore
    trust_code: bool
    keeps: bool
    held: dict[str, Part] = field(default_factory=dict)
    turn: threading.RLock = field(default_factory=threading.RLock)

    def of(self, step: EmitRecipe | AlignEmitRecipe, wanted: Collection[str]) -> Part:
        """Return what rows pass through in a step; of features it need give no others than `wanted`."""
        key = step.fit if isinstance(step, EmitRecipe) else step.align
        with self.turn:
            if key in self.held:
                return self.held[key]
            part = self._load(step, wanted)
            if self.keeps:
                self.held[key] = part
            return part

    def _load(self, step: EmitRecipe | AlignEmitRecipe, wanted: Collection[str]) -> Part:
        if isinstance(step, EmitRecipe):
            fit = load_fit(self.store, step.fit, self.trust_code)
            member = fit.member.narrowed(wanted) if isinstance(fit.member, Narrowable) else fit.member
            return FitPart(fit.recipe, member)
        maps = Maps.of(self.store.read(step.align))
        return MapPart(maps.report, maps.alignments)


NEW_ROWS = "rows"
"""In the place of the key of samples: what passes through is not stored."""


@dataclass(frozen=True)
class Passage:
    """The way of rows through a stack, worked out once for all rows.

    Attributes
    ----------
    plan : Plan
        With the keys of what is asked.
    steps : tuple of EmitRecipe or AlignEmitRecipe
        In the order of asking.
    places : mapping of str to sequence of Place
        Where the predictions of all pipelines stand in the end, by block.
    wanted : frozenset of str
        Names of outputs, of whatever member, that some member reads.
    """

    plan: Plan
    steps: tuple[EmitRecipe | AlignEmitRecipe, ...]
    places: Mapping[str, Sequence[Place]]
    wanted: frozenset[str]

    @classmethod
    def of(cls, whole: Plan, averaging: Averaging, only: int | None = None) -> Passage:
        """Work it out; `only` through one fold of the first repeat, which has no places of all pipelines."""
        plan = replace(whole, sources=replace(whole.sources, test=NEW_ROWS), emits={}, align_emits={})
        steps = tuple(step for steps in _emits(plan, averaging, only) for step in steps)
        blocks = [node.prediction for node in plan.graph.nodes if node.prediction and only is None]
        read = frozenset(block.split("/", 2)[2] for node in plan.graph.nodes for block in node.blocks)
        return cls(plan, steps, {block: view_places(plan, block, averaging) for block in blocks}, read)

    def said(
        self, parts: Parts, samples: Samples, given: Mapping[Place, np.ndarray] | None = None
    ) -> dict[Place, np.ndarray]:
        """Return what every step says of rows, by place; `given` says it of steps that are not asked."""
        said = dict(given or {})
        known = {key for key, _ in said}
        for step in self.steps:
            if step.key not in known:
                said |= self.asked(step, parts, samples, said.__getitem__)
        return said

    def asked(
        self, step: EmitRecipe | AlignEmitRecipe, parts: Parts, samples: Samples, read: ReadPlace
    ) -> dict[Place, np.ndarray]:
        """Return what one step says of rows, by place."""
        arrays = parts.of(step, self.wanted).asked(step, samples, read)
        return {(step.key, name): plain_array(values, name) for name, values in arrays.items()}


def _emits(plan: Plan, averaging: Averaging, only: int | None = None) -> Iterator[list[Any]]:
    """Yield what each member and repeat emits, and note the keys in the plan; `only` one fold of the first repeat."""
    read = {block for node in plan.graph.nodes for block in node.blocks}
    for node in plan.graph.nodes:
        name = node.full_name
        for repeat in range(plan.sources.n_repeats if only is None else 1):
            jobs = []
            for fold in folds_used(plan, node, averaging) if only is None else [only]:
                recipe = emit_recipe_of(plan, node, repeat, fold, plan.fits[name, repeat, fold])
                jobs += [Job(name, repeat, fold, (recipe,))] if recipe else []
            note_keys(plan, jobs)
            mapped = []
            for block, output in ((node.block(output), output) for output in node.outputs):
                if block in read and (block, repeat) in plan.test_maps:
                    recipes = align_emit_recipes(plan, node, output, repeat, plan.test_maps[block, repeat])
                    mapped.append(Job(name, repeat, "all", tuple(recipes), "align", block))
            note_keys(plan, mapped)
            yield [step for job in (*jobs, *mapped) for step in job.steps]
