"""The storm itself: runs side by side that are started again whenever they end, and killed at drawn moments.

Ends when every kill has been dealt and a plain run over all prompt sets has nothing left to do. Whether the
outcome is right is not judged here.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.chaos.books import held_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.chaos.world import Options

Phase = Literal["generating", "loading"]

ROOT = Path(__file__).parents[2]
_LOOK_EVERY_S = 0.05
_LOADING_SHARE = 0.3
_CALM_AT = 0.98
_LONGEST_DELAY_S = 1.0
_TELL_EVERY_S = 15.0
_PLAIN_RUNS = 12


@dataclass(slots=True)
class Kill:
    """One SIGKILL to come.

    Args:
        progress: share of the work that the provider must have accepted before.
        phase: what its victim must be doing.
        delay_s: for how long it must have been doing that.
    """

    progress: float
    phase: Phase
    delay_s: float


@dataclass(slots=True, eq=False)
class Run:
    """One run, in a process of its own, that prints its phases into a file."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    phase: str = "starting"
    phase_since: float = 0.0
    last: dict[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        """Learn what it is doing."""
        whole, _, _ = self.log.read_text(encoding="utf-8").rpartition("\n")
        if not whole:
            return
        self.last = json.loads(whole.splitlines()[-1])
        if self.last["phase"] != self.phase:
            self.phase, self.phase_since = self.last["phase"], time.monotonic()

    @property
    def has_finished(self) -> bool:
        """Whether everything it was asked for is there."""
        return self.last.get("phase") == "done" and set(self.last["endings"]) <= {"succeeded", "reused"}


@dataclass(slots=True)
class Storm:
    """What happened.

    Args:
        runs: runs started.
        kills: kills dealt, by phase.
        held: generations that killed runs were at: others had to take them over.
        stopped: runs that stopped by themselves, by reason.
        crashes: what runs said that ended in an error; a claim is broken by any.
        plain_runs: runs over all sets at the end, until one had nothing to do.
    """

    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    held: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    plain_runs: int = 0


def rage(
    options: Options,
    keys: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    accepted: Callable[[], int],
    say: Callable[[str], None],
) -> Storm:
    """Run, kill and run again, until everything is reported done.

    Args:
        options: how many, and the seed.
        keys: the prompt sets.
        folder: the project.
        environ: of every run.
        accepted: how many jobs the provider has accepted so far.
        say: called for every kill, and for progress.

    Raises:
        TimeoutError: it takes longer than the options allow.
    """
    chance = random.Random(options.seed)  # noqa: S311  to be repeated, not secret
    kills = draw_kills(options, chance)
    arena = _Arena(options, folder, environ, say)
    progress = 0.0
    try:
        while kills or progress < _CALM_AT or arena.live:
            arena.look()
            while (kills or progress < _CALM_AT) and len(arena.live) < options.runs:
                arena.start(chance.sample(keys, chance.randint(1, len(keys))))
            progress = accepted() / options.generations
            for kill, victim in _kills_now(kills, arena.live, progress, time.monotonic(), chance):
                kills.remove(kill)
                arena.kill(victim, f"{progress:.0%} of the work accepted")
            arena.tell_now_and_then(f"{progress:.0%} of the work accepted")
            time.sleep(_LOOK_EVERY_S)
        while arena.storm.plain_runs < _PLAIN_RUNS and not arena.run_plainly(keys).has_finished:
            pass
    finally:
        arena.clear()
    return arena.storm


def draw_kills(options: Options, chance: random.Random) -> list[Kill]:
    """The moments of all kills, from the first generations to the last."""
    moments = sorted(chance.uniform(0.02, 0.95) for _ in range(options.kills))
    return [
        Kill(
            progress=moment,
            phase="loading" if chance.random() < _LOADING_SHARE else "generating",
            delay_s=chance.uniform(0.0, _LONGEST_DELAY_S),
        )
        for moment in moments
    ]


def _kills_now(
    kills: Sequence[Kill], live: Sequence[Run], progress: float, now: float, chance: random.Random
) -> Iterator[tuple[Kill, Run]]:
    """Kills whose moment has come, each with somebody to hit; nobody is hit twice."""
    alive = list(live)
    for kill in [kill for kill in kills if kill.progress <= progress]:
        fitting = [run for run in alive if run.phase == kill.phase and now - run.phase_since >= kill.delay_s]
        if fitting:
            victim = chance.choice(fitting)
            alive.remove(victim)
            yield kill, victim


class _Arena:
    """The runs there are, and what happened to those there were.

    Args:
        options: what every run gets.
        folder: the project.
        environ: of every run.
        say: told what happens.
    """

    def __init__(self, options: Options, folder: Path, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.storm = Storm()
        self.live: list[Run] = []
        self._options = options
        self._folder = folder
        # not the caller's folder, whose .dlt/ would be read
        self._process: dict[str, Any] = {"cwd": folder, "env": {**environ, "PYTHONPATH": str(ROOT)}}
        self._say = say
        self._began = self._told = time.monotonic()
        (folder / "runs").mkdir()

    def start(self, keys: Sequence[str]) -> Run:
        """One more run, over these prompt sets."""
        self.storm.runs += 1
        number = self.storm.runs
        log = self._folder / "runs" / f"{number}.jsonl"
        quick = [str(self._options.client_timeout_s), str(self._options.time_scale)]
        command = [sys.executable, "-m", "bench.chaos.run", *quick, f"run_{number}"]
        with log.open("wb") as said, log.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen([*command, *keys], stdout=said, stderr=errors, **self._process)  # noqa: S603  our own interpreter, no shell
        run = Run(number=number, process=process, log=log)
        self.live.append(run)
        return run

    def look(self) -> None:
        """Learn what every run is doing, and note those that have ended."""
        elapsed_s = time.monotonic() - self._began
        if elapsed_s > self._options.limit_s:
            raise TimeoutError(f"Not done after {elapsed_s:.0f} s; at work: {self._doing()}.")
        for run in list(self.live):
            # asked first: what it said last stands in its log by then
            has_ended = run.process.poll() is not None
            run.look()
            if has_ended:
                self.live.remove(run)
                self._note_end(run)

    def kill(self, run: Run, when: str) -> None:
        """SIGKILL a run; what it was at is counted while it stands still."""
        os.kill(run.process.pid, signal.SIGSTOP)
        held = held_by(self._folder / "data" / "ledger.sqlite", run.process.pid)
        run.process.kill()
        # reaped at once: a process that is dead but still listed would count as alive
        run.process.wait()
        self.live.remove(run)
        self.storm.held += held
        self.storm.kills[run.phase] += 1
        number = sum(self.storm.kills.values())
        self._tell(f"kill {number:>2}: run {run.number} while {run.phase}, {held} generations in its hands, {when}")

    def run_plainly(self, keys: Sequence[str]) -> Run:
        """One run alone, until it ends by itself."""
        run = self.start(keys)
        while self.live:
            self.look()
            time.sleep(_LOOK_EVERY_S)
        self.storm.plain_runs += 1
        self._tell(f"plain run {self.storm.plain_runs}: {run.last.get('endings', 'failed')}")
        return run

    def tell_now_and_then(self, progress: str) -> None:
        """One line every so often."""
        if time.monotonic() - self._told > _TELL_EVERY_S:
            self._tell(f"{progress}; {self._doing()}")

    def clear(self) -> None:
        """Leave nothing running."""
        for run in self.live:
            run.process.kill()
            run.process.wait()

    def _note_end(self, run: Run) -> None:
        if run.process.returncode:
            said = run.log.with_suffix(".err").read_text(encoding="utf-8", errors="replace").strip()
            self.storm.crashes.append(
                f"run {run.number} ended with {run.process.returncode} while {run.phase}: {said.rpartition(chr(10))[2]}"
            )
        elif run.last.get("stopped_by"):
            self.storm.stopped[run.last["stopped_by"]] += 1

    def _tell(self, line: str) -> None:
        self._told = time.monotonic()
        self._say(f"{self._told - self._began:6.1f} s  {line}")

    def _doing(self) -> str:
        return ", ".join(f"run {run.number} {run.phase}" for run in self.live)
