"""The shape of the package: rooms in one order, imports along it, no circles, torch where nets are, small files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "stackfeat"
CONFIGS = sorted((PACKAGE.parent / "configs").glob("*.yaml"))

ROOMS = (
    *("errors", "options", "seeds", "device", "log", "structure"),
    *("tasks", "registry", "store", "executors", "metrics", "data", "layers", "nets", "encodings", "meta"),
    *("members", "engine", "sklearn", "config", "output", "pipeline", "audit", "cli", "__init__", "__main__"),
)
"""Modules of the root, then folders: each imports itself and what stands before it."""
MAX_ROOMS = 26
MAX_ROOT_MODULES = 8
MAX_LINES = 600
TORCH_ROOMS = {"layers", "nets", "encodings"}
DULL_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}


MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Every module of the package by dotted name, `__init__` written out."""


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, those inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def module_of(name: str) -> str:
    """The module that an imported name belongs to, `__init__` written out."""
    parts = name.split(".")
    while parts:
        for candidate in (".".join(parts), ".".join([*parts, "__init__"])):
            if candidate in MODULES:
                return candidate
        parts.pop()
    raise AssertionError(f"{name} is no module of the package")


def room_of(module: str) -> str:
    return module.split(".")[1]


def edges() -> Iterator[tuple[str, int, str]]:
    for module in MODULES:
        for line, name in imports(tree_of(module)):
            if name.partition(".")[0] == "stackfeat" and module_of(name) != module:
                yield module, line, module_of(name)


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set(ROOMS)
    assert len(rooms) <= MAX_ROOMS
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_ROOT_MODULES


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module}:{line} imports {other}"
        for module, line, other in edges()
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    ]
    assert not wrong, "\n".join(wrong)


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """What is left when everything that imports nothing, or that nothing imports, is taken away."""
    while True:
        imported = set[str]().union(*graph.values())
        kept = {name for name, others in graph.items() if others and name in imported}
        if len(kept) == len(graph):
            return sorted(graph)
        graph = {name: graph[name] & kept for name in kept}


def test_imports_have_no_circles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, _, other in edges():
        graph[module].add(other)
    assert not circles(graph)


def test_torch_is_imported_only_where_nets_are_read_or_trained() -> None:
    wrong = [
        f"{module}:{line}"
        for module in MODULES
        for line, name in imports(tree_of(module))
        if name.partition(".")[0] == "torch"
        and (room_of(module) not in TORCH_ROOMS or module.endswith((".options", ".__init__")))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES)
def test_files_are_small_and_say_what_they_are_for(module: str) -> None:
    path = MODULES[module]
    n_lines = len(path.read_text("utf-8").splitlines())
    assert n_lines < MAX_LINES, f"{path.name} has {n_lines} lines: is there a second concept in it?"
    assert path.stem not in DULL_NAMES
    assert ast.get_docstring(tree_of(module)), f"{path.name} must open with a docstring"


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )


@pytest.mark.parametrize(
    "code",
    [
        "import stackfeat",
        "from stackfeat.config import json_schema; json_schema()",
        "from stackfeat.config import load_config; load_config('configs/quickstart.yaml')",
        "import stackfeat.cli",
        "import stackfeat.cli.inspect; stackfeat.cli.inspect.examine_environment()",
        "from stackfeat.store.skops_file import save_object; save_object({})",
    ],
)
def test_torch_is_not_loaded_by(code: str) -> None:
    done = run_python("-c", f"import sys\n{code}\nassert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["check", "configs/quickstart.yaml"]])
def test_torch_is_not_loaded_by_the_command(arguments: list[str]) -> None:
    done = run_python("-X", "importtime", "-m", "stackfeat", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = [line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line]
    assert "stackfeat.cli" in loaded
    assert "torch" not in loaded


def test_a_public_function_is_one_whatever_was_imported_before() -> None:
    modules = ("pipeline.run", "audit.provenance", "layers.extraction.extract")
    code = "; ".join(f"import stackfeat.{module}" for module in modules)
    for name in ("run", "audit", "extract"):
        code += f"; assert callable(stackfeat.{name}) and stackfeat.{name}.__name__ == '{name}'"
        code += f"; assert '{name}' in dir(stackfeat)"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
