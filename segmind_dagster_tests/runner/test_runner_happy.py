"""What a run buys, stores and reports when nothing goes wrong: once, exactly, and nothing the second time."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import V1, V2, png

from segmind_dagster.runner import Batch, generate

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.runner_project import Lab


@pytest.mark.parametrize("resource", [V1, V2])
def test_every_generation_is_bought_once_stored_and_booked_exactly(lab: Lab, resource: str) -> None:
    report = lab.generate(lab.write("fruit", 5, models=[resource]))
    lab.check_all_bought_once(5)
    (result,) = report.models
    assert (result.prompt_set, result.resource, result.endings, result.is_complete) == (
        "fruit",
        resource,
        {"succeeded": 5},
        True,
    )
    assert result.cost_usd == lab.charged_usd > 0
    assert (report.stopped_by, report.stop_message) == (None, None)


@pytest.mark.parametrize("resource", [V1, V2])
def test_a_second_run_sends_no_post_and_says_what_it_saved(lab: Lab, resource: str) -> None:
    key = lab.write("fruit", 4, models=[resource])
    lab.generate(key)
    requests = lab.server.account()["requests"]
    (result,) = lab.generate(key).models
    assert lab.server.account()["requests"] == requests
    assert (result.endings, result.cost_usd, result.saved_usd) == ({"reused": 4}, 0, lab.charged_usd)


def test_a_second_run_needs_no_provider(lab: Lab) -> None:
    key = lab.write("fruit", 2)
    lab.generate(key)
    lab.server.stop()
    assert lab.generate(key).models[0].endings == {"reused": 2}


def test_a_set_for_two_models_buys_each_prompt_of_each(lab: Lab) -> None:
    report = lab.generate(lab.write("fruit", 3, models=[V1, V2]))
    lab.check_all_bought_once(6)
    assert {result.resource: result.endings["succeeded"] for result in report.models} == {V1: 3, V2: 3}
    assert sum(result.cost_usd for result in report.models) == lab.charged_usd


def test_video_and_text_are_stored_as_what_they_are(lab: Lab) -> None:
    key = lab.write("mixed", ["a boat", "a cloud"], models=["wan_t2v_fast", "llama_v3p1_8b_instruct"])
    lab.generate(key)
    lab.check_all_bought_once(4)
    by_resource = {row["resource"]: row for row in lab.generations()}
    video, text = by_resource["wan_t2v_fast"], by_resource["llama_v3p1_8b_instruct"]
    assert (video["output_format"], Path(video["output_uri"]).suffix) == ("mp4", ".mp4")
    assert Path(video["output_uri"]).read_bytes()[4:8] == b"ftyp"
    assert text["output_format"] == "json"
    assert "sandbox" in json.loads(Path(text["output_uri"]).read_text())["choices"][0]["message"]["content"]


def test_each_output_has_a_sidecar_with_the_charged_request(lab: Lab) -> None:
    lab.generate(lab.write("fruit", ["a pear"], defaults={"steps": 3}, seed=7))
    (row,) = lab.generations()
    sidecar = json.loads(Path(row["output_uri"]).with_suffix(".facts.json").read_text())
    assert sidecar["parameters"] == {"prompt": "a pear", "steps": 3, "seed": 7}
    assert {sidecar["request_id"]} == lab.charged_requests()
    assert (sidecar["api_origin"], sidecar["output_sha256"]) == (lab.server.url, row["output_sha256"])


def test_the_body_is_sent_as_asked_for_with_no_default_filled_in(lab: Lab) -> None:
    lab.generate(lab.write("fruit", ["a pear"], defaults={"steps": 3}, seed=7))
    (job,) = lab.server.account()["jobs"]
    assert (job["slug"], job["body"]) == ("fast-flux-schnell", {"prompt": "a pear", "steps": 3, "seed": 7})


def test_local_images_are_uploaded_once_per_content_whatever_their_names(lab: Lab) -> None:
    for name, content in (("a.png", png()), ("b.png", png()), ("c.png", png("blue"))):
        (lab.folder / "prompts" / name).write_bytes(content)
    prompts: Any = [
        {"prompt": f"a man {number}", "image": name} for number, name in enumerate(["a.png", "a.png", "b.png", "c.png"])
    ]
    lab.generate(lab.write("faces", prompts, models=["instantid"]))
    lab.generate(lab.write("more", [{"prompt": "a woman", "image": "b.png"}], models=["instantid"]))
    lab.check_all_bought_once(5)
    account = lab.server.account()
    assert account["requests"]["upload"] == 2
    sent = [job["body"]["face_image"] for job in account["jobs"]]
    assert len(set(sent)) == 2
    assert all(url.startswith(f"{lab.server.url}/assets/") for url in sent)


def test_each_sample_of_a_prompt_is_a_generation(lab: Lab) -> None:
    lab.generate(lab.write("fruit", ["a pear"], samples=3))
    lab.check_all_bought_once(3)
    seeds = {job["body"]["seed"] for job in lab.server.account()["jobs"]}
    assert len(seeds) == 3


def test_changing_one_prompt_buys_one_generation_and_the_old_one_is_no_longer_current(lab: Lab) -> None:
    key = lab.write("fruit", ["a pear", "a plum", "a fig"])
    lab.generate(key)
    lab.write("fruit", ["a pear", "a quince", "a fig"])
    (result,) = lab.generate(key).models
    assert result.endings == {"reused": 2, "succeeded": 1}
    lab.check_all_bought_once(4)
    with lab.ledger() as ledger, ledger.reading() as connection:
        current = connection.exec_driver_sql(
            "SELECT prompt, is_current FROM set_generations JOIN generations USING (generation_id)"
        ).all()
    assert {(prompt, bool(flag)) for prompt, flag in current} == {
        ("a pear", True), ("a plum", False), ("a quince", True), ("a fig", True),
    }  # fmt: skip


def test_the_same_prompts_in_another_order_and_another_set_cost_nothing_more(lab: Lab) -> None:
    lab.generate(lab.write("fruit", ["a pear", "a plum", "a fig"]))
    posts = lab.posts
    (result,) = lab.generate(lab.write("harvest", ["a fig", "a plum", "a pear"])).models
    assert (result.endings, result.cost_usd, result.saved_usd) == ({"reused": 3}, 0, lab.charged_usd)
    assert lab.posts == posts
    lab.check_all_bought_once(3)


def test_a_generation_that_two_sets_of_one_run_share_is_bought_once(lab: Lab) -> None:
    lab.generate(lab.write("fruit", ["a pear", "a plum"]), lab.write("harvest", ["a plum", "a fig"]))
    lab.check_all_bought_once(3)
    assert lab.posts == 3


def test_a_model_outside_the_set_is_empty_with_a_reason(lab: Lab) -> None:
    batch = Batch(lab.prompt_set(lab.write("fruit", 1)), (V1,))
    (result,) = generate(lab.settings(), [batch]).models
    assert (result.endings, result.reason) == ({}, "'fruit' is not aimed at sdxl_newreality.")
    assert (lab.posts, lab.charges) == (0, 0)


def test_the_run_reports_its_progress_at_the_end(lab: Lab) -> None:
    told: list[str] = []
    lab.generate(lab.write("fruit", 3), on_progress=lambda progress: told.append(progress.line()))
    assert told[-1] == f"3/3 done, 0 reused, 0 failed, 0 in flight, ${lab.charged_usd:.4f}"


def test_costs_that_vary_are_reported_as_charged_and_never_as_estimated(open_lab: OpenLab) -> None:
    lab = open_lab(price_jitter=True)
    lab.generate(lab.write("fruit", 8))
    costs = {row["request_id"]: row["cost_usd"] for row in lab.generations()}
    assert costs == {job["request_id"]: Decimal(job["cost_usd"]) for job in lab.server.account()["jobs"]}
    assert len(set(costs.values())) > 1
    assert {row["cost_source"] for row in lab.attempts()} == {"reported"}


def test_hundreds_of_generations_are_each_bought_once(lab: Lab) -> None:
    lab.generate(lab.write("many", 300))
    lab.check_all_bought_once(300)
