"""doctor: it finds what can be imported, whatever distribution brought it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackfeat.cli import inspect
from stackfeat.cli.inspect import examine_environment


def line_of(name: str) -> str:
    (found,) = re.findall(rf"^  {re.escape(name)} +(.*)$", str(examine_environment()), re.MULTILINE)
    return str(found)


def test_every_package_that_is_needed_is_found_here() -> None:
    said = str(examine_environment())
    assert "MISSING" not in said and "all that is needed is here" in said
    for name in inspect._CORE:
        assert re.match(r"\d", line_of(name)), name


@pytest.mark.parametrize(
    ("name", "module", "distribution"),
    [
        ("xgboost", "quick_a", "xgboost-cpu"),
        ("pillow", "quick_b", "pillow-simd"),
        ("pyarrow", "quick_c", "pyarrow-nightly"),
        ("catboost", "quick_d", "catboost-dev"),
    ],
)
def test_a_module_is_found_whatever_brought_it(
    name: str, module: str, distribution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / f"{distribution.replace('-', '_')}-9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.1\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n")
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    _, extra, use = inspect._OPTIONAL[name]
    # The usual distribution is not there: its name is one that nothing has.
    monkeypatch.setattr(inspect, "_OPTIONAL", {f"{name}-usual": (module, extra, use)})
    assert line_of(f"{name}-usual") == f"{'9.1':<14} {use}"


def test_a_distribution_whose_module_is_gone_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "_CORE", {"numpy": "numpy_that_is_gone"})
    monkeypatch.setattr(inspect, "_OPTIONAL", {"pandas": ("pandas_that_is_gone", "tables", "tables")})
    assert line_of("numpy") == "MISSING: pip install stackfeat"
    assert line_of("pandas") == "not installed  tables: pip install 'stackfeat[tables]'"
    assert str(examine_environment()).endswith("missing: numpy")


def test_a_cuda_torchvision_beside_a_cpu_torch_is_said() -> None:
    assert "built for CUDA" in (inspect._torchvision_trap("2.1+cpu", "0.16+cu121") or "")
    assert inspect._torchvision_trap("2.1+cpu", "0.16+cpu") is None
    assert inspect._torchvision_trap("2.1", None) is None
