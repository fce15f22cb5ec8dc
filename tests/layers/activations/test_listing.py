"""The table of layers, and the page about taps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.activations.listing import list_layers

PAGE = Path(__file__).resolve().parents[3] / "docs/taps.md"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:
        return {"logits": self.head(self.blocks[0](self.lstm(x)[0][:, -1])) * scale}


def test_the_table_has_shapes_calls_and_reasons() -> None:
    table = list_layers(Net(), torch.randn(2, 5, 3), scale=2.0)
    assert table.names == ("lstm", "blocks.0", "head")
    assert table["lstm"].outputs == "[(2, 5, 4), [(1, 2, 4), (1, 2, 4)]]"
    assert table["head"].inputs == "(2, 4)"
    assert (table["head"].dtype, table["head"].calls, table["head"].n_weights) == ("float32", 1, 10)
    assert "container (ModuleList)" in table["blocks"].problem
    assert table.warning == ""


def test_without_an_example_the_table_has_names_and_types() -> None:
    table = list_layers(Net())
    assert table.names == ("lstm", "blocks.0", "head")
    assert table["head"].calls is None
    assert "inputs" not in str(table).splitlines()[1]


def test_the_table_prints_and_becomes_a_frame() -> None:
    table = list_layers(Net(), torch.randn(2, 5, 3))
    lines = repr(table).splitlines()
    assert lines[0] == "Net: 3 of 4 can be tapped"
    assert len(lines) == 3 + len(table) == 3 + len(list(table))
    frame = table.to_frame()
    assert list(frame["name"]) == ["lstm", "blocks", "blocks.0", "head"]
    assert {"type", "inputs", "outputs", "dtype", "calls", "problem"} <= set(frame.columns)
    assert "<table" in table._repr_html_()


def test_a_wrong_name_and_a_wrong_example_say_what_is_right() -> None:
    with pytest.raises(LayerNotFoundError, match="Did you mean 'head'"):
        list_layers(Net())["heed"]
    with pytest.raises(TapError, match="must run on the example"):
        list_layers(Net(), torch.randn(2, 5, 7))


def test_an_example_without_rows_gives_a_table_too() -> None:
    table = list_layers(nn.Linear(3, 2), torch.zeros(0, 3))
    assert len(table) == 0 and not table.warning
    table = list_layers(nn.Sequential(nn.Linear(3, 2)), torch.zeros(0, 3))
    assert table["0"].outputs == "(0, 2)"


def test_what_the_page_shows_runs(capsys: Any) -> None:
    """Python blocks in one namespace; a text block is what the block before it prints."""
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"^```(python|text)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for language, text in blocks:
        if language == "python":
            capsys.readouterr()
            exec(compile(text, PAGE.name, "exec"), namespace)
        else:
            assert capsys.readouterr().out.split() == text.split()


def test_arguments_of_the_net_may_be_called_model() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor, model: int = 1, example: int = 1) -> Tensor:
            return super().forward(x[:, None].expand(-1, model * example, -1))

    table = list_layers(nn.Sequential(), torch.randn(2, 4))
    assert table.names == ()
    table = list_layers(Scaled(4, 5), torch.randn(2, 4), model=3, example=2, functions=True)
    assert table["linear()"].outputs == "(2, 6, 5)"
