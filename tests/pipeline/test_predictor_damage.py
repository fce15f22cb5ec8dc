"""Damage of any file of a predictor, and of provenance.json: found, or harmless; never another number or error."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.audit.audit import audit
from stackfeat.errors import StackfeatError
from stackfeat.pipeline.predict import predict_file

Project = Any
Damage = Callable[[Path, np.random.Generator, list[Path]], None]
KINDS = {
    "predictor.json": "predictor.json",
    "hashes.json": "hashes.json",
    "manifest": "manifest.json",
    "marker": "DONE",
    "array": "*.npy",
    "net": "*.safetensors",
    "estimator": "estimator.*.skops",
    "preparer": "*e.table*",
    "value": "[!mph]*.json",
}


def flip(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def truncate(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.integers(len(data) + 1)])


def insert(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    data, place = path.read_bytes(), 0
    place = int(rng.integers(len(data) + 1))
    path.write_bytes(data[:place] + rng.bytes(int(rng.integers(1, 9))) + data[place:])


def cut(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    data = path.read_bytes()
    place = int(rng.integers(len(data) + 1))
    path.write_bytes(data[:place] + data[place + int(rng.integers(1, 9)) :])


def zero(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    place = int(rng.integers(len(data) + 1))
    end = min(len(data), place + int(rng.integers(1, 4097)))
    data[place:end] = bytes(end - place)
    path.write_bytes(data)


def empty(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    path.write_bytes(b"")


def delete(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    path.unlink()


def swap(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    other = others[rng.integers(len(others))]
    path.write_bytes(other.read_bytes())


def folder(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    path.unlink()
    path.symlink_to(["/dev/zero", "/nowhere", "/"][rng.integers(3)])


def edit(path: Path, rng: np.random.Generator, others: list[Path]) -> None:
    """Change one value of a JSON file, as an editor would; other files get a flipped bit."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return flip(path, rng, others)
    places = list(_places(value))
    if not places:
        return path.write_text("[]") and None
    one, key = places[rng.integers(len(places))]
    change = rng.integers(4)
    if change == 0 and isinstance(one, dict):
        del one[key]
    elif change == 1 and isinstance(one[key], int | float):
        one[key] = one[key] + 1
    else:
        one[key] = [None, "x", -1, [], {}, 1e300, True][rng.integers(7)]
    path.write_text(json.dumps(value))
    return None


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _places(part)


DAMAGES: list[Damage] = [
    flip,
    flip,
    truncate,
    insert,
    cut,
    zero,
    empty,
    delete,
    swap,
    folder,
    link,
    edit,
    edit,
]


@pytest.fixture(scope="module")
def models(net_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return net_run.copy(tmp_path_factory.mktemp("damaged") / "net")


def predicted(project: Project) -> bytes:
    out: Path = project.folder / "out.csv"
    out.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predict_file(project.run_folder, project.folder / "test.csv", out)
    return out.read_bytes()


def survive(path: Path, others: list[Path], n: int, seed: int, attempt: Callable[[], object]) -> list[str]:
    """Damage a file n times; return what was said, one line each, or "harmless"."""
    rng, before, said = np.random.default_rng(seed), path.read_bytes(), []
    expected = attempt()
    for number in range(n):
        damage = DAMAGES[number % len(DAMAGES)]
        damage(path, rng, others)
        try:
            assert attempt() == expected, f"{damage.__name__} of {path.name} gave other numbers"
            said.append("harmless")
        except StackfeatError as error:
            said.append(str(error))
        finally:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.write_bytes(before)
    assert all("\n" not in line and line for line in said)
    return said


def is_read(project: Project, path: Path) -> bool:
    """Whether predictions need a file, as that of a member that is not submitted they do not."""
    aside = path.rename(path.with_name(f"{path.name}.aside"))
    try:
        predicted(project)
    except StackfeatError:
        return True
    else:
        return False
    finally:
        aside.rename(path)


def files_of(project: Project, kind: str) -> list[Path]:
    found = sorted((project.run_folder / "predictor").rglob(KINDS[kind]))
    assert found, kind
    for path in found:
        path.chmod(0o644)
    return found


def damage_kind(project: Project, kind: str, n: int, n_files: int) -> None:
    """Spread damages over a few files of a kind, those that are read first in as many parts of their list."""
    paths = files_of(project, kind)
    step = -(-len(paths) // n_files)
    parts = [paths[start : start + step] for start in range(0, len(paths), step)]
    found = [next((path for path in part if is_read(project, path)), None) for part in parts]
    chosen = [path for path in found if path is not None]
    said = [
        line
        for seed, path in enumerate(chosen)
        for line in survive(path, paths, -(-n // len(chosen)), seed, lambda: predicted(project))
    ]
    assert sum(line != "harmless" for line in said) > len(said) / 2, "damage must be found"


@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_a_predictor_is_found_or_harmless(kind: str, models: Project) -> None:
    damage_kind(models, kind, len(DAMAGES), 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_300_damages_of_each_kind_of_file(kind: str, models: Project) -> None:
    damage_kind(models, kind, 300, 6)


def damage_provenance(project: Project, n: int) -> None:
    path = project.run_folder / "provenance.json"
    said = survive(
        path,
        [project.run_folder / "scores.json", path],
        n,
        0,
        lambda: json.dumps(audit(project.run_folder, null=False).to_json()),
    )
    assert sum(line != "harmless" for line in said) > n / 2


def test_damage_of_provenance_is_found_or_harmless(models: Project) -> None:
    damage_provenance(models, 13)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_300_damages_of_provenance(models: Project) -> None:
    damage_provenance(models, 300)


def test_a_predictor_of_another_version_names_the_remedy(quick: Project) -> None:
    folder = quick.run_folder / "predictor"
    (folder / "hashes.json").unlink()
    wiring = json.loads((folder / "predictor.json").read_bytes())
    (folder / "predictor.json").write_text(json.dumps({**wiring, "format": 1}))
    said = quick.cli("predict", quick.run_folder, quick.folder / "test.csv", "-o", quick.folder / "o.csv")
    assert said.code == 3 and "must have format 2; got 1, of another version" in said.err
    assert "run the config again" in said.err and "Traceback" not in said.err
    said = quick.run()
    assert said.code == 0, "a run writes it anew"
    assert (
        quick.cli("predict", quick.run_folder, quick.folder / "test.csv", "-o", quick.folder / "o.csv").code
        == 0
    )


def test_models_of_another_run_are_refused(quick: Project, build: Any, make_config: Any) -> None:
    """A whole entry, every hash of its own right, in the place of another."""
    other = build(config=make_config())
    assert other.run("--set", "levels.base.linear.params={C: 0.1}", "--set", "submit=meta/gated").code == 0
    assert quick.run("--set", "submit=meta/gated").code == 0
    for name in ("predictor.json", "hashes.json", "models"):
        copied = quick.copy(quick.folder.parent / f"swapped-{name}")
        place, theirs = copied.run_folder / "predictor" / name, other.run_folder / "predictor" / name
        if place.is_dir():
            shutil.rmtree(place)
            shutil.copytree(theirs, place)
        else:
            place.write_bytes(theirs.read_bytes())
        with pytest.raises(StackfeatError, match="run the config again"):
            predicted(copied)


def test_files_that_nobody_lists_change_nothing(quick: Project) -> None:
    expected = predicted(quick)
    predictor = quick.run_folder / "predictor"
    (predictor / "more.json").write_text("{")
    entry = next((predictor / "models" / "entries").glob("*/*"))
    (entry / "evil.skops").write_bytes(b"x")
    shutil.copytree(entry, entry.parent / ("0" * 64))
    assert predicted(quick) == expected
