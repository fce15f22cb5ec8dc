"""Rows are read again among others: nets that move only rare rows are noticed, others are read as ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stackfeat.errors import TapError
from stackfeat.layers.extraction.extract import extract, read_rows
from stackfeat.layers.extraction.reread import MOST_ROWS, Reread, count_apart
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.outputs import output_rows

N_ROWS = 400


class Rare(nn.Module):
    """Moves rows of a rare kind, and puts them back at the end."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(5, 2)
        self.move, self.n_rows = move, 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_rows += len(x)
        order = self.move(x)
        hidden = self.inner(self.before(x)[order])
        return self.out(hidden[torch.argsort(order)])


def behind(is_moved: Tensor) -> Tensor:
    return torch.argsort(is_moved.int(), stable=True)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "large": lambda x: behind(x[:, 0] > 1.5),
    "larger": lambda x: behind(x[:, 0] > 2.2),
    "missing": lambda x: behind(x.isnan().any(1)),
    "a code": lambda x: behind((x[:, 3] * 20).round() == 7),
    "to the front": lambda x: behind(~((x[:, 1] > 1.7) & (x[:, 2] > 0))),
    "sorted where there are any": lambda x: (
        torch.argsort(x[:, 1]) if (x[:, 0] > 2).any() else torch.arange(len(x))
    ),
}


def rows(n_rows: int = N_ROWS) -> Tensor:
    x = torch.randn(n_rows, 4, generator=torch.Generator().manual_seed(5))
    x[::37, 2] = float("nan")
    return x


@pytest.mark.parametrize("size", [16, 64, "auto"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_net_that_moves_rare_rows_is_refused_and_read_row_by_row(
    kind: str, size: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net, x = Rare(KINDS[kind]), rows()
    if kind != "missing":
        x = x.nan_to_num(0.3)
    truth = {"inner": net.inner(net.before(x)).detach().numpy(), "before": net.before(x).detach().numpy()}
    for inputs in (x, DataLoader(TensorDataset(x), batch_size=7)):
        for out in (None, tmp_path):
            with pytest.raises(TapError, match=r"'inner'.*(reorders|moves rows)"):
                extract(net, inputs, ["before", "inner"], batch_size=size, out=out)
    assert not list(tmp_path.glob("*"))
    assert extract(net, x, "before", batch_size=size)["before"] == pytest.approx(
        truth["before"], abs=1e-5, nan_ok=True
    )
    assert extract(net, x, "inner", batch_size=1)["inner"] == pytest.approx(
        truth["inner"], abs=1e-5, nan_ok=True
    )


def test_an_output_that_moves_with_rare_rows_is_refused_too() -> None:
    class Unsorted(Rare):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.inner(self.before(x)[self.move(x)]))

    x = rows().nan_to_num(0.3)
    with pytest.raises(TapError, match="at the output for"):
        read_rows(Unsorted(KINDS["large"]).eval(), [x], {}, device=torch.device("cpu"), output=output_rows)
    output, _ = read_rows(
        Rare(KINDS["large"]).eval(), [x], {}, device=torch.device("cpu"), output=output_rows
    )
    assert output is not None
    assert output.shape == (N_ROWS, 2)


@pytest.mark.parametrize("n_rows", [1, 2, 15, 17, 400, 5000])
def test_few_rows_are_read_twice_and_the_values_are_those_of_the_first_time(n_rows: int) -> None:
    net, x = Rare(lambda x: torch.arange(len(x))), rows(n_rows).nan_to_num(0.3)
    extract(net, x, "inner", batch_size=64)
    net.n_rows = 0
    got = extract(net, x, "inner", batch_size=64)["inner"]  # the plan is there: no dry run
    assert got == pytest.approx(net.inner(net.before(x)).detach().numpy(), abs=1e-5)
    assert net.n_rows <= -(-n_rows // 64) * 64 + min(MOST_ROWS, n_rows)


@pytest.mark.parametrize("n_rows", [7, 16, 100, 999, 3_200, 100_000])
@pytest.mark.parametrize("size", [7, 16, 64, 1000])
def test_the_rows_are_from_everywhere_and_no_place_in_a_batch_is_preferred(n_rows: int, size: int) -> None:
    seen: list[int] = []
    reread = Reread(n_rows, lambda columns: {"t": columns[0]})
    for start in range(0, n_rows, size):
        batch = torch.arange(start, min(start + size, n_rows))[:, None].float()
        reread.begin(start, [batch])
        seen += [start + place for place in reread.places]
        reread.take("t", batch)
        reread.end()
    reread.compare()
    assert len(set(seen)) == len(seen) <= MOST_ROWS
    assert len(seen) >= min(n_rows, 16)
    if n_rows > 64:
        assert min(seen) < n_rows / 8
        assert max(seen) > n_rows * 0.8
        assert len({row % size for row in seen}) > min(size, len(seen)) / 3


def test_rounding_and_what_flips_with_it_is_no_other_row() -> None:
    values = torch.randn(30, 200)
    noisy = values + 1e-5 * torch.randn_like(values)
    noisy[3, 7] += 0.2  # one value on the other side of a step
    assert count_apart(values, noisy, 1e-3) == 0
    assert count_apart(values, values.roll(1, 0), 1e-3) == 30
    swapped = values[[1, 0, *range(2, 30)]]
    assert count_apart(values, swapped, 1e-3) == 2
    assert count_apart(torch.ones(5, 3), torch.ones(5, 3), 1e-3) == 0
    assert count_apart(torch.full((5, 3), float("nan")), torch.full((5, 3), float("nan")), 1e-3) == 0


def test_a_net_that_rounds_inside_is_read() -> None:
    class Rounding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 300), nn.Linear(300, 20)

        def forward(self, x: Tensor) -> Tensor:
            return self.second((self.first(x) * 31).round() / 31)

    net, x = Rounding(), rows(2000).nan_to_num(0.3)
    assert extract(net, x, "second:input").get("second:input") is not None


def test_what_cannot_be_read_together_is_left_alone() -> None:
    """Batches of other lengths are compared each among themselves."""
    net = nn.GRU(3, 4, batch_first=True)
    batches = [torch.randn(6, 3 + i % 4, 3) for i in range(20)]
    loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    got = extract(nn.Sequential(net), loader, "0", batch_size=16)["0"]
    truth = torch.cat([net(batch)[0].mean(1) for batch in batches]).detach().numpy()
    assert np.asarray(got) == pytest.approx(truth, abs=1e-5)


def test_half_precision_is_no_movement() -> None:
    net, x = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 3)), rows().nan_to_num(0.3)
    for precision in ("bf16", "autocast"):
        assert extract(net, x, "2:input", precision=precision)["2:input"].shape == (N_ROWS, 64)
    assert read_rows(net.eval(), [x], {"a": Tap("1")}, device=torch.device("cpu"))[1]["a"].shape == (
        N_ROWS,
        64,
    )
