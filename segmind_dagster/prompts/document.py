"""A prompt file as read but not yet understood: its fields, where each one stands, and what is wrong so far.

Every form (YAML, CSV, JSONL, TXT) becomes one `Document` in the shape of the YAML form. It gathers
problems, so that a person sees all of them at once. What fields mean is decided in `fields` and `batches`.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from segmind_dagster.errors import Problem, PromptSetError

if TYPE_CHECKING:
    from collections.abc import Iterable

Form = Literal["yaml", "csv", "jsonl", "txt"]
Location = tuple[str | int, ...]

MAX_DEPTH = 50
_MAX_MESSAGE_CHARS = 700
_MAX_LISTED = 40


class Place(NamedTuple):
    """Where something stands: a line, and in a CSV file the data row; both 1-based."""

    line: int | None = None
    row: int | None = None


class Document:
    """The fields of one prompt file, with the place of each and the problems found."""

    def __init__(self, *, file: str, form: Form) -> None:
        self.file = file
        self.form = form
        self.fields: dict[str, Any] = {}
        self.places: dict[Location, Place] = {}
        self.problems: dict[Problem, None] = {}  # in order, each once

    def complain(self, message: str, at: Location = (), *, place: Place | None = None) -> None:
        """Note a problem.

        Args:
            message: what is wrong and what to do.
            at: the field at fault, e.g. `("prompts", 1, "params", "steps")`.
            place: where it stands, when the field has no place of its own.
        """
        if place is None:
            place = self._place(at)
        if len(message) > _MAX_MESSAGE_CHARS:
            message = message[:_MAX_MESSAGE_CHARS] + " ..."
        field = self._field(at) or None
        self.problems[Problem(file=self.file, message=message, field=field, line=place.line, row=place.row)] = None

    def raise_problems(self) -> None:
        """Stop here if anything is wrong.

        Raises:
            PromptSetError: with every problem, in the order of the file.
        """
        if self.problems:
            self.stop()

    def stop(self) -> NoReturn:
        """Give up on the file.

        Raises:
            PromptSetError: with every problem, in the order of the file.
        """
        raise PromptSetError(sorted(self.problems, key=lambda problem: (problem.line or 0, problem.row or 0)))

    def _place(self, at: Location) -> Place:
        for length in range(len(at), 0, -1):
            if at[:length] in self.places:
                return self.places[at[:length]]
        return Place()

    def _field(self, at: Location) -> str:
        parts = list(at)
        # outside YAML a place names the prompt already: no `prompts` list is written there
        if self.form != "yaml" and parts[:1] == ["prompts"]:
            del parts[:2]
            if self.form == "csv" and parts[:1] == ["params"]:
                del parts[:1]
        dotted = ""
        for part in parts:
            dotted += f"[{part}]" if isinstance(part, int) else f".{part}"
        return dotted.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a message, with a leading space, or nothing when no name is close."""
    return _did_you_mean(word[:100].lower(), tuple(known))


@lru_cache(maxsize=256)
def _did_you_mean(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names for a message: sorted, comma-separated, cut when there are very many."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:_MAX_LISTED])
    return shown + (f" and {len(ordered) - _MAX_LISTED} more" if len(ordered) > _MAX_LISTED else "")


def text_complaint(text: str) -> str | None:
    """What makes a text impossible to send or to store, or None."""
    if "\0" in text:
        return "holds a null character; remove it"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character; write the character itself"
    return None
