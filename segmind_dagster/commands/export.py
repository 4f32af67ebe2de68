"""`segmind-dagster export`: a prompt set as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from segmind_dagster.export import Format

_MOST_SHOWN = 10


@click.command()
@click.argument("prompt_set")
@click.option(
    "--output", "folder", required=True, type=click.Path(path_type=Path), help="Folder to make; must not exist yet."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "imagefolder"]),
    default="parquet",
    show_default=True,
    help="Parquet with the files inside, or files with metadata.jsonl.",
)
@click.option("--model", "models", multiple=True, metavar="RESOURCE", help="Only of this model; may be repeated.")
@click.option("--also-former", is_flag=True, help="Also what the set no longer asks for.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in that folder.")
def export(
    prompt_set: str, folder: Path, form: Format, models: tuple[str, ...], *, also_former: bool, overwrite: bool
) -> None:
    """Write a prompt set as a dataset that Hugging Face's `datasets` loads as it is; nothing is bought."""
    from segmind_dagster.export import export_set
    from segmind_dagster.registry import find_model
    from segmind_dagster.settings import load_settings

    exported = export_set(
        load_settings(),
        prompt_set,
        folder,
        form=form,
        resources=[find_model(name).resource for name in models],
        also_former=also_former,
        is_overwriting=overwrite,
        say=click.echo,
    )
    what = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in sorted(exported.counts.items()))
    click.echo(f"{what}, {exported.size_bytes / 1e6:.1f} MB, in {exported.folder}")
    if exported.left_out:
        click.secho(f"Left out: {len(exported.left_out)}, listed in its README.md.", fg="yellow", err=True)
        for each in exported.left_out[:_MOST_SHOWN]:
            click.echo(f"  {each.generation_id}  {each.model}  {each.why}: {each.error[:120]}", err=True)
