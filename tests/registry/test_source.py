"""Modules as text: found where Python would find them, hashed with all that they import, and never run."""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from stackfeat.errors import ConfigError
from stackfeat.registry.source import (
    ModuleFile,
    class_literal,
    find_module,
    hash_sources,
    library_versions,
    local_modules,
    names_defined,
    provided_version,
    submodules,
)

NEVER_RUN = "raise SystemExit('imported')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three modules and two packages, one of them without __init__.py; none of them may be imported."""
    files = {
        "seen_top.py": f"{NEVER_RUN}import os, numpy\nimport seen_side\nfrom seen_package.inner import deep as d\n",
        "seen_side.py": NEVER_RUN,
        "seen_alone.py": NEVER_RUN,
        "seen_package/__init__.py": f"{NEVER_RUN}from . import first\n",
        "seen_package/first.py": NEVER_RUN,
        "seen_package/second.py": NEVER_RUN,
        "seen_package/inner/deep.py": f"{NEVER_RUN}from .. import second\nfrom .none_such import x\n",
        "seen_bare/part.py": NEVER_RUN,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def module(name: str, folder: Path | None) -> ModuleFile:
    found = find_module(name, folder)
    assert found is not None
    return found


def test_modules_lie_where_python_would_find_them(folder: Path) -> None:
    paths = {
        "seen_top": "seen_top.py",
        "seen_package": "seen_package/__init__.py",
        "seen_package.inner.deep": "seen_package/inner/deep.py",
        "seen_bare": "seen_bare",
        "seen_bare.part": "seen_bare/part.py",
    }
    for name, path in paths.items():
        assert (module(name, folder).name, module(name, folder).path) == (name, folder / path)
    for name in ("seen_none", "seen_package.none", "seen_top.part", "seen_none.part.more"):
        assert find_module(name, folder) is None
    assert find_module("seen_top", None) is None
    assert not any(name.startswith("seen_") for name in sys.modules)


def test_the_folder_goes_before_installed_packages_and_a_built_in_has_no_file(folder: Path) -> None:
    assert module("numpy.linalg", folder).path == Path(str(np.linalg.__file__))
    (folder / "numpy.py").write_text(NEVER_RUN)
    assert module("numpy", folder).path == folder / "numpy.py"
    assert find_module("numpy.linalg", folder) is None, "a plain module has no parts"
    assert find_module("sys", None) is None


def test_a_file_that_appears_later_is_found_even_within_a_tick(folder: Path) -> None:
    package = folder / "seen_package"
    before = package.stat()
    assert find_module("seen_package.late", folder) is None
    (package / "late.py").write_text("")
    # As where both happen within one tick of the file system's clock.
    os.utime(package, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert module("seen_package.late", folder).path.name == "late.py"


def test_modules_are_listed_by_name_in_a_package_or_at_the_top(folder: Path) -> None:
    assert submodules("seen_package", folder) == ["first", "second"]
    assert [name for name in submodules("", folder) if name.startswith("seen_")] == [
        "seen_alone",
        "seen_package",
        "seen_side",
        "seen_top",
    ]
    assert submodules("seen_top", folder) == submodules("seen_none", folder) == submodules("", None) == []


def defined(folder: Path, text: str, name: str = "m.py") -> set[str] | None:
    (folder / name).write_text(text)
    return names_defined(ModuleFile("m", folder / name))


def test_names_are_what_a_text_defines_imports_or_sets(tmp_path: Path) -> None:
    text = (
        "import a.b, c as d\nfrom e import f, g as h\nx, (y, *z) = 1, (2, 3)\nw: int = 4\n"
        "class K:\n    inner = 1\ndef fn(): ...\nasync def afn(): ...\nif x:\n    late = 1\nprint(unknown)\n"
    )
    wanted = {"a", "d", "f", "h", "x", "y", "z", "w", "K", "inner", "fn", "afn", "late"}
    assert defined(tmp_path, text) == wanted


@pytest.mark.parametrize(
    "text", ["from os import *\n", "def __getattr__(name): ...\n", "class A(\n", "x = 1\0\n"]
)
def test_a_text_that_does_not_tell_its_names_is_no_empty_one(text: str, tmp_path: Path) -> None:
    assert defined(tmp_path, text) is None
    assert defined(tmp_path, "") == set()
    assert defined(tmp_path, "", "m.so") is None


def test_everything_local_that_an_import_would_run_is_found_and_nothing_else(folder: Path) -> None:
    found = {one.name for one in local_modules(module("seen_top", folder), folder)}
    assert found == {
        "seen_top",
        "seen_side",
        "seen_package",
        "seen_package.first",
        "seen_package.inner",
        "seen_package.inner.deep",
        "seen_package.second",
    }
    deep = {one.name for one in local_modules(module("seen_package.inner.deep", folder), folder)}
    assert deep == {name for name in found if name.startswith("seen_package")}


def test_the_hash_of_a_file_alone_is_that_of_its_bytes(folder: Path) -> None:
    wanted = hashlib.sha256((folder / "seen_alone.py").read_bytes()).hexdigest()
    assert hash_sources(module("seen_alone", folder), folder) == wanted


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("seen_top.py", True),
        ("seen_side.py", True),
        ("seen_package/__init__.py", True),
        ("seen_package/second.py", True),
        ("seen_alone.py", False),
        ("seen_bare/part.py", False),
    ],
)
def test_the_hash_changes_with_every_file_that_is_imported_and_with_no_other(
    name: str, counts: bool, folder: Path
) -> None:
    before = hash_sources(module("seen_top", folder), folder)
    (folder / name).write_text((folder / name).read_text() + "# edited\n")
    assert (hash_sources(module("seen_top", folder), folder) != before) is counts


def test_two_modules_that_swap_their_texts_have_another_hash(folder: Path) -> None:
    (folder / "seen_side.py").write_text("a = 1\n")
    (folder / "seen_package" / "first.py").write_text("b = 2\n")
    before = hash_sources(module("seen_top", folder), folder)
    (folder / "seen_side.py").write_text("b = 2\n")
    (folder / "seen_package" / "first.py").write_text("a = 1\n")
    assert hash_sources(module("seen_top", folder), folder) != before


def test_modules_that_import_each_other_are_found_once(tmp_path: Path) -> None:
    (tmp_path / "ring_a.py").write_text("import ring_b\n")
    (tmp_path / "ring_b.py").write_text("import ring_a\n")
    found = [one.name for one in local_modules(module("ring_a", tmp_path), tmp_path)]
    assert sorted(found) == ["ring_a", "ring_b"]
    assert hash_sources(module("ring_a", tmp_path), tmp_path) == hash_sources(
        module("ring_b", tmp_path), tmp_path
    )


def test_a_plain_value_of_a_class_is_read_and_an_expression_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text(
        f"{NEVER_RUN}class Net:\n    options = {{'width': [1, 2.5]}}\n    size: int = 3\n    empty: int\n"
        "    made = dict(a=1)\n    def f(self): self.late = 1\nclass Other:\n    options = None\n"
    )
    assert class_literal(path, "Net", "options") == {"width": [1, 2.5]}
    assert class_literal(path, "Net", "size") == 3
    for name, attribute in (("Net", "empty"), ("Net", "late"), ("None", "options"), ("Other", "size")):
        assert class_literal(path, name, attribute) is None
    with pytest.raises(
        ConfigError, match=r"made of Net must be a plain value; got 'dict\(a=1\)' in nets.py; write"
    ):
        class_literal(path, "Net", "made")
    path.write_text("class Net(\n")
    assert class_literal(path, "Net", "options") is None


def test_versions_are_those_of_the_metadata_and_absent_packages_are_said_to_be() -> None:
    assert library_versions("numpy", "no-such-package-at-all") == {
        "numpy": version("numpy"),
        "no-such-package-at-all": "absent",
    }
    assert library_versions() == {}


def install(folder: Path, distribution: str, files: list[str]) -> None:
    """Lay out what pip would: empty files and the metadata that lists them."""
    info = folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("module", "distribution", "file"),
    [
        ("quickboost", "quickboost-cpu", "quickboost/__init__.py"),
        ("PICTURES", "pictures-simd", "PICTURES/__init__.py"),
        ("single", "of-one-file", "single.py"),
        ("without_init", "a-namespace", "without_init/part.py"),
    ],
)
def test_a_module_has_the_version_of_whatever_brings_it(
    module: str, distribution: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "another", ["other/__init__.py"])
    install(tmp_path, distribution, [file])
    monkeypatch.syspath_prepend(tmp_path)
    assert provided_version(module) == "1.5"
    assert library_versions(module) == {module: "1.5"}


def test_a_module_that_nothing_brings_is_there_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "handmade.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert provided_version("handmade") == "unknown"
    assert provided_version("absent_module") is None
