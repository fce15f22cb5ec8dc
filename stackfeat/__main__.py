"""``python -m stackfeat``."""

import sys
from pathlib import Path

import stackfeat

# -m puts the working folder first: a file in it that is called like a library would be imported instead.
if sys.path[:1] == [str(Path.cwd())] and Path(stackfeat.__file__).parent.parent != Path.cwd():
    del sys.path[0]

from stackfeat.cli import main

if __name__ == "__main__":
    main()
