"""What one generation was asked for: model, prompt, parameters, seed, sample.

Its id is the digest of these, so it tells whether remembered inputs are the very ones that were sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import RegistryError
from segmind_dagster.prompts.identity import generation_id as identify
from segmind_dagster.registry import find_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.recovery.files import OnDisk
    from segmind_dagster.registry import Model

# enough for every set in use; a larger number only goes unrecognised
_SAMPLES = 64
_SEEDS = range(-(2**63), 2**63)


def inputs_of(
    generation_id: str, *, asked: Generation | None, disk: OnDisk | None, row: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The input columns of `generations`.

    Args:
        generation_id: the generation.
        asked: how a prompt file asks for it now; exact.
        disk: what the outputs folder holds of it.
        row: what the warehouse remembers of it.
    """
    sidecar = disk.sidecar if disk else None
    reported_seed = sidecar.seed if sidecar else None
    if asked is not None:
        seed = next((seed for seed in (reported_seed, row and row["seed"], asked.seed) if seed is not None), None)
        return {
            "model_slug": asked.model.slug,
            "resource": asked.model.resource,
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "body": dict(asked.body),
            "images": {name: image.sha256 for name, image in asked.images.items()},
            "variables": dict(asked.variables),
            "seed": seed,
            "sample": asked.sample,
        }
    resource = disk.resource if disk else str(row["resource"]) if row else ""
    model = _model(resource)
    slug = (model and model.slug) or (sidecar and sidecar.model_slug) or (row and row["model_slug"]) or resource
    images: Mapping[str, str] = (row["images"] if row else None) or {}
    if sidecar is not None and sidecar.images:
        images = sidecar.images
    bodies = [dict(sidecar.body)] if sidecar and sidecar.body is not None else []
    bodies += _bodies_of_row(row, model)
    body, sample = _recognised(generation_id, slug, bodies, images)
    if sample is None:
        sample = (row and row["sample"]) or 0
    variables = row and row["variables"]
    sent_seed = body.get(model.seed_parameter) if model and model.seed_parameter else body.get("seed")
    return {
        "model_slug": slug,
        "resource": resource,
        "prompt": (row and row["prompt"]) or _prompt(body),
        "negative_prompt": (row and row["negative_prompt"]) or _text(body.get("negative_prompt")),
        "body": body,
        "images": dict(images),
        "variables": variables if isinstance(variables, dict) else {},
        "seed": next(
            (seed for seed in (reported_seed, row and row["seed"], sent_seed) if _is_seed(seed)), None
        ),
        "sample": sample,
    }  # fmt: skip


def _model(resource: str) -> Model | None:
    try:
        return find_model(resource)
    except RegistryError:  # its entry was removed
        return None


def _bodies_of_row(row: Mapping[str, Any] | None, model: Model | None) -> Iterator[dict[str, Any]]:
    """Bodies that a warehouse row may stand for: its seed is the one sent, or the one that was drawn instead."""
    if row is None or row["prompt"] is None:
        return
    is_chat = model is not None and model.prompt_parameter == "messages"
    body: dict[str, Any] = (
        {"messages": [{"role": "user", "content": row["prompt"]}]} if is_chat else {"prompt": row["prompt"]}
    )
    body |= row["parameters"]
    if row["negative_prompt"]:
        body["negative_prompt"] = row["negative_prompt"]
    name = model.seed_parameter if model else "seed"
    if name is None:
        yield body
        return
    for seed in (row["seed"], -1):
        if seed is not None:
            yield {**body, name: seed}
    yield body


def _recognised(
    generation_id: str, slug: str, bodies: list[dict[str, Any]], images: Mapping[str, str]
) -> tuple[dict[str, Any], int | None]:
    """The body that was sent and its sample number, by the id they make; else the best guess."""
    for body in bodies:
        for sample in range(_SAMPLES):
            if identify(slug, body, images, sample) == generation_id:
                return body, sample
    return (bodies[0] if bodies else {}), None


def _prompt(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return _text(messages[-1].get("content")) or ""
    return _text(body.get("prompt")) or ""


def _text(value: Any) -> str | None:
    # PostgreSQL holds no NUL
    return value.replace("\0", "") if isinstance(value, str) and value else None


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _SEEDS
