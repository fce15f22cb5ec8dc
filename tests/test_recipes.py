"""What CONTRIBUTING tells to do works: its code goes into a copy of the package, where the contract tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = shutil.ignore_patterns("__pycache__", "*.pyc")


def copy_of(folder: Path, *parts: str) -> None:
    """Copy files and folders of the repository."""
    for part in parts:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=FILES)
        else:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / part, folder / part)


def codes_of(kind: str) -> tuple[str, list[str]]:
    """The file that a recipe names first, and its blocks of code."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    start = re.search(rf"\n\*\*an? {kind}\*\*", page)
    assert start
    recipe = page[start.end() :].split("\n**")[0]
    name = re.search(r"`(stackfeat/\S+\.py)`", recipe)
    blocks = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    assert name and blocks
    return name[1], blocks


def insert(path: Path, before: str, text: str) -> None:
    """Put a text before another one, which the file has once."""
    old = path.read_text("utf-8")
    assert old.count(before) == 1
    path.write_text(old.replace(before, text + before), "utf-8")


def run_contract(folder: Path, *arguments: str) -> None:
    """Run tests of a copy on the copy's package."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


def test_the_recipe_of_a_vote_gives_a_vote(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/meta/votes", "docs/semantics.md")
    name, (code,) = codes_of("vote")
    (tmp_path / name).write_text(code, "utf-8")
    table = tmp_path / "stackfeat/meta/votes/__init__.py"
    insert(table, "\nVOTES", "\nfrom stackfeat.meta.votes.geometric import GeometricVote\n")
    insert(table, ")\n}\n", ", GeometricVote")
    insert(tmp_path / "tests/meta/votes/test_contract.py", "}\nTASKS", '    "geometric": Row(),\n')
    page = tmp_path / "docs/semantics.md"
    insert(page, "| `greedy` | yes", "| `geometric` | no | `weights` | binary, multiclass |\n")
    run_contract(tmp_path, "tests/meta/votes/test_contract.py", "-k", "geometric or has_a_row")


def test_the_recipe_of_an_encoding_gives_an_encoding(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/encodings/test_contract.py", "docs/semantics.md")
    name, (code,) = codes_of("encoding")
    (tmp_path / name).write_text(code, "utf-8")
    table = tmp_path / "stackfeat/encodings/__init__.py"
    insert(table, "\nENCODINGS", "\nfrom stackfeat.encodings.moments import Moments\n")
    insert(table, ")\n}\nPER_FOLD", ", Moments")
    row = '    "moments": Row(),\n'
    insert(tmp_path / "tests/encodings/test_contract.py", "}\n\n\ndef make_task", row)
    page = tmp_path / "docs/semantics.md"
    insert(page, "| `raw` | in", "| `moments` | in each fold | no | yes | each by its own |\n")
    run_contract(tmp_path, "tests/encodings/test_contract.py", "-k", "moments or every_encoding_has_a_row")


@pytest.mark.slow
def test_the_recipe_of_a_net_gives_a_net(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/nets/zoo/contract.py", "tests/nets/zoo/test_contract.py")
    name, (code,) = codes_of("net")
    (tmp_path / name).write_text(code, "utf-8")
    entry = '    "snn": "stackfeat.nets.zoo.snn:SNN",\n'
    insert(tmp_path / "stackfeat/registry/names.py", '}\n"""Nets by short name', entry)
    insert(tmp_path / "tests/nets/zoo/contract.py", '}\n"""Which kind of rows', '    "snn": "table",\n')
    run_contract(tmp_path, "tests/nets/zoo/test_contract.py", "-k", "snn or every_net")


def test_the_recipe_of_a_metric_gives_a_metric(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/metrics/test_contract.py", "docs/config.md")
    name, (function, entry) = codes_of("metric")
    insert(tmp_path / name, "\nlabel_metric = ", "\n\n" + function + "\n")
    insert(tmp_path / name, '        label_metric(name="accuracy"', f"        {entry.strip()},\n")
    oracle = '    "max_error": lambda y, p, task, w: float(sk.max_error(y, p[:, 0])),\n'
    insert(tmp_path / "tests/metrics/test_contract.py", '    "accuracy": of_labels', oracle)
    insert(tmp_path / "docs/config.md", "| `rmse` |", "| `max_error` | regression | smaller | values |\n")
    run_contract(tmp_path, "tests/metrics/test_contract.py", "-k", "max_error or every_metric")


def test_the_recipe_of_a_file_format_gives_a_file_format(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/data/files/test_contract.py", "docs/config.md")
    name, (code,) = codes_of("file format")
    (tmp_path / name).write_text(code, "utf-8")
    table = tmp_path / "stackfeat/data/files/tables.py"
    insert(
        table, "from stackfeat.data.files.packing", "from stackfeat.data.files.json_lines import JsonLines\n"
    )
    insert(table, ") for suffix in format_.suffixes", ", JsonLines()")
    write = 'lambda frame, path: frame.to_json(path, orient="records", lines=True)'
    row = f"""    ".jsonl": Row({write}, b'{{"a": 1'),\n"""
    insert(tmp_path / "tests/data/files/test_contract.py", '}\n"""By the first suffix', row)
    insert(tmp_path / "docs/config.md", "| `.npy` | array", "| `.jsonl` | table | |\n")
    run_contract(tmp_path, "tests/data/files/test_contract.py", "-k", "jsonl or every_format_has")


def test_the_recipe_of_a_task_gives_a_task(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/tasks/test_contract.py")
    name, (code,) = codes_of("task")
    (tmp_path / name).write_text(code, "utf-8")
    insert(tmp_path / "stackfeat/tasks/task.py", "]\nTASKS = {", ', "counts"')
    entry = '    "counts": "stackfeat.tasks.counts:Counts",\n'
    insert(tmp_path / "stackfeat/tasks/task.py", '}\n"""Kinds by name.', entry)
    insert(tmp_path / "stackfeat/metrics/built_in.py", ")\n\n\ndef accuracy_rows", ' "counts"')
    insert(tmp_path / "tests/tasks/test_contract.py", "}\nOF_SEVERAL = {", '    "counts": Task("counts"),\n')
    run_contract(tmp_path, "tests/tasks/test_contract.py", "-k", "counts or same_kinds")
