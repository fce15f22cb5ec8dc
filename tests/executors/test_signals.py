"""How processes are ended: with all that they began, without touching others, and with the exit code that was due."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stackfeat.executors import signals
from stackfeat.store.disk import FOLDERS

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
Shell = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A function that starts a shell, which tells when what it began is there; all of it is ended afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(["/bin/sh", "-c", command], **pipes, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def told(process: subprocess.Popen[bytes]) -> list[int]:
    """The process ids that a shell prints in one line."""
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def wait_gone(pids: list[int]) -> None:
    limit = time.monotonic() + 30
    while any(map(signals._runs, pids)):
        assert time.monotonic() < limit, "they still run"
        time.sleep(0.001)


def test_descendants_are_children_and_theirs_and_nobody_elses(shell: Shell) -> None:
    process = shell("sh -c 'sleep 100 & echo $$ $!; wait' & wait")
    child, grandchild = told(process)
    other = shell("echo $$; read _ < /dev/null; exec sleep 100")
    assert signals.descendants(process.pid) == [child, grandchild]
    assert told(other) == [other.pid] and signals.descendants(other.pid) == []
    assert {process.pid, child, grandchild, other.pid} <= set(signals.descendants(os.getpid()))


def test_a_name_with_a_bracket_hides_no_process(shell: Shell, tmp_path: Path) -> None:
    odd = tmp_path / ") S 1 x"
    odd.symlink_to("/bin/sleep")
    process = shell(f"'{odd}' 100 & echo $!; wait")
    (child,) = told(process)
    limit = time.monotonic() + 30
    while ") S 1 x" not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < limit, "it is still a copy of the shell"
    assert signals.descendants(process.pid) == [child] and signals._runs(child)


def test_a_worker_is_ended_with_what_it_began_though_it_does_not_listen(shell: Shell) -> None:
    # It reads on when its child is gone, so it ends by the signal alone.
    # One child has a session of its own, as a daemon has; another's parent is gone, so only the group tells.
    command = "trap '' TERM INT HUP; setsid sleep 100 & own=$!; echo $own $(sh -c 'sleep 100 >&2 & echo $!'); read _"
    process = shell(command)
    begun = own_session, orphan = told(process)
    bystander = shell("echo $$; exec sleep 100")
    told(bystander)
    limit = time.monotonic() + 30
    while os.getsid(own_session) != own_session:
        assert time.monotonic() < limit, "it is still in the session of the shell"
    assert orphan not in signals.descendants(process.pid) and os.getpgid(orphan) == process.pid
    signals.end_worker(process.pid)
    assert process.wait(30) == -signal.SIGKILL
    wait_gone(begun)
    assert bystander.poll() is None
    signals.end_worker(process.pid)  # what is gone already is no error


def test_everything_ends_workers_descendants_and_temporary_folders(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = shell("sleep 100 & echo $!; wait")
    begun = told(process)
    helper, bystander = (shell("echo $$; exec sleep 100") for _ in range(2))
    assert told(helper) == [helper.pid] and told(bystander) == [bystander.pid]
    folder = tmp_path / "temporary"
    (folder / "deep").mkdir(parents=True)
    monkeypatch.setattr(signals, "WORKERS", {process.pid})
    monkeypatch.setattr(signals, "FOLDERS", {folder})
    # The process of the tests has descendants of its own, such as shared workers.
    found = {process.pid: begun, os.getpid(): [helper.pid]}
    monkeypatch.setattr(signals, "descendants", lambda pid: found.get(pid, []))
    signals.end_everything()
    assert not folder.exists()
    wait_gone([process.pid, helper.pid, *begun])
    assert bystander.poll() is None and FOLDERS is not signals.FOLDERS


def test_a_process_that_nobody_has_waited_for_yet_does_not_run(shell: Shell) -> None:
    process = shell("exec sleep 100")
    assert signals._runs(process.pid) and signals._runs(os.getpid())
    process.kill()
    wait_gone([process.pid])
    assert process.returncode is None and Path(f"/proc/{process.pid}").exists(), "not waited for"
    process.wait()
    assert not signals._runs(process.pid)


def test_a_tracker_of_semaphores_is_left_to_end_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(signals, "_is_tracker", lambda pid: pid == 11)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    signals._kill([10, 11, 12])
    assert killed == [10, 12]
    monkeypatch.undo()
    assert not signals._is_tracker(os.getpid()) and not signals._is_tracker(2**30)


class Ended(BaseException):
    """What stands for the end of this process."""


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> tuple[signals.EndOnSignals, list[bytes]]:
    """An `EndOnSignals` that is told of no signal, and what it writes; the end is an exception."""
    said: list[bytes] = []
    monkeypatch.setattr(signals, "end_everything", lambda: None)
    monkeypatch.setattr(signals.os, "write", lambda descriptor, text: said.append(text))
    monkeypatch.setattr(signals.os, "isatty", lambda descriptor: False)

    def leave(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(signals.os, "_exit", leave)
    made = object.__new__(signals.EndOnSignals)
    made.code, made.message, made._is_over, made._watched, made._numbers = (
        130,
        "interrupted",
        False,
        False,
        {2, 15},
    )
    return made, said


def test_a_signal_ends_with_its_message_and_code(
    ending: tuple[signals.EndOnSignals, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = ending
    with pytest.raises(Ended, match="130"):
        made._hold(2, None)
    assert said == [b"interrupted\n"]
    monkeypatch.setattr(signals.os, "isatty", lambda descriptor: True)
    with pytest.raises(Ended, match="130"):
        made._end(2)
    assert said[1] == b"\x1b[?25h\ninterrupted\n", "a bar may have hidden the cursor"


def test_a_command_that_is_to_answer_does_so_before_it_ends(
    ending: tuple[signals.EndOnSignals, list[bytes]],
) -> None:
    made, said = ending
    made.answer = (7, '{"error": {}}')
    with pytest.raises(Ended, match="130"):
        made._hold(2, None)
    assert said == [b"interrupted\n", b'{"error": {}}\n']


def test_after_the_work_is_done_a_signal_neither_speaks_nor_changes_the_exit_code(
    ending: tuple[signals.EndOnSignals, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = ending
    monkeypatch.setattr(sys, "stdout", None)
    made.over(3)
    with pytest.raises(Ended, match="3"):
        made._end(2)
    assert said == []


def test_the_exit_code_is_kept_where_ending_others_fails(
    ending: tuple[signals.EndOnSignals, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(signals, "end_everything", fail)
    with pytest.raises(Ended, match="130"):
        ending[0]._end(2)


def test_only_signals_that_end_are_waited_for(
    ending: tuple[signals.EndOnSignals, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = ending
    of_a_child_and_a_window, of_the_system = bytes([17, 28]), bytes([17, 15])
    given = [of_a_child_and_a_window, of_the_system]
    monkeypatch.setattr(signals.os, "read", lambda descriptor, n: given.pop(0))
    with pytest.raises(Ended, match="130"):
        made._watch(0)
    assert given == [] and said == [b"interrupted\n"]
