"""Group commits: many writes share one, none of them fails another, and all are durable before they return."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.ledger import CENT, NOON, Book, generation, stored
from sqlalchemy import event, false, insert, select, text

from segmind_dagster.errors import BudgetError, LedgerError, LostOwnershipError, RequestOwnedError
from segmind_dagster.ledger import Caps, Claim, commits, entries, moves
from segmind_dagster.ledger.batching import batched
from segmind_dagster.ledger.schema import META

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from sqlalchemy import Connection

    from segmind_dagster.ledger import Ledger


def remember(key: str) -> Callable[[Connection], str]:
    def operation(connection: Connection) -> str:
        connection.execute(insert(META), {"key": key, "value": key})
        return key

    return operation


def break_down(connection: Connection) -> None:
    connection.execute(insert(META), {"key": "half done", "value": ""})
    connection.execute(text("SELECT * FROM no_such_table"))


def refuse(_connection: Connection) -> None:
    raise LostOwnershipError("g")


class Gate:
    """An operation that holds the writer until it is let go, so that what comes after it shares one commit."""

    def __init__(self, ledger: Ledger) -> None:
        self.is_open = threading.Event()
        self.commits = 0
        event.listen(ledger.writer._engine, "commit", self._count)
        self.held = ledger.writer.submit(lambda _connection: self.is_open.wait(10))

    def _count(self, _connection: Connection) -> None:
        self.commits += 1

    def let_go(self, *waiting: Future[Any]) -> list[Any]:
        """What became of each of the operations that waited."""
        self.is_open.set()
        self.held.result(10)
        return [future.exception(10) or future.result(10) for future in waiting]


def keys(ledger: Ledger) -> set[str]:
    with ledger.reading() as connection:
        return set(connection.execute(text("SELECT key FROM meta WHERE key != 'api_origin'")).scalars())


class Pauses:
    """The committer's `time`: its clock stands still, and it notes how often the committer waits for more writes."""

    def __init__(self) -> None:
        self.count = 0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, _seconds: float) -> None:
        self.count += 1


def test_a_single_writer_does_not_wait_for_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "time", pauses := Pauses())
    for number in range(20):
        ledger.write(remember(str(number)))
    assert pauses.count == 0


def test_with_several_writers_a_commit_waits_for_more_operations(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "time", pauses := Pauses())
    gate = Gate(ledger)
    gate.let_go(*[ledger.writer.submit(remember(str(number))) for number in range(5)])
    assert pauses.count == 0
    ledger.write(remember("follows five that shared a commit"))
    assert pauses.count == 1
    ledger.write(remember("follows one that had a commit to itself"))
    assert pauses.count == 1


def test_waiting_operations_share_one_commit(ledger: Ledger) -> None:
    gate = Gate(ledger)
    waiting = [ledger.writer.submit(remember(str(number))) for number in range(50)]
    assert gate.let_go(*waiting) == [str(number) for number in range(50)]
    assert gate.commits <= 2
    assert len(keys(ledger)) == 50


def test_operations_run_in_order_of_arrival(ledger: Ledger) -> None:
    done: list[int] = []
    gate = Gate(ledger)
    gate.let_go(*[ledger.writer.submit(lambda _, number=number: done.append(number)) for number in range(1200)])
    assert done == list(range(1200))


def test_a_failing_operation_does_not_fail_others_in_its_group(ledger: Ledger) -> None:
    gate = Gate(ledger)
    waiting = [ledger.writer.submit(operation) for operation in (remember("a"), break_down, remember("b"))]
    first, broken, last = gate.let_go(*waiting)
    assert (first, last) == ("a", "b")
    assert "no_such_table" in str(broken)
    assert keys(ledger) == {"a", "b"}


def test_a_refused_operation_fails_only_its_caller(ledger: Ledger) -> None:
    gate = Gate(ledger)
    waiting = [ledger.writer.submit(operation) for operation in (remember("a"), refuse, remember("b"))]
    first, refused, last = gate.let_go(*waiting)
    assert (first, last) == ("a", "b")
    assert isinstance(refused, LostOwnershipError)
    assert keys(ledger) == {"a", "b"}
    assert gate.commits <= 2


def test_a_failing_operation_writes_nothing_and_the_writer_continues(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="no_such_table"):
        ledger.write(break_down)
    assert keys(ledger) == set()
    ledger.write(remember("a"))
    assert keys(ledger) == {"a"}


def test_a_write_is_visible_to_other_processes_once_it_returns(ledger: Ledger, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        for number in range(20):
            ledger.write(remember(str(number)))
            assert other.execute("SELECT count(*) FROM meta WHERE key = ?", [str(number)]).fetchone() == (1,)


def test_closing_finishes_what_is_queued(ledger: Ledger) -> None:
    gate = Gate(ledger)
    waiting = [ledger.writer.submit(remember(str(number))) for number in range(700)]
    closing = threading.Thread(target=ledger.close)
    closing.start()
    gate.let_go(*waiting)
    closing.join(10)
    assert not closing.is_alive()
    assert all(future.done() for future in waiting)
    assert len(keys(ledger)) == 700


def test_nothing_is_accepted_after_closing_and_closing_twice_is_harmless(ledger: Ledger) -> None:
    ledger.write(remember("a"))
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.write(remember("b"))


def test_a_ledger_that_was_never_written_to_needs_no_thread(ledger: Ledger) -> None:
    assert "ledger-commits" not in {thread.name for thread in threading.enumerate()}
    ledger.close()


def test_tasks_continue_while_a_write_becomes_durable(ledger: Ledger) -> None:
    async def main() -> list[str]:
        gate = Gate(ledger)
        order: list[str] = []

        async def write() -> None:
            await ledger.awrite(remember("a"))
            order.append("written")

        task = asyncio.create_task(write())
        await asyncio.sleep(0)
        order.append("went on")
        gate.is_open.set()
        await task
        return order

    assert asyncio.run(main()) == ["went on", "written"]


def test_a_cancelled_task_does_not_undo_its_write(ledger: Ledger) -> None:
    async def main() -> None:
        gate = Gate(ledger)
        task = asyncio.create_task(ledger.awrite(remember("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.is_open.set()

    asyncio.run(main())
    ledger.write(remember("b"))
    assert keys(ledger) == {"a", "b"}


def test_generations_wanted_by_many_runs_are_claimed_once(ledger: Ledger) -> None:
    ids = [f"g-{number}" for number in range(20)]
    Book(ledger).plan(*ids)
    Book(ledger).priced()
    cap = Decimal("0.15")

    async def claim(generation_id: str, owner: str) -> str:
        try:
            await ledger.awrite(
                moves.claim, generation_id=generation_id, owner=owner, run_id=None, prompt_set="set",
                reserved_usd=CENT, caps=Caps(day_usd=cap), rate_wait_ms=0, now=NOON,
            )  # fmt: skip
        except LostOwnershipError:
            return "lost"
        except Exception as error:  # noqa: BLE001  counted by its name
            return type(error).__name__
        return "claimed"

    async def main() -> list[str]:
        wanted = [claim(generation_id, owner) for generation_id in ids for owner in ("me", "you", "they")]
        return await asyncio.gather(*wanted)

    results = asyncio.run(main())
    assert results.count("claimed") == Book(ledger).count() == 15
    assert set(results) == {"claimed", "lost", "BudgetError"}
    assert Book(ledger).day_usd() == cap


def test_a_claim_repeated_after_a_failed_commit_counts_once(ledger: Ledger) -> None:
    """What shares its commit breaks: each is done again by itself, and no decision remembers the first time."""
    book = Book(ledger)
    book.plan("a", "b", "c")
    book.priced()
    seen: list[int] = []

    @batched(str)
    def breaks(connection: Connection, _asks: Sequence[str]) -> list[None]:
        seen.append(connection.execute(text("SELECT COUNT(*) FROM attempts")).scalar_one())
        raise RuntimeError

    usual = {"run_id": None, "prompt_set": "set", "reserved_usd": CENT, "rate_wait_ms": 0, "now": NOON}
    gate = Gate(ledger)
    claims = [
        ledger.writer.submit(moves.claim, generation_id=id_, owner="me", caps=Caps(day_usd=CENT * 2), **usual)
        for id_ in ("a", "b", "c")
    ]
    results = gate.let_go(*claims, ledger.writer.submit(breaks))
    # the claims were decided before it broke, and again
    assert seen[0] == 2
    assert [type(each) for each in results[:3]] == [Claim, Claim, BudgetError]
    assert book.day_usd() == CENT * 2
    assert book.count() == 2


def test_waiting_moves_share_a_few_statements(ledger: Ledger) -> None:
    book = Book(ledger)
    ids = [f"g-{number}" for number in range(300)]
    book.plan(*ids)
    book.priced()
    statements: list[str] = []
    event.listen(ledger.writer._engine, "before_cursor_execute", lambda *about: statements.append(about[2]))

    def claims(count: int) -> list[Future[Any]]:
        usual = {"run_id": None, "prompt_set": "set", "reserved_usd": CENT, "rate_wait_ms": 0, "now": NOON}
        caps = Caps(day_usd=CENT * 250)
        return [
            ledger.writer.submit(moves.claim, generation_id=id_, owner="me", caps=caps, **usual) for id_ in ids[:count]
        ]

    gate = Gate(ledger)
    held = gate.let_go(*claims(300))
    claimed = [each for each in held if isinstance(each, Claim)]
    assert [each.generation_id for each in claimed] == ids[:250]
    assert all(isinstance(each, BudgetError) for each in held[250:])
    accepted = [
        ledger.writer.submit(
            moves.mark_submitted, each, request_id=f"r-{each.generation_id}", http_status=200, now=NOON
        )
        for each in claimed
    ]
    assert {future.result(10) for future in accepted} == {None}
    kept = [ledger.writer.submit(moves.mark_succeeded, stored(each)) for each in claimed]
    cost_usd = stored(claimed[0]).accounting.cost_usd
    assert cost_usd is not None
    assert {future.result(10).usd for future in kept} == {cost_usd}
    assert book.day_usd() == cost_usd * 250
    assert len(statements) < 60


def test_one_refused_move_of_a_batch_fails_only_its_caller(ledger: Ledger) -> None:
    book = Book(ledger)
    book.plan("a", "b")
    mine, other = book.claim("a"), book.claim("b")
    stranger = Claim("a", 1, "somebody else")
    gate = Gate(ledger)
    results = gate.let_go(
        *(
            ledger.writer.submit(moves.mark_submitted, each, request_id=f"r-{number}", http_status=200, now=NOON)
            for number, each in enumerate([stranger, mine, Claim("gone", 1, "me"), other])
        )
    )
    assert isinstance(results[0], LostOwnershipError)
    assert isinstance(results[2], LedgerError)
    assert [book.record(each).state for each in ("a", "b")] == ["submitted", "submitted"]


def test_a_request_claimed_twice_in_a_group_goes_to_one_attempt(ledger: Ledger) -> None:
    book = Book(ledger)
    book.plan("a", "b", "c")
    held = [book.claim(each) for each in ("a", "b", "c")]
    gate = Gate(ledger)
    results = gate.let_go(
        *(
            ledger.writer.submit(moves.mark_submitted, each, request_id=request_id, http_status=200, now=NOON)
            for each, request_id in zip(held, ["r-1", "r-1", "r-2"], strict=True)
        )
    )
    assert results[0] is results[2] is None
    assert isinstance(results[1], RequestOwnedError)
    assert (results[1].request_id, results[1].generation_id) == ("r-1", "a")
    assert [book.record(each).state for each in ("a", "b", "c")] == ["submitted", "submitting", "submitted"]
    assert gate.commits <= 2, "one refusal does not take a group apart"


def test_a_request_of_another_generation_is_refused_and_one_of_the_same_attempt_is_not(ledger: Ledger) -> None:
    book = Book(ledger)
    book.plan("a", "b")
    book.submitted(book.claim("a"), "r-1")
    other = book.claim("b")
    before = book.everything()
    with pytest.raises(RequestOwnedError, match="Request r-1 belongs to generation a"):
        book.submitted(other, "r-1")
    assert book.everything() == before
    book.submitted(other, "r-2")
    assert book.record("b").state == "submitted"


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(
            lambda connection: connection.execute(insert(META), [{"key": "same", "value": ""}] * 2), id="a duplicate"
        ),
        pytest.param(lambda connection: connection.execute(insert(META), {"key": "no value"}), id="a missing value"),
        pytest.param(
            lambda connection: connection.execute(insert(META), {"key": object(), "value": ""}), id="a strange value"
        ),
        pytest.param(lambda connection: connection.execute(select(META).where(false())).one(), id="not one row"),
        pytest.param(lambda connection: connection.execute(text("SELECT 1 FROM nowhere")), id="no such table"),
    ],
)
def test_no_error_of_the_database_leaves_the_ledger_untranslated(
    ledger: Ledger, operation: Callable[[Connection], Any]
) -> None:
    ledger.write(remember("before"))
    with pytest.raises(LedgerError, match="but the database answered"):
        ledger.write(operation)
    with pytest.raises(LedgerError, match="but the database answered"):
        ledger.read(operation)
    assert keys(ledger) == {"before"}


def test_a_refused_claim_in_a_group_reserves_nothing(ledger: Ledger) -> None:
    book = Book(ledger)
    book.plan("a", "b")

    def claim(generation_id: str, owner: str) -> Future[Any]:
        def operation(connection: Connection) -> Any:
            return moves.claim(
                connection, generation_id=generation_id, owner=owner, run_id=None, prompt_set="set",
                reserved_usd=CENT, caps=Caps(day_usd=Decimal(1)), rate_wait_ms=0, now=NOON + timedelta(seconds=1),
            )  # fmt: skip

        return ledger.writer.submit(operation)

    gate = Gate(ledger)
    mine, yours, other = gate.let_go(claim("a", "me"), claim("a", "you"), claim("b", "me"))
    assert (mine.owner, other.owner) == ("me", "me")
    assert isinstance(yours, LostOwnershipError)
    assert book.day_usd() == 2 * CENT
    assert book.count() == 2


def test_a_set_registered_while_others_write_is_whole(ledger: Ledger) -> None:
    gate = Gate(ledger)
    rows = [generation(f"g-{number}") for number in range(40)]

    def register(connection: Connection) -> None:
        entries.register_set(connection, prompt_set="set", resource="flux", generations=rows, now=NOON)

    results = gate.let_go(
        ledger.writer.submit(register), ledger.writer.submit(break_down), ledger.writer.submit(remember("a"))
    )
    assert results[0] is None
    assert Book(ledger).record("g-39").state == "planned"
