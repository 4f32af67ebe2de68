"""The same promises with PostgreSQL, where several machines share one ledger."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from lab.ledger import CENT, NOON, ORIGIN, Book
from sqlalchemy import text

from segmind_dagster.errors import BudgetError, LedgerError, LostOwnershipError, OriginMismatchError
from segmind_dagster.ledger import Caps, Claim, leases, open_ledger, rate, reads, sensor_reads
from segmind_dagster.ledger.schema import METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from segmind_dagster.ledger import Ledger

pytestmark = pytest.mark.postgres

# of requests at 60 a minute, a hundredth below the bound
SPACING = timedelta(microseconds=1_010_102)


def opened(url: str, origin: str = ORIGIN) -> Ledger:
    return open_ledger(url, api_origin=origin, holds_outputs=lambda: None)


@pytest.fixture
def ledgers(postgres_url: str) -> Iterator[list[Ledger]]:
    """The ledger as three machines have it open."""
    made = [opened(postgres_url) for _ in range(3)]
    yield made
    for ledger in made:
        ledger.close()


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """What came of works that were all started at the same moment."""
    start = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = works[number]()
        except Exception as error:  # noqa: BLE001  judged by the test
            results[number] = error

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_the_migrations_create_exactly_the_tables_of_the_schema_on_postgresql(ledgers: list[Ledger]) -> None:
    with ledgers[0].reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": "ledger_version"})
        assert compare_metadata(context, METADATA) == []


def test_sensor_queries_work_on_postgresql(ledgers: list[Ledger]) -> None:
    book, asked = Book(ledgers[0]), ledgers[1]
    book.plan("a", "b", "c", "d", "e")
    book.failed(book.claim("a"))
    book.failed(book.submitted(book.claim("e")), failure_kind="bad_output")
    book.succeeded(book.submitted(book.claim("b")))
    book.unknown(book.claim("c"))
    work = asked.read(sensor_reads.open_work, failed_kinds={"server_error"}, uncounted_kinds={"no_credits"})
    assert {(each.prompt_set, each.resource) for each in work} == {("set", "flux")}
    known = asked.read(reads.snapshot, ["a"], is_alive=lambda *_: False, uncounted_kinds=set())
    assert known["a"].failed_runs == 1
    assert asked.read(sensor_reads.held) == [sensor_reads.Held(owner="me", generations=1, last_at=NOON)]
    assert [record.generation_id for record in asked.read(reads.unfinished, is_alive=lambda *_: False)] == ["c"]
    assert asked.read(reads.unfinished, is_alive=lambda *_: True) == []
    assert asked.read(reads.totals)["succeeded"] == (1, Decimal("0.0055"))
    assert asked.read(sensor_reads.sets_out_of_hand, since=NOON) == ["set"]
    hour = timedelta(hours=1)
    look = {"now": NOON + hour, "first_look": hour, "kept": 2 * hour}
    assert asked.read(sensor_reads.loose, **look) == [
        sensor_reads.Loose(look="now", generations=1, next_at=NOON + hour, first_paid_at=NOON, last_looked_at=NOON)
    ]
    assert asked.read(sensor_reads.asked_for, "set")
    assert asked.read(sensor_reads.standing, "set")["flux"] == {"failed": 2, "succeeded": 1, "unknown": 1, "planned": 1}
    assert asked.read(sensor_reads.leases, now=NOON, run_ids=["run"]) == []
    assert asked.read(sensor_reads.last_success, ["fast-flux-schnell"]) == NOON
    assert asked.read(sensor_reads.balance) is None


def test_a_generation_goes_from_plan_to_output_and_its_money_is_exact(ledgers: list[Ledger]) -> None:
    book, elsewhere = Book(ledgers[0]), Book(ledgers[1])
    book.plan("g", seed=2**62, body={"prompt": "Bär"})
    held = book.submitted(book.claim("g"), "r-1")
    assert elsewhere.record("g").request_id == "r-1"
    book.succeeded(held, cost_usd=Decimal("0.005512345"))
    assert elsewhere.day_usd() == Decimal("0.005512345")
    spent = ledgers[1].read(reads.spent, run_id="run", day="2026-01-02", prompt_set="set")
    assert spent.run_usd == spent.set_usd == spent.day_usd == Decimal("0.005512345")
    with ledgers[1].reading() as connection:
        (row,) = reads.set_rows(connection, resource="flux", prompt_sets=["set"])
    assert (row["body"], row["completed_at"], row["state"]) == ({"prompt": "Bär"}, NOON, "succeeded")


def test_a_generation_claimed_by_one_machine_cannot_be_claimed_by_another(ledgers: list[Ledger]) -> None:
    ids = [f"g-{number}" for number in range(6)]
    Book(ledgers[0]).plan(*ids)
    for number, generation_id in enumerate(ids):
        first, second, third = (Book(ledgers[(number + shift) % 3]) for shift in range(3))
        first.claim(generation_id, "first")
        for late in (second, third):
            with pytest.raises(LostOwnershipError):
                late.claim(generation_id, "late")
    assert Book(ledgers[0]).day_usd() == len(ids) * CENT
    assert Book(ledgers[0]).attempts_usd() == {"2026-01-02": len(ids) * CENT}


def test_the_day_cap_refuses_on_postgresql(ledgers: list[Ledger]) -> None:
    book = Book(ledgers[0])
    book.plan("a", "b")
    book.claim("a", caps=Caps(day_usd=CENT))
    with pytest.raises(BudgetError):
        Book(ledgers[1]).claim("b", caps=Caps(day_usd=CENT))


def test_a_failing_operation_does_not_fail_others_on_postgresql(ledgers: list[Ledger]) -> None:
    book = Book(ledgers[0])
    book.plan("a", "b", "c")
    first, second = book.claim("a"), book.claim("b")
    results = at_once(
        [lambda: book.submitted(first, "r-1"), lambda: book.submitted(second, "r-1"), lambda: book.claim("c")]
    )
    assert sum(isinstance(result, Exception) for result in results[:2]) == 1
    assert results[2].generation_id == "c"
    assert ledgers[1].read(reads.owned_requests, ["r-1"]) == {"r-1": ("fast-flux-schnell", NOON)}


def test_send_times_are_shared_by_machines_that_ask_in_turn(ledgers: list[Ledger]) -> None:
    send_times = [
        send_time
        for number in range(9)
        for send_time in ledgers[number % 3].write(rate.reserve_requests, count=1, per_minute=60, now=NOON)
    ]
    assert send_times == [NOON + number * SPACING for number in range(9)]


def test_a_postgresql_ledger_belongs_to_one_origin(ledgers: list[Ledger], postgres_url: str) -> None:
    Book(ledgers[0]).plan("g")
    with pytest.raises(OriginMismatchError) as raised:
        opened(postgres_url, "https://api.segmind.com")
    assert "test@127.0.0.1" in str(raised.value)


def test_a_dead_run_is_taken_over_by_one_run_only(ledgers: list[Ledger]) -> None:
    Book(ledgers[0]).in_state("g", "submitting")
    results = at_once([lambda ledger=ledger: Book(ledger).taken_over("g", "me", str(id(ledger))) for ledger in ledgers])
    assert sum(isinstance(result, LostOwnershipError) for result in results) == 2
    assert Book(ledgers[0]).record("g").state == "unknown"


def test_postgresql_commits_are_synchronous(ledgers: list[Ledger]) -> None:
    with ledgers[0].writer._engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


@pytest.mark.postgres
def test_of_three_machines_one_gets_each_generation(ledgers: Any) -> None:
    ids = [f"g-{number}" for number in range(12)]
    Book(ledgers[0]).plan(*ids)
    works = [lambda ledger=ledger, i=i: Book(ledger).claim(i, str(id(ledger))) for i in ids for ledger in ledgers]
    results = at_once(works)
    claims = [result for result in results if isinstance(result, Claim)]
    assert sorted(claim.generation_id for claim in claims) == sorted(ids)
    assert {type(result) for result in results} == {Claim, LostOwnershipError}
    assert Book(ledgers[0]).day_usd() == len(ids) * CENT


@pytest.mark.postgres
def test_machines_that_ask_at_once_never_get_the_same_send_time(ledgers: Any) -> None:
    def take(ledger: Any) -> list[Any]:
        return [ledger.write(rate.reserve_requests, count=1, per_minute=60, now=NOON)[0] for _ in range(30)]

    send_times = [
        send_time
        for taken in at_once([lambda ledger=ledger: take(ledger) for ledger in ledgers])
        for send_time in taken
    ]
    assert sorted(send_times) == [NOON + number * SPACING for number in range(90)]


@pytest.mark.postgres
def test_machines_that_claim_at_once_keep_to_the_day_cap(ledgers: Any) -> None:
    ids = [f"g-{number}" for number in range(60)]
    Book(ledgers[0]).plan(*ids)
    Book(ledgers[0]).priced()

    def buy(ledger: Any, part: list[str]) -> None:
        for generation_id in part:
            try:
                Book(ledger).claim(generation_id, caps=Caps(day_usd=Decimal("0.1")))
            except BudgetError:
                return

    at_once([lambda ledger=ledger, n=n: buy(ledger, ids[n::3]) for n, ledger in enumerate(ledgers)])
    assert Book(ledgers[0]).day_usd() == Decimal("0.1")


def test_a_machine_stuck_in_a_write_does_not_block_others(ledgers: Any) -> None:
    is_inside, is_over = threading.Event(), threading.Event()

    def get_stuck(connection: Any) -> None:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        is_inside.set()
        is_over.wait()

    def write_after_it() -> Claim:
        is_inside.wait()
        try:
            Book(ledgers[1]).plan("g-1")
            return Book(ledgers[1]).claim("g-1")
        finally:
            is_over.set()

    stuck, claim = at_once([lambda: ledgers[0].write(get_stuck), write_after_it])
    assert isinstance(stuck, LedgerError)
    assert "Nothing more is submitted" in str(stuck)
    assert isinstance(claim, Claim)


def test_waiting_for_a_stuck_writer_outlasts_its_timeout(ledgers: Any) -> None:
    def seconds(connection: Any, name: str) -> int:
        query = text("SELECT setting::int / 1000 FROM pg_settings WHERE name = :name")
        return int(connection.execute(query, {"name": name}).scalar())

    stuck_s = ledgers[0].write(seconds, "idle_in_transaction_session_timeout")
    assert 0 < stuck_s < ledgers[0].write(seconds, "lock_timeout")


@pytest.mark.parametrize("off_hours", [-1, 0, 1])
def test_the_database_clock_judges_leases_and_send_times_of_other_machines(
    ledgers: list[Ledger], off_hours: int
) -> None:
    one, other = ledgers[:2]
    elsewhere = leases.Process("another/boot/pid:[1]", 1, None)
    now = datetime.now(UTC) + timedelta(hours=off_hours)
    fields = {"owner": f"run{off_hours}", "run_id": None, "process": elsewhere, "at_s": 7.0, "now": now}
    one.write(leases.record_lease, **fields, lease_s=60)
    assert other.standing(f"run{off_hours}", 5000.0) == "held"
    # it has run out by the database's clock, whatever the holder's wall clock said
    one.write(leases.record_lease, **fields, lease_s=-1)
    assert other.standing(f"run{off_hours}", 5000.0) == "over"
    (first,) = one.write(rate.reserve_requests, count=1, per_minute=6, now=now, at_s=7.0)
    here = datetime.now(UTC)
    (second,) = other.write(rate.reserve_requests, count=1, per_minute=6, now=here, at_s=5000.0)
    assert abs((first - now).total_seconds()) < 1
    # the next send time at six a minute, for another machine with another wall clock
    assert 8 < (second - here).total_seconds() < 11
