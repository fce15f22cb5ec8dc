"""Metrics, their bootstrap and their decision rules; the metric functions a user brings."""
