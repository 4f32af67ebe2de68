"""The interfaces that the runner uses: provider, outputs, quarantine and clock.

Each has only what the runner needs, so that tests can replace it with something smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path

    from segmind_dagster.gateway.wire import Answer
    from segmind_dagster.lifecycle.generation import Output
    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.outputs import Quarantined
    from segmind_dagster.registry import Model, OutputKind


class GatewayPort(Protocol):
    """What the runner needs of the provider; `gateway.client.Gateway` is the real one."""

    async def submit(
        self, model: Model, body: Mapping[str, Any], sink: Path, *, may_send: Callable[[], bool] = ...
    ) -> Answer:
        """Send one POST, once, if it may still be sent when its turn comes."""

    async def status(self, request_id: str) -> Answer:
        """The state of a job."""

    async def result(self, request_id: str) -> Answer:
        """The result of a finished job."""

    async def credits_usd(self) -> Decimal | None:
        """The account's balance; requested first, so that an unreachable host is reported early."""

    async def history(self, *, since: datetime, now: datetime, is_whole: bool = True) -> list[HistoryRow]:
        """The account's requests since a time."""

    async def history_row(self, request_id: str) -> HistoryRow | None:
        """The history row of a request."""

    async def upload(self, data_url: str) -> str:
        """Store an input file and return its address."""

    async def fetch(self, url: str, sink: Path) -> str:
        """Stream an output to a file; the digest of its bytes."""


class QuarantinePort(Protocol):
    """What the runner needs of the quarantine; `outputs.quarantine.Quarantine` is the real one."""

    url: str

    def put(
        self, path: Path, *, resource: str, generation_id: str, attempt: int, sidecar: Mapping[str, Any]
    ) -> Quarantined:
        """Keep refused bytes."""

    def found(self, resource: str = "*") -> list[Quarantined]:
        """The refused files, of one model or of all."""

    def copy(self, quarantined: Quarantined, path: Path) -> bool:
        """Copy a refused file to a local one, if it is whole."""


class OutputsPort(Protocol):
    """What the runner needs of the output store; `outputs.OutputStore` is the real one."""

    def scratch_file(self, generation_id: str) -> Path:
        """A fresh name for a file that is about to be written."""

    def keep(
        self,
        path: Path,
        *,
        resource: str,
        generation_id: str,
        kind: OutputKind,
        provenance: Mapping[str, Any],
        books: Mapping[str, Any] | None = None,
    ) -> Output:
        """Verify a file and move it into place."""

    def kept(self, *, resource: str, generation_id: str, request_id: str) -> tuple[Output, Mapping[str, Any]] | None:
        """The whole output that was stored for a request earlier, with its sidecar; None when there is none."""

    @property
    def quarantine(self) -> QuarantinePort:
        """Where refused bytes are kept."""

    def discard(self, path: Path) -> None:
        """Remove a file that is not to be kept."""


class ClockPort(Protocol):
    """Time, injected so that tests never wait."""

    def now(self) -> datetime:
        """The time, aware."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Sleep; other tasks run meanwhile."""
