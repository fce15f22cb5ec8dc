"""Check what no single option can know: whether a config fits together and can run here.

In:  a RunConfig whose values are legal one by one, the config's folder, and what the user allows.
Out: findings, each with the path it is about. Nothing is loaded and no user code is imported.
"""

from __future__ import annotations

from collections.abc import Collection

from stackfeat.config.data_checks import data_findings
from stackfeat.config.import_checks import import_findings, reader_findings
from stackfeat.config.input_checks import input_findings
from stackfeat.config.member_checks import member_findings
from stackfeat.config.path_checks import Allowed, path_findings
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.config.stack_checks import block_findings, stack_findings
from stackfeat.config.unbuilt import unbuilt_findings
from stackfeat.config.weights_checks import weights_findings
from stackfeat.ensemble.graph import build_graph, graph_problems
from stackfeat.ensemble.options import VoteOptions
from stackfeat.errors import ConfigError, TrustError
from stackfeat.metrics import METRICS, check_metric, get_metric


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
    if config.decision == "threshold" and config.metric in METRICS:
        metric = get_metric(config.metric, config.task)
        if metric.needs != "label":
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
        options = node.options
        weights = options.weights if isinstance(options, VoteOptions) else None
        if weights is not None and len(weights) != len(node.blocks):
            message = (
                f"must have one weight for each input; got {len(weights)} weights for "
                f"{len(node.blocks)} inputs: {', '.join(node.blocks)}"
            )
            findings.append(Finding(f"{node.path}.weights", message))
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
