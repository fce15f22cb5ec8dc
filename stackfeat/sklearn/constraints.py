"""What the parameters of nets may be, in scikit-learn's words."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

_POSITIVE = Interval(Real, 0, None, closed="neither")
_SHARE = Interval(Real, 0, 1, closed="left")

NET_CONSTRAINTS: dict[str, Any] = {
    "module": "no_validation",
    "net_params": [dict, None],
    "epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "lr": [_POSITIVE],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions({"cosine", "onecycle", "constant", "coslog4"})],
    "warmup": [_SHARE],
    "clip_norm": [_POSITIVE, None],
    "loss": [StrOptions({"auto", "cross_entropy", "mse", "mae", "huber"})],
    "patience": [Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": ["boolean", StrOptions({"auto", "fixed", "refit", "inner"})],
    "validation_fraction": [Interval(Real, 0, 0.9, closed="neither")],
    "amp": [StrOptions({"auto", "on", "off"})],
    "channels_last": [StrOptions({"auto", "off"})],
    "folds_at_once": [StrOptions({"auto", "off"})],
    "ema": [Interval(Real, 0, 1, closed="neither"), None],
    "mixup": [_POSITIVE, None],
    "cutmix": [_POSITIVE, None],
    "scaling": [StrOptions({"quantile", "standard", "none"})],
    "output": [StrOptions({"auto", "logits", "proba", "log_proba", "value"})],
    "seeds": [Interval(Integral, 1, 100, closed="both")],
    "warm_start": ["boolean"],
    "device": [str],
    "threads": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
