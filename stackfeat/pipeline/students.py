"""Students: one small model in one file that predicts alone, without the run, the store, and for trees without torch.

In:  a file ``student.zip`` that anybody may have sent; a table, a path or a dict of columns.
Out: predictions. Nothing in the file is code: a sealed description, arrays, and trees as text, each checked by its
     SHA-256 and by its own rules before anything is built of it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stackfeat.data.prepare.plain_columns import PlainColumns, ScaledColumns, TreeColumns
from stackfeat.data.samples import Table
from stackfeat.data.schema.columns import Column, Schema
from stackfeat.errors import DataError, MemberError, UsageError, as_written
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.submission import Form
from stackfeat.store.booster_text import checked_text
from stackfeat.store.manifest import seal, unseal
from stackfeat.store.npy import parse_npy
from stackfeat.structure import checked, must, structured
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
HEAD, TREES = "student.json", "model.txt"
REMEDY = "distil the run again with this version"
MOST_BYTES = 1 << 29
MOST_FILES = 1_000
MOST_LAYERS = 20
_MADE = (1980, 1, 1, 0, 0, 0)
"""The time of all files in a zip, so that the same student is the same bytes."""


@dataclass(frozen=True)
class StudentModel(ABC):
    """What maps columns to predictions on the scale of members."""

    task: Task
    kind: ClassVar[str]
    reader: ClassVar[type[TreeColumns] | type[ScaledColumns]]

    @abstractmethod
    def predict(self, columns: np.ndarray) -> np.ndarray:
        """Return float64 (n_rows, n_outputs)."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Return all that there is to store, by name."""

    @classmethod
    @abstractmethod
    def load(cls, files: Mapping[str, bytes], task: Task, n_columns: int) -> StudentModel:
        """Return what `files` gave, checked; StructureError if it could not have."""


@dataclass(frozen=True)
class Trees(StudentModel):
    """Boosted trees of LightGBM."""

    text: str = field(repr=False)
    kind = "lightgbm"
    reader = TreeColumns

    @classmethod
    def of(cls, text: str, task: Task) -> Trees:
        return cls(task, text)

    @cached_property
    def booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def predict(self, columns: np.ndarray) -> np.ndarray:
        return self.task.placed(np.asarray(self.booster.predict(columns, num_threads=1)))

    def files(self) -> dict[str, bytes]:
        return {TREES: self.text.encode()}

    @classmethod
    def load(cls, files: Mapping[str, bytes], task: Task, n_columns: int) -> Trees:
        text = files[TREES].decode("ascii")
        model = cls(task, checked_text(text, n_columns, task.n_outputs if task.n_outputs > 2 else 1))
        # Parsed now: a file that cannot be read says so before it is used.
        must(model.booster.num_trees() > 0, "a student", "have trees", 0)
        return model


@dataclass(frozen=True)
class Layers(StudentModel):
    """Dense layers with ReLU between them."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    kind = "mlp"
    reader = ScaledColumns

    @classmethod
    def of(cls, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], task: Task) -> Layers:
        return cls(task, tuple(weights), tuple(biases))

    def predict(self, columns: np.ndarray) -> np.ndarray:
        values = columns
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = (np.maximum(values, 0.0) if number else values) @ weight + bias
        return self.task.of_scores(values)

    def files(self) -> dict[str, bytes]:
        layers = enumerate(zip(self.weights, self.biases, strict=True))
        return {
            f"{name}{number}.npy": _npy(values)
            for number, pair in layers
            for name, values in zip(("weight", "bias"), pair, strict=True)
        }

    @classmethod
    def load(cls, files: Mapping[str, bytes], task: Task, n_columns: int) -> Layers:
        n_layers = sum(name.startswith("weight") for name in files)
        must(1 <= n_layers <= MOST_LAYERS, "a student", f"have 1 to {MOST_LAYERS} layers", n_layers)
        weights = [parse_npy(files[f"weight{number}.npy"], "a weight") for number in range(n_layers)]
        biases = [parse_npy(files[f"bias{number}.npy"], "a bias") for number in range(n_layers)]
        last = task.n_outputs if task.n_outputs > 2 else 1
        widths = [n_columns, *(len(bias) for bias in biases)]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            fits = weight.shape == (widths[number], widths[number + 1]) and bias.shape == (
                widths[number + 1],
            )
            are_numbers = weight.dtype == bias.dtype == np.float64
            is_sound = fits and are_numbers and bool(np.isfinite(weight).all() and np.isfinite(bias).all())
            must(is_sound, "a student", "have layers of finite numbers that fit each other", weight.shape)
        must(widths[-1] == last, "a student", f"have {last} outputs", widths[-1])
        return cls.of(weights, biases, task)


MODELS: dict[str, type[StudentModel]] = {one.kind: one for one in (Trees, Layers)}


@dataclass(frozen=True)
class Made:
    """Where a student comes from: the run, its submitted member, what both were worth out of fold, the rows."""

    run: str
    teacher: str
    metric: str
    student: float
    control: float
    gap: float
    se: float
    n_rows: int
    n_soft: int
    n_rounds: int
    version: str


@dataclass(frozen=True)
class Described:
    """What ``student.json`` holds; `files` maps names to SHA-256."""

    format: int
    kind: str
    schema: dict[str, Any]
    data: dict[str, Any]
    form: dict[str, Any]
    decision: dict[str, Any] | None
    tables: tuple[str, ...]
    files: Mapping[str, str]
    made: Made


@dataclass(frozen=True)
class Student:
    """A small model that was distilled from a run.

    Attributes
    ----------
    made : Made
        Where it comes from.
    """

    model: StudentModel
    schema: Schema
    data: dict[str, Any]
    form: Form
    decision: Decision | None
    tables: Mapping[str, PlainColumns]
    made: Made
    where: str = "a student"

    @property
    def classes_(self) -> np.ndarray:
        """Labels in the order of `predict_proba`'s columns; empty for values."""
        return np.asarray(self.schema.task.classes)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The columns that it reads."""
        return np.array([column.name for column in self.columns], dtype=object)

    @cached_property
    def columns(self) -> list[Column]:
        wanted = {name for table in self.tables for name in self.schema.inputs[table]}
        # Terms of texts are no small model.
        return [column for column in self.schema.columns if column.name in wanted and column.type != "text"]

    @cached_property
    def _by_table(self) -> dict[str, tuple[list[Column], list[Column]]]:
        """Of each table the columns of numbers, and those of codes."""
        found = {}
        for name in self.tables:
            inside = [column for column in self.columns if column.name in self.schema.inputs[name]]
            coded = [column for column in inside if column.type == "categorical"]
            found[name] = [column for column in inside if column.type != "categorical"], coded
        return found

    def predict(self, X: Any) -> np.ndarray:
        """Return labels, or values on the scale of the target, of shape (n_rows,).

        Parameters
        ----------
        X : DataFrame, path, or dict of str to array
            With the columns of the training file; others are not read.
        """
        task, prediction = self.schema.task, self.outputs(X)
        decided = task.decided(prediction) if self.decision is None else self.decision.apply(prediction)
        found = task.labels_of(decided)
        return found.reshape(len(prediction)) if task.n_targets == 1 else found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, float64 (n_rows, n_classes)."""
        if not len(self.classes_):
            raise UsageError("predict_proba needs classes; got a student of a regression; call predict")
        return self.outputs(X)

    def outputs(self, X: Any) -> np.ndarray:
        """Return probabilities, or values on the scale of the target, float64 (n_rows, n_outputs)."""
        columns = self._matrix(X)
        # A file may hold numbers of any size.
        with np.errstate(over="ignore"):
            said = self.model.predict(columns)
        task = self.schema.task
        try:
            return np.asarray(task.to_target_scale(task.checked(said, self.where)))
        except MemberError as error:
            raise DataError(
                f"{self.where} must predict numbers that mean something; {error}; {REMEDY}"
            ) from error

    def _matrix(self, X: Any) -> np.ndarray:
        given = as_columns(X, self.data)
        absent = [column.name for column in self.columns if column.name not in given]
        if absent:
            raise DataError(
                f"X must have the columns of the training file; missing here: {', '.join(absent[:5])}; add them"
            )
        n_rows = len(given[self.columns[0].name])
        if not n_rows:
            raise DataError("X: there must be rows; got none")
        read = self._read(given)
        parts = []
        for name, (numbers, coded) in self._by_table.items():
            values = [read[column.name] for column in numbers]
            codes = [read[column.name] for column in coded]
            table = Table(
                np.hstack([np.zeros((n_rows, 0)), *values]),
                tuple(one for column in numbers for one in column.numeric_names),
                np.column_stack([np.zeros((n_rows, 0), dtype=np.int32), *codes]),
                tuple(column.name for column in coded),
                tuple(column.levels for column in coded),
            )
            parts.append(self.tables[name].transform(table))
        return np.hstack(parts)

    def _read(self, given: pd.DataFrame | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what a learner reads of each column, as `Column.read`."""
        found = {}
        for column in self.columns:
            values = given[column.name]
            few = few_cells(values.tolist(), column, self._places) if len(values) <= FEW_ROWS else None
            if few is not None:
                found[column.name] = few
        rest = {column.name: column for column in self.columns if column.name not in found}
        if rest:
            import pandas as pd

            from stackfeat.data.files.cells import column_cells
            from stackfeat.registry.resolve import quoted

            frame = pd.DataFrame({name: given[name] for name in rest})
            notations = {name: column.notation for name, column in rest.items()}
            for name, cells in column_cells(frame, notations):
                found[name] = rest[name].read(cells, f"column {quoted(name)}")
        return found

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        """Of each column the place of each of its levels."""
        return {one.name: {level: place for place, level in enumerate(one.levels)} for one in self.columns}

    def save(self, path: Path) -> None:
        """Write the file."""
        from stackfeat.output.files import write_bytes

        files = self.model.files()
        for number, columns in enumerate(self.tables.values()):
            files |= {f"table{number}.{name}.npy": _npy(values) for name, values in columns.arrays().items()}
        described = Described(
            format=FORMAT,
            kind=self.model.kind,
            schema=self.schema.to_json(),
            data=self.data,
            form=self.form.to_json(),
            decision=None if self.decision is None else self.decision.to_json(),
            tables=tuple(self.tables),
            files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            made=self.made,
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in {HEAD: seal(asdict(described)), **files}.items():
                archive.writestr(zipfile.ZipInfo(name, _MADE), content, zipfile.ZIP_DEFLATED)
        write_bytes(path, packed.getvalue())


def load_student(path: str | Path) -> Student:
    """Read a student that `distil` wrote; nothing in the file can run code.

    Raises
    ------
    DataError
        If it is no such file, damaged, or of another version.

    Examples
    --------
    >>> student = load_student("student.zip")  # doctest: +SKIP
    >>> student.predict_proba(frame)           # doctest: +SKIP
    """
    path = Path(path)
    files = _unpacked(path)
    with as_written(str(path), REMEDY):
        head = files.pop(HEAD, b"")
        described = structured(Described, unseal(head, path / HEAD, FORMAT, REMEDY), f"{path}: {HEAD}")
        must(set(described.files) == set(files), str(path), "hold the files that it lists", sorted(files)[:3])
        for name, content in files.items():
            same = hashlib.sha256(content).hexdigest() == described.files[name]
            must(same, f"{path}: {name}", "be as it was written", "contents of another hash")
        must(described.kind in MODELS, str(path), f"be one of {', '.join(MODELS)}", described.kind)
        return _student(described, files, str(path))


def _student(described: Described, files: Mapping[str, bytes], where: str) -> Student:
    schema = Schema.from_json(described.schema, f"{where}: schema")
    kind = MODELS[described.kind]
    tables: dict[str, PlainColumns] = {}
    n_columns = 0
    known = {column.name: column for column in schema.columns}
    for number, name in enumerate(described.tables):
        must(name in schema.inputs and name not in tables, where, "read inputs of its schema", name)
        columns = [known[one] for one in schema.inputs[name]]
        start = f"table{number}."
        arrays = {
            one.removeprefix(start).removesuffix(".npy"): parse_npy(content, f"{where}: {one}")
            for one, content in files.items()
            if one.startswith(start)
        }
        n_numeric = sum(len(column.numeric_names) for column in columns)
        found = kind.reader.load(arrays, n_numeric)
        found.check([column.levels for column in columns if column.type == "categorical"])
        tables[name] = found
        n_columns += found.n_columns(n_numeric)
    must(bool(tables), where, "read a table", described.tables)
    model = kind.load(files, schema.task, n_columns)
    decision = None if described.decision is None else Decision.from_json(described.decision)
    form = Form.from_json(described.form)
    checked(dict[str, Any], described.data, where)
    return Student(model, schema, described.data, form, decision, tables, described.made, where)


def _unpacked(path: Path) -> dict[str, bytes]:
    """Return the files in a zip; DataError if it is none, or unpacks to more than a student has."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            plain = all(
                not member.flag_bits & 1
                and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                for member in members
            )
            names = [member.filename for member in members]
            if not plain or total > MOST_BYTES or len(names) > MOST_FILES or len(set(names)) < len(names):
                raise DataError(
                    f"{path} must be a student as `distil` writes it; got {len(names)} files of {total:,} bytes; "
                    f"{REMEDY}"
                )
            return {name: archive.read(name) for name in names}
    except FileNotFoundError:
        raise DataError(
            f"{path} must be a student's file; got none; give the file that distil wrote"
        ) from None
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path} must be a student's file, as `distil` writes it, or what `export` wrote of a run; got neither "
            f"({type(error).__name__}); {REMEDY}"
        ) from error


def as_columns(X: Any, data: Mapping[str, Any]) -> pd.DataFrame | Mapping[str, np.ndarray]:
    """Return what a student is asked about by column, read from a file where X is a path."""
    if isinstance(X, str | Path):
        return read_file(Path(X), data)
    if isinstance(X, Mapping):
        found = {str(name): np.atleast_1d(np.asarray(values)) for name, values in X.items()}
        for name, values in found.items():
            if values.ndim > 1:
                raise UsageError(
                    f"columns of X must hold a value for each row; got {name!r} of shape {values.shape}; "
                    "give one value a row"
                )
        lengths = {len(values) for values in found.values()}
        if len(lengths) > 1:
            raise UsageError(
                f"columns of X must be of one length; got {sorted(lengths)[:5]}; give a value for each row"
            )
        return found
    if hasattr(X, "columns") and hasattr(X, "iloc"):
        frame: pd.DataFrame = X
        twice = list(dict.fromkeys(map(str, frame.columns[frame.columns.duplicated()])))
        if twice:
            raise UsageError(
                f"names of columns of X must differ; got {', '.join(twice[:5])} more than once; rename them"
            )
        return frame
    raise UsageError(
        f"X must be a DataFrame, a path or a dict of columns; got {type(X).__name__}; give columns by their names"
    )


def read_file(path: Path, data: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of a file, read with the options of the run."""
    from stackfeat.data.files.tables import read_frame
    from stackfeat.data.options import DataOptions

    with as_written("the options of a student", REMEDY):
        options = DataOptions(**data)
    return read_frame(path, options, "test")


FEW_ROWS = 64
"""Of so few rows cells are read one by one: that takes a tenth of the time."""
_LARGEST = float(np.finfo(np.float32).max)


def few_cells(cells: list[Any], column: Column, places: Mapping[str, Mapping[str, int]]) -> np.ndarray | None:
    """Return what is read of some cells, as `Column.read`; None where that is not plain to see."""
    if column.notation.missing_numbers:
        return None
    if column.type == "numeric" and all(type(cell) in (int, float) for cell in cells):
        numbers = np.array(cells, dtype=np.float64).reshape(-1, 1)
        return None if (np.abs(numbers) > _LARGEST).any() else numbers
    if column.type != "categorical":
        return None
    known, missing, codes = places[column.name], column.notation.missing, []
    for cell in cells:
        if type(cell) is str:
            text = cell.strip()
            codes.append(-1 if text in missing else known.get(text, -2))
        elif cell is None or (type(cell) is float and np.isnan(cell)):
            codes.append(-1)
        else:
            return None
    return np.array(codes, dtype=np.int32)


def _npy(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, np.ascontiguousarray(values), allow_pickle=False)
    return sink.getvalue()
