"""The account and the catalogue: credits, models, uploads, money, settings at run time."""

from __future__ import annotations

import base64
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from segmind_dagster.registry import MODELS, bundled_catalogue

if TYPE_CHECKING:
    from lab.sandbox import Clock, Start


def test_credits_decrease_by_the_charge_once_the_job_is_done(start: Start, clock: Clock) -> None:
    client = start(price_jitter=False)
    client.submit({"prompt": "a pear"})
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0, "free-credits": 0.0}
    clock.advance(10)
    assert client.get("/v1/get-user-credits").json() == {"credits": 99.99453, "free-credits": 0.0}


def test_a_job_is_charged_once_however_often_it_is_polled(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    clock.advance(10)
    for _ in range(3):
        client.get(submitted["status_url"])
        cost = client.get(submitted["response_url"]).json()["metrics"]["cost"]
    account = client.server.account()
    assert (account["charges"], float(account["charged_usd"])) == (1, cost)
    assert Decimal(account["balance_usd"]) + Decimal(account["charged_usd"]) == 100


def test_a_job_that_is_never_polled_is_charged_too(start: Start, clock: Clock) -> None:
    client = start()
    client.submit({"prompt": "a pear"})
    clock.advance(3600 * 24)
    account = client.server.account()
    assert (account["charges"], account["jobs"][0]["status"], account["jobs"][0]["charged"]) == (1, "COMPLETED", True)


def test_costs_vary_by_at_most_a_tenth_and_sum_up_to_the_charge(start: Start, clock: Clock) -> None:
    client = start()
    for seed in range(20):
        client.submit({"prompt": "a pear", "seed": seed})
    clock.advance(10)
    account = client.server.account()
    costs = [Decimal(job["cost_usd"]) for job in account["jobs"]]
    price_usd = bundled_catalogue().get("fast-flux-schnell").cost_usd
    assert all(abs(cost / price_usd - 1) <= Decimal("0.1001") for cost in costs)
    assert len(set(costs)) > 10
    assert sum(costs) == Decimal(account["charged_usd"])


def test_latencies_follow_the_catalogue_the_scale_and_a_jitter_of_a_third_at_most(start: Start, clock: Clock) -> None:
    client = start(fixed_latency_s=None, time_scale=0.5)
    for seed in range(20):
        client.submit({"prompt": "a pear", "seed": seed})
    clock.advance(100)
    rows = client.get("/inference-request/request-history").json()["data"]
    usual_ms = bundled_catalogue().get("fast-flux-schnell").latency_s * 500
    assert all(0.69 <= row["latency_ms"] / usual_ms <= 1.31 for row in rows)
    assert len({row["latency_ms"] for row in rows}) > 10


def test_the_request_counts_are_kept_by_kind(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    clock.advance(10)
    client.get(submitted["status_url"])
    client.output(submitted)
    client.get("/inference-request/request-history")
    account = client.get("/sandbox/account?jobs=false").json()
    asked = {"submit", "status", "result", "output", "history"}
    assert account["requests"] == {**dict.fromkeys(asked, 1), "credits": 0, "models": 0, "upload": 0}
    assert "jobs" not in account
    assert client.get("/sandbox/account").json() == client.server.account()


def test_the_models_page_is_a_table_of_every_model_for_people(start: Start) -> None:
    response = start().get("/v1/models/")
    assert response.headers["Content-Type"].startswith("text/html")
    listed = set(bundled_catalogue().entries) | {model.slug for model in MODELS}
    assert response.text.count("<tr>") == len(listed) + 1
    assert all(f"<code>{slug}</code>" in response.text for slug in listed)
    assert "$0.00547" in response.text


def test_the_models_list_has_parameters_where_the_registry_knows_them(start: Start) -> None:
    client = start()
    listed = client.get("/inference-model-information/list?segmind_model=True").json()
    (envelope,) = listed
    assert envelope == "Inference Segmind Model Information List With Details"
    rows = {row["slug"]: row for row in listed[envelope]}
    flux = rows["fast-flux-schnell"]
    assert (flux["type"], flux["is_depreciated"], flux["is_visible"]) == ("textToImage", False, True)
    assert flux["parameters"]["prompt"]["isRequired"] is True
    assert "16:9" in flux["parameters"]["aspect_ratio"]["options"]
    assert (flux["parameters"]["steps"]["min"], flux["parameters"]["steps"]["max"]) == (1, 8)
    assert rows["gpt-4o"]["parameters"] == {}


def test_an_upload_is_served_under_the_url_it_was_given(start: Start) -> None:
    client = start()
    content = b"\x89PNG not really"
    data_url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    answer = client.post("/upload-asset", json={"data_urls": [data_url, data_url]}).json()
    first, second = answer["file_urls"]
    assert (answer["message"], first) == ("Files uploaded successfully", second)
    served = client.get(first, headers={"x-api-key": None})
    assert (served.content, served.headers["Content-Type"]) == (content, "image/png")
    assert client.get("/assets/..%2Fjournal.jsonl").status_code == 404


@pytest.mark.parametrize(
    "payload",
    [{}, {"data_urls": []}, {"data_urls": ["https://x/y.png"]}, {"data_urls": ["data:image/png;base64,?"]}, []],
)
def test_an_upload_that_is_no_data_url_is_400(start: Start, payload: Any) -> None:
    assert start().post("/upload-asset", json=payload).status_code == 400


def test_an_uploaded_picture_can_be_seen_in_the_result(start: Start, clock: Clock) -> None:
    client = start(picture_mode="drawn", max_picture_px=256)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (255, 0, 255)).save(buffer, "PNG")
    data_url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    (url,) = client.post("/upload-asset", json={"data_urls": [data_url]}).json()["file_urls"]
    submitted = client.submit({"prompt": "a woman", "face_image": url, "seed": 3}, "instantid")
    clock.advance(10)
    picture = Image.open(io.BytesIO(client.output(submitted))).convert("RGB")
    magenta = sum(
        count for count, (red, green, blue) in picture.getcolors(2**24) if red > 200 and green < 90 and blue > 200
    )
    assert magenta > 0.05 * picture.width * picture.height


def test_credits_limits_and_faults_can_be_changed_while_it_runs(start: Start) -> None:
    client = start(initial_credits=Decimal(0))
    assert client.post("/v2/fast-flux-schnell", json={"prompt": "a"}).status_code == 406
    wanted = {"add_credits": "2.5", "requests_per_minute": 1, "faults": {"script": ["teapot"]}}
    changed = client.post("/sandbox/settings", json=wanted, headers={"x-api-key": None})
    assert changed.json() == {"balance_usd": "2.5", "requests_per_minute": 1}
    assert client.post("/v2/fast-flux-schnell", json={"prompt": "a"}).status_code == 429
    client.post("/sandbox/settings", json={"requests_per_minute": None})
    codes = [client.post("/v2/fast-flux-schnell", json={"prompt": "a"}).status_code for _ in range(2)]
    assert codes == [418, 200]
    client.server.add_credits(Decimal(1))
    assert client.server.account()["balance_usd"] == "3.5"


@pytest.mark.parametrize(
    "payload",
    [
        {"price": 1},
        {"add_credits": "much"},
        {"requests_per_minute": "fast"},
        {"faults": {"rates": {"flood": 1}}},
        {"faults": {"rates": {"stuck": 2}}},
        {"faults": {"odds": {}}},
        {"faults": {"script": [{"slug": "x"}]}},
        [],
    ],
)
def test_invalid_settings_change_nothing_and_name_the_reason(start: Start, payload: Any) -> None:
    client = start()
    before = client.server.account()
    response = client.post("/sandbox/settings", json=payload)
    assert response.status_code == 400
    assert response.json()["error"]
    assert client.server.account() == before
