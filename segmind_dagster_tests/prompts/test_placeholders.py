from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.prompts.placeholders import PlaceholderError, is_placeholder_name, parse_template

NAMES = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True)


@given(st.text())
def test_a_text_with_doubled_braces_comes_back_as_it_was(text: str) -> None:
    template = parse_template(text.replace("{", "{{").replace("}", "}}"))
    assert template.names == frozenset()
    assert template.render({}) == text


@given(st.lists(st.tuples(st.text(), NAMES), max_size=5), st.text(), st.data())
def test_every_placeholder_gets_its_value_and_values_are_not_searched_again(
    pieces: list[tuple[str, str]], tail: str, data: st.DataObject
) -> None:
    names = {name for _, name in pieces}
    values = {name: data.draw(st.text() | st.just("{other}")) for name in names}
    escaped = "".join(text.replace("{", "{{").replace("}", "}}") + "{" + name + "}" for text, name in pieces)
    template = parse_template(escaped + tail.replace("{", "{{").replace("}", "}}"))
    assert template.names == names
    assert template.render(values) == "".join(text + values[name] for text, name in pieces) + tail


@pytest.mark.parametrize("text", ["a { b", "a } b", "{}", "{two words}", "{1st}", "{{a}", "{a}}", "{a{b}}"])
def test_other_braces_are_refused_with_the_way_to_write_them(text: str) -> None:
    with pytest.raises(PlaceholderError, match=r"for literal braces write '{{' and '}}'"):
        parse_template(text)


def test_a_placeholder_may_stand_in_literal_braces() -> None:
    assert parse_template("{{{animal}}}").render({"animal": "fox"}) == "{fox}"


@pytest.mark.parametrize(
    ("name", "is_good"), [("animal", True), ("hair-colour_2", True), ("été", True), ("2nd", False)]
)
def test_names_begin_with_a_letter(name: str, is_good: bool) -> None:
    assert is_placeholder_name(name) is is_good
