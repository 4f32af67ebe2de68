"""What the tests of all folders share: projects against a sandbox, proxies that lie, ledgers and warehouses by hand.

One module is one tool, imported as `from lab.<module> import ...`: pytest puts this folder's parent on the path. A
script of the lab is run with `script(...)`. Fixtures are in the `conftest.py` of the folder that needs them, and a
tool that one test module needs stays in that module.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]


def script(module: str) -> list[str]:
    """The command that runs a module of the lab in a process of its own."""
    return [sys.executable, "-m", f"lab.{module}"]


def script_environ(**environ: str) -> dict[str, str]:
    """The environment of such a process: this one's, in which the lab can be imported, and these variables."""
    path = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **environ}
