"""What is used at planning time must not import torch."""

from __future__ import annotations

import subprocess
import sys


def test_options_and_the_folder_itself_do_not_import_torch() -> None:
    code = "import sys, stackfeat.nets, stackfeat.nets.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
