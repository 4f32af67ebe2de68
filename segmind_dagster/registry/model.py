"""The value types of a registry entry, and how a parameter value is checked against one.

The entries themselves are in `models`. Checks here are about single values; whether a whole prompt
set makes sense is decided in `prompts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

ApiVersion = Literal["v1", "v2"]
OutputKind = Literal["image", "video", "audio", "text"]
ParameterKind = Literal["string", "integer", "number", "boolean", "image"]

# Choices about how an answer travels, not about what is generated: set by the gateway, never by a prompt set.
TRANSPORT_PARAMETERS = frozenset({"base64"})

_PYTHON_TYPES: Mapping[ParameterKind, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "image": (str,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a model's body.

    Args:
        name: as the API spells it.
        kind: JSON type, or `image` for an image given by URL or local file.
        is_required: whether Segmind refuses a body without it.
        default: Segmind's own default, for display; it is never sent.
        minimum: smallest value, inclusive.
        maximum: largest value, inclusive.
        choices: the only values allowed; empty when any value is.
    """

    name: str
    kind: ParameterKind
    is_required: bool = False
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()

    def complaint(self, value: Any) -> str | None:
        """What is wrong with a value, or None when it may be sent."""
        is_bool_for_number = isinstance(value, bool) and self.kind != "boolean"
        if is_bool_for_number or not isinstance(value, _PYTHON_TYPES[self.kind]):
            expected = "an image URL or file" if self.kind == "image" else f"a value of type {self.kind}"
            return f"{value!r} is not {expected}"
        if self.choices and value not in self.choices:
            return f"{value!r} is not one of {', '.join(map(str, self.choices))}"
        # NaN compares false with every bound, so a float is also checked against itself
        if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124
            return f"{value!r} is not a finite number"
        if isinstance(value, (int, float)):
            if self.minimum is not None and value < self.minimum:
                return f"{value!r} is below the minimum of {self.minimum:g}"
            if self.maximum is not None and value > self.maximum:
                return f"{value!r} is above the maximum of {self.maximum:g}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of Segmind: everything this project needs to know to call it.

    Args:
        slug: as in the URL, case kept as published.
        resource: name of the dlt resource, the table and the last part of the asset key.
        title: for people.
        modality: for people, in the words of Segmind's catalogue.
        output: what comes back: bytes of an image, video or audio file, or a text model's answer.
        parameters: the documented parameters, seed included, transport choices left out.
        api_version: `v2` submits and polls, `v1` answers in the same exchange. v2 keeps a job's handle when
            a connection breaks, so it is the default.
        prompt_parameter: where the prompt goes; `messages` wraps it as one chat message of the user.
        seed_parameter: where the seed goes; None for a model without one.
        is_schema_published: False when Segmind publishes no schema, so that parameters pass unchecked.
        is_listed: False for a model that has no entry any more, and of which only the ledger knows.
    """

    slug: str
    resource: str
    title: str
    modality: str
    output: OutputKind
    parameters: tuple[Parameter, ...]
    api_version: ApiVersion = "v2"
    prompt_parameter: Literal["prompt", "messages"] = "prompt"
    seed_parameter: str | None = "seed"
    is_schema_published: bool = True
    is_listed: bool = True

    @property
    def parameter_names(self) -> frozenset[str]:
        """Names of the documented parameters."""
        return frozenset(parameter.name for parameter in self.parameters)

    @property
    def image_parameters(self) -> tuple[Parameter, ...]:
        """The parameters that take an image."""
        return tuple(parameter for parameter in self.parameters if parameter.kind == "image")

    def parameter(self, name: str) -> Parameter | None:
        """The documented parameter of that name, if there is one."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)
