"""Arguments that are the same for all rows, and inputs that are one argument, against a loop written by hand."""

from __future__ import annotations

from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from stackfeat.errors import DataWarning, UsageError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.tap import Tap


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


class Scaled(nn.Module):
    """Takes arguments of many kinds, none of which has a row per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(
        self,
        scale: float,
        x: Tensor,
        table: Tensor | None = None,
        *,
        mode: str = "plain",
        options: Any = None,
    ) -> Tensor:
        hidden = self.fc(x) * scale
        if table is not None:
            hidden += table
        if mode == "twice":
            hidden = hidden * 2
        if options:
            hidden = hidden + options["shift"][0]
        return self.head(hidden)


def close(found: np.ndarray, expected: Tensor) -> bool:
    return bool(np.allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5))


@pytest.mark.parametrize(
    "constants",
    [
        {"scale": 5},
        {"scale": 0.5, "mode": "twice"},
        {"scale": 1, "table": torch.arange(4.0)},
        {"scale": torch.tensor(3.0)},
        {"scale": 2, "table": torch.randn(3, 4).double()[0]},
        {"scale": 2, "options": {"shift": [torch.ones(4)]}},
        {"scale": 2, "table": None, "options": None},
    ],
)
def test_constants_reach_forward_in_every_pass(constants: dict[str, Any]) -> None:
    net, x = Scaled().eval(), torch.randn(50, 4)
    given = {name: value.float() if isinstance(value, Tensor) else value for name, value in constants.items()}
    found = extract(net, x, ["head:input", "head"], batch_size=16, constants=constants)
    assert close(found["head"], net(x=x, **given))
    assert n_hooks(net) == 0


@pytest.mark.parametrize("n_rows", [2, 3, 8, 16, 40])
def test_a_constant_as_long_as_a_batch_is_no_column(n_rows: int) -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(n_rows, 2)

        def forward(self, x: Tensor, weights: Tensor) -> Tensor:
            return self.head(x[:, :1] * weights)

    net, x, weights = Weighted().eval(), torch.randn(n_rows, 4), torch.randn(n_rows)
    found = extract(net, x, "penultimate", batch_size=16, constants={"weights": weights})
    assert close(found["head:input"], x[:, :1] * weights)


def test_a_tensor_that_is_constant_is_not_taken_for_the_rows() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, *, attention_mask: Tensor, lengths: Tensor, x: Tensor) -> Tensor:
            return self.head(x * attention_mask + lengths.sum())

    net, x = Named().eval(), torch.randn(30, 6, 4)
    constants = {"attention_mask": torch.ones(6, 4), "lengths": torch.tensor([1, 2, 3])}
    found = extract(net, {"x": x}, "head", batch_size=16, constants=constants)
    assert close(found["head"], net(x=x, **constants).mean(1))


def test_constants_go_with_every_kind_of_inputs() -> None:
    net, x = Scaled().eval(), torch.randn(40, 4)
    expected = net(2.0, x)
    y = torch.zeros(40)
    for inputs in (
        x,
        x.numpy(),
        (x,),
        {"x": x},
        TensorDataset(x, y),
        DataLoader(TensorDataset(x, y), batch_size=7),
        DataLoader([{"x": row, "label": 0} for row in x], batch_size=7),  # type: ignore[arg-type]
    ):
        assert close(extract(net, inputs, "head", batch_size=16, constants={"scale": 2.0})["head"], expected)


def test_other_constants_are_other_features_and_one_net_is_read_with_both() -> None:
    net, x = Scaled().eval(), torch.randn(20, 4)
    for scale in (1, 2, 2.0, True, 1):
        assert close(extract(net, x, "head", constants={"scale": scale})["head"], net(scale, x))


def test_a_net_that_overwrites_a_constant_gets_it_anew() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return x + table.add_(1)

    net, x, table = Greedy(), torch.randn(64, 4), torch.zeros(4)
    assert close(extract(net, x, ":output", batch_size=16, constants={"table": table})[":output"], x + 1)
    assert not table.any()


def test_constants_are_part_of_what_files_were_made_of(tmp_path: Path) -> None:
    net, x = Scaled().eval(), torch.randn(40, 4)
    for table, is_new in ((torch.zeros(4), False), (torch.ones(4), True), (torch.ones(4), False)):
        constants = {"scale": 1, "table": table, "options": {"shift": [1.0]}}
        with pytest.warns(DataWarning, match="constants changed") if is_new else nullcontext():
            found = extract(net, x, "head", batch_size=16, out=tmp_path, constants=constants)
        assert close(found["head"], net(1, x, table, options={"shift": [1.0]}))


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"scal": 5}, "constants must be arguments of Scaled.forward .* Did you mean 'scale'"),
        ({"scale": 5, "x": 3}, "got 'x' in the inputs and in constants"),
        ([("scale", 5)], "constants must be a dict .* got list"),
    ],
)
def test_constants_that_make_no_sense_are_refused(constants: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        extract(Scaled(), {"x": torch.randn(5, 4)}, "head", constants=constants)


def test_more_inputs_than_constants_leave_room_for_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(UsageError, match="got 2 inputs for 1 arguments"):
        extract(Two(), (torch.randn(5, 4), torch.randn(5, 4)), ":output", constants={"y": 1})


def test_a_number_among_inputs_says_where_it_belongs() -> None:
    with pytest.raises(UsageError, match="same for all rows belongs in constants"):
        extract(Scaled(), {"x": torch.randn(5, 4), "scale": 5}, "head")


Pair = namedtuple("Pair", ["left", "right"])


class Batch(nn.Module):
    """Takes one dict, list or tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 3), nn.Linear(5, 2)

    def forward(self, batch: Any, scale: float = 1.0) -> Tensor:
        image, more = (batch["image"], batch["more"]) if isinstance(batch, dict) else batch
        extra = more["extra"] if isinstance(more, dict) else more
        return self.head(torch.cat([self.fc(image) * scale, extra], 1))


@pytest.mark.parametrize(
    "made",
    [
        lambda x, y: {"image": x, "more": y},
        lambda x, y: {"image": x.numpy(), "more": {"extra": y, "size": 32, "name": "text", "none": None}},
        lambda x, y: [x, y],
        lambda x, y: (x, {"extra": y.numpy()}),
        lambda x, y: Pair(x, y),
        lambda x, y: TensorDataset(x, y),
        lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7),
        lambda x, y: DataLoader(Items(x, y), batch_size=9),
        lambda x, y: Items(x, y),
    ],
)
def test_a_dict_list_or_batch_is_one_argument(made: Any) -> None:
    net, x, y = Batch().eval(), torch.randn(50, 4), torch.randn(50, 2)
    expected = torch.cat([net.fc(x), y], 1)
    found = extract(net, made(x, y), "penultimate", batch_size=16, unpack=False)
    assert close(found["head:input"], expected)
    assert close(
        extract(net, made(x, y), "head", batch_size=16, unpack=False, constants={"scale": 3.0})["head"],
        net((x, y), 3.0),
    )


class Items(Dataset[Any]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return {"image": self.x[i], "more": {"extra": self.y[i]}}


def test_an_array_is_one_argument_in_any_case() -> None:
    net, x = nn.Linear(4, 2), torch.randn(20, 4)
    assert close(extract(net, x, ":output", unpack=False)[":output"], net(x))


def test_a_file_of_several_arrays_is_one_argument(tmp_path: Path) -> None:
    net, x, y = Batch().eval(), torch.randn(20, 4), torch.randn(20, 2)
    np.savez(tmp_path / "rows.npz", image=x.numpy(), more=y.numpy())
    assert close(extract(net, tmp_path / "rows.npz", "head", unpack=False)["head"], net((x, y)))


def test_rows_are_gone_on_with_and_other_values_beside_them_begin_anew(tmp_path: Path) -> None:
    class Sized(nn.Module):
        def forward(self, batch: Any) -> Tensor:
            return batch["x"] * batch["size"]

    x = torch.randn(40, 3)
    for size, is_new in ((2, False), (3, True), (3, False)):
        with pytest.warns(DataWarning, match="packed changed") if is_new else nullcontext():
            found = extract(
                Sized(), {"x": x, "size": size}, ":output", batch_size=16, unpack=False, out=tmp_path
            )
        assert close(found[":output"], x * size)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"size": 3}, "with arrays in it; got dict without one"),
        ({"x": torch.ones(5, 2), "y": torch.ones(4)}, "equally many rows"),
        (
            {"x": torch.ones(5, 2), "y": [1, 2, 3, 4, 5]},
            r"got a list of 5 values at \[y\], as many",
        ),
        ({"x": torch.ones(5, 2), "y": object()}, r"got object at \[y\]"),
        (
            DataLoader([{"x": torch.ones(2), "name": "a"}] * 3),  # type: ignore[arg-type,list-item]
            r"must be a tensor; got str at \[name\]\[0\]",
        ),
    ],
)
def test_inputs_that_hold_no_rows_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        extract(Batch(), inputs, ":output", unpack=False)


class Reserved(nn.Module):
    """Has arguments called like those of the readers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(
        self, x: Tensor, functions: float = 1.0, output_item: float = 1.0, constants: float = 1.0
    ) -> Any:
        return self.head(self.fc(x) * functions * output_item * constants)


def test_nets_with_arguments_of_the_readers_names_are_read() -> None:
    net, x = Reserved().eval(), torch.randn(6, 4)
    names = {"functions": 0.0, "output_item": 2.0}
    assert str(find_penultimate(net, x, example_kwargs={**names, "functions": 3.0})) == "head:input"
    table = list_layers(net, x, example_kwargs={"functions": 2.0}, functions=True)
    assert "mul()" in table.names
    found = extract(net, x, "head", constants={"functions": 2.0, "constants": 3.0})
    assert close(found["head"], net(x, 2.0, constants=3.0))
    assert list_layers(net, x, functions=False).names == ("fc", "head")


def test_constants_reach_a_net_that_calls_itself_only_from_outside() -> None:
    class Flips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor, is_outer: bool = True, scale: float = 1.0) -> Tensor:
            if is_outer:
                return (self(x, False) + self(x.flip(1), False)) * scale
            return self.fc(x) * scale

    net, x = Flips().eval(), torch.randn(20, 4)
    found = extract(net, x, [":output", Tap("fc", call=1)], constants={"scale": 3.0})
    assert close(found[":output"], (net.fc(x) + net.fc(x.flip(1))) * 3)
