"""The root of every key, and what planning may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stackfeat.data.fingerprint import fingerprint
from stackfeat.data.options import DataOptions


def test_fingerprint_follows_bytes_and_reading_options(tmp_path: Path) -> None:
    path, memory = tmp_path / "a.csv", tmp_path / "memory.json"
    path.write_text("a,y\n1,2\n")
    first = fingerprint(path, DataOptions(train="a.csv"), memory)
    assert first == fingerprint(path, DataOptions(train="./a.csv", test="b.csv"), memory)
    assert first != fingerprint(path, DataOptions(train="a.csv", drop=("a",)), memory)
    assert memory.exists()
    path.write_text("a,y\n1,33\n")
    assert first != fingerprint(path, DataOptions(train="a.csv"), memory)
    memory.write_text("damaged")
    assert fingerprint(path, DataOptions(train="a.csv"), memory)
    assert fingerprint("sklearn:digits", DataOptions(train="sklearn:digits"))


def test_planning_imports_neither_pandas_nor_scikit_learn() -> None:
    code = (
        "import sys, stackfeat.data.options\nfrom stackfeat.data import fingerprint, resolve_kind\n"
        "heavy = {'pandas', 'sklearn', 'scipy', 'torch'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
