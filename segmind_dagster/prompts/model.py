"""The values this package hands on: an image input, one generation asked for, one prompt set.

Plain frozen dataclasses that know nothing of files, YAML or budgets. What a generation is allowed to
cost is decided in `planning`; whether it was already paid for, in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from pathlib import Path

    from segmind_dagster.registry import Model


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image that a model takes: either a URL, or a local file with its digest.

    Args:
        url: where Segmind can fetch the image; None for a local file.
        path: the local file, resolved; None for a URL.
        sha256: hex digest of the local file's bytes; None for a URL.
    """

    url: str | None
    path: Path | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One generation asked for, fully expanded.

    Args:
        generation_id: identity of what is bought; see `prompts.identity`.
        prompt_set: key of the set that asks for it.
        model: the registry entry.
        prompt: the text, placeholders filled in.
        negative_prompt: what to avoid, placeholders filled in; None when nothing is sent.
        body: as it will be sent, without the images of `images`. No registry defaults are filled in.
        images: local image files by parameter name; URLs stand in `body` as text.
        seed: the seed sent; None for a model without one.
        sample: number of the sample, 0-based.
        variables: the placeholder values used.
        position: order in the set, 0-based.
    """

    generation_id: str
    prompt_set: str
    model: Model
    prompt: str
    negative_prompt: str | None
    body: Mapping[str, Any]
    images: Mapping[str, ImageInput]
    seed: int | None
    sample: int
    variables: Mapping[str, str]
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """One prompt file, validated and expanded.

    Args:
        key: stem of the file; the partition key.
        path: the file.
        digest: SHA-256, hex, over the file's bytes and the digests of the local images it refers to.
        description: for people.
        models: every model aimed at, in registry order.
        budget_usd: cap on the set's lifetime spend; None for no cap of its own.
        max_unit_cost_usd: most that one generation may cost, for models without a known price.
        auto_run: whether a change of the file starts a run by itself.
        requests: every generation of every model, in file order.
    """

    key: str
    path: Path
    digest: str
    description: str | None
    models: tuple[Model, ...]
    budget_usd: Decimal | None
    max_unit_cost_usd: Decimal | None
    auto_run: bool
    requests: tuple[GenerationRequest, ...]

    def requests_for(self, resource: str) -> tuple[GenerationRequest, ...]:
        """The generations of one model, in file order; empty when the set does not aim at it."""
        return tuple(request for request in self.requests if request.model.resource == resource)
