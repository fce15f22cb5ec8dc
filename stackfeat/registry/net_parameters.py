"""What parameters of the registry's nets take, by the parameter's name.

A name that is not here takes numbers up to a width, true, false and lists of these: no text, no mapping.
So nothing that timm or torchvision would download or open can be named.
"""

from __future__ import annotations

from stackfeat.registry.kinds import Kind, table, words

_LAYERS = "relu relu6 gelu gelu_tanh silu swish mish selu elu leaky_relu hard_swish hardswish hard_mish"

NET_NUMBER = Kind(4_096)
"""What every other parameter takes: a width, a share, a switch."""

_ENCODERS = "tcn gru transformer_encoder inception_time cnn vector"
_ACTIVATIONS = "auto relu gelu silu mish selu"

NET_KINDS: dict[str, Kind] = {
    "activation": words(_ACTIVATIONS),
    "architecture": words("tabm tabm-mini tabm-packed"),
    "augment": Kind(360, free=frozenset({"keys"})),
    "encoders": words(f"{_ENCODERS} {_ACTIVATIONS}", most=4_096, free=frozenset({"keys"}), widths=True),
    "hidden": Kind(4_096, 65_536, widths=True),
    "how": words("concat attention"),
    "num_embeddings": words("none piecewise_linear periodic"),
    **table((Kind(64), "depth n_blocks heads"), (Kind(1_024), "width filters k"), (Kind(6), "stages")),
}
"""Nets of the table NETS."""

_TIMM: dict[str, Kind] = {
    "act_layer": words(_LAYERS),
    "global_pool": words("avg max avgmax catavgmax token map"),
    "norm_layer": words("batchnorm batchnorm2d groupnorm groupnorm1 layernorm layernorm2d rmsnorm rmsnorm2d"),
    **table(
        (Kind(1, is_true=False), "pretrained features_only exportable scriptable"),
        (
            Kind(0, is_true=False),
            "checkpoint_path pretrained_cfg pretrained_cfg_overlay cache_dir pretrained_strict weights",
        ),
    ),
}
_TORCHVISION: dict[str, Kind] = table(
    (Kind(0, is_true=False), "pretrained weights weights_backbone"),
)

FAMILIES: dict[str, dict[str, Kind]] = {"timm": _TIMM, "torchvision": _TORCHVISION}
"""Nets of other libraries, by what stands before the colon."""
