"""Every notebook runs from top to bottom, without Jupyter: its code cells are executed one after the other."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST_OUTPUT = 2_000


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8")))


def sources(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_of_format_4_with_small_outputs(path: Path) -> None:
    notebook = read(path)
    assert notebook["nbformat"] == 4
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        assert len(json.dumps(cell.get("outputs", []))) < LARGEST_OUTPUT, "clear the outputs of this cell"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_names_that_a_notebook_imports_exist(path: Path) -> None:
    for text in sources(path, "code"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                for name in node.names:
                    importlib.import_module(name.name)
            elif isinstance(node, ast.ImportFrom):
                assert node.module
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"
            elif (
                isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sf"
            ):
                assert hasattr(importlib.import_module("stackfeat"), node.attr), f"sf.{node.attr}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_links_of_a_notebook_lead_somewhere(path: Path) -> None:
    for text in sources(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib
    import torch

    monkeypatch.chdir(tmp_path)
    # Folders that a notebook makes for itself go with the test.
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path))
    threads, backend = torch.get_num_threads(), matplotlib.get_backend()
    matplotlib.use("Agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for number, text in enumerate(sources(path, "code")):
            exec(compile(text, f"{path.name}, code cell {number}", "exec"), namespace)
    finally:
        from matplotlib import pyplot

        pyplot.close("all")
        matplotlib.use(backend)
        torch.set_num_threads(threads)
    if path.name == "alignment.ipynb":
        check_alignment(namespace)


def check_alignment(namespace: dict[str, Any]) -> None:
    """The story that the text between the cells tells."""
    guess, fold_of = namespace["fold_id_accuracy"], namespace["fold_of"]
    assert guess(namespace["raw"], fold_of, seed=0) > 0.9
    assert guess(namespace["geometry"], fold_of, seed=0) < 0.4
    assert guess(namespace["aligned"], fold_of, seed=0) < 0.4
    scores = namespace["result"].leaderboard.set_index("member")["score"]
    assert scores["raw_ungated"] > scores["predictions"] > scores["geometry_ungated"]
