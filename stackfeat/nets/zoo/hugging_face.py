"""Text encoders of Hugging Face, from a folder on this machine, beside numbers and categories.

In:  numeric columns, float32, category codes, int64, and tokens, int64 of shape (n_rows, n_texts, n_steps): 0 where a
     text has ended, else one more than the tokenizer's number.
Out: one score per class, or one value; `encoder`, `pooled` and `head` can be tapped by name.

An encoder is built from its configuration by the code of the installed package, never by code of the folder, and gets
its weights from a safetensors file. No function is called that could look anything up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from stackfeat.errors import UsageError, first_line
from stackfeat.nets.weights import Checkpoint, shorten
from stackfeat.nets.zoo.columns import CategoryColumns
from stackfeat.registry.resolve import suggest

ENCODERS = (
    "albert",
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
"""Kinds of models whose last hidden states say what each token means in its text."""
_NOT_READ = ("auto_map", "architectures", "transformers_version", "dtype", "torch_dtype", "use_kernels")
_NAMES_CODE = "_implementation"
"""Ends of names such as ``attn_implementation``, whose value may be a repository of kernels."""
_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def read_config(content: bytes, where: str) -> dict[str, Any]:
    """Return what a ``config.json`` says of an encoder, without what would name code or files.

    Raises
    ------
    UsageError
        If it is of no kind that is known.
    """
    try:
        values = json.loads(content)
    except ValueError as error:
        raise UsageError(f"{where} must hold JSON; got {first_line(error)}; save the model again") from error
    return checked_config(values, where)


def checked_config(values: Any, where: str) -> dict[str, Any]:
    """Return the values of a configuration without those that would name code or files; raises as `read_config`."""
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in ENCODERS:
        near = suggest(str(kind), ENCODERS)
        raise UsageError(
            f"{where} must describe an encoder of texts ({', '.join(ENCODERS)}); got model_type={kind!r}.{near} "
            "Name the folder of another model"
        )
    if "quantization_config" in values:
        raise UsageError(
            f"{where} must describe plain weights; got quantization_config; save the model without it"
        )
    return {
        name: value
        for name, value in values.items()
        if name not in _NOT_READ and not name.startswith("_") and not name.endswith(_NAMES_CODE)
    }


class HuggingFace(nn.Module):
    """Mean of an encoder's last hidden states over the tokens of each text, beside the other columns, and a head.

    Parameters
    ----------
    n_features, n_outputs : int
    shapes : mapping of str to tuple of int
        That of ``tokens``: columns of text, and tokens of each that are read.
    prepared : mapping
        ``config``: what `read_config` returned.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    dropout : float
        Before the head.

    **Shape**

    ``numeric`` (n_rows, n_features), ``codes`` (n_rows, len(cardinalities)) and ``tokens`` (n_rows, n_texts, n_steps)
    give (n_rows, n_outputs).
    """

    accepts_categories = True
    accepts_texts = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        prepared: Mapping[str, Any],
        cardinalities: Sequence[int] = (),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if "tokens" not in shapes:
            raise UsageError(
                "a net of Hugging Face must have a column of text to read; got none; declare one: "
                "data.types: {COLUMN: text}"
            )
        self.encoder = _encoder(prepared["config"])
        width = int(self.encoder.config.hidden_size) * shapes["tokens"][0]
        self.categories = CategoryColumns(cardinalities, embedding=8, max_one_hot=9, std=0.5)
        self.pooled = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width + n_features + self.categories.width, n_outputs)

    def forward(self, numeric: Tensor, codes: Tensor | None, tokens: Tensor) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        flat = tokens.flatten(0, 1)
        mask = flat > 0
        # An encoder needs a token to look at; that of an empty text counts for nothing.
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)
        states = self.encoder(input_ids=(flat - 1).clamp(min=0), attention_mask=seen.long()).last_hidden_state
        keep = mask[:, :, None].to(states.dtype)
        mean = (states * keep).sum(1) / keep.sum(1).clamp(min=1)
        read = self.pooled(mean.reshape(len(tokens), -1))
        return self.head(torch.cat([self.dropout(read), self.categories(numeric, codes)], dim=1))


def _encoder(config: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModel

    # A stored net says again what it is built of, and may come from a stranger.
    described = AutoConfig.for_model(**checked_config(dict(config), "the configuration"))
    # One way of computing attention, so that a row's bits hang on no choice of a library.
    make: Any = AutoModel.from_config
    encoder = make(described, attn_implementation="eager", trust_remote_code=False)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder.float()


def hf_net(folder: str) -> type[HuggingFace]:
    """Return the class; what is in the folder comes as `prepared` and as weights."""
    return HuggingFace


@dataclass(frozen=True)
class FolderWeights(Checkpoint):
    """The weights of an encoder as its library saves them, alone or below a head that is left away."""

    def load(self, module: nn.Module) -> list[str]:
        """Put the weights into the encoder; return the names that stay random."""
        encoder: Any = module.get_submodule("encoder")
        try:
            loaded = load(self.data)
        except Exception as error:
            raise UsageError(
                f"{self.name} must be a whole safetensors file; got {first_line(error)}; copy it again"
            ) from error
        prefix, found = f"{encoder.base_model_prefix}.", {}
        for name, values in loaded.items():
            for old, new in _RENAMED.items():
                name = name.replace(old, new)
            found[name.removeprefix(prefix)] = values
        wanted = encoder.state_dict()
        odd = [name for name in wanted if name not in found or found[name].shape != wanted[name].shape]
        if odd:
            raise UsageError(
                f"{self.name} must hold the weights of the encoder that config.json describes; missing or of another "
                f"shape: {shorten(odd)}; save model and config together"
            )
        encoder.load_state_dict({name: found[name] for name in wanted})
        return [name for name in module.state_dict() if not name.startswith("encoder.")]
