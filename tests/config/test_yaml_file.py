"""YAML in, plain data and lines out; what is dangerous or ambiguous is refused with its line."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stackfeat.config.yaml_file import MAX_BYTES, Document, parse_yaml, read_yaml
from stackfeat.errors import ConfigError

REFUSED = {
    "anchor": ("a: &x 1", 1, "anchors are not read; got &x"),
    "alias": ("a: 1\nb: *x", 2, r"aliases are not read; got \*x"),
    "alias as key": ("*x : 1", 1, "a key is one word"),
    "tag": ("a:\n  b: !!python/object/apply:os.system [echo]", 2, "tags are not read"),
    "own tag": ("a: !include secrets.yaml", 1, "tags are not read; got !include"),
    "merge key": ("a: 1\n<<: {b: 1}", 2, "merge keys are not read"),
    "duplicate key": (
        "a:\n  b: 1\n  c: 2\n  b: 3",
        4,
        r"a.b: each key stands once; got 'b' again \(first on line 2\)",
    ),
    "two documents": ("a: 1\n---\nb: 2", 2, "one YAML document"),
    "YAML 1.1": ("%YAML 1.1\n---\na: no", 2, "YAML 1.2"),
    "list as key": ("? [a]\n: 1", 1, "a key is one word"),
    "infinity": ("a: .inf", 1, "numbers must be finite"),
    "not a number": ("a: [1, .nan]", 1, "numbers must be finite"),
    "a number of 5000 digits": ("a: " + "9" * 5000, 1, "numbers must be finite"),
    "a whole number above 64 bits": ("a: [1, 0x" + "f" * 40 + "]", 1, "whole numbers must be at most"),
    "a long text": ("a:\n  b: " + "x" * 5_000, 2, "a text here has at most 4,096 characters; got 5,000"),
    "a long key": ("x" * 600 + ": 1", 1, "a text here has at most 500 characters"),
    "NUL in a text": ('a: 1\nb: "x\\0"', 2, "no NUL"),
    "half of a character": ('a: "\\ud800"', 1, "no half of a character"),
    "20,000 values": ("a: [" + "1, " * 20_000 + "]", 1, "at most 10,000 values"),
    "a long tag": ("a: !" + "x" * 5_000 + " 1", 1, "tags are not read; got !x{79}\\. Remove"),
    "51 levels": ("[" * 51 + "]" * 51, 1, "at most 50 levels deep"),
    "20,000 levels": ("[" * 20_000, 1, "at most 50 levels deep"),
    "open bracket": ("a: [1\nb", 2, "not valid YAML"),
    "tab": ("a:\n\tb: 1", 2, "spaces, not tabs"),
    "colon in text": ("a: b: c", 1, "Quote text that holds"),
    "control character": ("a: \x07", None, "not valid YAML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_dangerous_or_ambiguous_is_refused_with_its_line(name: str) -> None:
    text, line, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message) as error:
        parse_yaml(text, "c.yaml")
    assert error.value.problems[0].line == line
    assert str(error.value).startswith(f"c.yaml:{line}: " if line else "c.yaml: ")


def test_all_refused_things_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_yaml("a: &x 1\nb: *x\nb: 2\nc: !t 1", "c.yaml")
    assert [problem.line for problem in error.value.problems] == [1, 2, 3, 4]


def test_scalars_are_read_as_yaml_1_2() -> None:
    text = "a: 1e-3\nb: no\nc: 010\nd: 2020-01-01\ne: true\nf: ~\ng: '1'\nh: 8h30m\ni: 1:30\nj:"
    values = {"a": 0.001, "b": "no", "c": 10, "d": "2020-01-01", "e": True, "f": None}
    assert parse_yaml(text).values == {**values, "g": "1", "h": "8h30m", "i": "1:30", "j": None}


def test_keys_are_text_as_written_except_whole_numbers_in_params() -> None:
    values = parse_yaml("types: {007: date, 2020: date}\nparams: {0: 1, 007: 2, true: 3}").values
    assert values == {"types": {"007": "date", "2020": "date"}, "params": {0: 1, "007": 2, "true": 3}}


def test_every_key_and_item_has_its_line() -> None:
    document = parse_yaml("a: 1\nb:\n  c: [1,\n    {d: 2}]\n")
    assert document == Document(
        {"a": 1, "b": {"c": [1, {"d": 2}]}}, {"a": 1, "b": 2, "b.c": 3, "b.c.0": 3, "b.c.1": 4, "b.c.1.d": 4}
    )


def test_fifty_levels_are_read() -> None:
    assert parse_yaml("[" * 50 + "]" * 50).values is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\n#" + b"x" * MAX_BYTES, "at most 1,000,000 bytes"),
        (b"a: 1\nb: caf\xe9\n", "UTF-8 text; got byte 0xe9 at position 11"),
    ],
)
def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="no regular file"):
        read_yaml(tmp_path / "config.yaml")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"no such config file\. Did you mean 'config.yaml'"):
        read_yaml(tmp_path / "confg.yaml")
    with pytest.raises(ConfigError, match="got a folder"):
        read_yaml(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "c.yaml").values == {"a": 1}


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
_SCALARS = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | _TEXT
_SCALARS |= st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80)
@given(_VALUES)
def test_the_reader_agrees_with_ruamel_on_what_ruamel_writes(values: object) -> None:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(values, stream)
    assert parse_yaml(stream.getvalue()).values == yaml.load(stream.getvalue()) == values


@settings(max_examples=150)
@given(st.text("ab:-[]{}&*!#'\"\n ,?|>%1~<\t", max_size=30))
def test_any_text_gives_data_or_a_config_error(text: str) -> None:
    try:
        parse_yaml(text, "c.yaml")
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.parquet", "t.npz"])
def test_data_given_as_a_config_is_told_from_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a,label\n1,2\n")
    with pytest.raises(ConfigError, match=rf"must be a YAML file; .*stackfeat init .*{name} --target COLUMN"):
        read_yaml(tmp_path / name)
