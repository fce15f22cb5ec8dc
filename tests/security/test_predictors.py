"""Predictors whose every hash is right and whose contents are hostile: one line, no code, no wait."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.errors import StackfeatError
from stackfeat.pipeline.predict import predict_file
from stackfeat.store.skops_file import save_object
from tests.projects import base_config as run_config
from tests.projects import build_project, with_net
from tests.security.forging import (
    change_recipe,
    change_wiring,
    entry_folders,
    manifest_of,
    mapping,
    node,
    reseal,
    rewrite_entry,
    sequence,
    skops_file,
    value,
)

Attack = Callable[[Path, Any], object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with a net, estimators, a gate and votes."""
    config = with_net(run_config())
    config["levels"]["base"]["hist"] = {
        "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        "params": {"max_iter": 3},
    }
    config["levels"]["final"]["hard"] = {"vote": "hard", "inputs": ["base/*/proba"]}
    config["submit"] = "final/soft"
    project = build_project(tmp_path_factory.mktemp("security") / "project", config=config, n_rows=90)
    said = project.run()
    assert said.code == 0, said.err
    return project.folder


@pytest.fixture
def predictor(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the predictor folder of a copy of the run."""
    shutil.copytree(finished / "runs" / "run" / "predictor", tmp_path / "run" / "predictor")
    shutil.copy(finished / "test.csv", tmp_path / "test.csv")
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    yield tmp_path / "run" / "predictor"


def predicted(predictor: Path) -> bytes:
    out = predictor.parent / "out.csv"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predict_file(predictor.parent, predictor.parent.parent / "test.csv", out)
    return out.read_bytes()


def entry_with(predictor: Path, name: str) -> Path:
    """Return the folder of a model that has a file of this name."""
    return next(f for f in entry_folders(predictor / "models") if name in manifest_of(f)["files"])


def replace(name: str, make: Callable[[Any], bytes]) -> Attack:
    """An attack that puts other bytes in the place of a file of a model."""

    def attack(predictor: Path, canary: Any) -> None:
        rewrite_entry(entry_with(predictor, name), {name: make(canary)})
        reseal(predictor)

    return attack


def change_json(name: str, change: Callable[[Any], Any]) -> Attack:
    """An attack that changes a JSON value of a model."""

    def attack(predictor: Path, canary: Any) -> None:
        folder = entry_with(predictor, name)
        content = json.loads((folder / name).read_bytes())
        rewrite_entry(folder, {name: json.dumps(change(content) or content).encode()})
        reseal(predictor)

    return attack


def recipe(name: str, change: Callable[[Any, Any], object]) -> Attack:
    """An attack that changes what a model says that it was made of."""

    def attack(predictor: Path, canary: Any) -> None:
        change_recipe(predictor, entry_with(predictor, name), lambda recipe: change(recipe, canary))
        reseal(predictor)

    return attack


def wiring(change: Callable[[Any], object]) -> Attack:
    return lambda predictor, canary: change_wiring(predictor, change)


def net_file(change: Callable[[dict[str, Any]], object]) -> Attack:
    """An attack that changes the header of a net's weights."""

    def attack(predictor: Path, canary: Any) -> None:
        from stackfeat.nets.weights import pack_state, unpack_state

        folder = entry_with(predictor, "net.0.safetensors")
        header, state = unpack_state((folder / "net.0.safetensors").read_bytes())
        change(header)
        rewrite_entry(folder, {"net.0.safetensors": pack_state(state, header)})
        reseal(predictor)

    return attack


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header


def call(bird: Any) -> dict[str, Any]:
    content = {
        "func": node("FunctionNode", "os.system"),
        "args": sequence(value(bird.shell)),
        "kwds": mapping(),
        "namespace": value(None),
    }
    return node("PartialNode", "functools.partial", content=content)


NET, FOREST, PREPARER = "net.0.safetensors", "estimator.0.skops", "columns.table.table"
ATTACKS: dict[str, Attack] = {
    "a net that is a function of ours": recipe(
        NET, lambda r, b: r["member"].update(net="stackfeat.pipeline.run.run")
    ),
    "a net that is a function of ours, by colon": recipe(
        NET, lambda r, b: r["member"].update(net="stackfeat.pipeline.run:run")
    ),
    "a net that is the system": recipe(NET, lambda r, b: r["member"].update(net="os:system")),
    "a net of a module beside": recipe(NET, lambda r, b: r["member"].update(net="evil:Net")),
    "a net of a family that is none": recipe(NET, lambda r, b: r["member"].update(net="timm:../../evil")),
    "an option that is none": recipe(NET, lambda r, b: r["member"].update(callback="os.system")),
    "taps that backtrack": recipe(NET, lambda r, b: r["member"].update(emit=[{"tap": "*" * 999 + "x"}])),
    "a member that is nothing": recipe(NET, lambda r, b: r.update(member={})),
    "a member that is text": recipe(NET, lambda r, b: r.update(member="os.system")),
    "a member of another kind": recipe(NET, lambda r, b: r.update(member={"vote": "soft"})),
    "settings that are none": recipe(NET, lambda r, b: r.update(settings=[])),
    "a device that is none": recipe(NET, lambda r, b: r["settings"].update(device="/dev/zero")),
    "blocks that are none": recipe(FOREST, lambda r, b: r.update(blocks=[{"name": []}])),
    "a saved function": replace(FOREST, lambda b: skops_file(call(b))),
    "an estimator that holds a function": replace(
        FOREST,
        lambda b: skops_file(
            node(
                "ObjectNode", "sklearn.linear_model._logistic.LogisticRegression", content=mapping(C=call(b))
            )
        ),
    ),
    "an estimator that is a list": replace(FOREST, lambda b: save_object([1, 2])),
    "an estimator without state": replace(
        FOREST, lambda b: skops_file(node("ObjectNode", "lightgbm.basic.Booster"))
    ),
    "an estimator that is not fitted": replace(
        FOREST,
        lambda b: skops_file(
            node(
                "ObjectNode", "sklearn.linear_model._logistic.LogisticRegression", content=mapping(C=value(1))
            )
        ),
    ),
    "a preparer with a function": replace(
        PREPARER, lambda b: skops_file(mapping(kind=value("trees"), seen=call(b)))
    ),
    "a preparer of another kind": replace(PREPARER, lambda b: save_object({"kind": "net"})),
    "a preparer without state": replace(PREPARER, lambda b: save_object({"kind": "trees"})),
    "a preparer that is a list": replace(PREPARER, lambda b: save_object([])),
    "types that nobody trusted": change_json("estimator.json", lambda v: v.update(types=["os.system"], n=99)),
    "a million million estimators": change_json("estimator.json", lambda v: v.update(n=10**12)),
    "less than no estimator": change_json("estimator.json", lambda v: v.update(n=0)),
    "scales that are text": change_json("estimator.json", lambda v: v.update(scales=["0.5"])),
    "a state that is a list": change_json("estimator.json", lambda v: [1]),
    "a million million nets": change_json("net.json", lambda v: v.update(n=10**12)),
    "an encoding that is none": change_json("net.json", lambda v: v.update(encoders=[{"a@os.system": []}])),
    "an input outside": change_json("net.json", lambda v: v.update(prepare=["../../../evil"])),
    "votes that are no numbers": change_json("vote.json", lambda v: v["fitted"].update(weights=["x"])),
    "votes without weights": change_json("vote.json", lambda v: v.update(fitted={})),
    "votes of others": change_json("vote.json", lambda v: v.update(names=["a/b/c"])),
    "votes that weigh nothing": change_json(
        "vote.json", lambda v: v["fitted"].update(weights=[0.0 for _ in v["names"]] + [0.0])
    ),
    "a task that is none": change_json("task.json", lambda v: v.update(kind="os.system")),
    "a task without classes": change_json("task.json", lambda v: v.update(classes=[])),
    "classes beyond all": change_json("task.json", lambda v: v.update(positive=10**9)),
    "a report that is none": change_json("info.json", lambda v: v.pop("unsaved")),
    "columns that are none": change_json("columns.json", lambda v: v.update(prepare="__class__")),
    "a column outside": change_json("columns.json", lambda v: v.update(tables=["../../evil"])),
    "json without end": replace("info.json", lambda b: b"[" * 200_000),
    "numbers that are none": replace(
        "estimator.json", lambda b: b'{"n": NaN, "scales": [Infinity], "report": {}}'
    ),
    "a number without end": replace("estimator.json", lambda b: b'{"n": ' + b"9" * 6000 + b"}"),
    "weights with a header of 2**60 bytes": replace(NET, lambda b: safetensors(b"{}", 2**60)),
    "weights without a header": replace(NET, lambda b: safetensors(b"{}")),
    "weights with a deep header": replace(NET, lambda b: safetensors(b'{"a":' * 50_000)),
    "weights of a million million numbers": replace(
        NET,
        lambda b: safetensors(
            json.dumps(
                {
                    "__metadata__": {"stackfeat": "{}"},
                    "w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]},
                }
            ).encode()
        ),
    ),
    "weights that are a pickle": replace(NET, lambda b: pickle_of(b)),
    "weights that are nothing": replace(NET, lambda b: b""),
    "a net of a million million columns": net_file(lambda h: h["spec"].update(n_features=10**12)),
    "a net of other classes": net_file(lambda h: h["spec"].update(n_outputs=7)),
    "a net without params": net_file(lambda h: h["spec"].pop("params")),
    "a net with params that are none": net_file(lambda h: h["spec"].update(params={"system": "true"})),
    "a net with hidden layers beyond memory": net_file(
        lambda h: h["spec"]["params"].update(hidden=[10**9, 10**9])
    ),
    "a net with less than no layer": net_file(lambda h: h["spec"]["params"].update(hidden=[-5])),
    "a head that is none": net_file(lambda h: h["head"].update(kind="os.system")),
    "a head of other columns": net_file(lambda h: h["head"].update(order=[9, 9, 9])),
    "a tap that is none": net_file(lambda h: h.update(penultimate="0[[[")),
    "no nodes": wiring(lambda v: v.update(nodes=[])),
    "nodes that read themselves": wiring(lambda v: v["nodes"][0].update(blocks=["final/soft/proba"])),
    "a node without a name": wiring(lambda v: v["nodes"][0].pop("name")),
    "folds beyond all": wiring(lambda v: v.update(n_folds=10**9)),
    "less than no fold": wiring(lambda v: v.update(n_folds=-1)),
    "repeats beyond all": wiring(lambda v: v.update(n_repeats=10**9)),
    "threads beyond all": wiring(lambda v: v.update(threads=10**9)),
    "a fit that is not there": wiring(lambda v: v["fits"].pop()),
    "a key that is a path": wiring(lambda v: v["fits"][0].__setitem__(3, "../../../../etc/passwd")),
    "a fit for a fit": wiring(lambda v: v["fits"][0].__setitem__(3, v["fits"][-1][3])),
    "an average that is none": wiring(lambda v: v["averaging"].update(average="os.system")),
    "a schema without columns": wiring(lambda v: v["schema"].update(columns=[])),
    "a schema that is none": wiring(lambda v: v.update(schema=3)),
    "a column of another type": wiring(lambda v: v["schema"]["columns"][0].update(type="os.system")),
    "reading that is none": wiring(lambda v: v.update(data={"train": ["x"]})),
    "an encoding of bytes": wiring(lambda v: v["data"].update(encoding="zlib_codec")),
    "a decision that is none": wiring(lambda v: v.update(decision={"kind": "threshold", "numbers": []})),
    "a form that is none": wiring(lambda v: v.update(form={})),
    "a form of other columns": wiring(lambda v: v["form"].update(sample_header=["id", "a", "b"])),
    "a block of another": wiring(lambda v: v.update(block="base/mlp/proba")),
    "reasons that are none": wiring(lambda v: v.update(unsaved=[["x", "y"]])),
    "a reason that is a tree": wiring(lambda v: v.update(unsaved={"x": {"y": 1}})),
}


def pickle_of(bird: Any) -> bytes:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return exec, (bird.python,)

    return pickle.dumps(Bomb())


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_predictor_is_refused_in_one_line(
    name: str, predictor: Path, canary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = predictor.parent.parent
    (evil / "evil.py").write_text(f"{canary.python}\nclass Net: pass\n")
    monkeypatch.chdir(evil)
    ATTACKS[name](predictor, canary)
    with pytest.raises(StackfeatError) as caught:
        predicted(predictor)
    said = str(caught.value)
    assert "\n" not in said and 20 < len(said) < 2000
    assert not (predictor.parent / "out.csv").exists()


def test_forging_itself_changes_nothing(predictor: Path, finished: Path) -> None:
    """The forger makes every hash right: what is refused above is refused for its contents."""
    expected = predicted(predictor)
    for folder in entry_folders(predictor / "models"):
        rewrite_entry(folder)
    change_wiring(predictor, lambda wiring: None)
    assert predicted(predictor) == expected == (finished / "runs" / "run" / "submission.csv").read_bytes()
    for folder in entry_folders(predictor / "models"):
        change_recipe(predictor, folder, lambda recipe: recipe.update(seed=5))
        break
    reseal(predictor)
    assert predicted(predictor) == expected


def test_code_beside_a_received_run_is_not_imported(predictor: Path, canary: Any) -> None:
    """The folder of code that a predictor names counts under --trust-code alone."""
    change_wiring(predictor, lambda wiring: wiring.update(code="."))
    for name in ("numpy", "torch", "skops", "stackfeat", "lightgbm"):
        (predictor.parent / f"{name}.py").write_text(canary.python)
    predicted(predictor)


def test_arrays_of_absurd_size_are_refused_at_once(predictor: Path, canary: Any) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + np.zeros(8).tobytes()
    folder = next(
        f
        for f in entry_folders(predictor / "models")
        if any(n.endswith(".npy") for n in manifest_of(f)["files"])
    )
    names = [name for name in manifest_of(folder)["files"] if name.endswith(".npy")]
    rewrite_entry(folder, dict.fromkeys(names, data))
    reseal(predictor)
    with pytest.raises(StackfeatError, match="its header says"):
        predicted(predictor)
