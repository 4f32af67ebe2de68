"""What the sandbox sells: every model of the registry and of the bundled catalogue, with price and latency.

Titles and modalities come from the same bundled file as the prices. How a body is checked is in
`validation`; what a job of a model costs in the end is in `jobs`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from segmind_dagster.registry import MODELS, bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.registry import Model, OutputKind

UNLISTED_PRICE_USD = Decimal("0.13")
UNLISTED_LATENCY_S = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One model the sandbox answers for.

    Args:
        slug: as in the URL.
        title: for people.
        modality: in the catalogue's words.
        price_usd: mean price of a request.
        latency_s: mean time from submission to result.
        output: what a job gives.
        model: the registry entry; None for a model only the catalogue knows.
    """

    slug: str
    title: str
    modality: str
    price_usd: Decimal
    latency_s: float
    output: OutputKind
    model: Model | None = None


@cache
def offers() -> Mapping[str, Offer]:
    """Every model by slug."""
    catalogue = bundled_catalogue()
    text = resources.files("segmind_dagster.registry").joinpath("catalogue.csv").read_text(encoding="utf-8")
    listed = {row["slug"]: row for row in csv.DictReader(text.splitlines())}
    models = {model.slug: model for model in MODELS}
    found: dict[str, Offer] = {}
    for slug in (*listed, *(slug for slug in models if slug not in listed)):
        row, model, usual = listed.get(slug), models.get(slug), catalogue.get(slug)
        modality = row["modality"] if row else model.modality if model else ""
        found[slug] = Offer(
            slug=slug,
            title=row["name"] if row else model.title if model else slug,
            modality=modality,
            price_usd=usual.cost_usd if usual.cost_usd is not None else UNLISTED_PRICE_USD,
            latency_s=usual.latency_s if usual.latency_s is not None else UNLISTED_LATENCY_S,
            output=model.output if model else _output_of(modality),
            model=model,
        )
    return MappingProxyType(found)


def _output_of(modality: str) -> OutputKind:
    """`Text-to-Image Generation` or `videoToText` end in what they give; `Text Generation (LLM)` starts with it."""
    gives = modality.lower().rpartition("to")[2]
    if any(word in gives for word in ("text", "transcription", "embed")):
        return "text"
    if "video" in gives:
        return "video"
    return "audio" if any(word in gives for word in ("audio", "voice")) else "image"
