"""A local gateway that speaks Segmind's API: for tests, demonstrations and benchmarks, without a key or a cent.

`SandboxServer` runs it in a background thread, `serve` in the foreground. It listens on loopback only, marks
its pictures, keeps its own books (`account`), misbehaves on request (`Faults`), and tells of other things than its
books hold (`Lies`). It shares no parsing code with the client: what it says was charged is a second opinion.
"""

from segmind_dagster.sandbox.faults import (
    FAULT_KINDS,
    LATE_ERRORS,
    REQUEST_FAULTS,
    FaultKind,
    Faults,
    RequestFault,
    ScriptedFault,
)
from segmind_dagster.sandbox.lies import ALTERATIONS, COST_LIES, Alteration, CostLie, Lies
from segmind_dagster.sandbox.probe import is_sandbox
from segmind_dagster.sandbox.server import SandboxServer, serve
from segmind_dagster.sandbox.settings import SANDBOX_API_KEY, SandboxSettings

__all__ = [
    "ALTERATIONS",
    "COST_LIES",
    "FAULT_KINDS",
    "LATE_ERRORS",
    "REQUEST_FAULTS",
    "SANDBOX_API_KEY",
    "Alteration",
    "CostLie",
    "FaultKind",
    "Faults",
    "Lies",
    "RequestFault",
    "SandboxServer",
    "SandboxSettings",
    "ScriptedFault",
    "is_sandbox",
    "serve",
]
