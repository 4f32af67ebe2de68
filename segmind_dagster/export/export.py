"""Exports one prompt set into a folder of its own: written aside, then renamed, so that a name means a whole dataset.

An existing folder is never touched, unless it is an export and the caller allows it.
"""

from __future__ import annotations

import glob
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from segmind_dagster.data_folder import as_found
from segmind_dagster.errors import ExportError, OutputError
from segmind_dagster.export.files import read_all
from segmind_dagster.export.layouts import LAYOUTS
from segmind_dagster.export.rows import LeftOut, choose, left
from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.ledger import reads
from segmind_dagster.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from segmind_dagster.settings import Settings

Format = Literal["parquet", "imagefolder"]
# the first line of the README of every export
_MARK: Final = "<!-- exported by segmind-dagster -->"
_MOST_LISTED: Final = 200
# longer than any export may take without writing anything
_ABANDONED_S: Final = 86_400.0
_LEFT_BEHIND = re.compile(r"\.[0-9a-f]{12}\.(partial|former)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export came to.

    Args:
        folder: where it is.
        counts: outputs by kind.
        size_bytes: their size.
        left_out: what is not in it, and why.
    """

    folder: Path
    counts: dict[str, int]
    size_bytes: int
    left_out: tuple[LeftOut, ...]


def export_set(
    settings: Settings,
    prompt_set: str,
    folder: Path,
    *,
    form: Format,
    resources: Sequence[str] = (),
    also_former: bool = False,
    is_overwriting: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write a prompt set as a dataset.

    Args:
        settings: which ledger, which outputs.
        prompt_set: its key.
        folder: where to; must not exist, or be empty.
        form: the layout.
        resources: resource names of the models; all when empty.
        also_former: whether to take along what the set no longer asks for.
        is_overwriting: whether an earlier export in that folder is replaced.
        say: called now and then with the progress.

    Raises:
        ExportError: the folder is not an export or cannot be written, the set is unknown, or none of its outputs can be
            exported.
    """
    folder = Path(folder).expanduser().absolute()
    is_replacing = _check_target(folder, settings, is_overwriting=is_overwriting)
    names = list(resources) or [model.resource for model in MODELS]
    with as_found(settings) as (ledger, _), ledger.reading() as connection:
        records = [
            record for name in names for record in reads.set_rows(connection, resource=name, prompt_sets=[prompt_set])
        ]
    if not records:
        which = f" of {', '.join(resources)}" if resources else ""
        raise ExportError(
            f"The ledger holds nothing{which} for a prompt set {prompt_set!r}. `segmind-dagster plan --all` lists the "
            "sets; materialize one before it is exported."
        )
    items, left_out = choose(
        records, api_origin=settings.api_origin, redactor=redactor_of(settings), also_former=also_former
    )
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.partial")
    counts: dict[str, int] = {}
    size_bytes = 0
    try:
        aside.mkdir(parents=True)
        with LAYOUTS[form](aside, is_mixed=len({item.kind for item in items}) > 1) as layout:
            for number, (item, content) in enumerate(read_all(items), start=1):
                if isinstance(content, OutputError):
                    left_out.append(left(item.fields, "damaged", str(content)))
                else:
                    layout.add(item, content)
                    counts[item.kind] = counts.get(item.kind, 0) + 1
                    size_bytes += len(content)
                if number % 500 == 0:
                    say(f"{number} of {len(items)}")
        if not counts:
            raise ExportError(
                f"Nothing of {prompt_set!r} can be exported: {len(left_out)} generations, none of them stored and "
                f"whole{_reasons(left_out)}. `segmind-dagster collect` fetches what was paid for; materialize the rest."
            )
        (aside / "README.md").write_text(_card(prompt_set, form, counts, left_out, settings), encoding="utf-8")
        _put_in_place(aside, folder, is_replacing=is_replacing)
        _sweep(folder, say)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error}. Nothing was written.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(folder=folder, counts=counts, size_bytes=size_bytes, left_out=tuple(left_out))


def _check_target(folder: Path, settings: Settings, *, is_overwriting: bool) -> bool:
    """Whether an earlier export is there, to be replaced; raises when the folder is not an export."""
    outputs = settings.outputs_url
    if "://" not in outputs and folder.resolve().is_relative_to(Path(outputs).resolve()):
        raise ExportError(f"{folder} is inside the outputs folder, which holds outputs only. Choose another folder.")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ExportError(f"{folder} is there already and no folder. Nothing was written.")
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not _is_export(folder):
        raise ExportError(f"{folder} holds files that no export made. Nothing was written; choose a new folder.")
    if not is_overwriting:
        raise ExportError(f"{folder} holds an earlier export. Nothing was written; --overwrite replaces it.")
    return True


def _is_export(folder: Path) -> bool:
    try:
        with (folder / "README.md").open(encoding="utf-8") as card:
            return card.readline().rstrip("\n") == _MARK
    except (OSError, UnicodeDecodeError):
        return False


def _put_in_place(aside: Path, folder: Path, *, is_replacing: bool) -> None:
    """Rename; an earlier export is moved away first and removed last."""
    former = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.former")
    if is_replacing:
        folder.rename(former)
    try:
        aside.rename(folder)
    except OSError:
        if is_replacing:
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _sweep(folder: Path, say: Callable[[str], None]) -> None:
    """Remove what exports into this folder left beside it when they were killed, once no process can be writing it.

    Last of all, because what a killed one had moved away may have been the only export there was.
    """
    oldest = time.time() - _ABANDONED_S
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        if not _LEFT_BEHIND.fullmatch(path.name.removeprefix(f".{folder.name}")):
            continue
        if _last_written(path) < oldest:
            shutil.rmtree(path, ignore_errors=True)
        else:
            say(f"{path} belongs to another export, or to one that was killed: then an export removes it after a day.")


def _last_written(folder: Path) -> float:
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        # its owner is just removing it
        return time.time()


def _reasons(left_out: Sequence[LeftOut]) -> str:
    whys = sorted({each.why for each in left_out})
    return f" ({', '.join(whys)})" if whys else ""


def _card(
    prompt_set: str, form: Format, counts: dict[str, int], left_out: Sequence[LeftOut], settings: Settings
) -> str:
    """The README of the dataset: what it is, how to load it, what is missing."""
    lines = [
        _MARK,
        f"# {prompt_set}",
        "",
        f"Exported from `{settings.api_origin}` by segmind-dagster: "
        + ", ".join(f"{count} {kind}s" for kind, count in sorted(counts.items()))
        + ". `prompt`, `seed`, `params` and `model` say how each was made; `params` and `variables` are JSON.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        *(_loading(kind, form, is_mixed=len(counts) > 1) for kind in sorted(counts)),
        "```",
    ]
    if left_out:
        lines += [
            "",
            f"## Not in it: {len(left_out)}",
            "",
            "| generation | model | prompt | why |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {each.generation_id} | {each.model} | {_cell(each.prompt)} | {_cell(f'{each.why}: {each.error}')} |"
            for each in left_out[:_MOST_LISTED]
        ]
        if len(left_out) > _MOST_LISTED:
            lines.append(f"\nand {len(left_out) - _MOST_LISTED} more.")
    return "\n".join(lines) + "\n"


def _loading(kind: str, form: Format, *, is_mixed: bool) -> str:
    where = f'"{kind}"' if is_mixed else '"."'
    if form == "parquet":
        return f'{kind}s = load_dataset("parquet", data_dir={where}, split="train")'
    if kind == "text":
        path = f"{kind}/texts.jsonl" if is_mixed else "texts.jsonl"
        return f'texts = load_dataset("json", data_files="{path}", split="train")'
    return f'{kind}s = load_dataset("{kind}folder", data_dir={where}, split="train")'


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table, as text."""
    plain = " ".join(text.split())[:200]
    for special in "\\`*_[]<>|":
        plain = plain.replace(special, f"\\{special}")
    return plain
