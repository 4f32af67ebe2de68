"""The disk is full at the worst moments: the run stops with one clear message, and nothing is bought twice or lost."""

from __future__ import annotations

import io
import os
import resource
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import QuickClock
from lab.project import V1, V2
from lab.proxy import Proxy, serving
from lab.runner_project import Lab
from PIL import Image

from segmind_dagster.errors import LedgerError, SegmindDagsterError
from segmind_dagster.ledger import entries, leases, moves
from segmind_dagster.outputs import OutputStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import OpenLab

GENERATIONS = 12
# a run that could not give up its lease counts as alive, in this process, until it has run out
LATER = timedelta(minutes=2)


def leave_room_for(size_bytes: int) -> None:
    """From now on no file of this process grows beyond this size; the kernel refuses the write."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


@pytest.fixture
def disk() -> Iterator[Any]:
    """Fills the disk inside the `nth` call of a function, before what it did is durable; empties it afterwards."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = 0
    turn = threading.Lock()

    @contextmanager
    def full_at(owner: Any, name: str, *, nth: int = 3) -> Iterator[None]:
        nonlocal calls
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            with turn:
                calls += 1
                if calls == nth:
                    leave_room_for(0)
            return original(*args, **kwargs)

        calls = 0
        setattr(owner, name, wrapped)
        try:
            yield
        finally:
            setattr(owner, name, original)
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert calls >= nth, "the disk never filled"

    yield full_at
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("resource_name", [V1, V2])
@pytest.mark.parametrize("moment", ["claim", "mark_submitted", "mark_succeeded"])
def test_a_full_disk_for_the_ledger_stops_the_run_and_the_next_one_finishes(
    open_lab: OpenLab, disk: Any, moment: str, resource_name: str
) -> None:
    lab = open_lab()
    key = lab.write("fruit", GENERATIONS, models=[resource_name])
    # the outputs are on the same disk: whichever notices first stops the run
    with disk(moves, moment), pytest.raises(SegmindDagsterError, match=r"(?i)make room") as raised:
        lab.generate(key, settings=lab.settings(SEGMIND_MAX_IN_FLIGHT="2"))
    message = str(raised.value)
    assert any(words in message for words in ("disk I/O error", "full", "too large"))
    assert "UPDATE" not in message, "no statement, no parameters"
    assert lab.posts <= 8, "submitting stopped"
    assert lab.generate(key, clock=QuickClock(ahead=LATER)).stopped_by is None
    assert lab.posts == GENERATIONS
    lab.check_all_bought_once(GENERATIONS)


def test_a_full_disk_at_the_beginning_buys_nothing(open_lab: OpenLab, disk: Any) -> None:
    lab = open_lab()
    key = lab.write("fruit", GENERATIONS)
    for module, moment in ((entries, "register_set"), (leases, "record_lease")):
        with disk(module, moment, nth=1), pytest.raises(LedgerError, match="Make room on the disk"):
            lab.generate(key)
        assert lab.posts == 0
    lab.generate(key, clock=QuickClock(ahead=LATER))
    lab.check_all_bought_once(GENERATIONS)


def test_outputs_refused_by_a_full_disk_are_fetched_by_the_next_run(open_lab: OpenLab, disk: Any) -> None:
    lab = open_lab()
    key = lab.write("fruit", GENERATIONS)
    with disk(OutputStore, "keep"), pytest.raises(SegmindDagsterError, match=r"(?i)make room"):
        lab.generate(key, settings=lab.settings(SEGMIND_MAX_IN_FLIGHT="2"))
    assert 3 <= lab.posts <= 8, "submitting stopped"
    stored = [path for path in (lab.folder / "data" / "outputs").rglob("*") if path.suffix != ".json"]
    assert all(path.stat().st_size > 0 for path in stored)
    lab.generate(key, clock=QuickClock(ahead=LATER))
    assert lab.posts == GENERATIONS
    lab.check_all_bought_once(GENERATIONS)


def test_outputs_on_a_separate_full_disk_are_named_and_fetched_later(open_lab: OpenLab) -> None:
    behind = open_lab()
    stream = io.BytesIO()
    Image.frombytes("RGB", (1200, 1200), os.urandom(3 * 1200 * 1200)).save(stream, "PNG", compress_level=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Proxy(behind.server.url) as proxy:
        lab = Lab(behind.server, behind.folder.with_name("big"), SEGMIND_API_URL=proxy.url)
        proxy.outputs = [serving(stream.getvalue())]
        key = lab.write("fruit", 2)
        leave_room_for(2_000_000)
        try:
            with pytest.raises(SegmindDagsterError, match="cannot be stored") as raised:
                lab.generate(key)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "Make room" in str(raised.value)
        assert lab.states() == ["submitted"] * 2
        assert list((lab.folder / "data" / ".partial").iterdir()) == []
        lab.generate(key, clock=QuickClock(ahead=LATER))
        assert lab.posts == 2
        lab.check_all_bought_once(2)
