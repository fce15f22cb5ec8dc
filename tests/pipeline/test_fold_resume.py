"""A fold killed in its middle goes on inside the fold, and the run ends with the same bytes."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

Project = Any
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def net_config(config: dict[str, Any]) -> dict[str, Any]:
    config["levels"]["base"] = {
        "mlp": {
            "net": "mlp",
            "params": {"hidden": [8]},
            "train": {"epochs": 60, "batch_size": 16, "patience": 50, "ema": 0.9},
            "emit": ["proba", "penultimate"],
            "seeds": 2,
        }
    }
    config["levels"]["meta"]["gated"]["inputs"] = ["base/*/*"]
    config["folds"] = {"n": 2}
    return config


def wait_for_snapshot(process: Any, partial: Any, name: str) -> None:
    limit = time.monotonic() + 600
    while not list(partial.glob(f"*/{name}")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < limit, "no snapshot"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["net.0.inner", "net.0.all", "net.1.inner"])
def test_a_run_killed_inside_a_fold_resumes_inside_it(
    name: str, build: Any, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (build(config=net_config(make_config())) for _ in range(2))
    assert whole.run().code == 0
    monkeypatch.setenv("STACKFEAT_SNAPSHOT_SECONDS", "0")
    process = killed.start("run", "c.yaml")
    partial = killed.folder / ".stackfeat" / "partial"
    wait_for_snapshot(process, partial, name)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=600)
    assert list(partial.glob("*/net.*"))
    said = killed.run()
    assert said.code == 0, said.err
    assert "resumed after epoch" in (killed.run_folder / "run.log").read_text()
    assert killed.outputs() == whole.outputs()
    assert not list(partial.iterdir()), "snapshots of finished jobs are removed"


def test_a_fold_interrupted_in_one_process_resumes_inside_it(
    build: Any, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.nets.training import loop

    config = net_config(make_config())
    config["levels"]["base"]["mlp"] |= {"train": {"epochs": 6, "batch_size": 64}, "seeds": 1}
    whole, killed = (build(config=config) for _ in range(2))
    assert whole.run().code == 0
    monkeypatch.setenv("STACKFEAT_SNAPSHOT_SECONDS", "0")
    epochs: list[int] = []
    run_epoch = loop.TrainingLoop.run_epoch

    def counted(self: Any) -> float:
        if len(epochs) == 4:
            raise KeyboardInterrupt
        epochs.append(1)
        return run_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "run_epoch", counted)
        assert killed.run().code == 130
        epochs.append(1)
        assert killed.run().code == 0
    assert len(epochs) == 5 + 2 + 6, "two epochs of the first fold were left, six of the second"
    assert killed.outputs() == whole.outputs()
