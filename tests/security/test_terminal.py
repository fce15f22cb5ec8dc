"""Names in files move no cursor: through every command, what is printed and logged can be read."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.projects import FAILING

EVIL = "\x1b]0;t\x07\x1b[2J\r\x9b1m\u202e\u2028\u2066\x08"
FORGED = f"{EVIL}\n2026-01-01 00:00:00,000 INFO forged\nerror: forged"
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
CODE = "import torch.nn as nn\n\nclass Net(nn.Module):\n    pass\n"


def command(*arguments: object) -> tuple[int, str]:
    """Call the command line in this process; return its code, and standard output and error together."""
    from stackfeat.cli import main

    said, before = io.StringIO(), sys.argv
    sys.argv = ["stackfeat", *map(str, arguments)]
    try:
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.raises(SystemExit) as end,
        ):
            main()
    finally:
        sys.argv = before
    return int(end.value.code or 0), said.getvalue()


def is_readable(text: str) -> bool:
    return OBEYED.search(text) is None and not re.search(
        "^(error: )?forged|^2026-01-01|^error: forged", text, re.MULTILINE
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with hostile names wherever a name can be, in a folder of a hostile name."""
    monkeypatch.setenv("STACKFEAT_STATE", str(tmp_path / "state"))
    folder = tmp_path / f"project{EVIL.replace('/', '')}\nerror: forged"
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = [f"no{EVIL}", f"yes{FORGED}"]
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"id{EVIL}", f"x{EVIL}", "z", f"y{FORGED}"])
        for i in range(90):
            x = rng.normal()
            writer.writerow([f"{i}{FORGED}", x, rng.normal(), labels[int(x + 0.1 * rng.normal() > 0)]])
    config: dict[str, Any] = {
        "task": "binary",
        "metric": "log_loss",
        "data": {"train": "train.csv", "id": f"id{EVIL}", "target": f"y{FORGED}"},
        "folds": {"n": 2},
        "levels": {
            "base": {
                "lin": {"estimator": "sklearn.linear_model.LogisticRegression"},
                "bad": FAILING,
            },
            "last": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
        },
        "executor": {"kind": "inline"},
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    (folder / f"d{EVIL}.yaml").write_text(json.dumps(config | {"metric": f"nope{FORGED}", f"key{FORGED}": 1}))
    (folder / "broken.yaml").write_bytes(b"task: [\x1b[31m\r\n")
    return folder


def test_no_command_prints_or_logs_what_a_terminal_obeys(project: Path) -> None:
    config, train = project / "c.yaml", project / "train.csv"
    code, said = command("run", config)
    assert code in (0, 4) and is_readable(said), said
    assert "failed" in said
    run = project / "runs/run"
    store = project / ".stackfeat"
    for arguments in [
        ("check", config),
        ("check", project / f"d{EVIL}.yaml"),
        ("check", project / "broken.yaml"),
        ("check", project / f"none{FORGED}.yaml"),
        ("check", config, "--set", f"levels.base.x{FORGED}=1"),
        ("check", config, "--set", f"submit=last{FORGED}"),
        ("run", config, "-q"),
        ("run", config, "--set", f"data.target=w{FORGED}"),
        ("init", train, "--target", f"y{FORGED}", "-o", project / f"e{EVIL}.yaml"),
        ("init", train, "--target", f"w{EVIL}", "-o", project / "f.yaml"),
        ("predict", run, train, "-o", project / f"o{FORGED}.csv"),
        ("predict", run, project / "none.csv", "-o", project / "o.csv"),
        ("predict", run, train, "-o", project / "o.csv", "--without", f"m{FORGED}"),
        ("audit", run, "--no-null"),
        ("show", "--store", store),
        ("show", f"k{FORGED}", "--store", store),
        ("show", "--store", project / f"none{EVIL}"),
        ("layers", config, f"m{FORGED}"),
        ("layers", f"n{EVIL}:Net", "--input", f"2x3{EVIL}"),
        ("extract", f"n{EVIL}:Net", "--data", train, "-o", project / "x", "--params", f"{{{EVIL}"),
        ("import", config, "--oof", project / f"none{EVIL}.csv"),
        ("trust", config),
        ("trust", config, "--forget"),
        ("trust", "--list"),
        ("clean", "--store", store),
        ("doctor",),
        (f"no{FORGED}",),
        ("run", config, f"--no{FORGED}"),
    ]:
        _, said = command(*arguments)
        assert said and is_readable(said), (arguments, said)
    for log in project.rglob("*.log"):
        lines = log.read_text("utf-8").split("\n")
        assert not any(OBEYED.search(line) for line in lines)
        assert all(re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |    |$)", line) for line in lines)
        assert not any(line.startswith("2026-01-01 00:00:00,000") for line in lines)


def test_the_config_that_init_writes_is_readable_and_runs(project: Path) -> None:
    path = project / "e.yaml"
    code, said = command("init", project / "train.csv", "--target", f"y{FORGED}", "-o", path)
    assert code == 0, said
    text = path.read_text("utf-8")
    assert OBEYED.search(text) is None and not re.search("^error|^2026", text, re.MULTILINE)
    assert command("check", path)[0] == 0


def test_trust_shows_names_of_files_as_they_are(project: Path) -> None:
    config = json.loads((project / "c.yaml").read_text())
    config["levels"]["base"]["own"] = {"net": "mine:Net"}
    config["levels"]["base"]["lin"]["params"] = {f"callbacks{EVIL}": f"a{FORGED}"}
    (project / "c.yaml").write_text(json.dumps(config))
    (project / "mine.py").write_text(CODE)
    _, said = command("trust", project / "c.yaml", "--yes")
    assert is_readable(said), said
    _, said = command("trust", "--list")
    assert is_readable(said), said


def test_entries_of_a_received_store_are_shown_as_they_are(project: Path) -> None:
    assert command("run", project / "c.yaml", "-q")[0] in (0, 4)
    store = project / ".stackfeat"
    for manifest in store.rglob("manifest.json"):
        values = json.loads(manifest.read_text())
        values["kind"] = f"fit{FORGED}"
        values["recipe"] = {"part": FORGED, "member": {"net": FORGED}}
        manifest.write_text(json.dumps(values))
    _, said = command("show", "--store", store)
    assert is_readable(said), said
    shutil.rmtree(store)
