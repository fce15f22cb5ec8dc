"""Values that nobody expects: in cells of files, in configs, in the place of names."""

from __future__ import annotations

CELLS = [
    "",
    " ",
    "NA",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 400,
    "0x10",
    "1_000",
    "True",
    "\ufeff1",
    "\u0661",
    "é",
]
CELLS += [
    "'",
    '"',
    '""',
    '"\n"',
    ",",
    ";",
    "\t",
    "\0",
    "\r",
    "\n",
    "\u2028",
    "x" * 140_000,
    "2020-13-45",
    "=1+1",
]
CELLS += [
    "9999-12-31",
    "0000-00-00",
    "1e-400",
    "-0",
    "\x1b[2J",
    "{0}",
    "%s",
    "\udc80",
    "a" * 300,
    "1" * 5_000,
]
WORDS = [
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    ".inf",
    ".nan",
    "1e400",
    "9" * 5_000,
    "0x" + "f" * 400,
    "2024-01-01",
]
WORDS += [
    "[]",
    "{}",
    "[[]]",
    "{a: 1}",
    "'" + "x" * 5_000 + "'",
    '"\\0"',
    '"\\ud800"',
    "*",
    "**",
    "'*" * 1 + "*" * 900 + "'",
]
WORDS += [
    "!!binary R0lG",
    "!!python/name:os.system",
    "&a b",
    "*a",
    "<<: {a: 1}",
    "? a",
    "- a",
    "~",
    "''",
    "' '",
]
WORDS += [
    "[" * 60 + "]" * 60,
    "../../etc/passwd",
    "/dev/zero",
    "'a:b'",
    "sklearn:",
    "'sklearn:iris'",
    "1d2h",
    "9" * 400 + "s",
]
WORDS += [
    "'{fold}{fold1}'",
    "'{'",
    "'base/*/*'",
    "'*/*/*/*'",
    "'*a*a*a*a*a*a*a*b'",
    "1:30:00",
    "0b11",
    "0o7",
    "1e5000",
]

NAMES = [
    "net",
    "estimator",
    "vote",
    "predictions",
    "params",
    "inputs",
    "train",
    "emit",
    "each",
    "seeds",
    "weights",
    "oof",
]
NAMES += [
    "mlp",
    "base",
    "meta",
    "gated",
    "target",
    "table",
    "lr",
    "tap",
    "folds",
    "n",
    "kind",
    "sklearn.svm.SVC",
    "array",
]
NAMES += [
    "sklearn.pipeline.Pipeline",
    "xgboost.XGBClassifier",
    "catboost.CatBoostClassifier",
    "timm:resnet18",
    "a.b:C",
]
NAMES += [
    "regression",
    "binary",
    "rmse",
    "accuracy",
    "column",
    "time",
    "group",
    "id",
    "repeats",
    "holdout",
    "submit",
    "test",
]
RICH = """name: rich
task: multiclass
metric: log_loss
data: {train: "sklearn:digits", test: "sklearn:digits", target: target, drop: ["x_none*"], positive: null}
folds: {kind: stratified, n: 5, repeats: 1}
levels:
  base:
    mlp:
      net: mlp
      params: {hidden: [32], dropout: 0.2}
      inputs: [table]
      train: {epochs: 5, batch_size: 64, lr: 2.0e-3, patience: 2, ema: 0.9}
      emit: [proba, penultimate, {tap: "layers.*.1", last: 1, name: top, encode: [geometry, aligned], reduce: 4}]
      seeds: 2
    gbm: {estimator: lightgbm.LGBMClassifier, params: {n_estimators: 8, num_leaves: 7}, prepare: trees}
    logit: {estimator: sklearn.linear_model.LogisticRegression, params: {C: 0.1, class_weight: {0: 1, 1: 2}}}
  meta:
    gated: {estimator: gated_linear, inputs: ["base/*/*"], as: logit}
    per: {estimator: sklearn.linear_model.LogisticRegression, each: "base/*/*@*"}
  final:
    soft: {vote: soft, inputs: ["base/*/proba", "meta/gated"]}
    hard: {vote: hard, inputs: ["base/*/proba"], tie: prior}
    greedy: {vote: greedy, inputs: ["base/*/proba"], picks: 5, bags: 2}
submit: auto
outputs: {dir: runs/rich}
executor: {kind: inline, jobs: 1, retries: 1}
limits: {time: 10m}
store: .stackfeat
cache: auto
stack: {averaging: late, average: mean, gate_se: 0.5, holdout: 0.1}
"""
