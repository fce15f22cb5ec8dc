"""The tables of short names: what may stand in a config without trusting any code.

A prefix, as in `timm:resnet18`, stands for all nets of a library.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from stackfeat.errors import MissingExtraError
from stackfeat.registry.source import find_module

NETS: dict[str, str] = {
    "mlp": "stackfeat.nets.zoo.mlp:MLP",
    "realmlp": "stackfeat.nets.zoo.mlp:RealMLP",
    "tabm": "stackfeat.nets.zoo.packaged:TabM",
    "resnet_tabular": "stackfeat.nets.zoo.packaged:ResNetTabular",
    "ft_transformer": "stackfeat.nets.zoo.packaged:FTTransformer",
    "cnn": "stackfeat.nets.zoo.images:CNN",
    "transformer_encoder": "stackfeat.nets.zoo.sequences:TransformerEncoder",
    "gru": "stackfeat.nets.zoo.sequences:GRU",
    "tcn": "stackfeat.nets.zoo.sequences:TCN",
    "inception_time": "stackfeat.nets.zoo.sequences:InceptionTime",
    "fusion": "stackfeat.nets.zoo.fusion:Fusion",
    "text_bag": "stackfeat.nets.zoo.texts:TextBag",
    "text_cnn": "stackfeat.nets.zoo.texts:TextCNN",
}
"""Nets by short name; a path names a class that is built in every fold."""

NET_TRAINING: dict[str, dict[str, Any]] = {
    "realmlp": {
        "base_lr": 0.04,
        "weight_decay": 0.02,
        "schedule": "coslog4",
        "clip_norm": None,
        "regression": {"base_lr": 0.1},
    },
    "tabm": {"base_lr": 2e-3, "weight_decay": 3e-4},
    "resnet_tabular": {"base_lr": 1e-3, "weight_decay": 1e-2},
    "ft_transformer": {"base_lr": 5e-4, "weight_decay": 1e-5, "warmup": 0.05},
    "cnn": {"base_lr": 3e-3, "weight_decay": 1e-2, "schedule": "onecycle", "largest_batch": 128},
    "transformer_encoder": {"base_lr": 1e-3, "warmup": 0.1, "largest_batch": 64},
    "gru": {"base_lr": 2e-3, "largest_batch": 64},
    "tcn": {"base_lr": 2e-3, "largest_batch": 64},
    "inception_time": {"base_lr": 1e-3, "largest_batch": 64},
    "fusion": {"base_lr": 2e-3, "weight_decay": 1e-2, "largest_batch": 64},
    "text_bag": {"base_lr": 2e-3, "weight_decay": 1e-2, "largest_batch": 64},
    "text_cnn": {"base_lr": 2e-3, "weight_decay": 1e-2, "largest_batch": 64},
}
"""Training options that suit a net better than the general ones; `nets.options` reads them."""

NET_PACKAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tabm": ("tabular", ("tabm", "rtdl_num_embeddings")),
    "resnet_tabular": ("tabular", ("rtdl_revisiting_models", "rtdl_num_embeddings")),
    "ft_transformer": ("tabular", ("rtdl_revisiting_models",)),
}
"""Nets that need more than the core: the extra that brings it, and its packages."""

NET_FAMILIES: dict[str, str] = {
    "timm": "stackfeat.nets.zoo.images:timm_net",
    "torchvision": "stackfeat.nets.zoo.images:torchvision_net",
    "hf": "stackfeat.nets.zoo.hugging_face:hf_net",
}
"""Libraries of nets: ``timm:NAME`` is what the function makes of NAME. ``hf:FOLDER`` is a folder on this machine."""

TEXT_NETS = ("text_bag", "text_cnn", "hf")
"""Nets, and families of them, that must have a column of text to read."""

FAMILY_PACKAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    # timm itself needs torchvision.
    "timm": ("vision", ("timm", "torchvision")),
    "torchvision": ("vision", ("torchvision",)),
    "hf": ("hf", ("transformers", "tokenizers")),
}
"""The extra that brings such a library, and its packages."""

FAMILY_TRAINING: dict[str, dict[str, Any]] = {
    "hf": {"lr": 5e-5, "weight_decay": 0.01, "warmup": 0.1, "epochs": 3, "batch_size": 16},
}
"""As `NET_TRAINING`."""

NET_FACTS = ("n_features", "n_outputs", "cardinalities", "shapes", "prepared", "vocabulary")
"""What a net's constructor gets beside its params, as far as its signature names it."""

ESTIMATORS: dict[str, str] = {
    "gated_linear": "stackfeat.meta.gating.gated_linear:GatedLinear",
}
"""Estimators by short name; others are named by a path such as ``sklearn.svm.SVC``."""

TRUSTED_PACKAGES: tuple[str, ...] = ("sklearn", "lightgbm", "xgboost", "catboost")
"""Packages whose classes on the allow-list a config may name without ``--trust-code``."""


def in_family(name: str, table: Mapping[str, str]) -> bool:
    """Whether a net is a model of such a library; `table` is that of nets, or holds it."""
    library, _, model = name.partition(":")
    return bool(model) and library in NET_FAMILIES and NETS.keys() <= table.keys()


def check_family(name: str, what: str) -> None:
    """Raise MissingExtraError where the library is not installed; nothing is imported."""
    extra, packages = FAMILY_PACKAGES[name.partition(":")[0]]
    missing = [package for package in packages if find_module(package, None) is None]
    if missing:
        hint = " (beside a CPU build of torch take torchvision from the same index as torch)"
        raise MissingExtraError(
            f"{what} {name!r} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed; install: pip install 'stackfeat[{extra}]'{hint if extra == 'vision' else ''}"
        )


def made_by_family(name: str) -> object:
    """Return what builds the net; imports its library. Raises as `check_family`."""
    check_family(name, "net")
    library, _, model = name.partition(":")
    module, _, attribute = NET_FAMILIES[library].partition(":")
    maker: Any = getattr(importlib.import_module(module), attribute)
    made: object = maker(model)
    return made
