"""Words on contact sheets: drawn with a font that has their letters, and never as boxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.reports.gallery.lettering import fitting, font_for, legible

BOX = "\U0010ffff"


@pytest.mark.parametrize("text", ["a pear on a plate", "Ein Öltigel für 3 €", "", "two  spaces"])
def test_common_letters_are_drawn_unchanged(text: str) -> None:
    assert legible(text) == text


def test_letters_without_a_font_are_replaced_visibly() -> None:
    assert legible("a pear \U00012000\U00012001 on\na plate") == "a pear … on a plate"


def test_a_text_without_a_single_letter_that_can_be_drawn_says_so() -> None:
    assert legible("\U00012000\U00012001") == "(letters that no font here has)"


@given(st.text(max_size=60))
def test_each_drawn_letter_is_in_its_font(text: str) -> None:
    font = font_for(text, 14)
    box = bytes(font.getmask(BOX))
    assert all(bytes(font.getmask(letter)) != box for letter in legible(text) if letter.strip())


@given(st.text(max_size=400), st.integers(40, 400))
def test_a_line_is_never_too_wide(text: str, width: int) -> None:
    line = fitting(text, width, 14)
    assert font_for(text[:300], 14).getlength(line) <= width or len(line) <= 1
