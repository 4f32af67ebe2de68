"""`{name}` placeholders: a text is split once and rendered many times.

`{{` and `}}` are literal braces. Which values a placeholder takes, and in which combinations, is
decided in `expansion`; values are put in as they are and never searched for placeholders again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\W\d][\w-]*")


class PlaceholderError(ValueError):
    """A text whose braces are neither a placeholder nor literal braces."""


def is_placeholder_name(name: str) -> bool:
    """Whether `{name}` can stand in a prompt: a letter or underscore, then letters, digits, `_` or `-`."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders.

    Args:
        parts: literal text at even places, placeholder names at odd ones.
    """

    parts: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The placeholders in the text."""
        return frozenset(self.parts[1::2])

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every placeholder filled in.

        Raises:
            KeyError: a placeholder has no value.
        """
        parts = list(self.parts)
        parts[1::2] = [values[name] for name in parts[1::2]]
        return "".join(parts)


@lru_cache(maxsize=1024)
def parse_template(text: str) -> Template:
    """Split a text at its placeholders.

    Raises:
        PlaceholderError: a lone brace, or braces around something that is no name.
    """
    parts: list[str] = []
    literal = ""
    end = 0
    for match in _BRACES.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        token = match.group()
        if token in {"{{", "}}"}:
            literal += token[0]
            continue
        name = match.group(1)
        if name is None or not is_placeholder_name(name):
            shown = token if len(token) == 1 else f"{token[:40]}"
            raise PlaceholderError(
                f"{shown!r} is not a placeholder such as {{animal}}; for literal braces write '{{{{' and '}}}}'"
            )
        parts += (literal, name)
        literal = ""
    parts.append(literal + text[end:])
    return Template(tuple(parts))
