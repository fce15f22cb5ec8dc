"""What earlier releases wrote is read to the same numbers, or the message says which versions to install."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import stackfeat as sf
from stackfeat.errors import StackfeatError
from stackfeat.store import Store

FOLDER = Path(__file__).parent / "releases"
RELEASES = sorted(path.parent for path in FOLDER.glob("*/model.zip"))
MOST_BYTES = 2_000_000
ONE_LINE = r".*: pip install ('[a-z-]+==\S+' ?)+, or run the config again with this version"

of_each = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)


def test_the_present_release_is_kept() -> None:
    assert sf.__version__ in [path.name for path in RELEASES], "run python tests/releases/make.py"


@of_each
def test_a_release_is_small(release: Path) -> None:
    for name in ("model.zip", "store.zip"):
        assert (release / name).stat().st_size <= MOST_BYTES


@of_each
def test_a_predictor_says_what_it_said_or_which_versions_it_needs(release: Path) -> None:
    expected = np.loadtxt(release / "expected.csv", delimiter=",")
    try:
        said = sf.load(release / "model.zip").predict_proba(release / "new.csv")
    except StackfeatError as error:
        assert re.fullmatch(ONE_LINE, str(error)), error
    else:
        np.testing.assert_allclose(said, expected, rtol=0, atol=1e-6)


@of_each
def test_entries_of_a_store_are_found_or_left_alone(release: Path, tmp_path: Path) -> None:
    for name in ("train.csv", "config.yaml"):
        shutil.copy(release / name, tmp_path)
    with zipfile.ZipFile(release / "store.zip") as archive:
        archive.extractall(tmp_path / ".stackfeat")
    before = Store(tmp_path / ".stackfeat", "readonly").keys()
    assert before
    result = sf.run(tmp_path / "config.yaml")
    store = Store(tmp_path / ".stackfeat", "readonly")
    assert set(before) <= set(store.keys())
    for key in before:
        entry = store.read(key)
        for name in entry.files:
            entry.bytes(name)
    assert not any("damage" in text for text in result.warnings)
    if result.n_computed == 0:
        expected = np.loadtxt(release / "oof.csv", delimiter=",")
        np.testing.assert_allclose(result.block("final/soft/proba").oof, expected, rtol=0, atol=1e-6)
