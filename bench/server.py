"""The sandbox in a process of its own, fresh for every contender, so that its work is not counted as theirs."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from segmind_dagster.sandbox import SANDBOX_API_KEY, SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

KEY = SANDBOX_API_KEY
_STOP_S = 30.0


@dataclass(slots=True)
class Server:
    """A running sandbox.

    Args:
        url: its base.
        account: what it was asked and what it charged, once it has stopped.
        cpu_s: CPU seconds it has used, once it has stopped.
    """

    url: str
    account: dict[str, Any]
    cpu_s: float = 0.0

    @property
    def polls(self) -> int:
        """Status requests it has answered."""
        return int(self.account["requests"]["status"])


@contextmanager
def running(**settings: Any) -> Iterator[Server]:
    """A sandbox with these settings for the length of a block; tells what it charged afterwards."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(settings, theirs), daemon=True)
    process.start()
    server = Server(ours.recv(), {})
    try:
        yield server
        ours.send("stop")
        server.account, server.cpu_s = ours.recv()
    finally:
        ours.close()
        process.join(_STOP_S)


def _serve(settings: dict[str, Any], pipe: Connection) -> None:
    plenty = {"initial_credits": Decimal(10**6), "picture_mode": "tiny"}
    with SandboxServer(SandboxSettings(**{**plenty, **settings})) as server:
        began = time.process_time()
        pipe.send(server.url)
        try:
            pipe.recv()
        except EOFError:  # whoever started it is gone
            return
        pipe.send((server.account(jobs=False), time.process_time() - began))
