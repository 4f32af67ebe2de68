"""What a chaos run takes place in: its options, prompt sets, a sandbox that misbehaves, and the environment of runs.

Nothing is started or checked here: runs and kills are in `storm`, books in `books`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from decimal import Decimal
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, cast

from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.sandbox import FAULT_KINDS, REQUEST_FAULTS, SANDBOX_API_KEY, Faults, SandboxSettings
from segmind_dagster.sandbox.faults import ANSWER_FAULTS
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.sandbox import FaultKind, RequestFault
    from segmind_dagster.settings import Settings

DEALT: tuple[FaultKind, ...] = tuple(cast("FaultKind", kind) for kind in FAULT_KINDS)
# three of these end a run, and two slow all of them down: dealt seldom, or nobody would get anywhere
_SELDOM: tuple[FaultKind, ...] = ("unauthorized", "no_credits", "team_limit", "rate_limited", "accepted_then_429")
_SELDOM_SHARE, _SELDOM_DEALT = 1 / 3, 6.0
# this one slows all runs down as well
_SELDOM_REQUESTS: tuple[RequestFault, ...] = ("get_rate_limited",)
_SELDOM_REQUEST_RATE = 0.002
# one more than a run fetches an output that does not decode: the run gives it up, and a later one brings it home
_NOISY_FETCHES = 4
_FACES = 40

_SETS = ("harbour", "market", "orchard", "railway", "theatre", "workshop")
_FLUX, _REALITY, _LLAMA, _WAN, _FACE = (
    "fast_flux_schnell", "sdxl_newreality", "llama_v3p1_8b_instruct", "wan_t2v_fast", "instantid",
)  # fmt: skip
_OURS = ("SEGMIND_", "SOURCES__", "DESTINATION__")
_PLENTY_USD = "1000000"

Order = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One chaos run.

    Args:
        generations: distinct generations asked for.
        kills: SIGKILLs.
        runs: runs at the same time.
        fault_rate: share of submissions, and of all other requests, that meet at least one fault.
        seed: of faults, kills and what each run works on.
        time_scale: multiplies the catalogue's latencies.
        client_timeout_s: when a run's client gives up waiting for the answer to a POST.
        settling_time_s: `SEGMIND_UNKNOWN_SETTLE_SECONDS`; longer than any answer takes, or absence would prove nothing.
        record_ttl_s: when the sandbox forgets a job, and a stuck one fails.
        requests_per_minute: the account's limit, which all runs share.
        limit_s: when the whole thing counts as hanging.
    """

    generations: int = 2000
    kills: int = 10
    runs: int = 3
    fault_rate: float = 0.2
    seed: int = 7
    time_scale: float = 0.15
    client_timeout_s: float = 3.0
    settling_time_s: float = 10.0
    record_ttl_s: float = 60.0
    requests_per_minute: int = 6000
    limit_s: float = 1200.0


def fault_rates(fault_rate: float, generations: int) -> dict[FaultKind, float]:
    """The probability of each kind, alike but for the seldom ones, so that `fault_rate` meet one or more."""
    kinds = DEALT
    seldom = min(_SELDOM_SHARE * (1 - (1 - fault_rate) ** (1 / len(kinds))), _SELDOM_DEALT / generations)
    others = len(kinds) - len(_SELDOM)
    each = 1 - ((1 - fault_rate) / (1 - seldom) ** len(_SELDOM)) ** (1 / others)
    return {kind: seldom if kind in _SELDOM else each for kind in kinds}


def request_rates(fault_rate: float) -> dict[RequestFault, float]:
    """The same for requests that submit nothing; what is odd about a whole answer comes on top."""
    others = [kind for kind in ANSWER_FAULTS if kind not in _SELDOM_REQUESTS]
    spared = (1 - fault_rate) / (1 - _SELDOM_REQUEST_RATE) ** len(_SELDOM_REQUESTS)
    each = 1 - spared ** (1 / len(others))
    return {kind: _SELDOM_REQUEST_RATE if kind in _SELDOM_REQUESTS else each for kind in REQUEST_FAULTS}


def sandbox_settings(options: Options, folder: Path) -> SandboxSettings:
    """How the sandbox of a run behaves, with its books in `folder`."""
    return SandboxSettings(
        initial_credits=Decimal(_PLENTY_USD),
        time_scale=options.time_scale,
        requests_per_minute=options.requests_per_minute,
        record_ttl_s=options.record_ttl_s,
        state_dir=folder,
        picture_mode="tiny",
        faults=Faults(
            rates=fault_rates(options.fault_rate, options.generations),
            request_rates=request_rates(options.fault_rate),
            seed=options.seed,
            rate_limit_reset_s=0.5,
            slow_s=0.5,
            noisy_fetches=_NOISY_FETCHES,
        ),
    )


def environment(options: Options, folder: Path, url: str) -> dict[str, str]:
    """Environment variables of a run in the project `folder`, and nothing of the caller's own settings."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        "SEGMIND_PROJECT_DIR": str(folder),
        "SEGMIND_API_URL": url,
        "SEGMIND_API_KEY": SANDBOX_API_KEY,
        "SEGMIND_REQUESTS_PER_MINUTE": str(options.requests_per_minute),
        "SEGMIND_UNKNOWN_SETTLE_SECONDS": str(options.settling_time_s),
        "SEGMIND_V1_TIMEOUT_SECONDS": str(options.client_timeout_s),
        "SEGMIND_RUN_BUDGET_USD": _PLENTY_USD,
        "SEGMIND_DAILY_BUDGET_USD": _PLENTY_USD,
        "DLT_DATA_DIR": str(folder / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }


def write_prompt_sets(folder: Path, generations: int) -> None:
    """Prompt sets over five models, asking for so many distinct generations; a third of them in two sets."""
    prompts = folder / "prompts"
    (prompts / "pictures").mkdir(parents=True)
    _draw_faces(prompts / "pictures")
    asked: dict[str, list[dict[str, Any]]] = {key: [] for key in _SETS}
    for place, order in enumerate(_orders(generations)):
        asked[_SETS[place % len(_SETS)]] += order
        if place // len(_SETS) % 3 == 0:
            asked[_SETS[(place + 1) % len(_SETS)]] += order
    for key, entries in asked.items():
        if entries:
            (prompts / f"{key}.yaml").write_text(json.dumps({"prompts": entries}), encoding="utf-8")


def read_prompt_sets(settings: Settings) -> list[PromptSet]:
    """All of them."""
    keys = sorted(path.stem for path in settings.prompts_dir.glob("*.yaml"))
    return [find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir) for key in keys]


def settings_of(environ: Mapping[str, str]) -> Settings:
    """What a run with that environment goes by."""
    return load_settings(environ=environ)


def _orders(generations: int) -> Iterator[Order]:
    """Entries of prompt sets that belong together, until they make so many generations."""
    left = generations
    for number, order in zip(count(), cycle(_PATTERN), strict=False):
        if left <= 0:
            return
        size, model, kind = order if order[0] <= left else (1, _FLUX, "plain")
        yield _order(number, model, kind)
        left -= size


# generations, model, kind; what is the same to the provider is the hardest to account for
_PATTERN = (
    *((1, _FLUX, "plain"),) * 3,
    (1, _REALITY, "plain"),
    (2, _FLUX, "twins"),
    (1, _LLAMA, "plain"),
    (1, _WAN, "plain"),
    (1, _REALITY, "plain"),
    (2, _FLUX, "nested"),
    (1, _FACE, "plain"),
    *((1, _FLUX, "plain"),) * 3,
    (2, _REALITY, "twins"),
    (1, _LLAMA, "plain"),
    (1, _REALITY, "plain"),
    (2, _LLAMA, "twins"),
    (1, _FACE, "plain"),
    (1, _REALITY, "plain"),
)


def _order(number: int, model: str, kind: str) -> Order:
    entry: dict[str, Any] = {"prompt": f"a lantern, drawing number {number}", "models": [model]}
    if model == _FACE:
        entry["params"] = {"face_image": f"pictures/face_{number % _FACES}.png"}
    match kind:
        case "twins":  # one body, two generations
            return [{**entry, "samples": 2, **({} if model == _LLAMA else {"seed": -1})}]
        case "nested":  # one body is the other with a parameter more
            return [{**entry, "seed": number}, {**entry, "seed": number, "params": {"steps": 2}}]
        case _:
            return [entry]


def _draw_faces(folder: Path) -> None:
    from PIL import Image

    for number in range(_FACES):
        Image.new("RGB", (64, 64), (200, 120, number)).save(folder / f"face_{number}.png")
