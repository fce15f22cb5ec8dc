"""The documents say what the code does: options, commands, exit codes, examples, links."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackfeat import errors
from stackfeat.config import json_schema, load_config
from stackfeat.errors import StackfeatError
from stackfeat.metrics.built_in import METRICS
from stackfeat.registry.names import ESTIMATORS, NETS
from tests.optional_packages import is_importable

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
README = (ROOT / "README.md").read_text("utf-8")
CONFIG_PAGE = (ROOT / "docs/config.md").read_text("utf-8")
CLI_PAGE = (ROOT / "docs/cli.md").read_text("utf-8")

SECTIONS = {
    "RunConfig": "The top level",
    "DataOptions": "`data`",
    "ExtraOptions": "`data.extra`",
    "InputOptions": "`data.inputs`",
    "FoldOptions": "`folds`",
    "NetOptions": "A `net` member",
    "TrainOptions": "`train`",
    "TapOptions": "`emit`",
    "EstimatorOptions": "An `estimator` member",
    "ChosenGate": "`chosen`",
    "DecisionOptions": "`decision`",
    "VoteOptions": "A `vote` member",
    "PredictionsOptions": "A `predictions` member",
    "PredictionFiles": "A `predictions` member",
    "PoolFiles": "A pool of `predictions`",
    "OutputOptions": "`outputs`",
    "ExecutorOptions": "`executor`",
    "LimitOptions": "`limits`",
    "StackOptions": "`stack`",
}
"""Which section of docs/config.md describes the options of which model."""


def options() -> Iterator[tuple[str, str, Any]]:
    """Model, option and JSON schema of every option of a config."""
    schema = json_schema()
    for model, described in {"RunConfig": schema, **schema["$defs"]}.items():
        for name, option in described.get("properties", {}).items():
            yield model, name, option


def section(page: str, heading: str) -> str:
    """The text under a heading of the second level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found.group(1)


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a section's tables by the name in the first cell."""
    cells = [
        re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in cells}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("model", "name", "option"), [pytest.param(*o, id=f"{o[0]}.{o[1]}") for o in options()]
)
def test_every_option_is_described_with_its_default(model: str, name: str, option: dict[str, Any]) -> None:
    described = rows(section(CONFIG_PAGE, SECTIONS[model]))
    assert name in described, f"docs/config.md does not describe {name} under {SECTIONS[model]!r}"
    default = option.get("default")
    if isinstance(default, bool | int | float | str):
        written = described[name][0].replace("`", "").strip("\"'")
        wanted = str(default).lower() if isinstance(default, bool) else str(default)
        is_equal = written == wanted or (not isinstance(default, bool | str) and float(written) == default)
        assert is_equal, f"docs/config.md gives {name} the default {written}; it is {wanted}"


@pytest.mark.parametrize("heading", sorted(set(SECTIONS.values())))
def test_no_option_is_described_that_does_not_exist(heading: str) -> None:
    known = {name for model, name, _ in options() if SECTIONS[model] == heading}
    assert set(rows(section(CONFIG_PAGE, heading))) <= known


@pytest.mark.parametrize("name", [*METRICS, *NETS, *ESTIMATORS])
def test_every_name_of_a_table_is_described(name: str) -> None:
    assert f"`{name}`" in CONFIG_PAGE


def commands() -> dict[str, Any]:
    from stackfeat.cli.commands import app

    return {
        command.name or command.callback.__name__: command
        for command in app.registered_commands
        if command.callback
    }


@pytest.mark.parametrize("name", commands())
def test_every_command_is_described(name: str) -> None:
    text = section(CLI_PAGE, f"`{name}`")
    assert f"`{name}" in README
    assert commands()[name].callback.__doc__
    for option in command_options(name):
        assert f"`{option}" in text, f"docs/cli.md does not describe {option} of {name}"


def command_options(name: str) -> list[str]:
    """Long options of a command, as its help lists them."""
    from typer.testing import CliRunner

    from stackfeat.cli.commands import app

    text = CliRunner().invoke(app, [name, "--help"]).output
    return [option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text) if option != "--help"]


def test_every_exit_code_is_described() -> None:
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, StackfeatError)
    }
    for code in codes | {0, 4, 5, 130}:
        assert re.search(rf"^\| {code} \|", section(CLI_PAGE, "Exit codes"), re.MULTILINE), code


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    files = re.findall(r"\.\./(work/data/\S+)", path.read_text("utf-8"))
    if not all((ROOT / file).is_file() for file in files):
        pytest.skip("needs the files that `make data` writes")
    assert load_config(path, data_roots=[ROOT / "work/data"]).config.levels


@pytest.mark.parametrize("text", blocks(README, "yaml"))
def test_yaml_of_the_readme_loads(text: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text, "utf-8")
    for name in re.findall(r"\w+\.csv", text):
        (tmp_path / name).write_text("id,price\n1,2\n", "utf-8")
    assert load_config(config).config.levels


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other in one namespace, on the quickstart made small."""
    small = (ROOT / "configs/quickstart.yaml").read_text("utf-8").replace("epochs: 25", "epochs: 2")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/quickstart.yaml").write_text(small.replace("kind: loky", "kind: inline"), "utf-8")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for text in blocks(README, "python"):
        exec(compile(text, "README.md", "exec"), namespace)
    assert namespace["result"].submission.is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_documents_compiles_and_links_lead_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    for block in blocks(text, "python"):
        ast.parse(block)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


@pytest.mark.parametrize("page", ["layers.md", "taps.md", "extract.md"])
@pytest.mark.filterwarnings("ignore")
def test_python_about_reading_layers_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block after the other in one namespace; those of packages that are not there are left out."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    missing = []
    for text in blocks((ROOT / "docs" / page).read_text("utf-8"), "python"):
        needed = re.match(r"# needs (\w+)\n", text)
        if needed and not is_importable(needed[1]):
            missing.append(needed[1])
        elif not text.startswith("# not run"):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(text, page, "exec"), namespace)
            # What a comment says that a line prints.
            said = re.findall(r"^print\(.*\n# ([\[({].*?[\])}])(?=:|$)", text, re.MULTILINE)
            assert [line for line in said if line not in printed.getvalue().splitlines()] == []
    if missing:
        pytest.skip(f"ran but for blocks that need {', '.join(missing)}")


def test_every_row_of_the_table_of_other_packages_is_a_test_and_every_test_a_row() -> None:
    page = (ROOT / "docs/layers.md").read_text("utf-8")
    tests = ast.parse((ROOT / "tests/layers/taps/test_peers.py").read_text("utf-8"))
    written = {item.name for item in tests.body if isinstance(item, ast.FunctionDef)}
    written = {name.removeprefix("test_") for name in written if name.startswith("test_")}
    lines = section(page, "What other packages do").splitlines()
    named = [line.rstrip("| `").rpartition("`")[2] for line in lines if line.startswith("| ") and "`" in line]
    assert set(named) == written


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_named_in_documents_exist(path: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"`make ([a-z-]+)`", path.read_text("utf-8"))
    assert set(named) <= set(targets)
