"""Words on contact sheets: drawn with a font that has their letters, and never as boxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.reports.gallery.lettering import fitting, font_for, legible

BOX = "\U0010ffff"


@pytest.mark.parametrize("text", ["a pear on a plate", "Ein Öltigel für 3 €", "", "two  spaces"])
def test_letters_that_every_sheet_has_stay_as_they_are(text: str) -> None:
    assert legible(text) == text


def test_letters_that_no_font_has_are_left_out_and_that_is_seen() -> None:
    assert legible("a pear \U00012000\U00012001 on\na plate") == "a pear … on a plate"


def test_a_text_without_a_single_letter_that_can_be_drawn_says_so() -> None:
    assert legible("\U00012000\U00012001") == "(letters that no font here has)"


@given(st.text(max_size=60))
def test_whatever_is_written_is_in_the_font_that_writes_it(text: str) -> None:
    font = font_for(text, 14)
    box = bytes(font.getmask(BOX))
    assert all(bytes(font.getmask(letter)) != box for letter in legible(text) if letter.strip())


@given(st.text(max_size=400), st.integers(40, 400))
def test_a_line_is_never_wider_than_it_may_be(text: str, width: int) -> None:
    line = fitting(text, width, 14)
    assert font_for(text[:300], 14).getlength(line) <= width or len(line) <= 1
