"""What was paid for and never stored is found in Segmind's history and fetched, never bought a second time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from lab.project import FACE, V1, V2, png
from lab.proxy import HISTORY, Proxy

from segmind_dagster.errors import LedgerError, LedgerMissingError, PromptSetError
from segmind_dagster.ledger.schema import ATTEMPTS
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.recovery.requests import gaps
from segmind_dagster.sandbox import Faults, Lies

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.recovery_project import Lab

    from segmind_dagster.lifecycle.generation import Generation


def asked(lab: Lab, key: str) -> tuple[Generation, ...]:
    return find_prompt_set(key, prompts_dir=lab.folder / "prompts", project_dir=lab.folder).generations


def submit(lab: Lab, request: Generation, **more: Any) -> str:
    """As a run does that dies before it can write anything down."""
    answer = requests.post(
        f"{lab.server.url}/v2/{request.model.slug}",
        data=json.dumps({**request.body, **more}),
        headers={"x-api-key": lab.server.api_key, "Content-Type": "application/json"},
        timeout=10,
    )
    request_id: str = answer.json()["request_id"]
    return request_id


def upload(lab: Lab, content: bytes) -> str:
    import base64

    answer = requests.post(
        f"{lab.server.url}/upload-asset",
        json={"data_urls": [f"data:image/png;base64,{base64.b64encode(content).decode()}"]},
        headers={"x-api-key": lab.server.api_key},
        timeout=10,
    )
    url: str = answer.json()["file_urls"][0]
    return url


@pytest.mark.parametrize("latency_s", [0.02, 1.5])
def test_requests_that_were_paid_or_are_still_running_are_fetched(open_lab: OpenLab, latency_s: float) -> None:
    lab = open_lab(fixed_latency_s=latency_s)
    lab.write("fruit", 6)
    ids = {submit(lab, request) for request in asked(lab, "fruit")[:4]}
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"submitted": 4}
    assert {row["request_id"] for row in lab.generations()} == ids
    assert lab.generate("fruit").models[0].endings == {"succeeded": 6}
    assert lab.posts == 6
    lab.check_whole()


def test_outputs_on_disk_and_requests_in_flight_are_both_restored(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.3)
    lab.write("fruit", 3)
    lab.generate("fruit")
    lab.write("fruit", 6)
    for request in asked(lab, "fruit")[3:]:
        submit(lab, request)
    lab.lose_ledger()
    assert lab.rebuild().restored == {"succeeded": 3, "submitted": 3}
    assert lab.generate("fruit").models[0].endings == {"reused": 3, "succeeded": 3}
    assert lab.posts == 6
    lab.check_whole()


def test_failed_requests_are_restored_as_free_and_bought_again(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.0, faults=Faults(script=["failed", "failed_validation"]))
    lab.write("fruit", 2)
    for request in asked(lab, "fruit"):
        submit(lab, request)
    assert lab.rebuild().restored == {}
    assert lab.generate("fruit").models[0].endings == {"succeeded": 2}
    lab.check_whole()


def test_a_body_returned_as_text_with_extra_keys_is_recognised(open_lab: OpenLab) -> None:
    lab = open_lab(history_body_as_string=True)
    lab.write("fruit", 2)
    for request in asked(lab, "fruit"):
        submit(lab, request, steps=4)
    assert lab.rebuild().restored == {"submitted": 2}


def test_unclaimed_requests_are_counted_and_left_alone(lab: Lab) -> None:
    lab.write("other", 2)
    for request in asked(lab, "other"):
        submit(lab, request)
    lab.forget("other")
    lab.generate(lab.write("fruit", 1))
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.unclaimed) == ({"succeeded": 1}, 2)
    assert rebuilt.unclaimed_usd + rebuilt.spent_usd == lab.charged_usd
    assert "2 requests were charged" in "\n".join(rebuilt.lines())


def test_equal_bodies_get_different_requests(lab: Lab) -> None:
    lab.write("fruit", ["a pear"], samples=3, seed=-1)
    requested = asked(lab, "fruit")
    assert len({json.dumps(request.body) for request in requested}) == 1
    ids = {submit(lab, requested[0]), submit(lab, requested[0])}
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"submitted": 2}
    assert {row["request_id"] for row in lab.generations()} == ids
    lab.generate("fruit")
    assert lab.posts == 3
    lab.check_whole()


def test_one_prompt_with_other_parameters_is_another_generation(lab: Lab) -> None:
    lab.write("fruit", ["a pear"], seed=[1, 2, 3])
    # whatever is looked at first, its neighbours come before it
    last = max(asked(lab, "fruit"), key=lambda request: request.generation_id)
    found = submit(lab, last)
    lab.rebuild()
    assert {row["generation_id"]: row["request_id"] for row in lab.generations()} == {last.generation_id: found}


def test_what_was_bought_once_more_after_a_paid_failure_is_fetched(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["undecodable", "ok"]))
    lab.write("fruit", 1)
    lab.generate("fruit")
    lab.load()
    again = submit(lab, asked(lab, "fruit")[0])
    lab.lose_ledger()
    assert lab.rebuild().restored == {"submitted": 1}
    assert lab.generate("fruit").models[0].endings == {"succeeded": 1}
    assert [row["request_id"] for row in lab.generations()] == [again]
    assert [row["state"] for row in lab.ledger_rows(ATTEMPTS)] == ["failed", "succeeded"]
    assert sum((row["cost_usd"] for row in lab.ledger_rows(ATTEMPTS)), Decimal(0)) == lab.charged_usd
    assert lab.posts == 2


def test_a_request_that_an_output_names_is_not_given_to_another_generation(lab: Lab) -> None:
    lab.write("fruit", ["a pear"], samples=2, seed=-1)
    lab.generate("fruit")
    lab.outputs[0].unlink()
    lab.sidecars[0].unlink()
    lab.lose_ledger()
    assert lab.rebuild().restored == {"succeeded": 1, "submitted": 1}
    assert lab.generate("fruit").models[0].endings == {"reused": 1, "succeeded": 1}
    assert lab.posts == 2
    lab.check_whole()


def test_local_pictures_are_distinguished_by_content(lab: Lab) -> None:
    for name, colour in (("a.png", "orange"), ("b.png", "blue")):
        (lab.folder / "prompts" / name).write_bytes(png(colour))
    # with one seed the pictures are all that differs
    lab.write("faces", [{"prompt": "a man", "image": name} for name in ("a.png", "b.png")], models=[FACE], seed=5)
    first, last = sorted(asked(lab, "faces"), key=lambda request: request.generation_id)
    path = last.images["face_image"].path
    assert path is not None
    found = submit(lab, last, face_image=upload(lab, path.read_bytes()))
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"submitted": 1}
    assert {row["generation_id"]: row["request_id"] for row in lab.generations()} == {last.generation_id: found}
    lab.generate("faces")
    assert (lab.posts, lab.charges) == (2, 2)
    assert first.generation_id in {row["generation_id"] for row in lab.generations()}
    lab.check_whole()


def test_an_unreadable_picture_leaves_doubt_and_is_reported(lab: Lab) -> None:
    (lab.folder / "prompts" / "a.png").write_bytes(png())
    lab.write("faces", [{"prompt": "a man", "image": "a.png"}], models=[FACE])
    (request,) = asked(lab, "faces")
    submit(lab, request, face_image=f"{lab.server.url}/assets/{'0' * 64}.png")
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.doubtful) == ({"unknown": 1}, (request.generation_id,))
    lab.generate("faces")
    assert lab.posts == 1
    assert "may have been paid for" in "\n".join(rebuilt.lines())


def test_a_renamed_set_finds_generations_paid_under_its_old_name(lab: Lab) -> None:
    lab.write("fruit", 2)
    for request in asked(lab, "fruit"):
        submit(lab, request)
    lab.forget("fruit")
    lab.write("renamed", [f"fruit number {n}" for n in range(2)])
    assert lab.rebuild().restored == {"submitted": 2}
    assert lab.generate("renamed").models[0].endings == {"succeeded": 2}
    assert lab.posts == 2
    lab.check_whole()


def test_without_the_history_nothing_is_rebuilt_and_the_guard_stays(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 1))
    lab.lose_ledger()
    with pytest.raises(LedgerError, match=r"was not rebuilt.*request-history"):
        lab.rebuild(SEGMIND_PLATFORM_URL="http://127.0.0.1:9")
    with pytest.raises(LedgerError, match="401"):
        lab.rebuild(SEGMIND_API_KEY="SG_wrong")
    with pytest.raises(LedgerMissingError):
        lab.generate("fruit")


def test_a_history_without_known_requests_rebuilds_nothing_unless_forced(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 2))
    lab.write("fruit", 3)
    submit(lab, asked(lab, "fruit")[2])
    lab.lose_ledger()
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.answers[HISTORY] = lambda _: {"data": []}
        with pytest.raises(LedgerError, match=r"leaves out 2 of the requests.*--despite-gaps"):
            lab.rebuild(SEGMIND_PLATFORM_URL=proxy.url)
        with pytest.raises(LedgerMissingError):
            lab.generate("fruit")
    assert lab.rebuild(despite_gaps=True).restored == {"succeeded": 2, "submitted": 1}
    lab.generate("fruit")
    assert lab.posts == 3
    lab.check_whole()


def test_requests_known_only_to_the_warehouse_must_be_listed_too(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 2))
    lab.load()
    lab.lose_ledger()
    for path in (*lab.outputs, *lab.sidecars):
        path.unlink()
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.answers[HISTORY] = lambda document: {"data": document["data"][:1]}
        with pytest.raises(LedgerError, match="leaves out 1 of the requests"):
            lab.rebuild(SEGMIND_PLATFORM_URL=proxy.url)


NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ages_days", "listed", "absent"),
    [
        ({"new": 1, "old": 200}, {"new"}, []),
        ({"new": 1, "old": 200}, {"old"}, ["new"]),
        ({"new": 40, "older": 200}, set(), []),
        ({"new": 29, "older": 200}, set(), ["new"]),
        ({"a": 50, "b": 60, "c": 70}, {"a", "c"}, ["b"]),
    ],
)
def test_only_requests_older_than_the_listed_ones_may_have_expired(
    ages_days: dict[str, int], listed: set[str], absent: list[str]
) -> None:
    expected = {each: NOW - timedelta(days=days) for each, days in ages_days.items()}
    assert gaps(expected, listed, now=NOW) == absent


def test_a_prompt_file_that_cannot_be_read_stops_it_because_its_requests_would_be_overlooked(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 1))
    lab.lose_ledger()
    (lab.folder / "prompts" / "broken.yaml").write_text("prompts: [", encoding="utf-8")
    with pytest.raises(PromptSetError, match="broken"):
        lab.rebuild()
    with pytest.raises(LedgerMissingError):
        lab.generate("fruit")


def test_unfinished_warehouse_rows_found_in_the_history_are_fetched(open_lab: OpenLab) -> None:
    lab = open_lab(
        faults=Faults(script=["accepted_then_reset"]), environ={"SEGMIND_PLATFORM_URL": "http://127.0.0.1:9"}
    )
    lab.write("fruit", 2)
    lab.generate("fruit")
    assert lab.states() == ["succeeded", "unknown"]
    lab.load()
    del lab.environ["SEGMIND_PLATFORM_URL"]
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"succeeded": 1, "submitted": 1}
    lab.generate("fruit")
    assert (lab.posts, lab.charges) == (2, 2)
    lab.check_whole()
    assert [row["attempt"] for row in lab.ledger_rows(ATTEMPTS)] == [1, 1]


def test_unfinished_warehouse_rows_missing_in_the_history_are_decided_by_the_next_run(
    open_lab: OpenLab,
) -> None:
    lab = open_lab(faults=Faults(script=["bad_gateway"]), environ={"SEGMIND_PLATFORM_URL": "http://127.0.0.1:9"})
    lab.write("fruit", 3)
    lab.generate("fruit")
    assert lab.states() == ["succeeded", "succeeded", "unknown"]
    lab.load()
    del lab.environ["SEGMIND_PLATFORM_URL"]
    lab.lose_ledger()
    assert lab.rebuild().restored == {"succeeded": 2, "unknown": 1}
    # a run stays open longer than any of these jobs took, which waited for the platform
    lab.generate("fruit", settings=lab.settings(SEGMIND_UNKNOWN_SETTLE_SECONDS="1"))
    assert (lab.posts, lab.charges) == (4, 3)
    lab.check_whole()


@pytest.mark.parametrize("resource", [V1, V2])
def test_earlier_failed_attempts_are_restored_from_the_warehouse(open_lab: OpenLab, resource: str) -> None:
    lab = open_lab(faults=Faults(script=["rate_limited", "ok"], rate_limit_reset_s=0.1))
    lab.generate(lab.write("fruit", 1, models=[resource]))
    lab.load()
    before = lab.attempt_fields(), lab.generation_fields(), lab.spending()
    assert [row["state"] for row in before[0]] == ["failed", "succeeded"]
    lab.lose_ledger()
    lab.rebuild()
    assert (lab.attempt_fields(), lab.generation_fields(), lab.spending()) == before


def test_a_retry_after_the_last_load_is_not_booked_twice(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=["invalid"]))
    lab.write("fruit", 1)
    lab.generate("fruit")
    assert lab.states() == ["failed"]
    lab.load()
    lab.generate("fruit")
    before = lab.attempt_fields()
    lab.lose_ledger()
    lab.rebuild()
    assert lab.attempt_fields() == before
    assert sum((row["cost_usd"] or Decimal(0) for row in before), Decimal(0)) == lab.charged_usd
    lab.check_whole()


def test_after_a_rebuild_that_was_refused_nothing_is_bought_until_one_succeeds(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.0)
    lab.write("fruit", 3)
    for request in asked(lab, "fruit"):
        submit(lab, request)
    with Proxy(lab.server.url, is_platform=True) as proxy:
        proxy.statuses[HISTORY] = 503
        with pytest.raises(LedgerError, match="was not rebuilt"):
            lab.rebuild(SEGMIND_PLATFORM_URL=proxy.url)
        report = lab.generate("fruit", settings=lab.settings(SEGMIND_PLATFORM_URL=proxy.url))
    assert (report.models[0].endings, lab.posts) == ({"held_back": 3}, 3)
    assert "`segmind-dagster rebuild` was run for this ledger and restored nothing" in str(report.stop_message)
    assert lab.rebuild().restored == {"submitted": 3}
    assert lab.generate("fruit").models[0].endings == {"succeeded": 3}
    assert lab.posts == 3


def test_requests_whose_bodies_cannot_be_read_leave_doubt_and_buy_nothing(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.0, lies=Lies(alterations=["body_missing"]))
    lab.write("fruit", 2)
    submit(lab, asked(lab, "fruit")[0])
    assert lab.rebuild().restored == {"unknown": 2}
    lab.generate("fruit")
    assert lab.posts == 1


def test_a_backup_with_local_pictures_is_noticed_before_the_first_post(open_lab: OpenLab) -> None:
    lab = open_lab(fixed_latency_s=0.0)
    (lab.folder / "prompts" / "face.png").write_bytes(png())
    lab.write("faces", 2, models=[FACE], image="face.png")
    address = upload(lab, png())
    for request in asked(lab, "faces"):
        submit(lab, request, face_image=address)
    report = lab.generate("faces")
    assert (report.models[0].endings, lab.posts) == ({"held_back": 2}, 2)
    assert "segmind-dagster rebuild" in str(report.stop_message)
    lab.rebuild()
    assert lab.generate("faces").models[0].endings == {"succeeded": 2}
    assert lab.posts == 2


def test_unreadable_foreign_requests_stop_a_run_only_until_a_rebuild(
    lab: Lab,
) -> None:
    """The account's playground, say, with a history that shows no bodies: what may be ours is left to a person."""
    lab.generate(lab.write("before", 1))
    stranger = {"prompt": "a harbour at night", "seed": 1}
    with Proxy(lab.server.url, is_platform=True) as proxy:
        lab.environ["SEGMIND_PLATFORM_URL"] = proxy.url
        proxy.answers[HISTORY] = lambda document: {
            **document, "data": [{**row, "request_body": {}} for row in document["data"]]
        }  # fmt: skip
        key = lab.write("fruit", 3)
        submit(lab, asked(lab, key)[0], **stranger)
        stopped = lab.generate(key)
        assert (lab.posts, "rebuild" in (stopped.stop_message or "")) == (2, True)
        lab.rebuild()
        again = lab.generate(key)
    endings = again.models[0].endings
    assert endings["held_back"] == 0, again.stop_message
    assert endings["succeeded"] + endings["unknown"] == 3
