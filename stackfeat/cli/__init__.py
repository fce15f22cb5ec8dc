"""The command line: arguments, one call, printed lines; no logic."""

from stackfeat.cli.commands import main

__all__ = ["main"]
