"""Read a YAML text as plain data, with the line of every key.

In:  a file, or a text such as the value of `--set`.
Out: a Document: dicts, lists and scalars, and a line number for every path in them.
YAML 1.2 only. What makes YAML dangerous or ambiguous is refused, with its line: aliases, anchors,
tags, merge keys, duplicate keys, more than one document, large or deep texts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)
from ruamel.yaml.nodes import ScalarNode

from stackfeat.data.files.tables import is_called_like_data
from stackfeat.errors import ConfigError, Problem
from stackfeat.registry.resolve import suggest
from stackfeat.store.disk import refuse_no_file

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 10_000
MAX_TEXT = 4_096
MAX_KEY = 500
SHOWN = 80
MAX_PROBLEMS = 100
LARGEST_INT = 2**63
_TAGS = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Document:
    """A parsed text.

    Attributes
    ----------
    values : object
        Nested dicts, lists and scalars; dates stay text.
    lines : dict of str to int
        Path such as ``levels.base.mlp.emit.0`` to line, counted from 1.
    sha256 : str
        Of the file's bytes; empty for a text.
    """

    values: Any
    lines: dict[str, int] = field(default_factory=dict)
    sha256: str = ""


def join_path(parent: str, key: object) -> str:
    """Return the path of `key` (a name or a list index) below `parent`."""
    return f"{parent}.{key}" if parent else str(key)


def path_of(keys: Iterable[object]) -> str:
    """Return the path that keys and list indexes make."""
    return reduce(join_path, keys, "")


def read_yaml(path: Path) -> Document:
    """Read a config file.

    Parameters
    ----------
    path : Path
        At most 1 MB of UTF-8 text.

    Raises
    ------
    ConfigError
        If the file cannot be read, or as `parse_yaml`.
    """
    try:
        refuse_no_file(path.stat(), path)
        _refuse_data(path)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem("", _unreadable(path, error), str(path))]) from error
    if len(data) > MAX_BYTES:
        message = (
            f"a config must be at most {MAX_BYTES:,} bytes; this one is larger. Keep data in other files"
        )
        raise ConfigError([Problem("", message, str(path))])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        got = f"byte 0x{data[error.start]:02x} at position {error.start}"
        message = f"a config must be UTF-8 text; got {got}. Save it as UTF-8"
        raise ConfigError([Problem("", message, str(path), line)]) from error
    return replace(parse_yaml(text, str(path)), sha256=hashlib.sha256(data).hexdigest())


def parse_yaml(text: str, file: str = "", path: str = "") -> Document:
    """Parse a YAML 1.2 text that was given as `file` and stands at `path` of a config.

    Raises
    ------
    ConfigError
        If the text is not YAML, or holds what is refused; every duplicate key, alias and tag at once.
    """
    return _Reader(file, path).read(text)


def _refuse_data(path: Path) -> None:
    if is_called_like_data(path):
        message = f"a config must be a YAML file; got {path.name!r}, which is called like data"
        message += f". Write a config for it: stackfeat init {path} --target COLUMN"
        raise ConfigError([Problem("", message, str(path))])


def _unreadable(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "a config must be a file; got a folder. Name the YAML file in it"
    if isinstance(error, FileNotFoundError):
        names = [found.name for found in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        return f"there is no such config file.{suggest(path.name, names)}"
    return f"the config cannot be read: {error.strerror or error}"


class _Reader:
    """Builds plain data from the parser's events, so that nothing is composed or constructed unseen."""

    def __init__(self, file: str, path: str) -> None:
        self.file = file
        self.path = path
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.n_values = 0
        self.yaml = YAML(typ="safe", pure=True)
        self.events: Iterator[Any] = iter(())

    def read(self, text: str) -> Document:
        try:
            self.events = iter(self.yaml.parse(text))
            values = self._document()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._refuse_yaml(_syntax_text(error), mark.line + 1 if mark else None)
        except YAMLError as error:
            self._refuse_yaml(" ".join(str(error).split()))
        except ConfigError:
            raise
        except Exception as error:  # the parser meets texts that its authors did not think of
            self._refuse_yaml(f"{type(error).__name__} while it was parsed")
        if self.problems:
            raise ConfigError(self.problems)
        return Document(values, self.lines)

    def _refuse(self, path: str, message: str, line: int | None) -> None:
        self.problems.append(Problem(path[-MAX_TEXT:], message, self.file, line))
        if len(self.problems) == MAX_PROBLEMS:
            raise ConfigError(self.problems)

    def _refuse_yaml(self, why: str, line: int | None = None) -> None:
        self._refuse("", f"this is not valid YAML: {why}", line)

    def _document(self) -> Any:
        values: Any = None
        n_documents = 0
        for event in self.events:
            if isinstance(event, StreamStartEvent | DocumentEndEvent):
                continue
            if isinstance(event, DocumentStartEvent):
                n_documents += 1
                if n_documents > 1:
                    self._refuse("", "a config is one YAML document. Remove the '---' line", _line(event))
                    break
                if event.version not in (None, (1, 2)):
                    self._refuse("", "a config is YAML 1.2. Remove the %YAML line", _line(event))
                continue
            if isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent | AliasEvent):
                values = self._value(event, self.path, 1)
        return values

    def _value(self, event: Any, path: str, depth: int) -> Any:
        self._refuse_references(event, path)
        self.n_values += 1
        excess = ""
        if self.n_values > MAX_VALUES:
            excess = f"a config holds at most {MAX_VALUES:,} values. Name columns by patterns"
        elif depth > MAX_DEPTH:
            excess = f"a config nests at most {MAX_DEPTH} levels deep; this one goes deeper"
        if excess:
            self._refuse("", excess, _line(event))
            raise ConfigError(self.problems)
        if isinstance(event, MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path, depth)
        return self._scalar(event, path) if isinstance(event, ScalarEvent) else None

    def _refuse_references(self, event: Any, path: str) -> None:
        if isinstance(event, AliasEvent):
            message = f"aliases are not read; got *{event.anchor[:SHOWN]}. Write the value out"
            self._refuse(path, f"{message}, or quote it if it is a pattern", _line(event))
        elif event.anchor is not None:
            self._refuse(path, f"anchors are not read; got &{event.anchor[:SHOWN]}. Remove it", _line(event))
        if not isinstance(event, AliasEvent) and event.ctag is not None:
            self._refuse(path, f"tags are not read; got {str(event.ctag)[:SHOWN]}. Remove it", _line(event))

    def _mapping(self, path: str, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        first_lines: dict[str, int] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._key(event, path, depth)
            place, line = join_path(path, key), _line(event)
            value_event = next(self.events)
            if str(key) in first_lines:
                again = f"{str(key)!r} again (first on line {first_lines[str(key)]})"
                self._refuse(place, f"each key stands once; got {again}. Remove one", line)
            else:
                first_lines[str(key)] = self.lines[place] = line
            value = self._value(value_event, place, depth + 1)
            found.setdefault(key, value)
        return found

    def _key(self, event: Any, path: str, depth: int) -> Any:
        if not isinstance(event, ScalarEvent):
            self._refuse(path, "a key is one word; got a list, a mapping or an alias", _line(event))
            if not isinstance(event, AliasEvent):
                self._value(event, path, depth + 1)
            return ""
        self._refuse_text(event, path, MAX_KEY)
        if event.value == "<<" and event.implicit[0]:
            self._refuse(path, "merge keys are not read; got <<. Write the values out", _line(event))
            return "<<"
        # Whole numbers stay numbers in arguments (class_weight: {0: 1, 1: 5}); elsewhere they are names.
        key = self._scalar(event, path) if "params" in path.split(".") else event.value
        return key if type(key) is int and str(key) == event.value else event.value

    def _sequence(self, path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            place = join_path(path, len(found))
            self.lines[place] = _line(event)
            found.append(self._value(event, place, depth + 1))
        return found

    def _refuse_text(self, event: ScalarEvent, path: str, longest: int = MAX_TEXT) -> None:
        text: str = event.value
        if len(text) > longest:
            message = f"a text here has at most {longest:,} characters; got {len(text):,}: {text[:40]!r}..."
            self._refuse(path, message, _line(event))
        elif not _is_writable(text):
            message = f"a text has no NUL and no half of a character; got {text[:40]!r}"
            self._refuse(path, message, _line(event))

    def _scalar(self, event: ScalarEvent, path: str) -> Any:
        text: str = event.value
        self._refuse_text(event, path)
        tag = str(self.yaml.resolver.resolve(ScalarNode, text, event.implicit)).removeprefix(_TAGS)
        if tag not in ("int", "float", "bool", "null"):
            return text
        try:
            value = self.yaml.constructor.construct_object(ScalarNode(_TAGS + tag, text))
        except (ValueError, OverflowError):
            value = math.nan
        if isinstance(value, int) and abs(value) > LARGEST_INT:
            self._refuse(path, f"whole numbers must be at most {LARGEST_INT}; got {text[:40]}", _line(event))
            return 0
        if isinstance(value, float) and not math.isfinite(value):
            message = f"numbers must be finite; got {text[:40]}. Use null for a value not given"
            self._refuse(path, message, _line(event))
        return value


def _is_writable(text: str) -> bool:
    """Whether a text may stand in a path and in a UTF-8 file."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax_text(error: MarkedYAMLError) -> str:
    text = " ".join(str(part) for part in (error.context, error.problem) if part)
    if "'\\t'" in text:
        text += ". Indent with spaces, not tabs"
    if "mapping values are not allowed" in text:
        text += ". Quote text that holds ': '"
    return text
