"""What goes wrong on purpose: the kinds of fault, and which submission or other request meets which.

What befalls a job is decided once, at its submission: from a script, or by a digest of the submission itself, so that
a run is the same whatever its timing and interleaving. Requests that submit nothing meet faults by their number. How
each kind looks on the wire is the routes' business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from segmind_dagster.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LateError = Literal[
    "accepted_then_500",
    "accepted_then_503",
    "accepted_then_429",
    "accepted_then_400",
    "accepted_then_406",
    "accepted_then_422",
]
"""Segmind's own JSON envelope with an error, though the job is accepted, runs and is charged."""
SubmitFault = Literal[
    LateError,
    "rate_limited",  # 429
    "server_error",  # 500, JSON envelope
    "unavailable",  # 503, JSON envelope
    "bad_gateway",  # 502, HTML page; not accepted
    "gateway_timeout",  # 504, HTML page; the job is accepted
    "reset_before_accept",  # connection closed without an answer; not accepted
    "accepted_then_reset",  # connection closed without an answer; accepted
    "accepted_then_hang",  # accepted, and the answer never comes
    "accepted_unreadable",  # accepted, 200 with a body that is not JSON
    "accepted_202",  # accepted, 202 with an empty object
    "teapot",  # 418; not accepted
    "unauthorized",  # 401
    "no_credits",  # 406
    "team_limit",  # 406
    "invalid",  # 406, a parameter value
]
PollFault = Literal[
    "poll_error",  # 500 or 502 on the first status GET
    "poll_reset",  # connection closed on the first status GET
    "stuck",  # the job never leaves PROCESSING while its record lives
    "failed",  # the job fails with an error that sounds transient; not charged
    "failed_validation",  # the job fails with a validation message; not charged
]
OutputFault = Literal[
    "truncated",  # fewer bytes than Content-Length, first fetch
    "undecodable",  # the right number of random bytes, every fetch or the first few
    "html_as_image",  # an HTML error page with status 200, first fetch
    "output_missing",  # 404, first fetch
    "slow",  # half of the bytes, a pause, the rest; first fetch
]
FaultKind = SubmitFault | PollFault | OutputFault
AnswerFault = Literal[
    "get_rate_limited",  # 429
    "get_error",  # 500 or 503, JSON envelope
    "get_bad_gateway",  # 502, HTML page
    "get_reset",  # connection closed without an answer
    "get_unreadable",  # 200 with a body that is not JSON, or for an output an HTML page
]
ContentFault = Literal[
    "body_as_string",  # the bodies in an answer of the history are JSON strings instead of objects
]
RequestFault = AnswerFault | ContentFault

LATE_ERRORS: tuple[LateError, ...] = get_args(LateError)
SUBMIT_FAULTS: tuple[str, ...] = get_args(SubmitFault)
POLL_FAULTS: tuple[str, ...] = get_args(PollFault)
OUTPUT_FAULTS: tuple[str, ...] = get_args(OutputFault)
FAULT_KINDS: tuple[str, ...] = (*SUBMIT_FAULTS, *POLL_FAULTS, *OUTPUT_FAULTS)
ANSWER_FAULTS: tuple[AnswerFault, ...] = get_args(AnswerFault)
CONTENT_FAULTS: tuple[ContentFault, ...] = get_args(ContentFault)
REQUEST_FAULTS: tuple[RequestFault, ...] = (*ANSWER_FAULTS, *CONTENT_FAULTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedFault:
    """One entry of a fault script.

    Args:
        kind: the fault, or None for a submission that goes well.
        slug: only the next submission to this model meets it; None for any model.
    """

    kind: FaultKind | None
    slug: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which faults happen, and how often.

    Args:
        rates: probability of each kind, 0 to 1, per submission.
        request_rates: probability of each kind, 0 to 1, per request that submits nothing.
        script: consumed one entry per submission, in order, before `rates` apply. An entry is a kind, None or
            `"ok"` for no fault, or a `ScriptedFault` (as JSON: `{"kind": ..., "slug": ...}`).
        seed: the same seed and submissions give the same faults.
        rate_limit_reset_s: how far in the future a `rate_limited` answer puts the reset.
        slow_s: pause in the middle of a `slow` output.
        noisy_fetches: how often an `undecodable` output is noise before it is whole; None for ever.

    Raises:
        SettingsError: an unknown kind or a probability outside 0 to 1.
    """

    rates: Mapping[FaultKind, float] = field(default_factory=dict)
    request_rates: Mapping[RequestFault, float] = field(default_factory=dict)
    script: Sequence[FaultKind | Literal["ok"] | ScriptedFault | None] = ()
    seed: int = 0
    rate_limit_reset_s: float = 1.0
    slow_s: float = 1.0
    noisy_fetches: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        object.__setattr__(self, "request_rates", MappingProxyType(dict(self.request_rates)))
        object.__setattr__(self, "script", tuple(self.script))
        for rates, kinds in ((self.rates, FAULT_KINDS), (self.request_rates, REQUEST_FAULTS)):
            _check_rates(rates, kinds)
        for entry in self.script:
            scripted = entry.kind if isinstance(entry, ScriptedFault) else entry
            if scripted not in {None, "ok"}:
                _check_kind(scripted)

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Faults:
        """Faults as `POST /sandbox/settings` takes them: the same fields, scripted entries as objects.

        Raises:
            SettingsError: a field is unknown or malformed.
        """
        try:
            script = tuple(
                ScriptedFault(kind=entry["kind"], slug=entry.get("slug")) if isinstance(entry, dict) else entry
                for entry in payload.get("script", ())
            )
            return cls(**{**payload, "script": script})
        except (TypeError, KeyError, AttributeError) as error:
            raise SettingsError("faults", f"cannot read {payload!r}: {error}") from error


def _check_rates(rates: Mapping[Any, float], kinds: Sequence[str]) -> None:
    for kind, probability in rates.items():
        _check_kind(kind, kinds)
        if not 0 <= probability <= 1:
            raise SettingsError("faults", f"the rate of {kind!r} is {probability!r}; it must lie between 0 and 1")


def _check_kind(kind: object, kinds: Sequence[str] = FAULT_KINDS) -> None:
    if kind not in kinds:
        raise SettingsError("faults", f"{kind!r} is not a fault; there are: {', '.join(kinds)}")


@dataclass(frozen=True, slots=True)
class Drawn:
    """The faults one submission meets: at most one of each time."""

    submit: SubmitFault | None = None
    poll: PollFault | None = None
    output: OutputFault | None = None

    @classmethod
    def of(cls, kind: FaultKind | None) -> Drawn:
        """That one fault alone, at the time it belongs to."""
        if kind in SUBMIT_FAULTS:
            return cls(submit=cast("SubmitFault", kind))
        if kind in POLL_FAULTS:
            return cls(poll=cast("PollFault", kind))
        if kind in OUTPUT_FAULTS:
            return cls(output=cast("OutputFault", kind))
        return NO_FAULT


NO_FAULT = Drawn()


class FaultDraw:
    """Deals out the faults of one `Faults`, submission by submission; remembers how far its script has come."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._script = [
            entry if isinstance(entry, ScriptedFault) else ScriptedFault(kind=None if entry == "ok" else entry)
            for entry in faults.script
        ]

    def draw(self, slug: str, canonical_body: str, nth: int) -> Drawn:
        """The faults of the `nth` submission (from 0) of that body to that model."""
        for position, entry in enumerate(self._script):
            if entry.slug is None or entry.slug == slug:
                del self._script[position]
                return Drawn.of(entry.kind)
        if not self.faults.rates:
            return NO_FAULT
        return Drawn(
            submit=cast("SubmitFault | None", self._first_hit(SUBMIT_FAULTS, slug, canonical_body, nth)),
            poll=cast("PollFault | None", self._first_hit(POLL_FAULTS, slug, canonical_body, nth)),
            output=cast("OutputFault | None", self._first_hit(OUTPUT_FAULTS, slug, canonical_body, nth)),
        )

    def draw_request(self, kinds: Sequence[RequestFault], route: str, nth: int) -> RequestFault | None:
        """The first of these faults that the `nth` request (from 0) of a route meets, if it meets one."""
        for kind, probability in self.faults.request_rates.items():
            if kind in kinds and unit_draw(self.faults.seed, kind, route, nth) < probability:
                return kind
        return None

    def _first_hit(self, kinds: tuple[str, ...], slug: str, canonical_body: str, nth: int) -> str | None:
        for kind, probability in self.faults.rates.items():
            if kind in kinds and unit_draw(self.faults.seed, kind, slug, canonical_body, nth) < probability:
                return kind
        return None


def unit_draw(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
