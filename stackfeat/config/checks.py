"""Check what no single option can know: whether a config fits together and can run here.

In:  a RunConfig whose values are legal one by one, the config's folder, and what the user allows.
Out: findings, each with the path it is about, also those of the members themselves; what the config needs trust for;
     options that nothing acts on yet. Nothing is loaded and no user code is imported.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stackfeat.config.data_checks import (
    Allowed,
    data_findings,
    input_findings,
    kind_of_folds,
    path_findings,
)
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import DecisionOptions, RunConfig
from stackfeat.config.yaml_file import join_path
from stackfeat.data.splits.splitters import is_time_kind
from stackfeat.engine.graph import Graph, build_graph, graph_problems
from stackfeat.errors import ConfigError, Problem, TrustError
from stackfeat.executors import EXECUTORS
from stackfeat.members.options import MemberOptions
from stackfeat.members.run_facts import RunFacts
from stackfeat.metrics.registry import check_decides, check_metric, declared
from stackfeat.registry.patterns import has_fold
from stackfeat.registry.resolve import name_problems
from stackfeat.registry.trust import Need, agree_once
from stackfeat.tasks.task import task_class

_AVERAGES = {
    "logit": "logit averages probabilities",
    "rank": "rank averages one column, in a binary or regression task",
}


def _average_findings(config: RunConfig) -> Iterator[Finding]:
    average, averaging = config.stack.average, config.stack.averaging
    averages = task_class(config.task).averages
    if average not in averages:
        message = f"{_AVERAGES[average]}; got task={config.task}. Use {' or '.join(averages)}"
        yield Finding("stack.average", message)
        return
    n_stacks = config.folds.repeats if config.folds.repeats_as == "stacks" else 1
    if average == "logit" and averaging != "late" and n_stacks == 1:
        message = (
            f"logit averages what is left apart at the end; got averaging: {averaging}, which leaves one "
            "prediction. Use averaging: late, average: mean, or folds.repeats"
        )
        yield Finding("stack.average", message)


def _mode_findings(config: RunConfig) -> Iterator[Finding]:
    stack = config.stack
    if stack.averaging == "late":
        return
    if stack.is_set("meta_fit"):
        message = (
            f"meta_fit: {stack.meta_fit} says which fit a pipeline's view goes through; got averaging: "
            f"{stack.averaging}, where one fit on all rows sees all test rows. Remove it, or use averaging: late"
        )
        yield Finding("stack.meta_fit", message)
    if stack.views == "last":
        message = (
            f"views: last takes the last pipeline alone; got averaging: {stack.averaging}, which keeps no "
            "pipelines apart. Remove it, or use averaging: late"
        )
        yield Finding("stack.views", message)
    elif stack.averaging == "early" and stack.views == "auto" and _follows_time(config):
        message = (
            "early averages all fold models; got time folds, where only the last one knows the latest rows. "
            "Use averaging: late or refit, or ask for all of them with views: all"
        )
        yield Finding("stack.averaging", message)


def _follows_time(config: RunConfig) -> bool:
    try:
        kind = kind_of_folds(config)
    except ConfigError:
        # What is wrong with the kind is said where folds are checked.
        return False
    return is_time_kind(kind, config.data.time is not None, config.folds.allow_leak)


def block_findings(averaging: str, graph: Graph) -> Iterator[Finding]:
    """Yield a finding for each member that would read a mean of raw activations."""
    if averaging != "early":
        return
    differing = graph.differing_blocks()
    for node in graph.nodes:
        raw = [name for name in node.blocks if name in differing]
        if raw:
            message = (
                f"{node.full_name} reads {raw[0]!r}; got averaging: early with encode: raw, and the mean of "
                "neurons of different nets says nothing. Use encode: [geometry, aligned], or averaging: late"
            )
            yield Finding(f"{node.path}.inputs", message)


def unbuilt_findings(config: RunConfig) -> Iterator[Finding]:
    """Yield a finding for each option in use that is not built yet; options of members say so themselves."""
    if config.executor.kind not in EXECUTORS:
        message = f"{config.executor.kind} is not built yet; use loky or inline"
        yield Finding("executor.kind", message)
    for name in ("memory", "disk"):
        if getattr(config.limits, name) is not None:
            yield Finding(f"limits.{name}", f"limits.{name} is not built yet; remove it")


def code_findings(config: RunConfig, folder: Path, trust_code: bool) -> Iterator[Finding]:
    """Yield what is wrong with code that folds and members name, and with what members give it."""
    if ":" in config.folds.kind:
        options = {"packages": (), "trust_code": trust_code, "search_path": folder}
        for problem in name_problems("folds.kind", config.folds.kind, {}, "splitter", **options):
            yield Finding(*problem)
    for path, _, member in _members(config):
        for place, message, is_untrusted in member.code_problems(config.task, folder, trust_code):
            yield Finding(f"{path}.{place}", message, is_untrusted)


def member_findings(config: RunConfig, allowed: Allowed) -> Iterator[Finding]:
    """Yield what members find wrong with their options."""
    for path, is_first, member in _members(config):
        facts = (config.task, config.data, config.folds, config.stack.averaging)
        for place, message in member.problems(RunFacts(*facts, is_first, allowed.file_problem)):
            yield Finding(place if place.startswith("data.inputs.") else f"{path}.{place}", message)


def _members(config: RunConfig) -> Iterator[tuple[str, bool, MemberOptions]]:
    """Yield path, whether it is of the first level, and options of every member."""
    for position, (level, members) in enumerate(config.levels.items()):
        for name, options in members.items():
            yield f"levels.{level}.{name}", position == 0, options


def reader_findings(graph: Graph) -> Iterator[Finding]:
    """Yield a finding for each tree meta-learner that reads one test file made of all fold models."""
    for node in graph.nodes:
        if not graph.options[node.full_name].is_tree_learner:
            continue
        for block in node.blocks:
            options = graph.options["/".join(block.split("/")[:2])]
            test = None if options.files is None or options.allows_early else options.files.test
            if test is not None and not has_fold(test):
                message = (
                    f"{node.full_name} is made of trees and reads {block!r}, whose one test file ({test!r}) stands "
                    "for all fold models: its rows are smoother than out-of-fold rows, which misleads trees. Give a "
                    "test file of each fold's model ({fold} in the name), leave the block out, or accept it with "
                    "allow_early: true on the imported member"
                )
                yield Finding(f"{node.path}.inputs", message)


def config_findings(config: RunConfig, allowed: Allowed, *, with_graph: bool = True) -> list[Finding]:
    """Return all findings about a config, one for each path and cause.

    Parameters
    ----------
    config : RunConfig
    allowed : Allowed
        The config's folder, data roots, and whether code may be named.
    with_graph : bool
        Whether to check patterns and votes; pointless where members are already known to be wrong.
    """
    findings = [
        *unbuilt_findings(config),
        *_metric_findings(config, allowed),
        *data_findings(config),
        *input_findings(config, allowed),
        *path_findings(config, allowed),
        *code_findings(config, allowed.folder, allowed.trust_code),
        *member_findings(config, allowed),
        *_average_findings(config),
        *_mode_findings(config),
    ]
    if with_graph:
        findings += _graph_findings(config, {finding.path for finding in findings})
    return list(dict.fromkeys(findings))


def _metric_findings(config: RunConfig, allowed: Allowed) -> Iterator[Finding]:
    try:
        check_metric(config.metric, config.task, trust_code=allowed.trust_code, search_path=allowed.folder)
        check_decides(config.metric, config.task)
    except ConfigError as error:
        yield Finding("metric", str(error), trust=isinstance(error, TrustError))
        return
    if config.decision not in ("auto", "argmax") and declared(config.metric).needs != "label":
        name = config.decision if isinstance(config.decision, str) else config.decision.kind
        message = f"{name} needs a metric of labels; got metric={config.metric}. Use decision: auto"
        yield Finding("decision", message)
    elif not isinstance(config.decision, str):
        yield from _given_decision_findings(config, config.decision)


def _given_decision_findings(config: RunConfig, given: DecisionOptions) -> Iterator[Finding]:
    is_of_labels, n_labels = task_class(config.task).has_label_sets, len(config.data.targets)
    if (given.kind == "labels") != is_of_labels:
        fitting = "labels" if is_of_labels else "threshold, offsets or cuts"
        yield Finding(
            "decision.kind", f"{given.kind} is not for task {config.task}. Use {fitting}, or decision: auto"
        )
    elif is_of_labels and config.data.label_separator is None and len(given.numbers) != n_labels:
        message = f"must be a threshold for each of {n_labels} labels; got {len(given.numbers)}. Give as many"
        yield Finding("decision.numbers", message)


def _graph_findings(config: RunConfig, paths: Collection[str]) -> list[Finding]:
    """Return what is wrong between members; a member with a problem of its kind is not looked into."""
    findings = [Finding(path, message) for path, message in graph_problems(config)]
    findings = [item for item in findings if f"{item.path.split('.inputs')[0]}.vote" not in paths]
    return findings or list(_vote_and_submit_findings(config))


def _vote_and_submit_findings(config: RunConfig) -> Iterator[Finding]:
    """Check what needs the resolved blocks: numbers of weights, and the member that is submitted."""
    graph = build_graph(config.levels, config.task, tuple(config.data.inputs or ("table",)))
    yield from block_findings(config.stack.averaging, graph)
    yield from reader_findings(graph)
    for node in graph.nodes:
        problem = graph.options[node.full_name].weights_problem(node.blocks)
        if problem:
            yield Finding(f"{node.path}.weights", problem)
        if config.submit in (node.name, node.full_name) and node.prediction is None:
            message = f"{config.submit!r} emits no predictions. Add proba or prediction to its emit"
            yield Finding("submit", message)
    same = [node.full_name for node in graph.nodes if node.name == config.submit]
    if len(same) > 1:
        message = f"must name one member; got {config.submit!r}, which is {' and '.join(same)}"
        yield Finding("submit", f"{message}. Write one of these")


_KINDS = {"net": "net", "estimator": "estimator", "metric": "metric", "kind": "splitter"}
"""What the last word of a path says of the name that stands there."""


def needs_of(findings: Sequence[Finding], values: dict[str, Any]) -> list[Need]:
    """Return what was refused for want of trust alone."""
    by_path = dict(_flat("", values))
    paths = [finding.path for finding in findings if finding.trust]
    return [Need(path, _what(path), json.loads(json.dumps(by_path.get(path), default=str))) for path in paths]


def with_remedy(
    problems: Sequence[Problem], needs: Sequence[Need], config: Path, why_not: str
) -> list[Problem]:
    """Add to each refusal how to agree once, and why an earlier agreement does not hold (`why_not`)."""
    command = f"stackfeat trust {shlex.quote(str(config))}"
    places = {need.path for need in needs}
    return [
        replace(problem, message=problem.message.rstrip(".") + "." + agree_once(why_not, command))
        if problem.where in places
        else problem
        for problem in problems
    ]


def _what(path: str) -> str:
    parts = path.split(".")
    is_parameter = "params" in parts and parts[-1] != "estimator"
    return "parameter" if is_parameter else _KINDS.get(parts[-1], "parameter")


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value of a config with its path."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _flat(join_path(path, key), item)
