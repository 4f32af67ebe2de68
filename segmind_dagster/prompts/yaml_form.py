"""YAML text -> values with the line of each, or problems with theirs.

Scalars follow YAML 1.2: `16:9`, `yes` and `2026-01-01` stay text, only `true` and `false` are booleans.
Works on parser events with a stack of its own: nesting and aliases are bounded, whatever a file holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from segmind_dagster.prompts.document import MAX_DEPTH, Document, Location, Place, text_complaint

if TYPE_CHECKING:
    from collections.abc import Iterator

# the C parser where PyYAML was built with it: fifteen times faster
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_VALUES = 3_000_000
_TAG = "tag:yaml.org,2002:"

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_QUOTES_HINT = (
    "A text that begins with a brace, bracket or other punctuation, or that holds ': ' or ' #', must stand in quotes."
)


class _YamlProblem(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(slots=True)
class _Open:
    """A mapping or list that is still being read."""

    at: Location
    value: dict[str, Any] | list[Any]
    line: int
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    size: int = 1
    depth: int = 1


@dataclass(slots=True)
class _ParserState:
    document: Document
    at: Location
    first_line: int
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int, int]] = field(default_factory=dict)
    results: list[Any] = field(default_factory=list)


def parse_yaml(text: str, *, document: Document, at: Location = (), first_line: int = 1) -> Any:
    """The value of a YAML text; None when it is empty or broken, with the problem noted in the document.

    Args:
        text: one YAML document.
        document: takes the places and the problems.
        at: where the value belongs in the document.
        first_line: line of the file on which the text begins.
    """
    state = _ParserState(document, at, first_line)
    try:
        for event in _events(text):
            _take(event, state)
    except _YamlProblem as problem:
        # the parser places what is missing at the end behind the last line
        line = None if problem.line is None else min(problem.line, text.rstrip().count("\n")) + first_line
        document.complain(problem.message, at, place=Place(line=line))
        return None
    return state.results[0] if state.results else None


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _YamlProblem(_sentence(error, text), mark.line if mark else None) from error
    except yaml.YAMLError as error:
        # the reader's complaint: a character that YAML does not allow
        reason = getattr(error, "reason", None) or str(error)
        character = getattr(error, "character", None)
        shown = f" (U+{character:04X})" if isinstance(character, int) else ""
        place = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
        line = text.count("\n", 0, place.start()) if place else None
        raise _YamlProblem(f"this is not valid YAML: {reason}{shown}; remove that character", line) from error


def _sentence(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "it cannot be parsed"
    if "tab character" in problem or (error.problem_mark and _character_at(error.problem_mark, text) == "\t"):
        return "a tab stands where YAML allows only spaces; indent with spaces"
    context = f" {error.context}" if error.context else ""
    return f"this is not valid YAML: {problem}{context}. {_QUOTES_HINT}"


def _character_at(mark: yaml.Mark, text: str) -> str:
    lines = text.split("\n")
    return lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""


def _take(event: Any, state: _ParserState) -> None:
    line = event.start_mark.line
    if isinstance(event, yaml.ScalarEvent):
        _take_scalar(event, state)
    elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
        if len(state.stack) >= MAX_DEPTH:
            raise _YamlProblem(f"this is nested more than {MAX_DEPTH} levels deep", line)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", _TAG + ("map" if is_mapping else "seq")}:
            raise _YamlProblem(f"the tag {event.tag!r} is not supported; remove it", line)
        _check_key_is_text(event, state)
        at = _location(state)
        state.stack.append(_Open(at, {} if is_mapping else [], line, event.anchor))
    elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
        done = state.stack.pop()
        if done.anchor is not None:
            state.anchors[done.anchor] = (done.value, done.size, done.depth)
        _put(done.value, done.size, done.depth, done.line, state)
    elif isinstance(event, yaml.AliasEvent):
        if event.anchor not in state.anchors:
            raise _YamlProblem(f"nothing before this place is called '&{event.anchor}'", line)
        _check_key_is_text(event, state)
        _put(*state.anchors[event.anchor], line, state)
    elif isinstance(event, yaml.DocumentStartEvent) and state.results:
        raise _YamlProblem("a second YAML document begins here; a prompt file holds one", line)


def _take_scalar(event: Any, state: _ParserState) -> None:
    line = event.start_mark.line
    complaint = text_complaint(event.value)
    if complaint:
        raise _YamlProblem(f"a text here {complaint}", line)
    parent = state.stack[-1] if state.stack else None
    if parent is not None and isinstance(parent.value, dict) and parent.key is None:
        parent.key, parent.key_line = event.value, line
        if event.value in parent.value:
            place = Place(line=line + state.first_line)
            state.document.complain(
                f"{event.value!r} is given twice; remove one of them", (*parent.at, event.value), place=place
            )
        return
    value = _scalar(event, is_text=_is_variable_value(_location(state)))
    if event.anchor is not None:
        state.anchors[event.anchor] = (value, 1, 0)
    _put(value, 1, 0, line, state)


def _check_key_is_text(event: Any, state: _ParserState) -> None:
    parent = state.stack[-1] if state.stack else None
    if parent is not None and isinstance(parent.value, dict) and parent.key is None:
        raise _YamlProblem(f"a field name must be plain text. {_QUOTES_HINT}", event.start_mark.line)


def _location(state: _ParserState) -> Location:
    if not state.stack:
        return state.at
    parent = state.stack[-1]
    if isinstance(parent.value, list):
        return (*parent.at, len(parent.value))
    return (*parent.at, parent.key or "")


def _put(value: Any, size: int, depth: int, line: int, state: _ParserState) -> None:
    at = _location(state)
    if not state.stack:
        state.results.append(value)
        state.document.places.setdefault(at, Place(line=line + state.first_line))
        return
    parent = state.stack[-1]
    parent.size += size
    parent.depth = max(parent.depth, depth + 1)
    if len(state.stack) + depth > MAX_DEPTH:
        raise _YamlProblem(f"this is nested more than {MAX_DEPTH} levels deep", line)
    if parent.size > _MAX_VALUES:
        raise _YamlProblem(f"this file expands to more than {_MAX_VALUES:,} values; use fewer aliases", line)
    if isinstance(parent.value, list):
        parent.value.append(value)
    else:
        line = parent.key_line
        parent.value[parent.key or ""] = value
        parent.key = None
    state.document.places[at] = Place(line=line + state.first_line)


def _is_variable_value(at: Location) -> bool:
    """Whether a scalar is a placeholder's value, which is kept as it is written: `1.50` stays `1.50`."""
    return "variables" in {at[0] if len(at) == 3 else None, at[2] if len(at) == 5 else None}  # noqa: PLR2004 - depths


def _scalar(event: Any, *, is_text: bool) -> Any:  # noqa: PLR0911 - one return a kind
    text: str = event.value
    tag = event.tag.removeprefix(_TAG) if event.tag else None
    if tag is None and not event.implicit[0]:
        return text
    if tag in {"str", "!"}:
        return text
    if tag not in {None, "null", "bool", "int", "float"}:
        raise _YamlProblem(f"the tag {event.tag!r} is not supported; remove it", event.start_mark.line)
    word = text.lower() if text in {text.lower(), text.title(), text.upper()} else text
    if word in _WORDS:
        value: Any = _WORDS[word]
        return text if is_text and value is not None else value
    if is_text:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
