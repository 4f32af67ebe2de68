"""What is wrong with a request body, in the words a gateway would use.

Only finds complaints and says when each would surface; how a complaint is answered differs between v1 and
v2 and is decided in `gateway_routes`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from segmind_dagster.registry import Parameter
    from segmind_dagster.sandbox.offers import Offer

# Where the registry is stricter than Segmind: a missing sticker image falls back to a sample there,
# and up to four samples a request are allowed.
_SEGMIND_ALLOWS_NONE = frozenset({("face-to-sticker", "image")})
MAX_SAMPLES = 4

_JSON_NAMES = {
    "image": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "string",
}
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing wrong with a body.

    Args:
        kind: `missing` or of the wrong type; outside the declared `choice` or `range`; an `image` that cannot
            be read.
        message: what the answer or the failed job says.
    """

    kind: Literal["missing", "choice", "range", "image"]
    message: str


def complaints(offer: Offer, body: Mapping[str, Any], *, is_readable: Callable[[str], bool]) -> Iterator[Complaint]:
    """Everything wrong with a body, in the order of the model's parameters.

    Args:
        offer: the model called.
        body: the request's JSON object.
        is_readable: whether an image URL leads anywhere, as far as the sandbox can tell.
    """
    if offer.output == "text" and not (body.get("messages") or body.get("prompt")):
        yield Complaint("missing", "Messages is Mandatory and must be list")
    if offer.model is None:
        if "prompt" in body and not isinstance(body["prompt"], str):
            yield _mandatory("prompt", "string")
        return
    for parameter in offer.model.parameters:
        value = body.get(parameter.name)
        if value is None or value == "":
            if parameter.is_required and (offer.slug, parameter.name) not in _SEGMIND_ALLOWS_NONE:
                yield _mandatory(parameter.name, _JSON_NAMES[parameter.kind])
        elif complaint := _complaint_of(parameter, value, is_readable):
            yield complaint


def _complaint_of(parameter: Parameter, value: Any, is_readable: Callable[[str], bool]) -> Complaint | None:
    if parameter.name == "samples":
        parameter = replace(parameter, maximum=MAX_SAMPLES)
    if replace(parameter, minimum=None, maximum=None, choices=()).complaint(value):
        return _mandatory(parameter.name, _JSON_NAMES[parameter.kind])
    if complaint := parameter.complaint(value):
        kind: Literal["choice", "range"] = "choice" if parameter.choices else "range"
        return Complaint(kind, f"Invalid value for parameter {parameter.name}: {complaint}")
    if parameter.kind == "image":
        if not value.startswith(("http://", "https://", "data:")) and not _BASE64.fullmatch(value):
            return Complaint("image", f"{parameter.name} must be a valid URL or a base64 encoded image")
        if not is_readable(value):
            return Complaint("image", f"Unable to download the image given as {parameter.name}")
    return None


def _mandatory(name: str, kind: str) -> Complaint:
    return Complaint("missing", f"{name.replace('_', ' ').capitalize()} is Mandatory and must be {kind}")
