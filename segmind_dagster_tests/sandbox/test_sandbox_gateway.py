"""The gateway's answers to what is well asked: submit, status, result, v1, and every kind of output."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from lab.sandbox import Clock, Start

IMAGE, TEXT, VIDEO = "fast-flux-schnell", "llama-v3p1-8b-instruct", "wan-2.2-t2v-fast"


def test_a_submission_is_answered_with_an_id_and_urls_of_this_sandbox(start: Start) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    request_id, base = submitted["request_id"], client.server.url
    assert submitted == {
        "request_id": request_id,
        "status": "QUEUED",
        "poll_url": f"{base}/v1/requests/{request_id}",
        "status_url": f"{base}/v2/requests/{request_id}/status",
        "response_url": f"{base}/v2/requests/{request_id}",
    }


def test_urls_in_answers_follow_the_host_the_client_asked(start: Start) -> None:
    client = start()
    response = client.post(f"/v2/{IMAGE}", json={"prompt": "a pear"}, headers={"Host": "localhost:1234"})
    assert response.json()["status_url"].startswith("http://localhost:1234/v2/requests/")


def test_a_job_is_queued_then_processed_then_completed_whether_or_not_anybody_polls(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    seen = []
    for seconds in (0, 1.9, 0.2, 7.8, 0.2):
        clock.advance(seconds)
        seen.append(client.get(submitted["status_url"]).json()["status"])
    assert seen == ["QUEUED", "QUEUED", "PROCESSING", "PROCESSING", "COMPLETED"]


def test_a_completed_status_has_cost_and_times_but_never_the_output(start: Start, clock: Clock) -> None:
    client = start(price_jitter=False)
    submitted = client.submit({"prompt": "a pear"})
    clock.advance(10)
    assert client.get(submitted["status_url"]).json() == {
        "status": "COMPLETED",
        "request_id": submitted["request_id"],
        "metrics": {
            "cost": 0.00547,
            "remaining_credits": 99.99453,
            "inference_time": 8.0,
            "queue_time": 2.0,
            "total_time": 10.0,
        },
    }


def test_a_result_names_the_file_with_its_true_size_as_a_string(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear", "seed": 42})
    clock.advance(10)
    result = client.get(submitted["response_url"]).json()
    name = f"{submitted['request_id']}.jpeg"
    fetched = client.get(result["output"], headers={"x-api-key": None})
    assert result["output"] == f"{client.server.url}/outputs/{name}"
    assert result["images"] == [
        {
            "url": result["output"],
            "content_type": "image/jpeg",
            "file_name": name,
            "file_size": str(len(fetched.content)),
        }
    ]
    assert (result["status"], result["error"], result["seed"], result["prompt"], result["timings"]) == (
        "COMPLETED",
        None,
        "42",
        "a pear",
        {},
    )
    assert (fetched.headers["Content-Type"], int(fetched.headers["Content-Length"])) == (
        "image/jpeg",
        len(fetched.content),
    )


@pytest.mark.parametrize("seed", [-1, None])
def test_without_a_seed_one_is_chosen_and_reported(start: Start, clock: Clock, seed: Any) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear", "seed": seed})
    clock.advance(10)
    assert int(client.get(submitted["response_url"]).json()["seed"]) >= 0


def test_an_early_result_request_returns_the_pending_status_like_the_v1_poll_url(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    early = client.get(submitted["response_url"])
    assert early.status_code == 200
    assert early.json() == client.get(submitted["status_url"]).json()
    assert "output" not in early.json()
    clock.advance(10)
    assert client.get(submitted["poll_url"]).json() == client.get(submitted["response_url"]).json()


def test_a_request_that_was_never_made_is_not_found(start: Start) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    response = start().get(f"/v2/requests/{unknown}/status")
    assert (response.status_code, response.json()) == (404, {"error": f"Request {unknown} not found"})


def test_a_record_lives_an_hour_and_its_file_a_week(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    clock.advance(10)
    output = client.get(submitted["response_url"]).json()["output"]
    clock.advance(3591)
    expired = [client.get(submitted[name]) for name in ("status_url", "response_url")]
    assert [response.status_code for response in expired] == [404, 404]
    assert expired[0].json() == {"error": f"Request {submitted['request_id']} not found"}
    assert client.get(output).status_code == 200
    clock.advance(7 * 86400)
    assert client.get(output).status_code == 404


def test_an_output_is_not_there_before_its_job_is_done(start: Start) -> None:
    client = start()
    submitted = client.submit({"prompt": "a pear"})
    assert client.get(f"/outputs/{submitted['request_id']}.jpeg").status_code == 404


def test_v1_answers_with_the_picture_and_has_cost_balance_seed_and_id_in_headers(start: Start) -> None:
    client = start(fixed_latency_s=0.0, price_jitter=False)
    response = client.post(f"/v1/{IMAGE}", json={"prompt": "a pear", "seed": 7})
    assert response.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(response.content)).format == "JPEG"
    told = {name: value for name, value in response.headers.items() if name.startswith("x-")}
    (job,) = client.server.account()["jobs"]
    assert told == {
        "x-request-id": job["request_id"],
        "x-cost": "0.005470",
        "x-remaining-credits": "99.994530",
        "x-generation-time": "0.000",
        "x-seed-value": "7",
    }


def test_v1_takes_as_long_as_the_model(start: Start) -> None:
    client = start(fixed_latency_s=0.3)
    assert client.post(f"/v1/{IMAGE}", json={"prompt": "a pear"}).elapsed.total_seconds() >= 0.3


def test_v1_with_base64_answers_json_with_the_same_picture(start: Start) -> None:
    client = start(fixed_latency_s=0.0)
    plain = client.post(f"/v1/{IMAGE}", json={"prompt": "a pear", "seed": 7})
    encoded = client.post(f"/v1/{IMAGE}", json={"prompt": "a pear", "seed": 7, "base64": True})
    assert base64.b64decode(encoded.json()["image"]) == plain.content


def test_v1_accepts_a_form_with_numbers_as_text_and_files(start: Start) -> None:
    client = start(fixed_latency_s=0.0)
    form = {"prompt": (None, "a person"), "seed": (None, "5"), "image": ("me.png", b"not a picture", "image/png")}
    response = client.post("/v1/face-to-sticker", files=form)
    assert (response.headers["Content-Type"], response.headers["x-seed-value"]) == ("image/png", "5")
    (job,) = client.server.account()["jobs"]
    assert job["body"]["image"] == "data:image/png;base64," + base64.b64encode(b"not a picture").decode()


def test_a_text_model_answers_stringified_json_in_v2_and_the_same_shape_directly_in_v1(start: Start) -> None:
    client = start(fixed_latency_s=0.0)
    body = {"messages": [{"role": "user", "content": "What is a lake?"}]}
    late = json.loads(client.get(client.submit(body, TEXT)["response_url"]).json()["output"])
    at_once = client.post(f"/v1/{TEXT}", json=body)
    assert at_once.headers["Content-Type"] == "application/json"
    for answer in (late, at_once.json()):
        assert answer["choices"][0]["message"]["role"] == "assistant"
        assert "What is a lake?" in answer["choices"][0]["message"]["content"]
        assert answer["usage"]["total_tokens"] > 0


def test_every_text_model_of_the_catalogue_answers_text(start: Start) -> None:
    client = start(fixed_latency_s=0.0)
    result = client.get(client.submit({"prompt": "hello"}, "gpt-4o")["response_url"]).json()
    assert "images" not in result
    assert "hello" in json.loads(result["output"])["choices"][0]["message"]["content"]


def test_a_video_is_a_well_formed_mp4_in_the_video_object_and_the_output(start: Start) -> None:
    client = start(fixed_latency_s=0.0)
    result = client.get(client.submit({"prompt": "waves"}, VIDEO)["response_url"]).json()
    content = client.get(result["output"]).content
    assert result["video"]["url"] == result["output"]
    assert (result["video"]["content_type"], result["video"]["file_size"]) == ("video/mp4", str(len(content)))
    boxes, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        boxes.append(content[at + 4 : at + 8])
        at += size
    assert (at, content[8:12]) == (len(content), b"isom")
    assert [box for box in boxes if box != b"free"] == [b"ftyp", b"moov", b"mdat"]
    other = client.get(client.submit({"prompt": "dunes"}, VIDEO)["response_url"]).json()
    assert client.get(other["output"]).content != content, "what is asked for tells videos apart"


def test_an_audio_model_gives_a_wav_that_plays(start: Start) -> None:
    client = start(fixed_latency_s=0.0)
    result = client.get(client.submit({"prompt": "bells"}, "lyria-2")["response_url"]).json()
    with wave.open(io.BytesIO(client.get(result["output"]).content)) as tone:
        assert tone.getnframes() == 2000
    assert result["audio"]["content_type"] == "audio/wav"


def test_several_samples_are_several_files_and_one_charge_for_all(start: Start) -> None:
    client = start(fixed_latency_s=0.0, price_jitter=False)
    body = {"prompt": "a man", "face_image": "https://example.com/face.jpg", "samples": 3, "seed": 1}
    result = client.get(client.submit(body, "instantid")["response_url"]).json()
    contents = {client.get(image["url"]).content for image in result["images"]}
    assert (len(contents), result["output"]) == (3, result["images"][0]["url"])
    account = client.server.account()
    assert (account["charges"], float(account["charged_usd"])) == (1, result["metrics"]["cost"])


def test_a_model_without_a_published_price_costs_13_cents(start: Start, clock: Clock) -> None:
    client = start(price_jitter=False)
    client.submit({"prompt": "Lena waves"}, "consistent-character-AI-neolemon-v2")
    clock.advance(10)
    assert client.server.account()["charged_usd"] == "0.130000"
