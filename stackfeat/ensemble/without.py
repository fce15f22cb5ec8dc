"""A graph without some members, for rows that they cannot say anything of.

In:  the graph of a predictor, names of members.
Out: the graph in which votes do without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stackfeat.ensemble.graph import Graph, Node
from stackfeat.ensemble.options import VoteOptions
from stackfeat.errors import UsageError
from stackfeat.registry.resolve import suggest


def graph_without(graph: Graph, members: Sequence[str], block: str) -> Graph:
    """Return the graph less some members and what only they needed.

    Parameters
    ----------
    members : sequence of str
        ``level/member`` or a member's name.
    block : str
        The block that is predicted.

    Raises
    ------
    UsageError
        If a name is unknown, is what is predicted, or is read by a member other than a vote.
    """
    left_out = {_full_name(graph, name) for name in members}
    predicted = _member(block)
    if predicted in left_out:
        raise UsageError(f"--without must leave the submitted member; got {predicted}. Leave out others")
    kept = []
    for node in graph.nodes:
        if node.full_name in left_out:
            continue
        gone = tuple(name for name in node.blocks if _member(name) in left_out)
        kept.append(_without_blocks(node, gone) if gone else node)
    needed = Graph(kept).upstream(predicted)
    return Graph(needed)


def _full_name(graph: Graph, name: str) -> str:
    known = [node.full_name for node in graph.nodes]
    found = [node.full_name for node in graph.nodes if name in (node.full_name, node.name)]
    if not found:
        raise UsageError(
            f"--without must name a member of the stack ({', '.join(known)}); got {name!r}."
            f"{suggest(name, [*known, *(node.name for node in graph.nodes)])}"
        )
    return found[0]


def _member(block: str) -> str:
    return "/".join(block.split("/")[:2])


def _without_blocks(node: Node, gone: tuple[str, ...]) -> Node:
    if not isinstance(node.options, VoteOptions):
        raise UsageError(
            f"--without leaves members out of votes only; {node.full_name} was fitted with {gone[0]!r} and needs it. "
            f"Leave it out too (--without {node.full_name}), or submit a vote"
        )
    blocks = tuple(name for name in node.blocks if name not in gone)
    if not blocks:
        raise UsageError(f"--without must leave {node.full_name} an input; got none. Leave out fewer members")
    return replace(node, blocks=blocks, without=gone)
