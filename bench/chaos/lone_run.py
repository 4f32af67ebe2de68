"""One run, `collect`, `rebuild` or `status`, in a process of its own that may be killed, its wall clock wrong.

Writes what came of it into a file. Whoever starts it decides what it is for, and judges by the provider's books.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from bench.chaos.quick_time import expect_quick_jobs
from segmind_dagster import gateway, ledger, outputs, runner
from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.recovery import rebuild
from segmind_dagster.registry import MODELS
from segmind_dagster.runner import Batch, collect, generate
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo
    from pathlib import Path

    from bench.chaos.scenarios import Jump
    from segmind_dagster.settings import Settings

Errand = Literal["generate", "collect", "status", "rebuild"]

_RESOURCES = tuple(model.resource for model in MODELS)
_STATE = re.compile(r"^\s*(?P<state>unknown|submitting)\D+(?P<count>\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one process does.

    Args:
        errand: generate what is asked for, fetch what was paid for, restore a ledger, or tell what is in doubt.
        run_id: of the run.
        environ: of the process.
        folder: where it writes `<run_id>.json` and `<run_id>.log`.
        time_scale: of the sandbox.
        keys: prompt sets to generate.
        jump: how its wall clock is off.
    """

    errand: Errand
    run_id: str
    environ: Mapping[str, str]
    folder: Path
    time_scale: float = 1.0
    keys: tuple[str, ...] = ()
    jump: Jump | None = None

    @property
    def answer(self) -> Path:
        """Where what came of it is written."""
        return self.folder / f"{self.run_id}.json"


def perform(task: Task) -> None:
    """The whole life of the process."""
    os.environ.clear()
    os.environ.update(task.environ)
    os.chdir(task.folder)
    with (task.folder / f"{task.run_id}.log").open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        expect_quick_jobs(task.time_scale)
        if task.jump is not None:
            shift_clock(task.jump)
        said: dict[str, Any]
        try:
            said = _errand(task, load_settings())
        except (SegmindDagsterError, GatewayError) as error:
            said = {"stopped": f"{type(error).__name__}: {error}"}
        except BaseException as error:  # noqa: BLE001  whatever ends a run is reported
            import traceback

            traceback.print_exc()
            said = {"crashed": f"{type(error).__name__}: {error}"}
        task.answer.write_text(json.dumps(said), encoding="utf-8")


def _errand(task: Task, settings: Settings) -> dict[str, Any]:
    if task.errand == "status":
        return _shown()
    if task.errand == "collect":
        return {"endings": Counter(ended.ending for ended in collect(settings, clock=SystemClock()).values())}
    if task.errand == "rebuild":
        return {"restored": rebuild(settings, say=print).restored}
    sets = [
        find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir) for key in task.keys
    ]
    report = generate(settings, [Batch(each, _RESOURCES) for each in sets], run_id=task.run_id, clock=SystemClock())
    endings: Counter[str] = sum((result.endings for result in report.models), Counter())
    return {"endings": endings, "stopped_by": report.stopped_by, "message": report.stop_message}


def _shown() -> dict[str, Any]:
    """What a person who asks is told to be in doubt."""
    from click.testing import CliRunner

    from segmind_dagster.cli import cli

    shell = CliRunner()
    status, listed = (shell.invoke(cli, [command], catch_exceptions=False).output for command in ("status", "resolve"))
    print(status, listed, sep="\n")
    return {
        "counted": {found["state"]: int(found["count"]) for found in _STATE.finditer(status)},
        "listed": listed.split(),
    }


def _import_all() -> None:
    """Import what would be imported on the way, and would know no other clock than the machine's."""
    for package in (gateway, ledger, outputs, runner):
        for found in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(found.name)


def shift_clock(jump: Jump) -> None:
    """From now on, the wall clock of this process jumps as it is told; the monotonic clock and the machine's do not."""
    _import_all()
    began = time.monotonic()
    real_time = time.time

    def offset_s() -> float:
        return jump.by_s if time.monotonic() - began >= jump.after_s else 0.0

    class OfAnyDatetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Shifted(datetime, metaclass=OfAnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=offset_s())

    time.time = lambda: real_time() + offset_s()
    for name, module in list(sys.modules.items()):
        if name.startswith("segmind_dagster.") and vars(module).get("datetime") is datetime:
            module.datetime = Shifted  # type: ignore[attr-defined]
