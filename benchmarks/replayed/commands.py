"""The commands over two finished runs: `check`, `audit`, `predict`, and the report.

In:  an empty folder.
Out: entries of what they print and write, without times and folders.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import stackfeat as sf
from benchmarks.replayed.entries import Entries, of_csv, of_json, of_text
from benchmarks.replayed.runs import stack_config, with_net, write, write_rows


def command(folder: Path, *arguments: str) -> Entries:
    """Call the command line; yield its exit code with what it printed."""
    called = [sys.executable, "-m", "stackfeat", *arguments]
    said = subprocess.run(called, cwd=folder, capture_output=True, text=True, check=False)
    yield "printed", of_text(f"{said.returncode}\n" + without_chance(said.stdout, folder))


def without_chance(text: str, folder: Path) -> str:
    """Return a text without folders, dates, durations and the keys of the store."""
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?", "DATE", text)
    text = re.sub(r"\b[\d.]+ ?(s|ms|seconds|min)\b", "TIME", text)
    return re.sub(r"\b[0-9a-f]{12,64}\b", "KEY", text)


def over_a_run(task: str, metric: str, folder: Path) -> Entries:
    config = with_net(stack_config(task, metric))
    write_rows(task, folder)
    path = write(config, folder)
    yield from labelled("check-before", command(folder, "check", "c.yaml"))
    result = sf.run(path)
    yield from labelled("check-after", command(folder, "check", "c.yaml"))
    yield "submission", of_csv(folder / "run/submission.csv")
    yield from labelled("predict", command(folder, "predict", "run", "test.csv", "-o", "predicted.csv"))
    yield "predicted", of_csv(folder / "predicted.csv")
    later = (folder / "test.csv").read_text().splitlines(keepends=True)
    (folder / "later.csv").write_text("".join([later[0], *later[:4:-1]]))
    yield from labelled("later", command(folder, "predict", "run", "later.csv", "-o", "reversed.csv"))
    yield "reversed", of_csv(folder / "reversed.csv")
    report = without_chance(result.report.read_text("utf-8"), folder)
    yield "report", of_text(re.sub(r"[\d.]+(?=</td><td class=\"soft\">)", "TIME", report))
    yield from labelled("audit-text", command(folder, "audit", "run", "--no-null"))
    sf.audit(folder / "run", permutations=2, rows=60)
    found = json.loads((folder / "run/audit.json").read_text())
    yield "audit/provenance", of_json(settled(found.pop("provenance"), folder))
    for name, part in {**found.pop("null"), **found}.items():
        yield f"audit/{name}", of_json(settled(part, folder))


def labelled(name: str, entries: Entries) -> Entries:
    for part, entry in entries:
        yield f"{name}/{part}", entry


def settled(value: Any, folder: Path) -> Any:
    """Return nested values without durations, and their texts without what changes from day to day."""
    if isinstance(value, dict):
        return {key: settled(part, folder) for key, part in value.items() if "second" not in key}
    if isinstance(value, list):
        return [settled(part, folder) for part in value]
    return without_chance(value, folder) if isinstance(value, str) else value


UNITS: dict[str, Callable[[Path], Entries]] = {
    "commands/binary": partial(over_a_run, "binary", "roc_auc"),
    "commands/regression": partial(over_a_run, "regression", "rmse"),
}
