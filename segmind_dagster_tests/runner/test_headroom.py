"""Which generations wait for headroom under a cap, which ask again, and that none waits for what cannot come."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lab.clocks import HandClock

from segmind_dagster.errors import BudgetError
from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL
from segmind_dagster.runner.headroom import Headroom

if TYPE_CHECKING:
    from collections.abc import Coroutine


def work(prompt_set: str = "fruit") -> Generation:
    return Generation(
        generation_id="g",
        model=FAST_FLUX_SCHNELL,
        prompt_set=prompt_set,
    )


def refused(scope: str = "day", *, is_final: bool = False, awaits_others: bool = False) -> BudgetError:
    return BudgetError("no", scope=scope, is_final=is_final, awaits_others=awaits_others)


async def asked(headroom: Headroom, error: BudgetError, prompt_set: str = "fruit") -> bool:
    with headroom.asking() as changes:
        pass
    return await headroom.wait(work(prompt_set), error, changes)


class Tasks:
    """Generations that wait, and how many have gone on."""

    def __init__(self, headroom: Headroom, count: int, error: BudgetError) -> None:
        self.tasks = [asyncio.create_task(asked(headroom, error)) for _ in range(count)]

    async def woken(self) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return sum(task.done() for task in self.tasks)


class StillClock(HandClock):
    """Nobody's waits end by themselves."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


def run(main: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 5))


def test_a_final_refusal_does_not_wait() -> None:
    async def main() -> None:
        headroom = Headroom(StillClock(), may_come=lambda: True)
        with headroom.in_flight():
            assert not await asked(headroom, refused(is_final=True))

    run(main())


def test_without_possible_headroom_no_generation_waits() -> None:
    async def main() -> None:
        assert not await asked(Headroom(StillClock(), may_come=lambda: False), refused())

    run(main())


def test_one_generation_asks_after_an_ending_and_two_after_each_grant() -> None:
    async def main() -> None:
        headroom = Headroom(StillClock(), may_come=lambda: False)
        with ExitStack() as open_ones:
            first = ExitStack()
            first.enter_context(headroom.in_flight())
            open_ones.enter_context(headroom.in_flight())
            waiting = Tasks(headroom, 10, refused())
            assert await waiting.woken() == 0
            first.close()
            assert await waiting.woken() == 1
            headroom.granted()
            assert await waiting.woken() == 3
        await headroom.close()
        assert await waiting.woken() == 10

    run(main())


def test_headroom_freed_during_a_claim_is_asked_for_again() -> None:
    """The answer may be older than what ended meanwhile, and nothing else would wake anybody."""

    async def main() -> None:
        headroom = Headroom(StillClock(), may_come=lambda: False)
        with headroom.asking() as changes, headroom.in_flight():
            pass
        assert await headroom.wait(work(), refused(), changes)
        assert not await asked(headroom, refused())

    run(main())


def test_a_final_refusal_wakes_all_waiting_generations() -> None:
    async def main() -> None:
        is_hopeful = [True]
        headroom = Headroom(StillClock(), may_come=lambda: is_hopeful[0])
        waiting = Tasks(headroom, 5, refused())
        assert await waiting.woken() == 0
        is_hopeful[0] = False
        assert not await asked(headroom, refused())
        assert await waiting.woken() == 5
        await headroom.close()

    run(main())


def test_each_set_has_its_own_queue() -> None:
    async def main() -> None:
        headroom = Headroom(StillClock(), may_come=lambda: True)
        fruit = Tasks(headroom, 2, refused("set"))
        other = asyncio.create_task(asked(headroom, refused("set"), "other"))
        assert await fruit.woken() == 0
        headroom.changed()
        assert (await fruit.woken(), other.done()) == (1, True)
        await headroom.close()

    run(main())


def test_waiting_for_other_runs_is_bounded() -> None:
    async def main() -> None:
        clock = HandClock()
        headroom = Headroom(clock, may_come=lambda: False)
        asks = 0
        while await asked(headroom, refused(awaits_others=True)):
            asks += 1
            assert asks < 1000
        # every two seconds, for five minutes
        assert (asks, clock.monotonic()) == (150, 300)

    run(main())
