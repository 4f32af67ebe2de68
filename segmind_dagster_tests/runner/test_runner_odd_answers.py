"""Answers that mean something else than they seem to: for one prompt, for all of them, or for the file."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from lab import script, script_environ
from lab.clocks import QuickClock
from lab.project import V1, V2, png
from lab.proxy import HISTORY, JOBS, Proxy

from segmind_dagster.gateway import answers as gateway_answers
from segmind_dagster.gateway import repeating
from segmind_dagster.runner import Batch, generate
from segmind_dagster.sandbox import Faults, answers, submissions

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT_MODEL, VIDEO_MODEL = "llama_v3p1_8b_instruct", "wan_t2v_fast"


@pytest.mark.parametrize("kind", ["teapot", "bad_gateway"])
def test_an_answer_without_an_outcome_stays_unknown_and_is_not_sent_again(open_lab: Any, kind: str) -> None:
    """Nothing was ever accepted, so that nothing shows how far the history has come."""
    lab = open_lab(faults=Faults(rates={kind: 1.0}))
    key = lab.write("fruit", 2)
    for _ in range(2):
        assert lab.generate(key).models[0].endings == {"unknown": 2}
    assert (lab.posts, lab.charges) == (2, 0)


@pytest.mark.parametrize(
    ("says", "model"),
    [
        (lambda url: json.dumps([url]), V2),
        (lambda url: json.dumps([url]), VIDEO_MODEL),
        (lambda url: json.dumps({"url": url}), V2),
        (lambda url: [{"url": url}], V2),
        (lambda _: "data:image/jpeg;base64,AAAA", V2),
        (lambda url: f" {url}", V2),
        (lambda _: "https://example.com/answer", TEXT_MODEL),
        (lambda _: {"choices": []}, TEXT_MODEL),
    ],
)
def test_an_output_url_is_found_in_any_shape(open_lab: Any, says: Callable[[str], Any], model: str) -> None:
    lab = open_lab()
    with Proxy(lab.server.url) as proxy:
        lab.environ |= {
            "SEGMIND_API_URL": proxy.url,
            "SEGMIND_PLATFORM_URL": lab.server.url,
            "SEGMIND_OUTPUT_HOSTS": lab.server.url.split("//")[1],
        }

        def say(document: dict[str, Any]) -> dict[str, Any]:
            for image in document.get("images") or []:
                image["url"] = image["url"].replace(lab.server.url, proxy.url)
            if "output" in document:
                document["output"] = says(str(document["output"]).replace(lab.server.url, proxy.url))
            return document

        proxy.answers[JOBS] = say
        lab.generate(lab.write("fruit", 1, models=[model]))
        lab.check_all_bought_once(1)


def test_a_parameter_error_that_mentions_credit_fails_only_its_prompt(
    open_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab()
    check = submissions._check_parameters

    def refuse(state: Any, version: str, offer: Any, body: Any) -> Any:
        if "credit card" in body.get("prompt", ""):
            return answers.error_answer(406, f"Invalid value for parameter prompt: {body['prompt']!r} was refused")
        return check(state, version, offer, body)

    monkeypatch.setattr(submissions, "_check_parameters", refuse)
    report = lab.generate(lab.write("fruit", ["a credit card on a desk", "a pear", "an apple"]))
    assert report.models[0].endings == {"succeeded": 2, "failed": 1}
    assert report.models[0].failures == {"invalid_request": 1}
    assert report.stop_message is None


@pytest.mark.parametrize("model", [V1, V2])
def test_prompts_refused_by_moderation_are_sent_once_free_and_stop_nothing(
    open_lab: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    lab = open_lab()
    check = submissions._check_parameters

    def refuse(state: Any, version: str, offer: Any, body: Any) -> Any:
        said = "Request was flagged by our moderation layer."
        if "bad" not in body.get("prompt", ""):
            return check(state, version, offer, body)
        # v1 refuses beforehand, v2 lets the job fail
        return answers.error_answer(422, said) if version == "v1" else said

    monkeypatch.setattr(submissions, "_check_parameters", refuse)
    prompts = [f"bad {number}" for number in range(25)] + ["a pear", "an apple"]
    report = lab.generate(lab.write("fruit", prompts, models=[model]))
    assert report.models[0].endings == {"succeeded": 2, "failed": 25}
    assert report.models[0].failures == {"refused_content": 25}
    assert (report.stop_message, lab.posts, lab.charges) == (None, 27, 2)
    lab.generate("fruit", is_by_person=False)
    assert lab.posts == 27


@pytest.mark.parametrize(
    "answer",
    [
        (200, '{"credits": NaN}'), (200, '{"credits": -1}'), (200, '{"credits": 1e400}'), (200, "{}"), (200, "[]"),
        (429, "slow down"), (503, "busy"), (404, '{"error": "No credits found for the user"}'),
    ],
)  # fmt: skip
def test_an_unreadable_balance_is_a_warning_and_blocks_nothing(
    open_lab: Any, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str]
) -> None:
    monkeypatch.setattr(repeating, "_BACK_OFF", lambda _: 0.0)
    # a 429 that names no reset closes the window of all GETs for a minute
    monkeypatch.setattr(gateway_answers, "_WINDOW_S", 0.1)
    lab = open_lab()
    with Proxy(lab.server.url) as proxy:
        lab.environ |= {"SEGMIND_API_URL": proxy.url}
        proxy.statuses["/v1/get-user-credits"], text = answer
        proxy.replace("/v1/get-user-credits", text)
        report = lab.generate(lab.write("fruit", 1))
    assert (report.models[0].endings, report.stop_message) == ({"succeeded": 1}, None)
    assert "balance" in report.warnings[0]


async def gone(_request: web.Request, _body: bytes) -> web.StreamResponse:
    return web.Response(status=404)


def test_a_file_stored_by_a_killed_run_counts_when_segmind_has_deleted_it(open_lab: Any) -> None:
    lab = open_lab()
    lab.write("fruit", 4)
    with Proxy(lab.server.url) as proxy:
        lab.environ |= {"SEGMIND_API_URL": proxy.url}
        gap = {"KILL_AT": "after the file is kept, before that is recorded"}
        subprocess.run(script("kill_points"), env=script_environ(**lab.environ, **gap), check=False)
        stored = [path.stem for path in (lab.folder / "data" / "outputs").glob("*/*.*") if path.suffix != ".json"]
        assert stored
        assert "submitted" in lab.states()
        proxy.outputs = [gone]
        lab.generate("fruit")
        states = {row["generation_id"]: row["state"] for row in lab.generations()}
    assert {states[generation_id] for generation_id in stored} == {"succeeded"}
    assert lab.charges == 4


def test_an_upload_that_may_have_expired_is_repeated(open_lab: Any) -> None:
    lab = open_lab()
    (lab.folder / "prompts" / "face.png").write_bytes(png())
    fields = {"models": ["instantid"], "defaults": {"face_image": "face.png"}}
    lab.generate(lab.write("fruit", ["one"], **fields))
    lab.generate(lab.write("fruit", ["one", "two"], **fields))
    assert lab.server.account()["requests"]["upload"] == 1
    key = lab.write("fruit", ["one", "two", "three"], **fields)
    lab.generate(key, clock=QuickClock(ahead=timedelta(days=8)))
    assert lab.server.account()["requests"]["upload"] == 2


def test_a_picture_changed_during_a_run_is_not_sent_and_not_recorded(open_lab: Any) -> None:
    lab = open_lab()
    picture = lab.folder / "prompts" / "face.png"
    picture.write_bytes(png())
    key = lab.write("fruit", ["one"], models=["instantid"], defaults={"face_image": "face.png"})
    read_before = lab.prompt_set(key)
    picture.write_bytes(png("blue"))
    report = generate(lab.settings(), [Batch(read_before, ("instantid",))], clock=QuickClock())
    assert report.models[0].endings == {"failed": 1}
    assert "face.png has changed" in report.models[0].examples[0]
    assert lab.posts == lab.server.account()["requests"].get("upload", 0) == 0
    assert lab.generate(key).models[0].endings == {"succeeded": 1}
    assert lab.charges == 1


def test_a_truncated_v1_answer_leaves_no_file_behind(open_lab: Any) -> None:
    lab = open_lab(faults=Faults(script=["truncated"] * 3))
    lab.generate(lab.write("fruit", 3, models=[V1]))
    assert list((lab.folder / "data" / ".partial").glob("*")) == []
    lab.check_all_bought_once(3)


def test_a_file_that_appears_shortly_after_its_job_is_fetched(open_lab: Any) -> None:
    lab = open_lab()
    with Proxy(lab.server.url) as proxy:
        lab.environ |= {"SEGMIND_API_URL": proxy.url, "SEGMIND_PLATFORM_URL": proxy.url}
        proxy.outputs = [gone, gone, None]
        report = lab.generate(lab.write("fruit", 1))
    assert report.models[0].endings == {"succeeded": 1}
    assert lab.charges == 1


def test_reservations_in_flight_do_not_end_a_run_with_budget_left(open_lab: Any) -> None:
    lab = open_lab(fixed_latency_s=0.3)
    settings = lab.settings(SEGMIND_DAILY_BUDGET_USD="0.1")
    report = lab.generate(lab.write("fruit", 40), settings=settings)
    assert report.stopped_by == "over_budget"
    assert "$0.0000 reserved" in (report.stop_message or "")
    # a price of half a cent: no further one fits
    assert lab.charged_usd <= settings.daily_budget_usd < lab.charged_usd + 2 * lab.charged_usd / lab.charges


def test_an_unreported_cost_is_marked_as_an_estimate(open_lab: Any) -> None:
    lab = open_lab()
    with Proxy(lab.server.url) as proxy, Proxy(lab.server.url, is_platform=True) as platform:
        lab.environ |= {"SEGMIND_API_URL": proxy.url, "SEGMIND_PLATFORM_URL": platform.url}
        platform.statuses[HISTORY] = 502

        def say(document: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in document.items() if name not in {"cost", "metrics"}}

        proxy.answers[JOBS] = say
        (result,) = lab.generate(lab.write("fruit", 2)).models
    assert result.endings == {"succeeded": 2}
    assert result.estimated_usd == result.cost_usd > 0
    assert {each["cost_source"] for each in lab.attempts()} == {"estimated"}


def test_an_upload_url_on_another_host_is_never_sent_in_a_post(open_lab: Any) -> None:
    lab = open_lab()
    (lab.folder / "prompts" / "face.png").write_bytes(png())
    key = lab.write("fruit", 2, models=["instantid"], defaults={"face_image": "face.png"})
    with Proxy(lab.server.url) as proxy:
        lab.environ |= {"SEGMIND_STORAGE_URL": proxy.url}
        proxy.replace("/upload-asset", {"file_urls": ["https://evil.example/face.png"]})
        report = lab.generate(key)
    assert report.models[0].endings == {"failed": 2}
    assert "evil.example" in report.models[0].examples[0]
    assert lab.posts == 0
