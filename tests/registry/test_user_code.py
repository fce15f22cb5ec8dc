"""Agreed files: the bytes that were compared are the bytes that run, and nothing beside them does."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfeat.errors import TrustError
from stackfeat.registry.trust import Need, source_files
from stackfeat.registry.user_code import Code, SourceFile, import_always, importing


@pytest.fixture(autouse=True)
def forget_modules(tmp_path: Path) -> Iterator[None]:
    """Forget what a test wrote and imported; libraries stay, some of which cannot be imported twice."""
    finders = list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name, module in list(sys.modules.items()):
        # Some modules make what they are asked for, or fail to: only what is there is read.
        facts = getattr(module, "__dict__", {})
        places = [facts.get("__file__"), *(facts.get("__path__") or ())]
        if any(str(place).startswith(str(tmp_path)) for place in places):
            del sys.modules[name]


def agreed_to(folder: Path, *names: str) -> Code:
    needs = [Need("x", "net", name) for name in names]
    return Code(folder, names, tuple(source_files(needs, folder)))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_modules_and_what_they_import_are_served(tmp_path: Path) -> None:
    write(
        tmp_path,
        own_a="import own_b\nfrom own_p.deep.c import C\n",
        own_b="B = 2\n",
        own_p__deep__c="C = 3\n",
    )
    code = agreed_to(tmp_path, "own_a:X")
    assert [file.module for file in code.files or ()] == [
        "own_a",
        "own_b",
        "own_p",
        "own_p.deep",
        "own_p.deep.c",
    ]
    with importing(code):
        own_a = importlib.import_module("own_a")
        assert (own_a.own_b.B, own_a.C) == (2, 3)
        assert str(tmp_path) not in sys.path
    assert not list(tmp_path.rglob("__pycache__"))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_q")


def test_the_packages_around_a_module_are_among_the_files(tmp_path: Path) -> None:
    write(tmp_path, own_p__mod="", own_p__sub__deep="")
    (tmp_path / "own_p/__init__.py").write_text("import own_hidden\n")
    (tmp_path / "own_p/sub/__init__.py").write_text("")
    (tmp_path / "own_hidden.py").write_text("")
    files = source_files([Need("x", "net", "own_p.sub.deep:X")], tmp_path)
    assert [file.module for file in files] == ["own_hidden", "own_p", "own_p.sub", "own_p.sub.deep"]


@pytest.mark.parametrize("module", ["own_a", "own_b"])
def test_an_edit_between_the_check_and_the_import_is_an_error(module: str, tmp_path: Path) -> None:
    write(tmp_path, own_a="import own_b\n", own_b="B = 2\n")
    code = agreed_to(tmp_path, "own_a:X")
    write(tmp_path, **{module: "raise SystemExit('ran')\n"})
    with importing(code), pytest.raises(TrustError, match=f"{module}.py, which has changed"):
        importlib.import_module("own_a")


def test_byte_code_beside_a_file_is_not_run(tmp_path: Path) -> None:
    """Python runs it where size and time of the source agree with what it says; it may hold anything."""
    write(tmp_path, own_a="WHO = 'good'\n")
    times = (tmp_path / "own_a.py").stat()
    code = agreed_to(tmp_path, "own_a:X")
    write(tmp_path, own_a="WHO = 'evil'\n")
    os.utime(tmp_path / "own_a.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    py_compile.compile(str(tmp_path / "own_a.py"))
    write(tmp_path, own_a="WHO = 'good'\n")
    os.utime(tmp_path / "own_a.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    sys.path.insert(0, str(tmp_path))
    try:
        assert importlib.import_module("own_a").WHO == "evil"  # what the import system does without us
        with importing(code):
            assert importlib.import_module("own_a").WHO == "good"
    finally:
        sys.path.remove(str(tmp_path))


def test_byte_code_alone_is_not_remembered(tmp_path: Path) -> None:
    write(tmp_path, own_a="")
    py_compile.compile(str(tmp_path / "own_a.py"), cfile=str(tmp_path / "own_a.pyc"))
    (tmp_path / "own_a.py").unlink()
    with pytest.raises(Exception, match="source files"):
        source_files([Need("x", "net", "own_a:X")], tmp_path)


def test_files_put_beside_agreed_ones_later_are_not_imported(tmp_path: Path) -> None:
    write(tmp_path, own_a="import colorsys\n", own_p__mod="")
    (tmp_path / "own_p/__init__.py").write_text("")
    code = agreed_to(tmp_path, "own_a:X", "own_p.mod:X")
    write(tmp_path, colorsys="raise SystemExit('ran')\n", own_c="raise SystemExit('ran')\n")
    write(tmp_path, own_p__planted="raise SystemExit('ran')\n")
    sys.modules.pop("colorsys", None)
    with importing(code):
        assert "lib" in str(importlib.import_module("own_a").colorsys.__file__)
        for name in ("own_c", "own_p.planted"):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)
        assert importlib.import_module("own_p.mod")


def test_a_file_called_like_a_module_of_python_is_not_imported_instead_of_it(tmp_path: Path) -> None:
    write(tmp_path, own_a="import json, own_b\n", own_b="", json="raise SystemExit('ran')\n")
    code = agreed_to(tmp_path, "own_a:X")
    assert [file.module for file in code.files or ()] == ["own_a", "own_b"]
    with importing(code):
        assert importlib.import_module("own_a").json is json


def test_a_module_imported_before_from_elsewhere_does_not_stand_in(tmp_path: Path) -> None:
    write(tmp_path / "other", own_a="WHO = 'other'\n")
    write(tmp_path / "mine", own_a="WHO = 'mine'\n")
    sys.path.insert(0, str(tmp_path / "other"))
    try:
        assert importlib.import_module("own_a").WHO == "other"
    finally:
        sys.path.remove(str(tmp_path / "other"))
    with importing(agreed_to(tmp_path / "mine", "own_a:X")):
        assert importlib.import_module("own_a").WHO == "mine"


def test_an_installed_package_is_shown_and_imported_as_ever(tmp_path: Path) -> None:
    import sklearn.linear_model

    (file,) = source_files([Need("x", "net", "sklearn.linear_model:Ridge")], tmp_path)
    assert file.installed and file.sha256
    assert file.sha256 == hashlib.sha256(Path(str(sklearn.linear_model.__file__)).read_bytes()).hexdigest()


def test_a_worker_serves_agreed_files_for_its_whole_life(tmp_path: Path) -> None:
    write(tmp_path, own_a="A = 1\n")
    before = list(sys.path)
    import_always(Code(tmp_path, (), (SourceFile("own_a", str(tmp_path / "own_a.py"), "0" * 64),)))
    with pytest.raises(TrustError):
        importlib.import_module("own_a")
    assert sys.path == before
