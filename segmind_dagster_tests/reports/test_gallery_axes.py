"""What cards differ in becomes axes; the first layout is a table that is well filled, or a wall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.gallery import FLUX, REALITY

from segmind_dagster.registry import find_model
from segmind_dagster.reports.gallery.axes import MOST_COLUMNS, Layout, find_axes, first_layout, offered, template
from segmind_dagster.reports.gallery.cards import Card

if TYPE_CHECKING:
    from collections.abc import Sequence


def card(prompt: str = "a pear", resource: str = FLUX, **fields: Any) -> Card:
    empty = dict.fromkeys(
        ("negative_prompt", "failure_kind", "error", "request_id", "latency_ms", "queue_ms", "inference_ms",
         "completed_at", "output_uri", "output_sha256", "output_bytes", "output_format", "width", "height")
    )  # fmt: skip
    usual = {
        "generation_id": "g", "model": find_model(resource), "prompt": prompt, "params": {}, "variables": {},
        "seed": 1, "sample": 0, "status": "succeeded", "is_current": True,
    }  # fmt: skip
    return Card(**{**empty, **usual, **fields})


def names(cards: Sequence[Card]) -> dict[str, tuple[str, ...]]:
    return {axis.name: axis.values for axis in find_axes(cards)}


def layout(cards: Sequence[Card]) -> Layout:
    return first_layout(find_axes(cards))


def test_only_what_differs_is_an_axis_and_the_prompt_always_is() -> None:
    assert names([card(), card()]) == {"prompt": ("a pear",)}
    assert set(names([card("x", seed=1), card("y", FLUX, seed=2), card("y", REALITY, seed=2)])) == {
        "prompt",
        "model",
        "seed",
    }


def test_numbers_are_in_their_order_and_words_in_that_of_the_set() -> None:
    cards = [card("b", seed=10), card("a", seed=9)]
    assert names(cards)["seed"] == ("9", "10")
    assert names(cards)["prompt"] == ("b", "a")


def test_variables_and_parameters_are_axes_of_their_own_even_under_one_name() -> None:
    cards = [
        card("red at 2", variables={"steps": "red"}, params={"steps": 2}),
        card("blue at 4", variables={"steps": "blue"}, params={"steps": 4}),
    ]
    found = names(cards)
    assert found["variable steps"] == ("red", "blue")
    assert found["parameter steps"] == ("2", "4")


def test_a_card_without_a_value_has_no_place() -> None:
    axes = {axis.name: axis for axis in find_axes([card(variables={"v": n}) for n in ("x", "y")] + [card()])}
    assert axes["variable v"].positions == (0, 1, None)


def test_many_values_cannot_be_columns() -> None:
    axes = {axis.name: axis for axis in find_axes([card(seed=seed) for seed in range(MOST_COLUMNS + 1)])}
    assert not axes["seed"].can_be_columns
    assert axes["prompt"].can_be_columns


def test_prompts_by_models_is_a_table() -> None:
    cards = [card(prompt, resource) for prompt in ("x", "y") for resource in (FLUX, REALITY)]
    assert layout(cards) == Layout("prompt", "model")


def test_two_variables_of_one_prompt_are_a_table() -> None:
    cards = [
        card(f"{fruit} at {light}", variables={"fruit": fruit, "light": light})
        for fruit in ("figs", "pears")
        for light in ("noon", "dusk")
    ]
    assert layout(cards) == Layout("variable light", "variable fruit")


def test_a_mostly_empty_table_becomes_a_wall() -> None:
    cards = [card(f"prompt {number}", sample=number == 3) for number in range(6)]
    assert layout(cards) == Layout(None, None)


def test_without_a_full_table_outputs_are_grouped_by_model() -> None:
    cards = [card(f"{resource} {number}", resource) for resource in (FLUX, REALITY) for number in range(4)]
    assert layout(cards) == Layout("model", None)


def test_only_axes_with_repeated_values_and_the_prompt_are_offered() -> None:
    cards = [card(f"prompt {n}", seed=n, params={"steps": n % 2}) for n in range(6)]
    assert [axis.name for axis in offered(find_axes(cards), layout(cards))] == ["prompt", "parameter steps"]
    alike = [card(seed=seed) for seed in (1, 2, 3)]
    assert [axis.name for axis in offered(find_axes(alike), layout(alike))] == ["seed"]
    assert offered(find_axes([card()]), layout([card()])) == []


def test_one_prompt_with_some_seeds_is_a_row() -> None:
    assert layout([card(seed=seed) for seed in (1, 2, 3)]) == Layout(None, "seed")


@pytest.mark.parametrize("cards", [[], [card()], [card(f"prompt {n}", seed=n) for n in range(100)]])
def test_without_anything_to_compare_it_is_a_wall(cards: list[Card]) -> None:
    assert layout(cards) == Layout(None, None)


@pytest.mark.parametrize(
    ("prompt", "variables", "expected"),
    [
        ("two figs at noon", {"fruit": "figs", "light": "noon"}, "two {fruit} at {light}"),
        ("a fig and a figurine", {"fruit": "fig"}, "a {fruit} and a figurine"),
        ("a red pear", {"what": "red pear", "colour": "red"}, "a {what}"),
        ("what {x} (really?)", {"x": "(really?)"}, "what {x} {x}"),
        ("a pear", {"n": ""}, "a pear"),
        ("4 pears", {"n": 4}, "{n} pears"),
        ("fruit", {"fruit": "light", "light": "fruit"}, "{light}"),
        ("nothing of it", {"x": "y"}, "nothing of it"),
    ],
)
def test_values_are_replaced_by_the_names_of_their_variables(
    prompt: str, variables: dict[str, Any], expected: str
) -> None:
    assert template(prompt, variables) == expected


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_any_prompt_and_variables_have_a_template(prompt: str, variables: dict[str, str]) -> None:
    assert isinstance(template(prompt, variables), str)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([FLUX, REALITY])), max_size=12))
def test_every_card_has_one_place_on_every_axis(drawn: list[tuple[str, int, str]]) -> None:
    cards = [card(prompt, resource, seed=seed) for prompt, seed, resource in drawn]
    for axis in find_axes(cards):
        assert len(axis.positions) == len(cards)
        assert {position for position in axis.positions if position is not None} == set(range(len(axis.values)))
