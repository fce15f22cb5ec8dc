"""What goes wrong with hooks, one test per trap: nothing of it goes wrong with taps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.activations.dry_run import DryRunReport, examine
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.activations.masks import USER_LENGTHS, USER_MASK
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.activations.rows import RowReading
from stackfeat.layers.taps.extractor import Extractor
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import mark
from stackfeat.layers.taps.runtime import evaluating, plain_transformers
from stackfeat.layers.taps.tap import Tap, resolve_taps


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def rows_of(
    model: nn.Module, taps: Any, *args: Tensor, stop_early: bool = True, **kwargs: Any
) -> dict[str, Tensor]:
    """Pooled rows of one batch, as extraction reads them."""
    examination = examine(model, resolve_taps(model, taps), args, kwargs)
    examination.check()
    got: dict[str, Tensor] = {}

    def keep(key: str, rows: Tensor) -> None:
        got[key] = rows.clone()

    with (
        evaluating(model),
        plain_transformers(),
        torch.no_grad(),
        RowReading(model, examination, keep, stop_early=stop_early) as reading,
    ):
        reading.run(args, kwargs, n_rows=len(args[0] if args else next(iter(kwargs.values()))))
    return got


def look(model: nn.Module, taps: Any, *args: Any, **kwargs: Any) -> DryRunReport:
    return examine(model, resolve_taps(model, taps), args, kwargs)


class Encoder(nn.Module):
    def __init__(self, n_layers: int = 3, batch_first: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, n_layers)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        hidden = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        keep = ~padding[:, :, None]
        return self.head((hidden * keep).sum(1) / keep.sum(1))


def make_tokens() -> Tensor:
    tokens = torch.randint(1, 20, (5, 7), generator=torch.Generator().manual_seed(0))
    tokens[0, 3:] = 0
    tokens[2, 5:] = 0
    return tokens


ENCODER_TAPS = [
    "embedding",
    "encoder",
    "head:input",
    "encoder.layers.0",
    "encoder.layers.0.linear1",
    "encoder.layers.0.self_attn",
    "encoder.layers.1.norm2",
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_features_do_not_depend_on_which_layers_are_read(mode: Any, training: bool) -> None:
    net, tokens = Encoder().train(training), make_tokens()
    for part in net.modules():
        if isinstance(part, nn.Dropout | nn.MultiheadAttention):
            part.eval()
    with mode():
        with tapped(net, ENCODER_TAPS) as together:
            net(tokens)
        for tap in ENCODER_TAPS:
            with tapped(net, [tap]) as alone:
                net(tokens)
            assert torch.equal(alone[tap], together[tap])
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_padding_mask_makes_no_nested_tensors() -> None:
    net, tokens = Encoder().eval(), make_tokens()
    with torch.inference_mode(), tapped(net, ENCODER_TAPS) as caught:
        net(tokens)
    for key in set(ENCODER_TAPS) - {"head:input"}:
        assert not caught[key].is_nested
        assert caught[key].shape[:2] == (5, 7)
    with tapped(net, ["encoder"]) as with_gradients:
        net(tokens)
    assert torch.equal(with_gradients["encoder"], caught["encoder"]), "also where there is padding"
    assert caught["encoder"][0, 3:].abs().max() > 0


def test_nested_values_of_the_net_itself_become_padded() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, values: Tensor) -> Tensor:
            return self.fc(values)

    net, rows = Nested(), [torch.randn(2, 3), torch.randn(5, 3)]
    nested = torch.nested.nested_tensor(rows)
    with torch.no_grad(), tapped(net, ["fc"]) as caught:
        net(nested)
    assert caught["fc"].shape == (2, 5, 4)
    torch.testing.assert_close(caught["fc"][0, :2], net(rows[0]).detach())
    assert not caught["fc"][0, 2:].any()
    examination = look(net, ["fc"], nested)
    got: dict[str, Tensor] = {}
    with torch.no_grad(), RowReading(net, examination, got.__setitem__) as reading:
        reading.run((nested,), n_rows=2)
    torch.testing.assert_close(got["fc"], torch.stack([net(row).mean(0) for row in rows]).detach())


@pytest.mark.parametrize("tap", ["encoder.layers.1", "encoder.layers.0.linear1", "embedding", "encoder"])
@pytest.mark.parametrize("pool", ["auto", "max", "last", "cls"])
def test_pooling_leaves_padding_out(tap: str, pool: Any) -> None:
    net, tokens = Encoder().eval(), make_tokens()
    got = rows_of(net, [Tap(tap, pool=pool)], tokens)[tap]
    with tapped(net, [tap]) as caught:
        net(tokens)
    for row, codes, values in zip(got, tokens, caught[tap], strict=True):
        real = values[: int((codes != 0).sum())]
        expected = {"auto": real.mean(0), "max": real.amax(0), "last": real[-1], "cls": real[0]}[pool]
        torch.testing.assert_close(row, expected)


def test_a_tap_before_the_mask_is_known_waits_for_it_also_with_early_exit() -> None:
    net, tokens = Encoder().eval(), make_tokens()
    alone = rows_of(net, ["embedding"], tokens)["embedding"]
    whole = rows_of(net, ["embedding", "head"], tokens, stop_early=False)["embedding"]
    assert torch.equal(alone, whole)


def test_masks_and_lengths_that_the_net_is_given_are_used() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(
            self, x: Tensor, attention_mask: Tensor | None = None, lengths: Tensor | None = None
        ) -> Tensor:
            return self.fc(x).sum(1)

    net, x, lengths = Net(), torch.randn(3, 6, 3), torch.tensor([2, 6, 4])
    keep = torch.arange(6)[None] < lengths[:, None]
    expected = torch.stack([net.fc(x[i, : lengths[i]]).mean(0) for i in range(3)]).detach()
    torch.testing.assert_close(rows_of(net, "fc", x, attention_mask=keep.long())["fc"], expected)
    torch.testing.assert_close(rows_of(net, "fc", x, lengths=lengths)["fc"], expected)
    examination, got = look(net, "fc", x), dict[str, Tensor]()
    with (
        torch.no_grad(),
        RowReading(net, examination, lambda key, rows: got.update({key: rows.clone()})) as reading,
    ):
        reading.run((x,), {USER_MASK: keep}, n_rows=3)
        torch.testing.assert_close(got["fc"], expected)
        reading.run((x,), {USER_LENGTHS: lengths}, n_rows=3)
        torch.testing.assert_close(got["fc"], expected)
        reading.run((x,), n_rows=3)
        torch.testing.assert_close(got["fc"], net.fc(x).mean(1))


@pytest.mark.parametrize(
    "tap", ["encoder.layers.0.self_attn.out_proj", "encoder.layers.0.self_attn.out_proj:input"]
)
def test_the_projection_inside_attention_is_refused_and_the_attention_offered(tap: str) -> None:
    with (
        pytest.raises(TapError, match=r"never called.*'encoder.layers.0.self_attn\[0\]'"),
        tapped(Encoder(), [tap]),
    ):
        pass


def test_containers_are_refused_and_what_is_inside_offered() -> None:
    with (
        pytest.raises(TapError, match=r"container \(ModuleList\).*encoder.layers.0"),
        tapped(Encoder(), ["encoder.layers"]),
    ):
        pass


def test_attention_returns_a_tuple_and_perhaps_no_weights() -> None:
    net, tokens = Encoder().eval(), make_tokens()
    with tapped(net, ["encoder.layers.0.self_attn[0]", "encoder.layers.0.self_attn"]) as caught:
        net(tokens)
    assert torch.equal(caught["encoder.layers.0.self_attn[0]"], caught["encoder.layers.0.self_attn"])
    with tapped(net, ["encoder.layers.0.self_attn[1]"]), pytest.raises(TapError, match="got NoneType"):
        net(tokens)
    assert n_hooks(net) == 0


def test_in_place_layers_behind_or_at_a_tap_do_not_change_it() -> None:
    class AddInPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.fc(x))
            y += 100
            return y

    net, x = AddInPlace(), torch.randn(8, 4)
    expected = nn.functional.linear(x, net.fc.weight, net.fc.bias).detach()
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode(), tapped(net, ["fc", "act:input", "act"]) as caught:
            net(x)
        assert torch.equal(caught["fc"], expected)
        assert torch.equal(caught["act:input"], expected)
        assert torch.equal(caught["act"], expected.relu())
    assert torch.equal(rows_of(net, ["fc", "act:input", "act"], x, stop_early=False)["fc"], expected)


def test_shared_layers_have_all_their_names_and_the_table_says_which_is_first() -> None:
    shared = nn.Linear(2, 2)
    net = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = net

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["b"](self.parts["a"](x))

    model = Net()
    with tapped(model, ["parts.b.0#0", "parts.a#1", Tap(type=nn.Linear)]) as caught:
        model(torch.ones(1, 2))
    assert set(caught) == {"parts.b.0#0", "parts.a#1", "parts.a"}
    table = list_layers(model, torch.ones(1, 2))
    assert table["parts.a"].aliases == ("parts.b.0",)
    assert table["parts.b.0"].calls == 2


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fc(x) * 2)


def test_every_call_of_a_layer_can_be_read() -> None:
    net, x = Twice(), torch.randn(4, 3)
    first = net.fc(x).detach()
    with tapped(net, ["fc#all", "fc#0", "fc"]) as caught:
        net(x)
    assert torch.equal(caught["fc#0"], first)
    assert torch.equal(caught["fc#all"][0], first)
    assert torch.equal(caught["fc"], caught["fc#all"][1])
    got = rows_of(net, ["fc#all", "fc#0", "fc#-2", "fc"], x)
    assert got["fc#all"].shape == (4, 6)
    assert torch.equal(got["fc#-2"], got["fc#0"])


def test_a_call_that_does_not_exist_says_how_many_there_are() -> None:
    assert "ran 2 times" in str(look(Twice(), ["fc#5"], torch.randn(4, 3)).findings["fc#5"].problem)
    net = Twice()
    with tapped(net, ["fc#5"]) as caught:
        net(torch.randn(1, 3))
    with pytest.raises(TapError, match="got 2 calls"):
        caught["fc#5"]


class Silent(nn.Module):
    """Everything that hooks do not see."""

    def __init__(self) -> None:
        super().__init__()
        self.straight = nn.Linear(3, 3)
        self.used = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 3)
        self.fine = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.straight.forward(x)
        x = nn.functional.linear(x, self.used.weight, self.used.bias)
        return mark("rectified", nn.functional.relu(self.fine(x)))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("straight", r"ran through \.forward\(\)"),
        ("used", "its weights were used directly"),
        ("unused", "was not called in this forward pass"),
    ],
)
def test_a_layer_that_hooks_do_not_see_says_why(layer: str, reason: str) -> None:
    net, x = Silent(), torch.randn(2, 3)
    with pytest.raises(TapError, match=rf"(?s){reason}.*tap one that ran \(fine\)"):
        look(net, [layer], x).check()
    table = list_layers(net, x)
    assert layer not in table.names
    assert "forward" not in vars(net.straight)
    with tapped(net, [layer]) as caught:
        net(x)
    with pytest.raises(TapError, match=r"got no call.*list_layers"):
        caught[layer]


def test_functional_values_are_read_by_a_mark() -> None:
    net, x = Silent(), torch.randn(2, 3)
    assert list_layers(net, x)["rectified"].type == "mark"
    with tapped(net, ["rectified", "fine"]) as caught:
        net(x)
    assert torch.equal(caught["rectified"], caught["fine"].relu())
    assert torch.equal(rows_of(net, "rectified", x)["rectified"], caught["rectified"])
    assert "rectified" in str(look(net, ["no_mark"], x).findings["no_mark"].problem)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("way", ["whole", "in place", "part", "inner", "function around"])
def test_a_compiled_net_is_read_before_and_after_its_first_call(way: str, backend: str) -> None:
    """Code compiled without hooks never hears those that are set later."""
    torch.compiler.reset()
    net, x = Twice(), torch.randn(4, 3)
    expected = net(x).detach()
    model: nn.Module = net
    call: Any = net
    if way == "in place":
        net.compile(backend=backend)
    elif way == "function around":
        call = torch.compile(lambda values: net(values), backend=backend)
    else:
        call = torch.compile(net, backend=backend)
        model = net if way == "inner" else call
    if way == "part":
        model = call = nn.Sequential(call)
    fc = "0.fc" if way == "part" else "fc"
    for n_calls_before in (0, 2):
        for _ in range(n_calls_before):
            call(x)
        with tapped(model, [fc, f"{fc}#0", f"_orig_mod.{fc}"]) as caught:
            call(x)
        assert torch.equal(caught[fc], expected)
        assert torch.equal(caught[f"_orig_mod.{fc}"], expected)
        assert torch.equal(caught[f"{fc}#0"], net.fc(x).detach())
        # What was compiled for the values above must not be what the next calls find.
        torch.compiler.reset()
        call(x)
    assert fc in list_layers(model, x).names
    assert torch.equal(rows_of(model, fc, x)[fc], expected)


def test_a_mark_does_nothing_in_compiled_code() -> None:
    net, x = Silent(), torch.randn(2, 3)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))


def test_names_work_with_and_without_the_prefixes_of_wrappers() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2)
    for model in (net, nn.DataParallel(net), torch.optim.swa_utils.AveragedModel(net)):
        for name in ("0", "module.0", "_orig_mod.0", "module._orig_mod.0"):
            with tapped(model, [name]) as caught:
                model(x)
            assert torch.equal(caught[name], net[0](x).detach())


def test_a_layer_that_is_called_module_keeps_its_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    net = Net()
    with tapped(net, ["module"]) as caught:
        net(torch.ones(1, 2))
    assert caught["module"].shape == (1, 2)


def test_scripted_and_traced_nets_are_refused() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2)
    for scripted in (torch.jit.script(net), torch.jit.trace(net, x)):
        with pytest.raises(TapError, match="must not be scripted or traced"), tapped(scripted, ["0"]):
            pass
        with pytest.raises(TapError, match="must not be scripted"):
            list_layers(scripted, x)
        with pytest.raises(TapError, match="must not be scripted"):
            find_penultimate(scripted, x)
        with pytest.raises(TapError, match="is scripted"), tapped(nn.Sequential(scripted), ["0"]):
            pass
        assert list_layers(nn.Sequential(scripted), x).names == ()


def test_a_parallel_net_is_read_on_one_device() -> None:
    """With several replicas every hook would hear them all, and the last would win."""
    net = nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))
    net.device_ids = [0, 1]
    with tapped(net, ["0"]):
        assert net.device_ids == [0]
    with pytest.raises(KeyError), tapped(net, ["0"]):
        raise KeyError
    assert net.device_ids == [0, 1]


def test_a_copy_or_a_pickle_made_after_reading_has_no_hooks() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2)
    Extractor(net, ["0"])(x)
    with tapped(net, ["0"]):
        net(x)
    assert n_hooks(copy.deepcopy(net)) == 0
    assert n_hooks(pickle.loads(pickle.dumps(net))) == 0
    assert isinstance(pickle.loads(pickle.dumps(Extractor(net, ["0"]))), Extractor)


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        self.norm(mark("before", self.fc(x)))
        torch.rand(1)
        np.random.rand()  # noqa: NPY002
        raise OSError("no more")


@pytest.mark.parametrize(
    "use",
    [
        lambda net, x: Extractor(net, ["fc", "norm:input"])(x),
        lambda net, x: find_penultimate(net, x),
        lambda net, x: list_layers(net, x),
        lambda net, x: look(net, ["fc", "before"], x),
        lambda net, x: rows_of(net, ["fc"], x),
    ],
)
def test_hooks_are_gone_after_an_exception(use: Any) -> None:
    net = Failing()
    with pytest.raises((OSError, TapError)):
        use(net, torch.randn(3, 2))
    assert n_hooks(net) == 0
    assert torch.backends.mha.get_fastpath_enabled()
    assert "forward" not in vars(net.fc)


@pytest.mark.parametrize("fails", [False, True])
def test_dry_runs_leave_modes_statistics_gradients_and_generators_as_they_were(fails: bool) -> None:
    class Restless(Failing):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return super().forward(x)
            except OSError:
                if fails:
                    raise
                return self.fc(x)

    net, x = Restless().train(), torch.randn(3, 2)
    net.norm.eval()
    net.fc.weight.requires_grad_(False)
    flags = [part.training for part in net.modules()]
    state = {name: values.clone() for name, values in net.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for use in (find_penultimate, list_layers, lambda net, x: look(net, ["fc"], x)):
        try:
            use(net, x)
        except (OSError, TapError):
            assert fails
    assert [part.training for part in net.modules()] == flags
    assert [weight.requires_grad for weight in net.parameters()] == [False, True, True, True]
    assert all(weight.grad is None for weight in net.parameters())
    assert all(torch.equal(values, state[name]) for name, values in net.state_dict().items())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_statistics_taken_in_eval_mode_are_noticed() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            self.norm.train()
            return self.norm(self.fc(x))

    net, x = Own(), torch.randn(6, 3)
    examination = look(net, ["fc", "norm"], x)
    assert examination.influenced == ("norm", "output")
    with pytest.raises(TapError, match=r"rows influence each other.*batch_first"):
        examination.check()
    look(net, ["fc"], x).check()
    assert int(net.norm.num_batches_tracked) == 0


def test_attention_over_the_batch_is_noticed_and_batch_first_named() -> None:
    class Attentive(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=batch_first)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x).mean(1))

    for x in (torch.randn(8, 3, 4), torch.randn(1, 3, 4)):
        look(Attentive(True), ["layer", "head"], x).check()
        with pytest.raises(TapError, match=r"'layer', 'head'.*rows influence each other.*batch_first=True"):
            look(Attentive(False), ["layer", "head"], x).check()
        assert "batch_first" in list_layers(Attentive(False), x).warning


def test_a_net_that_draws_random_numbers_is_not_taken_for_one_whose_rows_mix() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x + torch.randn_like(x))

    examination = look(Noisy(), ["fc"], torch.randn(4, 2))
    assert examination.influenced == ()


def test_what_is_read_in_inference_mode_may_enter_autograd_later() -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    with torch.inference_mode(), tapped(net, ["0"]) as caught:
        net(torch.randn(2, 4))
    assert not caught["0"].is_inference()
    nn.Linear(3, 1)(caught["0"]).sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_in_float32(dtype: torch.dtype) -> None:
    net, x = nn.Sequential(nn.Linear(4, 3)).to(dtype), torch.randn(2, 5, 4).to(dtype)
    got = rows_of(net, "0", x)["0"]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, net(x).detach().float().mean(1))
    got.numpy()


def test_a_slice_does_not_keep_the_whole_alive() -> None:
    class Slicing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    net = nn.Sequential(Slicing())
    with tapped(net, ["0"]) as caught:
        net(torch.randn(4, 1000))
    assert caught["0"].untyped_storage().nbytes() == 16


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        padded, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.fc(padded)[:, 0]


def test_packed_sequences_become_rows_and_padding_is_left_out() -> None:
    net, x, lengths = Packed(), torch.randn(3, 6, 3), torch.tensor([2, 6, 4])
    with tapped(net, ["lstm", "lstm:input"]) as caught:
        net(x, lengths)
    assert caught["lstm"].shape == (3, 6, 4)
    assert caught["lstm:input"].shape == (3, 6, 3)
    got = rows_of(net, ["lstm", "fc", Tap("lstm", item=(1, 0), pool="flatten")], x, lengths)
    for i, n in enumerate(lengths):
        states = net.lstm(x[i : i + 1, :n])[0][0].detach()
        torch.testing.assert_close(got["lstm"][i], states.mean(0))
        torch.testing.assert_close(got["fc"][i], net.fc(states).mean(0).detach())
        torch.testing.assert_close(got["lstm[1][0]"][i], states[-1])


def test_layers_with_steps_first_give_rows() -> None:
    class StepsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x.transpose(0, 1))[0][-1])

    net, x = StepsFirst(), torch.randn(6, 5, 3)
    assert look(net, "lstm", x).findings["lstm"].layout.batch_axis == 1
    torch.testing.assert_close(
        rows_of(net, "lstm", x)["lstm"], net.lstm(x.transpose(0, 1))[0].mean(0).detach()
    )


@pytest.mark.parametrize("step_major", [False, True])
def test_steps_folded_into_the_batch_are_put_back_into_their_rows(step_major: bool) -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            steps = x.transpose(0, 1) if step_major else x
            values = self.fc(steps.reshape(-1, 3))
            return values.view(*steps.shape[:2], 4).mean(0 if step_major else 1)

    net, x = Folded(), torch.randn(6, 5, 3)
    torch.testing.assert_close(rows_of(net, "fc", x)["fc"], net.fc(x).mean(1).detach())


def test_values_without_a_row_per_sample_are_refused() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Embedding(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.position(torch.arange(7))

    with pytest.raises(TapError, match="no axis grows with the batch"):
        look(Positions(), ["position"], torch.randn(4, 7, 3)).check()


def test_channels_of_one_dimensional_convolutions_are_columns() -> None:
    net, x = nn.Sequential(nn.Conv1d(3, 4, 2), nn.ReLU()), torch.randn(5, 3, 9)
    torch.testing.assert_close(rows_of(net, ["0", "1"], x)["1"], net(x).mean(2).detach())


def test_channels_last_maps_are_pooled_over_space() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.permute(0, 2, 3, 1)).mean((1, 2))

    net, x = Last(), torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(rows_of(net, "norm", x)["norm"], net(x).detach())


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(6))
        self.n_run = 0

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            self.n_run += 1
            try:
                x = layer(x)
            except Exception:  # a net that catches everything must not catch the end of the pass
                raise AssertionError from None
        return x


def test_the_pass_ends_after_the_last_tap() -> None:
    net, x = Counting(), torch.randn(2, 3)
    examination = look(net, ["layers.0", "layers.2"], x)
    net.n_run = 0
    with torch.no_grad(), RowReading(net, examination, lambda key, rows: None) as reading:
        assert reading.run((x,), n_rows=2) is None
        assert net.n_run == 3
        reading.run((x,), n_rows=2)
        assert net.n_run == 6
    with torch.no_grad(), RowReading(net, examination, lambda key, rows: None, stop_early=False) as reading:
        assert torch.equal(reading.run((x,), n_rows=2), net(x))
    assert n_hooks(net) == 0


def test_a_layer_that_may_run_again_does_not_end_the_pass() -> None:
    assert not look(Twice(), ["fc"], torch.randn(2, 3)).stoppable
    assert look(Twice(), ["fc#0"], torch.randn(2, 3)).stoppable


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_are_heard_once(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.fc, x, use_reentrant=reentrant)

    net, x = Checkpointed(), torch.randn(2, 3, requires_grad=True)
    with tapped(net, ["fc#all"]) as caught:
        net(x).sum().backward()
    assert len(caught["fc#all"]) == 1


def test_lazy_layers_without_a_shape_are_refused() -> None:
    with pytest.raises(TapError, match="lazy layers 0"):
        list_layers(nn.Sequential(nn.LazyLinear(3)), torch.randn(2, 4))


def test_a_global_hook_is_not_needed_so_all_layers_are_seen() -> None:
    net, tokens = Encoder().eval(), make_tokens()
    with torch.inference_mode(), tapped(net, "**") as caught:
        net(tokens)
    assert set(caught) == set(list_layers(net, tokens).names)


def test_a_data_dependent_forward_is_read() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.left(x) if x.sum() > 0 else self.right(x)

    net = Branching()
    with tapped(net, ["left", "right"]) as caught:
        net(torch.ones(1, 2))
        assert set(caught) == {"left"}
        net(-torch.ones(1, 2))
        assert set(caught) == {"right"}


def test_unknown_names_are_errors_for_every_reader() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    for use in (
        lambda: tapped(net, ["x"]).__enter__(),
        lambda: Extractor(net, ["x"]),
        lambda: look(net, ["x"]),
    ):
        with pytest.raises(LayerNotFoundError, match="'x'"):
            use()


def test_a_gradient_is_no_feature() -> None:
    with pytest.raises(TapError, match=r"use stackfeat\.tapped"):
        look(nn.Sequential(nn.Linear(2, 2)), ["0:grad"], torch.ones(1, 2))
