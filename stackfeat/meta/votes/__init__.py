"""Votes over predictions: hard, soft, rank, weighted, greedy."""
