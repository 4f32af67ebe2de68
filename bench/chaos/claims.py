"""What must hold after a chaos run, as pure functions over everybody's books: each yields what is wrong.

Nothing is read or printed here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bench.chaos.books import Asked, Ledger, Provider, Warehouse

_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Everybody's books after everything was reported done."""

    asked: tuple[Asked, ...]
    provider: Provider
    ledger: Ledger
    warehouse: Warehouse
    outputs: Mapping[str, str]


def broken_claims(books: Books) -> tuple[str, ...]:
    """Every claim that does not hold, with what differs."""
    return tuple(f"{name}: {problem}" for name, claim in CLAIMS.items() for problem in islice(claim(books), _EXAMPLES))


def charged_once(books: Books) -> Iterator[str]:
    """The provider charged each body as often as generations ask for it."""
    wanted = Counter(each.wire for each in books.asked)
    charged = Counter(charge.wire for charge in books.provider.charges)
    for slug, body in sorted(wanted.keys() | charged.keys()):
        if charged[slug, body] != wanted[slug, body]:
            yield f"{charged[slug, body]} charges for {wanted[slug, body]} generations of {slug} {body}"
    if books.provider.running:
        yield f"{books.provider.running} jobs were still running at the provider, and would be charged"


def money_agrees(books: Books) -> Iterator[str]:
    """Provider, ledger and warehouse name one sum, to the nano-dollar."""
    total = sum((charge.cost_usd for charge in books.provider.charges), Decimal(0))
    sums = {
        "the provider's account": books.provider.charged_usd,
        "the ledger's attempts": books.ledger.charged_usd,
        "the warehouse's attempts": books.warehouse.charged_usd,
        "the warehouse's model rows": sum((row.cost_usd or 0 for row in books.warehouse.rows), Decimal(0)),
    }
    for name, amount in sums.items():
        if amount != total:
            yield f"${amount} by {name}, ${total} by the provider's charges"
    if books.warehouse.charges != len(books.provider.charges):
        yield f"{books.warehouse.charges} paid attempts in the warehouse, {len(books.provider.charges)} charges"


def every_post_is_an_attempt(books: Books) -> Iterator[str]:
    """Nothing reached the provider that was not on record first."""
    for name, attempts in (("ledger", books.ledger.attempts), ("warehouse", books.warehouse.attempts)):
        if attempts < books.provider.posts:
            yield f"{books.provider.posts} POSTs at the provider, {attempts} attempts in the {name}"


def settled(books: Books) -> Iterator[str]:
    """Every generation succeeded, under a request of its own body that the provider charged; none is unknown."""
    wires = {charge.request_id: charge.wire for charge in books.provider.charges}
    for each in books.asked:
        state = books.ledger.states.get(each.generation_id)
        request_id = books.ledger.request_ids.get(each.generation_id) or "-"
        bought = wires.get(request_id)
        if state != "succeeded":
            yield f"generation {each.generation_id} is {state}"
        elif bought != each.wire:
            yield f"generation {each.generation_id} asks for {each.wire}, and its request {request_id} is {bought}"
    yield from _differ(books.ledger.states, (each.generation_id for each in books.asked), "in the ledger")


def stored(books: Books) -> Iterator[str]:
    """Every generation has its one file, with the digest that the warehouse names; there is no other file."""
    named = {row.output_uri: row.output_sha256 for row in books.warehouse.rows if row.output_uri}
    for uri, digest in named.items():
        if books.outputs.get(uri) != digest:
            yield f"{uri} has digest {books.outputs.get(uri)}, and should have {digest}"
    yield from _differ(books.outputs, named, "on disk")
    if len(named) != len(books.asked):
        yield f"{len(named)} files for {len(books.asked)} generations"


def loaded(books: Books) -> Iterator[str]:
    """Every prompt set has a row, with output, for each generation it asks for, and no other row."""
    wanted = {(key, each.generation_id) for each in books.asked for key in each.prompt_sets}
    found = Counter((row.prompt_set, row.generation_id) for row in books.warehouse.rows)
    yield from (f"{place} stands {times} times in the warehouse" for place, times in found.items() if times > 1)
    yield from _differ(found, wanted, "in the warehouse")
    for row in books.warehouse.rows:
        place = f"{row.prompt_set} / {row.generation_id}"
        if row.status != "succeeded" or not row.output_uri:
            yield f"{place} is {row.status} in the warehouse, with output {row.output_uri}"
        elif row.request_id != books.ledger.request_ids.get(row.generation_id):
            yield f"{place} has request {row.request_id} in the warehouse and another in the ledger"


CLAIMS: Mapping[str, Callable[[Books], Iterator[str]]] = {
    "charged exactly once": charged_once,
    "the money agrees": money_agrees,
    "every POST is on record": every_post_is_an_attempt,
    "nothing is unknown": settled,
    "everything is stored": stored,
    "everything is loaded": loaded,
}


def _differ(found: Iterable[object], wanted: Iterable[object], where: str) -> Iterator[str]:
    found, wanted = set(found), set(wanted)
    for kind, items in (("missing", wanted - found), ("too much", found - wanted)):
        if items:
            yield f"{len(items)} {kind} {where}, such as {next(iter(items))}"
