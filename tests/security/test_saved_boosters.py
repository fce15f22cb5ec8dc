"""Boosters are parsed by libraries of their own: what their files name is neither opened, written nor called."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.errors import StackfeatError
from stackfeat.store.skops_file import load_object, save_object

X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.arange(60) % 2


def lightgbm(bird: Any, **more: Any) -> Any:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y)
    model._other_params.update(more)
    for name, value in more.items():
        setattr(model, name, value)
    return model


def lightgbm_text(bird: Any) -> Any:
    """A model whose own text holds parameters that name files and machines."""
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y)
    text = model._Booster.model_to_string()
    hostile = (
        f"[output_model: {bird.path}]\n[output_result: {bird.path}]\n[input_model: {bird.path}]\n"
        f"[machines: 127.0.0.1:{bird.port}]\n[num_machines: 2]\n[local_listen_port: {bird.port}]\n"
        f"[machine_list_filename: {bird.path}]\n[config: {bird.path}]\n[snapshot_freq: 1]\n[save_binary: 1]\n"
    )
    assert "[" in text.partition("parameters:")[2]
    model._Booster.model_from_string(text.replace("parameters:\n", f"parameters:\n{hostile}", 1))
    return model


def catboost(bird: Any) -> Any:
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False).fit(X, Y)
    model._init_params |= {
        "train_dir": str(bird.path),
        "snapshot_file": str(bird.path),
        "save_snapshot": True,
        "allow_writing_files": True,
        "node_port": bird.port,
        "file_with_hosts": str(bird.path),
        "name": bird.shell,
    }
    return model


def xgboost(bird: Any) -> Any:
    from xgboost import XGBClassifier

    model = XGBClassifier(n_estimators=2).fit(X, Y)
    model.set_params(tree_method="hist", device="cpu")
    model.get_booster().set_attr(best_iteration="1", path=str(bird.path))
    model.kwargs = {
        "dask_master": f"127.0.0.1:{bird.port}",
        "config": str(bird.path),
        "dmlc_tracker_port": bird.port,
    }
    return model


MODELS: dict[str, Callable[[Any], Any]] = {
    "lightgbm, machines": lambda bird: lightgbm(
        bird, machines=f"127.0.0.1:{bird.port}", num_machines=2, local_listen_port=12400, time_out=1
    ),
    "lightgbm, files": lambda bird: lightgbm(
        bird,
        output_model=str(bird.path),
        output_result=str(bird.path),
        input_model=str(bird.path),
        forcedsplits_filename=str(bird.path),
        config=str(bird.path),
        convert_model=str(bird.path),
        task="convert_model",
    ),
    "lightgbm, text": lightgbm_text,
    "catboost": catboost,
    "xgboost": xgboost,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_booster_opens_and_calls_nothing(
    name: str, canary: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name.partition(",")[0])
    monkeypatch.chdir(tmp_path)
    try:
        data = save_object(MODELS[name](canary))
        before = sorted(tmp_path.rglob("*"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_object(data).predict_proba(X)
    except StackfeatError as error:
        assert "\n" not in str(error)
        return
    assert sorted(tmp_path.rglob("*")) == before, "predicting writes no file"
