"""What comes in kinds is decided in its own room: nobody else compares the names of votes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from stackfeat.meta.votes import VOTES

PACKAGE = Path(__file__).resolve().parent.parent / "stackfeat"


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


def texts_of(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.Set | ast.List):
        for item in node.elts:
            yield from texts_of(item)


def test_names_of_votes_are_compared_nowhere() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {what}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "meta" / "votes"
        for line, what, text in compared_texts(ast.parse(path.read_text("utf-8")))
        if text in VOTES
    ]
    assert not found, "\n".join(found)
