"""The history is read step by step, late and unfinished rows again, for each account; half a page is no page."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from dlt.extract.exceptions import ResourceExtractionError
from hypothesis import given
from hypothesis import strategies as st
from lab.proxy import HISTORY, Proxy

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway import history as pages
from segmind_dagster.gateway.redaction import Redactor
from segmind_dagster.source.history import HistoryCoverage, history_rows

if TYPE_CHECKING:
    from lab.source_project import Project

ORIGIN, OTHER = "https://api.segmind.com", "https://api.segmind.com#studio"
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Provider:
    """Answers pages as Segmind does: by UTC day, both ends inclusive, newest first."""

    def __init__(self, *rows: dict[str, Any], per_page: int = 100) -> None:
        self.rows = list(rows)
        self.windows: list[tuple[datetime, datetime]] = []
        self._per_page = per_page

    def __call__(self, query: dict[str, str]) -> tuple[int, Any]:
        first, last = (datetime.fromisoformat(query[name]).replace(tzinfo=UTC) for name in ("from_date", "to_date"))
        self.windows.append((first, last))
        chosen = [row for row in self.rows if first <= datetime.fromisoformat(row["model_created"]) < last + DAY]
        chosen.sort(key=lambda row: row["model_created"], reverse=True)
        page = int(query["page"])
        total = max(1, -(-len(chosen) // self._per_page))
        rows = chosen[(page - 1) * self._per_page : page * self._per_page]
        return 200, {"generations": rows, "pagination": {"page": page, "total_pages": total}}


def made(request_id: str, at: datetime, *, status: str = "COMPLETED", cost: str = "0.01") -> dict[str, Any]:
    return {
        "request_id": request_id, "model_name": "fast-flux-schnell", "model_status": status, "credits_deduction": cost,
        "latency_ms": 2500, "model_created": at.isoformat(),
    }  # fmt: skip


def read(
    provider: Provider, state: dict[str, Any], *, now: datetime = NOW, origin: str = ORIGIN
) -> list[dict[str, Any]]:
    return [
        row
        for page in history_rows(provider, state, api_origin=origin, redactor=Redactor(None), now=now)
        for row in page
    ]


def test_the_first_reading_covers_ninety_days_in_windows_of_at_most_thirty_one() -> None:
    provider, state = Provider(made("old", NOW - 89 * DAY), made("new", NOW)), {}
    assert {row["request_id"] for row in read(provider, state)} == {"old", "new"}
    assert all(last - first <= 31 * DAY for first, last in provider.windows)
    assert min(first for first, _ in provider.windows) <= NOW - 90 * DAY
    reading = HistoryCoverage.of(state, ORIGIN)
    assert reading == HistoryCoverage(NOW - 90 * DAY, NOW, None)


def test_a_row_that_arrives_two_days_late_is_found() -> None:
    provider, state = Provider(made("early", NOW)), {}
    read(provider, state)
    provider.rows.append(made("late", NOW - DAY))
    provider.windows.clear()
    assert "late" in {row["request_id"] for row in read(provider, state, now=NOW + DAY / 2)}
    assert min(first for first, _ in provider.windows) >= NOW - 3 * DAY


def test_an_unfinished_request_is_read_again_for_up_to_a_month() -> None:
    slow = made("slow", NOW - DAY, status="PENDING", cost="0")
    provider, state = Provider(slow), {}
    (row,) = read(provider, state)
    assert row["ended_at"] is None
    slow.update(model_status="COMPLETED", credits_deduction="0.5")
    (row,) = read(provider, state, now=NOW + 20 * DAY)
    assert (row["cost_usd"], row["ended_at"]) == (Decimal("0.5"), NOW - DAY + timedelta(seconds=2.5))
    provider.windows.clear()
    read(provider, state, now=NOW + 21 * DAY)
    assert min(first for first, _ in provider.windows) >= NOW + 17 * DAY


def test_a_window_with_too_many_pages_is_halved_and_a_day_with_too_many_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "_MOST_PAGES", 20)
    busy = [made(f"r{n}", NOW - (n % 60) * DAY) for n in range(1100)]
    found = [row["request_id"] for row in read(Provider(*busy, per_page=1), {})]
    # each once: not every destination makes one row of two that come in one load
    assert sorted(found) == sorted(f"r{n}" for n in range(1100))
    endless = [made(f"r{n}", NOW) for n in range(25)]
    with pytest.raises(SegmindDagsterError, match="longer than 20 pages"):
        read(Provider(*endless, per_page=1), {})


def test_an_account_that_was_never_read_starts_from_its_own_beginning() -> None:
    state: dict[str, Any] = {}
    read(Provider(made("ours", NOW)), state)
    theirs = Provider(made("theirs", NOW - 80 * DAY))
    assert [row["request_id"] for row in read(theirs, state, origin=OTHER)] == ["theirs"]
    assert HistoryCoverage.of(state, ORIGIN) == HistoryCoverage.of(state, OTHER)


def test_an_incomplete_reading_saves_no_state() -> None:
    state: dict[str, Any] = {}
    read(Provider(), state)
    before = json.dumps(state)

    def broken(query: dict[str, str]) -> tuple[int, Any]:
        return (200, {"error": "x"}) if query["page"] == "2" else Provider(*rows, per_page=2)(query)

    rows = [made(f"r{n}", NOW) for n in range(5)]
    with pytest.raises(SegmindDagsterError, match="page 2 is not understood"):
        list(history_rows(broken, state, api_origin=ORIGIN, redactor=Redactor(None), now=NOW + DAY))
    assert json.dumps(state) == before


@given(
    st.lists(st.tuples(st.integers(-100, 60), st.integers(0, 2)), max_size=25),
    st.lists(st.integers(0, 10), min_size=1, max_size=6),
)
def test_rows_that_arrive_within_two_days_are_read(arrivals: list[tuple[int, int]], pauses: list[int]) -> None:
    """Requests are made on a day and show in the history up to two days later; readings come whenever they come."""
    state: dict[str, Any] = {}
    found: set[str] = set()
    now, first = NOW, NOW + pauses[0] * DAY
    for pause in pauses:
        now += pause * DAY
        shown = [
            made(f"r{n}", NOW + day * DAY)
            for n, (day, late) in enumerate(arrivals)
            if NOW + day * DAY <= now and NOW + (day + late) * DAY <= now
        ]
        found |= {row["request_id"] for row in read(Provider(*shown, per_page=3), state, now=now)}
        for row in shown:
            made_at = datetime.fromisoformat(row["model_created"])
            assert row["request_id"] in found or made_at < first - 90 * DAY


@pytest.mark.parametrize(
    "answer",
    [
        '{"generations": [{"request_id": "r1", "credits_de', "<html>502 Bad Gateway</html>", "", "[" * 100_000,
        '{"generations": [{"request_id": "r1"}, "half a row"]}', '{"a": [], "b": []}',
    ],
)  # fmt: skip
def test_an_invalid_page_is_one_clear_error_and_nothing_is_loaded(proxied: tuple[Project, Proxy], answer: str) -> None:
    project, proxy = proxied
    project.buy(project.write("fruit", ["a pear"]))
    proxy.replace(HISTORY, answer)
    with pytest.raises(SegmindDagsterError, match="not understood") as raised:
        project.load("request_history")
    assert "request-history" in str(raised.value)
    assert project.server.api_key not in str(raised.value)
    assert "request_history" not in project.tables()
    proxy.answers.clear()
    project.load("request_history")
    assert project.rows("SELECT sum(cost_usd) FROM request_history") == [(project.charged_usd,)]


@pytest.mark.parametrize("resource", ["credits", "models"])
def test_an_answer_that_is_not_json_is_a_project_error_everywhere(
    proxied: tuple[Project, Proxy], resource: str
) -> None:
    project, proxy = proxied
    for path in ("/v1/get-user-credits", "/inference-model-information/list"):
        proxy.replace(path, '{"credits": 9')
    with pytest.raises(SegmindDagsterError, match="are not JSON, or only a part of it"):
        project.load(resource)
    assert resource not in project.tables()


def test_a_platform_that_does_not_answer_is_one_clear_error(project: Project) -> None:
    project.environ["SEGMIND_PLATFORM_URL"] = "http://127.0.0.1:1"
    with pytest.raises(ResourceExtractionError, match="brought no answer") as raised:
        project.extract("request_history")
    assert "SEGMIND_API_URL" in str(raised.value)


def test_two_accounts_in_one_warehouse_are_read_each_from_its_own_beginning(project: Project) -> None:
    project.buy(project.write("fruit", ["a pear"]))
    project.load("request_history")
    project.environ |= {"SEGMIND_ACCOUNT": "studio", "SEGMIND_DATA_DIR": str(project.folder / "studio")}
    project.environ["SEGMIND_LEDGER_URL"] = f"sqlite:///{project.folder}/studio.sqlite"
    # the same file, as two projects share a database
    project.duckdb_path.parent.mkdir(exist_ok=True)
    (project.folder / "studio").mkdir()
    (project.folder / "studio" / "segmind.duckdb").symlink_to(project.duckdb_path)
    project.load("request_history")
    origins = project.rows("SELECT api_origin, count(*) FROM request_history GROUP BY 1 ORDER BY 1")
    assert origins == [(project.server.url, 1), (f"{project.server.url}#studio", 1)]
