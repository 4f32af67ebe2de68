"""The sandbox's memory over a restart: an append-only file of JSON lines.

Knows lines and when they reach the disk, nothing of what they mean. A line torn by a crash is the last one,
and is dropped; any other damage is an error.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

FLUSH_EVERY_S = 0.05


class Journal:
    """Appends records to one file.

    Args:
        path: the file; created, with its folder, when missing.
        durable: whether `commit` writes and syncs at once instead of within `FLUSH_EVERY_S`.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self._durable = durable
        self._pending: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def replay(self) -> list[dict[str, Any]]:
        """Every record written so far; a torn last line is cut off the file.

        Raises:
            SettingsError: a line before the last is not JSON.
        """
        content = self.path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            os.truncate(self.path, len(content) - len(torn))
        records: list[dict[str, Any]] = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise SettingsError(
                    "state_dir",
                    f"line {number} of {self.path} is not JSON, so the sandbox cannot tell what was charged; "
                    "point state_dir at another folder",
                ) from error
        return records

    def append(self, record: dict[str, Any]) -> None:
        """Queue a record; it is on disk within `FLUSH_EVERY_S`, or at `flush`."""
        self._pending.append(json.dumps(record, separators=(",", ":"), ensure_ascii=False))
        if self._timer is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # outside the server's loop nobody would call later
                self.flush()
            else:
                self._timer = loop.call_later(FLUSH_EVERY_S, self.flush)

    def commit(self) -> None:
        """Before a submission is answered: with `durable`, everything queued is on disk afterwards."""
        if self._durable:
            self.flush()

    def flush(self) -> None:
        """Write everything queued."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        lines, self._pending = self._pending, []
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
