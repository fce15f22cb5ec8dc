"""Masks of nets as people have them, against means by hand: each step is counted by the mask of its own sequence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stackfeat.errors import DataWarning, TapError
from stackfeat.layers.activations.masks import Kind, MaskRule, MaskWatch, says_padding, side_of
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.runtime import plain_transformers

transformers = pytest.importorskip("transformers")

N_ROWS, N_STEPS, N_WORDS = 40, 9, 50
GENERATOR = torch.Generator().manual_seed(3)
IDS = torch.randint(5, N_WORDS, (N_ROWS, N_STEPS), generator=GENERATOR)
OTHER_IDS = torch.randint(5, N_WORDS, (N_ROWS, N_STEPS), generator=GENERATOR)
LENGTHS = torch.randint(2, N_STEPS + 1, (N_ROWS,), generator=GENERATOR)
OTHER_LENGTHS = torch.randint(2, N_STEPS + 1, (N_ROWS,), generator=GENERATOR)
REAL = torch.arange(N_STEPS)[None] < LENGTHS[:, None]
OTHER_REAL = torch.arange(N_STEPS)[None] < OTHER_LENGTHS[:, None]
ALL = torch.ones_like(REAL)


def mean_by_hand(net: nn.Module, layer: str, inputs: dict[str, Tensor], real: Tensor) -> np.ndarray:
    """Return the mean of the real steps, one row after the other."""
    kept: list[Any] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _a, out: kept.append(out))
    with torch.no_grad(), plain_transformers():
        net.eval()(**inputs)
    handle.remove()
    value = kept[-1]
    while not isinstance(value, Tensor):
        value = value[0]
    return torch.stack([row[keep].mean(0) for row, keep in zip(value, real, strict=True)]).numpy()


def read(net: nn.Module, layer: str, inputs: dict[str, Tensor], **options: Any) -> np.ndarray:
    return extract(net, inputs, [layer], batch_size=16, **options)[layer]


def assert_mean(net: nn.Module, layer: str, inputs: dict[str, Tensor], real: Tensor) -> None:
    expected = mean_by_hand(net, layer, inputs, real)
    np.testing.assert_allclose(read(net, layer, inputs), expected, rtol=2e-4, atol=2e-5, err_msg=layer)


SIZES = {"vocab_size": N_WORDS, "pad_token_id": 0}
SMALL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 32} | {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("attention_heads", 2), ("ffn_dim", 20))
}


def bart() -> nn.Module:
    return transformers.BartModel(transformers.BartConfig(**SIZES, **SMALL))


def marian() -> nn.Module:
    return transformers.MarianModel(
        transformers.MarianConfig(**SIZES, **SMALL, decoder_start_token_id=0, decoder_vocab_size=N_WORDS)
    )


def t5() -> nn.Module:
    config = transformers.T5Config(
        **SIZES, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return transformers.T5Model(config)


PAIRS: dict[str, tuple[Callable[[], nn.Module], list[str], list[str]]] = {
    "bart": (
        bart,
        ["encoder.layers.0.fc1", "encoder"],
        ["decoder.layers.0.fc1", "decoder.layers.0", "decoder"],
    ),
    "marian": (marian, ["encoder.layers.0"], ["decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn"]),
    "t5": (t5, ["encoder.block.0", "encoder.final_layer_norm"], ["decoder.block.0.layer.2", "decoder"]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_steps_of_a_decoder_are_never_counted_by_the_mask_of_the_source(name: str) -> None:
    torch.manual_seed(0)
    make, encoder_layers, decoder_layers = PAIRS[name]
    net = make()
    source = {"input_ids": IDS, "attention_mask": REAL.long(), "decoder_input_ids": OTHER_IDS}
    both = {**source, "decoder_attention_mask": OTHER_REAL.long()}
    for layer in encoder_layers:
        assert_mean(net, layer, source, REAL)
        assert_mean(net, layer, both, REAL)
    for layer in decoder_layers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_mean(net, layer, source, ALL)
            assert_mean(net, layer, both, OTHER_REAL)


@pytest.mark.parametrize("name", PAIRS)
def test_the_output_of_an_encoder_decoder_is_of_the_target(name: str) -> None:
    torch.manual_seed(0)
    net = PAIRS[name][0]()
    source = {"input_ids": IDS, "attention_mask": REAL.long(), "decoder_input_ids": OTHER_IDS}
    both = {**source, "decoder_attention_mask": OTHER_REAL.long()}
    whole = nn.ModuleDict({"net": net})

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = whole["net"]
            self.head = nn.Linear(16, 3)

        def forward(self, **inputs: Tensor) -> Tensor:
            return self.head(2 * self.net(**inputs).last_hidden_state)

    around = Around()
    for layer in ("net", "head"):
        assert_mean(around, layer, both, OTHER_REAL)
        assert_mean(around, layer, source, ALL)


def test_what_a_decoder_looks_at_is_counted_by_the_mask_of_the_source() -> None:
    torch.manual_seed(0)
    net = bart()
    both = {
        "input_ids": IDS,
        "attention_mask": REAL.long(),
        "decoder_input_ids": OTHER_IDS,
        "decoder_attention_mask": OTHER_REAL.long(),
    }
    assert_mean(net, "decoder.layers.0.encoder_attn.k_proj", both, REAL)
    assert_mean(net, "decoder.layers.0.encoder_attn.q_proj", both, OTHER_REAL)
    assert_mean(net, "decoder.layers.0.encoder_attn.out_proj", both, OTHER_REAL)


def test_a_target_made_of_the_source_has_no_mask_and_a_warning_says_so() -> None:
    torch.manual_seed(0)
    net, inputs = bart(), {"input_ids": IDS, "attention_mask": REAL.long()}
    for layer in ("decoder.layers.0", "decoder"):
        with pytest.warns(DataWarning, match=rf"tap '{layer}'; got .*attention_mask of the net"):
            assert_mean(net, layer, inputs, ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert_mean(net, "encoder.layers.0", inputs, REAL)
        expected = mean_by_hand(net, "decoder", inputs, REAL)
        found = read(net, "decoder", inputs, mask=REAL)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_one_sequence_is_counted_by_its_mask_in_every_layer() -> None:
    torch.manual_seed(0)
    sizes = {
        **SIZES,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 20,
    }
    small = {**SIZES, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    bert = transformers.BertModel(transformers.BertConfig(**sizes, max_position_embeddings=32))
    gpt2 = transformers.GPT2Model(transformers.GPT2Config(**small, bos_token_id=1, eos_token_id=2))
    inputs = {"input_ids": IDS, "attention_mask": REAL.long()}
    for layer in ("embeddings", "encoder.layer.0.attention.self.query", "encoder.layer.1", "encoder"):
        assert_mean(bert, layer, inputs, REAL)
    for layer in ("wte", "h.0.attn.c_attn", "h.1", "ln_f"):
        assert_mean(gpt2, layer, inputs, REAL)


def test_a_decoder_of_one_sequence_that_looks_at_given_states_has_its_own_mask() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        **SIZES, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20
    )
    config.is_decoder, config.add_cross_attention = True, True
    inputs = {
        "input_ids": IDS,
        "encoder_hidden_states": torch.randn(N_ROWS, N_STEPS, 16, generator=GENERATOR),
        "encoder_attention_mask": REAL.long(),
    }
    net = transformers.BertModel(config)
    assert_mean(net, "encoder.layer.0.output", {**inputs, "attention_mask": OTHER_REAL.long()}, OTHER_REAL)
    assert_mean(net, "encoder.layer.0.output", inputs, ALL)


def test_pictures_beside_a_text_are_not_counted_by_its_mask() -> None:
    torch.manual_seed(0)

    class TextAndPicture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(N_WORDS, 8)
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.norm = nn.LayerNorm(8)

        def forward(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor) -> Tensor:
            text = self.words(input_ids)
            picture = self.norm(self.patches(pixel_values).flatten(2).transpose(1, 2))
            return (text * attention_mask[:, :, None]).mean(1) + picture.mean(1)

    inputs = {
        "input_ids": IDS,
        "pixel_values": torch.randn(N_ROWS, 3, 12, 12, generator=GENERATOR),  # nine patches, as many as words
        "attention_mask": REAL.long(),
    }
    assert_mean(TextAndPicture(), "norm", inputs, ALL)
    assert_mean(TextAndPicture(), "words", inputs, REAL)


class Translator(nn.Module):
    """An encoder-decoder of one's own, with lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(N_WORDS, 8)
        self.encoder = nn.LSTM(8, 8, batch_first=True)
        self.decoder = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(
        self, src: Tensor, tgt: Tensor, src_lengths: Tensor, tgt_lengths: Tensor | None = None
    ) -> Tensor:
        packed = pack_padded_sequence(self.words(src), src_lengths, batch_first=True, enforce_sorted=False)
        _, state = self.encoder(packed)
        values, _ = self.decoder(self.words(tgt), state)
        return self.head(values.relu())


def test_lengths_go_with_the_sequence_that_their_name_says() -> None:
    torch.manual_seed(0)
    net = Translator()
    inputs = {"src": IDS, "tgt": OTHER_IDS, "src_lengths": LENGTHS}
    assert_mean(net, "decoder", inputs, ALL)
    assert_mean(net, "head", inputs, ALL)
    inputs["tgt_lengths"] = OTHER_LENGTHS
    assert_mean(net, "decoder", inputs, OTHER_REAL)
    assert_mean(net, "head", inputs, OTHER_REAL)
    found = extract(net, inputs, {"first": "words#0", "second": "words#1"})
    for key, ids, real in (("first", IDS, REAL), ("second", OTHER_IDS, OTHER_REAL)):
        values = net.words(ids).detach()
        expected = torch.stack([row[keep].mean(0) for row, keep in zip(values, real, strict=True)])
        np.testing.assert_allclose(found[key], expected.numpy(), rtol=1e-5, atol=1e-6)


class Transformer(nn.Module):
    """torch's own encoder-decoder, with masks that are made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(N_WORDS, 8)
        self.net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(
        self, source: Tensor, target: Tensor, source_mask: Tensor, target_mask: Tensor | None = None
    ) -> Tensor:
        return self.net(
            self.words(source),
            self.words(target),
            src_key_padding_mask=source_mask,
            memory_key_padding_mask=source_mask,
            tgt_key_padding_mask=target_mask,
        )


def test_layers_of_torch_are_counted_by_what_they_are_given() -> None:
    torch.manual_seed(0)
    net = Transformer()
    inputs = {"source": IDS, "target": OTHER_IDS, "source_mask": ~REAL}
    both = {**inputs, "target_mask": ~OTHER_REAL}
    decoder = ("net.decoder.layers.0.linear1", "net.decoder.layers.0", "net.decoder", "net")
    for layer in ("net.encoder.layers.0.linear1", "net.encoder"):
        assert_mean(net, layer, inputs, REAL)
    for layer in decoder:
        assert_mean(net, layer, inputs, ALL)
        assert_mean(net, layer, both, OTHER_REAL)


class Captioner(nn.Module):
    """A decoder of words that looks at a picture: the mask of the net is that of the words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(N_WORDS, 8)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)

    def forward(self, memory: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        return self.decoder(self.words(words), memory)


class Autoencoder(nn.Module):
    """A decoder of what its encoder was given: the mask of the net is that of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(N_WORDS, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.decoder(self.words(x.flip(1)), self.encoder(self.words(x)))


def test_a_mask_without_a_side_is_that_of_the_sequence_which_becomes_shorter_with_it() -> None:
    torch.manual_seed(0)
    memory = torch.randn(N_ROWS, N_STEPS, 8, generator=GENERATOR)
    assert_mean(Captioner(), "decoder", {"memory": memory, "words": IDS, "lengths": LENGTHS}, REAL)
    with pytest.warns(DataWarning, match="lengths of the net, which may be about another sequence"):
        assert_mean(Autoencoder(), "decoder", {"x": IDS, "lengths": LENGTHS}, ALL)
    assert_mean(Autoencoder(), "encoder", {"x": IDS, "lengths": LENGTHS}, REAL)


class TwoTexts(nn.Module):
    """Two texts, each with an encoder of its own; what comes after belongs to both."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(N_WORDS, 8)
        self.left = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.right = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.join = nn.Linear(16, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        left = self.left(self.words(a), src_key_padding_mask=a == 0)
        right = self.right(self.words(b), src_key_padding_mask=b == 0)
        return self.join(torch.cat([left, right], dim=-1))


def test_two_masks_that_differ_are_no_mask_of_what_joins_their_sequences() -> None:
    torch.manual_seed(0)
    net = TwoTexts()
    inputs = {"a": IDS * REAL, "b": OTHER_IDS * OTHER_REAL}
    assert_mean(net, "left.linear1", inputs, REAL)
    assert_mean(net, "right.linear1", inputs, OTHER_REAL)
    with pytest.warns(DataWarning, match="src_key_padding_mask of left, .*src_key_padding_mask of right"):
        assert_mean(net, "join", inputs, ALL)
    assert_mean(net, "join", {"a": IDS * REAL, "b": OTHER_IDS * REAL}, REAL)


class Packed(nn.Module):
    """Packs its sequences, and pads them again to a given number of steps."""

    def __init__(self, total_length: int = N_STEPS) -> None:
        super().__init__()
        self.total_length = total_length
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=self.total_length)
        return self.out(states)


def test_packed_sequences_are_counted_by_their_lengths_after_they_are_padded_again() -> None:
    torch.manual_seed(0)
    x = torch.randn(N_ROWS, N_STEPS, 3, generator=GENERATOR)
    lengths = LENGTHS.clone()
    lengths[:2], lengths[16], lengths[32] = N_STEPS, N_STEPS, N_STEPS
    real = torch.arange(N_STEPS)[None] < lengths[:, None]
    assert_mean(Packed(), "out", {"x": x, "n": lengths}, real)


@pytest.mark.parametrize(
    ("name", "side", "says"),
    [
        ("attention_mask", None, True),
        ("encoder_attention_mask", "source", True),
        ("decoder_attention_mask", "target", True),
        ("src_key_padding_mask", "source", True),
        ("tgt_key_padding_mask", "target", True),
        ("memory_key_padding_mask", "source", True),
        ("src_lengths", "source", True),
        ("lengths", None, True),
        ("x_lengths", None, True),
        ("encoder_hidden_states", "source", False),
        ("memory", "source", False),
        ("decoder_input_ids", "target", False),
        ("input_ids", None, False),
        ("decay", None, False),
        ("source_of_light", "source", False),
        ("attn_mask", None, False),
    ],
)
def test_names_say_what_an_argument_is_about(name: str, side: str | None, says: bool) -> None:
    assert side_of(name) == side
    assert says_padding(name) == says


def test_a_call_is_a_decoder_only_where_it_was_given_another_sequence() -> None:
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    x = torch.randn(2, 3, 8)
    watch = MaskWatch(layer)
    watch.restart((x, x), {"tgt_key_padding_mask": torch.tensor([[False, True, True]] * 2)})
    assert watch.calls[""].kind is Kind.DECODER
    found = watch.find(MaskRule(), 2, 3)
    assert found is not None and found.tolist() == [[True, False, False]] * 2
    assert watch.find(MaskRule(), 2, 4) is None


class Choices(nn.Module):
    """BERT over several texts a row."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 20}
        self.net = transformers.BertForMultipleChoice(transformers.BertConfig(**SIZES, **sizes))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.net(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize("pool", ["mean", "max", "last"])
def test_choices_are_each_counted_by_their_own_mask(pool: str) -> None:
    torch.manual_seed(0)
    net, layer = Choices().net.eval(), "bert.encoder.layer.0"
    ids = torch.randint(5, N_WORDS, (20, 3, N_STEPS))
    real = torch.arange(N_STEPS) < torch.randint(2, N_STEPS, (20, 3, 1))
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        got = extract(net, inputs, [layer], batch_size=7, pool=pool)[layer]
    with torch.no_grad():
        states = net.bert(ids.flatten(0, 1), attention_mask=real.flatten(0, 1).long()).last_hidden_state
    rows = zip(states, real.flatten(0, 1), strict=True)
    by_hand = {"mean": lambda s: s.mean(0), "max": lambda s: s.amax(0), "last": lambda s: s[-1]}[pool]
    each = torch.stack([by_hand(row[keep]) for row, keep in rows]).unflatten(0, (20, 3))
    over = {"mean": each.mean(1), "max": each.amax(1), "last": each[:, -1]}[pool]
    np.testing.assert_allclose(got, over.numpy(), rtol=2e-4, atol=2e-5)


class SilentChoices(nn.Module):
    """Folds the choices of each row into its rows, and is told of no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.score = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.relu(self.lift(x.flatten(0, 1)))
        return self.score(steps.mean(1)).reshape(len(x), -1)


class StepMajorChoices(SilentChoices):
    """All rows of the first choice come first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1)).reshape(-1, len(x)).mT


def test_a_mask_of_choices_is_that_of_the_rows_they_are_folded_into() -> None:
    torch.manual_seed(0)
    net, x = SilentChoices().eval(), torch.randn(20, 3, N_STEPS, 3)
    real = torch.arange(N_STEPS) < torch.randint(1, N_STEPS, (20, 3, 1))
    got = extract(net, x, "lift", mask=real, batch_size=7)["lift"]
    with torch.no_grad():
        states = net.lift(x)
    means = (states * real[..., None]).sum(2) / real.sum(2)[..., None]
    np.testing.assert_allclose(got, means.mean(1).numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(TapError, match=r"mask must be used at a tap.* of 3 choices a row"):
        extract(StepMajorChoices().eval(), x, "lift", mask=real, batch_size=7)
    with pytest.raises(TapError, match=f"got {N_STEPS - 1} steps, and {N_STEPS} at tap 'lift'"):
        extract(net, x, "lift", mask=real[..., 1:], batch_size=7)


class Strided(nn.Module):
    """Half as many steps as it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        return self.head(self.conv(x.mT).mT.mean(1))


class ChannelsFirst(Strided):
    def forward(
        self, x: Tensor, lengths: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        return self.head(self.conv(x).mT.mean(1))


class WithFirst(nn.Module):
    """One step more than it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, 1, 3))
        self.conv = nn.Linear(3, 8)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return self.conv(torch.cat([self.first.expand(len(x), 1, 3), x], 1))


STEPS = torch.randn(N_ROWS, N_STEPS, 3, generator=GENERATOR)
UNFIT: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor]]] = {
    "lengths": (Strided, {"x": STEPS, "lengths": LENGTHS}),
    "mask": (Strided, {"x": STEPS, "attention_mask": REAL.long()}),
    "channels first, lengths": (ChannelsFirst, {"x": STEPS.mT.contiguous(), "lengths": LENGTHS}),
    "channels first, mask": (ChannelsFirst, {"x": STEPS.mT.contiguous(), "attention_mask": REAL.long()}),
    "a first step": (WithFirst, {"x": STEPS, "attention_mask": REAL.long()}),
    "late": (
        WithFirst,
        {"x": STEPS, "attention_mask": (REAL | (torch.arange(N_ROWS) < 30)[:, None]).long()},
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_mask_of_other_steps_is_named_once(name: str) -> None:
    net, inputs = UNFIT[name][0](), UNFIT[name][1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(net, "conv", inputs)
    texts = [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
    assert len(texts) == 1, texts
    assert "tap 'conv'" in texts[0] and f"got {list(inputs)[1]} of the net" in texts[0]


@pytest.mark.parametrize("name", UNFIT)
def test_no_warning_where_nothing_is_padded_or_no_steps_are_pooled(name: str) -> None:
    net, inputs = UNFIT[name][0](), UNFIT[name][1]
    what = list(inputs)[1]
    full = {**inputs, what: LENGTHS * 0 + N_STEPS if what == "lengths" else ALL.long()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        read(net, "conv", full)
        for pool in ("none", "cls", "flatten"):
            read(net, "conv", inputs, pool=pool)
        if hasattr(net, "head"):
            read(net, "head", inputs)
        causal = torch.ones(N_STEPS, N_STEPS).tril()
        if what != "lengths":
            extract(net, {"x": inputs["x"]}, ["conv"], constants={what: causal})


def test_a_mask_of_sounds_is_not_that_of_the_frames_made_of_them() -> None:
    torch.manual_seed(0)
    config = transformers.WhisperConfig(**SIZES, **SMALL, num_mel_bins=4, max_source_positions=10)
    config.bos_token_id = config.eos_token_id = config.decoder_start_token_id = 1
    net = transformers.WhisperModel(config)
    real = (torch.arange(20) < torch.randint(5, 20, (N_ROWS, 1))).long()
    inputs = {
        "input_features": torch.randn(N_ROWS, 4, 20),
        "attention_mask": real,
        "decoder_input_ids": IDS,
    }
    with pytest.warns(DataWarning, match=r"tap 'encoder.layers.0'.*attention_mask of the net"):
        read(net, "encoder.layers.0", inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        read(net, "decoder.layers.0", inputs)


def test_packed_sequences_need_no_full_row_to_be_counted_by_their_lengths() -> None:
    torch.manual_seed(0)
    lengths = LENGTHS.clamp(max=N_STEPS - 2)
    real = torch.arange(N_STEPS)[None] < lengths[:, None]
    assert_mean(Packed(), "out", {"x": STEPS, "n": lengths}, real)


def test_lengths_of_single_rows_and_equal_short_ones_are_padding_too() -> None:
    for lengths, n_rows in ((LENGTHS.clamp(min=4, max=6), 1), (LENGTHS * 0 + 4, 16)):
        with pytest.warns(DataWarning, match="tap 'conv'.*lengths of the net"):
            extract(Strided(), {"x": STEPS, "lengths": lengths}, ["conv"], batch_size=n_rows)


def test_packed_sequences_padded_to_steps_of_no_input_are_named() -> None:
    with pytest.warns(DataWarning, match="tap 'out'.*input of rnn"):
        read(Packed(N_STEPS + 2), "out", {"x": STEPS, "n": LENGTHS.clamp(max=N_STEPS - 1)})
