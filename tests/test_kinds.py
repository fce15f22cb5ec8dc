"""What comes in kinds is decided in its own room: nobody else compares the names of votes or of metrics."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

from stackfeat.meta.votes import VOTES
from stackfeat.metrics.built_in import METRICS

PACKAGE = Path(__file__).resolve().parent.parent / "stackfeat"


def trees_outside(room: str) -> Iterator[tuple[Path, ast.Module]]:
    """The modules that do not lie in a room, by path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGE / room not in path.parents:
            yield path.relative_to(PACKAGE), ast.parse(path.read_text("utf-8"))


def compared_texts(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, what is compared, and the text that it is compared with, also in a tuple, set, list or case."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                for text in texts_of(side):
                    yield node.lineno, ast.unparse(node), text
        elif isinstance(node, ast.MatchValue):
            for text in texts_of(node.value):
                yield node.value.lineno, ast.unparse(node), text


def texts_of(*nodes: ast.expr | None) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Tuple | ast.Set | ast.List):
            yield from texts_of(*node.elts)


def compared(room: str, names: Collection[str]) -> list[str]:
    """Where names of a room are compared outside it."""
    return [
        f"{path}:{line}: {what}"
        for path, tree in trees_outside(room)
        for line, what, text in compared_texts(tree)
        if text in names
    ]


def tables(room: str, names: Collection[str]) -> list[str]:
    """Where a table outside a room says something of several of its names; a returned dict of results does not."""
    found = []
    for path, tree in trees_outside(room):
        results = {node.value for node in ast.walk(tree) if isinstance(node, ast.Return)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict) and node not in results:
                sides = (set(texts_of(*node.keys)), set(texts_of(*node.values)))
                found += [f"{path}:{node.lineno}" for side in sides if len(side & set(names)) > 1]
    return found


def test_names_of_votes_are_compared_nowhere() -> None:
    assert not compared("meta/votes", VOTES)


def test_names_of_metrics_are_compared_nowhere() -> None:
    assert not compared("metrics", METRICS)


def test_no_table_elsewhere_says_something_of_metrics() -> None:
    assert not tables("metrics", METRICS)
