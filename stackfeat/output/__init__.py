"""Predictions become files.

Belongs here: scores and the choice of the submission, and every file of a run folder: leaderboard,
OOF and test predictions, submission, predictor, report. Not here: anything that learns.
"""
