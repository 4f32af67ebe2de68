"""The way in: what outputs, history, warehouse and prompt files say, into a ledger that lost it.

Reads everything first and writes once: killed anywhere, it leaves the ledger as it found it, and run again it comes
to the same result. What a ledger holds already is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from segmind_dagster.errors import LedgerError, PromptSetError
from segmind_dagster.ledger import open_ledger, reads, restoring
from segmind_dagster.lifecycle.failures import PAID_KINDS
from segmind_dagster.outputs import OutputStore
from segmind_dagster.prompts import load_prompt_set, scan_prompts
from segmind_dagster.recovery.files import judge_outputs
from segmind_dagster.recovery.inputs import inputs_of
from segmind_dagster.recovery.joining import Evidence, join
from segmind_dagster.recovery.memberships import memberships
from segmind_dagster.recovery.report import Rebuilt, report
from segmind_dagster.recovery.requests import ask_history
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.runner.lease import watch_leases
from segmind_dagster.runner.prices import unit_costs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from segmind_dagster.errors import Problem
    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.recovery.files import OnDisk
    from segmind_dagster.recovery.joining import Restored
    from segmind_dagster.recovery.requests import Requests
    from segmind_dagster.settings import Settings
    from segmind_dagster.source.restore import Remembered

# read back at least this far, and not further, whatever the dates of files say
_RECENT = timedelta(days=90)
_LONGEST = timedelta(days=3 * 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """What was found where, before anything is decided."""

    asked: Mapping[str, Generation]
    disk: Mapping[str, OnDisk]
    remembered: Remembered

    def evidence(self) -> dict[str, Evidence]:
        ids = {*self.asked, *self.disk, *self.remembered.generations, *self.remembered.attempts}
        return {
            key: Evidence(
                generation_id=key,
                asked=self.asked.get(key),
                disk=self.disk.get(key),
                row=self.remembered.generations.get(key),
                attempts=self.remembered.attempts.get(key, ()),
            )
            for key in sorted(ids)
        }


def rebuild(settings: Settings, *, say: Callable[[str], None], despite_gaps: bool = False) -> Rebuilt:
    """Restore what can be known of a lost ledger. Nothing is bought, deleted or overwritten.

    Args:
        settings: which ledger, outputs folder, warehouse, prompt files and account.
        say: called with what is being done.
        despite_gaps: whether a history will do that leaves out requests which outputs or warehouse tell of.

    Raises:
        SettingsError: there is no key.
        OriginMismatchError: the ledger belongs to another origin.
        LedgerError: a run is at work, the history cannot be read or has gaps, or everything here is of another origin.
        PromptSetError: a prompt file cannot be read, so that what it asks for would be overlooked.
    """
    from segmind_dagster.source.restore import read_back

    settings.require_api_key()
    now = datetime.now(UTC)
    sets = _prompt_sets(settings)
    outputs = OutputStore(settings.outputs_url, scratch_dir=settings.data_dir)
    ledger = open_ledger(
        settings.ledger_url, api_origin=settings.api_origin, holds_outputs=lambda: None, is_rebuilt=True
    )
    try:
        _refuse_beside_a_run(ledger)
        say("Reading the warehouse.")
        remembered = read_back(settings, say=say)
        say(f"Comparing the outputs in {settings.outputs_url} with what was recorded of them.")
        judged = _judge(settings, outputs, remembered)
        sources = _Sources(asked=_asked(sets), disk=_of_this_origin(judged), remembered=remembered)
        evidence = sources.evidence()
        held = _held(ledger, evidence)
        known = {key for key, record in held.items() if _needs_no_request(record)}
        if not (held or sources.disk or remembered.generations) and any(each.verdict == "foreign" for each in judged):
            raise LedgerError(
                f"Everything in {settings.outputs_url} is of another API origin than {settings.api_origin}, so there "
                "is nothing to restore. Set SEGMIND_DATA_DIR to another folder, or SEGMIND_API_URL back."
            )
        expected = {} if despite_gaps else _accepted(ledger, evidence, now)
        try:
            requests = _ask(
                settings, ledger, outputs, evidence, known=known, expected=expected, now=now, say=say,
                is_whole=not despite_gaps,
            )  # fmt: skip
        except LedgerError as error:
            ledger.write(restoring.note_refusal, str(error))
            raise
        evidence = _with_requests(ledger, evidence, requests)
        rows = _without_doubles([found for each in evidence.values() if (found := join(each, now=now))])
        entered = ledger.write(
            restoring.restore,
            api_origin=settings.api_origin,
            generations=[row.generation for row in rows],
            attempts={row.generation["generation_id"]: row.attempts for row in rows},
            memberships=memberships(rows, sets=sets, disk=sources.disk, remembered=remembered.memberships),
            paid_failures=PAID_KINDS,
            doubtful=requests.doubtful.keys(),
            now=now,
        )
        owned = ledger.read(reads.owned_requests, list(requests.rows))
    finally:
        ledger.close()
    return report(
        [row for row in rows if row.generation["generation_id"] in entered],
        present=held,
        judged=judged,
        foreign_rows=remembered.foreign,
        requests=requests,
        owned=owned,
    )


def _prompt_sets(settings: Settings) -> list[PromptSet]:
    folder = scan_prompts(settings.prompts_dir)
    problems: list[Problem] = list(folder.problems)
    sets = []
    for path in folder.files.values():
        try:
            sets.append(load_prompt_set(path, project_dir=settings.project_dir))
        except PromptSetError as error:
            problems += error.problems
    if problems:
        raise PromptSetError(problems)
    return sets


def _refuse_beside_a_run(ledger: Ledger) -> None:
    watch_leases(ledger, SystemClock())
    is_alive = ledger.liveness()
    if any(is_alive(owner) for owner in ledger.read(reads.owners)):
        raise LedgerError(
            "A run is at work in this ledger; nothing was restored. Let it finish or stop it, then run it again."
        )


def _asked(sets: Iterable[PromptSet]) -> dict[str, Generation]:
    asked: dict[str, Generation] = {}
    for prompt_set in sets:
        for request in prompt_set.generations:
            asked.setdefault(request.generation_id, request)
    return asked


def _judge(settings: Settings, outputs: OutputStore, remembered: Remembered) -> list[OnDisk]:
    try:
        return list(judge_outputs(outputs, api_origin=settings.api_origin, remembered=remembered.generations))
    except OSError as error:
        raise LedgerError(
            f"The ledger was not rebuilt, and nothing was changed: reading the outputs in {settings.outputs_url} "
            f"failed ({error}), and what cannot be read would be bought again. See to it and run it again."
        ) from error


def _of_this_origin(judged: Iterable[OnDisk]) -> dict[str, OnDisk]:
    """One entry a generation; owned bytes before anything else."""
    chosen: dict[str, OnDisk] = {}
    for each in judged:
        if each.verdict in {"foreign", "nameless"}:
            continue
        if each.generation_id not in chosen or (each.is_owned and not chosen[each.generation_id].is_owned):
            chosen[each.generation_id] = each
    return chosen


def _held(ledger: Ledger, evidence: Collection[str]) -> dict[str, Generation]:
    """Generations that the ledger holds and may not lose: all but plans that no run acted on."""
    records = ledger.read(reads.snapshot, list(evidence), is_alive=lambda *_: False)
    return {key: record for key, record in records.items() if record.state != "planned" or record.attempts}


def _needs_no_request(record: Generation) -> bool:
    """All but what was not paid for as far as the ledger, being older, knows."""
    return record.state not in {"planned", "failed"} or record.failure_kind in PAID_KINDS


def _ask(
    settings: Settings,
    ledger: Ledger,
    outputs: OutputStore,
    evidence: Mapping[str, Evidence],
    *,
    known: Collection[str],
    expected: Mapping[str, datetime],
    now: datetime,
    say: Callable[[str], None],
    is_whole: bool,
) -> Requests:
    moments: list[datetime] = []
    owned: set[str] = set()
    for each in evidence.values():
        of_attempts = [row["intent_at"] for row in each.attempts]
        moments += [moment for moment in (each.disk and each.disk.written_at, *of_attempts) if moment is not None]
        owned |= {row["request_id"] for row in each.attempts if row["request_id"]}
        owned |= {each.request_id} if each.request_id else set()
    since = max(min([now - _RECENT, *moments]) - timedelta(days=1), now - _LONGEST)
    say(f"Reading Segmind's request history since {since.date().isoformat()}.")
    asked = [
        each.asked
        for key, each in evidence.items()
        if each.asked and key not in known and each.request_id is None and not (each.disk and each.disk.is_owned)
    ]
    unpriced = [
        each.request_id for key, each in evidence.items() if each.request_id and key not in known and _has_no_cost(each)
    ]
    return ask_history(
        settings,
        outputs,
        asked=asked,
        owned=lambda ids: owned | ledger.read(reads.owned_requests, ids).keys(),
        unpriced=unpriced,
        expected={each: moment for each, moment in expected.items() if moment >= since},
        since=since,
        now=now,
        is_whole=is_whole,
    )


def _accepted(ledger: Ledger, evidence: Mapping[str, Evidence], now: datetime) -> dict[str, datetime]:
    """When requests were accepted, as ledger, outputs and warehouse tell; failed ones may go unlisted."""
    known = ledger.read(reads.accepted_since, now - _RECENT)
    accepted: dict[str, datetime | None] = {each.request_id: each.accepted_at for each in known}
    for each in evidence.values():
        sidecar = each.disk.sidecar if each.disk else None
        if sidecar is not None and sidecar.request_id:
            accepted[sidecar.request_id] = sidecar.stored_at
        for row in each.attempts:
            if row["request_id"] and row["state"] in {"submitted", "succeeded"}:
                accepted[row["request_id"]] = row["submitted_at"] or row["intent_at"]
    return {key: moment for key, moment in accepted.items() if moment is not None}


def _has_no_cost(evidence: Evidence) -> bool:
    if evidence.disk is not None and evidence.disk.sidecar is not None and evidence.disk.sidecar.cost_usd is not None:
        return False
    return not any(
        row["request_id"] == evidence.request_id and row["cost_usd"] and row["cost_source"] != "estimated"
        for row in evidence.attempts
    )


def _with_requests(ledger: Ledger, evidence: Mapping[str, Evidence], requests: Requests) -> dict[str, Evidence]:
    """The same, with what the history says of each request, and what an unknown one may have cost."""
    slugs = {
        key: inputs_of(key, asked=each.asked, disk=each.disk, row=each.row)["model_slug"]
        for key, each in evidence.items()
    }
    prices = unit_costs(ledger, sorted(set(slugs.values())))
    whole = {}
    for key, each in evidence.items():
        row = requests.rows.get(each.request_id) if each.request_id else requests.answers.get(key)
        price = prices[slugs[key]]
        whole[key] = replace(
            each, request=row, doubt=requests.doubtful.get(key), estimate_usd=price.high if price else None
        )
    return whole


def _without_doubles(rows: Sequence[Restored]) -> list[Restored]:
    """Each request belongs to one attempt: stored outputs take precedence, copies of sidecars do not count."""
    taken: set[str] = set()
    kept = []
    for row in sorted(rows, key=lambda row: row.generation["state"] != "succeeded"):
        double = {each["request_id"] for each in row.attempts if each["request_id"] in taken}
        if double and row.generation["state"] == "submitted" and row.generation["request_id"] in double:
            continue
        for each in row.attempts:
            if each["request_id"] in taken:
                each["request_id"] = None
            elif each["request_id"]:
                taken.add(each["request_id"])
        row.generation["request_id"] = row.attempts[-1]["request_id"] if row.attempts else None
        kept.append(row)
    return kept
