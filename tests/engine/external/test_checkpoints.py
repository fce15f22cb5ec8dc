"""Nets that were trained elsewhere, by plain torch, as members: each row is met by the net that did not see it."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

Project = Any
Config = dict[str, Any]
N_ROWS, N_TEST, N_FOLDS = 120, 30, 3
CLASSES = ("high", "low", "mid")
CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_outputs, width=6):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(self.body(x))


class Pair(Net):
    def forward(self, x):
        inner = self.body(x)
        return inner, self.head(inner)


class Normed(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.head = nn.Linear(6, n_outputs)

    def forward(self, x):
        return self.head(self.backbone(x))
"""


def net(n_outputs: int = 3) -> nn.Module:
    """The same net as the user's class, written down once more."""
    body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
    return nn.Sequential(body, nn.Linear(6, n_outputs))


def named(module: nn.Module) -> dict[str, torch.Tensor]:
    """Its state dict under the names of the user's class."""
    names = {"0.": "body.", "1.": "head."}
    return {names[key[:2]] + key[2:]: value for key, value in module.state_dict().items()}


def train(X: np.ndarray, y: np.ndarray, seed: int, n_outputs: int = 3) -> nn.Module:
    """Train by plain torch, on the columns as they are in the file."""
    torch.manual_seed(seed)
    module, inputs, target = net(n_outputs), torch.tensor(X), torch.tensor(y)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), target).backward()
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Rows, folds of somebody else, and a net of each fold."""
    rng = np.random.default_rng(0)
    # Far from a standard normal, so that any scaling would be noticed.
    X = (rng.normal(size=(N_ROWS + N_TEST, 4)) * [1, 3, 0.2, 1] + [0, 5, 0, -1]).astype(np.float32)
    y = np.digitize(X[:, 0] + 0.3 * (X[:, 1] - 5), [-0.6, 0.6])
    codes = np.array([1, 2, 0])[y]  # low, mid, high in the order of their names
    fold_of = rng.permutation(np.arange(N_ROWS) % N_FOLDS)
    nets = [train(X[:N_ROWS][fold_of != k], codes[:N_ROWS][fold_of != k], k) for k in range(N_FOLDS)]
    return World(X, codes, fold_of, nets)


class World:
    def __init__(self, X: np.ndarray, codes: np.ndarray, fold_of: np.ndarray, nets: list[nn.Module]) -> None:
        self.X, self.codes, self.fold_of, self.nets = X, codes, fold_of, nets
        self.train_X, self.test_X = X[:N_ROWS], X[N_ROWS:]

    def read(self, fold: int, X: np.ndarray, layer: int | None = None) -> np.ndarray:
        """Probabilities, or what a layer of the body gives, by a hook of our own."""
        caught: list[torch.Tensor] = []
        module = self.nets[fold]
        hook = (
            None
            if layer is None
            else module[0][layer].register_forward_hook(lambda m, a, o: caught.append(o))
        )
        with torch.no_grad():
            output = module(torch.tensor(X)).softmax(1)
        if hook is not None:
            hook.remove()
        return (output if layer is None else caught[0]).double().numpy()


def write_rows(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def mine(world: World, build: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with the rows, the checkpoints, their folds, and a config that names them."""
    project = build()
    folder = project.folder
    columns = ["a", "b", "c", "d"]
    names = [CLASSES[code] for code in world.codes]
    ids = [f"r{i:03d}" for i in range(N_ROWS)]
    rows = [
        [ids[i], *map(repr, world.train_X[i].tolist()), int(world.fold_of[i]), names[i]]
        for i in range(N_ROWS)
    ]
    write_rows(folder / "train.csv", ["row_id", *columns, "fold", "label"], rows)
    write_rows(
        folder / "test.csv",
        ["row_id", *columns],
        [[f"t{i}", *map(repr, world.test_X[i].tolist())] for i in range(N_TEST)],
    )
    order = np.random.default_rng(1).permutation(N_ROWS)
    write_rows(folder / "mine.csv", ["id", "fold"], [[ids[i], int(world.fold_of[i])] for i in order])
    for fold, module in enumerate(world.nets):
        torch.save(named(module), folder / f"best_model{fold}.pt")
    (folder / "mynets.py").write_text(CODE)
    member = {
        "net": "mynets:Net",
        "weights": "best_model{fold}.pt",
        "folds": "mine.csv",
        "emit": ["proba", {"tap": "body.1", "encode": ["raw", "geometry", "aligned"]}],
    }
    project.write(
        {
            "task": "multiclass",
            "metric": "log_loss",
            "data": {
                "train": "train.csv",
                "test": "test.csv",
                "id": "row_id",
                "target": "label",
                "fold": "fold",
            },
            "folds": {"kind": "column"},
            "levels": {"base": {"old": member}},
            "executor": {"kind": "inline"},
        }
    )
    yield project
    for name in ("mynets",):
        sys.modules.pop(name, None)


def changed(project: Project, **options: Any) -> Project:
    """Change options of the member; None removes one."""
    config = project.config()
    member = {**config["levels"]["base"]["old"], **options}
    config["levels"]["base"]["old"] = {name: value for name, value in member.items() if value is not None}
    return project.write(config)


def with_folds(project: Project, **folds: Any) -> Project:
    """Take the given fold column away, and split as `folds` says."""
    config = project.config()
    config["data"] = {**config["data"], "fold": None, "drop": ["fold"]}
    config["folds"] = folds
    return project.write(config)


def run(project: Project, *more: str, code: int = 0) -> Any:
    said = project.run("--trust-code", *more)
    assert said.code == code, said.err
    return said


def proba(project: Project, part: str) -> np.ndarray:
    rows = read_rows(project.run_folder / part / "base.old.csv")
    return np.array([[float(row[name]) for name in CLASSES] for row in rows])


def stored(project: Project, fold: int, name: str, member: str = "base/old") -> tuple[np.ndarray, np.ndarray]:
    """A block's OOF rows and test rows of one fold, as they are in the store."""
    from stackfeat.config import load_config
    from stackfeat.pipeline.prepare import make_planner, open_store

    loaded = load_config(project.folder / "c.yaml", trust_code=True)
    store = open_store(loaded)
    plan = make_planner(loaded, store).plan()
    oof = plan.oof_places(f"{member}/{name}", 0)[fold]
    test = plan.view_place(f"{member}/{name}", 0, fold, "fold")
    assert oof is not None
    return tuple(store.read(key).array(array) for key, array in (oof, test))  # type: ignore[return-value]


def test_each_row_is_met_by_the_net_that_did_not_see_it(mine: Project, world: World) -> None:
    run(mine)
    oof, test = proba(mine, "oof"), proba(mine, "test")
    for fold in range(N_FOLDS):
        rows = np.flatnonzero(world.fold_of == fold)
        assert np.allclose(oof[rows], world.read(fold, world.train_X[rows]), atol=1e-6)
        features, views = stored(mine, fold, "body.1@raw")
        assert np.allclose(features, world.read(fold, world.train_X[rows], 1), atol=1e-6)
        assert np.allclose(views, world.read(fold, world.test_X, 1), atol=1e-6)
    mean = np.mean([world.read(fold, world.test_X) for fold in range(N_FOLDS)], axis=0)
    assert np.allclose(test, mean, atol=1e-6)
    assert mine.scores()["failed"] == []
    info = mine.scores()["members"]["base/old"]["reports"]["0/0"]
    assert info["epochs"] == [0] and info["loss"] == []


def test_later_rows_go_through_the_same_nets(mine: Project) -> None:
    run(mine)
    out = mine.folder / "out.csv"
    for name in mine.folder.glob("*.pt"):
        name.unlink()
    said = mine.cli("predict", mine.run_folder, mine.folder / "test.csv", "-o", out, "--trust-code")
    assert said.code == 0, said.err
    assert out.read_bytes() == (mine.run_folder / "submission.csv").read_bytes()


def test_another_byte_of_one_checkpoint_makes_one_fold_anew(mine: Project, fits: list[str]) -> None:
    run(mine)
    first = mine.outputs()
    fits.clear()
    run(mine)
    assert fits == [] and mine.outputs() == first
    state = torch.load(mine.folder / "best_model1.pt", weights_only=True)
    state["head.bias"] += 1.0
    torch.save(state, mine.folder / "best_model1.pt")
    run(mine)
    assert fits == ["mynets:Net"]
    (mine.folder / "best_model1.pt").rename(mine.folder / "again1.pt")
    for fold in (0, 2):
        (mine.folder / f"best_model{fold}.pt").rename(mine.folder / f"again{fold}.pt")
    run(changed(mine, weights="again{fold}.pt"))
    assert fits == ["mynets:Net"]


def test_checkpoints_without_folds_are_refused_with_the_reason(mine: Project) -> None:
    config = with_folds(changed(mine, folds=None), kind="stratified", n=3)
    said = run(config, code=2)
    assert "levels.base.old.weights: checkpoints of folds need to say which rows" in said.err
    assert "a net that was trained on label i" in said.err
    # With the folds in the training file nothing more is needed.
    config = mine.config()
    config["data"] = {**config["data"], "fold": "fold", "drop": []}
    config["folds"] = {"kind": "column"}
    run(mine.write(config))


def test_other_folds_hand_on_no_features(mine: Project) -> None:
    said = run(with_folds(mine, kind="stratified", n=3), code=3)
    assert re.search(
        r"base/old: the folds of checkpoints that hand on features must be the run's own; only \d+%", said.err
    )
    assert "emit: [proba]" in said.err


def test_folds_that_are_only_numbered_otherwise_are_told_apart(mine: Project) -> None:
    rows = read_rows(mine.folder / "mine.csv")
    write_rows(mine.folder / "mine.csv", ["id", "fold"], [[r["id"], (int(r["fold"]) + 1) % 3] for r in rows])
    assert "the folds are the same, but numbered otherwise" in run(mine, code=3).err


def test_predictions_of_other_folds_are_of_the_net_that_did_not_see_the_row(
    mine: Project, world: World
) -> None:
    project = with_folds(changed(mine, emit=["proba"]), kind="stratified", n=4)
    run(project)
    oof = proba(mine, "oof")
    for fold in range(N_FOLDS):
        rows = np.flatnonzero(world.fold_of == fold)
        assert np.allclose(oof[rows], world.read(fold, world.train_X[rows]), atol=1e-6)
    for view in range(4):
        assert np.allclose(stored(mine, view, "proba")[1], world.read(view % 3, world.test_X), atol=1e-6)
    assert any("base/old: checkpoints of other folds" in text for text in mine.scores()["warnings"])
    out = mine.folder / "out.csv"
    said = mine.cli("predict", mine.run_folder, mine.folder / "test.csv", "-o", out, "--trust-code")
    assert said.code == 0 and out.read_bytes() == (mine.run_folder / "submission.csv").read_bytes()


def test_a_leak_that_is_refused_would_have_shown(mine: Project, world: World) -> None:
    """Nets that saw the rows are surer of them; this is what the folds file is asked for."""
    honest = np.mean(
        [np.log(world.read(k, world.train_X)[i, world.codes[i]]) for i, k in enumerate(world.fold_of)]
    )
    others = [(k + 1) % N_FOLDS for k in world.fold_of]
    leaking = np.mean([np.log(world.read(k, world.train_X)[i, world.codes[i]]) for i, k in enumerate(others)])
    assert leaking > honest + 0.02
    rows = [[f"r{i:03d}", int(k)] for i, k in enumerate(others)]
    write_rows(mine.folder / "mine.csv", ["id", "fold"], rows)
    assert "must be the run's own" in run(mine, code=3).err


@pytest.mark.parametrize(
    "form", ["safetensors", "module.", "_orig_mod.", "model.", "nested", "state_key", "trainer"]
)
def test_checkpoints_are_found_in_many_forms(form: str, mine: Project, world: World) -> None:
    more: dict[str, Any] = {"emit": ["proba"]}
    for fold, module in enumerate(world.nets):
        state: dict[str, Any] = {key: value.clone() for key, value in named(module).items()}
        path = mine.folder / f"best_model{fold}.pt"
        if form.endswith("."):
            state = {form + key: value for key, value in state.items()}
        elif form == "nested":
            state = {"epoch": 3, "model_state_dict": state, "optimizer": {"lr": 0.1}}
        elif form == "state_key":
            state, more["state_key"] = {"ema": state, "model": {"x": torch.zeros(1)}}, "ema"
        elif form == "trainer":
            state = {"state_dict": {f"model.{key}": value for key, value in state.items()}, "n_averaged": 3}
        if form == "safetensors":
            path.unlink()
            save_file(state, path.with_suffix(".safetensors"))
            more["weights"] = "best_model{fold}.safetensors"
        else:
            torch.save(state, path)
    run(changed(mine, **more))
    rows = np.flatnonzero(world.fold_of == 1)
    assert np.allclose(proba(mine, "oof")[rows], world.read(1, world.train_X[rows]), atol=1e-6)


def test_counting_from_one_and_a_checkpoint_for_each_seed(mine: Project, world: World) -> None:
    for fold, module in enumerate(world.nets):
        torch.save(named(module), mine.folder / f"m{fold + 1}_s0.pt")
        torch.save(named(world.nets[(fold + 1) % 3]), mine.folder / f"m{fold + 1}_s1.pt")
    run(changed(mine, weights="m{fold1}_s{seed}.pt", seeds=2, emit=["proba"]))
    rows = np.flatnonzero(world.fold_of == 2)
    both = [world.read(fold, world.train_X[rows]) for fold in (2, 0)]
    assert np.allclose(proba(mine, "oof")[rows], np.mean(both, axis=0), atol=1e-6)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "renamed": (
        lambda s: {("haed.weight" if k == "head.weight" else k): v for k, v in s.items()},
        r"missing: head.weight; unexpected: haed.weight. Did you mean 'head.weight'\?",
    ),
    "shape": (
        lambda s: {**s, "head.weight": torch.zeros(5, 6), "head.bias": torch.zeros(5)},
        r"of another shape: head.weight \(5, 6\) instead of \(3, 6\)",
    ),
    "empty": (lambda s: {"epoch": 3}, "must hold a state dict"),
}


@pytest.mark.parametrize("what", WRONG)
def test_weights_that_do_not_fit_are_named(what: str, mine: Project) -> None:
    edit, message = WRONG[what]
    for fold in range(N_FOLDS):
        path = mine.folder / f"best_model{fold}.pt"
        torch.save(edit(torch.load(path, weights_only=True)), path)
    said = run(mine, code=1)
    assert re.search(message, said.err), said.err


def test_a_pickled_net_is_never_loaded(mine: Project, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.write_text, (tmp_path / "ran", "x"))

    for fold in range(N_FOLDS):
        torch.save({"state_dict": Bomb()}, mine.folder / f"best_model{fold}.pt")
    said = run(mine, code=1)
    assert "must hold tensors only" in said.err and not (tmp_path / "ran").exists()


def test_the_order_of_classes_is_told_or_suspected(mine: Project, world: World) -> None:
    order = [2, 0, 1]  # their columns: mid, high, low
    for fold in range(N_FOLDS):
        path = mine.folder / f"best_model{fold}.pt"
        state = torch.load(path, weights_only=True)
        torch.save(
            {**state, "head.weight": state["head.weight"][order], "head.bias": state["head.bias"][order]},
            path,
        )
    run(changed(mine, emit=["proba"]))
    (text,) = [text for text in mine.scores()["warnings"] if "order of classes" in text]
    assert text.startswith("base/old: ") and "[mid, high, low]" in text
    run(changed(mine, classes=["mid", "high", "low"]))
    rows = np.flatnonzero(world.fold_of == 0)
    assert np.allclose(proba(mine, "oof")[rows], world.read(0, world.train_X[rows]), atol=1e-6)
    assert not [text for text in mine.scores()["warnings"] if "order of classes" in text]
    said = run(changed(mine, classes=["mid", "hihg", "low"]), code=1)
    assert "got 'hihg'. Did you mean 'high'?" in said.err


def test_inputs_that_are_not_those_of_the_training_are_suspected(mine: Project) -> None:
    config = changed(mine, emit=["proba"]).config()
    config["data"]["inputs"] = {"table": {"columns": ["c", "d", "a", "b"]}}
    rng = np.random.default_rng(3)
    for name in ("train.csv", "test.csv"):
        rows = read_rows(mine.folder / name)
        for row in rows:
            row.update({column: repr(float(rng.normal() * 9)) for column in "abcd"})
        write_rows(mine.folder / name, list(rows[0]), [list(row.values()) for row in rows])
    run(mine.write(config))
    assert any("no better than a constant prediction" in text for text in mine.scores()["warnings"])


def test_another_item_of_the_output_is_read(mine: Project, world: World) -> None:
    run(changed(mine, net="mynets:Pair", output_item=1))
    rows = np.flatnonzero(world.fold_of == 0)
    assert np.allclose(proba(mine, "oof")[rows], world.read(0, world.train_X[rows]), atol=1e-6)
    assert np.allclose(stored(mine, 0, "body.1@raw")[0], world.read(0, world.train_X[rows], 1), atol=1e-6)
    said = run(changed(mine, output_item=2), code=1)
    assert "output_item must be in what Pair returns; got output_item=2, tuple of 2" in said.err


def test_a_frozen_net_gives_features_and_needs_no_folds(mine: Project, world: World) -> None:
    torch.save(named(net(1000)), mine.folder / "big.pt")
    state = torch.load(mine.folder / "big.pt", weights_only=True)
    member = {"net": "mynets:Net", "weights": "big.pt", "frozen": True, "params": {"n_outputs": 1000}}
    config = mine.config()
    config["levels"] = {
        "base": {"old": {**member, "emit": ["body.1"]}, "all": member},
        "meta": {"linear": {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": ["base/*/*"]}},
    }
    mine.write(config)
    run(with_folds(mine, kind="stratified", n=3))
    weight, bias = (state[f"body.0.{name}"].numpy() for name in ("weight", "bias"))
    from stackfeat.config import load_config
    from stackfeat.data.splits.folds import load_folds
    from stackfeat.pipeline.prepare import make_planner, open_store

    loaded = load_config(mine.folder / "c.yaml", trust_code=True)
    planner = make_planner(loaded, store := open_store(loaded))
    folds = load_folds(store.read(planner.recipes.folds.key))
    for fold in range(3):
        features, views = stored(mine, fold, "body.1@raw")
        held_out = folds.splits[0][fold][1]
        assert np.allclose(features, np.tanh(world.train_X[held_out] @ weight.T + bias), atol=1e-5)
        assert np.allclose(views, np.tanh(world.test_X @ weight.T + bias), atol=1e-5)
    names = [output.name for output in planner.graph().node("base/all").outputs]
    assert names == ["penultimate@raw", "penultimate@geometry"]
    assert not [text for text in mine.scores()["warnings"] if "share no columns" in text]
    assert set(mine.scores()["members"]) == {"meta/linear"}


def test_training_starts_from_the_checkpoint_of_the_fold(mine: Project, world: World) -> None:
    train_options = {"epochs": 1, "lr": 1e-9, "weight_decay": 0.0}
    run(changed(mine, train=train_options, emit=["proba"]))
    rows = np.flatnonzero(world.fold_of == 1)
    assert np.allclose(proba(mine, "oof")[rows], world.read(1, world.train_X[rows]), atol=1e-4)
    run(changed(mine, train={"epochs": 5, "lr": 0.01}))
    assert not np.allclose(proba(mine, "oof")[rows], world.read(1, world.train_X[rows]), atol=1e-2)


def test_the_run_folder_s_config_asks_for_the_same_again(mine: Project, fits: list[str]) -> None:
    run(mine)
    text = (mine.run_folder / "config.yaml").read_text()
    assert "weights: best_model{fold}.pt" in text and "epochs" not in text
    (mine.folder / "c.yaml").write_text(text)
    fits.clear()
    run(mine)
    assert fits == []


def state_of(project: Project, fold: int) -> dict[str, torch.Tensor]:
    """The weights that a fold ended with, from the store."""
    from stackfeat.config import load_config
    from stackfeat.nets.weights import unpack_state
    from stackfeat.pipeline.prepare import make_planner, open_store

    loaded = load_config(project.folder / "c.yaml", trust_code=True)
    store = open_store(loaded)
    key = make_planner(loaded, store).plan().fits["base/old", 0, fold]
    return unpack_state(store.read(key).bytes("net.0.safetensors"))[1]


def test_frozen_parts_stay_and_a_reset_head_is_learnt(mine: Project) -> None:
    torch.manual_seed(0)
    given = {"backbone.0": nn.Linear(4, 6), "backbone.1": nn.BatchNorm1d(6), "head": nn.Linear(6, 10)}
    state = {
        f"{name}.{key}": value for name, part in given.items() for key, value in part.state_dict().items()
    }
    torch.save(state, mine.folder / "pre.pt")
    options: dict[str, Any] = {
        "net": "mynets:Normed",
        "weights": "pre.pt",
        "folds": None,
        "emit": ["proba"],
        "train": {"epochs": 3, "lr": 0.05},
        "freeze": ["backbone.*"],
    }
    said = run(changed(mine, **options), code=1)
    assert "head.weight (10, 6) instead of (3, 6)" in said.err
    run(changed(mine, head="reset"))
    ended = state_of(mine, 0)
    for key, value in state.items():
        if key.startswith("backbone"):
            assert torch.equal(ended[key], value), key
    assert ended["head.weight"].shape == (3, 6)
    run(changed(mine, freeze=None))
    moved = state_of(mine, 0)
    assert not torch.equal(moved["backbone.0.weight"], state["backbone.0.weight"])
    assert not torch.equal(moved["backbone.1.running_mean"], state["backbone.1.running_mean"])
    said = run(changed(mine, freeze=["backbon.*"]), code=1)
    assert "freeze must name parameters of Normed" in said.err and "Did you mean 'backbone'?" in said.err
    said = run(changed(mine, freeze=["*"]), code=1)
    assert "freeze must leave something to train" in said.err


def test_parts_are_trained_at_rates_of_their_own(mine: Project) -> None:
    torch.manual_seed(0)
    start = named(net())
    torch.save(start, mine.folder / "pre.pt")
    options: dict[str, Any] = {"weights": "pre.pt", "folds": None, "emit": ["proba"]}
    options |= {"train": {"epochs": 1, "lr": 1e-3, "batch_size": 200, "weight_decay": 0.0, "clip_norm": None}}

    def moved(**more: Any) -> dict[str, float]:
        run(changed(mine, **options, **{"lrs": None, "lr_decay": None, **more}))
        return {key: float((value - start[key]).abs().max()) for key, value in state_of(mine, 0).items()}

    # The first step of Adam moves every weight by its learning rate.
    plain = moved()
    assert plain["head.weight"] == pytest.approx(1e-3, rel=0.05)
    decayed = moved(lr_decay=0.1)
    assert decayed["head.weight"] == pytest.approx(1e-3, rel=0.05)
    assert decayed["body.2.weight"] == pytest.approx(1e-4, rel=0.05)
    assert decayed["body.0.weight"] == pytest.approx(1e-5, rel=0.05)
    by_name = moved(lrs={"body.*": 0.5, "body.0": 2.0})
    assert by_name["body.2.weight"] == pytest.approx(5e-4, rel=0.05)
    assert by_name["body.0.weight"] == pytest.approx(2e-3, rel=0.05)


def test_categories_cannot_be_handed_on_as_they_are(mine: Project) -> None:
    for name in ("train.csv", "test.csv"):
        rows = read_rows(mine.folder / name)
        for i, row in enumerate(rows):
            row["d"] = "xyz"[i % 3]
        write_rows(mine.folder / name, list(rows[0]), [list(row.values()) for row in rows])
    said = run(mine, code=1)
    assert (
        "scaling: none hands columns on as they are, so they must be numbers; got the categories d"
        in said.err
    )


def test_missing_checkpoints_are_named_before_anything_is_computed(mine: Project, fits: list[str]) -> None:
    (mine.folder / "best_model2.pt").unlink()
    said = run(mine, code=3)
    assert "'best_model2.pt' is not there" in said.err and fits == []


def test_an_audit_does_not_prove_what_was_trained_elsewhere(mine: Project) -> None:
    run(mine)
    assert mine.cli("audit", mine.run_folder, "--no-null").code == 0
    blocks = json.loads((mine.run_folder / "audit.json").read_text())["provenance"]["blocks"]
    assert all(block["made_elsewhere"] and not block["proven"] for block in blocks.values())


def test_nets_trained_on_the_folds_of_a_run_join_it_repeat_by_repeat(mine: Project, world: World) -> None:
    config = with_folds(mine, kind="stratified", n=2, repeats=2).config()
    checkpoints = config["levels"]["base"].pop("old")
    config["levels"]["base"]["plain"] = {"estimator": "sklearn.linear_model.LogisticRegression"}
    run(mine.write(config))
    rows = read_rows(mine.run_folder / "folds.csv")
    (mine.folder / "mine.csv").write_bytes((mine.run_folder / "folds.csv").read_bytes())
    nets = {}
    for repeat in range(2):
        fold_of = np.array([int(row["fold"]) for row in rows if int(row["repeat"]) == repeat])
        for fold in range(2):
            seen = fold_of != fold
            nets[repeat, fold] = train(world.train_X[seen], world.codes[:N_ROWS][seen], 7)
            torch.save(named(nets[repeat, fold]), mine.folder / f"r{repeat}_f{fold}.pt")
    config["levels"]["base"]["old"] = {**checkpoints, "weights": "r{repeat}_f{fold}.pt"}
    run(mine.write(config))
    wanted = np.zeros((N_ROWS, 3))
    for repeat in range(2):
        fold_of = np.array([int(row["fold"]) for row in rows if int(row["repeat"]) == repeat])
        for i, fold in enumerate(fold_of):
            with torch.no_grad():
                wanted[i] += (
                    nets[repeat, int(fold)](torch.tensor(world.train_X[i : i + 1])).softmax(1)[0].numpy() / 2
                )
    assert np.allclose(proba(mine, "oof"), wanted, atol=1e-6)
    run(changed(mine, weights="r0_f{fold}.pt"), code=2)


def test_values_are_those_of_the_checkpoint(mine: Project, world: World) -> None:
    for name in ("train.csv", "test.csv"):
        listed = read_rows(mine.folder / name)
        for row in listed:
            row.pop("label", None)
            row |= {"price": str(100 + 5 * float(row["a"]))} if name == "train.csv" else {}
        write_rows(mine.folder / name, list(listed[0]), [list(row.values()) for row in listed])
    torch.manual_seed(0)
    nets = [net(1) for _ in range(N_FOLDS)]
    for fold, module in enumerate(nets):
        nn.init.constant_(module[1].bias, 100.0)
        torch.save(named(module), mine.folder / f"best_model{fold}.pt")
    config = changed(mine, emit=["prediction"]).config()
    config["data"]["target"] = "price"
    run(mine.write({**config, "task": "regression", "metric": "rmse"}))
    got = np.array([float(row["prediction"]) for row in read_rows(mine.run_folder / "oof" / "base.old.csv")])
    for fold, module in enumerate(nets):
        rows = np.flatnonzero(world.fold_of == fold)
        with torch.no_grad():
            assert np.allclose(got[rows], module(torch.tensor(world.train_X[rows]))[:, 0].numpy(), atol=1e-4)
