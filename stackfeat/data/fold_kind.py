"""Which kind of folds a config means; pure, so that planning needs neither pandas nor scikit-learn.

In:  `FoldOptions`, the task, and which of group, time and fold columns exist.
Out: one of kfold, stratified, group, stratified_group, time, column, custom.
"""

from __future__ import annotations

from stackfeat.data.options import FoldOptions
from stackfeat.errors import ConfigError, Problem
from stackfeat.task import Kind

_NEEDS = {"group": "group", "stratified_group": "group", "time": "time", "column": "fold"}


def resolve_kind(
    options: FoldOptions, task_kind: Kind, has_group: bool, has_time: bool, has_fold: bool
) -> str:
    """Return the kind of folds, ``auto`` resolved.

    ``auto`` is: given column, else time, else group (stratified_group for classes), else stratified
    or kfold. Time folds drop training rows of a predicted row's group, so time and group go together.

    Parameters
    ----------
    options : FoldOptions
    task_kind : {"binary", "multiclass", "regression"}
    has_group, has_time, has_fold : bool
        Whether ``data.group``, ``data.time``, ``data.fold`` name a column.

    Returns
    -------
    str
        kfold, stratified, group, stratified_group, time, column or custom (``pkg.mod:Splitter``).

    Raises
    ------
    ConfigError
        If the kind needs a column that is not named, or ignores one without ``allow_leak``.
    """
    classes = task_kind != "regression"
    if options.kind == "auto":
        return _automatic(classes, has_group, has_time, has_fold)
    kind = "custom" if ":" in options.kind else options.kind
    has = {"group": has_group, "time": has_time, "fold": has_fold}
    problems = []
    if kind in _NEEDS and not has[_NEEDS[kind]]:
        role = _NEEDS[kind]
        problems.append(f"kind: {kind} needs a column; got no data.{role}; name it as data.{role}")
    if kind in ("stratified", "stratified_group") and not classes:
        plain = "kfold" if kind == "stratified" else "group"
        problems.append(f"kind: {kind} needs classes; got task=regression; use kind: {plain}")
    if not options.allow_leak:
        problems += [_ignored(kind, role) for role in _ignores(kind) if has[role]]
    if problems:
        raise ConfigError([Problem("folds.kind", problem) for problem in problems])
    return kind


def is_time_kind(kind: str, has_time: bool, allow_leak: bool) -> bool:
    """Return whether folds follow time: later rows never train a model of earlier ones.

    A user's splitter does where there is a time column, because its splits are checked against it.
    """
    return kind == "time" or (kind == "custom" and has_time and not allow_leak)


def _automatic(classes: bool, has_group: bool, has_time: bool, has_fold: bool) -> str:
    if has_fold:
        return "column"
    if has_time:
        return "time"
    if has_group:
        return "stratified_group" if classes else "group"
    return "stratified" if classes else "kfold"


def _ignores(kind: str) -> tuple[str, ...]:
    """Roles that this kind of folds does not respect. Custom and given folds are judged on their rows."""
    return {
        "kfold": ("group", "time"),
        "stratified": ("group", "time"),
        "group": ("time",),
        "stratified_group": ("time",),
    }.get(kind, ())


def _ignored(kind: str, role: str) -> str:
    return (
        f"kind: {kind} ignores data.{role}, so scores would look better than new data will be; "
        f"use kind: auto, remove data.{role}, or set folds.allow_leak: true"
    )
