"""Plays one scenario: a project, a sandbox that lies, runs at once, a later run, and an honest history at the end.

Everybody's books come out of it as `Evidence`; they are judged in `verdict`.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bench.chaos.books import asked_for, wire_of
from bench.chaos.lone_run import Task, perform
from bench.chaos.scenarios import HONEST, SETTLE_S
from bench.chaos.verdict import Doubt, Evidence, Held
from bench.chaos.world import Options, environment, read_prompt_sets, settings_of
from segmind_dagster.registry import MODELS
from segmind_dagster.sandbox import Faults, SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from bench.chaos.books import Wire
    from bench.chaos.lone_run import Errand
    from bench.chaos.scenarios import Jump, Scenario

_Result = TypeVar("_Result")

_CLIENT_TIMEOUT_S = 2.0
# a run takes some seconds on a quiet machine, and two minutes more where it reads the history for costs without success
_RUN_LIMIT_S = 180.0
_LOOK_EVERY_S = 0.02
# a video of the catalogue takes 67 to 125 s
_TIME_SCALE, _LONGEST_S = 0.12, 20.0
_FLUX, _REALITY, _LLAMA, _WAN, _FACE = (
    "fast_flux_schnell", "sdxl_newreality", "llama_v3p1_8b_instruct", "wan_t2v_fast", "instantid"
)  # fmt: skip
_LATE_SETS = ("later", "encore")
_IMAGES = {model.slug: frozenset(each.name for each in model.image_parameters) for model in MODELS}
_PLENTY_USD = Decimal(1_000_000)


def preload() -> None:
    """Let every process of a scenario start with the product imported."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["bench.chaos.lone_run"])


@dataclass(slots=True)
class _Said:
    """What runs said when they ended."""

    hung: list[str]
    crashed: list[str]
    stopped: list[str]
    unwarned: list[str]


def play(scenario: Scenario, folder: Path, *, seed: int, scale: float = 1.0) -> Evidence:
    """Play one scenario in an empty folder.

    Args:
        scenario: what happens.
        folder: the project.
        seed: of faults and lies.
        scale: multiplies the number of generations, where no cap depends on it.
    """
    began = time.monotonic()
    folders = [folder / f"folder_{number}" for number in range(scenario.folders)] if scenario.folders > 1 else [folder]
    for each in folders:
        each.mkdir(exist_ok=True)
        keys = _write_prompt_sets(scenario, each, scale)
    settings = SandboxSettings(
        initial_credits=_PLENTY_USD,
        price_jitter=False,
        fixed_latency_s=scenario.latency_s,
        time_scale=_TIME_SCALE,
        picture_mode="tiny",
        faults=Faults(rates=scenario.rates, seed=seed, rate_limit_reset_s=0.3),
        lies=replace(scenario.lies, seed=seed),
    )
    met: list[Doubt] | None = None
    with SandboxServer(settings) as sandbox, ThreadPoolExecutor(len(folders)) as pool:
        projects = [_Project(scenario, each, sandbox) for each in folders]
        _all(pool, projects, lambda each: each.storm(keys) if scenario.disaster == "none" else each.lose(keys))
        if not scenario.is_capped_only:
            if scenario.then is not None:
                sandbox.set_lies(replace(scenario.then, seed=seed))
            if scenario.disaster != "none":
                _all(pool, projects, lambda each: each.recover(keys))
            if scenario.later_rates is not None:
                sandbox.set_faults(Faults(rates=scenario.later_rates, seed=seed))
            also = _LATE_SETS if scenario.cap_usd is None else ()
            _all(pool, projects, lambda each: each.run("generate", (*keys, *also[:1]), jump=scenario.later_jump))
            met = _all(pool, projects, _Project.doubt)
            sandbox.set_faults(Faults())
            # risen prices stay; all else is told as it is
            sandbox.set_lies(replace(HONEST, price_factor=scenario.lies.price_factor))
            _all(pool, projects, lambda each: each.come_clean((*keys, *also)))
        left = _all(pool, projects, _Project.doubt)
        account = _at_rest(sandbox)
        asked = asked_for(read_prompt_sets(settings_of(projects[0].environ)))
    wires = {each.generation_id: each.wire for each in asked}
    ledgers = [each / "data" / "ledger.sqlite" for each in folders]
    requests = Counter(request_id for path in ledgers for request_id in read_requests(path))
    jobs = account["jobs"]
    said = [each.said for each in projects]
    return Evidence(
        wanted=Counter(each.wire for each in asked for _ in folders),
        charged=Counter(_wire_of(job) for job in jobs if job["charged"]),
        charged_usd=sum((Decimal(job["cost_usd"]) for job in jobs if job["charged"]), Decimal(0)),
        posts=account["requests"]["submit"],
        accepted=account["submissions"],
        running=sum(job["status"] not in {"COMPLETED", "FAILED"} for job in jobs),
        ledger={
            f"{number}/{key}": Held(wire=wires.get(key, ("", key)), state=state, failure_kind=kind)
            for number, path in enumerate(ledgers)
            for key, (state, kind) in read_states(path).items()
        },
        taken_twice=sum(count > 1 for count in requests.values()),
        met=_sum(met if met is not None else left),
        left=_sum(left),
        hung=tuple(problem for each in said for problem in each.hung),
        crashed=tuple(problem for each in said for problem in each.crashed),
        stopped=tuple(problem for each in said for problem in each.stopped),
        unwarned=tuple(problem for each in said for problem in each.unwarned),
        elapsed_s=time.monotonic() - began,
    )


def _all(pool: ThreadPoolExecutor, projects: Sequence[_Project], do: Callable[[_Project], _Result]) -> list[_Result]:
    """Do the same in every folder, side by side."""
    return list(pool.map(do, projects))


def _sum(doubts: Sequence[Doubt]) -> Doubt:
    return Doubt(unknown=sum(each.unknown for each in doubts), shown=sum(each.shown for each in doubts))


class _Project:
    """The processes of one scenario, one after another or side by side.

    Args:
        scenario: what happens.
        folder: the project.
        sandbox: the provider.
    """

    def __init__(self, scenario: Scenario, folder: Path, sandbox: SandboxServer) -> None:
        options = Options(settling_time_s=SETTLE_S, client_timeout_s=_CLIENT_TIMEOUT_S, requests_per_minute=60_000)
        self.said = _Said([], [], [], [])
        self.environ = environment(options, folder, sandbox.url)
        if scenario.run_usd is not None:
            self.environ["SEGMIND_RUN_BUDGET_USD"] = str(scenario.run_usd)
        if scenario.day_usd is not None:
            self.environ["SEGMIND_DAILY_BUDGET_USD"] = str(scenario.day_usd)
        self._scenario = scenario
        self._folder = folder
        self._sandbox = sandbox
        self._count = 0
        (folder / "runs").mkdir()

    def storm(self, keys: Sequence[str]) -> None:
        """The runs side by side, some of which are killed; whatever is left is gone through once more."""
        scenario = self._scenario
        started = []
        for number in range(scenario.runs):
            jump = scenario.jumps[number] if number < len(scenario.jumps) else None
            turned = (*keys[number % len(keys) :], *keys[: number % len(keys)])
            # where each run has a cap or a set of its own, they do not share
            mine = turned[:1] if scenario.mix == "plain" and scenario.runs == scenario.sets else turned
            started.append(self._start("generate", mine, jump))
        if scenario.kills:
            self._kill(started[: scenario.kills], after=scenario.generations // 2)
        for process, task in started[scenario.kills :]:
            self._end(process, task)

    def lose(self, keys: Sequence[str]) -> None:
        """A run that is killed when all is accepted and little of it stored, and what becomes of its ledger."""
        ledger = self._folder / "data" / "ledger.sqlite"
        backup = ledger.with_name("backup")
        if self._scenario.disaster == "restored":
            self.run("generate", keys[:1])
            # no process has it open, so that the file is all of it
            shutil.copy(ledger, backup)
        sets = [each for each in read_prompt_sets(settings_of(self.environ)) if each.key in keys]
        started = self._start("generate", keys, None)
        self._kill([started], after=len(asked_for(sets)))
        for path in ledger.parent.glob("ledger.sqlite*"):
            path.unlink()
        if backup.exists():
            backup.rename(ledger)

    def recover(self, keys: Sequence[str]) -> None:
        """With a backup, a run that is to notice it; then what it is to name."""
        before = self._posts()
        if self._scenario.disaster == "restored":
            said = self.run("generate", keys)
            if sent := self._posts() - before:
                self.said.unwarned.append(f"{sent} POSTs with a ledger that is older than the account")
            if "segmind-dagster rebuild" not in f"{said.get('message')}{said.get('stopped')}":
                self.said.unwarned.append(f"the run named no command: {said}")
        self.run("rebuild", ())

    def _posts(self) -> int:
        return int(self._sandbox.account(jobs=False)["requests"]["submit"])

    def run(self, errand: Errand, keys: Sequence[str], *, jump: Jump | None = None) -> dict[str, Any]:
        """One process alone, until it ends."""
        return self._end(*self._start(errand, keys, jump))

    def doubt(self) -> Doubt:
        """What is in doubt now by the ledger, and what of it a person who asks is told."""
        said = self.run("status", ())
        held = read_states(self._folder / "data" / "ledger.sqlite")
        unknown = {generation_id for generation_id, (state, _) in held.items() if state == "unknown"}
        counted = said.get("counted", {}).get("unknown", 0)
        return Doubt(unknown=len(unknown), shown=min(counted, len(unknown & set(said.get("listed", ())))))

    def come_clean(self, keys: Sequence[str]) -> None:
        """Runs against an honest history, and a collection where they leave something open."""
        if self._scenario.disaster == "lost":
            # a rebuild that was refused is run again once the history is honest
            self.run("rebuild", ())
        for _ in range(2):
            done = self.run("generate", keys)
            if set(done.get("endings", ("?",))) <= {"succeeded", "reused"} or self.said.hung:
                break
            if done.get("endings", {}).keys() & {"unknown", "running", "failed"}:
                self.run("collect", ())

    def _start(self, errand: Errand, keys: Sequence[str], jump: Jump | None) -> tuple[BaseProcess, Task]:
        self._count += 1
        task = Task(
            errand=errand,
            run_id=f"{self._count}_{errand}",
            environ=self.environ,
            folder=self._folder / "runs",
            time_scale=_TIME_SCALE,
            keys=tuple(keys),
            jump=jump,
        )
        process = multiprocessing.get_context("forkserver").Process(target=perform, args=(task,))
        process.start()
        return process, task

    def _kill(self, victims: Sequence[tuple[BaseProcess, Task]], *, after: int) -> None:
        deadline = time.monotonic() + _RUN_LIMIT_S
        while time.monotonic() < deadline and any(process.is_alive() for process, _ in victims):
            if self._sandbox.account(jobs=False)["submissions"] >= after:
                break
            time.sleep(_LOOK_EVERY_S)
        for process, _ in victims:
            process.kill()
            process.join()

    def _end(self, process: BaseProcess, task: Task) -> dict[str, Any]:
        process.join(_RUN_LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
            self.said.hung.append(f"{task.run_id} was not done after {_RUN_LIMIT_S:.0f} s")
            return {}
        try:
            answer: dict[str, Any] = json.loads(task.answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            answer = {"crashed": f"ended with {process.exitcode} and said nothing"}
        if "crashed" in answer:
            self.said.crashed.append(f"{task.run_id}: {answer['crashed']}")
        if "stopped" in answer:
            self.said.stopped.append(f"{task.run_id}: {answer['stopped']}")
        return answer


def _at_rest(sandbox: SandboxServer) -> dict[str, Any]:
    """The provider's books once every job is over."""
    deadline = time.monotonic() + _LONGEST_S
    while True:
        account = sandbox.account()
        is_over = all(job["status"] in {"COMPLETED", "FAILED"} for job in account["jobs"])
        if is_over or time.monotonic() > deadline:
            return account
        time.sleep(0.1)


def _wire_of(job: Mapping[str, Any]) -> Wire:
    return wire_of(job["slug"], job["body"], images=_IMAGES)


def read_states(path: Path) -> dict[str, tuple[str, str | None]]:
    """State and kind of failure of every generation in a ledger."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT generation_id, state, failure_kind FROM generations").fetchall()
    except sqlite3.OperationalError:  # no run came so far
        return {}
    finally:
        connection.close()
    return {key: (state, kind) for key, state, kind in rows}


def read_requests(path: Path) -> list[str]:
    """The requests that a ledger takes for its own."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT request_id FROM attempts WHERE request_id IS NOT NULL").fetchall()
    except sqlite3.OperationalError:  # no run came so far
        return []
    finally:
        connection.close()
    return [request_id for (request_id,) in rows]


def _write_prompt_sets(scenario: Scenario, folder: Path, scale: float) -> tuple[str, ...]:
    """The prompt sets of the first runs; beside them one for the later run, and one for the honest end."""
    prompts = folder / "prompts"
    (prompts / "pictures").mkdir(parents=True)
    _draw_face(prompts / "pictures" / "face.png")
    is_capped = scenario.cap_usd is not None
    count = scenario.generations if is_capped else max(round(scenario.generations * scale), 2)
    orders = list(_ORDERS[scenario.mix](count))
    keys = tuple(f"set_{number}" for number in range(scenario.sets))
    for number, key in enumerate(keys):
        # a set shares a third of what it asks for with the next, unless its money is its own
        mine = [
            order
            for place, order in enumerate(orders)
            if place % scenario.sets == number
            or (not is_capped and place % 3 == 0 and (place + 1) % scenario.sets == number)
        ]
        _write(prompts / f"{key}.yaml", mine, scenario.set_usd)
    # what is bought beside a cap would count against it
    for key in _LATE_SETS if not is_capped else ():
        count = scenario.later if key == "later" else 2
        few = [{"prompt": f"the {key} of a pear, number {number}", "seed": number} for number in range(count)]
        _write(prompts / f"{key}.yaml", [{**each, "models": [_FLUX]} for each in few], None)
    return keys


def _write(path: Path, entries: Sequence[Mapping[str, Any]], budget_usd: Decimal | None) -> None:
    budget = {} if budget_usd is None else {"budget_usd": float(budget_usd)}
    path.write_text(json.dumps({**budget, "prompts": entries}), encoding="utf-8")


def _plain(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"prompt": f"a lantern, drawing number {number}", "seed": number, "models": [_FLUX]}


def _odd(count: int, *, with_v1: bool) -> Iterator[dict[str, Any]]:
    """Entries whose bodies a history can alter in every way: long, alike at the front, odd letters, several models."""
    patterns = [
        lambda n: {
            "prompt": f"{n} pears, \u00e9clairs & <figs>  in a \u201cblue\u201d bowl",
            "seed": n,
            "models": [_FLUX],
        },
        lambda n: {
            "prompt": f"A Poster of 'the Cafe\u0301'\n in Spring,  with  \ufb01gs & \"bread\", number {n}",
            "models": [_FLUX],
            "params": {"steps": 2},
        },
        lambda n: {"prompt": f"Say {n} words about \uff12 pears & a caf\u00e9.", "models": [_LLAMA]},
        lambda n: {
            "prompt": f"a man by a well, {n} lamps behind him",
            "models": [_FACE],
            "params": {
                "face_image": "pictures/face.png",
                "guidance_scale": 5.1,
                "identity_strength": 0.7,
                "enhance_face_region": False,
            },
        },
        lambda n: {"prompt": f"a lantern in fog, {n}", "samples": 2, "seed": -1, "models": [_FLUX]},
        lambda n: {"prompt": f"a {'LARGE' if n % 2 else 'large'} owl", "seed": n // 12, "models": [_FLUX]},
    ]
    if with_v1:
        patterns[1] = lambda n: {"prompt": f"a castle at dawn, {n} towers", "seed": n, "models": [_REALITY]}
    left, number = count, 0
    while left > 0:
        entry = patterns[number % len(patterns)](number)
        size = entry.get("samples", 1)
        if size <= left:
            yield entry
            left -= size
        number += 1


def _videos(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"prompt": f"a train in the snow, {number}", "models": [_WAN if number % 2 else _FLUX]}


def _faces(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "prompt": f"a portrait in oil, number {number}",
            "models": [_FACE],
            "params": {"face_image": "pictures/face.png"},
        }


_ORDERS: Mapping[str, Callable[[int], Iterator[dict[str, Any]]]] = {
    "plain": _plain,
    "videos": _videos,
    "faces": _faces,
    "mixed": partial(_odd, with_v1=False),
    "with_v1": partial(_odd, with_v1=True),
}


def _draw_face(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), (200, 120, 40)).save(path)
