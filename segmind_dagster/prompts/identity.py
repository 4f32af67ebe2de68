"""What makes two generations the same one: the recipe of `generation_id`, and of derived seeds.

Only what Segmind would see goes in, never a file name, a position or the clock. The recipe is frozen:
ledgers hold its results. A changed recipe needs a higher `VERSION` and a migration from old ids to new.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
_ID_LENGTH = 32
_DERIVED_SEEDS = 2**31

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, 7 and 7.0 alike.

    Raises:
        ValueError: NaN or infinity, which JSON cannot hold.
    """
    return _ENCODER.encode(_with_whole_numbers(value))


def generation_id(slug: str, body: Mapping[str, Any], image_digests: Mapping[str, str], sample: int) -> str:
    """The identity of one generation, 32 hex digits.

    Args:
        slug: the model, as in the URL.
        body: as it will be sent, without local images.
        image_digests: SHA-256 of local image files by parameter name.
        sample: number of the sample, 0-based.
    """
    recipe = {"v": VERSION, "slug": slug, "body": body, "images": image_digests, "sample": sample}
    return sha256(canonical_json(recipe).encode()).hexdigest()[:_ID_LENGTH]


def derived_seed(prompt: str, parameters: Mapping[str, Any], image_digests: Mapping[str, str], sample: int) -> int:
    """The seed of a generation that names none: the same wherever the same thing is asked for.

    Args:
        prompt: the text, placeholders filled in.
        parameters: everything else in the body, image URLs included.
        image_digests: SHA-256 of local image files by parameter name.
        sample: number of the sample, 0-based.

    Returns:
        An integer from 0 to 2**31 - 1.
    """
    recipe = {"prompt": prompt, "parameters": parameters, "images": image_digests, "sample": sample}
    return int.from_bytes(sha256(canonical_json(recipe).encode()).digest()) % _DERIVED_SEEDS


def _with_whole_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_whole_numbers(item) for item in value]
    return value
