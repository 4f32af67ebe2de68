"""What is exported of a generation and what is not, from plain records; and texts that stay text in a README."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.export.export import _cell
from segmind_dagster.export.files import file_name
from segmind_dagster.export.rows import COLUMNS, choose
from segmind_dagster.gateway.redaction import Redactor

ORIGIN = "https://api.segmind.com"


def record(**changes: Any) -> dict[str, Any]:
    fields = dict.fromkeys(
        (
            "error", "failure_kind", "negative_prompt", "request_id", "submitted_at", "completed_at", "provider_sha256",
            "queue_ms", "inference_ms", "latency_ms", "run_id", "width", "height", "asked_at",
        )
    )  # fmt: skip
    return {
        **fields,
        "generation_id": "a" * 32, "model_slug": "fast-flux-schnell", "resource": "fast_flux_schnell",
        "set_key": "fruit",
        "state": "succeeded", "prompt": "a pear", "body": {"prompt": "a pear", "steps": 3, "seed": 7}, "images": {},
        "variables": {"fruit": "pear"}, "seed": 7, "sample": 0, "attempts": 1, "is_reused": False, "is_current": True,
        "cost_usd": Decimal("0.003"), "cost_source": "reported", "output_uri": "/o/a.jpg", "output_sha256": "0" * 64,
        "output_bytes": 9, "output_format": "jpeg", **changes,
    }  # fmt: skip


def test_a_stored_generation_is_exported_under_the_column_names() -> None:
    (item,), left_out = choose([record()], api_origin=ORIGIN, redactor=Redactor(None), also_former=False)
    assert left_out == []
    assert set(item.fields) == set(COLUMNS)
    assert item.fields["params"] == '{"steps": 3}'
    assert item.fields["variables"] == '{"fruit": "pear"}'
    assert item.fields["api_origin"] == ORIGIN
    assert file_name(item) == f"fast_flux_schnell/{'a' * 32}.jpg"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "failed", "failure_kind": "job_failed", "error": "no"}, "job_failed"),
        ({"state": "unknown"}, "unknown"),
        ({"state": "planned"}, "planned"),
        ({"state": "succeeded", "output_uri": None}, "succeeded"),
    ],
)
def test_generations_not_stored_are_left_out_with_the_reason(changes: dict[str, Any], why: str) -> None:
    items, (left,) = choose([record(**changes)], api_origin=ORIGIN, redactor=Redactor(None), also_former=False)
    assert items == []
    assert (left.why, left.prompt) == (why, "a pear")


def test_prompts_no_longer_in_the_set_are_exported_only_on_request() -> None:
    former = [record(is_current=False)]
    assert choose(former, api_origin=ORIGIN, redactor=Redactor(None), also_former=False) == ([], [])
    (item,), _ = choose(former, api_origin=ORIGIN, redactor=Redactor(None), also_former=True)
    assert item.fields["is_current"] is False


@pytest.mark.parametrize(
    ("form", "kind"), [("jpeg", "image"), ("mp4", "video"), ("mp3", "audio"), ("json", "text"), (None, "image")]
)
def test_a_model_that_left_the_registry_is_known_by_its_format(form: str | None, kind: str) -> None:
    (item,), _ = choose(
        [record(model_slug="long-gone", output_format=form)],
        api_origin=ORIGIN,
        redactor=Redactor(None),
        also_former=False,
    )
    assert item.kind == kind


def test_a_signed_url_in_the_parameters_is_not_exported() -> None:
    body = {"prompt": "a pear", "image": "https://bucket.example/x.png?X-Amz-Signature=abcdef"}
    (item,), _ = choose([record(body=body)], api_origin=ORIGIN, redactor=Redactor(None), also_former=False)
    assert "Signature" not in item.fields["params"]


@given(st.text())
def test_any_text_fits_in_one_table_cell(text: str) -> None:
    cell = _cell(text)
    assert len(cell.splitlines()) <= 1
    assert re.search(r"(?<!\\)(?:\\\\)*[|<>`\[\]]", cell) is None
