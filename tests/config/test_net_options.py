"""Nets in a config: what they declare is resolved, and what they need is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stackfeat.config import load_config
from stackfeat.config.load import config_from_dict
from stackfeat.config.run_config import dump_config
from stackfeat.errors import ConfigError


def config(net: str, **train: Any) -> dict[str, Any]:
    member = {"net": net, "train": train} if train else {"net": net}
    return {
        "task": "multiclass",
        "metric": "log_loss",
        "data": {"train": "sklearn:iris"},
        "levels": {"base": {"net": member}},
    }


def test_declared_options_stand_in_the_resolved_config_and_in_the_key(tmp_path: Path) -> None:
    loaded = config_from_dict(config("realmlp", epochs=9), tmp_path).config
    options: Any = loaded.levels["base"]["net"]
    assert (options.train.lr, options.train.epochs, options.train.schedule) == ("auto", 9, "coslog4")
    assert options.train.base_lr == options.recipe()["train"]["base_lr"] == 0.04
    (tmp_path / "c.yaml").write_text(dump_config(loaded))
    assert load_config(tmp_path / "c.yaml").config == loaded
    plain: Any = config_from_dict(config("mlp"), tmp_path).config.levels["base"]["net"]
    assert plain.train.base_lr == 0.005


def test_a_wrong_declaration_is_a_problem_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "my_odd_net.py").write_text("class Net:\n    train_defaults = {'lr': 'high'}\n")
    with pytest.raises(ConfigError, match=r"levels\.base\.net\.net: train_defaults of net 'my_odd_net:Net'"):
        config_from_dict(config("my_odd_net:Net"), tmp_path, trust_code=True)


def test_the_versions_of_a_nets_packages_are_in_its_key(tmp_path: Path) -> None:
    pytest.importorskip("tabm")
    loaded: Any = {
        name: config_from_dict(config(name), tmp_path).config.levels["base"]["net"]
        for name in ("tabm", "mlp")
    }
    assert {"tabm", "rtdl_num_embeddings", "torch"} <= set(loaded["tabm"].libraries())
    assert "tabm" not in loaded["mlp"].libraries()


def test_a_missing_package_is_found_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackfeat.members.net_options.find_module", lambda name, path: None)
    with pytest.raises(
        ConfigError, match=r'needs tabm and rtdl_num_embeddings.*pip install "stackfeat\[tabular\]"'
    ):
        config_from_dict(config("tabm"), tmp_path)
    config_from_dict(config("realmlp"), tmp_path)
