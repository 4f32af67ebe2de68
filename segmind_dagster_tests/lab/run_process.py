"""Runs in processes of their own, that can be started together, stopped, woken and signalled.

As a script it is one such run: it waits for a line, generates, and prints as JSON how the generations ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import select

from lab import kill_points, script, script_environ
from lab.clocks import QuickClock
from segmind_dagster.ledger.commits import GroupCommitter
from segmind_dagster.ledger.schema import RUNS
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.runner import Batch, generate, interrupts, lease
from segmind_dagster.runner.rate_limiter import RateLimiter
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.runner_project import Lab

# shorter waits than in earnest, and still long beside what a busy machine adds
NAPS = 8
SHORT_LEASE_S = 2.0


class RunProcess:
    """One run in a process of its own, ready to go.

    Args:
        lab: the project and its sandbox.
        environ: settings beside the lab's, and the script's own: `STOP_AT` or `KILL_AT` name a gap,
            `ARRIVALS` says at which arrival there, `LEASE_S` and `DRAIN_S` shorten what they are called, and
            `PROMPT_SET` names another set.
    """

    def __init__(self, lab: Lab, **environ: str) -> None:
        self.process = subprocess.Popen(
            script("run_process"),
            env=script_environ(**{**lab.environ, **environ}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def go(self) -> Self:
        """Begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self

    def until_stopped(self) -> None:
        """Wait until the process is frozen."""
        seen = os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert seen is not None
        assert seen.si_code == os.CLD_STOPPED, self.process.communicate()[1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, *, within_s: float = 40) -> tuple[int, str, str]:
        """The exit code, standard output and standard error."""
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, err

    def endings(self, *, within_s: float = 40) -> dict[str, int]:
        """How the generations of a run ended that came to its own end."""
        code, out, err = self.ended(within_s=within_s)
        assert code == 0, err
        found: dict[str, int] = json.loads(out)
        return found


@contextmanager
def runs(lab: Lab, *environs: dict[str, str]) -> Iterator[list[RunProcess]]:
    """So many runs, all ready before the first one begins."""
    started: list[RunProcess] = []
    try:
        # one by one into the list, so that those which began are ended when the next one does not
        started.extend(RunProcess(lab, **environ) for environ in environs)
        yield started
    finally:
        for run in started:
            run.__exit__()


def until(is_so: Callable[[], bool], *, within_s: float = 30) -> None:
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.005)


def owners(lab: Lab) -> set[str]:
    """The runs that have begun."""
    with lab.ledger() as ledger, ledger.reading() as connection:
        return set(connection.execute(select(RUNS.c.owner)).scalars())


GAPS = {
    **kill_points.GAPS,
    "after the rate limit, before the claim": lambda: kill_points.after_async(RateLimiter, "wait"),
    "after the claim, before the lease is checked": lambda: kill_points.before(lease.Lease, "holds"),
}
_arrivals = 0
_turn = threading.RLock()


def between_commits() -> None:
    """Let nothing be frozen in the middle of a commit of another task, which would keep all others out."""
    commit = GroupCommitter._commit

    def alone(*arguments: Any) -> None:
        with _turn:
            commit(*arguments)

    GroupCommitter._commit = alone  # type: ignore[method-assign]


def freeze(*_: Any, **__: Any) -> None:
    """Stop this process, once, at the arrival that is asked for."""
    global _arrivals  # noqa: PLW0603  one process, one gap
    with _turn:
        _arrivals += 1
        if _arrivals == int(os.environ.get("ARRIVALS", kill_points.ARRIVALS)):
            # to this very thread, which then goes no further; one sent to the process may be taken by another
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def main() -> None:
    # a shell's background jobs ignore Ctrl-C, and so would what they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lease.LEASE_S = float(os.environ.get("LEASE_S", lease.LEASE_S))  # type: ignore[misc]
    interrupts.DRAIN_S = float(os.environ.get("DRAIN_S", interrupts.DRAIN_S))
    if gap := os.environ.get("STOP_AT"):
        kill_points.die = freeze
        between_commits()
        GAPS[gap]()
    elif gap := os.environ.get("KILL_AT"):
        GAPS[gap]()
    settings = load_settings()
    key = os.environ.get("PROMPT_SET", "fruit")
    prompt_set = find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir)
    wanted = tuple(model.resource for model in prompt_set.models)
    # imported before the others are let go, so that all of them begin at the same moment
    import segmind_dagster.gateway.client  # noqa: F401

    print("ready", flush=True)  # noqa: T201  how the starter knows
    sys.stdin.readline()
    report = generate(settings, [Batch(prompt_set, wanted)], clock=QuickClock(times=NAPS))
    endings = {
        name: sum(result.endings[name] for result in report.models)
        for result in report.models
        for name in result.endings
    }
    json.dump(endings, sys.stdout)


if __name__ == "__main__":
    main()
