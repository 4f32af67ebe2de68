"""Names that restored rows bear where nothing better is known."""

from __future__ import annotations

from typing import Final

OWNER: Final = "rebuild"
"""The run of restored attempts that name none."""

UNKNOWN_SET: Final = "(unknown)"
"""The prompt set of generations of unknown origin; no prompt file can have this key."""
