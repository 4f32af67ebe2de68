"""Whether a run is still alive, and by which clock its lease is judged.

Wall clocks of two processes are never compared: they may jump or differ. On one machine processes share the clock since
its boot; a PostgreSQL ledger has its own clock; and where neither helps (a file shared by several machines), a lease is
over once it was seen unchanged for a whole lease time. `runner.lease` renews leases.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import Float, cast, extract, func, null, select, update

from segmind_dagster.ledger.schema import RUNS
from segmind_dagster.ledger.statements import upsert

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

LEASE_S: Final = 60.0
"""How long a lease lasts; a run renews it several times in that time."""

# no clock is wrong by more: an older lease of an unreachable machine is over
_LONG_OVER = timedelta(days=1)
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", None)
# when a lease was first seen in its present state: by ledger and owner, on this machine's clock
_seen: dict[tuple[str, str], tuple[float, float]] = {}
_MOST_SEEN = 10_000


def since_boot_s() -> float:
    """Seconds on a clock that never jumps, shared by all processes of this machine; it also runs during sleep."""
    return time.monotonic() if _SINCE_BOOT is None else time.clock_gettime(_SINCE_BOOT)


@dataclass(frozen=True, slots=True)
class Process:
    """A process: where its id is valid, and its start time, because ids are reused.

    Args:
        place: the machine, its boot, and the process-id space.
        pid: its id.
        started: when it was started, in ticks since the boot; None where the system does not tell.
    """

    place: str
    pid: int
    started: int | None

    @classmethod
    def this(cls) -> Process:
        """This process."""
        return cls(place(), os.getpid(), _started(os.getpid()))

    @property
    def boot(self) -> str:
        """The machine and its boot; processes of one boot share a clock, also in different containers."""
        parts = self.place.split("/")
        return parts[1] if len(parts) > 2 else parts[0]  # noqa: PLR2004  host, boot, id space

    @property
    def host(self) -> str:
        """The machine's name."""
        return self.place.split("/")[0]

    @property
    def is_there(self) -> bool:
        """Whether it runs; only valid in its process-id space."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        started = _started(self.pid)
        return self.started is None or started is None or started == self.started


@dataclass(frozen=True, slots=True)
class Moment:
    """A time on a clock that does not jump; two on the same clock can be subtracted.

    Args:
        clock: which: a machine since its boot, or the database.
        at_s: seconds on it.
    """

    clock: str
    at_s: float

    @classmethod
    def of(cls, connection: Connection, at_s: float) -> Moment:
        """The time now: on the database's clock where it has one.

        Args:
            connection: the ledger.
            at_s: the clock of this machine.
        """
        if connection.dialect.name == "postgresql":
            return cls("database", connection.execute(select(_database_s())).scalar_one())
        return cls(Process.this().boot, at_s)

    def since_s(self, earlier: Moment) -> float | None:
        """Seconds since another moment; None when unknown."""
        passed_s = self.at_s - earlier.at_s
        return passed_s if self.clock == earlier.clock and passed_s >= 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedLease:
    """A run's recorded lease.

    Args:
        owner: the run, as the ledger names it.
        run_id: Dagster's id of it, if there is one.
        process: whose.
        until: when it runs out by its holder's wall clock; for people.
        until_s: the same on the clock of the holder's machine; None when an older version recorded it.
        left_s: how long it has left by the database's clock; None where the database has none.
        is_ended: whether its holder has given it up.
    """

    owner: str
    run_id: str | None
    process: Process
    until: datetime
    until_s: float | None
    left_s: float | None
    is_ended: bool


def record_lease(
    connection: Connection,
    *,
    owner: str,
    run_id: str | None,
    process: Process,
    at_s: float,
    now: datetime,
    lease_s: float = LEASE_S,
) -> None:
    """Record a run, or renew its lease.

    Args:
        connection: the ledger.
        owner: the run, as the ledger names it.
        run_id: Dagster's id of it, if there is one.
        process: the process it runs in.
        at_s: the clock of this machine, see `since_boot_s`.
        now: the time, for people.
        lease_s: how long it lasts from now.
    """
    is_postgresql = connection.dialect.name == "postgresql"
    values: dict[str, Any] = {
        "owner": owner,
        "run_id": run_id,
        "place": process.place,
        "pid": process.pid,
        "process_started": process.started,
        "started_at": now,
        "lease_until": now + timedelta(seconds=lease_s),
        "until_s": at_s + lease_s,
        "until_database_s": _database_s() + lease_s if is_postgresql else None,
        "ended_at": None,
    }
    renewed = ("lease_until", "until_s", "until_database_s", "ended_at")
    connection.execute(upsert(connection.dialect.name, RUNS, *renewed).values(values))


def end_lease(connection: Connection, *, owner: str, now: datetime) -> None:
    """End a lease, so that others need not wait for it to expire."""
    connection.execute(update(RUNS).where(RUNS.c.owner == owner).values(ended_at=now, lease_until=now))


def lease_of(connection: Connection, owner: str) -> RecordedLease | None:
    """The lease of a run; None when there is no such run."""
    return next(iter(recorded_leases(connection, RUNS.c.owner == owner)), None)


def recorded_leases(connection: Connection, which: ColumnElement[bool]) -> list[RecordedLease]:
    """The leases for which a condition on `RUNS` holds."""
    left = RUNS.c.until_database_s - _database_s() if connection.dialect.name == "postgresql" else null()
    rows = connection.execute(select(RUNS, left.label("left_s")).where(which))
    return [
        RecordedLease(
            owner=row.owner,
            run_id=row.run_id,
            process=Process(row.place, row.pid, row.process_started),
            until=row.lease_until,
            until_s=row.until_s,
            left_s=row.left_s,
            is_ended=row.ended_at is not None,
        )
        for row in rows
    ]


Standing = Literal["held", "over", "not known"]
"""Alive; dead; unclear until its lease was watched for `LEASE_S`."""


def standing(lease: RecordedLease | None, *, key: tuple[str, str], here: Process, at_s: float) -> Standing:
    """Whether a run is still alive.

    Args:
        lease: its lease; None when there is no such run.
        key: the ledger and the owner, for what was seen of it before.
        here: who asks.
        at_s: when, on the clock of this machine.
    """
    if lease is None or lease.is_ended:
        return "over"
    holder = lease.process
    if lease.until_s is not None and holder.boot == here.boot:
        is_held = lease.until_s > at_s and (holder.place != here.place or holder.is_there)
    elif lease.left_s is not None:
        is_held = lease.left_s > 0
    elif holder.host == here.host or lease.until < datetime.now(UTC) - _LONG_OVER:
        # this machine was rebooted since, or the lease was not renewed for a day
        is_held = False
    else:
        return "over" if _is_unchanged(lease, key, at_s) else "not known"
    return "held" if is_held else "over"


def _is_unchanged(lease: RecordedLease, key: tuple[str, str], at_s: float) -> bool:
    """Whether it was not renewed while we watched it for a whole lease time."""
    token = lease.until.timestamp() if lease.until_s is None else lease.until_s
    seen = _seen.get(key)
    if seen is None or seen[0] != token or seen[1] > at_s:
        if len(_seen) >= _MOST_SEEN:
            _seen.clear()
        _seen[key] = token, at_s
        return False
    return at_s - seen[1] >= LEASE_S


def place() -> str:
    """This machine and its process-id space, in which a process id is valid."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [socket.gethostname()]
    if boot.is_file():
        parts.append(boot.read_text(encoding="ascii").strip())
    if namespace.is_symlink():
        parts.append(str(namespace.readlink()))
    return "/".join(parts)


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # the program name, in brackets, may hold anything
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _database_s() -> Any:
    return cast(extract("epoch", func.clock_timestamp()), Float)
