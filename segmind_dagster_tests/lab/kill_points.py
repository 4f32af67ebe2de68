"""A run that kills itself the third time it comes to the gap named by KILL_AT; without it, a plain run.

Prints how the generations of the set `fruit` ended, as JSON. Started by `test_kill.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from lab.clocks import QuickClock
from segmind_dagster.gateway.client import Gateway
from segmind_dagster.ledger import moves
from segmind_dagster.ledger.batching import Batched
from segmind_dagster.outputs import OutputStore
from segmind_dagster.outputs.folder import Folder
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.runner import Batch, generate
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ARRIVALS = 3
_arrivals = 0
_turn = threading.Lock()


def die(*_: Any, **__: Any) -> None:
    """Not the first times: by then some generations are further on than others."""
    global _arrivals  # noqa: PLW0603  one process, one gap
    with _turn:
        _arrivals += 1
        if _arrivals >= ARRIVALS:
            os.kill(os.getpid(), signal.SIGKILL)


def replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a wrapped one in its place; each caller of a batched operation counts as one."""
    original = getattr(owner, name)
    if not isinstance(original, Batched):
        setattr(owner, name, wrap(original))
        return

    def many(connection: Any, asks: Sequence[Any]) -> Any:
        for _ in asks[1:]:
            wrap(lambda *_: None)(connection, asks)
        return wrap(original.many)(connection, asks)

    setattr(owner, name, Batched(original.ask, many))


def before(owner: Any, name: str, *, when: Callable[..., bool] = lambda *_, **__: True) -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if when(*args, **kwargs):
                die()
            return original(*args, **kwargs)

        return wrapped

    replace(owner, name, wrap)


def after(owner: Any, name: str) -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            die()
            return result

        return wrapped

    replace(owner, name, wrap)


def after_async(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        die()
        return result

    setattr(owner, name, wrapped)


def amid(owner: Any, name: str, seconds: float) -> None:
    original = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        threading.Timer(seconds, die).start()
        return await original(*args, **kwargs)

    setattr(owner, name, wrapped)


def is_the_file(_: Folder, __: Any, target: str, **_how: object) -> bool:
    return not target.endswith(".facts.json")


GAPS: dict[str, Callable[[], None]] = {
    "before the claim": lambda: before(moves, "claim"),
    "after the claim, before it is durable": lambda: after(moves, "claim"),
    "after the claim, before the POST": lambda: before(Gateway, "submit"),
    "amid the POST": lambda: amid(Gateway, "submit", 0.1),
    "after the POST, before its answer is recorded": lambda: after_async(Gateway, "submit"),
    "while its answer is recorded": lambda: after(moves, "mark_submitted"),
    "after its answer is recorded, before the first poll": lambda: before(Gateway, "status"),
    "after the result, before the fetch": lambda: before(Gateway, "fetch"),
    "after the fetch, before the file is kept": lambda: before(OutputStore, "keep"),
    "between the sidecar and the file": lambda: before(Folder, "place", when=is_the_file),
    "after the file is kept, before that is recorded": lambda: after(OutputStore, "keep"),
    "while the success is recorded": lambda: after(moves, "mark_succeeded"),
}


def main() -> None:
    if gap := os.environ.get("KILL_AT"):
        GAPS[gap]()
    settings = load_settings()
    prompt_set = find_prompt_set("fruit", prompts_dir=settings.prompts_dir, project_dir=settings.project_dir)
    wanted = tuple(model.resource for model in prompt_set.models)
    report = generate(settings, [Batch(prompt_set, wanted)], clock=QuickClock())
    json.dump(dict(report.models[0].endings), sys.stdout)


if __name__ == "__main__":
    main()
