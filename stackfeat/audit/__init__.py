"""Can the results be believed? Leakage check, permutation test, provenance.

Reads runs and reruns them; nothing here takes part in a run.
"""
