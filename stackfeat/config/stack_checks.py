"""Check `stack`: what is averaged, where on the way, and what goes together.

In:  a RunConfig; for blocks, the graph of its members.
Out: findings. Each names both of two options that do not go together.
"""

from __future__ import annotations

from stackfeat.config.fields import is_set
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.data.fold_kind import is_time_kind, resolve_kind
from stackfeat.ensemble.graph import Graph
from stackfeat.errors import ConfigError


def stack_findings(config: RunConfig) -> list[Finding]:
    """Return all findings about `stack`."""
    return [*_average_findings(config), *_mode_findings(config)]


def _average_findings(config: RunConfig) -> list[Finding]:
    average, averaging = config.stack.average, config.stack.averaging
    if average == "logit" and config.task == "regression":
        return [
            Finding("stack.average", "logit averages probabilities; got task=regression. Use mean or rank")
        ]
    if average == "rank" and config.task == "multiclass":
        message = (
            "rank averages one column, in a binary or regression task; got task=multiclass. Use mean or logit"
        )
        return [Finding("stack.average", message)]
    n_stacks = config.folds.repeats if config.folds.repeats_as == "stacks" else 1
    if average == "logit" and averaging != "late" and n_stacks == 1:
        message = (
            f"logit averages what is left apart at the end; got averaging: {averaging}, which leaves one "
            "prediction. Use averaging: late, average: mean, or folds.repeats"
        )
        return [Finding("stack.average", message)]
    return []


def _mode_findings(config: RunConfig) -> list[Finding]:
    stack = config.stack
    if stack.averaging == "late":
        return []
    findings = []
    if is_set(stack, "meta_fit"):
        message = (
            f"meta_fit: {stack.meta_fit} says which fit a pipeline's view goes through; got averaging: "
            f"{stack.averaging}, where one fit on all rows sees all test rows. Remove it, or use averaging: late"
        )
        findings.append(Finding("stack.meta_fit", message))
    if stack.views == "last":
        message = (
            f"views: last takes the last pipeline alone; got averaging: {stack.averaging}, which keeps no "
            "pipelines apart. Remove it, or use averaging: late"
        )
        findings.append(Finding("stack.views", message))
    elif stack.averaging == "early" and stack.views == "auto" and _follows_time(config):
        message = (
            "early averages all fold models; got time folds, where only the last one knows the latest rows. "
            "Use averaging: late or refit, or ask for all of them with views: all"
        )
        findings.append(Finding("stack.averaging", message))
    return findings


def _follows_time(config: RunConfig) -> bool:
    data, folds = config.data, config.folds
    has_time = data.time is not None
    try:
        kind = resolve_kind(folds, config.task, data.group is not None, has_time, data.fold is not None)
    except ConfigError:
        # What is wrong with the kind is said where folds are checked.
        return False
    return is_time_kind(kind, has_time, folds.allow_leak)


def block_findings(averaging: str, graph: Graph) -> list[Finding]:
    """Return a finding for each member that would read a mean of raw activations."""
    if averaging != "early":
        return []
    blocks = graph.blocks()
    findings = []
    for node in graph.nodes:
        raw = [
            name
            for name in node.blocks
            if blocks[name][1].encoding == "raw" and not getattr(blocks[name][0].options, "frozen", False)
        ]
        if raw:
            message = (
                f"{node.full_name} reads {raw[0]!r}; got averaging: early with encode: raw, and the mean of "
                "neurons of different nets says nothing. Use encode: [geometry, aligned], or averaging: late"
            )
            findings.append(Finding(f"{node.path}.inputs", message))
    return findings
