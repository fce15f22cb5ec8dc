"""Features: columns and arrays as a person names them, and where they stand in the rows that models read.

In:  rows, and the schema that they were read by; what is remembered of the training file.
Out: a `Feature` for each column or whole array; rows in which some have the values of other rows; a typical row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stackfeat.data.samples import ArrayInput, Input, Samples, Table
from stackfeat.data.schema.columns import Column, Schema, date_parts
from stackfeat.data.schema.drift import TrainingSummary

Places = Mapping[str, tuple[int, ...]]
"""Name of an input to numbers of columns there."""


@dataclass(frozen=True)
class Feature:
    """A column of the data file, wherever inputs read it, or an array that is read whole.

    Attributes
    ----------
    name, kind : str
    columns : tuple of str
        What it consists of: itself, or the columns that are changed together.
    numbers, codes, texts : mapping of str to tuple of int
        By input: which columns of its table.
    arrays : tuple of str
        Inputs that are the feature as a whole.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    numbers: Places = field(default_factory=dict)
    codes: Places = field(default_factory=dict)
    texts: Places = field(default_factory=dict)
    arrays: tuple[str, ...] = ()

    @property
    def inputs(self) -> frozenset[str]:
        """The inputs that it stands in."""
        return frozenset([*self.numbers, *self.codes, *self.texts, *self.arrays])

    @classmethod
    def joined(cls, features: Sequence[Feature], name: str = "", kind: str = "group") -> Feature:
        """Return several as one, to be changed together."""

        def merged(parts: Iterable[Places]) -> Places:
            found: dict[str, tuple[int, ...]] = {}
            for part in parts:
                for place, numbers in part.items():
                    found[place] = (*found.get(place, ()), *numbers)
            return found

        return cls(
            name,
            kind,
            tuple(column for one in features for column in one.columns),
            merged(one.numbers for one in features),
            merged(one.codes for one in features),
            merged(one.texts for one in features),
            tuple(name for one in features for name in one.arrays),
        )


def features_of(inputs: Mapping[str, Input], schema: Schema) -> list[Feature]:
    """Return the features of rows: the columns in the order of the file, then columns of arrays and whole arrays."""
    tables = {name: values for name, values in inputs.items() if isinstance(values, Table)}
    columns = {column.name: column for column in schema.columns}
    named = {number for column in schema.columns for number in column.numeric_names} | set(columns)
    found = [_column(column, tables) for column in schema.columns]
    for name, table in tables.items():
        for place, column in enumerate(table.numeric_names):
            if column not in named:
                found.append(Feature(column, "numeric", (column,), {name: (place,)}))
    for name, values in inputs.items():
        if not isinstance(values, Table):
            kind = values.kind if isinstance(values, ArrayInput) else "array"
            found.append(Feature(name, kind, (name,), arrays=(name,)))
    return [feature for feature in found if feature.inputs]


def _column(column: Column, tables: Mapping[str, Table]) -> Feature:
    def places(part: str, names: Collection[str]) -> Places:
        found = {
            name: tuple(place for place, one in enumerate(getattr(table, part)) if one in names)
            for name, table in tables.items()
        }
        return {name: there for name, there in found.items() if there}

    own = (column.name,)
    return Feature(
        column.name,
        column.type,
        own,
        places("numeric_names", set(column.numeric_names)),
        places("code_names", own),
        places("text_names", own),
    )


Variant = tuple[Feature, np.ndarray]
"""A feature, and for each row the number of the row whose value it gets."""


def varied(samples: Samples, rows: np.ndarray, variants: Sequence[Variant]) -> Samples:
    """Return rows once for each variant, one after the other: in each a feature has the values of other rows.

    Parameters
    ----------
    samples : Samples
    rows : int64 array (n,)
        Which of them; roles and labels are those of these rows.
    variants : sequence of (Feature, int64 array (n,))
    """
    whole = samples.take(np.tile(rows, len(variants)))
    inputs = dict(whole.inputs)
    for name in frozenset().union(*(feature.inputs for feature, _ in variants)):
        source, values = samples.inputs[name], inputs[name]
        if isinstance(source, Table) and isinstance(values, Table):
            for place, (feature, donors) in enumerate(variants):
                part = slice(place * len(rows), (place + 1) * len(rows))
                if numbers := list(feature.numbers.get(name, ())):
                    values.numeric[part, numbers] = source.numeric[donors][:, numbers]
                if codes := list(feature.codes.get(name, ())):
                    values.codes[part, codes] = source.codes[donors][:, codes]
                if texts := list(feature.texts.get(name, ())):
                    values.texts[part, texts] = source.texts[donors][:, texts]
            continue
        origins = np.concatenate([donors if name in feature.arrays else rows for feature, donors in variants])
        inputs[name] = source[origins] if isinstance(source, np.ndarray) else source.take(origins)
    return replace(whole, inputs=inputs)


def correlated(samples: Samples, features: Sequence[Feature], least: float) -> list[list[Feature]]:
    """Return groups of columns of numbers whose rank correlations chain them together, each at least `least`."""
    from scipy.stats import rankdata

    single = [(feature, column) for feature in features for column in _numbers(samples, feature)]
    kept = [(feature, column) for feature, column in single if np.ptp(column) > 0]
    if len(kept) < 2:
        return []
    ranks = np.stack([rankdata(column) for _, column in kept])
    is_near = np.abs(np.corrcoef(ranks)) >= least
    group_of = np.arange(len(kept))
    for place in range(len(kept)):
        near = np.flatnonzero(is_near[place])
        group_of[np.isin(group_of, group_of[near])] = group_of[near].min()
    groups = [np.flatnonzero(group_of == group).tolist() for group in np.unique(group_of)]
    return [[kept[place][0] for place in group] for group in groups if len(group) > 1]


def _numbers(samples: Samples, feature: Feature) -> Iterator[np.ndarray]:
    """Yield the values of a feature that is one column of numbers, those that are missing as the median."""
    if feature.codes or feature.texts or feature.arrays or not feature.numbers:
        return
    name, places = next(iter(feature.numbers.items()))
    table = samples.inputs[name]
    assert isinstance(table, Table)
    # Of a date the last part, days since 1970, says the most.
    column = table.numeric[:, places[-1]]
    is_missing = np.isnan(column)
    if not is_missing.all():
        yield np.where(is_missing, np.median(column[~is_missing]), column)


def with_typical(samples: Samples, schema: Schema, summary: TrainingSummary) -> Samples:
    """Return rows, with the training file's typical row behind them, which has no labels and roles.

    Typical are the median of numbers, dates and truth values, the most frequent category, and in an array the median
    of all its values everywhere. A text is empty.
    """
    typical = _typical_cells(schema, summary)
    inputs = {name: _with_row(name, values, typical, summary) for name, values in samples.inputs.items()}
    ids = np.concatenate([samples.ids, np.array(["typical"])])
    return Samples(ids=ids, inputs=inputs, y=None, task=samples.task)


def _typical_cells(schema: Schema, summary: TrainingSummary) -> dict[str, float]:
    """Return the number, or the code, of each column of tables, by its name there."""
    found: dict[str, float] = {}
    for column in schema.columns:
        if column.levels or column.type == "categorical":
            level = summary.most_frequent(column.name)
            found[column.name] = column.levels.index(level) if level in column.levels else -1
        elif column.type == "date":
            days = summary.median(column.name)
            date = np.array(["NaT" if np.isnan(days) else round(days * 86_400)], dtype="datetime64[s]")
            parts = date_parts(date)
            found |= {f"{column.name}.{part}": float(parts[part][0]) for part in column.parts}
        elif column.type != "text":
            found[column.name] = summary.median(column.name)
    return found


def _with_row(name: str, values: Input, typical: Mapping[str, float], summary: TrainingSummary) -> Input:
    if isinstance(values, Table):
        numbers = [
            typical[column] if column in typical else summary.median(column)
            for column in values.numeric_names
        ]
        codes = [int(typical[column]) for column in values.code_names]
        row = replace(
            values,
            numeric=np.array([numbers], dtype=np.float64).reshape(1, -1),
            codes=np.array([codes], dtype=np.int32).reshape(1, -1),
            texts=np.full((1, len(values.text_names)), "", dtype=object),
        )
        return values.with_rows(row)
    middle = summary.median(name)
    array = np.asarray(values)
    kind = array.dtype.kind
    number = np.zeros(1)[0] if np.isnan(middle) else np.rint(middle) if kind in "iub" else middle
    array = np.concatenate([array, np.full((1, *array.shape[1:]), number).astype(array.dtype)])
    if isinstance(values, np.ndarray):
        return array
    lengths = values.lengths
    if lengths is not None:
        most = array.shape[1] if array.ndim > 1 else 1
        usual = int(np.clip(np.nan_to_num(summary.median(f"{name}.lengths"), nan=most), 1, max(most, 1)))
        lengths = np.concatenate([lengths, np.array([usual], dtype=lengths.dtype)])
    return replace(values, values=array, lengths=lengths)
