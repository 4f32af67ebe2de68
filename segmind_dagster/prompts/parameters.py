"""Parameters for one model: names, values and images checked against its registry entry.

Which layers of parameters there are, and which of them wins, is decided in `batches`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segmind_dagster.prompts.document import did_you_mean, listed
from segmind_dagster.prompts.images import ImageInputError
from segmind_dagster.registry.model import TRANSPORT_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.lifecycle.generation import ImageInput
    from segmind_dagster.prompts.document import Document, Location
    from segmind_dagster.prompts.images import ImageReader
    from segmind_dagster.registry import Model, Parameter

_FIELDS_OF_THEIR_OWN = frozenset({"prompt", "negative_prompt", "seed"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """Checked parameters for one model.

    Args:
        values: parameters that go into the body, image URLs included.
        images: local image files by parameter name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, ImageInput] = field(default_factory=dict)

    def overridden_by(self, stronger: Inputs) -> Inputs:
        """Both together; where both give a parameter, the stronger one's."""
        given = stronger.values.keys() | stronger.images.keys()
        return Inputs(
            {**{name: value for name, value in self.values.items() if name not in given}, **stronger.values},
            {**{name: image for name, image in self.images.items() if name not in given}, **stronger.images},
        )

    def missing_for(self, model: Model) -> list[Parameter]:
        """The parameters without which Segmind would refuse the body, prompt and seed aside."""
        elsewhere = {"prompt", "negative_prompt", model.prompt_parameter, model.seed_parameter}
        return [
            parameter
            for parameter in model.parameters
            if parameter.is_required and parameter.name not in {*elsewhere, *self.values, *self.images}
        ]


class ParameterCheck:
    """Checks the parameters of one prompt file."""

    def __init__(self, *, document: Document, images: ImageReader) -> None:
        self._document = document
        self._images = images

    def parameters(self, raw: Mapping[str, Any], *, model: Model, at: Location) -> Inputs:
        """The parameters that may be sent to a model; the others are noted as problems.

        Args:
            raw: names and values as the file gives them.
            model: the model they are for.
            at: where they stand in the file.
        """
        values: dict[str, Any] = {}
        images: dict[str, ImageInput] = {}
        for name, value in raw.items():
            parameter = model.parameter(name)
            complaint = _name_complaint(name, model, parameter)
            if complaint is None and value is None and parameter is not None:
                complaint = "has no value; give one, or leave the parameter out"
            if complaint is None and parameter is not None and parameter.kind == "image" and isinstance(value, str):
                self._put_image(name, value, (*at, name), values, images)
                continue
            if complaint is None:
                complaint = parameter.complaint(value) if parameter else _json_complaint(value)
                complaint = complaint and f"{complaint} ({model.resource})"
            if complaint is None:
                values[name] = value
            else:
                self._document.complain(complaint, (*at, name))
        return Inputs(values, images)

    def image(self, text: str, *, model: Model, at: Location) -> Inputs:
        """The field `image`, as the model's first image parameter."""
        if not model.image_parameters:
            self._document.complain(f"{model.resource} takes no image; leave it out, or aim at another model", at)
            return Inputs()
        values: dict[str, Any] = {}
        images: dict[str, ImageInput] = {}
        self._put_image(model.image_parameters[0].name, text, at, values, images)
        return Inputs(values, images)

    def _put_image(
        self, name: str, text: str, at: Location, values: dict[str, Any], images: dict[str, ImageInput]
    ) -> None:
        try:
            image = self._images.read(text)
        except ImageInputError as error:
            self._document.complain(str(error), at)
            # something must stand in, so that the image is not reported as missing too
            values[name] = text
            return
        if image.url is not None:
            values[name] = image.url
        else:
            images[name] = image


def _name_complaint(name: str, model: Model, parameter: Parameter | None) -> str | None:  # noqa: PLR0911 - one return a rule
    if name in TRANSPORT_PARAMETERS:
        return f"{name!r} cannot be given: how answers travel is decided by the project, not by a prompt set"
    if name == "samples":
        return "'samples' is a field, not a parameter: write it beside 'params'; each sample is one request"
    if name in _FIELDS_OF_THEIR_OWN:
        return f"{name!r} is a field, not a parameter: write it beside 'params' or 'defaults', not in them"
    if name == model.prompt_parameter:
        return f"{name!r} cannot be given: {model.resource} gets the prompt there"
    if name == model.seed_parameter:
        return f"{name!r} cannot be given: {model.resource} gets the seed there; write it in the field 'seed'"
    if parameter is None and name == "image" and model.is_schema_published:
        return f"'image' is a field, not a parameter of {model.resource}: write it beside 'params' or 'defaults'"
    if parameter is None and model.is_schema_published:
        known = model.parameter_names - _FIELDS_OF_THEIR_OWN - TRANSPORT_PARAMETERS - {"samples"}
        return (
            f"{name[:100]!r} is not a parameter of {model.resource}.{did_you_mean(name, known)} "
            f"Its parameters are: {listed(known)}"
        )
    return None


def _json_complaint(value: Any) -> str | None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return "holds a number that is not finite"
    return None
