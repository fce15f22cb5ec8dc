"""Choices: options of which each value is a word from a list."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from stackfeat.tasks.task import TASKS


class PresetName(StrEnum):
    """Presets of first configs."""

    quick = "quick"
    good = "good"
    best = "best"


class StudentName(StrEnum):
    """What learns in the place of a stack."""

    lightgbm = "lightgbm"
    mlp = "mlp"


class RunOrder(StrEnum):
    """Orders of a list of runs."""

    date = "date"
    score = "score"


if TYPE_CHECKING:
    TaskName = str
else:
    TaskName = StrEnum("TaskName", list(TASKS))
