"""What the command line says of a first config besides its files.

In:  options of `init`, or of a short config.
Out: `Wishes`, in which options that contradict each other are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stackfeat.errors import UsageError
from stackfeat.metrics.built_in import METRICS
from stackfeat.tasks.task import TASKS, task_class

if TYPE_CHECKING:
    import pandas as pd

_QUERY_NAME = re.compile(r"(^|_)(query|qid)(_?(id|no|number|key))?$", re.IGNORECASE)


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
    query_reason : str
        Why a column is taken for that of the lists; empty where it is named.
    has_inputs : bool
        Whether a config names its inputs, so that none are written for it.
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
    query_reason: str = ""
    has_inputs: bool = False

    @property
    def groups(self) -> str | None:
        """The column whose rows stay together."""
        return self.group or self.query

    def with_lists(self, frame: pd.DataFrame, targets: Sequence[str]) -> Wishes:
        """Return these with the column of lists, where a ranking is told and a single column is called like it."""
        told = METRICS[str(self.metric)].tasks if self.metric in METRICS else ()
        kinds = told if self.task is None else (self.task,)
        if self.query is not None or not kinds or not all(task_class(kind).has_lists for kind in kinds):
            return self
        named = {*targets, self.id, self.group, self.time}
        found = [name for name in map(str, frame.columns) if _QUERY_NAME.search(name) and name not in named]
        n_lists = frame[found[0]].nunique() if len(found) == 1 else 0
        if not 1 < n_lists < len(frame):
            return self
        return replace(self, query=found[0], query_reason=f"{n_lists} lists in {len(frame)} rows")

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
