"""Nesting: which members are trained on predictions of models that saw neither of two folds.

In:  a member of the graph, facts of the run.
Out: whether it is nested.
"""

from __future__ import annotations

from stackfeat.ensemble.graph import Graph, Node
from stackfeat.ensemble.options import EstimatorOptions
from stackfeat.ensemble.units import Sources

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
