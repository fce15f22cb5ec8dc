"""A block is warned of where there is something to do about it."""

from __future__ import annotations

from stackfeat.encodings.diagnostics import UNLIKE
from stackfeat.engine.graph import build_graph
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.net_options import NetOptions
from stackfeat.pipeline.results import _only_gated, _warn_of_blocks

BLOCK = "base/mlp/penultimate@aligned"
FOUND = {"warnings": [f"{UNLIKE} OOF rows (AUC 0.90, limit 0.6)", "rows give away their fold (accuracy 0.9)"]}


def only_gated(**gates: bool) -> frozenset[str]:
    readers = {
        name: EstimatorOptions(estimator="lightgbm.LGBMClassifier", inputs=("base/*/*",), gate=gate)
        for name, gate in gates.items()
    }
    levels = {"base": {"mlp": NetOptions(net="mlp")}, "meta": readers}
    return _only_gated(build_graph(levels, "binary", ("table",)))


def test_what_gates_guard_against_is_no_warning() -> None:
    assert BLOCK in only_gated(a=True, b=True)
    (text,) = _warn_of_blocks({BLOCK: FOUND}, [], only_gated(a=True))
    assert UNLIKE in text and "give away" not in text
    assert _warn_of_blocks({BLOCK: {"warnings": FOUND["warnings"][1:]}}, [], only_gated(a=True)) == []


def test_one_reader_without_a_gate_is_enough_to_warn() -> None:
    assert BLOCK not in only_gated(a=True, b=False)
    (text,) = _warn_of_blocks({BLOCK: FOUND}, [], only_gated(a=True, b=False))
    assert UNLIKE in text and "give away" in text


def test_a_block_that_nothing_reads_is_warned_of() -> None:
    (text,) = _warn_of_blocks({BLOCK: FOUND}, [], only_gated())
    assert "give away" in text
