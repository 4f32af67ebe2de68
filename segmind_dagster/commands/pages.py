"""The commands that make pages: `gallery` and `report`. The console script itself is in `cli`.

Imports are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("prompt_sets", metavar="[SET]...", nargs=-1)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pages, one folder a prompt set; beside the outputs when omitted.",
)
def gallery(prompt_sets: tuple[str, ...], output: Path | None) -> None:
    """Write a page with all outputs of each prompt set, and a contact sheet; of all sets when none is named."""
    from segmind_dagster.data_folder import as_found
    from segmind_dagster.reports.gallery import gallery_keys, write_gallery
    from segmind_dagster.settings import load_settings

    settings = load_settings()
    with as_found(settings) as (ledger, _):
        known = gallery_keys(ledger)
        strangers = [key for key in prompt_sets if key not in known]
        if strangers:
            raise click.UsageError(
                f"Nothing was ever asked for by {', '.join(map(repr, strangers))}. "
                f"The ledger knows: {', '.join(known) or 'no prompt set yet'}."
            )
        for key in dict.fromkeys(prompt_sets or known):
            written = write_gallery(ledger, settings, key, output=output)
            counts = ", ".join(f"{count} {status}" for status, count in written.by_status.items())
            click.echo(f"{key}: {counts or 'nothing asked for any more'}\n  {written.uri}")
    if not known:
        click.echo("No prompt set has asked for anything yet. Materialize one, then try again.")


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the page; usage_report.html in the data folder when omitted.",
)
def report(output: Path | None) -> None:
    """Write one page with charts of what was asked for, made and spent, from the usage summaries."""
    from segmind_dagster.reports.usage_report import write_usage_report
    from segmind_dagster.settings import load_settings
    from segmind_dagster.source.destinations import duckdb_path

    settings = load_settings()
    if (warehouse := duckdb_path(settings)) is not None and not warehouse.exists():
        click.echo(
            "Nothing has been loaded yet, so no page was written: materialize a prompt set and usage/... in "
            "`segmind-dagster dev`, or run `segmind-dagster demo`."
        )
        return
    written = write_usage_report(settings, output=output)
    if written.is_empty:
        click.echo("The usage summaries hold nothing yet: materialize usage/..., or run `make demo`. The page says so.")
    click.echo(written.uri)
