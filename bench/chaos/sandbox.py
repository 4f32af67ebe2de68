"""The sandbox of a chaos run, in a process of its own: prints its URL, and serves until it is told to stop."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.chaos.world import Options, sandbox_settings
from segmind_dagster.sandbox import serve

if __name__ == "__main__":
    options, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    serve(sandbox_settings(Options(**options), folder), lambda url: print(url, flush=True))
