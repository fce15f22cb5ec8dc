"""--json: one object that holds all that the text says, for every command; errors too, with the same exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stackfeat
from stackfeat.cli import entries
from stackfeat.cli.app import json_text
from stackfeat.cli.commands import app
from stackfeat.cli.failures import OTHER_CODES, failure_of, remedy_of
from stackfeat.errors import ConfigError, DataError, Problem, StackfeatError, StoreError, machine_error
from stackfeat.pipeline import demo
from tests.cli.test_demo import SMALL
from tests.projects import FAILING, Project, Said, table, write_table

NET = ("mlp", "--params", '{"n_features": 4, "n_outputs": 2, "hidden": [3]}')
MATE = ("--oof", "runs/run/oof/base.linear.csv", "--test", "runs/run/test/base.linear.csv")
CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "run": (("c.yaml",), ("c.yaml", "--set", "submit=tree"), ("failing.yaml", "--jobs", "1")),
    "check": (("c.yaml",), ("c.yaml", "--set", "seed=3"), ("net.yaml", "--deep")),
    "init": (("train.csv", "--target", "label", "--test", "test.csv", "-o", "first.yaml"),),
    "trust": (("c.yaml",), ("own.yaml", "--yes"), ("own.yaml",), ("--list",), ("own.yaml", "--forget")),
    "import": (("c.yaml", *MATE), ("c.yaml", *MATE, "--score", "0.05")),
    "predict": (
        ("runs/run", "test.csv", "-o", "out.csv"),
        ("runs/run", "test.csv", "-o", "o2.csv", "--isolate"),
    ),
    "refresh": (("runs/run", "--train", "train.csv"), ("runs/run", "--train", "more.csv", "-o", "runs/more")),
    "export": (("runs/run",),),
    "distil": (("runs/run", "--student", "lightgbm"),),
    "audit": (("runs/run", "--no-null"), ("changed", "--no-null")),
    "watch": (("demo/runs/quickstart",),),
    "explain": (("runs/run", "--rows", "40", "--repeats", "2"), ("runs/run", "test.csv", "--repeats", "2")),
    "report": (("runs/run",), ("changed",)),
    "compare": (("runs/run", "runs/other"), ("runs/run", "runs/other", "-o", "pairs.csv")),
    "runs": (("spare",), ("spare", "--sort", "score", "-o", "ledger.csv")),
    "note": (("runs/run", "--lb", ".8123", "--text", "first"), ("runs/run",)),
    "extract": (
        (*NET, "--data", "x.npy", "-o", "taps"),
        (*NET, "--data", "x.npy", "-o", "t2", "--format", "csv"),
    ),
    "layers": ((*NET, "--input", "2x4"), ("net.yaml", "mlp")),
    "show": tuple(
        (*words, "--store", "demo/.stackfeat")
        for words in ((), ("fit",), ("--size",), ("--why", "KEY"), ("zzz",))
    ),
    "clean": tuple(
        (*words, "--store", "spare/.stackfeat")
        for words in ((), ("--older-than", "0", "--keep-run", "spare/runs/quickstart"), ("--older-than", "0"))
    ),
    "doctor": ((), ("--full",)),
    "schema": ((),),
    "demo": (("-o", "demo"),),
}
"""How every command is called in a project with a finished run; KEY stands for the key of an entry."""


@dataclass(frozen=True)
class Twice:
    """Two copies of a project with a finished run: what a command does to one, the other does not see."""

    text: Project
    json: Project


def prepared(project: Project) -> Project:
    """Add what the calls name: configs, a net's rows, another run, a run folder in which a file was changed."""
    assert project.run("--set", "seed=3", "--set", "outputs.dir=runs/other").code == 0
    # Once before the copies are made: times of fits are in the store, and no other call adds to these two.
    assert project.cli("demo", "-o", project.folder / "demo").code == 0
    shutil.copytree(project.folder / "demo", project.folder / "spare")
    shutil.copytree(project.run_folder, project.folder / "changed")
    oof = project.folder / "changed" / "oof" / "base.tree.csv"
    oof.write_text(oof.read_text().replace("0.", "0.0", 1))
    config = project.config()
    failing = json.loads(json.dumps(config))
    failing["levels"]["base"]["bad"] = FAILING
    own = json.loads(json.dumps(config))
    own["levels"]["base"]["own"] = {"estimator": "mine:Mine"}
    net = json.loads(json.dumps(config))
    net["levels"]["base"]["mlp"] = {"net": "mlp", "params": {"hidden": [3]}}
    for name, values in (("failing", failing), ("own", own), ("net", net)):
        (project.folder / f"{name}.yaml").write_text(json.dumps({**values, "name": name}))
    write_table(project.folder / "more.csv", table("multiclass", 60, 900, True, 5))
    (project.folder / "mine.py").write_text("from sklearn.linear_model import Ridge as Mine\n")
    assert project.cli("run", project.folder / "failing.yaml").code == 4
    np.save(project.folder / "x.npy", np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    return project


@pytest.fixture(scope="module")
def twice(plain_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    folder = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "quickstart", lambda: SMALL)
        first = prepared(plain_run.copy(folder / "text" / "p"))
        yield Twice(first, first.copy(folder / "json" / "p"))


def call(project: Project, monkeypatch: pytest.MonkeyPatch, *words: str) -> Said:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("STACKFEAT_STATE", str(project.folder / "state"))
    keys = sorted(path.parent.name for path in Path("demo/.stackfeat/entries").glob("*/*/DONE"))
    said = project.cli(*(keys[0][:20] if word == "KEY" else word for word in words))
    place = str(project.folder)
    return Said(said.code, said.out.replace(place, "HERE"), said.err.replace(place, "HERE"))


def scalars(value: Any) -> Iterator[Any]:
    """Every key, text and number of a JSON value."""
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from scalars(item)
    else:
        yield value


PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
SCALES = (1, -1, 1e6, 2**20, 2**30, 0.01)
OF_THIS_CALL = re.compile(r"took \S+ s of CPU|^\d{4}-\d\d-\d\d \d\d:\d\d", re.MULTILINE)
"""How long a call took, and when a note was made: other numbers each time."""
NUMBER = re.compile(r"(?<![\w.:+-])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
NAME = re.compile(r"[\w./%:-]*\w[./_]\w[\w./%:-]*")


def unsaid(text: str, values: Any) -> list[str]:
    """Numbers and names of a text that JSON does not hold."""
    found = list(scalars(values))
    numbers = [float(one) for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    # What a list has is counted in the text.
    numbers += [float(len(one)) for one in lists(values)]
    said = "\n".join(str(one) for one in found if isinstance(one, str))
    missing = []
    for word in NUMBER.findall(text):
        plain = word.replace(",", "")
        places = len(plain.partition("e")[0].partition(".")[2])
        form = f".{places}{'e' if 'e' in plain else 'f'}"
        is_there = any(
            f"{number / scale:{form}}" == plain.lstrip("+") for number in numbers for scale in SCALES
        )
        if not is_there and plain not in said:
            missing.append(word)
    return missing + [
        word for word in NAME.findall(text) if word.strip(".:") not in said and not NUMBER.fullmatch(word)
    ]


def lists(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from lists(item)


def commands() -> list[str]:
    return [str(one.name or one.callback.__name__) for one in app.registered_commands if one.callback]


def test_every_command_is_called_here() -> None:
    assert set(commands()) == set(CALLS), "say in CALLS how a new command is called on a finished run"


def documented(command: str) -> set[str]:
    """Keys of a command's object as docs/cli.md lists them."""
    row = re.search(rf"^\| `{command}` \| (.*) \|$", PAGE[PAGE.index("| command | keys |") :], re.MULTILINE)
    assert row, f"docs/cli.md lists no keys of {command}"
    if command == "demo":
        return {"config", "next"} | documented("run") - {"guesses"}
    outside = re.sub(r"\([^()]*\)|: by .*", "", row[1])
    return set(re.findall(r"`([a-z_]+)`", outside))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", CALLS)
def test_json_is_one_object_with_all_that_the_text_says(
    command: str, twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = set[str]()
    for place, words in enumerate(CALLS[command]):
        text = call(twice.text, monkeypatch, command, *words)
        placed = (command, *words, "--json") if place % 2 else ("--json", command, *words)
        as_json = call(twice.json, monkeypatch, *placed)
        assert "bug" not in text.err, text.err
        assert as_json.code == text.code, as_json.err
        values = json.loads(as_json.out)
        assert isinstance(values, dict) and len(as_json.out.splitlines()) == 1
        assert unsaid(OF_THIS_CALL.sub("", text.out), values) == [], words
        assert ("error" in values) == bool(text.err.startswith("error") or "\nerror: " in text.err)
        keys |= values.keys() - {"error"}
    assert command == "schema" or keys == documented(command)


def test_the_checker_of_texts_finds_what_is_not_there() -> None:
    values = {"a": 1.2345, "rows": 40, "b/c": ["x.csv"], "bytes": 2_500_000}
    assert unsaid("score 1.23, 40 rows of b/c in x.csv, 2.5 MB", values) == []
    assert unsaid("score 1.24, 41 rows of b/d in y.csv", values) == ["1.24", "41", "b/d", "y.csv"]


WRONG = {
    "task": "multiclass",
    "metric": "log_los",
    "data": {"train": "no.csv", "target": "label"},
    "levels": {},
}


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "where", "remedy"),
    [
        (("check", "absent.yaml"), 2, "config", "absent.yaml", None),
        (("run",), 2, "usage", "CONFIG|TRAIN", None),
        (("shw",), 2, "usage", None, "Did you mean 'show'?"),
        (("show", "--stor", "x"), 2, "usage", "--stor", "Possible options: --store"),
        (("audit", "runs/run", "--rows", "x"), 2, "usage", "--rows", None),
        (("init", "train.csv", "--target", "lable"), 3, "data", None, "Did you mean 'label'?"),
        (("show", "--why", "zzz"), 2, "usage", None, "See stackfeat show"),
        (("predict", "runs/run", "narrow.csv", "-o", "o.csv"), 3, "missing-columns", None, None),
        (("trust", "own.yaml"), 2, "usage", None, "read the above, then give --yes"),
        ((), 2, "usage", None, "see stackfeat --help"),
    ],
)
def test_errors_are_one_object_with_the_same_exit_code(
    words: tuple[str, ...],
    exit_code: int,
    code: str,
    where: str | None,
    remedy: str | None,
    twice: Twice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = twice.json
    (project.folder / "narrow.csv").write_text("row_id,a\n1,2\n")
    text, said = call(project, monkeypatch, *words), call(project, monkeypatch, *words, "--json")
    assert (text.code, said.code) == (exit_code, exit_code)
    error = json.loads(said.out)["error"]
    assert (error["code"], error["where"]) == (code, where)
    assert remedy is None or error["remedy"] == remedy
    if words:
        assert said.err.endswith(f"error: {error['message']}\n") and text.err.endswith(said.err[-80:])


def test_every_problem_of_a_config_has_its_place(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    (twice.json.folder / "wrong.yaml").write_text(json.dumps(WRONG, indent=1))
    said = call(twice.json, monkeypatch, "check", "wrong.yaml", "--json")
    error = json.loads(said.out)["error"]
    found = {one["option"]: one for one in error["problems"]}
    assert said.code == 2 and error["code"] == "config" and len(found) > 1
    assert found["metric"]["file"] == "wrong.yaml" and found["metric"]["line"] == 3
    assert found["metric"]["remedy"] == "Did you mean 'log_loss'?"
    assert error["where"] is None, "there are several"


def test_a_request_for_trust_is_told_where_nobody_can_be_asked(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(twice.json, monkeypatch, "trust", "own.yaml", "--forget")
    said = call(twice.json, monkeypatch, "trust", "own.yaml", "--json")
    values = json.loads(said.out)
    assert said.code == 2 and values["trusted"] is False and values["error"]["code"] == "usage"
    assert {Path(file["path"]).name for file in values["files"]} == {"own.yaml", "mine.py"}
    assert values["needs"][0]["value"] == "mine:Mine"


@pytest.mark.parametrize(
    ("error", "code", "exit_code", "where"),
    [
        (KeyError("x"), "bug", 1, None),
        (KeyboardInterrupt(), "interrupted", 130, None),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "storage", 1, "/data/x"),
        (MemoryError(), "out-of-memory", 1, None),
        (DataError([Problem("base", "must be; got x; do y", "f.csv", 3)]), "data", 3, "f.csv:3: base"),
    ],
)
def test_bugs_machines_and_interrupts_are_told_alike(
    error: BaseException,
    code: str,
    exit_code: int,
    where: str | None,
    quick: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: object) -> None:
        raise error

    monkeypatch.setattr(entries, "list_entries", broken)
    text, said = quick.cli("show"), quick.cli("show", "--json")
    found = json.loads(said.out)["error"]
    assert (text.code, said.code, found["code"]) == (exit_code, exit_code, code)
    assert text.out == "" and text.err == said.err and found["message"] in text.err
    assert where is None or found["where"] == where
    assert found["remedy"], "each says what to do"


def classes() -> list[type[StackfeatError]]:
    found = [StackfeatError]
    for one in found:
        found += one.__subclasses__()
    return [one for one in found if one.__module__.startswith("stackfeat.")]


def test_every_class_of_errors_has_a_code_of_its_own_that_the_docs_list() -> None:
    import stackfeat.layers.extraction.reread  # noqa: F401  (has a class of its own)

    own = {one: vars(one).get("code") for one in classes()}
    assert None not in own.values(), own
    codes = [*own.values(), *OTHER_CODES]
    assert len(set(codes)) == len(codes) and all(re.fullmatch(r"[a-z]+(-[a-z]+)*", str(one)) for one in codes)
    exits = {str(one.code): one.exit_code for one in classes()} | {"bug": 1, "interrupted": 130}
    listed = re.findall(r"^\| `([a-z-]+)` \| ([0-9]+) \|", PAGE, re.MULTILINE)
    assert {code: int(number) for code, number in listed} == exits


def test_every_class_defined_in_the_package_is_looked_at() -> None:
    root = Path(stackfeat.__file__).parent
    bases = {one.__name__ for one in classes()}
    for path in root.rglob("*.py"):
        for name, of in re.findall(r"^class (\w+)\(([\w, ]+)\):", path.read_text("utf-8"), re.MULTILINE):
            if bases & set(re.split(r", ", of)):
                assert (
                    'code = "' in path.read_text("utf-8").split(f"class {name}(")[1].split("\nclass ")[0]
                ), name


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("a must be b; got c; do d", "do d"),
        ("a must be b; got 'x; y. Z'; do d; or e", "do d; or e"),
        ("a must be b; got c (d; e); do f", "do f"),
        ("a must be one of b; got 'c'. Did you mean 'b'?", "Did you mean 'b'?"),
        ("a must be one of b; got 'c'.", None),
        ("a must be b; got 0.5, which is less; give more", "give more"),
        ("all is lost", None),
        ("they forgot it; go on", None),
        ("there is no column 'b'. Did you mean 'a'?", "Did you mean 'a'?"),
    ],
)
def test_the_remedy_is_what_follows_what_was_got(message: str, remedy: str | None) -> None:
    assert remedy_of(message) == remedy
    assert failure_of(ConfigError(message)).remedy == remedy


@pytest.mark.parametrize("part", ["'x', ", "(y) ", "'", "(", "got ", "got '"])
def test_messages_of_any_names_are_split_in_time(part: str) -> None:
    before = time.process_time()
    assert remedy_of("a must be b; got " + part * 2000) is None
    assert time.process_time() - before < 20, "it would take for ever"


def test_the_place_of_a_fault_goes_with_an_error_in_other_words() -> None:
    error = machine_error(errno.ENOSPC, "/data", "full").reworded("other words")
    assert isinstance(error, StoreError) and failure_of(error).where == "/data"


def test_values_of_every_kind_are_json_that_a_terminal_shows() -> None:
    values = {"nan": float("nan"), "inf": np.float32("inf"), "n": np.int64(3), "x": np.float64(0.5)}
    values |= {
        "flag": True,
        "path": Path("a/b"),
        "text": "é\x7f\x1b[2J\u202e",
        "none": None,
        "nested": [(1, 2)],
    }
    text = json_text(values)
    assert text.isascii() and text.isprintable()
    expected = {**values, "nan": None, "inf": None, "n": 3, "x": 0.5, "path": "a/b", "nested": [[1, 2]]}
    assert json.loads(text) == expected


PRINTS = """
import os, sys
from stackfeat.cli import entries
real = entries.list_entries
def noisy(*given):
    print("a library prints")
    os.write(1, b"so does its C code\\n")
    return real(*given)
entries.list_entries = noisy
sys.argv[1:] = ["show", "--json", "--store", sys.argv[1]]
from stackfeat.cli import main
main()
"""


def test_what_libraries_print_does_not_reach_the_object(plain_run: Project) -> None:
    store = plain_run.folder / ".stackfeat"
    done = subprocess.run([sys.executable, "-c", PRINTS, str(store)], capture_output=True, text=True)
    assert done.returncode == 0 and len(json.loads(done.stdout)["entries"]) > 10
    assert "a library prints" in done.stderr and "so does its C code" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_an_error_and_its_code(number: int, build: Callable[..., Project]) -> None:
    project = build()
    process = project.start("run", "c.yaml", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if " fold" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130 and "run the same command to go on" in err
    error = json.loads(out)["error"]
    assert error["code"] == "interrupted" and "run the same command" in error["remedy"]
