"""Errors: whose fault each is, and that no text in them moves a cursor or begins a line."""

from __future__ import annotations

import errno
import os
import pickle
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import (
    ConfigError,
    DamagedEntryError,
    DataError,
    InfrastructureError,
    LayerNotFoundError,
    MemberError,
    MissingExtraError,
    OutOfMemoryError,
    Problem,
    StackfeatError,
    StoreError,
    StructureError,
    as_written,
    continued,
    described,
    first_line,
    in_one_line,
    in_quotes,
    machine_error,
    machine_fault,
    one_line,
    visible,
)

VISIBLE_MARKS = {0x110BD, 0x110CD, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, *range(0x600, 0x606)}
"""Signs that Unicode counts among the invisible, though they are written."""


LAYOUT = {*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4)}
"""Controls of hieroglyphs and shorthand, which no terminal obeys."""


def test_everything_that_is_not_seen_is_written_out() -> None:
    kept = {
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and visible(chr(code)) == chr(code)
    }
    assert kept <= {0x09, 0x0A, 0x200C, 0x200D} | VISIBLE_MARKS | LAYOUT


@pytest.mark.parametrize(
    "text", ["straße", "特徴量", "مرحبا", "עברית", "नमस्ते", "👩‍💻 ❤️", "a\tb\nc", "x²±½", "ﬁ", " "]
)
def test_honest_writing_stays(text: str) -> None:
    assert visible(text) == text


def test_escaping_twice_changes_nothing() -> None:
    text = "".join(map(chr, range(0x3000))) + "\ud800\U000e0041"
    for escape in (visible, one_line, continued):
        assert visible(escape(text)) == escape(text)
        escape(text).encode()
    assert "\n" not in one_line(text) and "\r" not in visible(text)


def test_quoted_texts_are_read_back() -> None:
    from stackfeat.config.yaml_file import parse_yaml

    for text in ('a"b\\c', "a\x1b[31m\x9b\u202e\u2028\x85\x7f", "tab\tline\n", "\U000e0041 é 特"):
        quoted = in_quotes(text)
        assert quoted == visible(quoted) and "\n" not in quoted
        assert parse_yaml(f"x: {quoted}").values == {"x": text}


@pytest.mark.parametrize("kind", [ConfigError, DataError, StoreError, LayerNotFoundError, MissingExtraError])
def test_errors_say_names_in_a_visible_way(kind: type[Exception]) -> None:
    error = kind("got 'a\x1b[2J\rb'\nerror: all is well\u202e")
    assert str(error) == "got 'a\\x1b[2J\\rb'\n    error: all is well\\u202e"
    assert str(pickle.loads(pickle.dumps(error))).startswith("got 'a\\x1b[2J\\rb'\n    ")


def test_problems_keep_a_line_each() -> None:
    error = ConfigError([Problem("a\nb", "x\r"), Problem("c", "y", "f\x1b.yaml", 3)])
    assert str(error) == "a\n    b: x\\r\nf\\x1b.yaml:3: c: y"


def system_error(number: int, path: object = None) -> OSError:
    """Return an error as the system raises it."""
    error = OSError(number, os.strerror(number))
    return error if path is None else OSError(number, os.strerror(number), os.fspath(path))


def raised(error: BaseException, cause: BaseException | None) -> BaseException:
    """Return an error that was raised from another."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"the disk space that a run needs; got /data/x: .*; free some"),
        (errno.EDQUOT, r"the disk space that a run needs"),
        (errno.EMFILE, r"the open files that a run needs; .*ulimit -n"),
        (errno.ENOMEM, r"the memory that a run needs; .*fewer executor\.jobs"),
        (errno.EIO, r"the working disk that a run needs; .*check the disk"),
    ],
)
def test_what_the_system_could_not_give_is_the_machines_fault_whatever_file_it_is_about(
    number: int, words: str
) -> None:
    fault = machine_fault(system_error(number, "/data/x"))
    assert isinstance(fault, StoreError) and fault.errno == number
    with pytest.raises(StoreError, match=words):
        raise fault


def test_a_file_that_may_not_be_read_is_a_members_own_unless_it_lies_in_our_folders(tmp_path: Path) -> None:
    for number in (errno.EACCES, errno.EROFS, errno.ENOENT):
        error = system_error(number, tmp_path / "store" / "entries" / "x")
        assert machine_fault(error) is None
        assert machine_fault(error, [tmp_path / "stor"]) is None, "a folder that begins alike"
        fault = machine_fault(error, [tmp_path / "store"])
        assert isinstance(fault, StoreError) and str(tmp_path) in str(fault)


def test_the_fault_is_found_behind_what_a_library_made_of_it() -> None:
    disk = system_error(errno.ENOSPC)
    assert isinstance(machine_fault(raised(RuntimeError("cannot write"), disk)), StoreError)
    twice = raised(ValueError("no model"), raised(RuntimeError("cannot write"), MemoryError()))
    assert isinstance(machine_fault(twice), OutOfMemoryError)
    assert machine_fault(raised(ValueError("no model"), None)) is None, "what was left behind by `from None`"


def test_causes_in_a_circle_are_looked_at_once() -> None:
    first, second = RuntimeError("one"), RuntimeError("two")
    first.__cause__, second.__cause__ = second, first
    assert machine_fault(first) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemoryError),
        (RuntimeError("std::bad_alloc"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("Error: No space left on device"), StoreError),
        (ValueError("a column is called 'no space left on device'"), None),
        (KeyError("out of memory"), None),
        (MemberError("out of memory"), None),
        (RuntimeError("shapes do not fit"), None),
    ],
)
def test_an_error_of_a_library_is_believed_and_a_slip_of_a_member_is_its_own(
    error: Exception, expected: type | None
) -> None:
    fault = machine_fault(error)
    assert fault is None if expected is None else type(fault) is expected


def test_an_error_of_the_machine_is_passed_on_as_it_is() -> None:
    damaged = DamagedEntryError("must be as it was written; got less; run again")
    assert machine_fault(raised(RuntimeError("x"), damaged)) is damaged


@pytest.mark.parametrize(
    "copy", [lambda e: pickle.loads(pickle.dumps(e)), lambda e: e.reworded("other words")]
)
def test_the_number_of_the_system_goes_with_an_error_to_other_processes_and_words(copy: Any) -> None:
    error = machine_error(errno.ENOSPC, "/x", "full")
    error.note = "kept"  # type: ignore[attr-defined]
    again = copy(error)
    assert (type(again), again.errno, again.note) == (StoreError, errno.ENOSPC, "kept")
    assert again.errno in (errno.ENOSPC,) and isinstance(again, OSError)


def test_what_a_members_code_raised_names_its_kind_in_one_line() -> None:
    said = in_one_line(KeyError("a\nb"))
    assert isinstance(said, MemberError) and "\n" not in str(said)
    assert str(said) == r"it raised KeyError: 'a\nb' (the traceback is in run.log)"
    assert str(in_one_line(AssertionError())) == "it raised AssertionError (the traceback is in run.log)"
    missing = in_one_line(FileNotFoundError(errno.ENOENT, "No such file or directory", "mine.csv"))
    assert "FileNotFoundError: mine.csv: No such file or directory" in str(missing)
    noted = ValueError("x")
    noted.add_note("in fold 3")
    assert in_one_line(noted).__notes__ == ["in fold 3"]
    ours = DataError("as it is")
    assert in_one_line(ours) is ours


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (KeyError("x"), StructureError, "it must be as a run wrote it; got KeyError: 'x'; compute it again"),
        (StructureError("x must be y; got z"), StructureError, "x must be y; got z; compute it again"),
        (StructureError("wrong; compute it again"), StructureError, "wrong; compute it again"),
        (DataError("somebody's file"), DataError, "somebody's file"),
        (MemoryError(), OutOfMemoryError, "the machine must have the memory that the jobs of a run need; "),
    ],
)
def test_every_error_over_something_stored_is_one_line_with_one_remedy(
    error: Exception, expected: type[Exception], text: str
) -> None:
    with pytest.raises(StackfeatError) as caught, as_written("it", "compute it again"):
        raise error
    assert type(caught.value) is expected and str(caught.value).startswith(text)
    assert str(caught.value).count("compute it again") <= 1


def test_an_error_is_described_by_its_kind_and_its_first_line() -> None:
    assert described(ValueError(" one\ntwo")) == "ValueError: one"
    assert described(ValueError()) == "ValueError"
    assert first_line(ValueError("x" * 1000)) == "x" * 300
    assert first_line(system_error(errno.ENOENT, "f")) == os.strerror(errno.ENOENT)


def test_each_class_is_an_error_of_the_standard_library_too_and_has_an_exit_code() -> None:
    classes = [StackfeatError]
    for one in classes:
        classes += one.__subclasses__()
    standard = (ValueError, OSError, LookupError, ImportError, RuntimeError, MemoryError)
    without = {one for one in classes if not issubclass(one, standard)}
    assert {one.__name__ for one in without} == {"StackfeatError", "InfrastructureError", "JobEnded"}
    assert {one.exit_code for one in classes if one.__module__ == "stackfeat.errors"} == {1, 2, 3, 5}
    assert issubclass(StoreError, InfrastructureError)
