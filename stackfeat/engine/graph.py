"""Graph: members and the blocks between them, worked out from names alone.

In:  the levels of a config and the kind of task.
Out: nodes in the order of computing, each with the blocks it reads and passes on, and every problem found
     on the way (patterns that match nothing, votes over features). A graph can be made smaller, for rows that
     some members cannot say anything of.
Nothing is imported or loaded here, so `check` is fast. In patterns over block names `*` and `?` are special
in each segment, all else is literal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from stackfeat.encodings import ENCODINGS
from stackfeat.errors import UsageError
from stackfeat.members.options import MemberOptions, Output
from stackfeat.registry.patterns import is_pattern, matches
from stackfeat.registry.resolve import name_values, quoted, suggest
from stackfeat.tasks.task import OUTPUTS, task_class


@lru_cache(maxsize=2**16)
def match_segment(pattern: str, text: str) -> bool:
    """Whether one segment matches.

    Examples
    --------
    >>> match_segment("lstm[0]*", "lstm[0]@aligned")
    True
    >>> match_segment("lstm[0]", "lstm0")
    False
    """
    # A block of a tap pattern stands for blocks that are not known yet, and any of them may be meant.
    return matches(pattern, text) or (is_pattern(text) and matches(text, pattern))


def match_block(pattern: str, blocks: Mapping[str, Any]) -> list[str]:
    """Return the blocks (``level/member/output``) that match, in their order.

    A pattern of two segments means the prediction outputs of those members.
    """
    segments = pattern.split("/")
    found = []
    for name in blocks:
        parts = name.split("/", 2)
        is_meant = len(segments) == 3 or (len(segments) == 2 and parts[2] in OUTPUTS)
        if is_meant and all(map(match_segment, segments, parts)):
            found.append(name)
    return found


@dataclass(frozen=True)
class Node:
    """One member as it is wired; what it is made of stands in `Graph.options`.

    Attributes
    ----------
    raw : tuple of str
        Raw inputs it reads.
    blocks : tuple of str
        Full names of the blocks it reads, such as ``base/mlp/proba``.
    first_fold : int
        Time folds: the first fold it predicts; every fitted level covers one fold fewer.
    does_without_inputs : bool
        Whether it still predicts when some of its inputs are left out after the fit.
    without : tuple of str
        Blocks that it was fitted with and that later rows go without.
    """

    level: str
    name: str
    raw: tuple[str, ...]
    blocks: tuple[str, ...]
    outputs: tuple[Output, ...]
    first_fold: int
    does_without_inputs: bool = False
    without: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.level}/{self.name}"

    @property
    def is_base(self) -> bool:
        """Whether it reads raw inputs only, so its folds train on the splitter's rows."""
        return not self.blocks

    @property
    def reads_features(self) -> bool:
        """Whether one of its blocks is an encoded tap, whose name ends in ``@encoding``."""
        return any("@" in block.rpartition("/")[2] for block in self.blocks)

    @property
    def path(self) -> str:
        """Where it stands in the config; members of one `each` stand in one place."""
        return f"levels.{self.level}.{self.name.partition(':')[0]}"

    def block(self, output: Output) -> str:
        return f"{self.full_name}/{output.name}"

    @property
    def prediction(self) -> str | None:
        """Full name of the block of its predictions; None where `emit` leaves them out."""
        return next((self.block(output) for output in self.outputs if output.kind == "prediction"), None)


MOST_NODES = 2_000

LISTED = 40


@dataclass
class Graph:
    """Nodes in the order of computing, and what is wrong with them.

    Attributes
    ----------
    options : dict of str to MemberOptions
        What each member is made of, by its full name; empty in a saved stack, where the fits say it.
    """

    nodes: list[Node] = field(default_factory=list)
    options: dict[str, MemberOptions] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def node(self, full_name: str) -> Node:
        return next(node for node in self.nodes if node.full_name == full_name)

    def blocks(self) -> dict[str, tuple[Node, Output]]:
        """Every block by its full name."""
        return {node.block(output): (node, output) for node in self.nodes for output in node.outputs}

    def differing_blocks(self) -> list[str]:
        """Blocks whose columns differ from fold to fold, as each has a net of its own."""
        return [
            name
            for name, (node, output) in self.blocks().items()
            if output.encoding is not None
            and not ENCODINGS[output.encoding].has_common_columns
            and not self.options[node.full_name].is_frozen
        ]

    def compares_rows(self, node: Node) -> bool:
        """Whether a member reads predictions beside columns in which rows of all folds are alike.

        Those are raw columns, and ungated activations; a gate was measured to leave no such advantage.
        """
        blocks = self.blocks()
        encodings = {blocks[name][1].encoding for name in node.blocks}
        if node.raw:
            return bool(encodings)
        return (
            not self.options[node.full_name].is_gated
            and None in encodings
            and any(name is not None and ENCODINGS[name].compares_rows for name in encodings)
        )

    def levels(self) -> dict[str, list[Node]]:
        levels: dict[str, list[Node]] = {}
        for node in self.nodes:
            levels.setdefault(node.level, []).append(node)
        return levels

    def upstream(self, full_name: str) -> list[Node]:
        """Return the node and everything it reads, directly or not, in order of computing."""
        needed = {full_name}
        for node in reversed(self.nodes):
            if node.full_name in needed:
                needed.update(map(_member, node.blocks))
        return [node for node in self.nodes if node.full_name in needed]


def build_graph(
    levels: Mapping[str, Mapping[str, MemberOptions]],
    task_kind: str,
    input_names: Iterable[str] = ("table",),
    *,
    excluded: Container[str] = (),
) -> Graph:
    """Resolve patterns and `each` level by level.

    Parameters
    ----------
    levels : mapping
        Level name to members by name, as in the config.
    task_kind : {"binary", "multiclass", "regression"}
    input_names : iterable of str
        Raw inputs that members may read.
    excluded : container of str
        Full names of members to leave out (they failed, or time is short); a member
        that loses all its inputs is left out too.
    """
    graph = Graph()
    names = tuple(input_names)
    lenient = bool(excluded)
    for position, (level, members) in enumerate(levels.items()):
        earlier = graph.blocks()
        for name, given in members.items():
            path = f"levels.{level}.{name}"
            entries = list(given.entries(name))
            # What is wrong with a pool without files is said of the pool, not of those that read it.
            lenient |= not entries
            for own, options in entries:
                builder = _NodeBuilder(
                    graph, earlier, level, own, path, options, task_kind, names, position, lenient
                )
                for node in builder.nodes():
                    if node.full_name in graph.options:
                        message = (
                            f"members must have names of their own; got {node.full_name} twice. Rename one"
                        )
                        graph.problems.append((path, message))
                    elif node.full_name not in excluded:
                        graph.nodes.append(node)
                        graph.options[node.full_name] = options
            if len(graph.nodes) > MOST_NODES:
                # `each` over all earlier blocks doubles them from level to level.
                message = (
                    f"a run has at most {MOST_NODES:,} members; got more, by `each` and pools. Name fewer"
                )
                graph.problems.append((path, message))
                return graph
    return graph


def graph_problems(config: Any) -> list[tuple[str, str]]:
    """Return (config path, message) for all that is wrong with the levels of a RunConfig."""
    inputs = tuple(config.data.inputs) if config.data.inputs else ("table",)
    graph = build_graph(config.levels, config.task, inputs)
    if config.folds.kind == "time" or (
        config.folds.kind == "auto" and config.data.time and not config.data.fold
    ):
        deepest = max((node.first_fold for node in graph.nodes), default=0)
        if deepest >= config.folds.n:
            message = (
                f"time folds need one fold more than fitted levels above the first; got n={config.folds.n} for "
                f"{deepest} such levels. Use folds.n of at least {deepest + 1}, or fewer levels"
            )
            graph.problems.append(("folds.n", message))
    known = [node.name for node in graph.nodes] + [node.full_name for node in graph.nodes]
    if config.submit != "auto" and config.submit not in known and not graph.problems:
        message = f"must be 'auto' or a member; got {config.submit!r}.{suggest(config.submit, known)}"
        graph.problems.append(("submit", message))
    return graph.problems


@dataclass
class _NodeBuilder:
    """Turns one member's options into nodes (several for `each`)."""

    graph: Graph
    earlier: Mapping[str, tuple[Node, Output]]
    level: str
    name: str
    path: str
    options: MemberOptions
    task_kind: str
    input_names: tuple[str, ...]
    position: int
    lenient: bool

    def nodes(self) -> list[Node]:
        if self.options.each_block is not None:
            return self._each(self.options.each_block)
        raw, blocks = self._inputs()
        if self.lenient and not blocks and any("/" in item for item in self.options.reads or ()):
            return []
        return [self._node(self.name, raw, blocks)]

    def _node(self, name: str, raw: tuple[str, ...], blocks: tuple[str, ...]) -> Node:
        first = max((self.earlier[block][0].first_fold for block in blocks), default=0)
        return Node(
            self.level,
            name,
            raw,
            blocks,
            self.options.outputs(self.task_kind, self._problem),
            first + bool(blocks and self.options.is_fitted),
            self.options.does_without_inputs,
        )

    def _problem(self, path: str, message: str) -> None:
        self.graph.problems.append((f"{self.path}.{path}" if path else self.path, message))

    def _inputs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return raw input names and block names, in the order they are named."""
        items = self.options.reads
        if items is None:
            if self.position > 0:
                self._problem(
                    "inputs",
                    f"a member above the first level names its inputs. Blocks there are: {self._listing()}",
                )
            return self.input_names, ()
        raw: dict[str, None] = {}
        blocks: dict[str, None] = {}
        for place, item in enumerate(items):
            if "/" in item:
                blocks |= dict.fromkeys(self._matches(item, f"inputs.{place}"))
            elif item in self.input_names:
                raw[item] = None
            else:
                self._problem(
                    f"inputs.{place}",
                    f"must be an input ({', '.join(self.input_names)}) or a pattern level/member/output; "
                    f"got {quoted(item)}.{suggest(item, self.input_names)}",
                )
        features = [block for block in blocks if self.earlier[block][1].kind == "feature"]
        for message in self.options.input_problems(list(raw), list(blocks), features):
            self._problem("inputs", message)
        return tuple(raw), tuple(blocks)

    def _matches(self, pattern: str, path: str) -> list[str]:
        found = match_block(pattern, self.earlier)
        if not found and not self.lenient:
            self._problem(
                path,
                f"pattern {quoted(pattern)} matches no block of an earlier level.{self._why_none(pattern)}",
            )
        return found

    def _why_none(self, pattern: str) -> str:
        right = task_class(self.task_kind).output
        if pattern.split("/")[-1] in {*OUTPUTS} - {right}:
            return f" In a {self.task_kind} task the output is {right!r}. Blocks there are: {self._listing()}"
        return f"{suggest(pattern, self.earlier)} Blocks there are: {self._listing()}"

    def _listing(self) -> str:
        return name_values(self.earlier, LISTED) or "none (this is the first level)"

    def _each(self, pattern: str) -> list[Node]:
        raw, shared = self._inputs() if self.options.reads else ((), ())
        found = [block for block in self._matches(pattern, "each") if block not in shared]
        short = [".".join(block.split("/")[1:]) for block in found]
        counts = Counter(short)
        nodes = []
        for block, brief in zip(found, short, strict=True):
            name = block.replace("/", ".") if counts[brief] > 1 else brief
            nodes.append(self._node(f"{self.name}:{name}", raw, (*shared, block)))
        return nodes


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
    kept = [_without(node, left_out) for node in graph.nodes if node.full_name not in left_out]
    return Graph(Graph(kept).upstream(predicted))


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


def _without(node: Node, left_out: Container[str]) -> Node:
    gone = tuple(name for name in node.blocks if _member(name) in left_out)
    if not gone:
        return node
    if not node.does_without_inputs:
        raise UsageError(
            f"--without leaves members out of votes only; {node.full_name} was fitted with {gone[0]!r} and needs it. "
            f"Leave it out too (--without {node.full_name}), or submit a vote"
        )
    blocks = tuple(name for name in node.blocks if name not in gone)
    if not blocks:
        raise UsageError(f"--without must leave {node.full_name} an input; got none. Leave out fewer members")
    return replace(node, blocks=blocks, without=gone)
