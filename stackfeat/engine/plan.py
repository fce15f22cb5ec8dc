"""Plan: the graph with a key for every unit of work, so it is known what is in the store.

In:  a graph, and the keys of rows and folds.
Out: waves of jobs. A job is one (member, repeat, fold): fit it, then emit for test rows;
     a wave's jobs depend on earlier waves only. Nothing is computed here.

It also holds:

- Recipes of fits: what of a plan goes into the order for one unit.
- Nesting: which members are trained on predictions of models that saw neither of two folds.
- What of a member goes into the keys of its fits: options, settings, versions, source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from stackfeat.engine.graph import Graph, Node, Output
from stackfeat.engine.jobs import Chain, Job, Sources, Step, pair_name
from stackfeat.engine.recipes import (
    VERSIONS,
    AlignEmitRecipe,
    AlignRecipe,
    AlignRefitRecipe,
    BlockReference,
    EmitRecipe,
    EmitView,
    FitRecipe,
    Fold,
    Place,
    ReferenceRecipe,
    View,
)
from stackfeat.members.options import EstimatorOptions, PredictionsOptions, VoteOptions
from stackfeat.nets.options import JOINT, NetOptions
from stackfeat.registry.names import NET_FAMILIES, NET_PACKAGES
from stackfeat.registry.source import library_versions
from stackfeat.seeds import derive_seed

NESTED_BELOW = 10_000
"""Training rows. With more, what nesting removes is small beside the K(K-1)/2 fits that it takes."""


def is_nested(node: Node, graph: Graph, sources: Sources) -> bool:
    """Say whether fit k of a member reads predictions of models that saw neither fold k nor the row's own.

    A meta-learner over predictions and columns in which rows of all folds are alike finds labels of
    fold k again in predictions of other folds, whose models saw them. On few rows that shows, and the
    extra fits cost little.
    """
    options = node.options
    if not isinstance(options, EstimatorOptions) or not node.blocks or sources.is_time or sources.n_folds < 3:
        return False
    if options.nested != "auto":
        return options.nested
    return sources.n_rows is not None and sources.n_rows < NESTED_BELOW and compares_rows(node, graph)


def compares_rows(node: Node, graph: Graph) -> bool:
    """Say whether a member reads predictions beside columns in which rows of all folds are alike.

    Those are raw columns, and ungated activations; a gate was measured to leave no such advantage.
    """
    blocks = graph.blocks()
    encodings = {blocks[name][1].encoding for name in node.blocks}
    if node.raw:
        return bool(encodings)
    is_gated = getattr(node.options, "gate", True)
    return not is_gated and None in encodings and bool(encodings - {None, "geometry"})


Options = NetOptions | EstimatorOptions | VoteOptions | PredictionsOptions


def member_json(options: Options) -> dict[str, Any]:
    """Return the options that can change what a fit gives; files count by their contents (`sources`)."""
    if isinstance(options, PredictionsOptions):
        return {"predictions": {}}
    if isinstance(options, VoteOptions):
        return {"vote": options.vote, **options.taken()}
    values = options.to_json()
    for name in ("inputs", "each", "seeds", "folds", "nested"):
        values.pop(name, None)
    if isinstance(options, NetOptions):
        # The file counts by its bytes, not by its name.
        values["weights"] = None if options.weights is None else "given"
        values["emit"] = [tap.to_json() for tap in options.taps()]
    return values


def member_settings(node: Node, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fit needs of the run: see `run_settings` for the whole."""
    options = node.options
    chosen = {"threads": settings["threads"]}
    if isinstance(options, NetOptions | EstimatorOptions):
        chosen["seeds"] = options.seeds * settings["seed_copies"]
    if isinstance(options, NetOptions):
        chosen |= {"device": settings["device"], "version": VERSIONS["net"]}
        if options.weights is not None:
            chosen["predicts"] = node.prediction is not None
        chosen["loss"] = options.train.loss if options.train.loss != "auto" else settings["loss"]
    if isinstance(options, EstimatorOptions) and node.blocks:
        chosen["gate_se"] = settings["gate_se"]
    if isinstance(options, EstimatorOptions) and options.estimator == "gated_linear":
        chosen["version"] = VERSIONS["gated_linear"]
    elif isinstance(options, EstimatorOptions) and options.gate and node.reads_features:
        chosen["version"] = VERSIONS["gate"]
    if isinstance(options, VoteOptions):
        if options.kind.is_fitted:
            chosen |= {"metric": settings["metric"], "metric_code": settings["metric_code"]}
        stage = options.kind.stage(options.taken())
        if stage is not None:
            chosen["version"] = VERSIONS[stage]
    return chosen


def member_libraries(options: Options) -> dict[str, str]:
    """Return the versions of the libraries whose change may change a fit."""
    if isinstance(options, NetOptions):
        _, packages = NET_PACKAGES.get(options.net, ("", ()))
        family = options.net.partition(":")[0]
        more = (family,) if family in NET_FAMILIES else packages
        return library_versions("torch", "numpy", "scikit-learn", *more)
    if isinstance(options, EstimatorOptions):
        package = options.estimator.replace(":", ".").split(".")[0]
        named = {"sklearn": "scikit-learn", "gated_linear": "scipy"}.get(package, package)
        return library_versions(named, "numpy", "scipy", "scikit-learn")
    return library_versions("numpy", "scipy")


def member_code(options: Options, source_hash: Callable[[str], str | None]) -> str | None:
    """Return the hash of the user's source behind a member, if there is any."""
    if isinstance(options, NetOptions):
        return source_hash(options.net)
    if isinstance(options, EstimatorOptions):
        return source_hash(options.estimator)
    return None


@dataclass
class Plan:
    """Every unit's key, and the waves of jobs.

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
        covered = self.folds_of(node)
        return [
            self._oof_place(node, output, repeat, k) if k in covered else None
            for k in range(self.sources.n_folds)
        ]

    def _oof_place(self, node: Node, output: Output, repeat: int, fold: int) -> Place:
        if output.encoding in JOINT:
            return self.aligns[node.block(output), repeat], f"oof/{fold}"
        return self.fits[node.full_name, repeat, fold], f"oof/{output.name}"

    def is_nested(self, node: Node) -> bool:
        """Whether a member trains on predictions of models that saw neither the row's fold nor its own."""
        return is_nested(node, self.graph, self.sources)

    def nested_places(self, block: str, repeat: int, fold: int) -> list[Place | None]:
        """Where the rows of a block stand that fit `fold` of a nested member is trained on."""
        node, output = self.graph.blocks()[block]
        places = self.oof_places(block, repeat)
        if not node.is_base or node.is_given or output.encoding in JOINT:
            return places
        for other in self.folds_of(node):
            if other != fold:
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
        if output.encoding in JOINT:
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
    paired = _paired_members(plan)
    for level, nodes in graph.levels().items():
        fits = [job for node in nodes for job in _fit_jobs(plan, node)]
        fits += [job for node in nodes if node.full_name in paired for job in _pair_jobs(plan, node)]
        references = [job for node in nodes for job in _reference_jobs(plan, node)]
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
        unit = job.member, job.repeat, job.fold
        for step in job.steps:
            recipe = step.recipe
            if isinstance(recipe, FitRecipe):
                plan.fits[unit] = step.key
            elif isinstance(recipe, EmitRecipe):
                parts[recipe.samples].emits[unit] = step.key
            elif isinstance(recipe, ReferenceRecipe):
                plan.references[job.member] = step.key
            elif isinstance(recipe, AlignRecipe):
                plan.aligns[job.block, job.repeat] = step.key
            elif isinstance(recipe, AlignRefitRecipe):
                plan.align_refits[job.block, job.repeat] = step.key
            elif isinstance(recipe, AlignEmitRecipe):
                emitting[recipe.emit].align_emits[job.block, job.repeat, recipe.fold] = step.key


def emit_step(plan: Plan, node: Node, repeat: int, fold: Fold, fit: str) -> Step | None:
    """Return the step that emits a fitted member's test rows; `fit` is the key of its fit."""
    if plan.sources.test is None or not _sees_test_rows(plan, node, fold):
        return None
    chain: Chain = "all" if fold == "all" else "fold"
    seen = _views_of_fit(plan, node, fold)
    views = [
        EmitView.of(view, [plan.read_places(block, repeat, view, chain) for block in node.blocks])
        for view in seen
    ]
    recipe = EmitRecipe(
        fit=fit, samples=plan.sources.test, raw=node.raw, views=tuple(views), without=node.without
    )
    return Step.of(recipe)


def _sees_test_rows(plan: Plan, node: Node, fold: Fold) -> bool:
    """Whether what this fit says of test rows is used: by a later member, or at the end."""
    averaging = plan.sources.averaging
    return averaging == "late" or fold == "all" or (averaging == "early" and node.is_base)


def _views_of_fit(plan: Plan, node: Node, fold: Fold) -> list[View]:
    if fold != "all":
        return [fold]
    if plan.sources.averaging == "late":
        return list(plan.folds_of(node))
    return ["mean"] if plan.sources.averaging == "early" else ["refit"]


def align_emit_steps(plan: Plan, node: Node, output: Output, repeat: int, maps: str) -> list[Step]:
    """Return the steps that map the test activations of each fold model, or of the refit.

    `maps` is the key of the alignment that they go through.
    """
    if plan.sources.test is None:
        return []
    steps = []
    for view in plan.test_views(node):
        emit = plan.emits[node.full_name, repeat, "all" if view == "refit" else view]
        recipe = AlignEmitRecipe(align=maps, emit=emit, tap=output.tap_name, fold=view)
        steps.append(Step.of(recipe))
    return steps


def _fit_jobs(plan: Plan, node: Node) -> Iterator[Job]:
    for repeat in range(plan.sources.n_repeats):
        folds: list[Fold] = list(plan.folds_of(node))
        for fold in folds if node.is_base and plan.sources.averaging != "refit" else [*folds, "all"]:
            fit = Step.of(fit_recipe_of(plan, node, repeat, fold))
            emits = [emit_step(part, node, repeat, fold, fit.key) for part in plan.seen_by()]
            yield Job(node.full_name, repeat, fold, (fit, *(step for step in emits if step is not None)))


def _paired_members(plan: Plan) -> set[str]:
    """Return the base members that a nested member reads."""
    blocks = plan.graph.blocks()
    read = [blocks[name] for node in plan.graph.nodes if plan.is_nested(node) for name in node.blocks]
    return {
        node.full_name
        for node, output in read
        if node.is_base and not node.is_given and output.encoding not in JOINT
    }


def _pair_jobs(plan: Plan, node: Node) -> Iterator[Job]:
    for repeat in range(plan.sources.n_repeats):
        for one, other in combinations(plan.folds_of(node), 2):
            fold = pair_name(one, other)
            fit = Step.of(fit_recipe_of(plan, node, repeat, fold))
            yield Job(node.full_name, repeat, fold, (fit,))


def _reference_jobs(plan: Plan, node: Node) -> Iterator[Job]:
    """Yield the unit that reads a member's net before any training, where a tap asks for it."""
    if all(output.encoding != "reference" for output in node.outputs):
        return
    step = Step.of(reference_recipe_of(plan, node))
    yield Job(node.full_name, 0, "all", (step,), "reference")


def _align_jobs(plan: Plan, node: Node) -> Iterator[Job]:
    for output in node.outputs:
        if output.tap is None or output.encoding not in JOINT:
            continue
        for repeat in range(plan.sources.n_repeats):
            recipe = AlignRecipe(
                fits=tuple(plan.fits[node.full_name, repeat, k] for k in plan.folds_of(node)),
                reference=plan.references[node.full_name] if output.encoding == "reference" else None,
                tap=output.tap_name,
                folds=plan.sources.folds,
                repeat=repeat,
                parts=output.tap.parts,
                reduce=output.tap.reduce,
                seed=derive_seed(plan.sources.seed, "anchors"),
            )
            align = Step.of(recipe)
            steps = [align]
            if plan.sources.averaging == "refit":
                steps.append(Step.of(recipe.with_refit(plan.fits[node.full_name, repeat, "all"])))
            maps = steps[-1].key
            steps += [
                step for part in plan.seen_by() for step in align_emit_steps(part, node, output, repeat, maps)
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
    return FitRecipe(
        member=member_of(plan, node, repeat, fold),
        samples=sources.samples,
        folds=sources.folds,
        repeat=repeat,
        fold=fold,
        seed=derive_seed(sources.seed, node.full_name, repeat, fold),
        raw=node.raw,
        blocks=tuple(blocks),
        settings=member_settings(node, sources.settings),
        libraries=member_libraries(node.options),
        code=member_code(node.options, sources.source_hash),
    )


def reference_recipe_of(plan: Plan, node: Node) -> ReferenceRecipe:
    """Return the recipe of a member's net before any training."""
    sources = plan.sources
    return ReferenceRecipe(
        member=member_json(node.options),
        samples=sources.samples,
        folds=sources.folds,
        seed=derive_seed(sources.seed, node.full_name, "reference"),
        raw=node.raw,
        settings=member_settings(node, sources.settings),
        libraries=member_libraries(node.options),
        code=member_code(node.options, sources.source_hash),
    )


def member_of(plan: Plan, node: Node, repeat: int, fold: Fold) -> dict[str, Any]:
    """Return a member's options, and the keys of the files that this unit is made of."""
    sources = plan.sources.files(node, repeat, fold)
    return {**member_json(node.options), **({"sources": sources} if sources else {})}
