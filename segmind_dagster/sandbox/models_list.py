"""The models list as Segmind's platform answers it: one row a model, parameters where the registry knows them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from segmind_dagster.sandbox.offers import offers

if TYPE_CHECKING:
    from segmind_dagster.registry import Parameter
    from segmind_dagster.sandbox.offers import Offer

_TYPES = {
    "Text-to-Image Generation": "textToImage",
    "Image-to-Image Transformation": "imageToImage",
    "Image-to-Video Generation": "imageToVideo",
    "Text-to-Video Generation": "textToVideo",
    "Text Generation (LLM)": "textToText",
    "Text-to-Audio Generation": "textToAudio",
    "Image-to-Text (Vision)": "imageToText",
    "Audio-to-Text (Transcription)": "audioToText",
    "Video-to-Audio Generation": "videoToAudio",
    "Image Inpainting": "imageToImage",
}


@cache
def model_rows() -> list[dict[str, Any]]:
    """All rows, in the catalogue's order."""
    return [_row(offer) for offer in offers().values()]


def _row(offer: Offer) -> dict[str, Any]:
    parameters = offer.model.parameters if offer.model else ()
    return {
        "title": offer.title,
        "type": _TYPES.get(offer.modality, offer.modality),
        "slug": offer.slug,
        "description": f"{offer.title}, simulated by the segmind-dagster sandbox.",
        "parameters": {parameter.name: _details(parameter, order) for order, parameter in enumerate(parameters)},
        # undocumented at Segmind: fields that carry their unit in their name are read where they are given
        "avg_cost_usd": float(offer.price_usd),
        "avg_latency_s": offer.latency_s,
        "is_visible": True,
        "default_image_output": None,
        "thumbnail_image": None,
        "is_depreciated": False,
        "is_new": False,
    }


def _details(parameter: Parameter, order: int) -> dict[str, Any]:
    return {
        "type": "string" if parameter.kind == "image" else parameter.kind,
        "isRequired": parameter.is_required,
        "affectsPricing": parameter.name == "samples",
        "displayValue": parameter.name.replace("_", " ").title(),
        "label": parameter.name,
        "default": parameter.default,
        "min": parameter.minimum,
        "max": parameter.maximum,
        "displayOrder": order,
        "description": "",
        "component": "image" if parameter.kind == "image" else "input",
        "hidden": False,
        "isAdvanced": False,
        "options": list(parameter.choices),
        "values": list(parameter.choices),
    }
