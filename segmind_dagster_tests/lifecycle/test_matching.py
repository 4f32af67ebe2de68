"""Which history row is which submission: likeness under every alteration we know, alone and two together."""

from __future__ import annotations

import html
import json
import struct
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.matching import (
    Accepted,
    HistoryRow,
    Likeness,
    Names,
    Reading,
    Submission,
    clock_offset,
    compare,
    compare_bodies,
    judge_absence,
    match,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLUG = "fast-flux-schnell"
BODY = {
    "prompt": "Studio photo of a \u201cred\u201d bicycle & a caf\u00e9 at dawn, number 7",
    "negative_prompt": None,
    "seed": -1,
    "steps": 4,
    "guidance": 0.1,
    "base64": False,
    "aspect_ratio": "16:9",
}


def row(request_id: str = "r1", body: Mapping[str, Any] | None = BODY, model: str = SLUG, **fields: Any) -> HistoryRow:
    return HistoryRow(request_id=request_id, model_slug=model, body=body, **{"created_at": NOON, **fields})


def sent(key: str = "g", body: Mapping[str, Any] = BODY, slug: str = SLUG, at: datetime | None = NOON) -> Submission:
    return Submission(key=key, model_slug=slug, body=body, sent_at=at)


def prompt(change: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: {**body, "prompt": change(body["prompt"])}


def float32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


# what a history may do to a body in progress
ALTERATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "cut": prompt(lambda text: text[:25]),
    "cut with dots": prompt(lambda text: text[:25] + "..."),
    "cut with an ellipsis": prompt(lambda text: text[:25] + "\u2026"),
    "cut in a character": prompt(lambda text: text.encode()[:43].decode(errors="replace")),
    "cut in an entity": prompt(lambda text: html.escape(text)[: html.escape(text).find("&amp;") + 3]),
    "entities": prompt(html.escape),
    "entities twice": prompt(lambda text: html.escape(html.escape(text))),
    "escapes": prompt(lambda text: json.dumps(text)[1:-1]),
    "decomposed": prompt(lambda text: unicodedata.normalize("NFD", text)),
    "compatible": prompt(lambda text: unicodedata.normalize("NFKC", text)),
    "lower case": prompt(str.lower),
    "upper case": prompt(str.upper),
    "plain quotes": prompt(lambda text: text.replace("\u201c", '"').replace("\u201d", '"')),
    "white space": prompt(lambda text: f"  {text.replace(' ', '  ')}\n"),
    "without accents": prompt(lambda text: unicodedata.normalize("NFD", text).encode("ascii", "ignore").decode()),
    "float32": lambda body: {**body, "guidance": float32(body["guidance"])},
    "whole numbers as decimals": lambda body: {**body, "steps": float(body["steps"]), "seed": float(body["seed"])},
    "numbers as text": lambda body: {**body, "steps": str(body["steps"]), "seed": str(body["seed"])},
    "switches as numbers": lambda body: {**body, "base64": int(body["base64"])},
    "switches as text": lambda body: {**body, "base64": str(body["base64"])},
    "a drawn seed": lambda body: {**body, "seed": 981234567},
    "keys added": lambda body: {**body, "scheduler": "DPM++", "samples": 1},
    "empty keys dropped": lambda body: {key: value for key, value in body.items() if value not in (None, False)},
    "a key dropped": lambda body: {key: value for key, value in body.items() if key != "steps"},
    "the prompt dropped": lambda body: {key: value for key, value in body.items() if key != "prompt"},
    "in an envelope": lambda body: {"inputs": body},
}
ADOPTED = {
    "entities", "entities twice", "escapes", "decomposed", "compatible", "lower case", "upper case", "plain quotes",
    "white space", "float32", "whole numbers as decimals", "numbers as text", "switches as numbers",
    "switches as text", "a drawn seed", "keys added", "empty keys dropped",
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_body_is_recognised_or_leaves_doubt_and_is_never_another(name: str) -> None:
    likeness = compare_bodies(ALTERATIONS[name](dict(BODY)), BODY)
    assert likeness >= (Likeness.REWRITTEN if name in ADOPTED else Likeness.SIMILAR)
    assert (likeness >= Likeness.REWRITTEN) == (name in ADOPTED)


@pytest.mark.parametrize(("one", "other"), combinations(ALTERATIONS, 2), ids=lambda name: name)
def test_two_alterations_never_make_it_another_request(one: str, other: str) -> None:
    if "in an envelope" in {one, other}:
        one, other = sorted((one, other), key=lambda name: name == "in an envelope")
    if "the prompt dropped" in {one, other}:
        one, other = sorted((one, other), key=lambda name: name == "the prompt dropped")
    assert compare_bodies(ALTERATIONS[other](ALTERATIONS[one](dict(BODY))), BODY) >= Likeness.SIMILAR


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "An aquarelle of three lighthouses in heavy snow"},
        {"seed": 5},
        {"prompt": "A dog"},
        {"steps": 8, "aspect_ratio": "1:1"},
    ],
)
def test_plainly_different_content_is_another_request(change: dict[str, Any]) -> None:
    body = {**BODY, "seed": 7}
    assert compare_bodies({**body, **change}, body) is Likeness.OTHER


def test_one_setting_that_differs_leaves_doubt() -> None:
    assert compare_bodies({**BODY, "steps": 8}, BODY) is Likeness.SIMILAR


def test_a_row_whose_text_differs_by_a_number_is_not_adopted() -> None:
    other = {**BODY, "prompt": BODY["prompt"].replace("7", "8")}  # type: ignore[union-attr]
    assert compare_bodies(other, BODY) < Likeness.REWRITTEN


@given(st.text(max_size=80), st.sampled_from(sorted(ADOPTED)))
def test_a_rewritten_body_is_never_another_request(text: str, name: str) -> None:
    body = {**BODY, "prompt": text}
    assert compare_bodies(ALTERATIONS[name](dict(body)), body) is not Likeness.OTHER


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=8,
    )
)
def test_a_body_of_any_shape_is_compared_without_an_error(recorded: Any) -> None:
    assert compare_bodies({"prompt": recorded, "seed": recorded}, BODY) in Likeness
    assert compare_bodies(BODY, {"prompt": recorded, "messages": recorded}) in Likeness


@pytest.mark.parametrize("name", [SLUG, "Fast-Flux-Schnell", "fast_flux_schnell", "Fast Flux Schnell", ""])
def test_a_models_name_may_be_spelt_differently_or_be_missing(name: str) -> None:
    assert compare(row(model=name), sent()) is Likeness.EXACT


def test_an_unknown_model_name_leaves_doubt_until_learnt_from_our_requests() -> None:
    shown = row(model="Flux 1 (quick)")
    assert compare(shown, sent(), Names(slugs=frozenset({SLUG, "flux-dev"}))) is Likeness.ALTERED
    names = Names.learnt({SLUG}, [row("ours", model="Flux 1 (quick)")], {"ours": SLUG})
    assert compare(shown, sent(), names) is Likeness.EXACT
    theirs = Names.learnt({SLUG}, [row("ours", model="Flux 1 (quick)")], {"ours": "flux-dev"})
    assert compare(row(model="Flux 1 (quick)", body={**BODY, "steps": 5}), sent(), theirs) is Likeness.OTHER


def test_an_equal_body_under_another_model_name_leaves_doubt() -> None:
    names = Names(slugs=frozenset({SLUG, "flux-dev"}))
    assert compare(row(model="flux-dev"), sent(), names) is Likeness.SIMILAR
    assert compare(row(model="flux-dev", body=None), sent(), names) is Likeness.OTHER


@pytest.mark.parametrize(
    ("minutes", "likeness"),
    [(-1, Likeness.EXACT), (-3, Likeness.SIMILAR), (-1500, Likeness.OTHER), (90, Likeness.EXACT)],
)
def test_a_row_from_before_its_submission_is_not_adopted(minutes: int, likeness: Likeness) -> None:
    assert compare(row(created_at=NOON + timedelta(minutes=minutes)), sent()) is likeness


def test_a_constant_clock_offset_is_measured_by_our_own_requests() -> None:
    rows = [row(f"r{n}", created_at=NOON - timedelta(hours=7, seconds=n)) for n in range(5)]
    owned = {f"r{n}": NOON for n in range(5)}
    assert clock_offset(rows, owned) == -timedelta(hours=7, seconds=4)
    assert clock_offset(rows, {**owned, "r0": NOON - timedelta(hours=1)}) == timedelta(0)
    assert clock_offset(rows, {}) == timedelta(0)


def test_each_submission_gets_its_own_row() -> None:
    bodies = [{**BODY, "prompt": f"fruit number {n}", "seed": n} for n in range(50)]
    matches = match([sent(str(n), body) for n, body in enumerate(bodies)], [row(f"r{n}", bodies[n]) for n in range(40)])
    assert {key: found.request_id for key, found in matches.found.items()} == {str(n): f"r{n}" for n in range(40)}
    assert matches.doubts == {}


@given(arrived=st.integers(0, 5), lost=st.integers(1, 5))
def test_equal_submissions_each_get_their_own_request(arrived: int, lost: int) -> None:
    matches = match([sent(str(n)) for n in range(lost)], [row(f"r{n}") for n in range(arrived)])
    assert len({found.request_id for found in matches.found.values()}) == min(arrived, lost) == len(matches.found)


def test_a_detailed_row_goes_to_the_submission_it_matches_best() -> None:
    more = {**BODY, "scheduler": "DDIM"}
    for rows in ([row("r1"), row("r2", more)], [row("r2", more), row("r1")]):
        matches = match([sent("a"), sent("b", more)], rows)
        assert {key: found.request_id for key, found in matches.found.items()} == {"a": "r1", "b": "r2"}


def test_a_row_that_fits_two_different_submissions_is_not_adopted() -> None:
    one, other = {**BODY, "prompt": "A RED PEAR ON A TABLE"}, {**BODY, "prompt": "a red pear on a table"}
    matches = match([sent("a", one), sent("b", other)], [row("r", {**BODY, "prompt": "A Red Pear On A Table"})])
    assert matches.found == {}
    assert {likeness for likeness, _ in matches.doubts["a"]} == {Likeness.REWRITTEN}


def test_a_row_that_may_answer_a_pending_submission_is_left_alone() -> None:
    assert match([sent("a")], [row()], rivals=[sent("b")]).found == {}
    assert match([sent("a")], [row(), row("r2")], rivals=[sent("b", {**BODY, "seed": 9})]).found["a"].request_id == "r1"


def test_a_row_that_exactly_matches_another_submission_leaves_no_doubt() -> None:
    other = {**BODY, "prompt": BODY["prompt"].replace("7", "8")}  # type: ignore[union-attr]
    assert match([sent("a")], [row("r", other)]).doubts.keys() == {"a"}
    assert match([sent("a")], [row("r", other)], rivals=[sent("b", other)]).doubts == {}


@pytest.mark.parametrize(
    ("status", "cost_usd", "is_doubted"),
    [
        ("FAILED", None, False),
        ("failed", Decimal(0), False),
        ("FAILED", Decimal("0.01"), True),
        ("COMPLETED", None, True),
    ],
)
def test_a_similar_job_that_failed_free_of_charge_leaves_no_doubt(
    status: str, cost_usd: Decimal | None, is_doubted: bool
) -> None:
    other = replace(
        row("r", {**BODY, "prompt": str(BODY["prompt"]).replace("7", "8")}), status=status, cost_usd=cost_usd
    )
    assert bool(match([sent("a")], [other]).doubts) is is_doubted


@pytest.mark.parametrize("count", [3, 600])
def test_free_failed_jobs_leave_no_doubt_about_many_submissions(count: int) -> None:
    bodies = [{"prompt": f"a photo of the city of {n:05d} by night, in rain", "seed": n} for n in range(count)]
    rows = [
        replace(row(f"r{n}", {**body, "prompt": str(body["prompt"])[:23]}), status="FAILED")
        for n, body in enumerate(bodies)
    ]
    assert match([sent(str(n), body) for n, body in enumerate(bodies)], rows).doubts == {}


@pytest.mark.parametrize("count", [3, 600])
def test_truncated_rows_leave_all_similar_submissions_in_doubt(count: int) -> None:
    bodies = [{"prompt": f"a photo of the city of {n:05d} by night, in rain", "seed": n} for n in range(count)]
    cut = [{**body, "prompt": str(body["prompt"])[:23]} for body in bodies]
    matches = match([sent(str(n), body) for n, body in enumerate(bodies)], [row(f"r{n}", cut[n]) for n in range(count)])
    assert matches.found == {}
    assert len(matches.doubts) == count


SETTLE = timedelta(seconds=120)


def reading(at_s: float, *listed: str, accepted: tuple[str, ...] = ("c",)) -> Reading:
    return Reading(
        asked_s=at_s,
        asked_at=NOON + timedelta(seconds=at_s),
        listed=frozenset(listed),
        accepted=[
            Accepted(
                request_id=each, model_slug=SLUG if each == "c" else "flux-dev",
                accepted_at=NOON + timedelta(seconds=1),
            )
            for each in accepted
        ],
    )  # fmt: skip


def judged(*readings: Reading, waited_s: float = 130.0, job_s: float = 5.0, **options: Any) -> str:
    return judge_absence(
        sent(), readings, waited_s=waited_s, settling_time=SETTLE, job_s=job_s,
        **{"is_doubted": False, **options},
    )  # fmt: skip


def test_two_whole_readings_with_a_control_prove_absence() -> None:
    assert judged(reading(65, "c"), reading(130, "c")) == "absent"


@pytest.mark.parametrize(
    ("readings", "options"),
    [
        pytest.param([], {}, id="no reading"),
        pytest.param([reading(130, "c")], {}, id="one reading"),
        pytest.param([reading(100, "c"), reading(130, "c")], {}, id="too close together"),
        pytest.param([reading(65, "c"), reading(119, "c")], {"waited_s": 119.0}, id="too early"),
        pytest.param([reading(65), reading(130, "c")], {}, id="the first leaves out what was accepted"),
        pytest.param([reading(65, "c"), reading(130)], {}, id="the last leaves out what was accepted"),
        pytest.param([reading(65, "d", accepted=("d",)), reading(130, "d", accepted=("d",))], {}, id="no control"),
        pytest.param([reading(65, accepted=()), reading(2000, accepted=())], {"waited_s": 2000.0}, id="nothing known"),
        pytest.param([reading(65, "c"), reading(130, "c")], {"job_s": 60.0}, id="a job may still be at work"),
    ],
)
def test_weaker_evidence_does_not_prove_absence(readings: list[Reading], options: dict[str, Any]) -> None:
    assert judged(*readings, **options) == "wait"


def test_without_a_control_readings_have_to_span_eight_settling_times() -> None:
    assert judged(reading(65, "d", accepted=("d",)), reading(1000, "d", accepted=("d",)), waited_s=1000.0) == "wait"
    assert judged(reading(65, "d", accepted=("d",)), reading(1026, "d", accepted=("d",)), waited_s=1026.0) == "absent"


def test_a_row_that_leaves_doubt_outweighs_every_reading() -> None:
    assert judged(reading(65, "c"), reading(130, "c"), is_doubted=True) == "doubt"
