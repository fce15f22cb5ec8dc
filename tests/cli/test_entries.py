"""show and clean: sizes by kind and learner, and entries that a run is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stackfeat.cli.entries import clean_store, list_entries, measure_store
from stackfeat.errors import UsageError
from stackfeat.output.stored_run import entries_of
from stackfeat.store import Store
from tests.projects import Project


def test_sizes_are_those_of_the_entries_by_kind_and_learner(net_run: Project) -> None:
    root = net_run.folder / ".stackfeat"
    found, listed = measure_store(root, ""), list_entries(root, "").entries
    assert found.total.entries == len(listed) and found.total.bytes == sum(one.bytes for one in listed)
    by_name = {(row.kind, row.learner): row for row in found.rows}
    # Three folds of a net: fits, rows of the test file, its features aligned and judged.
    assert by_name["fit", "mlp"].entries >= 3 and by_name["emit", "mlp"].entries == 3
    assert by_name["align", "mlp"].entries == 1 and by_name["samples", ""].entries == 2
    sizes = [row.bytes for row in found.rows]
    assert sizes == sorted(sizes, reverse=True)
    files = [path for path in (root / "entries").rglob("*") if path.name not in ("manifest.json", "DONE")]
    assert found.total.bytes == sum(path.stat().st_size for path in files if path.is_file())
    assert {row.kind for row in measure_store(root, "fit").rows} == {"fit"}
    assert str(measure_store(root, "zzz")).startswith("no entries that match 'zzz'")


def test_damaged_entries_are_counted_beside_the_sizes(plain: Project) -> None:
    root = plain.folder / ".stackfeat"
    manifest = next(iter(sorted(root.glob("entries/*/*/manifest.json"))))
    manifest.chmod(0o644)
    manifest.write_text("{}")
    found = measure_store(root, "")
    assert found.damaged == 1 and "and 1 damaged" in str(found)


def test_a_run_that_is_kept_computes_nothing_anew(net: Project, fits: list[str]) -> None:
    root = net.folder / ".stackfeat"
    own = entries_of(Store(root, "readonly"), net.run_folder)
    other = ["--set", "levels.base.gbm.params.n_estimators=7", "--set", "outputs.dir=runs/other"]
    assert net.run(*other).code == 0 and fits
    n_before = len(Store(root, "readonly").keys())
    said = net.cli("clean", "--store", root, "--older-than", "0", "--keep-run", net.run_folder, "--json")
    values = json.loads(said.out)
    assert values["entries"] == n_before - len(own) > 10 and values["kept_for_runs"] == len(own)
    assert set(Store(root, "readonly").keys()) == own
    fits.clear()
    said = net.run()
    assert "jobs computed: 0" in said.out and fits == []
    assert set(Store(root, "readonly").keys()) == own, "scores and diagnoses were there too"
    assert net.run(*other).code == 0 and fits, "the other run's entries were removed"


def test_two_runs_are_kept_together(plain: Project, fits: list[str]) -> None:
    root = plain.folder / ".stackfeat"
    other = ["--set", "seed=3", "--set", "outputs.dir=runs/other"]
    assert plain.run(*other).code == 0
    fits.clear()
    runs = [plain.run_folder, plain.folder / "runs" / "other"]
    clean_store(root, 0, runs)
    assert plain.run().code == 0 and plain.run(*other).code == 0 and fits == []


def test_what_cannot_be_kept_is_refused_before_anything_goes(plain: Project, tmp_path: Path) -> None:
    root = plain.folder / ".stackfeat"
    before = Store(root, "readonly").keys()
    with pytest.raises(UsageError, match="--keep-run names what --older-than leaves; got no --older-than"):
        clean_store(root, None, [plain.run_folder])
    with pytest.raises(UsageError, match="RUN must be the folder of a finished run"):
        clean_store(root, 0, [tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"of which .* has nothing; name its own store with --store"):
        clean_store(tmp_path / "empty", 0, [plain.run_folder])
    assert Store(root, "readonly").keys() == before
    said = plain.cli("show", "--store", root, "--why", before[0], "--size")
    assert said.code == 2 and "--why is about one entry" in said.err
