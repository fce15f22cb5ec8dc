"""What the command line says of a first config besides its files.

In:  options of `init`, or of a short config.
Out: `Wishes`, in which options that contradict each other are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackfeat.errors import UsageError
from stackfeat.tasks.task import TASKS, task_class


@dataclass(frozen=True)
class Wishes:
    """What the command line says besides the files; None and "" where it says nothing.

    Attributes
    ----------
    id, group, time, query : str or None
        Columns.
    task, metric : str or None
    encoding : str or None
        Of text files.
    preset : {"quick", "good", "best"}
    limit : str or None
        Of the time of a run, such as ``10m``.
    """

    id: str | None = None
    group: str | None = None
    time: str | None = None
    task: str | None = None
    metric: str | None = None
    encoding: str | None = None
    preset: str = "good"
    limit: str | None = None
    query: str | None = None

    @property
    def groups(self) -> str | None:
        """The column whose rows stay together."""
        return self.group or self.query

    def check_lists(self, task: str) -> None:
        """Raise UsageError where a task needs lists, and none are named."""
        if task_class(task).has_lists and self.query is None:
            raise UsageError(f"task {task} needs the list of each row; got no --query; name its column")

    def ranking(self) -> str | None:
        """Return the kind of task whose rows stand in lists, where lists are named; None where they are not.

        Raises
        ------
        UsageError
            If another kind is told beside them.
        """
        kinds = [kind for kind in TASKS if task_class(kind).has_lists]
        if self.query is not None and self.task not in (None, *kinds):
            raise UsageError(
                f"--query names the lists of a ranking; got --task {self.task}; leave it out, or use --group"
            )
        return None if self.query is None else kinds[0]
