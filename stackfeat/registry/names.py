"""The tables of short names: what may stand in a config without trusting any code."""

from __future__ import annotations

NETS: dict[str, str] = {
    "mlp": "stackfeat.nets.mlp:MLP",
    "realmlp": "stackfeat.nets.zoo.realmlp:RealMLP",
    "tabm": "stackfeat.nets.zoo.tabm:TabM",
    "resnet_tabular": "stackfeat.nets.zoo.resnet_tabular:ResNetTabular",
    "ft_transformer": "stackfeat.nets.zoo.ft_transformer:FTTransformer",
    "cnn": "stackfeat.nets.zoo.cnn:CNN",
    "transformer_encoder": "stackfeat.nets.zoo.transformer:TransformerEncoder",
    "gru": "stackfeat.nets.zoo.gru:GRU",
    "tcn": "stackfeat.nets.zoo.tcn:TCN",
    "inception_time": "stackfeat.nets.zoo.inception_time:InceptionTime",
    "fusion": "stackfeat.nets.zoo.fusion:Fusion",
}
"""Nets by short name; a path names a class that is built in every fold."""

NET_PACKAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tabm": ("tabular", ("tabm", "rtdl_num_embeddings")),
    "resnet_tabular": ("tabular", ("rtdl_revisiting_models", "rtdl_num_embeddings")),
    "ft_transformer": ("tabular", ("rtdl_revisiting_models",)),
}
"""Nets that need more than the core: the extra that brings it, and its packages."""

NET_FAMILIES: dict[str, str] = {
    "timm": "stackfeat.nets.zoo.vision:timm_net",
    "torchvision": "stackfeat.nets.zoo.vision:torchvision_net",
}
"""Libraries of nets: ``timm:NAME`` is what the function makes of NAME. They come with the extra ``vision``."""

ESTIMATORS: dict[str, str] = {
    "gated_linear": "stackfeat.ensemble.gating.gated_linear:GatedLinear",
}
"""Estimators by short name; others are named by a path such as ``sklearn.svm.SVC``."""

TRUSTED_PACKAGES: tuple[str, ...] = ("sklearn", "lightgbm", "xgboost", "catboost")
"""Packages whose classes on the allow-list a config may name without ``--trust-code``."""
