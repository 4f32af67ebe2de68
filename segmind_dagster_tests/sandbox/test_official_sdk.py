"""Segmind's own SDK 1.3.0, unmodified, works against the sandbox: an independent client confirms its behaviour.

Its hard-coded hosts are sent to the sandbox by a hook of its HTTP client, as a name server could do.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import segmind
from PIL import Image
from segmind.client import SegmindClient
from segmind.exceptions import SegmindError

from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from lab.sandbox import Start

    from segmind_dagster.sandbox import SandboxServer

Connect = Callable[..., tuple[SegmindClient, "SandboxServer"]]


@pytest.fixture
def connect(start: Start, monkeypatch: pytest.MonkeyPatch) -> Connect:
    monkeypatch.delenv("SEGMIND_API_KEY", raising=False)

    def connected(**settings: Any) -> tuple[SegmindClient, SandboxServer]:
        sandbox = start(fixed_latency_s=0.0, **settings)
        here = httpx.URL(sandbox.server.url)

        def redirect(request: httpx.Request) -> None:
            request.url = request.url.copy_with(scheme=here.scheme, host=here.host, port=here.port)
            request.headers["Host"] = f"{here.host}:{here.port}"

        client = SegmindClient(api_key=sandbox.server.api_key, base_url=f"{sandbox.server.url}/v1")
        client._client.event_hooks = {"request": [redirect]}
        return client, sandbox.server

    return connected


def test_the_sdk_under_test_is_the_one_named() -> None:
    assert segmind.__version__ == "1.3.0"


def test_run_submits_waits_and_returns_the_result(connect: Connect) -> None:
    client, server = connect()
    result = client.run("fast-flux-schnell", prompt="a red bicycle", seed=11)
    picture = Image.open(io.BytesIO(httpx.get(result["output"]).content))
    assert (result["status"], result["seed"], picture.format) == ("COMPLETED", "11", "JPEG")
    assert float(server.account()["charged_usd"]) == result["metrics"]["cost"]


def test_run_sync_returns_the_picture_itself(connect: Connect) -> None:
    client, server = connect()
    response = client.run_sync("sdxl1.0-newreality-lightning", prompt="a castle", img_width=1024, img_height=1024)
    assert Image.open(io.BytesIO(response.content)).format == "JPEG"
    assert response.headers["x-cost"] == server.account()["charged_usd"]


def test_a_failed_job_raises_inference_failed_with_the_gateways_words(connect: Connect) -> None:
    client, server = connect(faults=Faults(script=["failed"]))
    with pytest.raises(segmind.InferenceFailed) as failed:
        client.run("fast-flux-schnell", prompt="a red bicycle")
    assert failed.value.detail.startswith("CUDA out of memory")
    assert failed.value.status_body["status"] == "FAILED"
    assert server.account()["charges"] == 0


def test_chat_returns_the_same_text_over_v2_and_v1(connect: Connect) -> None:
    client, _ = connect()
    messages = [{"role": "user", "content": "What is a lake?"}]
    late = client.chat("llama-v3p1-8b-instruct", messages=messages)
    at_once = client.chat_sync("llama-v3p1-8b-instruct", messages=messages)
    assert "What is a lake?" in late.text
    assert late.text == at_once.text
    assert (late.finish_reason, set(late.usage)) == (
        "stop",
        {"prompt_tokens", "completion_tokens", "total_tokens"},
    )


def test_uploaded_files_can_be_used_as_inputs(connect: Connect, tmp_path: Path) -> None:
    client, _ = connect()
    path = tmp_path / "face.png"
    Image.new("RGB", (20, 20), (200, 120, 90)).save(path)
    uploaded = client.files.upload([path, path])
    assert uploaded["message"] == "Files uploaded successfully"
    assert httpx.get(uploaded["file_urls"][0]).content == path.read_bytes()
    result = client.run("face-to-sticker", image=uploaded["file_urls"][0])
    assert result["images"][0]["content_type"] == "image/png"


def test_the_account_and_the_models_are_listed(connect: Connect) -> None:
    client, _ = connect()
    assert client.accounts.current()["credits"] == 100.0
    (rows,) = client.models.list().values()
    assert "fast-flux-schnell" in {row["slug"] for row in rows}


def test_history_and_generations_list_what_was_bought(connect: Connect) -> None:
    client, _ = connect(faults=Faults(script=[None, "failed"]))
    bought = client.run("fast-flux-schnell", prompt="a red bicycle")
    with pytest.raises(segmind.InferenceFailed):
        client.run("instantid", prompt="a man", face_image="https://example.com/face.jpg")
    rows = client.generations.history(per_page=50, sort_by="model_created", sort_order="asc")["data"]
    assert [row["model_status"] for row in rows] == ["COMPLETED", "FAILED"]
    assert rows[0]["generation_url"] == bought["output"]
    assert client.generations.history(status="FAILED")["data"] == rows[1:]
    assert client.generations.get(rows[0]["request_id"]) == rows[0]
    (generation,) = client.generations.list()["data"]
    assert (generation["generation_url"], generation["prompt"]) == (bought["output"], "a red bicycle")
    assert client.generations.recent("instantid")["data"] == []


def test_a_wrong_key_is_an_error_with_status_401(connect: Connect) -> None:
    client, server = connect()
    stranger = SegmindClient(api_key="SG_0000000000000000", base_url=client.base_url)
    with pytest.raises(SegmindError) as refused:
        stranger.run("fast-flux-schnell", prompt="a red bicycle")
    assert refused.value.status == 401
    assert refused.value.detail.startswith("Unauthorized")
    assert server.account()["submissions"] == 0
