"""CSV: a header row, then one prompt a row, after leading `# field: value` lines for the whole set.

Columns are the prompt's fields or parameters of the models aimed at; a cell becomes a value of the
parameter's registered kind. Whether the value is allowed is decided in `parameters`, as for every form.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import RegistryError
from segmind_dagster.prompts.document import Document, Place, did_you_mean, listed
from segmind_dagster.prompts.line_forms import take_leading_fields
from segmind_dagster.registry import find_model
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.registry.model import Model, ParameterKind

_FIELD_KINDS: Mapping[str, ParameterKind] = {
    "prompt": "string",
    "models": "string",
    "negative_prompt": "string",
    "seed": "integer",
    "samples": "integer",
    "image": "string",
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


def read_csv(text: str, document: Document) -> None:
    """Read leading fields, the header and the rows into the document."""
    lines = text.split("\n")
    first = take_leading_fields(lines, document)
    rows = list(_rows("\n".join(lines[first:]), first, document))
    document.fields["prompts"] = []
    if not rows:
        return
    line, header = rows[0]
    names = [name.strip() for name in header]
    kinds = _column_kinds(names, rows[1:], line, document)
    if kinds is None:
        return
    prompts = document.fields["prompts"]
    for number, (line, cells) in enumerate(rows[1:], start=1):
        place = Place(line=line, row=number)
        document.places["prompts", len(prompts)] = place
        if len(cells) > len(names):
            document.complain(
                f"the row has {len(cells)} cells, but the header names {len(names)}; put a text that holds a comma "
                "in double quotes",
                place=place,
            )
        prompts.append(_prompt(dict(zip(names, cells, strict=False)), kinds, ("prompts", len(prompts)), document))


def _rows(text: str, first: int, document: Document) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        start = first + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = "a quoted cell is never closed" if "unexpected end of data" in str(error) else str(error)
            document.complain(f"this is not valid CSV: {reason}", place=Place(line=start))
            return
        if any(cell.strip() for cell in cells):
            yield start, cells


def _column_kinds(
    names: list[str], rows: list[tuple[int, list[str]]], line: int, document: Document
) -> dict[str, ParameterKind] | None:
    """The kind of each usable column; None without a prompt column, when no row can be understood."""
    place = Place(line=line)
    for name, times in Counter(filter(None, names)).items():
        if times > 1:
            document.complain(f"the column {name!r} is named {times} times; name it once", place=place)
    if "prompt" not in names:
        document.complain(
            f"the header has no column 'prompt'; the first row must name the columns, separated by commas. "
            f"It names: {listed(filter(None, names)) or 'nothing'}",
            place=place,
        )
        return None
    models = _models_named(names, rows, document)
    parameters = {parameter.name: parameter.kind for model in models for parameter in model.parameters}
    known = {**parameters, **_FIELD_KINDS}
    kinds: dict[str, ParameterKind] = {}
    for number, name in enumerate(names, start=1):
        if name in known:
            kinds[name] = known[name]
        elif name:
            document.complain(
                f"the column {name!r} is neither a field nor a parameter of the models aimed at."
                f"{did_you_mean(name, known)} Columns may be: {listed(known)}",
                place=place,
            )
        elif any(len(cells) >= number and cells[number - 1].strip() for _, cells in rows):
            document.complain(f"column {number} holds values but has no name; name it in the header", place=place)
    return kinds


def _models_named(names: list[str], rows: list[tuple[int, list[str]]], document: Document) -> list[Model]:
    asked = document.fields.get("models")
    slugs = {asked} if isinstance(asked, str) else set()
    if isinstance(asked, list | dict):
        slugs = {name for name in asked if isinstance(name, str)}
    if "models" in names:
        column = names.index("models")
        slugs |= {name for _, cells in rows if len(cells) > column for name in _split(cells[column])}
    models = [] if asked else [FAST_FLUX_SCHNELL]
    for slug in slugs:
        try:
            models.append(find_model(slug))
        except RegistryError:
            continue  # reported with its row when the prompt is checked
    return models


def _split(cell: str) -> list[str]:
    return [name.strip() for name in re.split(r"[|;]", cell) if name.strip()]


def _prompt(
    cells: Mapping[str, str], kinds: Mapping[str, ParameterKind], at: tuple[str | int, ...], document: Document
) -> dict[str, Any]:
    prompt: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for name, kind in kinds.items():
        cell = cells.get(name, "").strip()
        if not cell:
            continue
        value = _value(cell, kind)
        if value is None:
            expected = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}[kind]
            document.complain(f"{cell[:100]!r} is not {expected}", (*at, name))
        elif name == "models":
            prompt[name] = _split(cell)
        elif name in _FIELD_KINDS:
            prompt[name] = value
        else:
            params[name] = value
    if params:
        prompt["params"] = params
    return prompt


def _value(cell: str, kind: ParameterKind) -> Any:
    """The value of a cell, or None when it is none of that kind."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(cell.lower())
    if kind == "integer":
        return int(cell) if _INTEGER.fullmatch(cell) else None
    if kind == "number":
        return int(cell) if _INTEGER.fullmatch(cell) else float(cell) if _NUMBER.fullmatch(cell) else None
    return cell
