"""`segmind-dagster resolve`: shows submissions of unknown outcome and the requests they may be; a person decides.

What a word does is in `runner.resolving`; here are only arguments and sentences.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.gateway.redaction import Redactor
    from segmind_dagster.lifecycle.matching import HistoryRow, Likeness
    from segmind_dagster.runner.resolving import Doubt
    from segmind_dagster.settings import Settings

_CANDIDATES: Final = 3
_BODY: Final = 240


@click.command()
@click.argument("generation", required=False)
@click.option("--adopt", "request_id", metavar="REQUEST", help="It arrived: Segmind's id of the request.")
@click.option("--absent", "is_absent", is_flag=True, help="It never arrived: it may be bought again.")
@click.option("--buy-again", is_flag=True, help="It was paid for, and its file is lost: the next run pays again.")
def resolve(generation: str | None, request_id: str | None, *, is_absent: bool, buy_again: bool) -> None:
    """Decide about a submission whose outcome could not be found out; without arguments, list them."""
    from segmind_dagster.runner import resolving
    from segmind_dagster.settings import load_settings

    if sum((is_absent, bool(request_id), buy_again)) != (generation is not None):
        raise click.UsageError(
            "Give a GENERATION and just one of --adopt REQUEST, --absent and --buy-again; or nothing at all, to see "
            "what is unresolved."
        )
    settings = load_settings()
    if generation is None:
        _list(settings)
    elif request_id:
        record = resolving.adopt(settings, generation, request_id)
        click.echo(f"{record.generation_id} is request {request_id}. Fetch it with `segmind-dagster collect`.")
    elif buy_again:
        record = resolving.buy_again(settings, generation)
        paid = "an unknown amount" if record.cost_usd is None else f"${record.cost_usd:.4f}"
        click.echo(
            f"{record.generation_id} is written off, after {paid} was paid for it; the next run of "
            f"'{record.prompt_set}' pays for it once more. Checks show that charge as bought again by decision."
        )
    else:
        record = resolving.declare_absent(settings, generation)
        click.echo(f"{record.generation_id} counts as never sent; the next run of '{record.prompt_set}' buys it.")


def _list(settings: Settings) -> None:
    from segmind_dagster.gateway.redaction import redactor_of
    from segmind_dagster.runner import resolving

    found, problem = resolving.doubts(settings)
    unclear = resolving.unclear(settings)
    for each in unclear:
        click.echo(
            f"{each.generation_id}  {each.model.slug}  {each.prompt_set}  request {each.request_id} failed as "
            f"{each.failure_kind or 'no kind recorded'}, which this version does not know: it may be paid for. "
            "`segmind-dagster collect` asks for it; `segmind-dagster resolve GENERATION --buy-again` gives it up."
        )
    if not found:
        click.echo(f"{len(unclear)} may be paid for." if unclear else "Nothing is unresolved.")
        return
    redactor = redactor_of(settings)
    for doubt in found:
        for line in _lines(doubt, redactor):
            click.echo(line)
    if problem:
        click.echo(f"Segmind's history could not be asked what they may be: {problem}")
    click.echo(
        f"{len(found)} unresolved. First `segmind-dagster collect`, which looks them up. Only if that cannot tell: "
        "compare what was sent with the requests that it may be, here or on segmind.com; then say "
        "`segmind-dagster resolve GENERATION --adopt REQUEST`, or --absent (may buy again)."
    )


def _lines(doubt: Doubt, redactor: Redactor) -> Iterator[str]:
    """A submission and what it may be, one under the other."""
    record = doubt.record
    when = f"{record.intent_at:%Y-%m-%d %H:%M:%S} UTC" if record.intent_at else "unknown time"
    why = record.error or "no answer came"
    yield f"{record.generation_id}  {record.model.slug}  {record.prompt_set}  sent {when}: {why}"
    yield f"    sent:    {_shown(record.body, redactor)}"
    for likeness, row in doubt.candidates[:_CANDIDATES]:
        yield f"    may be:  {_shown(row.body, redactor)}"
        yield f"             {_request(likeness, row)}"
    if len(doubt.candidates) > _CANDIDATES:
        yield f"    and {len(doubt.candidates) - _CANDIDATES} more"


def _request(likeness: Likeness, row: HistoryRow) -> str:
    cost = "cost not known" if row.cost_usd is None else f"${row.cost_usd:.4f}"
    when = "at an unknown time" if row.created_at is None else f"{row.created_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"request {row.request_id}, {row.model_slug}, {when}, {cost} ({_LIKENESS[likeness.name]})"


_LIKENESS: Final[Mapping[str, str]] = {
    "SIMILAR": "similar, or not readable",
    "ALTERED": "the same as far as it says anything",
    "REWRITTEN": "the same in other words",
    "EXTENDED": "the same, with more keys",
    "EXACT": "the same; `collect` adopts it",
}


def _shown(body: Mapping[str, Any] | None, redactor: Redactor) -> str:
    if body is None:
        return "(not readable)"
    text = json.dumps(redactor.values(body), ensure_ascii=False)
    return text if len(text) <= _BODY else f"{text[:_BODY]}..."
