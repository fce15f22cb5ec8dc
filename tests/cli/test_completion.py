"""Completion as shells do it: installed from within each of them, then asked for by the key."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="a shell completes on a terminal, which this system has none of")

SECONDS = 120.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the command on the path, and a file that may be completed."""
    place = tmp_path / "bin"
    place.mkdir()
    command = place / "stackfeat"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stackfeat "$@"\n')
    command.chmod(0o755)
    (tmp_path / "pets.yaml").write_text("name: pets\n")
    values = {
        "HOME": tmp_path,
        "ZDOTDIR": tmp_path,
        "XDG_CONFIG_HOME": tmp_path / ".config",
        "PATH": f"{place}:{os.environ['PATH']}",
        "PYTHONPATH": Path(__file__).parents[2],
        "TERM": "dumb",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def install(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    # Whoever asks for it is found among the processes around it, so the shell must not give way to the command.
    done = subprocess.run(
        [shell, "-c", "stackfeat --install-completion; true"], capture_output=True, text=True
    )
    assert f"{shell} completion installed in" in done.stdout, done.stderr


class Terminal:
    """An interactive shell: what it writes, and the keys that it is given."""

    def __init__(self, *command: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)
        self.said = b""

    def press(self, keys: str, awaited: str) -> None:
        """Press keys, and wait until something is written."""
        self.said = b""
        os.write(self.end, keys.encode())
        limit = time.monotonic() + SECONDS
        while awaited.encode() not in self.said:
            assert time.monotonic() < limit, f"{awaited!r} did not come; got {self.said!r}"
            if select.select([self.end], [], [], 0.2)[0]:
                self.said += os.read(self.end, 4096)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.end)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_key_completes_commands_options_and_files(shell: str, terminals: list[Terminal]) -> None:
    install(shell)
    for typed, rest in (
        ("stackfeat wat", "ch "),
        ("stackfeat clean --ke", "ep-run "),
        ("stackfeat run pe", "ts.yaml "),
    ):
        terminal = Terminal(shell, "-i")
        terminals.append(terminal)
        # The quotes are gone from what is written, so this is no echo.
        terminal.press("echo rea''dy\n", "ready")
        if shell == "zsh":
            # At the first Tab it reads what was installed, and completes from the second on.
            terminal.press(f"{typed}\t", "\x07")
            terminal.press("\t", rest)
        else:
            terminal.press(f"{typed}\t", rest)


@pytest.mark.usefixtures("home")
def test_fish_completes_commands_options_and_files() -> None:
    install("fish")

    def completed(line: str) -> list[str]:
        done = subprocess.run(
            ["fish", "-c", f'complete -C "{line}"'], capture_output=True, text=True, timeout=SECONDS
        )
        return [one.partition("\t")[0] for one in done.stdout.splitlines()]

    assert completed("stackfeat wat") == ["watch"]
    assert completed("stackfeat clean --ke") == ["--keep-run"]
    assert completed("stackfeat init train.csv --preset ") == ["best", "good", "quick"]
    assert completed("stackfeat run pe") == ["pets.yaml"]
