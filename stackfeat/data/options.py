"""Options of `data`, `folds` in a config; torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from stackfeat.options import Options, one_is_a_list
from stackfeat.tasks.quantile import quantile_problem

ColumnType = Literal["numeric", "categorical", "boolean", "date", "text", "words"]
TEXT_TYPES = ("text", "words")
"""Those of which words are read."""
FOLD_KINDS = ("auto", "kfold", "stratified", "group", "stratified_group", "time", "column")
ArrayKind = Literal["auto", "table", "image", "sequence", "tokens", "array"]
Resize = Literal["short_side", "stretch", "pad"]
Normalize = Literal["auto", "standard", "imagenet", "unit", "none"]
ROLES = ("id", "target", "query", "group", "time", "weight", "fold")


class InputOptions(Options):
    """One named input: columns of the table, an array, or image files."""

    columns: tuple[str, ...] | None = Field(None, description="Column names or globs of the table.")
    array: str | None = Field(
        None, description="An array of the npz file, or a npy file: '{name}_images.npy'."
    )
    column: str | None = Field(None, description="A column of image paths.")
    kind: ArrayKind = Field("auto", description="array: what its axes mean.")
    lengths: str | None = Field(
        None, description="array: the array or column that says how long each row is."
    )
    channels: Literal["auto", "first", "last"] = Field("auto", description="Where an image array has them.")
    normalize: Normalize = Field("auto", description="How numbers of arrays and images are scaled.")
    stream: bool | None = Field(None, description="Leave rows on disk until needed; default: large ones.")
    root: str | None = Field(None, description="column: the folder that image paths are relative to.")
    size: int | None = Field(None, ge=4, le=2048, description="column: images become size x size pixels.")
    mode: Literal["RGB", "L"] = Field("RGB", description="column: colour, or grey.")
    resize: Resize = Field("short_side", description="column: how an image becomes square.")
    broken: Literal["warn", "error"] = Field("warn", description="column: what unreadable files lead to.")

    _one = field_validator("columns", mode="before")(one_is_a_list)

    @model_validator(mode="after")
    def exactly_one_source(self) -> InputOptions:
        given = [name for name in ("columns", "array", "column") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"an input has exactly one of columns, array, column; got {', '.join(given) or 'none'}"
            )
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (option, message) for options of another source, or that miss or contradict each other."""
        source = next(name for name in ("array", "column", "columns") if getattr(self, name) is not None)
        if self.columns == ():
            yield "columns", "must name at least one column; got none"
        for options, sources, wanted in _OF_SOURCES:
            for option in options:
                if source not in sources and self.is_set(option):
                    yield option, f"is for inputs with {wanted}; got an input of {source}. Remove it"
        if source == "column" and self.size is None:
            yield "size", "image files need a size in pixels; got none. Add size: 64"
        if source == "column" and self.mode == "L" and self.normalize == "imagenet":
            message = "imagenet has means of three colours; got mode=L. Use mode: RGB, or normalize: standard"
            yield "normalize", message
        got = f"got kind={self.kind}. Remove it"
        if self.lengths is not None and self.kind not in ("auto", "sequence", "tokens"):
            yield "lengths", f"only sequences and tokens have lengths; {got}"
        if self.channels != "auto" and self.kind not in ("auto", "image"):
            yield "channels", f"only images have channels; {got}"
        if self.kind in ("table", "tokens") and self.is_set("normalize"):
            yield "normalize", f"is for images and sequences; {got}"
        if self.kind == "table" and self.is_set("stream"):
            yield "stream", "tables are held in memory; got kind=table. Use kind: array"


_OF_SOURCES = (
    (("kind", "lengths", "channels"), ("array",), "array"),
    (("root", "size", "mode", "resize", "broken"), ("column",), "column (image files)"),
    (("normalize", "stream"), ("array", "column"), "array and column"),
)
"""Options of an input, the sources that have them, and these in words."""


def _as_text(value: object) -> object:
    """Return a number, or the null of YAML, as its text in a file."""
    if value is None:
        return "null"
    return value if isinstance(value, bool) or not isinstance(value, int | float) else str(value)


def _one_text_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


def _one_number_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


Texts = Annotated[tuple[Annotated[str, BeforeValidator(_as_text)], ...], BeforeValidator(_one_text_is_a_list)]
"""Texts of cells; numbers such as -999 are taken as they are written."""
Decimal = Literal[".", ","]
Thousands = Literal[",", ".", " ", "'", "_"]
Label = str | int | float | bool
TargetTransform = Literal["auto", "none", "log1p"]
_LATER = (
    *("decimal", "thousands", "missing", "not_missing", "class_order", "extra", "quantiles", "query"),
    "label_separator",
)
FILES = ("train", "test", "sample_submission", "extra")
"""Options that name files: contents decide, not names."""


class ExtraOptions(Options):
    """Rows of another file that only train."""

    train: str = Field(description="File with the columns of the training file, its target included.")
    factor: Annotated[float, Field(gt=0, le=100)] | Literal["auto"] = Field(
        "auto", description="Weight of an extra row beside a training row; auto: 1, or they are left out."
    )


class DataOptions(Options):
    """Where rows come from and what their columns are for."""

    train: str = Field(description="Training file (csv, parquet, feather, npz) or 'sklearn:NAME'.")
    test: str | None = Field(None, description="File with the rows to predict.")
    sample_submission: str | None = Field(None, description="The submission is checked against this file.")
    id: str | None = Field(None, description="Column that names each row; row numbers without it.")
    target: str | tuple[str, ...] = Field(
        "target", description="Column to predict; a list of several, where the task takes them."
    )
    query: str | None = Field(
        None, description="Ranking: column of the list that a row belongs to; it is a group, too."
    )
    group: str | None = Field(None, description="Rows of one group never stand on both sides of a fold.")
    time: str | None = Field(
        None, description="Column that orders rows in time; read by members whose inputs name it."
    )
    weight: str | None = Field(None, description="Column of row weights.")
    fold: str | None = Field(None, description="Column of given fold numbers.")
    drop: tuple[str, ...] = Field((), description="Columns (or globs) that are not read.")
    inputs: dict[str, InputOptions] | None = Field(None, description="Named inputs; default: one `table`.")
    positive: str | int | float | bool | None = Field(
        None, description="Binary: the class whose probability counts."
    )
    types: dict[str, ColumnType] = Field({}, description="Column types where guessing is wrong.")
    target_transform: TargetTransform | dict[str, TargetTransform] = Field(
        "auto", description="What members learn the target as; of several targets also by target."
    )
    encoding: str | None = Field(None, description="Text encoding of csv files; default: detected.")
    separator: str | None = Field(None, description="Separator of csv files; default: detected.")
    decimal: Decimal | dict[str, Decimal] | None = Field(
        None, description="Decimal mark of numbers in text, also by column; default: told by the cells."
    )
    thousands: Thousands | dict[str, Thousands] | None = Field(
        None,
        description="Mark between thousands, also by column; ' ' is any space; default: told by the cells.",
    )
    missing: Texts | dict[str, Texts] = Field(
        (), description="Further texts that stand for a missing value, also by column."
    )
    not_missing: Texts | dict[str, Texts] = Field(
        (), description="Texts that are values although they look like missing ones, also by column."
    )
    class_order: tuple[Label, ...] | None = Field(
        None, description="Classes in their order; the last is the positive class. Default: sorted."
    )
    extra: ExtraOptions | None = Field(None, description="Rows of another file that only train.")
    label_separator: str | None = Field(
        None,
        min_length=1,
        max_length=10,
        description="Multilabel: what stands between labels in one column; ranking: between ids in a submission "
        "of a row for each query.",
    )
    quantiles: Annotated[tuple[float, ...], BeforeValidator(_one_number_is_a_list)] | None = Field(
        None, description="Quantile: the levels that are predicted, ascending; default 0.1, 0.5, 0.9."
    )

    @field_validator("target", mode="before")
    @classmethod
    def several_or_one(cls, value: object) -> object:
        """Return a list of one column as this column."""
        if isinstance(value, list | tuple) and not value:
            raise ValueError("must name a column, or a list of columns; got an empty list")
        return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict."""
        return self.target if isinstance(self.target, tuple) else (self.target,)

    @property
    def target_name(self) -> str:
        """The columns to predict, in a line."""
        return ", ".join(self.targets)

    @property
    def roles(self) -> dict[str, str]:
        """Columns that are no features by themselves, by role; of several targets each, as ``target.0``, ..."""
        found: dict[str, str] = {}
        for role in ROLES:
            named = getattr(self, role)
            if isinstance(named, tuple):
                found |= {f"{role}.{place}": name for place, name in enumerate(named)}
            elif named is not None:
                found[role] = named
        return found

    def transform_of(self, target: str) -> TargetTransform:
        """Return what is said of the scale on which members learn a target."""
        given = self.target_transform
        return given.get(target, "auto") if isinstance(given, dict) else given

    @property
    def groups(self) -> str | None:
        """The column whose rows never stand on both sides of a fold."""
        return self.query if self.group is None else self.group

    @property
    def array_inputs(self) -> dict[str, InputOptions]:
        """Inputs that are arrays or image files."""
        return {name: given for name, given in (self.inputs or {}).items() if given.columns is None}

    @property
    def by_column(self) -> dict[str, list[str]]:
        """Columns (or globs) that options of texts name, by option."""
        named = ((key, getattr(self, key)) for key in ("decimal", "thousands", "missing", "not_missing"))
        return {key: list(given) for key, given in named if isinstance(given, dict)}

    _one = field_validator("drop", "missing", "not_missing", mode="before")(one_is_a_list)

    @field_validator("quantiles")
    @classmethod
    def levels_ascend(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        problem = None if value is None else quantile_problem(value)
        if problem:
            raise ValueError(f"must {problem}; got {list(value or ())}; such as [0.05, 0.5, 0.95]")
        return value

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; options that came later are left out where they are not set, as in older keys."""
        return {name: value for name, value in super().to_json().items() if name not in _LATER or value}

    def notation_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (option, message) for marks that contradict each other, and a class order that does."""
        if isinstance(self.decimal, str) and self.decimal == self.thousands:
            yield "thousands", f"must differ from decimal; got {self.thousands!r} for both. Name one of them"
        order = [str(label) for label in self.class_order or ()]
        if self.class_order is not None and len(order) < 2:
            yield "class_order", f"must name every class; got {order}. Name them all, or remove it"
        twice = [label for place, label in enumerate(order) if label in order[:place]]
        if twice:
            yield "class_order", f"must name each class once; got {twice[0]!r} more than once"
        if order and self.positive is not None and str(self.positive) != order[-1]:
            got = f"got {order[-1]!r} and positive={self.positive!r}"
            yield (
                "positive",
                f"the last of class_order is the positive class; {got}. Remove positive, or put this class last",
            )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (option, message) for columns that are named for two things, and marks or classes that contradict."""
        yield from self.notation_problems()
        for name in self.target_transform if isinstance(self.target_transform, dict) else ():
            if name not in self.targets:
                yield (
                    f"target_transform.{name}",
                    f"must be a target ({self.target_name}); got {name!r}. Correct or remove it",
                )
        roles: dict[str, str] = {}
        for role, column in self.roles.items():
            if column in roles:
                yield role, f"must be a column of its own; got {column!r}, which is data.{roles[column]} too"
            roles.setdefault(column, role)
        read = {name for given in (self.inputs or {}).values() for name in given.columns or ()}
        for column, kind in self.types.items():
            # Of times it says how their cells are read.
            if column in roles and column not in read and (kind in TEXT_TYPES or roles[column] != "time"):
                yield (
                    f"types.{column}",
                    f"a role has no type; {column!r} is data.{roles[column]}. Remove it here",
                )
        for place, column in enumerate(self.drop):
            if column in roles:
                message = f"{column!r} is dropped and is data.{roles[column]}. Roles are no features: remove it here"
                yield f"drop.{place}", message


class FoldOptions(Options):
    """How training rows are split."""

    kind: str = Field("auto", description=f"{', '.join(FOLD_KINDS)} or pkg.mod:Splitter.")
    n: int = Field(5, ge=2, le=100, description="Number of folds.")
    repeats: int = Field(1, ge=1, le=100, description="Complete stacks on newly drawn folds.")
    repeats_as: Literal["stacks", "blocks"] = Field(
        "stacks", description="blocks: same folds, other seeds, rows averaged."
    )
    seed: int = Field(42, ge=0, lt=2**32)
    gap: int = Field(0, ge=0, description="Time folds: rows left out between training and prediction.")
    test_size: int | None = Field(None, ge=1, description="Time folds: rows predicted per fold.")
    max_train_size: int | None = Field(None, ge=1, description="Time folds: training rows at most.")
    params: dict[str, Any] = Field({}, description="pkg.mod:Splitter: arguments of its constructor.")
    allow_leak: bool = Field(False, description="Accept folds that ignore a group or time column.")

    @model_validator(mode="after")
    def params_are_of_a_splitter(self) -> FoldOptions:
        if self.params and ":" not in self.kind:
            raise ValueError(
                f"params are for a splitter of your own (kind: pkg.mod:Splitter); got kind={self.kind!r}, "
                f"params={self.params}; remove params"
            )
        return self

    @field_validator("kind")
    @classmethod
    def known_kind(cls, value: str) -> str:
        if value not in FOLD_KINDS and ":" not in value:
            raise ValueError(f"must be one of {', '.join(FOLD_KINDS)}, or pkg.mod:Splitter; got {value!r}")
        return value
