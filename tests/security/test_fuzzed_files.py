"""Whatever stands in a file, a reader ends soon, and well or with an error of ours."""

from __future__ import annotations

import os
import random
import shutil
import time
import traceback
from pathlib import Path

import pytest

from tests.security.fuzzing import READERS, fault_of

MOST_SECONDS = 2.0
"""Of CPU, for one file."""
FEW, MANY = 40, 2_300
SEED = int(os.environ.get("STACKFEAT_FUZZ_SEED", "0"))


def faults(kind: str, n_cases: int, folder: Path) -> list[str]:
    """Read so many files and say what went wrong with which of them."""
    found = []
    for number in range(n_cases):
        place = folder / "case"
        place.mkdir()
        case = READERS[kind](random.Random(f"{SEED} {kind} {number}"), place)
        started = time.process_time()
        fault = fault_of(case)
        seconds = time.process_time() - started
        if fault is not None:
            last = traceback.extract_tb(fault.__traceback__)[-1:]
            found.append(f"{kind} {SEED} {number}: {type(fault).__name__}: {str(fault)[:200]} at {last}")
        if seconds > MOST_SECONDS:
            found.append(f"{kind} {SEED} {number}: {seconds:.1f} s of CPU")
        shutil.rmtree(place)
    return found


@pytest.mark.parametrize("kind", READERS)
def test_damaged_and_hostile_files_end_in_errors_of_ours(kind: str, tmp_path: Path) -> None:
    faults(kind, 1, tmp_path)  # what is imported and built once is not the file's time
    assert faults(kind, FEW, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("kind", READERS)
def test_twenty_thousand_of_them(kind: str, tmp_path: Path) -> None:
    faults(kind, 1, tmp_path)
    assert faults(kind, MANY, tmp_path) == []
