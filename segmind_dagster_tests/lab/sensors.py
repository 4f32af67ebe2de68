"""Ticks of sensors as the daemon makes them, and ledgers with a past, so that no test waits for a back-off."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg
import requests
from sqlalchemy import delete, insert

from lab.dagster_project import asset_key
from segmind_dagster.data_folder import opened
from segmind_dagster.ledger import Caps, Claim, Ledger, entries, leases, moves, writes
from segmind_dagster.ledger.schema import BALANCE_KEY, META
from segmind_dagster.orchestration.build import build_definitions
from segmind_dagster.prompts import find_prompt_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.dagster_project import DagsterLab
    from segmind_dagster.lifecycle.generation import Generation

STARTED = dg.DagsterRunStatus.STARTED


def ago(**period: float) -> datetime:
    return datetime.now(UTC) - timedelta(**period)


def ahead(**period: float) -> Callable[[], datetime]:
    """A clock that is ahead of the time."""
    return lambda: datetime.now(UTC) + timedelta(**period)


class Ticks:
    """Ticks of one sensor, its cursor carried from each to the next, its requests carried out as the daemon does."""

    def __init__(self, lab: DagsterLab, sensor: dg.SensorDefinition) -> None:
        self.lab = lab
        self.sensor = sensor
        self.cursor: str | None = None
        self._repository = _located(sensor)

    def tick(self) -> tuple[list[dg.RunRequest], str]:
        """The runs asked for, and the reason when there are none."""
        context = dg.build_sensor_context(
            instance=self.lab.instance,
            cursor=self.cursor,
            repository_def=self._repository,
            resources={"segmind": self.lab.segmind},
            sensor_name=self.sensor.name,
        )
        # Dagster looks partitions up only in an instance that other processes can open, which this one is not
        context.caching_dynamic_partitions_loader = self.lab.instance
        made = self.sensor.evaluate_tick(context)
        self.cursor = made.cursor
        for request in made.dynamic_partitions_requests or []:
            name, keys = request.partitions_def_name, list(request.partition_keys)
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.lab.instance.add_dynamic_partitions(name, keys)
            else:
                for key in keys:
                    self.lab.instance.delete_dynamic_partition(name, key)
        for event in made.asset_events:
            self.lab.instance.report_runless_asset_event(event)
        return list(made.run_requests or []), made.skip_message or ""

    def partitions(self) -> list[str | None]:
        return [request.partition_key for request in self.tick()[0]]

    def reason(self) -> str:
        requests, reason = self.tick()
        assert not requests, requests
        return reason


@cache
def _located(sensor: dg.SensorDefinition) -> dg.RepositoryDefinition:
    """A code location with this very sensor, whose clock may be a test's, instead of its own."""
    return dg.Definitions(
        assets=build_definitions().assets, resources=dict.fromkeys(("dlt", "segmind", "segmind_run")), sensors=[sensor]
    ).get_repository_def()


def record_run(
    lab: DagsterLab,
    status: dg.DagsterRunStatus,
    *assets: str,
    tags: dict[str, str],
    job_name: str = "__ASSET_JOB",
) -> str:
    """A run as Dagster's records have it."""
    run_id = str(uuid.uuid4())
    lab.instance.add_run(
        dg.DagsterRun(
            job_name=job_name,
            run_id=run_id,
            status=status,
            tags=tags,
            asset_selection=frozenset(asset_key(name) for name in assets) or None,
        )
    )
    return run_id


class Past:
    """What earlier runs of a prompt set left in the ledger.

    Args:
        lab: its project.
        key: the set.
        registered_at: when a run first read the file.
    """

    def __init__(self, lab: DagsterLab, key: str, *, registered_at: datetime | None = None) -> None:
        self.lab = lab
        self.key = key
        self.settings = lab.segmind.load()
        found = find_prompt_set(key, prompts_dir=self.settings.prompts_dir, project_dir=self.settings.project_dir)
        self.requests: Sequence[Generation] = found.generations
        with self._ledger() as ledger:
            for model in found.models:
                ledger.write(
                    entries.register_set,
                    prompt_set=key,
                    resource=model.resource,
                    generations=[_row(request) for request in found.generations_of(model.resource)],
                    now=registered_at or ago(days=1),
                )

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        with opened(self.settings) as (ledger, _):
            yield ledger

    def sends(self, number: int) -> str:
        """What a run sends before it dies; the provider's id of the request."""
        request = self.requests[number]
        answer = requests.post(
            f"{self.lab.server.url}/v2/{request.model.slug}",
            json=dict(request.body),
            headers={"x-api-key": self.lab.server.api_key},
            timeout=10,
        )
        request_id: str = answer.json()["request_id"]
        return request_id

    def fails(
        self,
        number: int,
        kind: str = "server_error",
        *,
        runs: int = 1,
        at: datetime | None = None,
        target: str = "failed",
        cost_usd: Decimal | None = Decimal(0),
    ) -> None:
        """A generation has failed in so many runs, the last one then."""
        at = at or ago(hours=1)
        with self._ledger() as ledger:
            for n in range(runs):
                if n:
                    seen = {self.requests[number].generation_id: (kind, n)}
                    ledger.write(writes.reopen, seen, target="planned", now=at)
                held = self._claim(ledger, number, at, f"run{n}")
                if cost_usd:
                    self._submitted(ledger, held, at)
                ledger.write(
                    writes.mark_failed,
                    held,
                    target=target if n == runs - 1 else "failed",
                    failure_kind=kind,
                    error="as it was",
                    http_status=500,
                    cost_usd=cost_usd,
                    now=at,
                )

    def submits(self, number: int, *, request_id: str | None = None, owner: str = "gone", at: datetime) -> None:
        """A run has submitted a generation then."""
        with self._ledger() as ledger:
            self._submitted(ledger, self._claim(ledger, number, at, owner), at, request_id)

    def leases(self, owner: str, until: datetime, *, run_id: str | None = None) -> None:
        """A run has a lease until then, or had one."""
        with self._ledger() as ledger:
            left_s = (until - ago()).total_seconds()
            fields = {"owner": owner, "run_id": run_id, "process": leases.Process.this(), "now": ago()}
            ledger.write(leases.record_lease, at_s=leases.since_boot_s(), lease_s=left_s, **fields)

    def lets_go(self, number: int, *, owner: str = "gone", at: datetime) -> None:
        with self._ledger() as ledger:
            ledger.write(writes.let_go, self.requests[number].generation_id, owner=owner, now=at)

    def _claim(self, ledger: Ledger, number: int, at: datetime, owner: str) -> Claim:
        return ledger.write(
            moves.claim,
            generation_id=self.requests[number].generation_id,
            owner=owner,
            run_id=owner,
            prompt_set=self.key,
            reserved_usd=Decimal("0.01"),
            caps=Caps(),
            rate_wait_ms=0,
            now=at,
        )

    def _submitted(self, ledger: Ledger, held: Claim, at: datetime, request_id: str | None = None) -> None:
        ledger.write(moves.mark_submitted, held, request_id=request_id or str(uuid.uuid4()), http_status=200, now=at)


def balance_is(lab: DagsterLab, balance_usd: str, at: datetime) -> None:
    """What a run, or the `credits` asset, has seen."""
    text = f'{{"balance_usd": "{balance_usd}", "observed_at": "{at.isoformat()}"}}'
    with opened(lab.segmind.load()) as (ledger, _):
        ledger.write(lambda connection: connection.execute(delete(META).where(META.c.key == BALANCE_KEY)))
        ledger.write(lambda connection: connection.execute(insert(META), {"key": BALANCE_KEY, "value": text}))


def _row(request: Generation) -> dict[str, Any]:
    return {
        "generation_id": request.generation_id,
        "model_slug": request.model.slug,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "body": dict(request.body),
        "images": {},
        "variables": dict(request.variables),
        "seed": request.seed,
        "sample": request.sample,
    }
