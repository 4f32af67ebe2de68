"""The usage summaries say what Python says of the same rows: to the nano-dollar, every charge once."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.warehouse import FLUX, REALITY, RESOURCES, STICKER, Attempt, Row

from segmind_dagster.reports.usage import usage_source
from segmind_dagster.reports.usage_sql import usage_sql
from segmind_dagster.source import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.warehouse import Warehouse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETS, SLUGS = ("apple", "pear", "plum"), (FLUX, REALITY, STICKER)
USD = st.integers(0, 10**12).map(lambda nano: Decimal(nano) / 10**9)
# what a charge can look like: (cost, source); without a cost, the reservation stands for it
CHARGES = st.one_of(
    st.tuples(USD, st.sampled_from(["reported", "history", "estimated"])),
    st.just((Decimal(0), None)),
    st.just((None, None)),
)


@st.composite
def generations(draw: st.DrawFn) -> list[Attempt | Row]:
    """Generations with their attempts, each in one set or more; the first set is the one that paid."""
    items: list[Attempt | Row] = []
    for n in range(draw(st.integers(0, 12))):
        name, model = f"g{n}", draw(st.sampled_from(SLUGS))
        status = draw(st.sampled_from(["succeeded", "failed", "unknown", "planned", "submitting", "submitted"]))
        kind = draw(st.sampled_from(["invalid_request", "job_failed", "rate_limited"])) if status == "failed" else None
        holders = draw(st.lists(st.sampled_from(SETS), min_size=1, unique=True))
        for number in range(1, 1 + draw(st.integers(0 if status == "planned" else 1, 3))):
            cost, source = draw(CHARGES)
            items.append(
                Attempt(
                    generation_id=name,
                    attempt=number,
                    prompt_set=holders[0],
                    model=model,
                    status=draw(st.sampled_from(["succeeded", "failed", "submitted"])),
                    failure_kind=kind,
                    error=f"{kind} of {name}" if kind else None,
                    cost_usd=cost,
                    cost_source=source,
                    reserved_usd=draw(USD),
                    rate_wait_ms=draw(st.integers(0, 10**4)),
                    queue_ms=draw(st.none() | st.integers(0, 3)),
                    inference_ms=draw(st.none() | st.integers(0, 10**4)),
                    latency_ms=draw(st.none() | st.integers(1, 10**6)),
                    intent_at=NOON + timedelta(hours=draw(st.integers(-60, 60))),
                )
            )
        items += [
            Row(
                generation_id=name,
                prompt_set=holder,
                model=model,
                status=status,
                failure_kind=kind,
                error=draw(st.sampled_from(["no such model", "too long"])),
                is_reused=holder != holders[0],
                saved_usd=draw(st.none() | USD) if holder != holders[0] else 0,
                asked_day=NOON.date() + timedelta(days=draw(st.integers(-4, 4))),
            )
            for holder in holders
        ]
    return items


def percentile(values: list[int], share: float) -> float:
    """With linear interpolation, as SQL's PERCENTILE_CONT."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def committed(attempts: Iterable[Attempt]) -> tuple[Decimal, Decimal | None]:
    """What was reported as charged, and what is only estimated or reserved; None when nobody knows a part of it."""
    reported = estimated = Decimal(0)
    is_known = True
    for attempt in attempts:
        if attempt.cost_source in {"reported", "history"}:
            reported += attempt.cost_usd or 0
        else:
            estimated += attempt.reserved_usd or 0 if attempt.cost_usd is None else attempt.cost_usd
        is_known &= not (attempt.status == "succeeded" and attempt.cost_usd is None and not attempt.reserved_usd)
    return reported, estimated if is_known else None


def added(amounts: Iterable[Decimal | int | None]) -> Decimal | None:
    """A sum, which is not known when a part of it is not."""
    found = list(amounts)
    return None if None in found else sum(found, Decimal(0))


def grouped(items: list[Attempt | Row], kind: type, of: Callable[[Attempt | Row], object]) -> dict[object, list]:
    groups: dict[object, list] = defaultdict(list)
    for item in items:
        if isinstance(item, kind):
            groups[of(item)].append(item)
    return groups


def check_money_and_latency(row: dict, attempts: list[Attempt]) -> None:
    reported, estimated = committed(attempts)
    assert (row["attempts"], row["cost_usd"], row["estimated_cost_usd"]) == (len(attempts), reported, estimated)
    assert isinstance(row["cost_usd"], Decimal)
    assert isinstance(row["estimated_cost_usd"], Decimal | None)
    outputs = sum(attempt.status == "succeeded" for attempt in attempts)
    if outputs and estimated is not None:
        assert float(row["cost_per_output_usd"]) == pytest.approx(float((reported + estimated) / outputs), abs=1e-9)
    else:
        assert row["cost_per_output_usd"] is None
    for source in ("reported", "history"):
        of_source = sum((each.cost_usd or 0 for each in attempts if each.cost_source == source), Decimal(0))
        assert row[f"{source}_cost_usd"] == of_source
    assert row["rate_wait_ms"] == sum(attempt.rate_wait_ms for attempt in attempts)
    assert row["rate_limited"] == sum(attempt.failure_kind == "rate_limited" for attempt in attempts)
    for time in ("queue", "inference", "latency"):
        values = [value for attempt in attempts if (value := getattr(attempt, f"{time}_ms")) is not None]
        for percent in (50, 95, 99):
            expected = pytest.approx(percentile(values, percent / 100)) if values else None
            assert row[f"{time}_p{percent}_ms"] == expected


@given(generations())
def test_by_prompt_set_each_set_has_its_rows_and_what_it_paid(warehouse: Warehouse, items: list[Attempt | Row]) -> None:
    rows_of = grouped(items, Row, lambda item: item.prompt_set)
    attempts_of = grouped(items, Attempt, lambda item: item.prompt_set)
    warehouse.fill(items)
    summary = {row["prompt_set"]: row for row in warehouse.ask("usage_by_prompt_set")}
    assert list(summary) == sorted(rows_of)
    for key, row in summary.items():
        rows = rows_of[key]
        assert row["generations"] == len(rows)
        for status in ("succeeded", "failed", "unknown"):
            assert row[status] == sum(each.status == status for each in rows)
        parts = ("succeeded", "failed", "unknown", "unfinished")
        assert sum(row[part] for part in parts) == len(rows)
        assert row["reused"] == sum(each.is_reused for each in rows)
        assert row["saved_usd"] == added(each.saved_usd for each in rows)
        check_money_and_latency(row, attempts_of[key])


@given(generations())
def test_by_model_a_generation_in_several_sets_counts_once_and_costs_once(
    warehouse: Warehouse, items: list[Attempt | Row]
) -> None:
    rows_of = grouped(items, Row, lambda item: item.model)
    attempts_of = grouped(items, Attempt, lambda item: item.model)
    warehouse.fill(items)
    summary = {row["model"]: row for row in warehouse.ask("usage_by_model")}
    assert list(summary) == sorted(rows_of)
    for slug, row in summary.items():
        distinct = {each.generation_id: each.status for each in rows_of[slug]}
        assert row["generations"] == len(distinct)
        for status in ("succeeded", "failed", "unknown"):
            assert row[status] == sum(each == status for each in distinct.values())
        assert row["reused"] == sum(each.is_reused for each in rows_of[slug])
        check_money_and_latency(row, attempts_of[slug])


@given(generations())
def test_by_day_every_cent_is_on_the_utc_day_of_its_post(warehouse: Warehouse, items: list[Attempt | Row]) -> None:
    attempts_of = grouped(items, Attempt, lambda item: item.intent_at.date())
    warehouse.fill(items)
    asked_of = grouped(items, Row, lambda item: item.asked_day)
    summary = {row["day"]: row for row in warehouse.ask("usage_by_day")}
    assert list(summary) == sorted({*attempts_of, *asked_of})
    for day, row in summary.items():
        assert isinstance(day, date)
        assert row["generations"] == len(asked_of[day])
        assert row["reused"] == sum(each.is_reused for each in asked_of[day])
        assert row["saved_usd"] == added(each.saved_usd for each in asked_of[day])
        assert row["stored"] == sum(each.status == "succeeded" for each in asked_of[day])
        assert row["still_failed"] == sum(each.status == "failed" for each in asked_of[day])
        for status in ("succeeded", "failed"):
            assert row[status] == sum(each.status == status for each in attempts_of[day])
        check_money_and_latency(row, attempts_of[day])


@given(generations())
def test_what_reuse_saved_is_the_same_by_day_and_by_prompt_set(
    warehouse: Warehouse, items: list[Attempt | Row]
) -> None:
    warehouse.fill(items)
    days, sets = (warehouse.ask(name) for name in ("usage_by_day", "usage_by_prompt_set"))
    assert added(row["saved_usd"] for row in days) == added(row["saved_usd"] for row in sets)
    for name in ("generations", "reused", "attempts"):
        assert sum(row[name] for row in days) == sum(row[name] for row in sets)


@given(generations(), st.data())
def test_rows_without_a_request_day_save_the_same_by_day_and_by_prompt_set(
    warehouse: Warehouse, items: list[Attempt | Row], data: st.DataObject
) -> None:
    sent = {item.generation_id for item in items if isinstance(item, Attempt)}
    # what was never sent has neither a day nor a cost
    known = [
        replace(item, saved_usd=0) if isinstance(item, Row) and item.generation_id not in sent else item
        for item in items
    ]
    warehouse.fill([
        replace(item, asked_day=None) if isinstance(item, Row) and data.draw(st.booleans()) else item for item in known
    ])  # fmt: skip
    sets = warehouse.ask("usage_by_prompt_set")
    for days in (warehouse.ask("usage_by_day"), warehouse.query(usage_sql(RESOURCES, dated=[])["usage_by_day"])):
        assert added(row["saved_usd"] for row in days) == added(row["saved_usd"] for row in sets)
        assert sum(row["attempts"] for row in days) == sum(row["attempts"] for row in sets)


def test_rows_without_a_request_day_count_on_the_day_of_the_last_post(warehouse: Warehouse) -> None:
    usd, later = Decimal("0.5"), NOON + timedelta(days=2)
    old = [
        Attempt(generation_id="old", status="failed", intent_at=NOON),
        Attempt(generation_id="old", attempt=2, intent_at=later),
        Row(generation_id="old"),
        Row(generation_id="old", prompt_set="plum", is_reused=True, saved_usd=usd),
        Row(generation_id="never sent", status="planned"),
    ]
    warehouse.fill(old)
    for rows in (warehouse.ask("usage_by_day"), warehouse.query(usage_sql(RESOURCES, dated=[])["usage_by_day"])):
        found = {row["day"]: (row["generations"], row["reused"], row["saved_usd"], row["attempts"]) for row in rows}
        assert found == {NOON.date(): (0, 0, 0, 1), later.date(): (2, 1, usd, 1)}


def test_prompts_no_longer_in_a_set_count_on_no_day(warehouse: Warehouse) -> None:
    gone = Row(generation_id="gone", is_current=False, is_reused=True, saved_usd=Decimal(1), asked_day=NOON.date())
    warehouse.fill([gone])
    assert warehouse.ask("usage_by_day") == []


@given(generations())
def test_by_failure_attempts_and_what_is_still_failed_are_counted_by_kind(
    warehouse: Warehouse, items: list[Attempt | Row]
) -> None:
    attempts_of = grouped(items, Attempt, lambda item: (item.failure_kind, item.model))
    warehouse.fill(items)
    summary = {(row["failure_kind"], row["model"]): row for row in warehouse.ask("usage_by_failure")}
    failed = grouped(
        [item for item in items if isinstance(item, Row) and item.status == "failed" and item.failure_kind],
        Row,
        lambda item: (item.failure_kind, item.model),
    )
    assert set(summary) == {key for key in (*attempts_of, *failed) if key[0] is not None}
    for key, row in summary.items():
        attempts = attempts_of.get(key, [])
        assert row["attempts"] == len(attempts)
        assert (row["cost_usd"], row["estimated_cost_usd"]) == committed(attempts)
        # what was never sent has its reason in its own row
        assert row["example"] == min(each.error or "" for each in attempts or failed[key])
        assert row["still_failed"] == len({item.generation_id for item in failed.get(key, [])})


@given(generations())
def test_every_summary_that_knows_money_adds_up_to_the_same_total(
    warehouse: Warehouse, items: list[Attempt | Row]
) -> None:
    total = added(committed(item for item in items if isinstance(item, Attempt)))
    warehouse.fill(items)
    for name in ("usage_by_model", "usage_by_prompt_set", "usage_by_day"):
        rows = warehouse.ask(name)
        assert added(row[column] for row in rows for column in ("cost_usd", "estimated_cost_usd")) == total
        assert all(row["cost_usd"] == row["reported_cost_usd"] + row["history_cost_usd"] for row in rows)


@st.composite
def matrices(draw: st.DrawFn) -> list[Attempt | Row]:
    """The generations of prompt matrices: each with a value for every placeholder, bought by the first of two sets."""
    items: list[Attempt | Row] = []
    for n in range(draw(st.integers(0, 12))):
        chosen = draw(
            st.fixed_dictionaries(
                {}, optional={"fruit": st.sampled_from(["pear", 'a "fig"', "7"]), "steps": st.sampled_from([2, 7])}
            )
        )
        status = draw(st.sampled_from(["succeeded", "failed", "planned"]))
        cost, source = draw(CHARGES)
        if status != "planned":
            items.append(
                Attempt(
                    generation_id=f"g{n}", prompt_set="apple", status=status, cost_usd=cost, cost_source=source,
                    reserved_usd=draw(USD), intent_at=NOON,
                )
            )  # fmt: skip
        for holder in draw(st.sampled_from([("apple",), ("apple", "pear")])):
            is_current = draw(st.booleans())
            items.append(
                Row(
                    generation_id=f"g{n}", prompt_set=holder, status=status, is_reused=holder != "apple",
                    is_current=is_current, variables=json.dumps(chosen),
                )
            )  # fmt: skip
    return items


@given(matrices())
def test_by_variable_every_value_has_the_money_and_the_failures_of_its_generations(
    warehouse: Warehouse, items: list[Attempt | Row]
) -> None:
    warehouse.fill(items)
    found = {(row["prompt_set"], row["variable"], row["value"]): row for row in warehouse.ask("usage_by_variable")}
    attempts = {item.generation_id: item for item in items if isinstance(item, Attempt)}
    rows_of: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for item in items:
        if isinstance(item, Row):
            for name, value in json.loads(item.variables).items():
                rows_of[item.prompt_set, name, str(value)].append(item)
    assert set(found) == set(rows_of)
    for key, row in found.items():
        current = [each.status for each in rows_of[key] if each.is_current]
        bought = [attempts[each.generation_id] for each in rows_of[key] if each.generation_id in attempts]
        reported, estimated = committed(bought if key[0] == "apple" else [])
        failed, succeeded = current.count("failed"), current.count("succeeded")
        assert (row["generations"], row["failed"], row["succeeded"]) == (len(current), failed, succeeded)
        assert row["failure_rate"] == (pytest.approx(failed / (failed + succeeded)) if failed + succeeded else None)
        assert (row["cost_usd"], row["estimated_cost_usd"]) == (reported, estimated)


def test_a_model_or_a_set_with_attempts_and_no_rows_still_shows_its_money(warehouse: Warehouse) -> None:
    usd = Decimal("0.02")
    warehouse.fill([Attempt(generation_id="g", cost_usd=usd, cost_source="reported", intent_at=NOON)])
    for summary in ("usage_by_model", "usage_by_prompt_set"):
        (row,) = warehouse.ask(summary)
        assert (row["generations"], row["attempts"], row["cost_usd"], row["saved_usd"]) == (0, 1, usd, 0)


def test_the_most_finished_row_of_a_generation_tells_where_sets_were_loaded_at_different_times(
    warehouse: Warehouse,
) -> None:
    warehouse.fill([Row(generation_id="g", prompt_set="apple", status="planned"), Row(generation_id="g")])
    (model,) = warehouse.ask("usage_by_model")
    assert (model["generations"], model["succeeded"], model["unfinished"]) == (1, 1, 0)


def test_a_generation_in_two_sets_is_paid_by_the_first_and_saved_by_the_second(warehouse: Warehouse) -> None:
    usd = Decimal("0.123456789")
    warehouse.fill(
        [
            Attempt(generation_id="g", prompt_set="apple", cost_usd=usd, cost_source="reported", intent_at=NOON),
            Row(generation_id="g", prompt_set="apple"),
            Row(generation_id="g", prompt_set="pear", is_reused=True, saved_usd=usd),
        ]
    )
    (model,) = warehouse.ask("usage_by_model")
    assert (model["generations"], model["cost_usd"], model["saved_usd"], model["reused"]) == (1, usd, usd, 1)
    apple, pear = warehouse.ask("usage_by_prompt_set")
    assert (apple["cost_usd"], apple["saved_usd"], apple["attempts"]) == (usd, 0, 1)
    assert (pear["cost_usd"], pear["saved_usd"], pear["attempts"]) == (0, usd, 0)
    assert pear["cost_per_output_usd"] is None


def test_prompts_no_longer_in_a_set_count_only_their_cost(warehouse: Warehouse) -> None:
    usd = Decimal("0.01")
    bought = [
        Attempt(generation_id=name, cost_usd=usd, cost_source="reported", intent_at=NOON) for name in ("old", "new")
    ]
    warehouse.fill([*bought, Row(generation_id="old", is_current=False), Row(generation_id="new")])
    for summary in ("usage_by_model", "usage_by_prompt_set"):
        (row,) = warehouse.ask(summary)
        assert (row["generations"], row["succeeded"], row["attempts"], row["cost_usd"]) == (1, 1, 2, 2 * usd)


@pytest.mark.parametrize("name", sorted(tables.USAGE_COLUMNS))
def test_a_summary_without_data_has_its_columns_and_no_rows(warehouse: Warehouse, name: str) -> None:
    warehouse.fill([])
    assert warehouse.ask(name) == []
    warehouse.fill(
        [
            Attempt(generation_id="g", status="failed", failure_kind="job_failed", cost_usd=Decimal(0), intent_at=NOON),
            Row(generation_id="g", status="failed", failure_kind="job_failed", variables='{"fruit": "pear"}'),
        ]
    )
    (row,) = warehouse.ask(name)
    assert set(row) == set(tables.USAGE_COLUMNS[name])


def test_every_summary_replaces_its_table() -> None:
    resources = usage_source().resources
    assert set(resources) == set(tables.USAGE_COLUMNS)
    assert {resource.write_disposition for resource in resources.values()} == {"replace"}
