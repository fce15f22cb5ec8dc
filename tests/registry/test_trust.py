"""The state folder: records that only their owner can have written are believed, others ignored with a warning."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.errors import UsageError
from stackfeat.registry.trust import (
    read_record,
    records,
    remove_record,
    state_folder,
    write_record,
)

ABOUT = Path("/somewhere/c.yaml")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STACKFEAT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def only_file(state: Path) -> Path:
    (file,) = (state / "configs").iterdir()
    return file


def test_a_record_is_read_back_and_is_private(state: Path) -> None:
    write_record("configs", ABOUT, {"x": 1})
    assert read_record("configs", ABOUT) == {"about": str(ABOUT), "x": 1}
    assert stat.S_IMODE(only_file(state).stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "configs").stat().st_mode) == 0o700
    assert [item["x"] for item in records("configs")] == [1]
    assert read_record("configs", Path("/somewhere/else.yaml")) is None
    assert remove_record("configs", ABOUT) and not remove_record("configs", ABOUT)
    assert read_record("configs", ABOUT) is None


def replace_by_link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere.json")
    file.symlink_to(file.parent.parent / "elsewhere.json")


def rename_to_another(file: Path) -> None:
    values = json.loads(file.read_text()) | {"about": "/another/c.yaml"}
    file.write_text(json.dumps(values))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "writable by the group": lambda file: file.chmod(0o660),
    "writable by all": lambda file: file.chmod(0o602),
    "folder writable by all": lambda file: file.parent.chmod(0o777),
    "state folder writable by the group": lambda file: file.parent.parent.chmod(0o770),
    "a link": replace_by_link,
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:9]),
    "a list": lambda file: file.write_text("[1]"),
    "deeply nested": lambda file: file.write_text("[" * 100_000),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "too large": lambda file: file.write_bytes(b" " * 5_000_000),
    "of another path": rename_to_another,
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_that_others_could_have_written_is_not_believed(
    damage: str, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_record("configs", ABOUT, {"x": 1})
    DAMAGES[damage](only_file(state))
    with caplog.at_level(logging.WARNING, "stackfeat"):
        assert read_record("configs", ABOUT) is None
    if damage != "of another path":
        assert "ignored" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_record_of_another_owner_is_not_believed(state: Path) -> None:
    write_record("configs", ABOUT, {"x": 1})
    os.chown(only_file(state), 12345, -1)
    assert read_record("configs", ABOUT) is None


def test_a_folder_that_others_may_write_is_not_written_to(state: Path) -> None:
    state.mkdir()
    state.chmod(0o777)
    with pytest.raises(UsageError, match="others could have written"):
        write_record("configs", ABOUT, {})


def test_the_folder_is_the_platforms_and_never_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKFEAT_STATE", "here")
    with pytest.raises(UsageError, match="absolute"):
        state_folder()
    monkeypatch.delenv("STACKFEAT_STATE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    assert state_folder() == Path("/x/state/stackfeat")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert state_folder() == Path.home() / ".local/state/stackfeat"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert state_folder() == Path.home() / "Library/Application Support/stackfeat"
