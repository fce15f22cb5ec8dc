"""The commands `extract` and `layers`: nets by name, weights checked, every format readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.cli import commands as cli
from stackfeat.layers.extraction.extract import extract

SOURCE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.fc(x)) * 1
"""


class Net(nn.Module):
    """The same net, to make weights and expected values."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x))


X = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cli_nets.py").write_text(SOURCE, "utf-8")
    torch.save(Net().state_dict(), tmp_path / "w.pt")
    np.save(tmp_path / "x.npy", X.numpy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Run the command line; return exit code, output and errors."""
    monkeypatch.setattr("sys.argv", ["stackfeat", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


EXTRACT = ("extract", "cli_nets:Net", "--weights", "w.pt", "--data", "x.npy", "-o", "out", "--trust-code")


def read(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        return np.load(path)["fc.1"]
    if path.suffix == ".mat":
        from scipy.io import loadmat

        return loadmat(path)["fc_1"]
    import pandas as pd

    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    assert list(frame) == ["f0", "f1", "f2", "f3", "f4"]
    return frame.to_numpy(dtype=np.float32)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("npy", "fc.1.npy"),
        ("npz", "features.npz"),
        ("mat", "features.mat"),
        ("parquet", "fc.1.parquet"),
        ("csv", "fc.1.csv"),
    ],
)
def test_every_format_holds_the_features(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, file: str
) -> None:
    code, out, err = call(monkeypatch, capsys, *EXTRACT, "--taps", "fc.1", "--taps", "head", "--format", kind)
    assert code == 0, err
    assert file in out
    expected = extract(Net(), X, "fc.1")["fc.1"]
    np.testing.assert_array_equal(read(folder / "out" / file), expected)
    assert not (folder / "out" / ".npy").exists()


def test_safetensors_prefixes_and_nested_dicts_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    state = Net().state_dict()
    save_file(state, folder / "w.safetensors")
    torch.save(
        {"epoch": 3, "state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}}, folder / "n.pt"
    )
    expected = extract(Net(), X)["head:input"]
    for name in ("w.safetensors", "n.pt"):
        code, _, err = call(monkeypatch, capsys, *EXTRACT, "--weights", name, "-o", f"out-{name}")
        assert code == 0, err
        np.testing.assert_array_equal(np.load(folder / f"out-{name}" / "head%3Ainput.npy"), expected)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--params", '{"width": 7}'), 2, r"of another shape: fc.0.weight \(5, 4\) instead of \(7, 4\)"),
        (("--params", '{"wide": 7}'), 2, r"must fit Net\(width: int = 5\)"),
        (("--params", "wide"), 2, "must be JSON"),
        (("--weights", "old.pt"), 2, r"missing: fc.0.bias; unexpected: fc.0.bais.*Did you mean 'fc.0.bias'"),
        (("--weights", "pickled.pt"), 2, "must hold tensors only"),
        (("--weights", "none.pt"), 2, "which is not there"),
        (("--data", "none.npy"), 2, "which is not there"),
        (("--taps", "fc.11"), 2, "fc.1"),
        (("--format", "xlsx"), 2, "--format must be one of npy"),
        (("--batch-size", "many"), 2, "--batch-size"),
        (("--data", "wide.npy"), 2, r"layer 'fc.0' \(Linear\), .*\(\d+, 5\); it takes 4 columns, not 5"),
        (("--data", "ids.npy"), 2, "its weights are float32: give float32, not int64"),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    state = Net().state_dict()
    torch.save({"fc.0.bais" if k == "fc.0.bias" else k: v for k, v in state.items()}, folder / "old.pt")
    torch.save(Net(), folder / "pickled.pt")
    np.save(folder / "wide.npy", np.zeros((30, 5), "f"))
    np.save(folder / "ids.npy", np.zeros((30, 4), np.int64))
    base = [
        word
        for i, word in enumerate(EXTRACT)
        if words[0] != "--data" or (EXTRACT[i - (i > 0)] != "--data" and word != "--data")
    ]
    found, _, err = call(monkeypatch, capsys, *base, *words)
    assert found == code
    import re

    assert re.search(message, err, re.DOTALL), err


def test_code_needs_trust(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(monkeypatch, capsys, *EXTRACT[:-1])
    assert code == 2
    assert "--trust-code" in err


def test_layers_of_a_class_are_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(monkeypatch, capsys, "layers", "cli_nets:Net", "--input", "2x4", "--trust-code")
    assert code == 0, err
    assert "fc.1" in out
    assert "ReLU" in out
    code, _, err = call(monkeypatch, capsys, "layers", "cli_nets:Net", "--trust-code")
    assert (code, "--input" in err) == (2, True)
    code, _, err = call(monkeypatch, capsys, "layers", "cli_nets:Net", "--input", "2x5", "--trust-code")
    assert (code, "layer 'fc.0' (Linear)" in err) == (2, True)


def test_functions_are_listed_and_extracted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["layers", "cli_nets:Net", "--input", "2x4", "--functions", "--trust-code"]
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines() if " function " in line] == ["mul()"]
    code, _, err = call(monkeypatch, capsys, *EXTRACT, "--taps", "mul()", "--taps", "head")
    assert code == 0, err
    made = [np.load(path) for path in sorted(folder.rglob("*.npy")) if path.stem in ("mul%28%29", "head")]
    assert len(made) == 2
    assert np.array_equal(*made)


def test_layers_of_a_config_member_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
    code, out, err = call(monkeypatch, capsys, "layers", str(config), "base/mlp_wide")
    assert code == 0, err
    assert "blocks.0.0" in out
    assert "head" in out
    code, _, err = call(monkeypatch, capsys, "layers", str(config), "mlp_wid")
    assert code == 2
    assert "Did you mean 'mlp_wide'?" in err
