"""Graph: members and the blocks between them, worked out from names alone.

In:  the levels of a config and the kind of task.
Out: nodes in the order of computing, each with the blocks it reads and hands on, and
     every problem found on the way (patterns that match nothing, votes over features).
Nothing is imported or loaded here, so `check` is fast.

It also holds:

- Patterns over block names: per segment, `*` and `?` are special, all else is literal.
- Outputs: the blocks a member hands on, known from its options alone.
- A graph without some members, for rows that they cannot say anything of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from stackfeat.data.messages import name_values
from stackfeat.errors import UsageError
from stackfeat.members.options import EstimatorOptions, PredictionsOptions, VoteOptions
from stackfeat.meta.votes.vote import Vote
from stackfeat.nets.options import NetOptions, TapOptions
from stackfeat.registry.file_template import has_fold
from stackfeat.registry.resolve import quoted, suggest
from stackfeat.registry.wildcards import is_pattern, matches
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
        level, member, output = name.split("/", 2)
        if len(segments) == 2:
            if output in OUTPUTS and match_segment(segments[0], level) and match_segment(segments[1], member):
                found.append(name)
        elif len(segments) == 3 and all(
            match_segment(part, text) for part, text in zip(segments, (level, member, output), strict=True)
        ):
            found.append(name)
    return found


Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Output:
    """One block of a member: its predictions, or an encoded tap."""

    name: str
    kind: Literal["prediction", "feature"]
    tap: TapOptions | None = None
    encoding: str | None = None

    @property
    def tap_name(self) -> str:
        """Name of the tap, without the encoding."""
        return self.name.removesuffix(f"@{self.encoding}")


def outputs_of(
    options: NetOptions | EstimatorOptions | VoteOptions | PredictionsOptions, task_kind: str, report: Report
) -> tuple[Output, ...]:
    """List the blocks of a member; what cannot be emitted is reported as (path, message)."""
    name = task_class(task_kind).output
    outputs = [Output(name, "prediction")]
    if not isinstance(options, NetOptions):
        return tuple(outputs)
    _check_emitted_names(options, name, task_kind, report)
    if not options.emits(name):
        outputs = []
    seen: set[str] = set()
    for tap in options.taps():
        for encoding in tap.encode:
            output = Output(f"{tap.name or tap.tap}@{encoding}", "feature", tap, encoding)
            if output.name in seen:
                report(
                    "emit",
                    f"each output is named once; got {output.name!r} twice. Give one of the taps a name",
                )
            seen.add(output.name)
            outputs.append(output)
    return tuple(outputs)


def _check_emitted_names(options: NetOptions, name: str, task_kind: str, report: Report) -> None:
    if options.emit == "auto":
        return
    for place, item in enumerate(options.emit):
        text = item.tap if isinstance(item, TapOptions) else item
        if text in OUTPUTS and text != name:
            report(f"emit.{place}", f"in a {task_kind} task the output is {name!r}; got {text!r}")


Options = NetOptions | EstimatorOptions | VoteOptions | PredictionsOptions


@dataclass(frozen=True)
class Node:
    """One member as it will be computed.

    Attributes
    ----------
    raw : tuple of str
        Raw inputs it reads.
    blocks : tuple of str
        Full names of the blocks it reads, such as ``base/mlp/proba``.
    first_fold : int
        Time folds: the first fold it predicts; every fitted level covers one fold fewer.
    path : str
        Where it stands in the config.
    without : tuple of str
        Blocks that it was fitted with and that later rows go without.
    """

    level: str
    name: str
    options: Options
    raw: tuple[str, ...]
    blocks: tuple[str, ...]
    outputs: tuple[Output, ...]
    first_fold: int
    path: str
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
    def is_given(self) -> bool:
        """Whether its fold models were made elsewhere: there is none that saw neither of two folds."""
        if isinstance(self.options, NetOptions):
            return self.options.weights is not None and has_fold(self.options.weights)
        return isinstance(self.options, PredictionsOptions)

    @property
    def vote(self) -> type[Vote] | None:
        """The kind of vote that it is, if it is one."""
        return self.options.kind if isinstance(self.options, VoteOptions) else None

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
    """Nodes in the order of computing, and what is wrong with them."""

    nodes: list[Node] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def node(self, full_name: str) -> Node:
        return next(node for node in self.nodes if node.full_name == full_name)

    def blocks(self) -> dict[str, tuple[Node, Output]]:
        """Every block by its full name."""
        return {node.block(output): (node, output) for node in self.nodes for output in node.outputs}

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
                needed.update("/".join(block.split("/")[:2]) for block in node.blocks)
        return [node for node in self.nodes if node.full_name in needed]


def build_graph(
    levels: Mapping[str, Mapping[str, Options]],
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
    for position, (level, members) in enumerate(levels.items()):
        earlier = graph.blocks()
        for name, options in members.items():
            path = f"levels.{level}.{name}"
            builder = _NodeBuilder(
                graph, earlier, level, name, path, options, task_kind, names, position, bool(excluded)
            )
            for node in builder.nodes():
                if node.full_name not in excluded:
                    graph.nodes.append(node)
            if len(graph.nodes) > MOST_NODES:
                # `each` over all earlier blocks doubles them from level to level.
                message = (
                    f"a run has at most {MOST_NODES:,} members; got more, as `each` makes them. Name fewer"
                )
                graph.problems.append((path, message))
                return graph
    return graph


def graph_problems(config: Any) -> list[tuple[str, str]]:
    """Return (config path, message) for all that is wrong with the levels of a RunConfig."""
    inputs = tuple(config.data.inputs) if config.data.inputs else ("table",)
    graph = build_graph(config.levels, config.task, inputs)
    problems = graph.problems
    if config.folds.kind == "time" or (
        config.folds.kind == "auto" and config.data.time and not config.data.fold
    ):
        deepest = max((node.first_fold for node in graph.nodes), default=0)
        if deepest >= config.folds.n:
            problems.append(
                (
                    "folds.n",
                    f"time folds need one fold more than fitted levels above the first; got n={config.folds.n} for "
                    f"{deepest} such levels. Use folds.n of at least {deepest + 1}, or fewer levels",
                )
            )
    known = [node.name for node in graph.nodes] + [node.full_name for node in graph.nodes]
    if config.submit != "auto" and config.submit not in known and not problems:
        problems.append(
            ("submit", f"must be 'auto' or a member; got {config.submit!r}.{suggest(config.submit, known)}")
        )
    return problems


@dataclass
class _NodeBuilder:
    """Turns one member's options into nodes (several for `each`)."""

    graph: Graph
    earlier: Mapping[str, tuple[Node, Output]]
    level: str
    name: str
    path: str
    options: Options
    task_kind: str
    input_names: tuple[str, ...]
    position: int
    lenient: bool

    def nodes(self) -> list[Node]:
        options = self.options
        if isinstance(options, EstimatorOptions) and options.each is not None:
            return self._each(options, options.each)
        raw, blocks = self._inputs()
        if self.lenient and not blocks and self._patterns():
            return []
        return [self._node(self.name, raw, blocks)]

    def _node(self, name: str, raw: tuple[str, ...], blocks: tuple[str, ...]) -> Node:
        first = max((self.earlier[block][0].first_fold for block in blocks), default=0)
        fitted = not isinstance(self.options, VoteOptions) or self.options.kind.is_fitted
        outputs = outputs_of(self.options, self.task_kind, self._problem)
        return Node(
            self.level, name, self.options, raw, blocks, outputs, first + bool(blocks and fitted), self.path
        )

    def _problem(self, path: str, message: str) -> None:
        self.graph.problems.append((f"{self.path}.{path}" if path else self.path, message))

    def _patterns(self) -> list[str]:
        return [item for item in getattr(self.options, "inputs", None) or () if "/" in item]

    def _inputs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return raw input names and block names, in the order they are named."""
        items = getattr(self.options, "inputs", None)
        if isinstance(self.options, PredictionsOptions):
            return (), ()
        if items is None:
            if self.position > 0:
                self._problem(
                    "inputs",
                    f"a member above the first level names its inputs. Blocks there are: {self._listing()}",
                )
            return self.input_names, ()
        raw: list[str] = []
        blocks: list[str] = []
        for place, item in enumerate(items):
            if "/" not in item:
                self._add_raw(item, place, raw)
                continue
            found = self._matches(item, f"inputs.{place}")
            blocks.extend(found)
        blocks = list(dict.fromkeys(blocks))
        self._check_kinds(raw, blocks)
        return tuple(raw), tuple(blocks)

    def _add_raw(self, item: str, place: int, raw: list[str]) -> None:
        if item not in self.input_names:
            hint = suggest(item, self.input_names)
            self._problem(
                f"inputs.{place}",
                f"must be an input ({', '.join(self.input_names)}) or a pattern level/member/output; "
                f"got {quoted(item)}.{hint}",
            )
        elif item not in raw:
            raw.append(item)

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

    def _check_kinds(self, raw: list[str], blocks: list[str]) -> None:
        if isinstance(self.options, NetOptions) and blocks:
            self._problem(
                "inputs", "nets that read blocks are not built yet; name raw inputs, or use an estimator"
            )
        if not isinstance(self.options, VoteOptions):
            return
        if raw:
            self._problem("inputs", f"a vote combines predictions; got the raw input {raw[0]!r}. Remove it")
        features = [block for block in blocks if self.earlier[block][1].kind == "feature"]
        if features:
            self._problem(
                "inputs",
                f"a vote takes predictions only; got the feature block {features[0]!r}. "
                "Put a meta-learner on it first (each: makes one for every block) and vote over that",
            )

    def _each(self, options: EstimatorOptions, pattern: str) -> list[Node]:
        raw, shared = self._inputs() if options.inputs else ((), ())
        found = [block for block in self._matches(pattern, "each") if block not in shared]
        short = [".".join(block.split("/")[1:]) for block in found]
        counts = Counter(short)
        names = [
            block.replace("/", ".") if counts[brief] > 1 else brief
            for block, brief in zip(found, short, strict=True)
        ]
        return [
            self._node(f"{self.name}:{name}", raw, (*shared, block))
            for name, block in zip(names, found, strict=True)
        ]


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
    if node.vote is None:
        raise UsageError(
            f"--without leaves members out of votes only; {node.full_name} was fitted with {gone[0]!r} and needs it. "
            f"Leave it out too (--without {node.full_name}), or submit a vote"
        )
    blocks = tuple(name for name in node.blocks if name not in gone)
    if not blocks:
        raise UsageError(f"--without must leave {node.full_name} an input; got none. Leave out fewer members")
    return replace(node, blocks=blocks, without=gone)
