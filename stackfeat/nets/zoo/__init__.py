"""Nets that a config names by a short name.

A net takes those of ``n_features``, ``n_outputs``, ``cardinalities``, ``shapes`` and ``prepared`` that
its constructor names, and passes the contract of ``tests/nets/zoo``. Not here: how a net is trained;
options that suit a net are in ``NET_TRAINING`` of ``registry/names.py``.
"""
