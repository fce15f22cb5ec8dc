"""The store on disk: what is written whole is read back, and nothing else exists."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stackfeat.errors import DamagedEntryError, StoreError
from stackfeat.store import Store, hash_recipe
from tests.store.intact import is_intact

Put = Callable[..., None]
RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}
KEY = hash_recipe(RECIPE)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def assert_no_traces(root: Path) -> None:
    assert [path for path in files_below(root) if not path.startswith("quarantine")] == []
    assert list((root / "tmp").glob("*")) == []


def test_what_is_written_is_read_back(store: Store, put: Put) -> None:
    put(store)
    entry = Store(store.root).read(KEY)
    assert entry.key == KEY
    assert entry.kind == "block"
    np.testing.assert_array_equal(entry.array("base/mlp/proba"), np.ones((3, 2)))
    assert entry.json("report") == {"epochs": [1, 2]}
    assert entry.bytes("net.safetensors") == b"\x00weights"
    assert entry.file("more.csv").read_text() == "a,b\n1,2\n"
    assert entry.has("base/mlp/proba.npy")
    assert not entry.has("base/mlp/proba")


def test_an_entry_is_laid_out_as_documented(store: Store, put: Put) -> None:
    put(store)
    folder = store.root / "entries" / KEY[:2] / KEY
    assert sorted(path.name for path in folder.iterdir()) == [
        "DONE", "base%2Fmlp%2Fproba.npy", "manifest.json", "more.csv", "net.safetensors", "report.json",
    ]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.keys() == {"key", "kind", "recipe", "created", "files"}
    for name, listed in manifest["files"].items():
        data = (folder / name.replace("/", "%2F")).read_bytes()
        assert listed == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert list((store.root / "tmp").iterdir()) == []


@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8", "i8", "?", "<U3", ">i2"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
    )
)
def test_any_plain_array_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "s")
    with store.write(KEY, "x", {}) as writer:
        writer.array("a", values)
        writer.array("fortran", np.asfortranarray(values))
    for mmap in (False, True):
        array = store.read(KEY).array("a", mmap=mmap)
        assert array.dtype == values.dtype
        assert array.shape == values.shape
        assert array.tobytes() == values.tobytes()
        assert store.read(KEY).array("fortran", mmap=mmap).flags.c_contiguous
    assert store.read(KEY).array("a").flags.writeable


def test_arrays_of_objects_are_refused_and_leave_nothing(store: Store) -> None:
    with pytest.raises(TypeError, match="must hold numbers"), store.write(KEY, "x", {}) as writer:
        writer.array("a", np.array(["x", None], dtype=object))
    assert_no_traces(store.root)


def test_a_pickled_array_is_never_loaded(store: Store) -> None:
    with store.write(KEY, "x", {}) as writer:
        np.save(writer.file("a.npy"), np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedEntryError, match="no Python objects"):
        store.read(KEY).array("a")


def test_an_unknown_name_lists_the_names_there_are(store: Store, put: Put) -> None:
    put(store)
    with pytest.raises(StoreError, match=r"must have the file 'prob\.npy'.*base/mlp/proba\.npy, more\.csv"):
        store.read(KEY).array("prob")


def test_reading_an_absent_entry_says_so(store: Store) -> None:
    assert not store.has(KEY)
    with pytest.raises(StoreError, match="got none; compute it first"):
        store.read(KEY)
    assert not store.root.exists()


@pytest.mark.parametrize("key", ["../../etc", "", "a/b", "ABC", "x" * 129])
def test_keys_that_are_no_keys_are_refused(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="a key must be"):
        store.has(key)


def test_a_file_name_given_twice_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="a second time"), store.write(KEY, "x", {}) as writer:
        writer.json("a", 1)
        writer.bytes("a.json", b"2")
    assert_no_traces(store.root)


def test_names_of_the_stores_own_files_are_free_for_use(store: Store) -> None:
    with store.write(KEY, "x", {}) as writer:
        writer.json("manifest", [1])
        writer.bytes("DONE", b"x")
    assert store.read(KEY).json("manifest") == [1]
    assert store.read(KEY).bytes("DONE") == b"x"


def test_keys_are_listed_by_kind(store: Store, put: Put) -> None:
    put(store, "a" * 64, kind="block")
    put(store, "b" * 64, kind="net")
    assert store.keys() == ["a" * 64, "b" * 64]
    assert store.keys("net") == ["b" * 64]
    assert store.manifest("b" * 64)["recipe"] == RECIPE


def test_a_store_can_be_sent_to_another_process(store: Store, put: Put) -> None:
    put(store)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.has(KEY)
    assert copy.started == store.started


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, FileNotFoundError])
def test_an_exception_in_the_block_leaves_nothing_and_passes_unchanged(
    store: Store, error: type[BaseException]
) -> None:
    with pytest.raises(error, match="mine") as caught, store.write(KEY, "x", RECIPE) as writer:
        writer.array("a", np.zeros(3))
        raise error("mine")
    assert type(caught.value) is error
    assert not store.has(KEY)
    assert_no_traces(store.root)


def test_a_file_asked_for_and_not_written_is_an_error(store: Store) -> None:
    with (
        pytest.raises(StoreError, match=r"file\('x\.txt'\) must be written"),
        store.write(KEY, "x", {}) as writer,
    ):
        writer.file("x.txt")
    assert_no_traces(store.root)


def test_a_recipe_that_is_not_plain_is_refused_before_the_work(store: Store) -> None:
    with pytest.raises(TypeError, match=r"recipe\.lr"), store.write(KEY, "x", {"lr": np.float32(1)}):
        pytest.fail("the block must not run")


def test_two_writers_of_one_key_both_end_well_and_the_first_stays(store: Store, put: Put) -> None:
    other = Store(store.root)
    with other.write(KEY, "block", RECIPE) as writer:
        put(store, value=1.0)
        writer.array("base/mlp/proba", np.full((3, 2), 2.0))
    assert other.read(KEY).array("base/mlp/proba")[0, 0] == 1.0
    assert list((store.root / "tmp").iterdir()) == []


def write_often(put: Put, root: str, n_keys: int) -> None:
    store = Store(root)
    for i in range(n_keys):
        put(store, f"{i:064x}", value=float(i))
        assert store.read(f"{i:064x}").array("base/mlp/proba")[0, 0] == i


def test_two_processes_that_write_the_same_keys_leave_whole_entries(store: Store, put: Put) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_often, args=(put, str(store.root), 30)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(store.keys()) == 30
    assert [key for key in sorted(store.keys()) if not is_intact(store, key)] == []
    assert list((store.root / "tmp").iterdir()) == []


def test_a_killed_writer_leaves_no_entry_and_its_temporary_is_cleaned(store: Store, put: Put) -> None:
    code = (
        "import os, signal\nfrom stackfeat.store import Store\n"
        f"with Store({str(store.root)!r}).write('{KEY}', 'x', {{}}) as writer:\n"
        "    writer.bytes('a', b'12345')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not store.has(KEY)
    assert len(list((store.root / "tmp").iterdir())) == 1
    report = store.clean()
    assert (report.temporaries, report.entries, report.bytes) == (1, 0, 5)
    assert list((store.root / "tmp").iterdir()) == []
    put(store)
    assert is_intact(store, KEY)


def test_the_store_and_the_executors_import_no_heavy_library() -> None:
    heavy = {"torch", "sklearn", "scipy", "pandas", "joblib"}
    code = f"import sys, stackfeat.store, stackfeat.executors; print({heavy} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"
