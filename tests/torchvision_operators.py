"""torchvision beside a torch that it was not built for: its compiled operators cannot be loaded.

Declaring those that its Python code describes is enough to import it, and timm with it: the nets of both do
without them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

DECLARED: list[torch.library.Library] = []
"""Operators live as long as their library does."""


def declare_missing_operators() -> None:
    """Declare the operators without which torchvision cannot be imported, where it is there and they are not."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or DECLARED:
        return
    for compiled in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            continue
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        DECLARED.append(library)
