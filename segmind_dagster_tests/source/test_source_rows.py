"""Warehouse rows of ledger records: every column, one meaning a name, money that adds up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway.redaction import Redactor
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.lifecycle.failures import PAID_KINDS
from segmind_dagster.source import tables
from segmind_dagster.source.rows import attempt_row, model_row

STATES = ("planned", "submitting", "submitted", "unknown", "succeeded", "failed")
MONEY = st.decimals(0, 1000, places=9)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
ORIGIN = "http://127.0.0.1:1234"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(**fields: Any) -> dict[str, Any]:
    """A generation as one prompt set sees it."""
    columns = dict.fromkeys(column.name for column in GENERATIONS.columns)
    return {
        **columns,
        "generation_id": "g",
        "model_slug": "fast-flux-schnell",
        "state": "succeeded",
        "body": {"prompt": "a pear"},
        "images": {},
        "set_key": "fruit",
        "is_current": True,
        "asked_at": NOON,
        "is_reused": False,
        **fields,
    }


@given(cost=st.none() | MONEY, state=st.sampled_from(STATES), is_reused=st.booleans())
def test_each_row_has_exactly_the_columns_of_its_table(cost: Decimal | None, state: str, *, is_reused: bool) -> None:
    row = model_row(record(cost_usd=cost, state=state, is_reused=is_reused), api_origin=ORIGIN, redactor=Redactor(None))
    assert set(row) == set(tables.MODEL_COLUMNS)
    assert (row["status"], row["prompt_set"], row["api_origin"]) == (state, "fruit", ORIGIN)


@given(cost=st.none() | MONEY, state=st.sampled_from(STATES), is_reused=st.booleans())
def test_cost_and_savings_of_a_set_never_exceed_the_cost(cost: Decimal | None, state: str, *, is_reused: bool) -> None:
    row = model_row(record(cost_usd=cost, state=state, is_reused=is_reused), api_origin=ORIGIN, redactor=Redactor(None))
    # free until it is sent, and after a failure that was not charged; not known where money may have gone
    known = Decimal(0) if cost is None and state in {"planned", "failed"} else cost
    if is_reused:
        assert row["cost_usd"] == 0
        assert row["saved_usd"] == (known if state == "succeeded" else 0)
    else:
        assert (row["cost_usd"], row["saved_usd"]) == (known, 0)


@pytest.mark.parametrize("kind", [*sorted(PAID_KINDS), "from_the_future"])
def test_a_paid_failure_of_unknown_cost_is_not_free(kind: str) -> None:
    row = model_row(
        record(cost_usd=None, state="failed", failure_kind=kind), api_origin=ORIGIN, redactor=Redactor(None)
    )
    assert row["cost_usd"] is None


@given(body=st.dictionaries(st.text(max_size=12), VALUES))
def test_params_exclude_what_has_its_own_column(body: dict[str, Any]) -> None:
    sent = {**body, "prompt": "a pear", "negative_prompt": "stones", "seed": 7}
    params = model_row(record(body=sent), api_origin=ORIGIN, redactor=Redactor(None))["params"]
    assert params == {name: value for name, value in body.items() if name not in {"prompt", "negative_prompt", "seed"}
                      and name != "messages"}  # fmt: skip
    assert sent["prompt"] == "a pear"


def test_a_local_image_is_named_by_its_content_and_never_by_its_path() -> None:
    row = model_row(record(images={"face_image": "ab" * 32}), api_origin=ORIGIN, redactor=Redactor(None))
    assert row["params"] == {"face_image": "sha256:" + "ab" * 32}


@given(cost=st.none() | MONEY, reserved=MONEY, state=st.sampled_from(STATES))
def test_an_attempt_row_has_the_columns_of_its_table_and_its_cost_unchanged(
    cost: Decimal | None, reserved: Decimal, state: str
) -> None:
    columns = dict.fromkeys(column.name for column in ATTEMPTS.columns)
    fields = {**columns, "cost_usd": cost, "reserved_usd": reserved, "state": state, "model_slug": "m"}
    row = attempt_row(fields, api_origin=ORIGIN)
    assert set(row) == set(tables.ATTEMPT_COLUMNS)
    assert row["day"] is None
    assert (row["cost_usd"], row["reserved_usd"], row["status"], row["model"]) == (cost, reserved, state, "m")


@given(moment=st.none() | st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1)))  # noqa: DTZ001  made aware below
def test_times_are_passed_on_as_they_are(moment: datetime | None) -> None:
    aware = None if moment is None else moment.replace(tzinfo=UTC)
    row = model_row(record(submitted_at=aware, completed_at=aware), api_origin=ORIGIN, redactor=Redactor(None))
    assert (row["submitted_at"], row["completed_at"]) == (aware, aware)


@given(moment=st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1)), hours=st.integers(-14, 14))  # noqa: DTZ001  made aware below
def test_the_day_of_an_attempt_is_in_utc(moment: datetime, hours: int) -> None:
    fields = dict.fromkeys(column.name for column in ATTEMPTS.columns) | {"model_slug": "m", "state": "failed"}
    told = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    row = attempt_row({**fields, "intent_at": told}, api_origin=ORIGIN)
    assert row["day"] == (moment - timedelta(hours=hours)).date()


def test_one_quantity_has_one_name_type_and_description_in_every_table() -> None:
    shared = (set(tables.MODEL_COLUMNS) & set(tables.ATTEMPT_COLUMNS)) - {"prompt_set", "status", "cost_usd",
        "request_id", "api_origin", "run_id"}  # fmt: skip
    assert shared
    for name in shared:
        assert tables.MODEL_COLUMNS[name]["data_type"] == tables.ATTEMPT_COLUMNS[name]["data_type"]
        assert tables.MODEL_COLUMNS[name]["description"] == tables.ATTEMPT_COLUMNS[name]["description"]


def test_money_is_decimal_and_every_column_says_what_it_is() -> None:
    for columns in (
        tables.MODEL_COLUMNS,
        tables.ATTEMPT_COLUMNS,
        tables.CREDITS_COLUMNS,
        tables.MODELS_COLUMNS,
        tables.MODELS_PAGE_COLUMNS,
        tables.HISTORY_COLUMNS,
        tables.MODELS_PAGE_ROWS_COLUMNS,
        tables.MODEL_CHANGES_COLUMNS,
        *tables.USAGE_COLUMNS.values(),
        *tables.SPEND_COLUMNS.values(),
    ):
        for name, column in columns.items():
            assert column["description"], name
            assert (column["data_type"] == "decimal") == name.endswith("_usd"), name
            assert (column["data_type"] == "timestamp") == name.endswith("_at"), name
