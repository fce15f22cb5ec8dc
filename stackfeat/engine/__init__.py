"""Blocks become blocks, level by level, and one prediction at the end.

Belongs here: the graph of members, the plan with its keys, what a job does (`work`), levels,
members and votes, gates, decisions, averaging, the predictor. Not here: files (`output`), the
config that names members (`config`).
"""
