"""Settings of the whole process, such as its threads, that several users change for a while at the same time.

In:  what changes a setting, and what it is changed to.
Out: a block in which it has that value; it is put back when the last user leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

Undo = Callable[[], None]


class Shared:
    """Something of the whole process that is changed for a while, and put back when its last user leaves.

    Users in several threads overlap in any order: whoever wants the same value joins, others wait.
    """

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.users: list[int] = []
        self.value: Hashable = None
        self.undo_first: Undo = lambda: None

    @contextmanager
    def use(self, change: Callable[[], Undo], value: Hashable = None) -> Iterator[None]:
        """Change it for a block. `change` makes it `value`, and returns what puts back what was there."""
        me = threading.get_ident()
        with self.turn:
            self.turn.wait_for(lambda: self.value == value or not set(self.users) - {me})
            undo, around = change(), self.value
            if not self.users:
                self.undo_first = undo
            self.users.append(me)
            self.value = value
        try:
            yield
        finally:
            with self.turn:
                self.users.remove(me)
                if not self.users:
                    self.undo_first()
                elif set(self.users) == {me}:
                    undo()
                    self.value = around
                self.turn.notify_all()
