"""The models page as rows: whatever its table looks like, and nothing at all where there is none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.registry import MODELS
from segmind_dagster.source.page import models_on_page

if TYPE_CHECKING:
    from lab.proxy import Proxy
    from lab.source_project import Project

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
def test_an_invalid_price_or_time_is_unknown(price: str, latency: str, expected: tuple[Any, Any]) -> None:
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


def test_a_model_in_two_rows_is_listed_once_and_other_tables_are_ignored() -> None:
    page = (
        table(["Plan"], ["Free"]) + table(["slug", "name"], ["a", "first"]) + table(["slug", "name"], ["a", "second"])
    )
    assert [(row["slug"], row["title"]) for row in models_on_page(page)] == [("a", "first")]


@given(st.text(st.sampled_from(list("<>/=\"'& abcslugtrhdTABLE\n")), max_size=200))
def test_no_page_raises_an_error(text: str) -> None:
    for row in models_on_page(text) + models_on_page(table(["slug", "price", "time"], [text, text, text])):
        assert row["slug"]


def test_a_page_of_another_shape_is_kept_with_no_rows_and_the_load_succeeds(
    proxied: tuple[Project, Proxy],
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


FOUND = {"slug": "a-b.1", "title": "A B", "modality": "image", "price_usd": Decimal("0.01"), "latency_ms": 2500}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"props": {"models": [{"slug": "a-b.1", "title": "A B", "type": "image", "avg_cost_usd": 0.01,
                                "avg_latency_s": 2.5}]}}, FOUND),
        ([{"slug": "a-b.1", "name": "A B", "category": "image", "price": "$0.01", "latency": "2.5 s"}], FOUND),
        # a number whose unit nobody tells may be anything
        ([{"slug": "a-b.1", "name": "A B", "type": "image", "cost": 1, "latency": 2.5}],
         {**FOUND, "price_usd": None, "latency_ms": None}),
    ],
)  # fmt: skip
def test_without_a_table_the_data_of_the_pages_scripts_is_read(script: Any, expected: dict[str, Any]) -> None:
    page = f'<script id="__NEXT_DATA__" type="application/json">{json.dumps(script)}</script>'
    assert models_on_page(page) == [expected]


def test_without_either_cards_with_a_link_to_a_model_are_read_and_no_amount_is_guessed() -> None:
    cards = (
        '<div><a href="/models/a-b.1"><h3>A B</h3></a><p>from $0.01 in 2.5 s</p></div>'
        '<div><a href="https://www.segmind.com/models/c">C</a><p>$0.01 or $0.02, 1 s to 2 s</p></div>'
    )
    found = models_on_page(f"<main>{cards}<p>$99 a month</p></main><a href='/pricing'>Pricing</a>")
    assert found == [
        {**FOUND, "modality": None},
        {"slug": "c", "title": "C", "modality": None, "price_usd": None, "latency_ms": None},
    ]


@pytest.mark.parametrize("script", ["{", "[" * 100_000, '{"slug": 5}', '{"slug": "../x"}', '["slug"]', "null", "7"])
def test_data_that_is_broken_or_about_something_else_gives_no_rows(script: str) -> None:
    assert models_on_page(f'<script type="application/json">{script}</script>') == []
