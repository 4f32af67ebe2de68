"""The table of scenarios: which lies and faults a storm meets, how many runs take part, which caps bind.

Values only. A scenario is played in `trial`; whether the promises held is judged in `verdict`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from segmind_dagster.sandbox import ALTERATIONS, COST_LIES, LATE_ERRORS, Lies

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.sandbox import FaultKind

FLUX_USD = Decimal("0.00547")
HONEST = Lies()
# SEGMIND_UNKNOWN_SETTLE_SECONDS of the runs
SETTLE_S = 0.4
_LOST: Mapping[FaultKind, float] = MappingProxyType(
    {"accepted_then_reset": 0.2, "gateway_timeout": 0.1, "accepted_unreadable": 0.1, "reset_before_accept": 0.15}
)
_PAIRS = 8
_UNREADABLE = Lies(page_script=["unreadable"] * 400)

Mix = Literal[
    "mixed",  # three v2 models, odd texts, samples of one body
    "with_v1",  # and one that answers in the same exchange
    "videos",  # slow jobs, and quick ones
    "plain",  # one model, one price
    "faces",  # one model that takes a local picture
]
Disaster = Literal[
    "none",
    "restored",  # a backup of the ledger from before the last run is put back
    "lost",  # the ledger is gone, and `rebuild` is run at once
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """The wall clock of a run is off by so much, from so many seconds after its start."""

    after_s: float
    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One storm.

    Args:
        name: for people and `--only`.
        lies: of the first run and of a later one.
        then: of the later one, where they differ.
        rates: faults of submissions, until the history is honest again.
        mix: what is asked for.
        sets: prompt sets, overlapping unless the mix is `plain`.
        generations: distinct ones over all sets.
        runs: at the same time, each in a process of its own.
        kills: of these are killed when half of the work is accepted.
        latency_s: of every job; None for a share of the catalogue's, in which a video takes seconds.
        jumps: of the clock of each run; runs beyond these have the machine's.
        later_jump: of the later run.
        later: what the later run asks for beside the rest: a control that is listed while others are not.
        later_rates: faults of what it submits; None for the same.
        set_usd, run_usd, day_usd: caps that bind.
        folders: data folders of the one account, each with these sets and runs, started in the same moment.
        disaster: what happens to the ledger when everything is accepted and nothing of the last run stored; the run
            then is killed, and the lies begin.
        is_capped_only: whether there is nothing but the first runs, so that the cap of a run can be judged.
        must_finish: whether everything has to be bought, stored and told at the end.
        must_resend: whether submissions must have been lost in progress and sent again.
    """

    name: str
    lies: Lies = HONEST
    then: Lies | None = None
    rates: Mapping[FaultKind, float] = field(default_factory=lambda: _LOST)
    mix: Mix = "mixed"
    sets: int = 2
    generations: int = 18
    runs: int = 2
    kills: int = 0
    latency_s: float | None = 0.4
    jumps: tuple[Jump | None, ...] = ()
    later_jump: Jump | None = None
    later: int = 2
    later_rates: Mapping[FaultKind, float] | None = None
    set_usd: Decimal | None = None
    run_usd: Decimal | None = None
    day_usd: Decimal | None = None
    folders: int = 1
    disaster: Disaster = "none"
    is_capped_only: bool = False
    must_finish: bool = False
    must_resend: bool = False

    @property
    def cap_usd(self) -> Decimal | None:
        """What all of its generations together may cost; None without a cap."""
        caps = [
            *([self.set_usd * self.sets] if self.set_usd is not None else []),
            *([self.run_usd * self.runs] if self.run_usd is not None else []),
            *([self.day_usd] if self.day_usd is not None else []),
        ]
        return min(caps, default=None)

    @property
    def most_usd(self) -> Decimal | None:
        """What may be charged at most: the cap, and above four times the believed price what was in flight."""
        if self.cap_usd is None:
            return None
        factor = Decimal(repr(self.lies.price_factor))
        # every open generation counts as four times its estimate; one may go with the plain estimate
        return self.cap_usd if factor <= 4 else self.cap_usd * factor / 4 + FLUX_USD * factor


def scenarios(seed: int) -> tuple[Scenario, ...]:
    """All of them, in the order in which they are told; the pairs of alterations are drawn."""
    found = (
        *_honest(), *_omissions(), *_pages(), *_alterations(seed), *_late_errors(), *_money(), *_clocks(), *_disasters()
    )  # fmt: skip
    assert len({each.name for each in found}) == len(found)
    return found


def _before(name: str, lies: Lies, **more: Any) -> Scenario:
    """Every answer of the first run is lost, and no history is read; the later run meets the lie, and loses nothing."""
    usual = {"runs": 1, "generations": 8, "later": 6, "rates": {"accepted_then_reset": 1.0}, "later_rates": {}}
    return Scenario(**{"name": name, "lies": _UNREADABLE, "then": lies, **usual, **more})


def _honest() -> Iterator[Scenario]:
    yield Scenario(
        name="honest",
        rates={"accepted_then_reset": 0.2, "reset_before_accept": 0.3},
        mix="with_v1",
        must_finish=True,
        must_resend=True,
    )
    yield _before(
        "honest_later", HONEST, rates={"accepted_then_reset": 0.6, "reset_before_accept": 1.0}, must_finish=True
    )
    yield Scenario(name="honest_killed", runs=3, kills=2, must_finish=True)


def _omissions() -> Iterator[Scenario]:
    yield Scenario(name="empty_always", lies=Lies(empty_readings=None))
    for count in (1, 3, 12):
        yield Scenario(name=f"empty_{count}_readings", lies=Lies(empty_readings=count))
    yield Scenario(name="unreadable_then_empty", lies=Lies(page_script=["unreadable", "empty"] * 3))
    yield _before("unreadable_then_empty_later", Lies(page_script=["empty"]))
    yield _before("empty_later", Lies(empty_readings=None))
    yield _before("lag_later", Lies(lag_spread_s=20.0))
    yield _before("finished_only_later", Lies(finished_only=True), mix="videos", latency_s=None)
    yield Scenario(name="lag_2s", lies=Lies(lag_s=2.0))
    yield Scenario(name="lag_6s", lies=Lies(lag_s=6.0))
    yield Scenario(name="lag_of_a_model", lies=Lies(lag_by_model={"fast-flux-schnell": 5.0}))
    yield Scenario(name="lag_of_a_row", lies=Lies(lag_spread_s=8.0))
    yield Scenario(name="lag_killed", lies=Lies(lag_s=3.0), runs=3, kills=2)
    yield Scenario(name="finished_only", lies=Lies(finished_only=True), latency_s=3.0)
    yield Scenario(name="finished_only_slow", lies=Lies(finished_only=True), latency_s=8.0)
    yield Scenario(name="omits_a_third", lies=Lies(omitted_share=0.33))
    yield _before("omits_half_later", Lies(omitted_share=0.5))
    yield Scenario(name="workspace_empty", lies=Lies(workspace="empty"))
    yield Scenario(name="workspace_of_strangers", lies=Lies(workspace="strangers"))


_PAGINGS: Mapping[str, Lies] = MappingProxyType(
    {
        "cap_20": Lies(page_cap=20),
        "cap_20_total_pages_of_asked": Lies(page_cap=20, total_pages="of_asked_size"),
        "cap_20_total_pages_rounded_down": Lies(page_cap=20, total_pages="rounded_down"),
        "cap_20_total_pages_one": Lies(page_cap=20, total_pages="one"),
        "cap_20_nothing_told": Lies(page_cap=20, total_pages="absent", total="absent"),
        "cap_20_total_too_small": Lies(page_cap=20, total_pages="one", total="too_small"),
        "always_page_1": Lies(page_cap=20, repeated_page="first"),
        "previous_page_again": Lies(page_cap=20, repeated_page="previous"),
        "rows_change_places": Lies(page_cap=20, is_unsorted=True),
        "rows_come_in_between": Lies(page_cap=20, inserted_per_page=3),
        "past_end_404": Lies(page_cap=20, past_end="404"),
        "past_end_400": Lies(page_cap=20, past_end="400", total="absent", total_pages="absent"),
        "past_end_last_again": Lies(page_cap=20, past_end="last"),
    }
)


def _pages() -> Iterator[Scenario]:
    for name, lies in _PAGINGS.items():
        # those of the later run fill the first page
        yield _before(f"page_{name}", lies, later=25)


def _alterations(seed: int) -> Iterator[Scenario]:
    for kind in ALTERATIONS:
        yield Scenario(name=f"row_{kind}", lies=Lies(alterations=[kind]), runs=1, generations=12)
    pairs = random.Random(seed).sample(list(combinations(ALTERATIONS, 2)), _PAIRS)  # noqa: S311  not secret
    for pair in pairs:
        yield Scenario(name=f"row_{'+'.join(pair)}", lies=Lies(alterations=pair), runs=1, generations=12)
    yield Scenario(
        name="row_altered_late_and_cut_by_pages",
        lies=Lies(alterations=["cut_dots", "model_title"], lag_s=2.0, page_cap=20, total_pages="one"),
        generations=48,
    )


def _late_errors() -> Iterator[Scenario]:
    for kind in LATE_ERRORS:
        yield Scenario(name=f"late_{kind.rpartition('_')[2]}", rates={kind: 0.4}, mix="with_v1")
    for kind in ("accepted_then_500", "accepted_then_503", "accepted_then_429"):
        name = f"late_{kind[-3:]}"
        yield Scenario(name=f"{name}_with_lag", rates={kind: 0.4}, lies=Lies(lag_s=2.0))
        # within the settling time the rows may differ in how late they are
        spread = Lies(lag_spread_s=0.9 * SETTLE_S)
        yield Scenario(name=f"{name}_with_lag_spread", rates={kind: 0.4}, lies=spread)
        yield Scenario(name=f"{name}_finished_only", rates={kind: 0.4}, lies=Lies(finished_only=True))
        # with an error to everything nothing shows how late the history is: three settling times are believed then
        late = Lies(lag_s=2.5 * SETTLE_S)
        yield Scenario(name=f"{name}_all_with_lag", rates={kind: 1.0}, lies=late, mix="with_v1")
    yield Scenario(name="late_503_cut", rates={"accepted_then_503": 0.4}, lies=Lies(alterations=["cut", "key_dropped"]))
    yield Scenario(name="status_404_at_first", rates={}, lies=Lies(not_found_s=1.5), must_finish=True)
    yield Scenario(name="repeated_ids", rates={}, lies=Lies(repeated_id_share=0.2))


def _money() -> Iterator[Scenario]:
    def capped(name: str, lies: Lies, **more: object) -> Scenario:
        return Scenario(**{"name": f"caps_{name}", "lies": lies, "rates": {}, "mix": "plain", "sets": 1, **more})  # type: ignore[arg-type]

    of_set = {"set_usd": Decimal("0.30"), "generations": 34}
    of_day = {"day_usd": Decimal("0.40"), "generations": 72, "sets": 6, "runs": 6}
    refused_earlier = {"cost_in_results": "absent", "cost_in_headers": "absent"}
    yield capped("set_price_x4", Lies(price_factor=4), **of_set)
    yield capped("set_price_x10", Lies(price_factor=10), **of_set)
    yield capped("set_price_x4_history_tells", Lies.from_json({"price_factor": 4, **refused_earlier}), **of_set)
    yield capped("set_price_x10_history_tells", Lies.from_json({"price_factor": 10, **refused_earlier}), **of_set)
    nobody = {**refused_earlier, "cost_in_history": "absent"}
    yield capped("set_price_x4_nobody_tells", Lies.from_json({"price_factor": 4, **nobody}), **of_set)
    yield capped("set_price_x10_nobody_tells", Lies.from_json({"price_factor": 10, **nobody}), **of_set)
    yield capped("day_six_runs_price_x4", Lies(price_factor=4), **of_day)
    yield capped("day_six_runs_nobody_tells", Lies.from_json({"price_factor": 4, **nobody}), **of_day)
    yield capped("day_six_runs_price_x10", Lies(price_factor=10), **of_day)
    yield capped("day_six_runs_answers_lost", Lies(price_factor=4), **of_day, rates={"accepted_then_reset": 0.3})
    yield capped(
        "run_price_x4", Lies(price_factor=4), run_usd=Decimal("0.10"), generations=12, runs=1, is_capped_only=True
    )
    yield capped(
        "set_repeated_ids", Lies(price_factor=4, repeated_id_share=0.3), **{**of_set, "set_usd": Decimal("0.28")}
    )
    for kind in COST_LIES:
        if kind not in {"right", "absent"}:
            everywhere = {"cost_in_results": kind, "cost_in_history": kind, "balance": kind}
            yield capped(f"cost_{kind}", Lies.from_json({"price_factor": 2, **everywhere}), **of_set, runs=1)


def _clocks() -> Iterator[Scenario]:
    hour_s = 3600.0
    back, ahead = Jump(after_s=1.0, by_s=-hour_s), Jump(after_s=1.0, by_s=hour_s)
    yield Scenario(name="clock_jumps_back", jumps=(back,), runs=1, latency_s=1.0)
    yield Scenario(name="clock_jumps_ahead", jumps=(ahead,), runs=1, latency_s=1.0)
    yield Scenario(name="clock_of_one_jumps_ahead", jumps=(ahead,), runs=3, latency_s=1.0)
    yield Scenario(name="clock_of_one_jumps_back", jumps=(back,), runs=3, latency_s=1.0)
    yield Scenario(name="clock_is_behind_later", later_jump=Jump(after_s=0.0, by_s=-hour_s), lies=Lies(lag_s=3.0))
    yield Scenario(name="clock_is_ahead_later", later_jump=Jump(after_s=0.0, by_s=hour_s), lies=Lies(lag_s=3.0))
    yield Scenario(
        name="clock_jumps_while_a_cap_binds",
        jumps=(ahead, back),
        runs=2,
        lies=Lies(price_factor=4),
        rates={"accepted_then_reset": 0.2},
        mix="plain",
        sets=1,
        generations=34,
        set_usd=Decimal("0.30"),
    )


def _disasters() -> Iterator[Scenario]:
    def after(disaster: Disaster, name: str, lies: Lies = HONEST, **more: Any) -> Scenario:
        usual = {"runs": 1, "rates": {}, "latency_s": 4.0, "generations": 12, "disaster": disaster}
        return Scenario(**{"name": f"ledger_{disaster}{name}", "then": lies, **usual, **more})

    yield after("restored", "", must_finish=True)
    yield after("restored", "_faces", mix="faces", must_finish=True)
    yield after("restored", "_faces_shown_elsewhere", Lies(alterations=["pictures_replaced"]), mix="faces")
    many = {"generations": 40, "sets": 1}
    yield after("lost", "", mix="faces", must_finish=True)
    yield after("lost", "_40", must_finish=True, **many)
    for name, lies in _PAGINGS.items():
        yield after("lost", f"_40_page_{name}", lies, **many)
    yield after("lost", "_empty_1", Lies(empty_readings=1), **many)
    yield after("lost", "_unreadable", Lies(page_script=["unreadable"] * 12), **many)
    for kind in ALTERATIONS:
        yield after("lost", f"_row_{kind}", Lies(alterations=[kind]))
    # no ledger sees the other one: equal prompts, equal times, lost answers in both
    both = {"folders": 2, "runs": 1, "sets": 1}
    yield Scenario(name="two_folders", **both)
    yield Scenario(name="two_folders_nearly_all_lost", rates={"accepted_then_reset": 0.8}, **both)
