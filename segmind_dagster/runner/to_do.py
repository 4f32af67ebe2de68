"""What a run has to do: what its plans say, and what earlier runs have left behind. Nothing is sent here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import RegistryError
from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.ledger import reads
from segmind_dagster.prompts import ImageInput
from segmind_dagster.registry import find_model
from segmind_dagster.runner.prices import unit_costs
from segmind_dagster.runner.work import Work

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from segmind_dagster.ledger import Caps, Ledger
    from segmind_dagster.planning import Plan
    from segmind_dagster.runner.work import ClockPort
    from segmind_dagster.settings import Settings


def works_of(plan: Plan, settings: Settings, caps: Caps) -> list[Work]:
    """What is to be done for a plan: all of it, or without what it is refused to buy."""
    works = []
    for decision in plan.decisions:
        request = decision.request
        if decision.action == "submit" and plan.refusal:
            continue
        works.append(
            Work(
                generation_id=request.generation_id,
                model=request.model,
                prompt_set=plan.prompt_set,
                body=request.body,
                images=request.images,
                # provenance of what is stored anew
                facts={}
                if decision.action in {"reuse", "leave"}
                else _facts(request.generation_id, request.model.slug, request.body, settings),
                action=decision.action,
                reserve_usd=decision.unit.high if decision.unit and not plan.refusal else None,
                caps=caps,
                estimate_usd=decision.unit.high if decision.unit else None,
            )
        )
    return works


def orphans_of(
    ledger: Ledger,
    settings: Settings,
    clock: ClockPort,
    *,
    known: Container[str],
    also_failed: Collection[str] = (),
) -> list[Work]:
    """What earlier runs submitted and never stored, of any set, as long as no live run is at it."""
    works = []
    records = ledger.read(reads.unfinished, is_alive=ledger.liveness(clock.monotonic()), also_failed=also_failed)
    costs = unit_costs(ledger, sorted({record.model_slug for record in records}))
    for record in records:
        if record.generation_id in known:
            continue
        try:
            model = find_model(record.model_slug)
        except RegistryError:  # its entry was removed; the ledger keeps it until the entry is back
            continue
        works.append(
            Work(
                generation_id=record.generation_id,
                model=model,
                prompt_set=record.prompt_set,
                body=record.body,
                images={name: ImageInput(None, None, sha256) for name, sha256 in record.images.items()},
                facts=_facts(record.generation_id, record.model_slug, record.body, settings),
                action="collect" if record.state in {"submitted", "failed"} else "look_up",
                reserve_usd=None,
                estimate_usd=unit.high if (unit := costs[record.model_slug]) else None,
            )
        )
    return works


def _facts(generation_id: str, slug: str, body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "generation_id": generation_id,
        "model": slug,
        "parameters": redactor_of(settings).values(body),
        "api_origin": settings.api_origin,
        "generator": "segmind-dagster",
    }
