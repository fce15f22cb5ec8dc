"""Labels in the parameters of estimators, which are fitted on class codes.

In:  an estimator of which a parameter names labels (`class_weight={"good": 5}`), the classes of the task.
Out: the same estimator with codes in their place: also inside pipelines, searches and other estimators, as far as
     these are fitted on the same classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackfeat.errors import UsageError
from stackfeat.registry.parameter_kinds import GRIDS
from stackfeat.registry.resolve import name_values, quoted, suggest
from stackfeat.tasks.task import Task

BY_LABEL = ("class_weight", "class_weights", "sampling_strategy")
"""Parameters that may be mappings from labels."""
LABELS = ("pos_label", "constant")
"""Parameters that may be a label."""
_OWN_CLASSES = (
    "OneVsRestClassifier",
    "OneVsOneClassifier",
    "OutputCodeClassifier",
    "MultiOutputClassifier",
    "ClassifierChain",
)
"""Estimators that fit others on classes of their own making: what is said of labels inside is about those."""


def with_class_codes(estimator: Any, task: Task | None) -> Any:
    """Replace labels by class codes in the parameters of an unfitted estimator, which is changed and returned.

    Parameters
    ----------
    estimator : estimator
        A copy of the caller's own.
    task : Task or None
        None, or a task of label sets, which are 0 and 1 already: nothing is changed.

    Raises
    ------
    UsageError
        If a weight is given for what is no class.
    """
    if task is not None and not task.has_label_sets and hasattr(estimator, "get_params"):
        _change(estimator, ClassCodes(task.classes))
    return estimator


class ClassCodes:
    """The code of each label: as it is, or as its text, which is all that a config can say of some labels."""

    def __init__(self, classes: Sequence[Any]) -> None:
        self.classes = classes
        self.changed: set[int] = set()
        self._codes = {str(label): code for code, label in enumerate(classes)}
        self._codes |= {label: code for code, label in enumerate(classes)}

    def __contains__(self, label: object) -> bool:
        return label in self._codes or str(label) in self._codes

    def __getitem__(self, label: object) -> int:
        return self._codes[label if label in self._codes else str(label)]

    def keyed(self, name: str, weights: Mapping[Any, Any]) -> dict[int, Any]:
        """Return a mapping from labels as one from codes; UsageError if a key is no class."""
        for label in weights:
            if label not in self:
                texts = [str(one) for one in self.classes]
                raise UsageError(
                    f"{name} must name classes ({name_values(texts)}); got {quoted(str(label))}."
                    f"{suggest(str(label), texts)}"
                )
        return {self[label]: weight for label, weight in weights.items()}

    def value(self, name: str, value: Any) -> Any:
        """Return the value of a parameter of this name with codes for labels."""
        if name in BY_LABEL and isinstance(value, Mapping):
            return self.keyed(name, value)
        is_label = name in LABELS and isinstance(value, str | int | float | bool) and value in self
        return self[value] if is_label else value


def _change(estimator: Any, codes: ClassCodes) -> None:
    # A parameter may hold the very estimator that it is a parameter of.
    if id(estimator) in codes.changed:
        return
    codes.changed.add(id(estimator))
    has_own = _fits_on_own_classes(estimator)
    changed = {}
    for name, value in estimator.get_params(deep=False).items():
        if name in GRIDS:
            changed[name] = _grid(value, estimator, codes)
        elif name in (*BY_LABEL, *LABELS):
            changed[name] = codes.value(name, value)
        elif not has_own:
            for inner in _estimators_in(value):
                _change(inner, codes)
    if changed:
        estimator.set_params(**changed)


def _fits_on_own_classes(estimator: Any) -> bool:
    return any(base.__name__ in _OWN_CLASSES for base in type(estimator).__mro__)


def _estimators_in(value: Any) -> list[Any]:
    """Return the estimators that a parameter is, or holds in a list, alone or with a name."""
    if isinstance(value, list | tuple):
        return [inner for item in value for inner in _estimators_in(item)]
    return [value] if hasattr(value, "get_params") and not isinstance(value, type) else []


def _grid(grid: Any, search: Any, codes: ClassCodes) -> Any:
    """Return the grid of a search, or a list of them, with codes for labels."""
    if isinstance(grid, list | tuple):
        return [_grid(item, search, codes) for item in grid]
    if not isinstance(grid, Mapping):
        return grid
    found = {}
    for path, values in grid.items():
        *owners, name = str(path).split("__")
        is_listed = isinstance(values, list | tuple)
        if is_listed and not _passes_own_classes(search, owners):
            for inner in _estimators_in(values):
                _change(inner, codes)
            values = [codes.value(name, value) for value in values]
        found[path] = values
    return found


def _passes_own_classes(search: Any, owners: Sequence[str]) -> bool:
    """Whether a parameter of a search belongs to an estimator that is fitted on classes of another's making."""
    owner = search.get_params(deep=False).get("estimator")
    for name in owners:
        if owner is None or _fits_on_own_classes(owner):
            break
        owner = owner.get_params(deep=True).get(name) if hasattr(owner, "get_params") else None
    else:
        return False
    return owner is not None
