"""The account's own data: history, balance, catalogue, models page; exact, incremental, and never guessed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from dlt.extract.exceptions import ResourceExtractionError
from lab.project import FLUX
from lab.proxy import HISTORY, Proxy

from segmind_dagster.data_folder import opened
from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.registry import CatalogueEntry, bundled_catalogue
from segmind_dagster.runner.prices import current_catalogue
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenProject
    from lab.source_project import Project


def root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def test_the_history_has_one_row_a_request_with_what_was_charged(open_project: OpenProject) -> None:
    project = open_project(faults=Faults(script=["failed_validation", "accepted_then_reset"]))
    project.buy(project.write("fruit", ["a pear", "a plum", "a fig"]))
    project.load("request_history", "attempts", FLUX)
    assert project.rows("SELECT status, count(*) FROM request_history GROUP BY 1 ORDER BY 1") == [
        ("COMPLETED", 2),
        ("FAILED", 1),
    ]
    assert project.rows("SELECT sum(cost_usd) FROM request_history") == [(project.charged_usd,)]
    unequal = project.rows(
        "SELECT * FROM attempts FULL JOIN request_history USING (request_id) "
        "WHERE attempts.cost_usd IS DISTINCT FROM request_history.cost_usd"
    )
    assert unequal == []


def test_a_request_with_several_outputs_is_one_row_with_its_cost_once(open_project: OpenProject) -> None:
    project = open_project(fixed_latency_s=0.0)
    body = {"prompt": "a man", "face_image": "https://example.com/face.jpg", "samples": 4}
    answer = requests.post(
        f"{project.server.url}/v2/instantid", json=body, headers={"x-api-key": project.server.api_key}, timeout=10
    )
    assert answer.status_code == 200
    project.load("request_history")
    assert project.rows("SELECT count(*), sum(cost_usd) FROM request_history") == [(1, project.charged_usd)]


def test_the_history_of_more_than_a_page_is_read_whole(open_project: OpenProject) -> None:
    project = open_project(fixed_latency_s=0.0)
    project.buy(project.write("fruit", [f"pear {number}" for number in range(230)]))
    project.load("request_history")
    assert project.rows("SELECT count(*), sum(cost_usd) FROM request_history") == [(230, project.charged_usd)]


def test_a_second_load_asks_only_for_recent_days_and_adds_what_is_new(
    proxied: tuple[Project, Proxy],
) -> None:
    project, proxy = proxied
    project.buy(project.write("fruit", ["a pear"]))
    project.load("request_history")
    today = datetime.now(UTC).date()
    first = [query for query in proxy.queries if "from_date" in query]
    assert min(query["from_date"] for query in first) <= (today - timedelta(days=60)).isoformat()
    project.buy(project.write("harvest", ["a plum"]))
    proxy.queries.clear()
    project.load("request_history")
    second = [query for query in proxy.queries if "from_date" in query]
    assert min(query["from_date"] for query in second) >= (today - timedelta(days=3)).isoformat()
    assert len(second) < len(first)
    assert project.rows("SELECT count(*), sum(cost_usd) FROM request_history") == [(2, project.charged_usd)]


def test_no_window_asked_for_is_longer_than_the_history_allows(proxied: tuple[Project, Proxy]) -> None:
    project, proxy = proxied
    project.load("request_history")
    spans = [
        datetime.fromisoformat(query["to_date"]) - datetime.fromisoformat(query["from_date"])
        for query in proxy.queries
        if "from_date" in query
    ]
    assert spans
    assert max(spans) <= timedelta(days=31)


def test_a_request_that_was_in_flight_is_brought_up_to_date_by_the_next_load(open_project: OpenProject) -> None:
    now = [time.time()]
    project = open_project(clock=lambda: now[0], fixed_latency_s=3600.0, record_ttl_s=7200.0)
    requests.post(
        f"{project.server.url}/v2/fast-flux-schnell",
        json={"prompt": "a pear", "seed": 1},
        headers={"x-api-key": project.server.api_key},
        timeout=10,
    )
    project.load("request_history")
    assert project.rows("SELECT status, cost_usd FROM request_history") == [("PENDING", 0)]
    now[0] += 3600
    project.load("request_history")
    assert project.rows("SELECT status, cost_usd FROM request_history") == [("COMPLETED", project.charged_usd)]


def test_balances_are_appended_as_snapshots(project: Project) -> None:
    project.load("credits")
    project.buy(project.write("fruit", ["a pear"]))
    project.load("credits")
    (before, after) = project.rows("SELECT balance_usd, api_origin FROM credits ORDER BY observed_at")
    assert before == (Decimal(100), project.server.url)
    assert before[0] - after[0] == project.charged_usd


def test_the_catalogue_has_every_model_once_however_often_it_is_loaded(project: Project) -> None:
    project.load("models")
    project.load("models")
    ((rows, slugs),) = project.rows("SELECT count(*), count(DISTINCT slug) FROM models")
    assert rows == slugs > 400
    assert project.rows("SELECT type, is_deprecated FROM models WHERE slug = 'fast-flux-schnell'") == [
        ("textToImage", False)
    ]


def test_prices_in_the_models_list_replace_the_bundled_catalogue(
    proxied: tuple[Project, Proxy],
) -> None:
    project, proxy = proxied
    listed = [
        {"slug": "fast-flux-schnell", "avg_cost_usd": 0.0125, "avg_latency_s": 3.25},
        {"slug": "sdxl1.0-newreality-lightning", "avg_cost_usd": 0, "avg_latency_s": "soon"},
        {"slug": "consistent-character-AI-neolemon-v2", "avg_cost_usd": 0.6},
    ]
    proxy.replace("/inference-model-information/list", {"models": listed})
    project.load("models")
    assert project.rows("SELECT mean_cost_usd, mean_latency_ms FROM models ORDER BY slug") == [
        (Decimal("0.6"), None),
        (Decimal("0.0125"), 3250),
        (None, None),
    ]
    with opened(project.settings()) as (ledger, _):
        catalogue = current_catalogue(ledger, [model["slug"] for model in listed])
    prices = {model["slug"]: catalogue.get(model["slug"]) for model in listed}
    bundled = bundled_catalogue().get("sdxl1.0-newreality-lightning")
    assert prices == {
        "fast-flux-schnell": CatalogueEntry("fast-flux-schnell", Decimal("0.0125"), 3.25),
        "sdxl1.0-newreality-lightning": bundled,
        "consistent-character-AI-neolemon-v2": CatalogueEntry(
            "consistent-character-AI-neolemon-v2", Decimal("0.6"), None
        ),
    }


def test_the_models_page_is_kept_as_it_came_and_once_while_it_does_not_change(
    proxied: tuple[Project, Proxy],
) -> None:
    project, proxy = proxied
    project.load("models_page")
    project.load("models_page")
    assert len(project.rows("SELECT html FROM models_page")) == 1
    proxy.replace("/v1/models/", "<html>two models</html>")
    project.load("models_page")
    pages = [html for (html,) in project.rows("SELECT html FROM models_page ORDER BY fetched_at")]
    assert len(pages) == 2
    assert "<table id=models>" in pages[0]
    assert pages[1] == "<html>two models</html>"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"message": "come back later"},
        {"data": [{"request_id": 7}]},
        {"data": ["not a row"]},
        "null",
        '"a text"',
    ],
)
def test_an_unreadable_history_is_an_error_and_no_rows(proxied: tuple[Project, Proxy], answer: Any) -> None:
    project, proxy = proxied
    proxy.replace(HISTORY, answer)
    with pytest.raises(ResourceExtractionError, match="not understood") as raised:
        project.extract("request_history")
    assert isinstance(root_cause(raised.value), SegmindDagsterError)


@pytest.mark.parametrize("answer", [{}, {"credits": None}, {"credits": "many"}, {"credits": True}])
def test_an_unreadable_balance_is_an_error_and_never_zero(proxied: tuple[Project, Proxy], answer: Any) -> None:
    project, proxy = proxied
    proxy.replace("/v1/get-user-credits", answer)
    with pytest.raises(ResourceExtractionError, match="without a balance") as raised:
        project.extract("credits")
    assert isinstance(root_cause(raised.value), SegmindDagsterError)


def test_a_failed_load_keeps_existing_rows_and_creates_no_table(proxied: tuple[Project, Proxy]) -> None:
    project, proxy = proxied
    project.buy(project.write("fruit", ["a pear"]))
    project.load("request_history")
    before = project.rows("SELECT request_id, cost_usd FROM request_history")
    assert len(before) == 1
    proxy.replace(HISTORY, {})
    proxy.replace("/v1/get-user-credits", {})
    for resource in ("request_history", "credits"):
        with pytest.raises(SegmindDagsterError):
            project.load(resource)
    assert project.rows("SELECT request_id, cost_usd FROM request_history") == before
    assert "credits" not in project.tables()


def test_a_history_that_fails_on_its_second_page_loads_nothing(
    proxied: tuple[Project, Proxy],
) -> None:
    project, proxy = proxied
    project.buy(project.write("fruit", [f"pear {number}" for number in range(120)]))
    proxy.answers[HISTORY] = _only_the_first_page
    with pytest.raises(SegmindDagsterError, match="page 2"):
        project.load("request_history")
    assert "request_history" not in project.tables()


def _only_the_first_page(document: Any) -> str:
    return json.dumps(document if document["pagination"]["page"] == 1 else {"error": "too many pages"})


def test_an_unreadable_catalogue_keeps_the_existing_one(
    proxied: tuple[Project, Proxy],
) -> None:
    project, proxy = proxied
    project.load("models")
    before = project.rows("SELECT count(*) FROM models")
    proxy.replace("/inference-model-information/list", {"error": "none today"})
    with pytest.raises(SegmindDagsterError, match="without a list of models"):
        project.load("models")
    assert project.rows("SELECT count(*) FROM models") == before


def test_account_resources_need_a_key_and_say_how_to_set_one(project: Project) -> None:
    project.environ["SEGMIND_API_KEY"] = ""
    with pytest.raises(SegmindDagsterError, match="SEGMIND_API_KEY"):
        project.load("credits")
