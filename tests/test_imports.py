"""The shape of the package: imports point one way, torch stays in nets, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "stackfeat"
CONFIGS = sorted((PACKAGE.parent / "configs").glob("*.yaml"))

FOLDERS = ("store", "data", "nets", "features", "ensemble", "sklearn", "output", "config")
"""A folder may import itself and those before it, beside the root helpers."""
FLOW = {
    "tap_patterns": 1,
    "planning": 2,
    "checking": 3,
    "doctor": 1,
    "extraction": 2,
    "importing": 2,
    "cli_import": 5,
    "trusting": 1,
    "cli_trust": 5,
    "inspection": 1,
    "small": 1,
    "permuting": 3,
    "proving": 3,
    "auditing": 4,
    "audit_table": 5,
    "cli_audit": 6,
    "prediction": 2,
    "results": 3,
    "run": 4,
    "terminal": 5,
    "cli": 6,
    "__main__": 7,
    "__init__": 7,
}
"""Modules of the root that use the folders, in the order they build on each other."""
MAX_LINES = 600
DULL_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}


def modules() -> dict[str, ast.Module]:
    """Every module of the package by dotted name, `__init__` written out."""
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


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


def rank(module: str) -> int:
    """Where a module stands: root helpers and options 0, then folders, then the flow on top."""
    parts = module.split(".")[1:]
    if parts[0] in FOLDERS:
        return 0 if parts[-1] == "options" else 1 + FOLDERS.index(parts[0])
    return 1 + len(FOLDERS) + FLOW[parts[0]] if parts[0] in FLOW else 0


def edges() -> Iterator[tuple[str, int, str]]:
    for module, tree in MODULES.items():
        for line, name in imports(tree):
            if name.partition(".")[0] == "stackfeat" and name != "stackfeat.__version__":
                yield module, line, module_of(name)


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module}:{line} imports {other}"
        for module, line, other in edges()
        if rank(other) > rank(module) and not module.endswith("stackfeat.__init__")
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_of_the_flow_exist() -> None:
    assert {name for name in FLOW if f"stackfeat.{name}" not in MODULES} == set()


def for_types_only(module: str) -> set[int]:
    """Lines of a module that only a type checker sees: they cannot make a circle when it runs."""
    blocks = [
        node
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {line for block in blocks for line in range(block.lineno, (block.end_lineno or 0) + 1)}


def test_imports_have_no_circles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, line, other in edges():
        if other != module and line not in for_types_only(module):
            graph[module].add(other)
    while True:
        imported = set[str]().union(*graph.values())
        in_circle = {module for module, others in graph.items() if others and module in imported}
        if len(in_circle) == len(graph):
            break
        graph = {module: graph[module] & in_circle for module in in_circle}
    assert not graph, f"these import each other: {sorted(graph)}"


def test_torch_is_imported_in_nets_only() -> None:
    wrong = [
        f"{module}:{line}"
        for module, tree in MODULES.items()
        for line, name in imports(tree)
        if name.partition(".")[0] == "torch"
        and (not module.startswith("stackfeat.nets.") or module.endswith((".options", ".__init__")))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES)
def test_files_are_small_and_say_what_they_are_for(module: str) -> None:
    path = PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")
    n_lines = len(path.read_text("utf-8").splitlines())
    assert n_lines < MAX_LINES, f"{path.name} has {n_lines} lines: is there a second concept in it?"
    assert path.stem not in DULL_NAMES
    assert ast.get_docstring(MODULES[module]), f"{path.name} must open with a docstring"


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
        "import stackfeat.doctor; stackfeat.doctor.examine()",
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


def test_run_is_the_function_however_it_is_asked_for():
    code = "import stackfeat; stackfeat.run; from stackfeat import run; print(callable(run), callable(stackfeat.run))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True"]
