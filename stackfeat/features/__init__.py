"""Anything that learns becomes feature blocks.

Belongs here: the protocol of a member, the one loop over folds (`crossfit`), recipes and keys of
units, blocks, encodings of activations, their alignment over folds, diagnostics. Not here: what
the members do (`ensemble.members`), how nets are trained (`nets`).
"""
