"""One prompt file -> one `PromptSet`, or every problem in it at once.

The order of the steps and nothing else: read, parse, validate, check against the models, expand.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from segmind_dagster.errors import Problem, PromptSetError
from segmind_dagster.prompts.batches import build_batches
from segmind_dagster.prompts.document import listed
from segmind_dagster.prompts.expansion import check_size, expand
from segmind_dagster.prompts.fields import validate_fields
from segmind_dagster.prompts.formats import FORMS, MAX_FILE_BYTES, parse_prompt_file
from segmind_dagster.prompts.images import ImageReader
from segmind_dagster.prompts.keys import key_complaint
from segmind_dagster.prompts.model import PromptSet
from segmind_dagster.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_prompt_set(path: Path, *, project_dir: Path) -> PromptSet:
    """Read, validate and expand a prompt file.

    Args:
        path: the file; its stem is the set's key.
        project_dir: local images must lie in it.

    Raises:
        PromptSetError: with every problem found; nothing was submitted.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise PromptSetError([Problem(path.name, f"a prompt file ends in one of {listed(FORMS)}; rename it")])
    complaint = key_complaint(path.stem)
    if complaint:
        raise PromptSetError([Problem(path.name, complaint)])
    data = _read(path)
    document = parse_prompt_file(data, file=path.name, form=form)
    images = ImageReader(folder=path.parent, project_dir=project_dir)
    fields, skipped = validate_fields(document)
    batches = build_batches(fields, skipped=skipped, document=document, images=images)
    check_size(batches, document)
    document.raise_problems()
    generations = expand(batches, key=path.stem, document=document)
    document.raise_problems()
    aimed = {generation.model.resource for generation in generations}
    return PromptSet(
        key=path.stem,
        path=path,
        digest=_digest(data, images.digests),
        description=fields.description,
        models=tuple(model for model in MODELS if model.resource in aimed),
        budget_usd=fields.budget_usd,
        max_unit_cost_usd=fields.max_unit_cost_usd,
        auto_run=fields.auto_run,
        generations=generations,
    )


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise PromptSetError(
                [Problem(file=path.name, message="this is not a regular file; a prompt set is one file")]
            )
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        message = f"the file cannot be read: {error.strerror or error}"
        raise PromptSetError([Problem(file=path.name, message=message)]) from error


def _digest(data: bytes, image_digests: Mapping[str, str]) -> str:
    parts = [sha256(data).hexdigest()]
    parts += [f"{text}\0{digest}" for text, digest in sorted(image_digests.items())]
    return sha256("\n".join(parts).encode()).hexdigest()
