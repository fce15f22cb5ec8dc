"""Where samples, features and real steps are in a layer's values, and pooling them to one row per sample.

In:  the values of two dry runs, on b rows and on the same rows and one more; while a net runs, the padding masks
     and packed sequences that its layers get, or what the caller says himself.
Out: the batch axis, how many values there are per row, whether rows influence each other; a mask (n_rows, n_steps),
     True where a step is real; values with a row per sample.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from stackfeat.layers.taps.hooks import Hooks
from stackfeat.layers.taps.layers import unique_layers
from stackfeat.layers.taps.tap import Pool
from stackfeat.layers.taps.values import first_tensor

CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.Upsample,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)

FEATURES_LAST = (
    nn.Linear,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


@dataclass(frozen=True)
class Layout:
    """Where the samples are.

    Attributes
    ----------
    batch_axis : int or None
        None where no axis grows with the batch.
    fold : int
        How many values of that axis belong to one sample.
    step_major : bool
        Whether those of one sample are apart (all samples of step 0 first) rather than side by side.
    influenced : bool
        Whether the values of a row changed with the other rows of its batch.
    """

    batch_axis: int | None = 0
    fold: int = 1
    step_major: bool = False
    influenced: bool = False


def find_layout(few: Tensor, more: Tensor, n_rows: int) -> Layout:
    """Compare the values of `n_rows` rows with those of the same rows and one more."""
    if few.ndim != more.ndim:
        return Layout(None)
    grown = [
        (axis, size // n_rows)
        for axis, (size, larger) in enumerate(zip(few.shape, more.shape, strict=True))
        if size % n_rows == 0 and size > 0 and larger == size // n_rows * (n_rows + 1)
    ]
    if not grown:
        return Layout(None)
    axis, fold = min(grown, key=lambda pair: (pair[1], pair[0]))
    first, second = few.movedim(axis, 0), more.movedim(axis, 0)
    if first.shape[1:] != second.shape[1:]:
        return Layout(axis, fold)  # padded to the longest row: nothing to compare
    if is_close(first, second[: len(first)]):
        return Layout(axis, fold)
    if fold > 1:
        apart = second.reshape(fold, n_rows + 1, *second.shape[1:])[:, :n_rows]
        if is_close(first.reshape(fold, n_rows, *first.shape[1:]), apart):
            return Layout(axis, fold, step_major=True)
    return Layout(axis, fold, influenced=True)


def is_close(left: Tensor, right: Tensor) -> bool:
    """Whether values agree up to what another batch size may change in their last digits."""
    if not left.is_floating_point():
        return bool(torch.equal(left, right))
    relative = 5e-2 if left.dtype in (torch.float16, torch.bfloat16) else 1e-4
    left, right = left.double(), right.double()
    known = left[left.isfinite()]
    size = float(known.abs().max()) if known.numel() else 0.0
    return bool(torch.allclose(left, right, rtol=10 * relative, atol=relative * size + 1e-6, equal_nan=True))


def steps_axis(layout: Layout, features_axis: int | None, shape: tuple[int, ...]) -> int | None:
    """Return the axis of the steps in (n_rows, n_steps, n_columns) or its like; None where it is no sequence."""
    batch = layout.batch_axis or 0
    if len(shape) != 3 or layout.fold > 1 or batch > 1:
        return None
    return 2 if batch == 0 and features_axis == 1 else 1 - batch


@contextmanager
def feature_axes(model: nn.Module) -> Iterator[dict[tuple[int, ...], int]]:
    """Collect which axis holds the features, by shape, as the layers passed so far have it."""
    axes: dict[tuple[int, ...], int] = {}

    def note(axis: int, _layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and not tensor.is_nested:
            axes[tuple(tensor.shape)] = axis

    with ExitStack() as stack:
        for layer in model.modules():
            axis = features_axis(layer)
            if axis is not None:
                stack.enter_context(layer.register_forward_hook(partial(note, axis)))
        yield axes


def features_axis(layer: nn.Module) -> int | None:
    """Return the axis of the features in what a layer returns, where its class says so."""
    if isinstance(layer, nn.LayerNorm):
        return -1 if len(layer.normalized_shape) == 1 else None
    if isinstance(layer, FEATURES_LAST):
        return -1
    return 1 if isinstance(layer, CHANNELS_FIRST) else None


MASKED_LAYERS = {
    nn.Transformer: "tgt_key_padding_mask",
    nn.TransformerEncoder: "src_key_padding_mask",
    nn.TransformerEncoderLayer: "src_key_padding_mask",
    nn.TransformerDecoder: "tgt_key_padding_mask",
    nn.TransformerDecoderLayer: "tgt_key_padding_mask",
    nn.MultiheadAttention: "key_padding_mask",
}
"""Layers that get a padding mask, and the argument with the mask of what they return."""
DECODERS = (nn.Transformer, nn.TransformerDecoder, nn.TransformerDecoderLayer)
PADDING_ARGUMENTS = ("key_padding_mask", "src_key_padding_mask", "padding_mask", "pad_mask")
KEEP_ARGUMENTS = ("attention_mask",)
LENGTH_ARGUMENTS = ("lengths", "seq_lengths", "seq_lens", "x_lengths", "lens")
MASK_ARGUMENTS = frozenset((*PADDING_ARGUMENTS, *KEEP_ARGUMENTS, *LENGTH_ARGUMENTS))
"""Arguments of any module of one's own that tell which steps are real."""
MASKED_POOLS = ("auto", "mean", "max", "last")
"""Ways of pooling that ask which steps are real."""
USER_MASK, USER_LENGTHS = "<mask>", "<lengths>"
"""Names under which a caller's own mask travels with the arguments: no argument can be called so."""

Lengths = tuple[Tensor, set[int]]
"""How long each row is, and how many steps the sequences have that this is about."""


@dataclass(frozen=True)
class LayerMask:
    """A mask met in a forward pass, and the layer that got it ("" for the net itself).

    None: the layer was told that all its steps are real.
    """

    owner: str
    keep: Tensor | None


@dataclass(eq=False)
class MaskWatch(Hooks):
    """The padding masks of the pass under way.

    Parameters
    ----------
    model : nn.Module
    on_mask : callable, optional
        Called when a layer that may have got a mask begins.
    """

    model: nn.Module
    on_mask: Callable[[], None] | None = None
    masks: list[LayerMask] = field(default_factory=list)
    lengths: list[Lengths] = field(default_factory=list)
    user_mask: Tensor | None = None
    user_lengths: list[Lengths] = field(default_factory=list)

    def attach(self, stack: ExitStack) -> None:
        """Hook the layers that get masks."""
        for name, layer in unique_layers(self.model).items():
            if name and takes_mask(layer):
                hook = self.heard(partial(self.before_layer, name))
                stack.enter_context(layer.register_forward_pre_hook(hook, with_kwargs=True))

    def before_layer(self, name: str, layer: nn.Module, args: Any, kwargs: Any) -> None:
        self.read_arguments(name, layer, arguments(layer, args, kwargs))
        if self.on_mask is not None:
            self.on_mask()

    def restart(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Forget the pass before; look at the arguments of the net, and at what the caller says himself."""
        own, mask, lengths = split_user_mask(kwargs)
        named = arguments(self.model, args, own)
        self.masks.clear()
        self.lengths.clear()
        self.user_mask = None if mask is None else mask.bool()
        self.user_lengths = [] if lengths is None else [(lengths, {*steps_of(named), int(lengths.max())})]
        self.read_arguments("", self.model, named)

    def read_arguments(self, name: str, layer: nn.Module, named: Mapping[str, Any]) -> None:
        """Take masks and lengths from the arguments of a layer."""
        kind = next((kind for kind in MASKED_LAYERS if isinstance(layer, kind)), None)
        if isinstance(layer, nn.RNNBase):
            packed = named.get("input")
            if isinstance(packed, PackedSequence):
                lengths = pad_packed_sequence(packed, batch_first=True)[1]
                self.lengths.append((lengths, {int(lengths.max())}))
        elif kind is None:
            self.read_names(name, named)
        elif kind is not nn.MultiheadAttention or named.get("query") is named.get("key"):
            # In cross-attention the mask is about the other sequence.
            mask = named.get(MASKED_LAYERS[kind])
            if isinstance(mask, Tensor) and mask.ndim == 2:
                self.masks.append(LayerMask(name, real_steps(mask)))
            elif isinstance(layer, DECODERS):
                self.masks.append(LayerMask(name, None))  # nor must the other sequence's be taken for its own

    def read_names(self, owner: str, named: Mapping[str, Any]) -> None:
        """Take masks and lengths from arguments whose names say what they are."""
        for name, value in named.items():
            if name not in MASK_ARGUMENTS or not isinstance(value, Tensor):
                continue
            if name in LENGTH_ARGUMENTS:
                if value.ndim == 1 and not value.is_floating_point():
                    self.lengths.append((value, steps_of(named)))
            elif (flat := without_heads(value)) is not None:
                keep = real_steps(flat) if name in PADDING_ARGUMENTS else attended_steps(flat)
                self.masks.append(LayerMask(owner, keep))

    def find(self, layer: str, n_rows: int, n_steps: int) -> Tensor | None:
        """Return the mask for values of `layer`: the caller's, else of the nearest layer around, else the first."""
        if self.user_mask is not None and tuple(self.user_mask.shape) == (n_rows, n_steps):
            return self.user_mask
        if (counted := mask_of_lengths(self.user_lengths, n_rows, n_steps)) is not None:
            return counted
        size = (n_rows, n_steps)
        fitting = [known for known in self.masks if known.keep is None or tuple(known.keep.shape) == size]
        around = [known for known in fitting if known.owner and f"{layer}.".startswith(f"{known.owner}.")]
        if around:
            return max(around, key=lambda known: len(known.owner)).keep
        told = [known.keep for known in fitting if known.keep is not None]
        if told:
            return told[0]
        return mask_of_lengths(self.lengths, n_rows, n_steps)


def mask_of_lengths(known: list[Lengths], n_rows: int, n_steps: int) -> Tensor | None:
    """Return the mask by the first lengths that go with sequences of so many steps."""
    for lengths, steps in known:
        if len(lengths) == n_rows and n_steps in steps and int(lengths.max()) <= n_steps:
            return torch.arange(n_steps, device=lengths.device)[None] < lengths[:, None]
    return None


def split_user_mask(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Tensor | None, Tensor | None]:
    """Return the arguments of the net alone, the caller's mask, the caller's lengths."""
    own = {name: value for name, value in kwargs.items() if name not in (USER_MASK, USER_LENGTHS)}
    return own, kwargs.get(USER_MASK), kwargs.get(USER_LENGTHS)


def takes_mask(layer: nn.Module) -> bool:
    """Whether a layer's arguments may say which steps are real."""
    if isinstance(layer, (*MASKED_LAYERS, nn.RNNBase)):
        return True
    if isinstance(layer, torch.jit.ScriptModule):
        return False  # hooks do not run there
    forward: Any = vars(layer).get("forward", type(layer).forward)
    return any(parameter.name in MASK_ARGUMENTS for parameter in parameters_of(forward))


@lru_cache(maxsize=1024)
def parameters_of(forward: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a function, worked out once: a signature takes longer than a layer."""
    try:
        return tuple(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return ()


def without_heads(mask: Tensor) -> Tensor | None:
    """Return (n_rows, n_steps) of a mask, also of one made for attention scores: (n_rows, 1, 1, n_steps)."""
    if mask.ndim in (3, 4) and all(size == 1 for size in mask.shape[1:-1]):
        return mask.flatten(1)
    return mask if mask.ndim == 2 else None


def attended_steps(mask: Tensor) -> Tensor:
    """Return True for real steps from an attention mask: 1 for real ones, or 0 where it is added to scores."""
    if not mask.is_floating_point():
        return mask != 0
    # Without a look at the values, which a GPU would have to wait for; a row of padding alone means nothing.
    is_added = (mask.amin() < 0) | (mask.amax() == 0)
    return torch.where(is_added, mask == 0, mask != 0)


def real_steps(mask: Tensor) -> Tensor:
    """Return True for real steps from a padding mask: True, or minus infinity, where a step is padding."""
    return mask == 0 if mask.is_floating_point() else ~mask.bool()


def arguments(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    if "forward" not in vars(layer):
        forward: Any = type(layer).forward
        positional = [
            p.name
            for p in parameters_of(forward)[1:]
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if len(args) <= len(positional):
            return {**dict(zip(positional, args, strict=False)), **kwargs}
    try:
        return {**inspect.signature(layer.forward).bind_partial(*args, **kwargs).arguments, **kwargs}
    except (TypeError, ValueError):
        return dict(kwargs)


def steps_of(named: Mapping[str, Any]) -> set[int]:
    """How many steps the net's inputs have: only sequences of that length go with its lengths."""
    return {value.shape[1] for value in named.values() if isinstance(value, Tensor) and value.ndim >= 2}


WIDE = (torch.float32, torch.float64)


def pool_rows(
    values: Tensor,
    pool: Pool,
    *,
    batch_axis: int = 0,
    features_axis: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return `values` with a row per sample.

    Parameters
    ----------
    values : Tensor of shape (n_rows, ...), or with the rows at `batch_axis`
    pool : str
        ``none`` keeps the shape. ``flatten`` puts everything into columns. ``auto`` and ``mean``
        average the positions of an image and the real steps of a sequence, ``max`` takes their
        largest. ``cls`` takes the first step and ``last`` the last real one. Two dimensions stay as
        they are.
    batch_axis : int
        Which axis of `values` holds the samples.
    features_axis : int, optional
        Which axis holds the features once samples are in front; by default the last of
        three (sequences) and axis 1 of four or more (images).
    mask : bool Tensor of shape (n_rows, n_steps), optional
        True where a step is real. Padding counts in no pooling.

    Returns
    -------
    Tensor of shape (n_rows, n_columns), or (n_rows, ...) for ``none``
    """
    rows = values if batch_axis == 0 else values.movedim(batch_axis, 0)
    if rows.ndim == 1:
        return rows[:, None]
    if rows.ndim == 2 or pool == "none":
        return rows
    if pool == "flatten":
        return rows.flatten(1)
    axis = features_axis if features_axis is not None else (1 if rows.ndim > 3 else -1)
    # (n_rows, n_positions, n_columns)
    steps = rows.movedim(axis, -1).flatten(1, -2)
    return pool_steps(steps, pool, mask if mask is not None and mask.shape == steps.shape[:2] else None)


def pool_steps(steps: Tensor, pool: Pool, mask: Tensor | None) -> Tensor:
    """Reduce (n_rows, n_steps, n_columns) to (n_rows, n_columns); a row without real steps gives zeros."""
    if pool == "cls":
        return steps[:, 0]
    if pool == "last":
        if mask is None:
            return steps[:, -1]
        positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        last = positions.masked_fill(~mask, 0).amax(1)
        return steps[torch.arange(len(steps), device=steps.device), last.to(steps.device)]
    if mask is not None:
        keep = mask.to(steps.device)[:, :, None]
        if pool == "max":
            lowest = float("-inf") if steps.is_floating_point() else torch.iinfo(steps.dtype).min
            return torch.where(keep.any(1), steps.masked_fill(~keep, lowest).amax(1), 0)
        # where, not a product: padding may hold NaN
        total = torch.where(keep, wide(steps), 0).sum(1)
        return total / keep.sum(1).clamp(min=1)
    return steps.amax(1) if pool == "max" else wide(steps).mean(1)


def wide(values: Tensor) -> Tensor:
    """Return values in a type that can be summed without loss."""
    return values if values.dtype in WIDE or values.is_complex() else values.to(torch.float32)


def unfold_rows(values: Tensor, n_rows: int, *, step_major: bool) -> Tensor:
    """Return (n_rows * k, ...) as (n_rows, k, ...): nets that run every step as a row of its own."""
    k = len(values) // n_rows
    if step_major:
        return values.reshape(k, n_rows, *values.shape[1:]).movedim(1, 0)
    return values.reshape(n_rows, k, *values.shape[1:])
