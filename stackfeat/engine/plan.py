"""Plan: the graph with a key for every result, so it is known what is in the store.

In:  a graph, and the keys of rows and folds.
Out: waves of jobs. A job is one (member, repeat, fold): fit it, then emit for test rows;
     a wave's jobs depend on earlier waves only. Nothing is computed here.
It also says which members are nested: trained on predictions of models that saw neither of two folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from stackfeat.engine.graph import Graph, Node
from stackfeat.engine.jobs import Chain, Job, Sources, pair_name
from stackfeat.engine.recipes import (
    AlignEmitRecipe,
    AlignRecipe,
    AlignRefitRecipe,
    BlockReference,
    EmitRecipe,
    EmitView,
    FitRecipe,
    Fold,
    Place,
    Recipe,
    ReferenceRecipe,
    View,
)
from stackfeat.members.options import Output
from stackfeat.seeds import derive_seed

NESTED_BELOW = 10_000
"""Training rows. With more, what nesting removes is small beside the K(K-1)/2 fits that it takes."""


@dataclass
class Plan:
    """The key of every result, and the waves of jobs.

    Attributes
    ----------
    held : Plan or None
        The same fits and alignments, with held-out rows in the place of test rows.
    """

    graph: Graph
    sources: Sources
    fits: dict[tuple[str, int, Fold], str] = field(default_factory=dict)
    emits: dict[tuple[str, int, Fold], str] = field(default_factory=dict)
    aligns: dict[tuple[str, int], str] = field(default_factory=dict)
    align_refits: dict[tuple[str, int], str] = field(default_factory=dict)
    align_emits: dict[tuple[str, int, View], str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    waves: dict[str, list[list[Job]]] = field(default_factory=dict)
    held: Plan | None = None

    def jobs(self) -> Iterator[Job]:
        """Every job, wave by wave."""
        for waves in self.waves.values():
            for wave in waves:
                yield from wave

    def seen_by(self) -> list[Plan]:
        """This plan, and the plan of the held-out rows: each emits for rows of its own."""
        return [self] if self.held is None else [self, self.held]

    def folds_of(self, node: Node) -> range:
        """Folds that a member predicts: with time folds every fitted level covers one fewer."""
        return range(node.first_fold if self.sources.is_time else 0, self.sources.n_folds)

    def oof_places(self, block: str, repeat: int) -> list[Place | None]:
        """Where the OOF rows of each fold of a block stand."""
        node, output = self.graph.blocks()[block]
        places: dict[int, Place] = {
            fold: (self.aligns[block, repeat], f"oof/{fold}")
            if output.is_cross_fold
            else (self.fits[node.full_name, repeat, fold], f"oof/{output.name}")
            for fold in self.folds_of(node)
        }
        return [places.get(fold) for fold in range(self.sources.n_folds)]

    def is_nested(self, node: Node) -> bool:
        """Whether fit k of a member reads predictions of models that saw neither fold k nor the row's own.

        A meta-learner over predictions and columns in which rows of all folds are alike finds labels of fold k again
        in predictions of other folds, whose models saw them. On few rows that shows, and the extra fits cost little.
        """
        nesting, sources = self.graph.options[node.full_name].nesting, self.sources
        if not nesting or not node.blocks or sources.is_time or sources.n_folds < 3:
            return False
        if nesting is True:
            return True
        is_small = sources.n_rows is not None and sources.n_rows < NESTED_BELOW
        return is_small and self.graph.compares_rows(node)

    def has_pairs(self, node: Node, output: Output) -> bool:
        """Whether there are models behind a block that saw neither of two folds, where they are wanted."""
        return node.is_base and not self.graph.options[node.full_name].is_given and not output.is_cross_fold

    def nested_places(self, block: str, repeat: int, fold: int) -> list[Place | None]:
        """Where the rows of a block stand that fit `fold` of a nested member is trained on."""
        node, output = self.graph.blocks()[block]
        places = self.oof_places(block, repeat)
        for other in self.folds_of(node):
            if other != fold and self.has_pairs(node, output):
                key = self.fits[node.full_name, repeat, pair_name(fold, other)]
                places[other] = key, f"oof{other}/{output.name}"
        return places

    @property
    def test_maps(self) -> dict[tuple[str, int], str]:
        """Alignments that test activations go through, by block and repeat."""
        return self.align_refits if self.sources.averaging == "refit" else self.aligns

    def test_views(self, node: Node) -> list[View]:
        """Views of the test rows in which a member's predictions are stored."""
        if self.sources.averaging == "refit":
            return ["refit"]
        if self.sources.averaging == "early" and not node.is_base:
            return ["mean"]
        return list(self.folds_of(node))

    def view_place(self, block: str, repeat: int, view: View, chain: Chain) -> Place:
        """Where a stored view of the test rows stands, for ``meta_fit: fold`` or ``all``."""
        node, output = self.graph.blocks()[block]
        if output.is_cross_fold:
            return self.align_emits[block, repeat, view], f"view{view}"
        whole = view == "refit" or (chain == "all" and not node.is_base)
        return self.emits[node.full_name, repeat, "all" if whole else view], f"view{view}/{output.name}"

    def read_places(self, block: str, repeat: int, view: View, chain: Chain) -> list[Place]:
        """Where the rows stand that a later member reads: one place, or several to be averaged first."""
        node = self.graph.blocks()[block][0]
        views = self.folds_of(node) if view == "mean" and node.is_base else [view]
        return [self.view_place(block, repeat, one, chain) for one in views]


def make_plan(graph: Graph, sources: Sources) -> Plan:
    """Work out every key in the order of computing."""
    plan = Plan(graph, sources)
    if sources.holdout is not None:
        rows = replace(sources, test=sources.holdout, holdout=None)
        plan.held = replace(plan, sources=rows, emits={}, align_emits={}, waves={})
    blocks = graph.blocks()
    read = [blocks[name] for node in graph.nodes if plan.is_nested(node) for name in node.blocks]
    paired = {node.full_name for node, output in read if plan.has_pairs(node, output)}
    for level, nodes in graph.levels().items():
        fits = [job for node in nodes for job in _fit_jobs(plan, node, _folds_fitted(plan, node))]
        for node in nodes:
            if node.full_name in paired:
                pairs = combinations(plan.folds_of(node), 2)
                fits += _fit_jobs(plan, node, [pair_name(*pair) for pair in pairs])
        references = [
            _reference_job(plan, node)
            for node in nodes
            if any(output.needs_untrained for output in node.outputs)
        ]
        note_keys(plan, [*fits, *references])
        aligns = [job for node in nodes for job in _align_jobs(plan, node)]
        note_keys(plan, aligns)
        plan.waves[level] = [wave for wave in (fits, references, aligns) if wave]
    return plan


def note_keys(plan: Plan, jobs: Iterable[Job]) -> None:
    """Note in a plan, and in that of its held-out rows, which keys jobs make."""
    parts = {part.sources.test: part for part in plan.seen_by()}
    emitting = {key: part for part in plan.seen_by() for key in part.emits.values()}
    for job in jobs:
        fit = job.member, job.repeat, job.fold
        for recipe in job.steps:
            if isinstance(recipe, FitRecipe):
                plan.fits[fit] = recipe.key
            elif isinstance(recipe, EmitRecipe):
                parts[recipe.samples].emits[fit] = recipe.key
            elif isinstance(recipe, ReferenceRecipe):
                plan.references[job.member] = recipe.key
            elif isinstance(recipe, AlignRecipe):
                plan.aligns[job.block, job.repeat] = recipe.key
            elif isinstance(recipe, AlignRefitRecipe):
                plan.align_refits[job.block, job.repeat] = recipe.key
            elif isinstance(recipe, AlignEmitRecipe):
                emitting[recipe.emit].align_emits[job.block, job.repeat, recipe.fold] = recipe.key


def emit_recipe_of(plan: Plan, node: Node, repeat: int, fold: Fold, fit: str) -> EmitRecipe | None:
    """Return the recipe of a fitted member's test rows; `fit` is the key of its fit."""
    if plan.sources.test is None or not _sees_test_rows(plan, node, fold):
        return None
    chain: Chain = "all" if fold == "all" else "fold"
    seen = plan.test_views(node) if fold == "all" else [fold]
    views = [
        EmitView.of(view, [plan.read_places(block, repeat, view, chain) for block in node.blocks])
        for view in seen
    ]
    return EmitRecipe(
        fit=fit, samples=plan.sources.test, raw=node.raw, views=tuple(views), without=node.without
    )


def _sees_test_rows(plan: Plan, node: Node, fold: Fold) -> bool:
    """Whether what this fit says of test rows is used: by a later member, or at the end."""
    if isinstance(fold, str):
        return fold == "all"
    averaging = plan.sources.averaging
    return averaging == "late" or (averaging == "early" and node.is_base)


def align_emit_recipes(
    plan: Plan, node: Node, output: Output, repeat: int, maps: str
) -> list[AlignEmitRecipe]:
    """Return the recipes of mapped test activations of each fold model, or of the refit.

    `maps` is the key of the alignment that they go through.
    """
    views = [] if plan.sources.test is None else plan.test_views(node)
    keys = {view: (node.full_name, repeat, "all" if view == "refit" else view) for view in views}
    # A prediction may ask for one view alone.
    emits = {view: plan.emits[key] for view, key in keys.items() if key in plan.emits}
    return [
        AlignEmitRecipe(align=maps, emit=emit, tap=output.tap_name, fold=view) for view, emit in emits.items()
    ]


def _folds_fitted(plan: Plan, node: Node) -> list[Fold]:
    is_whole = not node.is_base or plan.sources.averaging == "refit"
    return [*plan.folds_of(node), *(["all"] if is_whole else [])]


def _fit_jobs(plan: Plan, node: Node, folds: Sequence[Fold]) -> Iterator[Job]:
    for repeat in range(plan.sources.n_repeats):
        for fold in folds:
            fit = fit_recipe_of(plan, node, repeat, fold)
            emits = (emit_recipe_of(part, node, repeat, fold, fit.key) for part in plan.seen_by())
            yield Job(node.full_name, repeat, fold, (fit, *filter(None, emits)))


def _reference_job(plan: Plan, node: Node) -> Job:
    """Return the job that reads a member's net before any training."""
    recipe = ReferenceRecipe(
        folds=plan.sources.folds,
        seed=derive_seed(plan.sources.seed, node.full_name, "reference"),
        **_member_parts(plan, node, {}),
    )
    return Job(node.full_name, 0, "all", (recipe,), "reference")


def _align_jobs(plan: Plan, node: Node) -> Iterator[Job]:
    for output in node.outputs:
        if output.tap is None or not output.is_cross_fold:
            continue
        for repeat in range(plan.sources.n_repeats):
            recipe = AlignRecipe(
                fits=tuple(plan.fits[node.full_name, repeat, k] for k in plan.folds_of(node)),
                reference=plan.references[node.full_name] if output.needs_untrained else None,
                tap=output.tap_name,
                folds=plan.sources.folds,
                repeat=repeat,
                parts=output.tap.parts,
                reduce=output.tap.reduce,
                seed=derive_seed(plan.sources.seed, "anchors"),
            )
            steps: list[Recipe] = [recipe]
            if plan.sources.averaging == "refit":
                steps.append(recipe.with_refit(plan.fits[node.full_name, repeat, "all"]))
            maps = steps[-1].key
            steps += [
                step
                for part in plan.seen_by()
                for step in align_emit_recipes(part, node, output, repeat, maps)
            ]
            yield Job(node.full_name, repeat, "all", tuple(steps), "align", node.block(output))


def fit_recipe_of(plan: Plan, node: Node, repeat: int, fold: Fold) -> FitRecipe:
    """Return the recipe of a member fitted for one fold."""
    sources = plan.sources
    blocks = []
    for name in node.blocks:
        output = plan.graph.blocks()[name][1]
        places = plan.oof_places(name, repeat)
        if isinstance(fold, int) and plan.is_nested(node):
            places = plan.nested_places(name, repeat, fold)
        blocks.append(BlockReference(name, output.kind, output.encoding, tuple(places)))
    options = plan.graph.options[node.full_name]
    is_trained = not (options.is_foreign or options.is_frozen)
    return FitRecipe(
        folds=sources.folds,
        repeat=repeat,
        fold=fold,
        seed=derive_seed(sources.seed, node.full_name, repeat, fold),
        blocks=tuple(blocks),
        extra=sources.extra if node.is_base and is_trained else None,
        **_member_parts(plan, node, sources.files(options, repeat, fold)),
    )


def _member_parts(plan: Plan, node: Node, files: Mapping[str, str]) -> dict[str, Any]:
    """Return what a member itself puts into its recipes: options, files it is made of, settings, versions, source."""
    sources, options = plan.sources, plan.graph.options[node.full_name]
    return {
        "samples": sources.samples,
        "member": {**options.recipe(), **({"sources": dict(files)} if files else {})},
        "raw": node.raw,
        "settings": options.settings(
            sources.settings, has_blocks=bool(node.blocks), has_features=node.reads_features
        ),
        "libraries": options.libraries(),
        "code": None if options.code is None else sources.source_hash(options.code),
    }
