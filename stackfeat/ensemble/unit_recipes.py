"""Recipes of fits: what of a plan goes into the order for one unit.

In:  a plan whose earlier units have keys, a node, repeat and fold.
Out: a recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackfeat.ensemble.settings import member_code, member_json, member_libraries, member_settings
from stackfeat.features.keys import Recipe, block_reference, fit_recipe, reference_recipe
from stackfeat.seeds import derive_seed

if TYPE_CHECKING:
    from stackfeat.ensemble.graph import Node
    from stackfeat.ensemble.plan import Plan
    from stackfeat.ensemble.units import Fold


def fit_recipe_of(plan: Plan, node: Node, repeat: int, fold: Fold) -> Recipe:
    """Return the recipe of a member fitted for one fold."""
    sources = plan.sources
    blocks = []
    for name in node.blocks:
        output = plan.graph.blocks()[name][1]
        places = plan.oof_places(name, repeat)
        if isinstance(fold, int) and plan.is_nested(node):
            places = plan.nested_places(name, repeat, fold)
        blocks.append(block_reference(name, output.kind, output.encoding, places))
    return fit_recipe(
        member=member_of(plan, node, repeat, fold),
        samples=sources.samples,
        folds=sources.folds,
        repeat=repeat,
        fold=fold,
        seed=derive_seed(sources.seed, node.full_name, repeat, fold),
        raw=node.raw,
        blocks=blocks,
        settings=member_settings(node, sources.settings),
        libraries=member_libraries(node.options),
        code=member_code(node.options, sources.source_hash),
    )


def reference_recipe_of(plan: Plan, node: Node) -> Recipe:
    """Return the recipe of a member's net before any training."""
    sources = plan.sources
    return reference_recipe(
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
