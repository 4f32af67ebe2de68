"""The catalogue's drift: what changed, from what to what and when; noise and silence are no change."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.registry import bundled_catalogue
from segmind_dagster.source.catalogue import catalogue_changes

if TYPE_CHECKING:
    from lab.proxy import Proxy
    from lab.source_project import Project

LIST = "/inference-model-information/list"
ORIGIN, NOW = "https://api.segmind.com", datetime(2026, 3, 1, tzinfo=UTC)
FLUX = bundled_catalogue().get("fast-flux-schnell")
assert FLUX.cost_usd is not None
assert FLUX.latency_s is not None


def listing(**flux: Any) -> list[dict[str, Any]]:
    """The bundled catalogue as a list, with another row for one model."""
    rows = [
        {
            "slug": entry.slug, "mean_cost_usd": entry.cost_usd, "is_deprecated": False,
            "mean_latency_ms": None if entry.latency_s is None else round(entry.latency_s * 1000),
        }
        for entry in bundled_catalogue().entries.values()
    ]  # fmt: skip
    return [row | flux if row["slug"] == FLUX.slug else row for row in rows]


def seen(rows: list[dict[str, Any]], state: dict[str, Any], origin: str = ORIGIN) -> list[tuple[Any, ...]]:
    found = catalogue_changes(rows, state, api_origin=origin, now=NOW)
    return [(row["slug"], row["field"], row["old_value"], row["new_value"]) for row in found]


def test_a_list_equal_to_the_bundled_catalogue_is_no_change() -> None:
    assert seen(listing(), {}) == []


def test_a_new_price_is_reported_once_against_the_last_known_one() -> None:
    state: dict[str, Any] = {}
    old = f"{FLUX.cost_usd.normalize():f}"
    assert seen(listing(mean_cost_usd=Decimal("0.5")), state) == [(FLUX.slug, "mean_cost_usd", old, "0.5")]
    assert seen(listing(mean_cost_usd=Decimal("0.50")), state) == []
    assert seen(listing(mean_cost_usd=Decimal("0.4")), state) == [(FLUX.slug, "mean_cost_usd", "0.5", "0.4")]


def test_a_change_has_its_size() -> None:
    rows = listing(mean_cost_usd=FLUX.cost_usd * 2)
    (row,) = catalogue_changes(rows, {}, api_origin=ORIGIN, now=NOW)
    assert (row["change_percent"], row["seen_at"], row["api_origin"]) == (100.0, NOW, ORIGIN)


def test_small_latency_changes_are_noise_and_a_drift_is_noticed() -> None:
    usual = round(FLUX.latency_s * 1000)
    state: dict[str, Any] = {}
    assert seen(listing(mean_latency_ms=round(usual * 1.09)), state) == []
    assert seen(listing(mean_latency_ms=round(usual * 1.12)), state) == [
        (FLUX.slug, "mean_latency_ms", str(usual), str(round(usual * 1.12)))
    ]


def test_missing_values_in_the_list_are_no_change() -> None:
    assert seen(listing(mean_cost_usd=None, mean_latency_ms=None, is_deprecated=None), {}) == []


def test_new_removed_retired_and_returned_models_are_reported() -> None:
    state: dict[str, Any] = {}
    new = {"slug": "new-model", "mean_cost_usd": Decimal(1), "mean_latency_ms": None, "is_deprecated": False}
    assert seen([*listing(), new], state) == [
        ("new-model", "is_listed", None, "true"),
        ("new-model", "mean_cost_usd", None, "1"),
    ]
    assert seen(listing(is_deprecated=True), state) == [
        (FLUX.slug, "is_deprecated", "false", "true"),
        ("new-model", "is_listed", "true", "false"),
    ]
    assert seen([*listing(is_deprecated=True), new], state) == [("new-model", "is_listed", "false", "true")]


def test_an_empty_list_removes_no_model() -> None:
    assert seen([], {}) == []


def test_each_account_has_its_own_catalogue_history() -> None:
    state: dict[str, Any] = {}
    raised = listing(mean_cost_usd=Decimal("0.5"))
    assert len(seen(raised, state)) == len(seen(raised, state, "http://127.0.0.1:8765")) == 1


@given(st.lists(st.tuples(st.none() | st.integers(1, 10**6), st.none() | st.integers(1, 10**6)), max_size=5))
def test_the_same_list_again_is_never_a_change(lists: list[tuple[int | None, int | None]]) -> None:
    state: dict[str, Any] = {}
    for nano, ms in lists:
        rows = listing(mean_cost_usd=None if nano is None else Decimal(nano) / 10**6, mean_latency_ms=ms)
        seen(rows, state)
        assert seen(rows, state) == []


def test_changes_are_appended_to_a_table_and_saved_with_the_load(proxied: tuple[Project, Proxy]) -> None:
    project, proxy = proxied
    project.load("models", "model_changes")
    at_first = project.rows("SELECT count(*) FROM model_changes WHERE slug = 'fast-flux-schnell'")
    assert at_first == [(0,)]
    proxy.replace(LIST, {"models": [{"slug": "fast-flux-schnell", "avg_cost_usd": 0.5, "avg_latency_s": 2.45}]})
    for _ in range(2):
        project.load("models", "model_changes")
    assert project.rows(
        "SELECT field, new_value FROM model_changes WHERE slug = 'fast-flux-schnell' ORDER BY field"
    ) == [("mean_cost_usd", "0.5")]
    gone = project.rows("SELECT count(DISTINCT slug), count(*) FROM model_changes WHERE new_value = 'false'")
    assert gone[0][0] == gone[0][1] > 400


def test_changes_can_be_loaded_without_the_catalogue(project: Project) -> None:
    project.load("model_changes")
    assert "models" not in project.tables()
    assert "model_changes" in project.tables()
