"""What a set's cards differ in, and so can be laid out by: prompt, model, seed, variables, parameters. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from segmind_dagster.reports.gallery.cards import Card

# a table with more columns cannot be read
MOST_COLUMNS = 24
_GOOD_COLUMNS = 8
_WELL_FILLED = 0.6
_PROMPT, _FILLED_IN = "prompt", "filled_in"


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that cards differ in.

    Args:
        name: tells axes apart.
        label: for people.
        values: in the order they are laid out.
        positions: for each card the number of its value; None where it has none.
    """

    name: str
    label: str
    values: tuple[str, ...]
    positions: tuple[int | None, ...]

    @property
    def can_be_columns(self) -> bool:
        """Whether there are few enough values."""
        return len(self.values) <= MOST_COLUMNS


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the axes that rows and columns follow; None for neither, which makes a wall of cards."""

    rows: str | None
    columns: str | None


def find_axes(cards: Sequence[Card]) -> list[Axis]:
    """Everything in which these cards differ, the most telling first; the prompt always.

    Args:
        cards: all cards of a set.
    """
    axes = [_axis(_PROMPT, "Prompt", cards, lambda card: template(card.prompt, card.variables))]
    axes += [_axis("model", "Model", cards, lambda card: card.model.title)]
    axes += [_axis(f"variable {name}", name, cards, _value("variables", name)) for name in _names("variables", cards)]
    axes += [_axis("sample", "Sample", cards, lambda card: str(card.sample + 1))]
    axes += [_axis("seed", "Seed", cards, lambda card: None if card.seed is None else str(card.seed))]
    axes += [
        _axis(f"parameter {name}", f"{name} (parameter)", cards, _value("params", name))
        for name in _names("params", cards)
    ]
    if any(card.variables for card in cards):
        axes.append(_axis(_FILLED_IN, "Prompt, filled in", cards, lambda card: card.prompt))
    return [axis for axis in axes if axis.name == _PROMPT or len(axis.values) > 1]


def first_layout(axes: Sequence[Axis]) -> Layout:
    """The layout a gallery opens with: a table if one would be well filled, else groups, or else a wall."""
    prompt = axes[0]
    others = [axis for axis in axes[1:] if axis.name != _FILLED_IN and None not in axis.positions]
    columns = [axis for axis in others if len(axis.values) <= _GOOD_COLUMNS]
    rows = [prompt] if len(prompt.values) > 1 else others
    for across in columns:
        for down in rows:
            if down is not across and _filled(down, across) >= _WELL_FILLED:
                return Layout(down.name, across.name)
    if len(prompt.values) == len(others) == len(columns) == 1:
        return Layout(None, columns[0].name)
    # no table would be well filled: what has something in common stands together, if nothing is left alone by that
    groups = [axis for axis in columns if min(Counter(axis.positions).values()) > 1]
    return Layout(groups[0].name if groups else None, None)


def offered(axes: Sequence[Axis], layout: Layout) -> list[Axis]:
    """The axes worth choosing: of several values, and not of one for each card unless the gallery opens with it."""
    kept = {_PROMPT, layout.rows, layout.columns}
    return [
        axis for axis in axes if len(axis.values) > 1 and (axis.name in kept or len(axis.values) < len(axis.positions))
    ]


def _filled(rows: Axis, columns: Axis) -> float:
    """The share of a table's cells that hold something."""
    pairs = set(zip(rows.positions, columns.positions, strict=True))
    return len(pairs) / (len(set(rows.positions)) * len(set(columns.positions)))


def template(prompt: str, variables: Mapping[str, Any]) -> str:
    """A prompt with the values of its variables replaced by their names again.

    The ledger keeps prompts as they were sent. Where a value also stands in the prompt's own words, that is replaced
    too; cards are only grouped by this, and each shows its whole prompt.
    """
    names = {text: name for name, value in variables.items() if (text := _text(value))}
    if not names:
        return prompt
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in longest_first)
    return re.sub(pattern, lambda match: f"{{{names[match.group()]}}}", prompt)


def _axis(name: str, label: str, cards: Sequence[Card], value_of: Callable[[Card], str | None]) -> Axis:
    values = [value_of(card) for card in cards]
    distinct = list(dict.fromkeys(value for value in values if value is not None))
    if all(_is_number(value) for value in distinct):
        distinct.sort(key=float)
    numbers = {value: number for number, value in enumerate(distinct)}
    return Axis(name, label, tuple(distinct), tuple(None if value is None else numbers[value] for value in values))


def _names(of: str, cards: Sequence[Card]) -> list[str]:
    return list(dict.fromkeys(name for card in cards for name in getattr(card, of)))


def _value(of: str, name: str) -> Callable[[Card], str | None]:
    def value(card: Card) -> str | None:
        found: Mapping[str, Any] = getattr(card, of)
        return _text(found[name]) if name in found else None

    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
