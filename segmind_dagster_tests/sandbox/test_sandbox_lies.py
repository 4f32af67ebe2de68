"""A provider that lies: each lie does what it says over HTTP, and the books stay right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox import ALTERATIONS, COST_LIES, LATE_ERRORS, Faults, Lies

if TYPE_CHECKING:
    from sandbox_client import Client, Clock, Start

PATH = "/inference-request/request-history"
SLUG = "fast-flux-schnell"
Told = Callable[..., dict[str, Any]]


def read(client: Client, path: str, **query: Any) -> dict[str, Any]:
    """An answer by the standard library, which reads NaN and infinity; others need not."""
    return json.loads(client.get(path, params=query).text)


def page(client: Client, number: int = 1, **query: Any) -> dict[str, Any]:
    return read(client, PATH, **{"page": number, "per_page": 100, **query})


def prompts(client: Client, number: int = 1, **query: Any) -> list[str]:
    return [row["request_body"]["prompt"] for row in page(client, number, **query)["data"]]


@pytest.fixture
def client(start: Start, clock: Clock) -> Client:
    """Fifty requests, a second apart, of which the last nine are not over."""
    client = start(price_jitter=False)
    for number in range(50):
        client.submit({"prompt": f"a pear, number {number}", "seed": number})
        clock.advance(1)
    return client


@pytest.fixture
def told(start: Start, clock: Clock) -> Told:
    """The row of one finished request, as some alterations tell it."""

    def row(*alterations: str, body: dict[str, Any] | None = None, slug: str = SLUG, **lies: Any) -> dict[str, Any]:
        client = start(lies=Lies(alterations=alterations, **lies))  # type: ignore[arg-type]
        client.submit(body or {"prompt": "a pear"}, slug)
        clock.advance(60)
        (found,) = page(client)["data"]
        one = client.get(f"{PATH}/{found['request_id']}").json()
        assert one == found
        return found

    return row


def test_lies_begin_when_they_are_set_and_never_change_the_books(client: Client) -> None:
    client.server.set_lies(Lies(empty_readings=None, cost_in_history="absurd"))
    assert page(client)["data"] == []
    account = client.server.account()
    assert (account["submissions"], account["charges"]) == (50, 41)
    answer = client.post("/sandbox/settings", json={"lies": {}})
    assert answer.status_code == 200
    assert len(page(client)["data"]) == 50


@pytest.mark.parametrize("readings", [1, 3])
def test_a_given_number_of_readings_is_empty_before_a_whole_one(client: Client, readings: int) -> None:
    client.server.set_lies(Lies(empty_readings=readings))
    for _ in range(readings):
        assert [page(client, number)["data"] for number in (1, 2)] == [[], []]
    assert len(prompts(client)) == 50


def test_an_empty_history_does_not_use_up_an_empty_reading(start: Start) -> None:
    client = start(lies=Lies(empty_readings=1))
    assert page(client)["data"] == []
    client.submit({"prompt": "a pear"})
    assert page(client)["data"] == []
    assert prompts(client) == ["a pear"]


def test_single_pages_can_be_unreadable_or_empty_in_turn(client: Client) -> None:
    client.server.set_lies(Lies(page_script=["ok", "unreadable", "empty"]))
    assert len(page(client, per_page=20)["data"]) == 20
    unreadable = client.get(PATH, params={"page": 2})
    assert unreadable.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        unreadable.json()
    assert page(client) == {"data": [], "pagination": {"page": 1, "per_page": 100, "total": 0, "total_pages": 0}}
    assert len(page(client)["data"]) == 50


def test_rows_appear_after_the_configured_delay(client: Client, clock: Clock) -> None:
    client.server.set_lies(Lies(lag_s=5))
    assert prompts(client)[0] == "a pear, number 45"
    client.server.set_lies(Lies(lag_by_model={SLUG: 10.5, "other": 99}))
    assert prompts(client)[0] == "a pear, number 39"
    clock.advance(11)
    assert len(prompts(client)) == 50


def test_each_row_has_its_own_constant_delay(client: Client, clock: Clock) -> None:
    client.server.set_lies(Lies(lag_spread_s=30, seed=4))
    shown = prompts(client)
    assert prompts(client) == shown
    assert 20 < len(shown) < 50
    ordered = sorted(shown, key=lambda prompt: int(prompt.rpartition(" ")[2]), reverse=True)
    assert shown == ordered
    assert shown != [f"a pear, number {number}" for number in range(len(shown) - 1, -1, -1)]
    clock.advance(30)
    assert len(prompts(client)) == 50


def test_only_finished_requests_can_be_listed(client: Client, clock: Clock) -> None:
    client.server.set_lies(Lies(finished_only=True))
    assert len(prompts(client)) == 41
    running = client.server.account()["jobs"][-1]["request_id"]
    assert client.get(f"{PATH}/{running}").status_code == 404
    clock.advance(10)
    assert len(prompts(client)) == 50


def test_a_share_of_the_requests_is_never_listed_the_same_for_a_seed(client: Client) -> None:
    client.server.set_lies(Lies(omitted_share=0.4, seed=1))
    shown = prompts(client)
    assert 20 <= len(shown) <= 40
    client.server.set_lies(Lies(omitted_share=0.4, seed=1))
    assert prompts(client) == shown
    client.server.set_lies(Lies(omitted_share=0.4, seed=2))
    assert prompts(client) != shown


@pytest.mark.parametrize(("workspace", "rows"), [("empty", 0), ("strangers", 3)])
def test_another_workspace_lists_none_of_our_requests(client: Client, workspace: Any, rows: int) -> None:
    ours = {job["request_id"] for job in client.server.account()["jobs"]}
    client.server.set_lies(Lies(workspace=workspace))
    shown = page(client)["data"]
    assert len(shown) == rows
    assert not {row["request_id"] for row in shown} & ours
    assert client.get(f"{PATH}/{ours.pop()}").status_code == 404


def test_a_page_can_be_shorter_than_was_asked_for(client: Client) -> None:
    client.server.set_lies(Lies(page_cap=20))
    first = page(client)
    assert first["pagination"] == {"page": 1, "per_page": 20, "total": 50, "total_pages": 3}
    assert [len(page(client, number)["data"]) for number in (1, 2, 3, 4)] == [20, 20, 10, 0]
    assert len(page(client, per_page=5)["data"]) == 5


@pytest.mark.parametrize(("kind", "pages"), [("rounded_down", 2), ("one", 1), ("of_asked_size", 1), ("absent", None)])
def test_the_number_of_pages_can_be_too_small(client: Client, kind: Any, pages: int | None) -> None:
    client.server.set_lies(Lies(page_cap=20, total_pages=kind))
    assert page(client)["pagination"].get("total_pages") == pages


@pytest.mark.parametrize(("kind", "total"), [("too_small", 25), ("absent", None)])
def test_the_number_of_rows_can_be_wrong_or_absent(client: Client, kind: Any, total: int | None) -> None:
    client.server.set_lies(Lies(total=kind))
    assert page(client)["pagination"].get("total") == total


def test_pages_can_repeat(client: Client) -> None:
    whole = prompts(client)
    client.server.set_lies(Lies(repeated_page="first"))
    assert [prompts(client, number, per_page=20) for number in (1, 2, 9)] == [whole[:20]] * 3
    client.server.set_lies(Lies(repeated_page="previous"))
    assert [prompts(client, number, per_page=20) for number in (1, 2, 3)] == [whole[:20], whole[:20], whole[20:40]]


def test_row_order_can_change_between_requests(client: Client) -> None:
    whole = prompts(client)
    client.server.set_lies(Lies(is_unsorted=True))
    first, second = prompts(client), prompts(client)
    assert first != second
    assert sorted(first) == sorted(second) == sorted(whole)
    cut = [prompt for number in (1, 2, 3) for prompt in prompts(client, number, per_page=20)]
    assert len(cut) == 50
    assert len(set(cut)) < 50


def test_rows_can_be_inserted_between_two_pages(client: Client) -> None:
    whole = prompts(client)
    client.server.set_lies(Lies(inserted_per_page=2))
    pages = [prompts(client, number, per_page=20) for number in (1, 2, 3)]
    assert pages == [whole[:20], whole[18:38], whole[36:]]
    assert page(client, 2)["pagination"]["total"] == 52


@pytest.mark.parametrize(("kind", "status"), [("404", 404), ("400", 400), ("empty", 200), ("last", 200)])
def test_a_page_after_the_last_is_answered_as_configured(client: Client, kind: Any, status: int) -> None:
    client.server.set_lies(Lies(past_end=kind))
    assert len(prompts(client, 3, per_page=20)) == 10
    answer = client.get(PATH, params={"page": 4, "per_page": 20})
    assert answer.status_code == status
    if status == 200:
        assert len(answer.json()["data"]) == (10 if kind == "last" else 0)


BODY = {"prompt": "a pear", "seed": -1}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model_title", "Fast Flux.1 Schnell"),
        ("model_upper", "FAST-FLUX-SCHNELL"),
        ("model_separators", "fast flux_schnell"),
    ],
)
def test_a_model_can_have_another_name(told: Told, kind: str, name: str) -> None:
    assert told(kind)["model_name"] == name


@pytest.mark.parametrize(
    ("kind", "prompt", "becomes"),
    [
        ("cut", "a pear on a table", "a pear o"),
        ("cut_dots", "a pear on a table", "a pear o..."),
        ("cut_ellipsis", "a pear on a table", "a pear o…"),
        ("cut_bytes", "poire d\u2019\u00e9t\u00e9", "poire d\ufffd"),
        ("html_escaped", '"pears" & <figs> aren\'t', "&quot;pears&quot; &amp; &lt;figs&gt; aren&#x27;t"),
        ("nfc", "e\u0301te\u0301", "été"),
        ("nfd", "été", "e\u0301te\u0301"),
        ("nfkc", "\ufb01gs \uff12", "figs 2"),
        ("lower", "A Pear", "a pear"),
        ("upper", "A Pear", "A PEAR"),
        ("whitespace_collapsed", " a  pear\n\ton a ", " a pear on a "),
        ("whitespace_trimmed", "  a  pear\n", "a  pear"),
        ("smart_quotes", "\"a 'ripe' pear\" isn't", "\u201ca \u2018ripe\u2019 pear\u201d isn\u2019t"),
    ],
)
def test_a_text_can_be_altered(told: Told, kind: str, prompt: str, becomes: str) -> None:
    assert told(kind, body={"prompt": prompt}, cut_at=8)["request_body"]["prompt"] == becomes


@pytest.mark.parametrize(
    ("kind", "value", "becomes"),
    [
        ("float32", 0.1, 0.10000000149011612),
        ("integers_as_floats", 7, 7.0),
        ("numbers_as_text", 7, "7"),
        ("numbers_as_text", 0.5, "0.5"),
        ("booleans_as_text", False, "false"),
        ("booleans_as_numbers", True, 1),
    ],
)
def test_a_number_or_a_boolean_can_have_another_form(told: Told, kind: str, value: Any, becomes: Any) -> None:
    body = told(kind, body={"prompt": "a pear", "odd": value, "list": [value]})["request_body"]
    for found in (body["odd"], body["list"][0]):
        assert (found, type(found)) == (becomes, type(becomes))


def test_a_drawn_seed_can_replace_a_missing_one(told: Told) -> None:
    assert told("drawn_seed", body=BODY)["request_body"]["seed"] > 0
    assert told("drawn_seed", body={**BODY, "seed": 5})["request_body"]["seed"] == 5


def test_keys_can_be_added_or_dropped(told: Told) -> None:
    body = {"prompt": "a pear", "seed": 4, "base64": False, "steps": None}
    assert {"aspect_ratio": "1:1", "steps": None, "seed": 4}.items() <= told("defaults_added", body=body)[
        "request_body"
    ].items()
    with_nulls = told("nulls_added", body=body)["request_body"]
    assert with_nulls["aspect_ratio"] is None
    assert with_nulls["seed"] == 4
    assert "steps" not in told("nulls_dropped", body=body)["request_body"]
    assert "base64" not in told("falses_dropped", body=body)["request_body"]
    fewer = told("key_dropped", body=body)["request_body"]
    assert len(fewer) == 3
    assert "prompt" in fewer
    assert "request_body" not in told("body_missing")


def test_a_picture_url_can_change_without_the_prompt(told: Told) -> None:
    body = {"prompt": "a man", "face_image": "https://example.com/face.jpg"}
    replaced = told("pictures_replaced", "upper", body=body, slug="instantid")["request_body"]
    assert replaced["prompt"] == "A MAN"
    assert replaced["face_image"].startswith("https://storage.example.com/")


def test_a_body_can_be_json_text_and_altered_too(told: Told) -> None:
    for kinds in (("body_as_text", "upper"), ("upper", "body_as_text")):
        body = told(*kinds, body=BODY)["request_body"]
        assert isinstance(body, str)
        assert json.loads(body) == {"prompt": "A PEAR", "seed": -1}


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("time_other_zone", "2026-01-02T17:34:05.678000+05:30"),
        ("time_without_zone", "2026-01-02 12:04:05.678000"),
        ("time_hour_off", "2026-01-02T11:04:05.678Z"),
        ("time_missing", None),
        ("time_epoch_s", 1767355445),
        ("time_epoch_ms", 1767355445678),
    ],
)
def test_a_time_can_have_another_format(told: Told, kind: str, moment: Any) -> None:
    assert told(kind)["model_created"] == moment


def test_a_share_of_the_rows_is_altered_the_same_for_a_seed(client: Client) -> None:
    client.server.set_lies(Lies(alterations=["upper"], altered_share=0.5))
    shown = prompts(client)
    assert 12 <= sum(prompt.isupper() for prompt in shown) <= 38
    assert prompts(client) == shown


@given(
    kinds=st.lists(st.sampled_from(ALTERATIONS), min_size=1, max_size=3),
    prompt=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60),
    seed=st.integers(-1, 2**60),
)
def test_any_alterations_go_together_and_leave_the_request_as_it_is(kinds: Any, prompt: str, seed: int) -> None:
    from segmind_dagster.sandbox.altered_rows import altered
    from segmind_dagster.sandbox.jobs import JobBook, canonical
    from segmind_dagster.sandbox.offers import offers
    from segmind_dagster.sandbox.settings import SandboxSettings

    body = {"prompt": prompt, "seed": seed, "base64": False, "extra": [1, 0.1, None]}
    before = canonical(body)
    job = JobBook(SandboxSettings()).accept(offers()[SLUG], body, key=before)
    row = {"request_id": job.request_id, "model_name": SLUG, "model_created": "now", "request_body": body}
    lies = Lies(alterations=kinds)
    once = altered(row, job, lies)
    assert json.dumps(once) == json.dumps(altered(row, job, lies))
    assert once["request_id"] == job.request_id
    assert canonical(body) == before


@pytest.mark.parametrize("kind", LATE_ERRORS)
def test_an_error_can_come_after_the_job_was_accepted_and_it_is_charged(start: Start, clock: Clock, kind: Any) -> None:
    client = start(faults=Faults(script=[kind]))
    refused = client.post(f"/v2/{SLUG}", json=BODY)
    assert refused.status_code == int(kind.rpartition("_")[2])
    assert set(refused.json()) == {"error"}
    clock.advance(10)
    (row,) = page(client)["data"]
    assert (row["model_status"], row["request_body"]) == ("COMPLETED", BODY)
    assert client.server.account()["charges"] == 1


def test_a_request_can_be_unknown_for_its_first_seconds(start: Start, clock: Clock) -> None:
    client = start(lies=Lies(not_found_s=3), fixed_latency_s=1.0)
    submitted = client.submit(BODY)
    for url in ("status_url", "response_url"):
        assert client.get(submitted[url]).status_code == 404
    clock.advance(3)
    assert client.get(submitted["status_url"]).json()["status"] == "COMPLETED"


def test_a_request_id_can_be_repeated_for_another_submission(start: Start, clock: Clock) -> None:
    client = start(lies=Lies(repeated_id_share=1))
    first, second = (client.submit({"prompt": prompt}) for prompt in ("a pear", "a fig"))
    assert first["request_id"] == second["request_id"]
    clock.advance(10)
    assert client.get(second["response_url"]).json()["prompt"] == "a pear"
    assert {row["request_id"] for row in page(client)["data"]} == {first["request_id"]}
    assert sorted(prompts(client)) == ["a fig", "a pear"]
    account = client.server.account()
    assert account["charges"] == 2
    assert len({job["request_id"] for job in account["jobs"]}) == 2


def test_a_price_can_be_a_multiple_of_the_usual_one(start: Start, clock: Clock) -> None:
    client = start(lies=Lies(price_factor=10), price_jitter=False)
    submitted = client.submit(BODY)
    clock.advance(10)
    assert client.get(submitted["response_url"]).json()["metrics"]["cost"] == pytest.approx(0.0547)
    assert Decimal(client.server.account()["charged_usd"]) == Decimal("0.0547")


IS_TOLD: dict[str, Callable[[Any], bool]] = {
    "right": lambda value: isinstance(value, float) and math.isclose(value, 0.00547),
    "absent": lambda value: value is None,
    "nan": lambda value: math.isnan(float(value)),
    "infinity": lambda value: math.isinf(float(value)),
    "negative": lambda value: float(value) < 0,
    "absurd": lambda value: float(value) > 1e9,
    "text": lambda value: value == "a little",
}


def is_told(value: Any, kind: str) -> bool:
    return IS_TOLD[kind](value)


@pytest.mark.parametrize("kind", COST_LIES)
def test_a_cost_can_be_wrong_in_each_answer_separately(start: Start, clock: Clock, kind: Any) -> None:
    client = start(lies=Lies(cost_in_results=kind), price_jitter=False)
    submitted = client.submit(BODY)
    clock.advance(10)
    for url in ("status_url", "response_url"):
        assert is_told(read(client, submitted[url])["metrics"].get("cost"), kind)
    assert is_told(page(client)["data"][0]["credits_deduction"], "right")
    client.server.set_lies(Lies(cost_in_history=kind))
    assert is_told(page(client)["data"][0].get("credits_deduction"), kind)
    assert is_told(client.get(submitted["status_url"]).json()["metrics"]["cost"], "right")
    assert Decimal(client.server.account()["charged_usd"]) == Decimal("0.00547")


@pytest.mark.parametrize("kind", [kind for kind in COST_LIES if kind != "right"])
def test_headers_and_balances_can_be_wrong_too(start: Start, kind: Any) -> None:
    client = start(lies=Lies(cost_in_headers=kind, balance=kind), fixed_latency_s=0.0)
    headers = client.post(f"/v1/{SLUG}", json=BODY).headers
    for name in ("x-cost", "x-remaining-credits"):
        assert is_told(headers.get(name), kind)
    assert is_told(read(client, "/v1/get-user-credits").get("credits"), kind)
    submitted = client.submit(BODY)
    assert is_told(read(client, submitted["status_url"])["metrics"].get("remaining_credits"), kind)


def test_lies_can_be_combined(client: Client) -> None:
    client.server.set_lies(Lies(finished_only=True, page_cap=20, total_pages="one", alterations=["nfd", "model_title"]))
    shown = page(client)
    assert (len(shown["data"]), shown["pagination"]["total_pages"], shown["pagination"]["total"]) == (20, 1, 41)
    assert shown["data"][0]["model_name"] == "Fast Flux.1 Schnell"


def test_lies_survive_json_and_can_be_set_over_http(client: Client) -> None:
    told = {
        "lag_s": 1.5, "lag_by_model": {"x": 2}, "alterations": ["nfd", "cut"], "page_script": ["empty"],
        "empty_readings": None,
    }  # fmt: skip
    assert Lies.from_json(json.loads(json.dumps(told))) == Lies(
        lag_s=1.5, lag_by_model={"x": 2}, alterations=["nfd", "cut"], page_script=["empty"], empty_readings=None
    )
    assert Lies.from_json({}) == Lies()
    assert client.post("/sandbox/settings", json={"lies": told}).status_code == 200
    assert page(client)["data"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"alterations": ["upside_down"]},
        {"total": "wrong"},
        {"page_script": ["torn"]},
        {"omitted_share": 1.5},
        {"lag_s": -1},
        {"page_cap": 0},
        {"cost_in_results": "free"},
        {"mood": "bad"},
        {"lag_by_model": 3},
    ],
)
def test_an_unknown_lie_is_refused(client: Client, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="lies"):
        Lies.from_json(wrong)
    answer = client.post("/sandbox/settings", json={"lies": wrong})
    assert answer.status_code == 400
    assert "lies" in answer.json()["error"]
    assert len(page(client)["data"]) == 50
