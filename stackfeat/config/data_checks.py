"""Check `data` and `folds`: roles of columns, named inputs, kinds of folds, fit to the task.

In:  a RunConfig.
Out: findings. No file is opened here; columns are checked against the files when they are loaded.
"""

from __future__ import annotations

import warnings

from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.data.fold_kind import resolve_kind
from stackfeat.errors import ConfigError, DataWarning
from stackfeat.registry.resolve import suggest

ROLES = ("id", "target", "group", "time", "weight", "fold")
BUILT_IN = ("digits", "iris", "wine", "breast_cancer", "diabetes")
_TIME_OPTIONS = ("gap", "test_size", "max_train_size")


def data_findings(config: RunConfig) -> list[Finding]:
    """Return all findings about `data` and `folds`."""
    return [
        *_role_findings(config),
        *_built_in_findings(config),
        *_task_findings(config),
        *_fold_findings(config),
    ]


def _role_findings(config: RunConfig) -> list[Finding]:
    findings: list[Finding] = []
    roles: dict[str, str] = {}
    for role in ROLES:
        column = getattr(config.data, role)
        if column is None:
            continue
        if column in roles:
            message = f"must be a column of its own; got {column!r}, which is data.{roles[column]} too"
            findings.append(Finding(f"data.{role}", message))
        roles.setdefault(column, role)
    for place, column in enumerate(config.data.drop):
        if column in roles:
            message = (
                f"{column!r} is dropped and is data.{roles[column]}. Roles are no features: remove it here"
            )
            findings.append(Finding(f"data.drop.{place}", message))
    return findings


def _built_in_findings(config: RunConfig) -> list[Finding]:
    """Check names such as sklearn:digits; train and test are parts of one data set."""
    findings = []
    for role in ("train", "test"):
        source = getattr(config.data, role)
        if source and source.startswith("sklearn:"):
            name = source.removeprefix("sklearn:")
            if name not in BUILT_IN:
                legal, hint = ", ".join(BUILT_IN), suggest(name, BUILT_IN)
                message = f"must be one of {legal} after 'sklearn:'; got {name!r}.{hint}"
                findings.append(Finding(f"data.{role}", message))
            elif role == "test" and config.data.train != source:
                message = f"must be the data set of data.train ({config.data.train}); got {source}"
                findings.append(Finding("data.test", message))
    return findings


def _task_findings(config: RunConfig) -> list[Finding]:
    findings = []
    if config.data.positive is not None and config.task == "regression":
        message = "only classes can be positive; got task=regression. Remove it"
        findings.append(Finding("data.positive", message))
    elif config.data.positive is not None and config.task == "multiclass":
        message = f"data.positive={config.data.positive!r} has no effect in a multiclass task. Remove it"
        warnings.warn(message, DataWarning, stacklevel=2)
    if config.data.target_transform == "log1p" and config.task != "regression":
        message = f"log1p needs a numeric target; got task={config.task}. Use auto or none"
        findings.append(Finding("data.target_transform", message))
    return findings


def _fold_findings(config: RunConfig) -> list[Finding]:
    data, folds = config.data, config.folds
    try:
        kind = resolve_kind(
            folds, config.task, data.group is not None, data.time is not None, data.fold is not None
        )
    except ConfigError as error:
        return [Finding(problem.where or "folds.kind", problem.message) for problem in error.problems]
    findings = []
    for name in _TIME_OPTIONS:
        if getattr(folds, name) != type(folds).model_fields[name].default and kind not in ("time", "custom"):
            message = f"only time folds have {name}; got folds of kind {kind}. Remove it, or name data.time"
            findings.append(Finding(f"folds.{name}", message))
    return findings + _holdout_findings(config, kind)


def _holdout_findings(config: RunConfig, kind: str) -> list[Finding]:
    """Given folds say which rows stand apart but not why, so rows drawn by us could tear groups apart."""
    share = config.stack.holdout
    message = ""
    if kind == "column" and not isinstance(share, str) and share > 0:
        message = (
            f"given folds (data.fold) need given held-out rows; got a share, {share:g}. "
            "Mark the rows with -1 in data.fold and set stack.holdout: column, or use another folds.kind"
        )
    elif kind != "column" and isinstance(share, str):
        message = (
            f"column needs given folds; got folds of kind {kind}. Name data.fold, or give a share such as 0.1"
        )
    return [Finding("stack.holdout", message)] if message else []
