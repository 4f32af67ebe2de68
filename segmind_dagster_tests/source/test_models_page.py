"""The models page as rows: whatever its table looks like, and nothing at all where there is none."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.registry import MODELS
from segmind_dagster.source.page import models_on_page

if TYPE_CHECKING:
    from platform_proxy import PlatformProxy
    from source_lab import Project

PAGE = "/v1/models/"


def table(headings: list[str], *rows: list[str], around: str = "{}") -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return around.format(f"<table><tr>{head}</tr>{body}</table>")


def test_the_sandboxs_page_lists_every_model_with_price_and_time(project: Project) -> None:
    project.load("models_page", "models_page_rows", "models")
    unequal = project.rows(
        "SELECT * FROM models_page_rows p FULL JOIN models m USING (slug) "
        "WHERE p.price_usd IS DISTINCT FROM m.mean_cost_usd OR p.title IS DISTINCT FROM m.title "
        "OR abs(p.latency_ms - m.mean_latency_ms) > 10"
    )
    assert unequal == []
    slugs = {slug for (slug,) in project.rows("SELECT slug FROM models_page_rows")}
    assert {model.slug for model in MODELS} <= slugs
    assert project.rows("SELECT count(DISTINCT html_sha256) FROM models_page_rows") == [(1,)]


@pytest.mark.parametrize(
    ("headings", "cells"),
    [
        (["Slug", "Title", "Modality", "Price", "Latency"], ["a-b.1", "A B", "Text", "$0.01", "2.5 s"]),
        (["Latency (mean)", "Cost per request", "Model ID", "Name", "Category"], ["2500 ms", "0.01 USD", "a-b.1", "A B",
          "Text"]),
        (["", "slug", "name", "type", "price", "time"], ["1", " a-b.1\n", "A  B", "Text", "$ 0.01", "2.5 seconds"]),
    ],
)  # fmt: skip
def test_columns_are_found_by_what_they_are_called(headings: list[str], cells: list[str]) -> None:
    assert models_on_page(table(headings, cells)) == [
        {"slug": "a-b.1", "title": "A B", "modality": "Text", "price_usd": Decimal("0.01"), "latency_ms": 2500}
    ]


@pytest.mark.parametrize(
    ("price", "latency", "expected"),
    [
        ("free", "soon", (None, None)),
        ("$0.01 - $0.50", "2 s to 9 s", (None, None)),
        ("$1,250.50", "1,250 ms", (Decimal("1250.50"), 1250)),
        ("", "2 min", (None, 120_000)),
        ("9" * 400, "9" * 400 + " s", (None, None)),
    ],
)
def test_a_price_or_a_time_that_is_none_is_not_known(price: str, latency: str, expected: tuple[Any, Any]) -> None:
    (row,) = models_on_page(table(["slug", "price", "latency"], ["a", price, latency]))
    assert (row["price_usd"], row["latency_ms"]) == expected


@pytest.mark.parametrize(
    "page",
    [
        "", "not a page", "<html><body><h1>Models</h1><ul><li>flux</li></ul></body></html>", "{}", "<table></table>",
        table(["Plan", "Requests"], ["Free", "60"]), table(["Slug"], ["<script>alert(1)</script>"], ["two words"]),
        table(["Slug"], ["x" * 500]), "<table>" * 300, "<table><tr><th>Slug</th></tr><tr></tr><tr><td>", "\0\ufffd",
    ],
)  # fmt: skip
def test_a_page_of_another_shape_has_no_models(page: str) -> None:
    assert models_on_page(page) == []


def test_a_model_that_stands_twice_is_listed_once_and_other_tables_are_left_alone() -> None:
    page = (
        table(["Plan"], ["Free"]) + table(["slug", "name"], ["a", "first"]) + table(["slug", "name"], ["a", "second"])
    )
    assert [(row["slug"], row["title"]) for row in models_on_page(page)] == [("a", "first")]


@given(st.text(st.sampled_from(list("<>/=\"'& abcslugtrhdTABLE\n")), max_size=200))
def test_no_page_makes_reading_fail(text: str) -> None:
    for row in models_on_page(text) + models_on_page(table(["slug", "price", "time"], [text, text, text])):
        assert row["slug"]


def test_a_page_of_another_shape_is_kept_with_no_rows_and_the_load_succeeds(
    proxied: tuple[Project, PlatformProxy],
) -> None:
    project, proxy = proxied
    proxy.replace(PAGE, "<html><body>we have moved</body></html>")
    project.load("models_page", "models_page_rows")
    assert project.rows("SELECT html FROM models_page") == [("<html><body>we have moved</body></html>",)]
    assert project.rows("SELECT count(*) FROM models_page_rows") == [(0,)]


def test_the_rows_can_be_loaded_without_the_page(project: Project) -> None:
    project.load("models_page_rows")
    assert project.rows("SELECT count(*) > 400 FROM models_page_rows") == [(True,)]
    assert "models_page" not in project.tables()
