"""Outputs: the blocks a member hands on, known from its options alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stackfeat.ensemble.options import EstimatorOptions, PredictionsOptions, VoteOptions
from stackfeat.nets.options import NetOptions, TapOptions

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Output:
    """One block of a member: its predictions, or an encoded tap."""

    name: str
    kind: Literal["prediction", "feature"]
    tap: TapOptions | None = None
    encoding: str | None = None

    @property
    def tap_name(self) -> str:
        """Name of the tap, without the encoding."""
        return self.name.removesuffix(f"@{self.encoding}")


def prediction_name(task_kind: str) -> str:
    return "prediction" if task_kind == "regression" else "proba"


def outputs_of(
    options: NetOptions | EstimatorOptions | VoteOptions | PredictionsOptions, task_kind: str, report: Report
) -> tuple[Output, ...]:
    """List the blocks of a member; what cannot be emitted is reported as (path, message)."""
    name = prediction_name(task_kind)
    outputs = [Output(name, "prediction")]
    if not isinstance(options, NetOptions):
        return tuple(outputs)
    _check_emitted_names(options, name, task_kind, report)
    if not options.emits(name):
        outputs = []
    seen: set[str] = set()
    for tap in options.taps():
        for encoding in tap.encode:
            output = Output(f"{tap.name or tap.tap}@{encoding}", "feature", tap, encoding)
            if output.name in seen:
                report(
                    "emit",
                    f"each output is named once; got {output.name!r} twice. Give one of the taps a name",
                )
            seen.add(output.name)
            outputs.append(output)
    return tuple(outputs)


def _check_emitted_names(options: NetOptions, name: str, task_kind: str, report: Report) -> None:
    if options.emit == "auto":
        return
    for place, item in enumerate(options.emit):
        text = item.tap if isinstance(item, TapOptions) else item
        if text in ("proba", "prediction") and text != name:
            report(f"emit.{place}", f"in a {task_kind} task the output is {name!r}; got {text!r}")
