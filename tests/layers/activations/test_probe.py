"""Rows keep their places: nets that sort, group or reverse them are noticed whatever the data are."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, TensorDataset

from stackfeat.errors import DataWarning, MemberError, TapError
from stackfeat.layers.activations.dry_run import DryRunReport, examine
from stackfeat.layers.activations.layout import is_close
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.activations.probe import (
    PROBE_ROWS,
    made_up,
    other_orders,
    probe_batches,
    sums_of_columns,
)
from stackfeat.layers.extraction.extract import extract, read_rows
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.tap import Tap, resolve_taps
from stackfeat.nets.outputs import check_rows_independent

N_ROWS, N_STEPS = 40, 8


def look(net: nn.Module, tap: str, *args: Tensor) -> DryRunReport:
    return examine(net.eval(), resolve_taps(net, tap), args)


def one_by_one(net: nn.Module, tap: str, *args: Tensor) -> np.ndarray:
    """The oracle: what a hook catches when a row is the whole batch."""
    rows = []
    for i in range(len(args[0])):
        with torch.no_grad(), tapped(net.eval(), tap) as caught:
            net(*(values[i : i + 1] for values in args))
        rows.append(caught[tap].reshape(1, -1))
    return torch.cat(rows).numpy()


class Moving(nn.Module):
    """Moves the rows by `move`, which gives their new order, does its work, and puts them back if asked to."""

    def __init__(self, move: Callable[[Tensor], Tensor], puts_back: bool = True) -> None:
        super().__init__()
        self.before, self.inner, self.after = nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(5, 2)
        self.move, self.puts_back = move, puts_back

    def forward(self, x: Tensor) -> Tensor:
        order = self.move(x)
        hidden = self.inner(self.before(x).tanh()[order]).tanh()
        return self.after(hidden[torch.argsort(order)] if self.puts_back else hidden)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "by a value": lambda x: torch.argsort(x[:, 1]),
    "by a value, descending": lambda x: torch.argsort(x[:, 3], descending=True),
    "by the sum": lambda x: torch.argsort(x.sum(1)),
    "by rounded values, with ties": lambda x: torch.argsort((2 * x[:, 0]).round(), stable=True),
    "by expert": lambda x: torch.argsort(
        (x @ torch.linspace(-1, 1, 12).reshape(4, 3)).argmax(1), stable=True
    ),
    "by a threshold": lambda x: torch.argsort((x[:, 2] > 0).int(), stable=True),
    "backwards": lambda x: torch.arange(len(x)).flip(0),
    "by one place": lambda x: torch.arange(len(x)).roll(1),
    "halves": lambda x: torch.arange(len(x)).roll(len(x) // 2),
    "neighbours": lambda x: torch.arange(len(x)) ^ (1 if len(x) % 2 == 0 else 0),
    "the largest to the front": lambda x: torch.argsort((x[:, 0] < x[:, 0].max()).int(), stable=True),
}


def data(kind: str) -> Tensor:
    rows = torch.randn(N_ROWS, 4, generator=torch.Generator().manual_seed(3))
    if kind == "sorted":
        return rows[torch.argsort(rows[:, 1])]
    if kind == "sorted backwards":
        return rows[torch.argsort(rows[:, 1], descending=True)]
    if kind == "alike at first":
        return torch.cat([rows[:1].expand(20, 4), rows[20:]])
    return rows.abs().round() if kind == "whole" else rows


@pytest.mark.parametrize("kind", ["any", "sorted", "sorted backwards", "alike at first", "whole"])
@pytest.mark.parametrize("name", MOVES)
def test_a_tap_inside_a_net_that_moves_its_rows_is_refused_and_outside_is_read(name: str, kind: str) -> None:
    torch.manual_seed(0)
    net, x = Moving(MOVES[name]), data(kind)
    if torch.equal(MOVES[name](x), torch.arange(N_ROWS)) and kind != "sorted":
        assert (name, kind) == ("by expert", "whole")  # all rows go to one of them
        return
    with pytest.raises(TapError, match="the net reorders its rows"):
        extract(net, x, "inner", batch_size=32)
    for tap in ("before", "after:input", "after"):
        got = extract(net, x, tap, batch_size=32)[tap]
        assert got == pytest.approx(one_by_one(net, tap, x), abs=1e-5)
    assert extract(net, x, "inner", batch_size=1)["inner"] == pytest.approx(
        one_by_one(net, "inner", x), abs=1e-5
    )
    assert look(net, "after", x).reordered == ()


@pytest.mark.parametrize("name", MOVES)
def test_an_output_that_is_not_put_back_is_refused_everywhere(name: str) -> None:
    torch.manual_seed(0)
    net, x = Moving(MOVES[name], puts_back=False), data("sorted")
    with pytest.raises(TapError, match="reorders its rows"):
        read_rows(net.eval(), [x], {"after": Tap("after")}, device=torch.device("cpu"))
    with pytest.raises(MemberError, match=r"reorders its rows.*put them back in order"):
        check_rows_independent(net, [x])
    assert "reorders its rows" in str(list_layers(net, x))
    check_rows_independent(Moving(MOVES[name]), [x])
    assert not list_layers(Moving(MOVES[name]), x).warning


class Tagger(nn.Module):
    """Sorts by length, packs by hand, and puts the rows back at the end."""

    def __init__(self, enforces: bool = True) -> None:
        super().__init__()
        self.rnn, self.drop, self.out = nn.LSTM(3, 6, batch_first=True), nn.Dropout(0.2), nn.Linear(6, 2)
        self.enforces = enforces

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        if not self.enforces:
            packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return self.out(self.drop(self.rnn(packed)[1][0][-1]))
        order = torch.argsort(lengths, descending=True)
        packed = pack_padded_sequence(steps[order], lengths[order].cpu(), batch_first=True)
        return self.out(self.drop(self.rnn(packed)[1][0][-1]))[torch.argsort(order)]


LENGTHS = {
    "any": torch.tensor([4, 8, 2, 6, 3, 7, 5, 8, 1] * 4),
    "the third sorts last": torch.tensor([8, 7, 1] + [6, 5, 4, 3, 2] * 5),
    "the longest first": torch.tensor([8, 8, 8, 7, 6, 5, 4, 3, 2, 1]),
    "the shortest first": torch.tensor([1, 2, 3, 4, 5, 6, 7, 8]),
    "all alike": torch.full((20,), 8),
    "alike but for one": torch.tensor([5] * 30 + [2] + [5] * 30),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_sorting_by_length_is_noticed_whichever_rows_come_first(name: str) -> None:
    torch.manual_seed(1)
    net, lengths = Tagger(), LENGTHS[name]
    steps = torch.randn(len(lengths), N_STEPS, 3)
    for tap in ("out:input", "rnn[1][0]", "rnn", "rnn:input", "out"):
        with pytest.raises(TapError, match="reorders its rows"):
            extract(net, (steps, lengths), tap, batch_size=16)
        with pytest.raises(TapError, match="reorders its rows"):
            extract(net, DataLoader(TensorDataset(steps, lengths), batch_size=5), tap)
    alone = extract(net, (steps, lengths), "out:input", batch_size=1)["out:input"]
    states = net.rnn(steps)[0]
    truth = states[torch.arange(len(lengths)), lengths - 1].detach().numpy()
    assert alone == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize("name", LENGTHS)
def test_a_packed_sequence_that_knows_its_order_is_read_in_the_order_of_the_rows(name: str) -> None:
    torch.manual_seed(1)
    net, lengths = Tagger(enforces=False), LENGTHS[name]
    steps = torch.randn(len(lengths), N_STEPS, 3)
    got = extract(net, (steps, lengths), ["rnn", "rnn[1][0]", "out:input", "rnn:input"], batch_size=16)
    states = net.rnn(steps)[0].detach()
    real = (torch.arange(N_STEPS)[None] < lengths[:, None])[:, :, None]
    means = (states * real).sum(1) / lengths[:, None]
    last = states[torch.arange(len(lengths)), lengths - 1].numpy()
    assert got["rnn"] == pytest.approx(means.numpy(), abs=1e-5)
    assert got["rnn[1][0]"] == pytest.approx(last, abs=1e-5)
    assert got["out:input"] == pytest.approx(last, abs=1e-5)
    assert got["rnn:input"] == pytest.approx(((steps * real).sum(1) / lengths[:, None]).numpy(), abs=1e-5)


class ByTokens(nn.Module):
    """Sorts texts by the number of their tokens that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.out = (
            nn.Embedding(30, 4, padding_idx=0),
            nn.Linear(4, 4),
            nn.Linear(4, 2),
        )

    def forward(self, ids: Tensor) -> Tensor:
        order = torch.argsort((ids != 0).sum(1), descending=True)
        hidden = self.inner(self.embed(ids[order]).mean(1))
        return self.out(hidden[torch.argsort(order)])


@pytest.mark.parametrize("shortest", [1, 3, N_STEPS])
def test_texts_sorted_by_their_tokens_are_noticed_where_all_are_as_long_too(shortest: int) -> None:
    torch.manual_seed(0)
    ids = torch.randint(1, 30, (20, N_STEPS))
    ids[torch.arange(N_STEPS)[None] >= torch.randint(shortest, N_STEPS + 1, (20, 1))] = 0
    net = ByTokens()
    with pytest.raises(TapError, match="reorders its rows"):
        extract(net, ids, "inner")
    assert extract(net, ids, "out")["out"] == pytest.approx(one_by_one(net, "out", ids), abs=1e-5)


class Routed(nn.Module):
    """Each step of each row goes to one of the experts, which get their steps side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.sorted, self.out = nn.Linear(4, 3), nn.Identity(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.flatten(0, 1)
        order = torch.argsort(self.gate(steps).argmax(1), stable=True)
        hidden = self.sorted(steps[order])[torch.argsort(order)]
        return self.out(hidden.view_as(x).mean(1))


def test_steps_that_are_grouped_by_expert_are_refused() -> None:
    torch.manual_seed(0)
    net, x = Routed(), torch.randn(20, 5, 4)
    with pytest.raises(TapError, match="reorders its rows"):
        extract(net, x, "sorted")
    assert extract(net, x, "out")["out"] == pytest.approx(one_by_one(net, "out", x), abs=1e-5)


def test_a_net_that_takes_sorted_rows_alone_is_read() -> None:
    class Enforcing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)

        def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(
                steps, lengths, batch_first=True
            )  # raises where rows are not sorted
            return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=N_STEPS)[0]

    net, lengths = Enforcing(), torch.arange(8, 0, -1).repeat_interleave(2)
    steps = torch.randn(len(lengths), N_STEPS, 3)
    got = extract(net, (steps, lengths), "rnn", batch_size=16)["rnn"]
    states = net.rnn(steps)[0].detach()
    real = (torch.arange(N_STEPS)[None] < lengths[:, None])[:, :, None]
    assert got == pytest.approx(((states * real).sum(1) / lengths[:, None]).numpy(), abs=1e-5)


def test_rows_that_influence_each_other_are_told_from_rows_that_move() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x - x.mean(0))

    net, x = Centred(), torch.randn(20, 4)
    report = look(net, "inner", x)
    assert report.influenced == ("inner", "output")
    assert report.reordered == ()
    with pytest.raises(TapError, match="rows influence each other"):
        extract(net, x, "inner")
    assert extract(net, x, "inner", batch_size=1)["inner"] == pytest.approx(np.zeros((20, 4)))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(nn.functional.dropout(self.before(x), 0.5))


def test_random_numbers_in_eval_mode_are_mentioned_where_they_are() -> None:
    net, x = Noisy(), torch.randn(20, 4)
    report = examine(net.eval(), resolve_taps(net, ["before", "after"]), (x,))
    assert report.random == ("after", "output")
    assert report.influenced == report.reordered == ()
    with pytest.warns(
        DataWarning, match=r"others for the same rows at 'after:input', 'after'.*random numbers"
    ):
        extract(net, x, ["before", "after:input", "after"])
    with pytest.warns(DataWarning, match="random numbers"):
        check_rows_independent(net, [x])
    assert "random numbers" in list_layers(net, x).warning


def test_without_random_numbers_nothing_is_mentioned(recwarn: pytest.WarningsRecorder) -> None:
    extract(Noisy(), torch.randn(20, 4), "before")
    extract(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train(), torch.randn(20, 4), "1")
    assert not [warning for warning in recwarn if issubclass(warning.category, DataWarning)]


def test_a_net_that_remembers_is_mentioned_too() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.n_passes = nn.Identity(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.n_passes += 1
            return self.layer(x * self.n_passes)

    with pytest.warns(DataWarning, match="keeps something between passes"):
        extract(Counting(), torch.randn(20, 4), "layer")


columns = st.sampled_from(
    ["float", "zeros", "codes", "flag", "lengths", "ids", "mask", "ones", "image", "bool"]
)


@settings(deadline=None, max_examples=60)
@given(columns, st.integers(1, 9), st.integers(0, 99))
def test_made_up_rows_differ_and_stay_between_what_was_seen(kind: str, n_rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Callable[[], Tensor]] = {
        "float": lambda: torch.randn(n_rows, 5, generator=generator),
        "zeros": lambda: torch.zeros(n_rows, 5),
        "codes": lambda: torch.randint(0, 6, (n_rows,), generator=generator),
        "flag": lambda: torch.randint(0, 2, (n_rows,), generator=generator),
        "lengths": lambda: torch.randint(9, 12, (n_rows,), generator=generator),
        "ids": lambda: torch.randint(1, 30, (n_rows, 12), generator=generator),
        "mask": lambda: torch.arange(12)[None] < torch.randint(1, 13, (n_rows, 1), generator=generator),
        "ones": lambda: torch.ones(n_rows, 12, dtype=torch.int64),
        "image": lambda: torch.randint(0, 256, (n_rows, 3, 4, 4), generator=generator, dtype=torch.uint8),
        "bool": lambda: torch.rand(n_rows, generator=generator) > 0.5,
    }
    values = made[kind]()
    rows = made_up(values, 7)
    assert rows.shape == (7, *values.shape[1:])
    assert rows.dtype == values.dtype
    if not values.is_floating_point():
        assert int(rows.min()) >= min(0, int(values.min()))
        assert int(rows.max()) <= int(values.max())
    if kind in ("float", "zeros", "lengths", "ids", "mask", "ones", "image"):
        assert len(torch.unique(rows, dim=0)) == 7
    if kind in ("mask", "ones", "ids"):
        assert len(torch.unique((rows != 0).sum(1))) == 7


def test_codes_never_leave_the_range_that_was_seen() -> None:
    """Above it a lookup fails, on a GPU for good."""
    for values in (
        torch.zeros(4, dtype=torch.int64),
        torch.zeros(4, 6, dtype=torch.int64),
        torch.full((3,), 2),
    ):
        assert int(made_up(values, 7).max()) <= int(values.max())
        assert int(made_up(values, 7).min()) >= 0


def test_rows_of_all_arguments_are_made_up_side_by_side_and_what_has_no_rows_stays() -> None:
    x, lengths, scale = torch.randn(3, 6, 2), torch.tensor([6, 6, 6]), torch.tensor([1.0, 2.0])
    ((args, kwargs), n_rows), (_, n_real) = probe_batches(((x, scale), {"lengths": lengths, "k": 4}), 3)
    assert n_rows == PROBE_ROWS
    assert n_real == 3
    assert torch.equal(args[0][:3], x)
    assert torch.equal(args[1], scale)
    assert kwargs["k"] == 4
    ends = (args[0] != 0).any(2).sum(1)
    assert torch.equal(ends[3:-1], kwargs["lengths"][3:-1])
    assert ends[-1] == 0  # a row of zeros, and the shortest


@pytest.mark.parametrize("n_rows", range(3, 9))
def test_other_orders_are_orders_that_no_fixed_move_goes_along_with(n_rows: int) -> None:
    orders = other_orders(n_rows)
    places = torch.arange(n_rows)
    assert all(sorted(order) == list(range(n_rows)) for order in orders)
    for move in (places.roll(1), places.roll(-1)):  # passes over two rows tell halves that change places
        assert any(not torch.equal(move[list(order)], torch.tensor(order)[move]) for order in orders)


def test_any_rows_and_any_arguments_of_the_examination_are_left_as_they_are() -> None:
    x, lengths = torch.randn(9, N_STEPS, 3), LENGTHS["any"][:9].clone()
    before: list[Any] = [x.clone(), lengths.clone()]
    examine(Tagger(), (), (x, lengths))
    assert torch.equal(x, before[0])
    assert torch.equal(lengths, before[1])


class PutBack(nn.Module):
    """Sorts, packs, pads, and puts the steps of every row back; the argument does not say that it has lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.back, self.out = nn.GRU(3, 6, batch_first=True), nn.Identity(), nn.Linear(6, 2)

    def forward(self, steps: Tensor, n: Tensor) -> Tensor:
        order = torch.argsort(n, descending=True)
        packed = pack_padded_sequence(steps[order], n[order], batch_first=True)
        hidden = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
        return self.out(self.back(hidden[torch.argsort(order)]).sum(1))


class Named(PutBack):
    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(steps, lengths)


@pytest.mark.parametrize("name", LENGTHS)
def test_padding_that_is_told_in_another_order_is_refused_and_the_callers_own_is_used(name: str) -> None:
    torch.manual_seed(1)
    net, lengths = PutBack(), LENGTHS[name]
    steps = torch.randn(len(lengths), N_STEPS, 3)
    longest = int(lengths.max())
    real = torch.arange(longest)[None] < lengths[:, None]
    truth = ((net.rnn(steps)[0][:, :longest] * real[:, :, None]).sum(1) / lengths[:, None]).detach().numpy()
    for pool in ("mean", "max", "last"):
        with pytest.raises(TapError, match="padding must be told in the order of the rows"):
            extract(net, (steps, lengths), "back", batch_size=16, pool=pool)
    got = extract(net, (steps, lengths), "back", batch_size=len(lengths), lengths=lengths)["back"]
    assert got == pytest.approx(truth, abs=1e-5)
    assert extract(net, (steps, lengths), "back", batch_size=1)["back"] == pytest.approx(truth, abs=1e-5)
    if longest < N_STEPS:
        return  # whatever the argument is called: it is about sequences of another number of steps
    named = Named()
    named.load_state_dict(net.state_dict())
    got = extract(named, (steps, lengths), "back", batch_size=len(lengths))["back"]
    assert got == pytest.approx(truth, abs=1e-5)
    assert extract(net, (steps, lengths), "out")["out"] == pytest.approx(
        net(steps, lengths).detach().numpy(), abs=1e-5
    )


class Wide(nn.Module):
    """Many layers of wide values."""

    def __init__(self, n_layers: int, n_columns: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Identity() for _ in range(n_layers)])
        self.n_columns, self.most_bytes = n_columns, 0

    def forward(self, x: Tensor) -> Tensor:
        value = x[:, :1].repeat(1, self.n_columns)
        for layer in self.layers:
            value = layer(value + x[:, 1:2])
        self.most_bytes = max(self.most_bytes, bytes_alive())
        return value[:, :2]


def bytes_alive() -> int:
    """How much memory all tensors of this process have."""
    memory: dict[int, int] = {}
    for thing in gc.get_objects():
        if type(thing) is Tensor and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            memory[storage.data_ptr()] = storage.nbytes()
    return sum(memory.values())


@pytest.mark.parametrize("pool", ["auto", "flatten"])
def test_all_layers_of_a_large_net_are_looked_at_in_little_memory(pool: str) -> None:
    n_layers, n_columns = 30, 100_000
    net, x = Wide(n_layers, n_columns).eval(), torch.randn(40, 4)
    reads = resolve_taps(net, "layers.*", pool=pool)  # type: ignore[arg-type]
    before = bytes_alive()
    with torch.no_grad():
        net(x[:PROBE_ROWS])
        alone, net.most_bytes = net.most_bytes - before, 0
        report = examine(net, reads, (x,))
    assert len(report.findings) == n_layers
    of_a_row = 4 * n_columns * n_layers
    assert net.most_bytes - before - alone < of_a_row  # of eight rows in three orders


def test_a_move_of_wide_rows_is_seen_in_some_of_their_columns() -> None:
    class Turned(Wide):
        def forward(self, x: Tensor) -> Tensor:
            return self.layers[0](x.repeat(1, 25_000).flip(0)).flip(0)

    report = look(Turned(1, 4), "layers.0", torch.randn(20, 4))
    assert report.reordered == ("layers.0",)


class Chained(nn.Module):
    """Recurrent layers of several widths, of which each is given the states of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(a, b, batch_first=True) for a, b in ((4, 6), (6, 5), (5, 3)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)[0]
        return x[:, -1]


class Halved(nn.Module):
    """Runs one layer on values of two widths."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.act(x)[:, :2] * 2)


def widths(*sizes: int) -> nn.Sequential:
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*(part for a, b in pairs for part in (nn.Linear(a, b), nn.ReLU())))


def convolutions() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3), nn.Flatten())


SEVERAL: dict[str, tuple[Callable[[], nn.Module], Any, tuple[int, ...], int]] = {
    "dense layers": (lambda: widths(4, 5, 3), Tap(type=nn.Linear, last=2), (4,), 8),
    "dense layers by a pattern": (lambda: widths(4, 5, 3), Tap("*", last=2), (4,), 6),
    "as many columns as rows": (lambda: widths(4, 8, 2), Tap(type=nn.Linear, last=2), (4,), 10),
    "columns as rows of two": (lambda: widths(4, 2, 8, 3), Tap(type=nn.Linear, last=3), (4,), 13),
    "convolutions": (convolutions, Tap(type=nn.Conv2d, last=2), (3, 8, 8), 7),
    "recurrent layers": (Chained, Tap(type=nn.GRU, last=2), (6, 4), 8),
    "all calls of one layer": (Halved, "act#all", (4,), 6),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_tap_takes_values_of_several_widths(kind: str) -> None:
    make, tap, shape, n_columns = SEVERAL[kind]
    net, x = make().eval(), torch.randn(20, *shape)
    (found,) = extract(net, x, tap).values()
    (alone,) = extract(net, x, tap, batch_size=1).values()
    assert found.shape == (20, n_columns)
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


class Partly(nn.Module):
    """Gives wide rows of which `change` makes others in a few columns."""

    def __init__(self, change: Callable[[Tensor], Tensor], n_columns: int = 5000) -> None:
        super().__init__()
        self.a, self.act, self.change = nn.Linear(4, n_columns), nn.Identity(), change

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.change(self.a(x)))


def last_ten(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda h: torch.cat([h[:, :-10], change(h[:, -10:])], 1)


FEW_COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {
    "without their mean": last_ten(lambda h: h - h.mean(0)),
    "by their largest": last_ten(lambda h: h / h.abs().amax(0)),
    "backwards": last_ten(lambda h: h.flip(0)),
    "one column": lambda h: torch.cat([h[:, :3], h[:, 3:4] - h[:, 3:4].mean(), h[:, 4:]], 1),
    "ranks": lambda h: torch.cat([(h[:, :-5] > 0).long(), h[:, -5:].argsort(0)], 1),
    "flags": lambda h: torch.cat([h[:, :-5] > 0, h[:, -5:] > h[:, -5:].mean(0)], 1),
    "complex": lambda h: torch.complex(h, last_ten(lambda part: part - part.mean(0))(h)),
}


@pytest.mark.parametrize("kind", FEW_COLUMNS)
def test_a_batch_that_shows_in_few_of_many_columns_is_seen(kind: str) -> None:
    torch.manual_seed(2)
    with pytest.raises(TapError):
        extract(Partly(FEW_COLUMNS[kind]), torch.randn(60, 4), "act")


KEPT_COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda h: h,
    "infinite": lambda h: h.masked_fill(h > 1, float("inf")).masked_fill(h < -1, float("-inf")),
    "missing": lambda h: h.masked_fill(h > 1, float("nan")),
    "half precision": lambda h: h.bfloat16(),
    "large": lambda h: torch.cat([h[:, :1] * 1e6, h[:, 1:]], 1),
    "whole": lambda h: (h * 1e3).long() << 40,
    "few units, all rows": lambda h: h.softmax(1),
    "images": lambda h: h.reshape(-1, 5, 25, 40).tanh(),
    "steps as rows": lambda h: h.reshape(-1, 2500),
}


@pytest.mark.parametrize("kind", KEPT_COLUMNS)
def test_wide_rows_that_depend_on_nothing_else_are_read(kind: str) -> None:
    torch.manual_seed(2)
    net, x = Partly(KEPT_COLUMNS[kind]), torch.randn(60, 4)
    report = look(net, "act", x)
    assert (report.influenced, report.reordered, report.random) == ((), (), ())


@pytest.mark.parametrize("n_sums", [4, 64])
def test_sums_of_columns_are_as_close_as_the_columns_and_no_closer(n_sums: int) -> None:
    rows = torch.randn(8, 20_000, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(8, 20_000, generator=torch.Generator().manual_seed(2))
    before = sums_of_columns(rows, n_sums)
    assert 0.1 < float(before.abs().mean()) < 10
    assert is_close(before, sums_of_columns(rows + 1e-5 * noise, n_sums))
    rows[:, 19_999] += 1
    assert not is_close(before, sums_of_columns(rows, n_sums))
