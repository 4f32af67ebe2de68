"""The sandbox in a process of its own, so that its work is not counted as the client's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def serve(latency_s: float, pipe: Connection) -> None:
    """Serve until told to stop; then say what was charged."""
    with SandboxServer(SandboxSettings(fixed_latency_s=latency_s, picture_mode="tiny")) as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send(server.account(jobs=False))
