"""What comes in kinds is decided in its own room: nobody else asks which one it is."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from stackfeat.data.files.tables import FORMATS
from stackfeat.encodings import ENCODINGS
from stackfeat.meta.votes import VOTES
from stackfeat.metrics.built_in import METRICS
from stackfeat.tasks.task import TASKS, task_class

PACKAGE = Path(__file__).resolve().parent.parent / "stackfeat"


def trees_outside(room: str) -> Iterator[tuple[Path, ast.Module]]:
    """The modules that do not lie in a room, by path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGE / room not in path.parents:
            yield path.relative_to(PACKAGE), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


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


def test_names_of_encodings_are_compared_nowhere() -> None:
    assert not compared("encodings", ENCODINGS)


def test_no_table_elsewhere_says_something_of_encodings() -> None:
    assert not tables("encodings", ENCODINGS)


def test_no_table_elsewhere_says_something_of_metrics() -> None:
    assert not tables("metrics", METRICS)


READS_INPUTS_OF_NETS = Path("layers/extraction/files.py")
"""Reading nets needs nothing of data: it maps numpy's two formats by itself."""


def test_suffixes_of_data_files_are_compared_nowhere() -> None:
    suffixes = {text for suffix in FORMATS for text in (suffix, suffix.removeprefix("."))}
    found = compared("data/files", suffixes)
    for path, tree in trees_outside("data/files"):
        found += [f"{path}:{line}" for line in ends_with(tree, suffixes)]
    assert not [place for place in found if not place.startswith(f"{READS_INPUTS_OF_NETS}:")]


def ends_with(tree: ast.Module, suffixes: Collection[str]) -> Iterator[int]:
    """Lines that ask whether a name ends with one of these, as a text or in a tuple."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="endswith"), args=[end]) if texts_in(end) & set(suffixes):
                yield node.lineno


def test_no_table_elsewhere_says_something_of_file_formats() -> None:
    assert not tables("data/files", FORMATS)


def test_a_comparison_of_suffixes_is_seen() -> None:
    for sample in ('name.endswith(".npy")', 'name.lower().endswith((".csv", ".tsv"))'):
        assert list(ends_with(ast.parse(sample), FORMATS)), sample


MOST_TASK_BRANCHES = 15
QUESTIONS = {"is_classification", "is_regression", "is_classifier", "is_regressor"}


def branches_on_tasks(tree: ast.Module) -> Iterator[int]:
    """Lines that compare with a kind or family of tasks, choose by it from a table, or ask which one it is."""
    words = {*TASKS, *(task_class(kind).family for kind in TASKS)}
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                sides = (node.left, *node.comparators)
                if is_kind_of_task(*sides) or words & texts_in(*sides):
                    yield node.lineno
            case ast.MatchValue() if words & texts_in(node.value):
                yield node.value.lineno
            case ast.Dict() if len(words & texts_in(*filter(None, node.keys))) > 1:
                yield node.lineno
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in QUESTIONS:
                yield node.lineno
            case ast.If() | ast.IfExp() if asks_for_classes(node.test):
                yield node.test.lineno


def texts_in(*nodes: ast.expr) -> set[str]:
    return {text for node in nodes for text in texts_of(node)}


def is_kind_of_task(*sides: ast.expr) -> bool:
    return any(
        isinstance(side, ast.Attribute) and side.attr == "kind" and "task" in ast.unparse(side.value)
        for side in sides
    )


def asks_for_classes(test: ast.expr) -> bool:
    """Whether it is asked if a task has classes."""
    parts = test.values if isinstance(test, ast.BoolOp) else [test]
    bare = [part.operand if isinstance(part, ast.UnaryOp) else part for part in parts]
    return any(
        isinstance(part, ast.Attribute) and ast.unparse(part).endswith("task.classes") for part in bare
    )


def test_branches_on_the_kind_of_task_are_few_and_say_why() -> None:
    found, unexplained = [], []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent == PACKAGE / "tasks":
            continue
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for line in sorted(set(branches_on_tasks(ast.parse(text)))):
            place = f"{path.relative_to(PACKAGE)}:{line}: {lines[line - 1].strip()}"
            found.append(place)
            if not any("#" in near for near in lines[line - 2 : line]):
                unexplained.append(place)
    assert len(found) <= MOST_TASK_BRANCHES, "a fact of a task belongs to its class in tasks/:\n" + "\n".join(
        found
    )
    assert not unexplained, "a branch on the kind of task needs its reason beside it:\n" + "\n".join(
        unexplained
    )


def test_a_branch_on_the_kind_of_task_is_seen() -> None:
    samples = (
        "if task.kind == other: pass",
        "a = 1 if kind != 'regression' else 2",
        "if kind in ('binary', 'multiclass'): pass",
        "a = {'binary': 1, 'regression': 2}[kind]",
        "a = task.is_classification",
        "if not self.task.classes: pass",
        "match kind:\n    case 'binary': pass",
    )
    for sample in samples:
        assert list(branches_on_tasks(ast.parse(sample))), sample
    assert not list(branches_on_tasks(ast.parse("if values.dtype.kind == 'f': a = task.output")))
