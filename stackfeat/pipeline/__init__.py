"""The whole flow: a config in, results out; `run.py` is the page to read first.

Each command of the command line has its function here; nothing here prints.
"""
