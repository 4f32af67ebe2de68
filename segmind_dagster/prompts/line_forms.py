"""JSONL and TXT: one prompt a line, after leading `# field: value` lines for the whole set.

A leading comment that nearly names a field is a problem, not a comment: a misspelt `# budget: 5` must
not be lost. CSV shares the leading lines through `take_leading_fields`.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from segmind_dagster.prompts.document import MAX_DEPTH, Document, Place, text_complaint
from segmind_dagster.prompts.yaml_form import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

LEADING_FIELDS = (
    "description",
    "models",
    "defaults",
    "negative_prompt",
    "samples",
    "seed",
    "variables",
    "sampling",
    "image",
    "budget_usd",
    "max_unit_cost_usd",
    "auto_run",
)

_COMMENT_FIELD = re.compile(r"#\s*([A-Za-z_][\w-]*)\s*:\s*(.*)")
_NEAR_MISS = 0.8


def take_leading_fields(lines: Sequence[str], document: Document) -> int:
    """Read the set's fields from leading `#` lines.

    Args:
        lines: the lines of the file.
        document: takes the fields and the problems.

    Returns:
        Index of the first line of data.
    """
    index = 0
    for index, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            return index
        match = _COMMENT_FIELD.match(line.strip())
        if match:
            _take_field(match.group(1), match.group(2), index + 1, document)
    return index + 1


def read_txt(text: str, document: Document) -> None:
    """One prompt a line; blank lines and `#` lines are skipped."""
    prompts: list[Any] = []
    for number, line in _data_lines(text, document):
        document.places["prompts", len(prompts)] = Place(line=number)
        prompts.append(line)
    document.fields["prompts"] = prompts


def read_jsonl(text: str, document: Document) -> None:
    """One JSON value a line: a prompt's fields, or a text that is a prompt; blank and `#` lines are skipped."""
    prompts: list[Any] = []
    for number, line in _data_lines(text, document):
        place = Place(line=number)
        try:
            value = json.loads(line, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
            _check_values(value)
        except RecursionError:
            document.complain(f"this is nested more than {MAX_DEPTH} levels deep", place=place)
        except ValueError as error:
            document.complain(_json_sentence(error), place=place)
        else:
            if isinstance(value, str | dict):
                document.places["prompts", len(prompts)] = place
                prompts.append(value)
            else:
                document.complain(
                    'each line is a JSON object such as {"prompt": "a fox"}, or a text in double quotes', place=place
                )
    document.fields["prompts"] = prompts


def _data_lines(text: str, document: Document) -> list[tuple[int, str]]:
    lines = text.split("\n")
    first = take_leading_fields(lines, document)
    data = []
    for number, raw in enumerate(lines[first:], start=first + 1):
        line = raw.strip()
        if line and not line.startswith("#"):
            data.append((number, line))
    return data


def _take_field(name: str, value: str, line: int, document: Document) -> None:
    if name not in LEADING_FIELDS:
        close = difflib.get_close_matches(name.lower(), LEADING_FIELDS, n=1, cutoff=_NEAR_MISS)
        if close:
            document.complain(
                f"'# {name}:' is not a field of a prompt set. Did you mean '# {close[0]}:'? "
                "A comment must not begin like a field.",
                place=Place(line=line),
            )
        return
    if name in document.fields:
        document.complain(f"{name!r} is given twice; remove one of them", (name,), place=Place(line=line))
        return
    document.places[(name,)] = Place(line=line)
    fields = parse_yaml(f"{name}: {value}", document=document, first_line=line)
    if isinstance(fields, dict):
        document.fields[name] = fields.get(name)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice; remove one of them")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON allows")


def _json_sentence(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"this line is not valid JSON: {error.msg} at column {error.colno}"
    if "integer string conversion" in str(error):
        return "a number here has too many digits"
    return str(error)


def _check_values(value: Any) -> None:
    """Refuse texts that cannot be sent and nesting without end."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(item, str):
            complaint = text_complaint(item)
            if complaint:
                raise ValueError(f"a text here {complaint}")
        elif isinstance(item, dict):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            waiting += [(part, depth + 1) for part in item]
