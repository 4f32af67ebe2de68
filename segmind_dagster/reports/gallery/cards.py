"""What a gallery shows: every generation of a prompt set as a card, and what the set has spent.

Read from the ledger and not from the warehouse: the ledger is right also when a load has failed or waits for its
turn, and asking it needs no lock and no credentials. Texts are redacted as in the warehouse's rows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from segmind_dagster.ledger import reads
from segmind_dagster.lifecycle.states import IN_PROGRESS
from segmind_dagster.registry import MODELS
from segmind_dagster.source.rows import model_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from segmind_dagster.gateway.redaction import Redactor
    from segmind_dagster.ledger import Ledger
    from segmind_dagster.registry import Model, OutputKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """What was charged, as far as it is known.

    Args:
        cost_usd: sum of what is known, US dollars.
        estimated_usd: the part of it that is not reported.
        open_usd: reserved for what is not charged yet.
        unpriced: charges of which nothing is known.
        attempts: POSTs sent.
    """

    cost_usd: Decimal = Decimal(0)
    estimated_usd: Decimal = Decimal(0)
    open_usd: Decimal = Decimal(0)
    unpriced: int = 0
    attempts: int = 0

    def in_words(self, *, in_short: bool = False) -> str:
        """The amount as people read it; what is not known is said, never counted as nothing.

        Args:
            in_short: with four decimals, to stand beside others, instead of all that there are.
        """
        shown = usd_in_short if in_short else usd
        if not self.attempts:
            return "nothing"
        parts = []
        if self.unpriced < self.attempts and (self.cost_usd or not self.open_usd):
            parts.append(shown(self.cost_usd) + self._doubt(shown))
        if self.open_usd:
            parts.append(f"up to {shown(self.open_usd)} reserved")
        if self.unpriced:
            one = "a charge" if self.unpriced == 1 else f"{self.unpriced} charges"
            parts.append(f"{one} of unknown price")
        return ", and ".join(parts)

    def _doubt(self, shown: Callable[[Decimal], str]) -> str:
        if not self.estimated_usd:
            return ""
        if self.estimated_usd == self.cost_usd:
            return " (estimated)"
        return f" ({shown(self.estimated_usd)} of it estimated)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One generation as its prompt set sees it; fields as in `source.tables.MODEL_COLUMNS`.

    Args:
        model: the registry's entry.
        charges: what all sets together paid for it.
        paid_by: another prompt set, when that one paid.
    """

    generation_id: str
    model: Model
    prompt: str
    negative_prompt: str | None
    params: Mapping[str, Any]
    variables: Mapping[str, Any]
    seed: int | None
    sample: int
    status: str
    failure_kind: str | None
    error: str | None
    is_current: bool
    request_id: str | None
    latency_ms: int | None
    queue_ms: int | None
    inference_ms: int | None
    completed_at: datetime | None
    output_uri: str | None
    output_sha256: str | None
    output_bytes: int | None
    output_format: str | None
    width: int | None
    height: int | None
    charges: Charges = field(default_factory=Charges)
    paid_by: str | None = None

    @property
    def kind(self) -> OutputKind:
        """What there is to see or hear; some video models answer with a moving picture."""
        return "image" if self.output_format == "gif" else self.model.output

    @property
    def is_stored(self) -> bool:
        """Whether there is an output."""
        return self.status == "succeeded" and self.output_uri is not None

    def cost_in_words(self) -> str:
        """What this generation cost the prompt set."""
        if self.paid_by is not None:
            return f"nothing: '{self.paid_by}' paid {self.charges.in_words()}"
        return self.charges.in_words()


def read_cards(ledger: Ledger, *, prompt_set: str, api_origin: str, redactor: Redactor) -> tuple[list[Card], Charges]:
    """All generations a set holds, in its own order, and what it has paid for them."""
    resources = [model.resource for model in MODELS]
    by_generation: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    found: list[tuple[int, Card]] = []
    with ledger.reading() as connection:
        attempts = list(reads.attempt_rows(connection, resources=resources, prompt_sets=[prompt_set]))
        for attempt in attempts:
            by_generation[attempt["generation_id"]].append(attempt)
        for model in MODELS:
            records = reads.set_rows(connection, resource=model.resource, prompt_sets=[prompt_set])
            for place, record in enumerate(records):
                charges = add_up(by_generation[record["generation_id"]])
                found.append((place, _card(record, model, charges, api_origin, redactor)))
    # the set's order first, so that what was asked for together stands together
    cards = [card for _, card in sorted(found, key=lambda each: each[0])]
    return cards, add_up(attempt for attempt in attempts if attempt["prompt_set"] == prompt_set)


def add_up(attempts: Iterable[Mapping[str, Any]]) -> Charges:
    """The charges of these rows of `ledger.reads.attempt_rows`."""
    cost = estimated = still_open = Decimal(0)
    unpriced = count = 0
    for attempt in attempts:
        count += 1
        if (charged := attempt["cost_usd"]) is not None:
            cost += charged
            estimated += charged if attempt["cost_source"] == "estimated" else 0
        elif attempt["state"] in IN_PROGRESS:
            still_open += attempt["reserved_usd"]
        else:
            unpriced += 1
    return Charges(cost_usd=cost, estimated_usd=estimated, open_usd=still_open, unpriced=unpriced, attempts=count)


def usd(amount: Decimal) -> str:
    """An amount with as many decimals as it has, two at least."""
    text = f"{amount:.9f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals:0<2}"


def usd_in_short(amount: Decimal) -> str:
    """An amount with four decimals; what is less than they can show is said to be so."""
    return "<$0.0001" if 0 < amount < Decimal("0.0001") else f"${amount:.4f}"


def _card(record: Mapping[str, Any], model: Model, charges: Charges, api_origin: str, redactor: Redactor) -> Card:
    row = model_row(record, api_origin=api_origin, redactor=redactor)
    same = Card.__dataclass_fields__.keys() - {"model", "charges", "paid_by", "prompt", "negative_prompt", "error"}
    return Card(
        model=model,
        charges=charges,
        paid_by=record["prompt_set"] if record["is_reused"] else None,
        prompt=redactor.text(row["prompt"]),
        negative_prompt=redactor.text(row["negative_prompt"]) if row["negative_prompt"] else None,
        error=redactor.text(row["error"]) if row["error"] else None,
        **{name: row[name] for name in same},
    )
