"""One `Metric` for each metric, which owns all its facts; the decision rule from predictions to labels."""
