"""A ledger is lost together with other things: the report says what could not be restored, and what can be is."""

from __future__ import annotations

import json
import secrets
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import fsspec
import pytest
from lab.project import FACE, TEXT, V1, V2, VIDEO, png
from lab.recovery_project import edit

from segmind_dagster.errors import LedgerError, LedgerMissingError, LedgerOutdatedError
from segmind_dagster.ledger.schema import ATTEMPTS
from segmind_dagster.recovery.joining import UNKNOWN_SET
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from conftest import OpenLab
    from lab.recovery_project import Lab

# what sidecars held before they held the books
NEW_FIELDS = ("prompt_set", "attempt", "images", "stored_at", "latency_ms", "cost_usd", "cost_source")


def old_sidecars(lab: Lab) -> None:
    for sidecar in lab.sidecars:
        edit(sidecar, **dict.fromkeys(NEW_FIELDS))


@pytest.mark.parametrize("is_loaded", [True, False])
def test_older_sidecars_suffice_with_the_history_or_the_warehouse(lab: Lab, *, is_loaded: bool) -> None:
    (lab.folder / "prompts" / "face.png").write_bytes(png())
    keys = [
        lab.write("fruit", 3, models=[V1, V2]),
        lab.write("faces", [{"prompt": "a man", "image": "face.png"}], models=[FACE]),
    ]
    lab.generate(*keys)
    if is_loaded:
        lab.load()
    old_sidecars(lab)
    before = lab.spending()
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.spent_usd, rebuilt.estimated_usd) == (lab.charged_usd, 0)
    assert lab.spending() == before
    assert {row["cost_source"] for row in lab.ledger_rows(ATTEMPTS)} == {"reported" if is_loaded else "history"}
    posts = lab.posts
    lab.generate(*keys)
    assert lab.posts == posts
    lab.check_whole()


@pytest.mark.parametrize("is_loaded", [True, False])
def test_generations_in_no_prompt_file_are_restored_too(lab: Lab, *, is_loaded: bool) -> None:
    lab.generate(lab.write("fruit", ["a pear"], samples=3), lab.write("talk", ["hello"], models=[TEXT]))
    if is_loaded:
        lab.load()
    before = lab.generation_fields(), lab.attempt_fields(), lab.spending(), lab.memberships()
    lab.forget("fruit")
    lab.forget("talk")
    lab.lose_ledger()
    lab.rebuild()
    assert (lab.generation_fields(), lab.attempt_fields(), lab.spending(), lab.memberships()) == before


def test_a_prompt_that_was_taken_out_is_no_longer_current(lab: Lab) -> None:
    lab.generate(lab.write("fruit", ["a pear", "a fig"]))
    lab.write("fruit", ["a pear"])
    lab.lose_ledger()
    lab.rebuild()
    by_prompt = {row["generation_id"]: row["prompt"] for row in lab.generations()}
    assert {(by_prompt[key], flag) for _, key, flag in lab.memberships()} == {("a pear", True), ("a fig", False)}


def test_a_picture_without_its_sidecar_is_identified_by_embedded_provenance(lab: Lab) -> None:
    key = lab.write("fruit", 4)
    lab.generate(key)
    before = lab.generation_fields()
    for sidecar in lab.sidecars[:3]:
        sidecar.unlink()
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"succeeded": 4}
    assert (rebuilt.verdicts["undigested"], rebuilt.verdicts["owned"]) == (3, 1)
    changing = ("cost_source",)
    assert [{k: v for k, v in row.items() if k not in changing} for row in lab.generation_fields()] == [
        {k: v for k, v in row.items() if k not in changing} for row in before
    ]
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts
    lab.check_whole()


def test_a_picture_without_its_sidecar_is_compared_with_the_digest_in_the_warehouse(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 3))
    lab.load()
    before = lab.generation_fields(), lab.attempt_fields()
    for sidecar in lab.sidecars:
        sidecar.unlink()
    lab.lose_ledger()
    assert lab.rebuild().verdicts == {"owned": 3}
    assert (lab.generation_fields(), lab.attempt_fields()) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "a list", "binary", "of another generation"])
def test_an_unreadable_sidecar_counts_as_missing(lab: Lab, damage: str) -> None:
    key = lab.write("fruit", 2)
    lab.generate(key)
    first, second = lab.sidecars
    content = first.read_bytes()
    first.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "a list": b"[1, 2]",
            "binary": b"\xff\x00\xfe",
            "of another generation": second.read_bytes(),
        }[damage]
    )
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.verdicts) == ({"succeeded": 2}, {"owned": 1, "undigested": 1})
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts
    lab.check_whole()


def test_videos_and_texts_without_sidecars_are_fetched_again_not_bought(lab: Lab) -> None:
    key = lab.write("mixed", ["a boat", "a cloud"], models=[VIDEO, TEXT])
    lab.generate(key)
    for sidecar in lab.sidecars:
        sidecar.unlink()
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.verdicts) == ({"submitted": 4}, {"nameless": 4})
    posts = lab.posts
    assert all(result.endings == {"succeeded": 2} for result in lab.generate(key).models)
    assert lab.posts == posts
    lab.check_whole()


@pytest.mark.parametrize("is_history_known", [True, False])
def test_a_picture_whose_bytes_changed_is_fetched_again(lab: Lab, *, is_history_known: bool) -> None:
    key = lab.write("fruit", 3)
    lab.generate(key)
    if not is_history_known:
        lab.forget(key)
    victim = lab.outputs[0]
    genuine = victim.read_bytes()
    victim.write_bytes(genuine[:-40] + bytes(byte ^ 0x55 for byte in genuine[-40:]))
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.verdicts["changed"]) == ({"succeeded": 2, "submitted": 1}, 1)
    assert "1 outputs are not the bytes that were stored" in "\n".join(rebuilt.lines())
    posts = lab.posts
    assert {ended.ending for ended in lab.collect().values()} == {"succeeded"}
    assert lab.posts == posts
    assert victim.read_bytes() != b""
    lab.check_whole()


def test_missing_outputs_are_fetched_again(lab: Lab) -> None:
    key = lab.write("fruit", 4, models=[V1, V2])
    lab.generate(key)
    lab.load()
    for number, path in enumerate(lab.outputs):
        if number % 2:
            path.unlink()
        if number % 4 == 3:
            path.with_suffix(".facts.json").unlink()
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"succeeded": 4, "submitted": 4}
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts
    lab.check_whole()


def test_with_only_prompt_files_and_account_everything_is_fetched_again(lab: Lab) -> None:
    key = lab.write("fruit", 3, models=[V1, V2])
    lab.generate(key)
    for path in [*lab.outputs, *lab.sidecars]:
        path.unlink()
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.spent_usd) == ({"submitted": 6}, lab.charged_usd)
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts
    lab.check_whole()


def test_expired_outputs_are_shown_as_paid_and_not_bought_again(open_lab: OpenLab) -> None:
    days_s = [0.0]
    lab = open_lab(clock=lambda: time.time() + days_s[0])
    key = lab.write("fruit", 2)
    lab.generate(key)
    lab.outputs[0].unlink()
    lab.lose_ledger()
    lab.rebuild()
    posts = lab.posts
    days_s[0] = 8 * 86_400
    lab.generate(key)
    lab.generate(key)
    assert lab.posts == posts
    assert sorted((row["state"], row["failure_kind"]) for row in lab.generations()) == [
        ("failed", "expired"), ("succeeded", None),
    ]  # fmt: skip
    assert sum((row["cost_usd"] for row in lab.ledger_rows(ATTEMPTS)), Decimal(0)) == lab.charged_usd


def test_outputs_of_another_origin_are_left_out_and_counted(lab: Lab) -> None:
    key = lab.write("fruit", 3)
    lab.generate(key)
    contents = {path: path.read_bytes() for path in lab.outputs}
    edit(lab.sidecars[0], api_origin="https://api.segmind.com")
    edit(lab.sidecars[1], api_origin=f"{lab.server.url}#other")
    posts = lab.posts
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert rebuilt.verdicts == {"owned": 1, "foreign": 2}
    # this origin's own history holds requests for them: those are fetched
    assert rebuilt.restored == {"succeeded": 1, "submitted": 2}
    assert "2 outputs are of another API origin" in "\n".join(rebuilt.lines())
    assert {path: path.read_bytes() for path in lab.outputs} == contents
    lab.generate(key)
    assert lab.posts == posts
    lab.check_whole()


def test_rows_of_another_origin_in_the_warehouse_are_left_out_and_counted(lab: Lab, open_lab: OpenLab) -> None:
    lab.generate(lab.write("fruit", 2))
    lab.load()
    other = open_lab()
    other.folder = lab.folder
    other.environ = {**lab.environ, "SEGMIND_API_URL": other.server.url}
    for path in [*lab.outputs, *lab.sidecars]:
        path.unlink()
    lab.lose_ledger()
    rebuilt = other.rebuild()
    assert (rebuilt.restored, rebuilt.foreign_rows) == ({}, 4)


def test_a_folder_of_another_origin_is_refused_and_stays_guarded(lab: Lab) -> None:
    key = lab.write("fruit", 2)
    lab.generate(key)
    lab.lose_ledger()
    with pytest.raises(LedgerError, match="another API origin"):
        lab.rebuild(SEGMIND_ACCOUNT="other")
    with pytest.raises(LedgerMissingError):
        lab.generate(key)


def test_files_that_are_no_outputs_are_left_alone(lab: Lab) -> None:
    key = lab.write("fruit", 1)
    lab.generate(key)
    folder = lab.outputs[0].parent
    strangers = [folder / "notes.md", folder / "holiday.jpg", folder / ".hidden.jpg", folder.parent / "top.jpg"]
    for path in strangers:
        path.write_bytes(b"mine")
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.verdicts) == ({"succeeded": 1}, {"owned": 1, "nameless": 1})
    assert rebuilt.not_restored == (f"{V2}/holiday (nameless)",)
    assert [path.read_bytes() for path in strangers] == [b"mine"] * 4


def test_two_outputs_that_claim_one_request_are_both_kept_and_it_is_booked_once(lab: Lab) -> None:
    key = lab.write("fruit", 2)
    lab.generate(key)
    first = json.loads(lab.sidecars[0].read_text())
    edit(lab.sidecars[1], request_id=first["request_id"])
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"succeeded": 2}
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts


def test_paid_failures_that_the_warehouse_remembers_stay_failed_and_are_not_bought_again(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"undecodable": 1.0}))
    key = lab.write("fruit", 2)
    lab.generate(key)
    lab.load()
    before = lab.generation_fields(), lab.attempt_fields(), lab.spending()
    assert {row["failure_kind"] for row in lab.generations()} == {"bad_output"}
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert rebuilt.restored == {"failed": 2}
    assert (lab.generation_fields(), lab.attempt_fields(), lab.spending()) == before
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts


def test_outputs_without_a_known_set_belong_to_no_set(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 1))
    old_sidecars(lab)
    lab.forget("fruit")
    lab.lose_ledger()
    lab.rebuild()
    (row,) = lab.generations()
    assert (row["prompt_set"], row["prompt"], row["seed"]) == (UNKNOWN_SET, "fruit number 0", row["body"]["seed"])
    assert lab.memberships() == set()
    lab.check_whole()
    lab.load()


def test_an_output_without_any_known_cost_is_estimated_and_marked_so(lab: Lab, open_lab: OpenLab) -> None:
    lab.generate(lab.write("fruit", 1))
    old_sidecars(lab)
    # as if the provider had forgotten: another account of the same origin has no history of it
    fresh = open_lab()
    edit(lab.sidecars[0], api_origin=fresh.server.url)
    fresh.folder, fresh.environ = lab.folder, {**lab.environ, "SEGMIND_API_URL": fresh.server.url}
    lab.lose_ledger()
    rebuilt = fresh.rebuild()
    assert (rebuilt.restored, rebuilt.spent_usd) == ({"succeeded": 1}, 0)
    (attempt,) = fresh.ledger_rows(ATTEMPTS)
    assert (attempt["cost_source"], attempt["cost_usd"]) == ("estimated", rebuilt.estimated_usd)
    assert rebuilt.estimated_usd > 0


@pytest.mark.parametrize("fault", ["invalid", "failed_validation"])
def test_a_ledger_from_a_backup_is_brought_up_to_what_is_stored(open_lab: OpenLab, fault: str) -> None:
    lab = open_lab(faults=Faults(script=[fault]))
    lab.generate(lab.write("fruit", 2), lab.write("harvest", 1))
    ledger = lab.folder / "data" / "ledger.sqlite"
    backup = ledger.read_bytes()
    lab.generate("fruit")
    assert lab.states() == ["succeeded"] * 3
    lab.lose_ledger()
    ledger.write_bytes(backup)
    assert lab.states() == ["failed", "succeeded", "succeeded"]
    posts = lab.posts
    with pytest.raises(LedgerOutdatedError, match="segmind-dagster rebuild"):
        lab.generate("fruit")
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.present, rebuilt.outdated) == ({"succeeded": 1}, 2, ())
    lab.generate("fruit")
    assert (lab.states(), lab.posts) == (["succeeded"] * 3, posts)
    lab.check_whole()
    assert lab.rebuild().restored.total() == 0


def test_outputs_in_a_bucket_are_restored_like_those_in_a_folder(lab: Lab) -> None:
    url = f"memory://bucket-{secrets.token_hex(4)}/outputs"
    lab.environ["SEGMIND_OUTPUTS_URL"] = url
    key = lab.write("fruit", 3, models=[V1, V2])
    lab.generate(key)
    before = lab.generation_fields(), lab.attempt_fields(), lab.spending()
    lab.lose_ledger()
    assert lab.rebuild().restored == {"succeeded": 6}
    assert (lab.generation_fields(), lab.attempt_fields(), lab.spending()) == before
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts
    fsspec.filesystem("memory").rm(url, recursive=True)


@pytest.mark.postgres
def test_a_ledger_in_postgresql_is_restored_like_one_in_a_file(lab: Lab, postgres_url: str) -> None:
    key = lab.write("fruit", 3, models=[V1, V2])
    lab.generate(key)
    before = lab.generation_fields(), lab.attempt_fields(), lab.spending(), lab.memberships()
    lab.lose_ledger()
    lab.environ["SEGMIND_LEDGER_URL"] = postgres_url
    assert lab.rebuild().restored == {"succeeded": 6}
    assert lab.rebuild().restored == {}
    assert (lab.generation_fields(), lab.attempt_fields(), lab.spending(), lab.memberships()) == before
    posts = lab.posts
    lab.generate(key)
    assert lab.posts == posts
    lab.check_whole()
