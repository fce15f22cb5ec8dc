"""What CONTRIBUTING tells to do works: its code goes into a copy of the package, where the contract tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def code_of(kind: str) -> tuple[str, str]:
    """The file that a recipe names first, and the code that goes there."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    recipe = page[page.index(f"\n**a {kind}**") :]
    found = re.search(r"`(stackfeat/\S+\.py)`.*?```python\n(.*?)```", recipe, re.DOTALL)
    assert found
    return found[1], found[2]


def insert(path: Path, before: str, text: str) -> None:
    """Put a text before another one, which the file has once."""
    old = path.read_text("utf-8")
    assert old.count(before) == 1
    path.write_text(old.replace(before, text + before), "utf-8")


def test_the_recipe_of_a_vote_gives_a_vote(tmp_path: Path) -> None:
    copy_of(tmp_path, "stackfeat", "tests/meta/votes", "docs/semantics.md")
    name, code = code_of("vote")
    (tmp_path / name).write_text(code, "utf-8")
    table = tmp_path / "stackfeat/meta/votes/__init__.py"
    insert(table, "\nVOTES", "\nfrom stackfeat.meta.votes.geometric import GeometricVote\n")
    insert(table, ")\n}\n", ", GeometricVote")
    insert(tmp_path / "tests/meta/votes/test_contract.py", "}\nTASKS", '    "geometric": Row(),\n')
    page = tmp_path / "docs/semantics.md"
    insert(page, "| `greedy` | yes", "| `geometric` | no | `weights` | binary, multiclass |\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = subprocess.run(
        [*command, "tests/meta/votes/test_contract.py", "-k", "geometric or has_a_row"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
