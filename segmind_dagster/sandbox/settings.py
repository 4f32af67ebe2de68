"""How one sandbox behaves: its address, account, prices, speed, limits, pictures, faults and lies.

Values only, checked when they are built. Environment variables and command lines are read elsewhere.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox.faults import Faults
from segmind_dagster.sandbox.lies import NO_LIES, Lies

if TYPE_CHECKING:
    from collections.abc import Callable

SANDBOX_API_KEY = "SG_5a4db0c0ffee0000"
PictureMode = Literal["drawn", "tiny"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Everything that can be chosen about a sandbox.

    Args:
        host: address to listen on; loopback only.
        port: port to listen on; 0 lets the system choose one.
        api_key: the key the sandbox accepts; it opens nothing else.
        initial_credits: balance at the first start, in USD.
        price_jitter: whether a job's cost varies by up to 10% around the catalogue's mean.
        time_scale: multiplies the catalogue's latencies; 0.01 makes a job of 5 s take 50 ms.
        fixed_latency_s: takes the place of every latency, without jitter.
        requests_per_minute: requests allowed in one rate window; None for no limit.
        rate_window_s: length of the rate window; 60 s at Segmind, shorter in tests.
        rate_counts_gets: whether GETs count as well as POSTs.
        record_ttl_s: how long after the submission status and result are answered.
        file_ttl_s: how long after the submission output files are served.
        state_dir: where jobs, money and uploads are kept over a restart; None keeps them in memory.
        durable: whether a submission is on disk before it is answered; only with `state_dir`.
        picture_mode: `drawn` pictures show their prompt; `tiny` ones are 64 x 64 and cost no time.
        max_picture_px: longest side of a drawn picture; larger requests are scaled down.
        history_body_as_string: whether the history's `request_body` is a JSON string instead of an object.
        forbidden_slugs: models answered with 403.
        retired_slugs: models answered with 410.
        faults: what goes wrong on purpose.
        lies: how the history and prices differ from the books.
        clock: the time in UTC epoch seconds.

    Raises:
        SettingsError: an address that is not loopback, or a number that makes no sense.
    """

    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = SANDBOX_API_KEY
    initial_credits: Decimal = Decimal(100)
    price_jitter: bool = True
    time_scale: float = 1.0
    fixed_latency_s: float | None = None
    requests_per_minute: int | None = None
    rate_window_s: float = 60.0
    rate_counts_gets: bool = False
    record_ttl_s: float = 3600.0
    file_ttl_s: float = 7 * 86400.0
    state_dir: Path | None = None
    durable: bool = False
    picture_mode: PictureMode = "drawn"
    max_picture_px: int = 768
    history_body_as_string: bool = False
    forbidden_slugs: frozenset[str] = frozenset()
    retired_slugs: frozenset[str] = frozenset()
    faults: Faults = field(default_factory=Faults)
    lies: Lies = NO_LIES
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise SettingsError(
                "host",
                f"the sandbox only listens on this machine, and {self.host!r} is not a loopback address; "
                "use 127.0.0.1, ::1 or localhost",
            )
        for name in ("time_scale", "record_ttl_s", "file_ttl_s"):
            if getattr(self, name) < 0:
                raise SettingsError(name, f"{getattr(self, name)!r} is negative")
        if self.fixed_latency_s is not None and self.fixed_latency_s < 0:
            raise SettingsError("fixed_latency_s", f"{self.fixed_latency_s!r} is negative")
        if self.rate_window_s <= 0:
            raise SettingsError("rate_window_s", f"{self.rate_window_s!r} is not positive")
        if self.max_picture_px < 64:  # noqa: PLR2004  below this, nothing on a picture can be read
            raise SettingsError("max_picture_px", f"{self.max_picture_px!r} is below 64")
        if self.state_dir is not None:
            object.__setattr__(self, "state_dir", Path(self.state_dir))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
