"""Taps: where a net is read, and reading it.

Belongs here: the grammar of taps, which layers a tap means, hooks, and what is caught. What is done
with the values (pooling, batches, files) is not.
"""
