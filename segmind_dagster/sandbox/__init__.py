"""A local gateway that speaks Segmind's API: for tests, demonstrations and benchmarks, without a key or a cent.

`SandboxServer` (`server`) runs it in a background thread, `serve` in the foreground, with `settings`; `probe` finds
one that runs. It listens on loopback only and keeps its own books: `state` holds `jobs` with their `journal`,
`assets`, the `rate` limit; `offers` is what it sells. Routes: `gateway_routes` (with `submissions` and `validation`),
`account_routes` (with `history`, `models_list` and `pages`), `output_routes`; `answers` and `times` are their parts.
Outputs: `renderings` of `pictures`, `scenery` and `media`. It misbehaves on request (`faults`, `fault_answers`) and
says other things than its books hold (`lies`: `lying_history`, `altered_rows`, `lying_money`). It shares no parsing
code with the client: what it says was charged is a second opinion.
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
