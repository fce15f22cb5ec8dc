"""How a layer of a net is read, and which encodings make columns of it; free of torch and SciPy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from stackfeat.encodings import CROSS_FOLD, ENCODINGS
from stackfeat.options import Options, one_is_a_list
from stackfeat.registry.patterns import is_pattern

if TYPE_CHECKING:
    EncodingName = str
else:
    EncodingName = Literal[tuple(ENCODINGS)]

DEFAULT_ENCODINGS: tuple[EncodingName, ...] = ("geometry", "aligned")
FROZEN_ENCODINGS: tuple[EncodingName, ...] = ("raw", "geometry")


class TapOptions(Options):
    """A layer to read, and how its activations become columns."""

    tap: str = Field(description="'penultimate', or a layer's name with optional :input, [item], #call.")
    name: str | None = None
    last: int | None = Field(None, ge=1)
    combine: Literal["concat", "mean", "each"] = Field(
        "concat",
        description="last: the layers side by side, their mean, or each encoded alone.",
    )
    pool: Literal["auto", "none", "flatten", "mean", "max", "cls", "last"] = "auto"
    encode: tuple[EncodingName, ...] = DEFAULT_ENCODINGS
    reduce: int | None = Field(
        None,
        ge=1,
        description="aligned, reference: principal directions kept; by default one for every eight anchors.",
    )

    _one = field_validator("encode", mode="before")(one_is_a_list)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (option, message) for what does not go together, or is not built yet."""
        got = f"got tap={self.tap!r}"
        if ":grad" in self.tap:
            yield "tap", f"a tap of gradients ({self.tap!r}) is not built yet; remove it"
        if self.tap.endswith("#all"):
            remedy = "name one call, such as #0 or #-1"
            yield "tap", f"a tap of all calls ({self.tap!r}) is not built yet; {remedy}"
        if not self.encode:
            yield "encode", "must name at least one encoding; got none. Remove it for the default"
            return
        if self.reduce is not None and not CROSS_FOLD.keys() & set(self.encode):
            message = f"only {' and '.join(CROSS_FOLD)} are reduced; got encode={list(self.encode)}"
            yield "reduce", f"{message}. Remove reduce, or name one"
        if self.last is not None and not self.is_pattern:
            yield "last", f"takes the last matches of a pattern; {got}. Remove last, or write * in the tap"
        elif self.last is not None and self.name is None:
            yield "last", f"a block of several layers needs a name; {got}, last={self.last}. Add name"
        elif self.is_open and self.name is not None:
            message = f"a pattern without last gives a block for every layer, named after it; got name={self.name!r}"
            yield "name", f"{message} for tap={self.tap!r}. Remove name, or add last"
        if self.is_set("combine") and self.last is None:
            message = f"says how several layers become one block; got combine={self.combine} without last"
            yield "combine", f"{message}. Remove it"

    def narrowed(self, outputs: Collection[str]) -> TapOptions | None:
        """Return the tap with those encodings alone whose blocks are among the outputs; None without any."""
        kept = tuple(name for name in self.encode if f"{self.key}@{name}" in outputs)
        reduce = self.reduce if CROSS_FOLD.keys() & set(kept) else None
        return self.model_copy(update={"encode": kept, "reduce": reduce}) if kept else None

    @property
    def key(self) -> str:
        """What its blocks are called, before the encoding."""
        return self.name or self.tap

    @property
    def is_pattern(self) -> bool:
        """Whether it may mean several layers."""
        return is_pattern(self.tap)

    @property
    def is_open(self) -> bool:
        """Whether it means one block for every layer that matches, which only the net can tell."""
        return self.is_pattern and self.last is None

    @property
    def n_parts(self) -> int:
        """How many embeddings are encoded, one beside the other."""
        return self.last or 1 if self.combine == "each" else 1

    @property
    def parts(self) -> tuple[str, ...]:
        """A key for each of them."""
        return (self.key,) if self.n_parts == 1 else tuple(f"{self.key}+{i}" for i in range(self.n_parts))
