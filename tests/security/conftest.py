"""The canary: what hostile files try to make, and the proof that they did not.

A payload touches a file, sets a variable of the environment, or opens a connection. `Canary.unharmed`
fails where any of the three came about.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

VARIABLE = "STACKFEAT_TEST_CANARY"


@dataclass(frozen=True)
class Canary:
    """Marks that only code of a hostile file can leave.

    Attributes
    ----------
    path : Path
        A file that is not there.
    variable : str
        A variable of the environment that is not set.
    port : int
        A port of this machine that somebody listens on.
    """

    path: Path
    variable: str
    port: int
    listener: socket.socket

    @property
    def shell(self) -> str:
        """A shell command that leaves the file."""
        return f"touch {self.path}"

    @property
    def python(self) -> str:
        """Python statements that leave the file and the variable."""
        return f"import os, pathlib; pathlib.Path({str(self.path)!r}).touch(); os.environ[{self.variable!r}] = 'x'"

    def is_unharmed(self) -> bool:
        return not self.path.exists() and self.variable not in os.environ and not self._was_called()

    def _was_called(self) -> bool:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return False
        connection.close()
        return True


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """Return a canary; whatever a test does with hostile files, it must live at the end."""
    os.environ.pop(VARIABLE, None)
    nest = tmp_path / "canary"
    nest.mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        bird = Canary(nest / "dead", VARIABLE, listener.getsockname()[1], listener)
        yield bird
        is_unharmed = bird.is_unharmed()
    os.environ.pop(VARIABLE, None)
    assert is_unharmed, "code of a hostile file ran"
