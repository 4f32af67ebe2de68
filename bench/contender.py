"""What every contender is given and has to tell, so that they differ in the way they work and in nothing else.

A contender is a module run as a process of its own: it reads a task as JSON on stdin, does the work inside a
`Meter`, and prints its figures as JSON. Starting servers and comparing figures is `__main__`'s business.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The work: generate every body once, each output in a file of `folder`.

    Args:
        url: the API's base.
        key: its key.
        slug: the model.
        bodies: one request body a generation.
        in_flight: generations worked on at once.
        latency_s: how long a job takes, None when that varies; only the bare loop may look at it.
        folder: an empty folder.
    """

    url: str
    key: str
    slug: str
    bodies: list[dict[str, Any]]
    in_flight: int
    latency_s: float | None
    folder: Path


@dataclass(slots=True)
class Meter:
    """Measures one `with` block: wall and CPU seconds of this process, and its largest resident size so far.

    What was imported before is counted apart, in `start_cpu_s`: it does not grow with the work.
    """

    figures: dict[str, float] = field(default_factory=dict)
    _began: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> Self:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, cpu = self._began
        self.figures |= {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "start_cpu_s": cpu,
            "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


class Contender(Protocol):
    """One way of doing the work."""

    def __call__(self, task: Task, meter: Meter) -> None:
        """Do the task inside the meter; what is not part of the comparison stays outside."""


def take_part(contender: Contender) -> None:
    """Read the task, let the contender do it, print its figures."""
    given = json.load(sys.stdin)
    task = Task(**{**given, "folder": Path(given["folder"])})
    task.folder.mkdir(parents=True, exist_ok=True)
    meter = Meter()
    contender(task, meter)
    json.dump(meter.figures, sys.stdout)
