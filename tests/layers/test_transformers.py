"""Small nets of Hugging Face with random weights: every layer, where the last features are, means under masks.

Configurations are made in code; nothing is downloaded.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stackfeat as sf
from stackfeat.errors import TapError
from tests.layers.hand_written import Count, Inputs, check_every_layer, count_of, read_by_hand
from tests.torchvision_operators import declare_missing_operators

pytestmark = pytest.mark.slow

WORDS = {
    "vocab_size": 99,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 36}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
GROUPED = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4}
ALL_ONE = (
    "q_groups",
    "k_groups",
    "v_groups",
    "post_attention_groups",
    "intermediate_groups",
    "output_groups",
)
IMAGES = {**SMALL, "image_size": 32, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
WINDOWS = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
}
PYRAMID = {**STAGES, "image_size": 64, "num_attention_heads": [1, 1, 2, 2]}
BART = {
    "d_model": 32,
    "decoder_start_token_id": 1,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 36 for side in ("encoder", "decoder")},
}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 36,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
SOUND = {
    **SMALL,
    "conv_dim": [16, 16],
    "conv_kernel": [5, 3],
    "conv_stride": [4, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 32,
}

ENCODERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        [
            "bert",
            "roberta",
            "xlm-roberta",
            "camembert",
            "mpnet",
            "deberta",
            "deberta-v2",
            "nystromformer",
            "ernie",
            "layoutlm",
            "megatron-bert",
            "ibert",
            "data2vec-text",
            "roberta-prelayernorm",
            "mra",
            "yoso",
            "fnet",
            "markuplm",
            "eurobert",
        ],
        SMALL,
    ),
    "albert": {**SMALL, "embedding_size": 16},
    "big_bird": {**SMALL, "attention_type": "original_full"},
    "canine": {
        **SMALL,
        "num_hash_functions": 4,
        "num_hash_buckets": 16,
        "downsampling_rate": 2,
        "upsampling_kernel_size": 2,
    },
    "convbert": {**SMALL, "embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 36},
    "electra": {**SMALL, "embedding_size": 16},
    "esm": {**SMALL, "mask_token_id": 4, "position_embedding_type": "absolute"},
    "flaubert": XLM,
    "longformer": {**SMALL, "attention_window": 4},
    "luke": {**SMALL, "entity_vocab_size": 10, "entity_emb_size": 8},
    "mobilebert": {
        **SMALL,
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
        "true_hidden_size": 16,
        "num_feedforward_networks": 1,
    },
    "modernbert": {**SMALL, "global_attn_every_n_layers": 1, "cls_token_id": 1, "sep_token_id": 2},
    "rembert": {**SMALL, "input_embedding_size": 16, "output_embedding_size": 16},
    "roformer": {**SMALL, "embedding_size": 32},
    "squeezebert": {**SMALL, "embedding_size": 32, **dict.fromkeys(ALL_ONE, 1)},
    "xlm": XLM,
    "xmod": {**SMALL, "languages": ["en"], "default_language": "en"},
}

DECODERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        [
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "gemma",
            "gemma2",
            "phi",
            "phi3",
            "stablelm",
            "starcoder2",
            "olmo",
            "olmo2",
            "cohere",
            "granite",
            "smollm3",
            "glm",
            "nemotron",
        ],
        GROUPED,
    ),
    **dict.fromkeys(["gpt2", "openai-gpt", "gpt_bigcode"], OLD),
    "biogpt": SMALL,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "codegen": {**OLD, "n_ctx": 64, "rotary_dim": 4},
    "ctrl": {**OLD, "dff": 36},
    "falcon": SMALL,
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
    },
    "gpt_neox": SMALL,
    "gptj": {**OLD, "rotary_dim": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "opt": {**SMALL, "ffn_dim": 36, "word_embed_proj_dim": 32},
    "persimmon": SMALL,
    "qwen2_moe": {
        **GROUPED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "xglm": {"d_model": 32, "ffn_dim": 36, "num_layers": 2, "attention_heads": 4},
}

ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ["bart", "blenderbot", "blenderbot-small", "m2m_100", "marian", "mbart", "pegasus", "plbart"], BART
    ),
    **dict.fromkeys(["t5", "mt5", "umt5", "longt5"], T5),
    "bigbird_pegasus": {**BART, "attention_type": "original_full"},
    "fsmt": {**BART, "src_vocab_size": 99, "tgt_vocab_size": 99, "langs": ["en", "de"]},
    "led": {
        **BART,
        "attention_window": 4,
        "max_encoder_position_embeddings": 64,
        "max_decoder_position_embeddings": 64,
    },
    "nllb-moe": {**BART, "num_experts": 4},
    "prophetnet": {
        "hidden_size": 32,
        "decoder_start_token_id": 1,
        **{f"num_{side}_layers": 2 for side in ("encoder", "decoder")},
        **{f"num_{side}_attention_heads": 4 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 36 for side in ("encoder", "decoder")},
    },
    "switch_transformers": {
        **T5,
        "num_experts": 4,
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
    },
}

PICTURES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["vit", "beit", "data2vec-vision", "vit_msn", "dinov2", "dinov2_with_registers"], IMAGES),
    **dict.fromkeys(["swin", "swinv2"], WINDOWS),
    **dict.fromkeys(["convnext", "convnextv2", "poolformer"], STAGES),
    **dict.fromkeys(["segformer", "pvt", "pvt_v2"], PYRAMID),
    "bit": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 2},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
}

SOUNDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["wav2vec2", "hubert", "unispeech", "unispeech-sat", "wavlm", "data2vec-audio"], SOUND),
    "sew": {**SOUND, "squeeze_factor": 2},
}

FAMILIES: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "encoder": (ENCODERS, "AutoModelForSequenceClassification"),
    "decoder": (DECODERS, "AutoModelForCausalLM"),
    "both": (ENCODER_DECODERS, "AutoModelForSeq2SeqLM"),
    "image": (PICTURES, "AutoModelForImageClassification"),
    "sound": (SOUNDS, "AutoModelForAudioClassification"),
}
KINDS = [(family, kind) for family, (table, _) in FAMILIES.items() for kind in table]
MASKED = [(family, kind) for family, kind in KINDS if family in ("encoder", "decoder", "both")]
N_CLASSES = 7
HEADED_BODIES = {"fsmt"}
"""Models without a task's head whose output is one all the same."""

SOURCE_MASK = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] * 6 + [0] * 2])
TARGET_MASK = torch.tensor([[1] * 7 + [0], [1] * 8, [1] * 4 + [0] * 4])
LAYER = re.compile(r"(.*\.)?(layers?|h|block|blocks|encoder|decoder)\.\d+")


@pytest.fixture(scope="module")
def transformers() -> Any:
    declare_missing_operators()  # transformers imports torchvision where it is
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    library.logging.set_verbosity_error()
    return library


def build(transformers: Any, family: str, kind: str, *, head: bool) -> tuple[nn.Module, Inputs]:
    """Return a net in eval mode, with or without the head of a task, and arguments of three rows."""
    table, headed = FAMILIES[family]
    options = {**WORDS, **table[kind]} if family in ("encoder", "decoder", "both") else dict(table[kind])
    if head and headed.endswith("Classification"):
        options["num_labels"] = N_CLASSES
    config = transformers.AutoConfig.for_model(kind, **options)
    torch.manual_seed(0)
    net = getattr(transformers, headed if head else "AutoModel").from_config(config).eval()
    return net, arguments(family, options)


def arguments(family: str, options: dict[str, Any]) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    if family == "image":
        size = options.get("image_size", 32)
        return {"pixel_values": torch.randn(3, 3, size, size, generator=generator)}
    if family == "sound":
        return {"input_values": torch.randn(3, 400, generator=generator)}
    codes = torch.randint(3, 60, (2, 3, 8), generator=generator)
    inputs = {"input_ids": codes[0] * SOURCE_MASK, "attention_mask": SOURCE_MASK}
    if family == "both":
        inputs |= {"decoder_input_ids": codes[1], "decoder_attention_mask": TARGET_MASK}
    return inputs


def test_there_are_sixty_kinds() -> None:
    assert len({kind for _, kind in KINDS}) >= 60


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_every_layer_is_equal_to_a_hand_written_hook(
    transformers: Any, family: str, kind: str, record_property: Count
) -> None:
    net, inputs = build(transformers, family, kind, head=True)
    count_of("transformers", record_property, nets=1, **check_every_layer(net, inputs))


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_the_last_features_are_what_the_head_is_given(
    transformers: Any, family: str, kind: str, record_property: Count
) -> None:
    net, inputs = build(transformers, family, kind, head=True)
    width = N_CLASSES if hasattr(net.config, "num_labels") and net.config.num_labels == N_CLASSES else 99
    heads = [name for name, layer in net.named_modules() if getattr(layer, "out_features", None) == width]
    given = read_by_hand(net, inputs, side="input")
    tap = sf.find_penultimate(net, **inputs)
    with torch.no_grad(), sf.tapped(net, [tap]) as caught:
        net(**inputs)
    assert len(heads) == 1
    assert torch.equal(caught[tap], given[heads[0]])
    count_of("transformers", record_property, **{"heads": 1})


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_a_body_has_no_head(transformers: Any, family: str, kind: str, record_property: Count) -> None:
    net, inputs = build(transformers, family, kind, head=False)
    if kind in HEADED_BODIES:
        assert str(sf.find_penultimate(net, **inputs)) == "decoder.output_projection:input"
        return
    with pytest.raises(TapError, match=r"this net has no head.*tap ':output\[last_hidden_state\]'"):
        sf.find_penultimate(net, **inputs)
    count_of("transformers", record_property, **{"bodies without a head": 1})


@pytest.mark.parametrize(("family", "kind"), MASKED)
def test_means_leave_padding_out_as_those_by_hand_do(
    transformers: Any, family: str, kind: str, record_property: Count
) -> None:
    net, inputs = build(transformers, family, kind, head=False)
    read = {
        name: values.transpose(0, 1) if values.shape[:2] == (8, 3) else values
        for name, values in read_by_hand(net, inputs).items()
    }
    by_hand = {
        name: values for name, values in read.items() if values.ndim == 3 and values.shape[:2] == (3, 8)
    }
    # Where layers are called otherwise, or put their steps last: all that has steps.
    by_hand = {name: values for name, values in by_hand.items() if LAYER.fullmatch(name)} or by_hand
    means = sf.extract(net, inputs, list(by_hand), pool="mean", batch_size=3, device="cpu")
    for name, values in by_hand.items():
        mask = TARGET_MASK if name.startswith("decoder") and family == "both" else SOURCE_MASK
        torch.testing.assert_close(torch.from_numpy(means[name]), mean_of(values, mask), msg=name)
    count_of("transformers", record_property, **{f"means of {family}": len(by_hand)})
    assert by_hand


def mean_of(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
