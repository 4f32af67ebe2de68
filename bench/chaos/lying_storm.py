"""The storm of scenarios: several are played at once, each in a project and with a provider of its own.

What is played is in `scenarios`, one of them in `trial`, the judgement in `verdict`; here they are put together.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from bench.chaos.scenarios import scenarios
from bench.chaos.trial import play, preload
from bench.chaos.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.chaos.scenarios import Scenario
    from bench.chaos.verdict import Verdict

# most of a scenario is waiting: for a settling time, for a lag, for jobs
AT_ONCE = 4 * (os.cpu_count() or 1)


def chosen(only: Sequence[str], *, seed: int) -> tuple[Scenario, ...]:
    """The scenarios whose names begin like one of these; all of them when none is named.

    Raises:
        ValueError: there is no such scenario.
    """
    known = scenarios(seed)
    if unknown := [name for name in only if not any(each.name.startswith(name) for each in known)]:
        names = ", ".join(each.name for each in known)
        raise ValueError(f"There is no scenario {', '.join(unknown)}; there are: {names}.")
    return tuple(each for each in known if not only or each.name.startswith(tuple(only)))


def rage(
    played: Sequence[Scenario],
    folder: Path,
    *,
    seed: int,
    scale: float = 1.0,
    at_once: int = AT_ONCE,
    say: Callable[[str], None],
) -> list[Verdict]:
    """Play scenarios and judge them, in the order in which they were given.

    Args:
        played: which.
        folder: gets a folder for each.
        seed: of faults and lies.
        scale: multiplies generations.
        at_once: how many scenarios go on at the same time.
        say: called for each that has ended.
    """
    preload()

    def of(scenario: Scenario) -> Verdict:
        project = folder / scenario.name
        project.mkdir(parents=True)
        return judge(scenario, play(scenario, project, seed=seed, scale=scale))

    with ThreadPoolExecutor(at_once) as pool:
        waiting = {pool.submit(of, each): each for each in played}
        verdicts = {}
        for done in as_completed(waiting):
            verdict = verdicts[waiting[done].name] = done.result()
            outcome = "; ".join(verdict.broken) or "held"
            say(f"{len(verdicts):>3} of {len(played)}  {verdict.scenario.name}: {outcome}")
    return [verdicts[each.name] for each in played]
