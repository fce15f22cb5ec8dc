"""Check what no single option can know: whether a config fits together and can run here.

In:  a RunConfig whose values are legal one by one, the config's folder, and what the user allows.
Out: findings, each with the path it is about; what the config needs trust for; options that nothing acts on yet.
     Nothing is loaded and no user code is imported.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stackfeat.config.data_checks import Allowed, data_findings, input_findings, path_findings
from stackfeat.config.fields import is_set
from stackfeat.config.file_member_checks import import_findings, reader_findings, weights_findings
from stackfeat.config.member_checks import member_findings
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.config.yaml_file import join_path
from stackfeat.data.splits.splitters import is_time_kind, resolve_kind
from stackfeat.engine.graph import Graph, build_graph, graph_problems
from stackfeat.errors import ConfigError, Problem, TrustError
from stackfeat.executors import EXECUTORS
from stackfeat.members.net_options import NetOptions
from stackfeat.metrics.registry import check_metric, declared
from stackfeat.nets.options import TapOptions
from stackfeat.registry.trust import Need, agree_once
from stackfeat.tasks.task import task_class


def stack_findings(config: RunConfig) -> list[Finding]:
    """Return all findings about `stack`."""
    return [*_average_findings(config), *_mode_findings(config)]


_AVERAGES = {
    "logit": "logit averages probabilities",
    "rank": "rank averages one column, in a binary or regression task",
}


def _average_findings(config: RunConfig) -> list[Finding]:
    average, averaging = config.stack.average, config.stack.averaging
    averages = task_class(config.task).averages
    if average not in averages:
        message = f"{_AVERAGES[average]}; got task={config.task}. Use {' or '.join(averages)}"
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
            if blocks[name][1].encoding == "raw" and not graph.options[blocks[name][0].full_name].is_frozen
        ]
        if raw:
            message = (
                f"{node.full_name} reads {raw[0]!r}; got averaging: early with encode: raw, and the mean of "
                "neurons of different nets says nothing. Use encode: [geometry, aligned], or averaging: late"
            )
            findings.append(Finding(f"{node.path}.inputs", message))
    return findings


def unbuilt_findings(config: RunConfig) -> list[Finding]:
    """Return a finding for each option in use that is not built yet."""
    return [
        *_general(config),
        *_types(config),
        *(
            finding
            for level, members in config.levels.items()
            for finding in _members(f"levels.{level}", members)
        ),
    ]


def _unbuilt(path: str, what: str, remedy: str = "remove it") -> Finding:
    return Finding(path, f"{what} is not built yet; {remedy}")


def _general(config: RunConfig) -> Iterator[Finding]:
    if config.executor.kind not in EXECUTORS:
        yield _unbuilt("executor.kind", config.executor.kind, "use loky or inline")
    for name in ("memory", "disk"):
        if getattr(config.limits, name) is not None:
            yield _unbuilt(f"limits.{name}", f"limits.{name}")


def _types(config: RunConfig) -> Iterator[Finding]:
    for column, kind in config.data.types.items():
        if kind == "text":
            yield _unbuilt(
                f"data.types.{column}", "type text", "use categorical, or add the column to data.drop"
            )


def _members(path: str, members: Mapping[str, object]) -> Iterator[Finding]:
    for name, options in members.items():
        if isinstance(options, NetOptions):
            yield from _emitted(f"{path}.{name}.emit", options)


def _emitted(path: str, options: NetOptions) -> Iterator[Finding]:
    for place, item in enumerate(options.emit if options.emit != "auto" else ()):
        tap = item if isinstance(item, TapOptions) else TapOptions(tap=item)
        tap_path = f"{path}.{place}.tap" if isinstance(item, TapOptions) else f"{path}.{place}"
        if ":grad" in tap.tap:
            yield _unbuilt(tap_path, f"a tap of gradients ({tap.tap!r})")
        if tap.tap.endswith("#all"):
            yield _unbuilt(tap_path, f"a tap of all calls ({tap.tap!r})", "name one call, such as #0 or #-1")


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
        *member_findings(config, allowed),
        *import_findings(config, allowed),
        *weights_findings(config, allowed),
        *stack_findings(config),
    ]
    if with_graph:
        findings += _graph_findings(config, {finding.path for finding in findings})
    return list(dict.fromkeys(findings))


def _metric_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    try:
        check_metric(config.metric, config.task, trust_code=allowed.trust_code, search_path=allowed.folder)
    except ConfigError as error:
        return [Finding("metric", str(error), trust=isinstance(error, TrustError))]
    if config.decision == "threshold" and declared(config.metric).needs != "label":
        message = f"threshold needs a metric of labels; got metric={config.metric}. Use decision: auto"
        return [Finding("decision", message)]
    return []


def _graph_findings(config: RunConfig, paths: Collection[str]) -> list[Finding]:
    """Return what is wrong between members; a member with a problem of its kind is not looked into."""
    findings = [Finding(path, message) for path, message in graph_problems(config)]
    findings = [item for item in findings if f"{item.path.split('.inputs')[0]}.vote" not in paths]
    return findings or _vote_and_submit_findings(config)


def _vote_and_submit_findings(config: RunConfig) -> list[Finding]:
    """Check what needs the resolved blocks: numbers of weights, and the member that is submitted."""
    graph = build_graph(config.levels, config.task, tuple(config.data.inputs or ("table",)))
    findings = [*block_findings(config.stack.averaging, graph), *reader_findings(graph)]
    for node in graph.nodes:
        problem = graph.options[node.full_name].weights_problem(node.blocks)
        if problem:
            findings.append(Finding(f"{node.path}.weights", problem))
        if config.submit in (node.name, node.full_name) and node.prediction is None:
            message = f"{config.submit!r} emits no predictions. Add proba or prediction to its emit"
            findings.append(Finding("submit", message))
    same = [node.full_name for node in graph.nodes if node.name == config.submit]
    if len(same) > 1:
        message = (
            f"must name one member; got {config.submit!r}, which is {' and '.join(same)}. Write one of these"
        )
        findings.append(Finding("submit", message))
    return findings


_KINDS = {"net": "net", "estimator": "estimator", "metric": "metric", "kind": "splitter"}
"""What the last word of a path says of the name that stands there."""


def needs_of(findings: Sequence[Finding], values: dict[str, Any]) -> list[Need]:
    """Return what was refused for want of trust alone."""
    by_path = dict(_flat("", values))
    return [
        Need(
            finding.path, _what(finding.path), json.loads(json.dumps(by_path.get(finding.path), default=str))
        )
        for finding in findings
        if finding.trust
    ]


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
