"""Read a data file as a run does, or the one line by which it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load
from stackfeat.errors import DataError

ROWS = "a,b,y\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(8))

TEXT_ERROR = 0.0 if int(pd.__version__.partition(".")[0]) >= 3 else 1e-12
"""Relative error of a number read from text: pandas 2 misses the last bits."""


def read(path: Path, **options: Any) -> Any:
    given = DataOptions.model_validate({"train": path.name, "target": "y", **options})
    return load(given, path.parent, "binary", "log_loss")


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        read(path, **options)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 1_000
    return message
