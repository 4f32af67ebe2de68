"""The fields of a prompt set and of one prompt, as pydantic models, and pydantic's errors as sentences.

Holds what is true of a field by itself: its type, its range. What depends on the models aimed at is
checked in `parameters` and `batches`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from segmind_dagster.prompts.document import did_you_mean, listed

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from segmind_dagster.prompts.document import Document, Location

MAX_GENERATIONS = 100_000
_LARGEST_SEED = 2**63 - 1
_MOST_USD = Decimal(1_000_000_000)
_USD_PLACES = 9

# a set with one of these wrong can still be checked further: leaving it out makes nothing else look wrong
_INDEPENDENT_FIELDS = frozenset(
    {"description", "defaults", "samples", "seed", "sampling", "budget_usd", "max_unit_cost_usd", "auto_run"}
)


@dataclass(frozen=True, slots=True)
class AskedModel:
    """One entry of `models`.

    Args:
        name: resource name or slug, not looked up yet.
        params: parameters for that model alone.
        key: its place in `models`: a number in a list, a name in a mapping.
    """

    name: str
    params: dict[str, Any]
    key: int | str


def _asked_models(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple(AskedModel(name, {}, index) for index, name in enumerate(value))
    if isinstance(value, dict) and value and all(isinstance(params, dict | None) for params in value.values()):
        return tuple(AskedModel(name, params or {}, name) for name, params in value.items())
    raise ValueError("must be a list of model names, or a mapping from a model name to parameters for that model")


def _listed_models(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("must be a list of model names; give this prompt's parameters under 'params'")  # noqa: TRY004
    return _asked_models(value)


def _seeds(value: Any) -> Any:
    """One seed, or a tuple of them."""
    seeds = value if isinstance(value, list) else [value]
    for seed in seeds:
        if type(seed) is not int:
            raise ValueError(f"must be a whole number or a list of them, not {_shown(seed)}")
        if abs(seed) > _LARGEST_SEED:
            raise ValueError("must fit into 64 bits")
    if not seeds:
        raise ValueError("is an empty list; give one seed at least, or leave the field out")
    return tuple(seeds) if isinstance(value, list) else value


def _variable_values(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of one value or more, such as [fox, owl]")
    texts = []
    for item in value:
        if not isinstance(item, str | int | float):
            raise ValueError(f"{_shown(item)} is not a text; put it in quotes if it is meant as one")  # noqa: TRY004
        texts.append(item if isinstance(item, str) else json.dumps(item))
    return tuple(dict.fromkeys(texts))


def _usd(value: Any) -> Any:
    try:
        amount = Decimal(str(value)) if not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite():
        raise ValueError(f"must be an amount in US dollars such as 2.50, not {_shown(value)}")
    if not 0 < amount <= _MOST_USD:
        raise ValueError(f"must be more than 0 and at most {_MOST_USD:,}, not {_shown(value)}")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > _USD_PLACES:
        raise ValueError(f"has more than {_USD_PLACES} decimal places")
    return amount


def _prompt_fields(value: Any) -> Any:
    return {"prompt": value} if isinstance(value, str) else value


Samples = Annotated[int, Field(ge=1, le=MAX_GENERATIONS)]
Seeds = Annotated[int | tuple[int, ...] | None, BeforeValidator(lambda value: None if value is None else _seeds(value))]
Models = tuple[AskedModel, ...]
Variables = dict[str, Annotated[tuple[str, ...], BeforeValidator(_variable_values)]]
Usd = Annotated[Decimal, BeforeValidator(_usd)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class Sampling(_Fields):
    """How many combinations of the variables to draw, instead of all of them."""

    count: Samples
    seed: int = 0


class PromptFields(_Fields):
    """The fields of one prompt; None where the set's own field holds."""

    prompt: str
    params: dict[str, Any] | None = None
    models: Annotated[Models, BeforeValidator(_listed_models)] | None = None
    negative_prompt: str | None = None
    samples: Samples | None = None
    seed: Seeds = None
    variables: Variables | None = None
    image: str | None = None


class SetFields(_Fields):
    """The fields of a prompt set."""

    description: str | None = None
    models: Annotated[Models, BeforeValidator(_asked_models)] | None = None
    defaults: dict[str, Any] | None = None
    negative_prompt: str | None = None
    samples: Samples | None = None
    seed: Seeds = None
    variables: Variables | None = None
    sampling: Sampling | None = None
    image: str | None = None
    budget_usd: Usd | None = None
    max_unit_cost_usd: Usd | None = None
    auto_run: bool = False
    prompts: list[Annotated[PromptFields, BeforeValidator(_prompt_fields)]]


def validate_fields(document: Document) -> tuple[SetFields, frozenset[int]]:
    """The document's fields, typed; every field that is wrong is noted in the document.

    Returns:
        The fields that are right, so that they can be checked further, and the numbers of the prompts to skip.

    Raises:
        PromptSetError: what is wrong would make other fields look wrong too.
    """
    try:
        return SetFields.model_validate(document.fields), frozenset()
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        document.complain(_sentence(detail, document), _location(detail))
    faulty_prompts = {
        number
        for detail in details
        if detail["loc"][0] == "prompts"
        for number in detail["loc"][1:2]
        if isinstance(number, int)
    }
    faulty_fields = {detail["loc"][0] for detail in details if detail["loc"][:1] != ("prompts",)}
    unknown = {detail["loc"][0] for detail in details if detail["type"] == "extra_forbidden"}
    prompts = document.fields.get("prompts")
    if not isinstance(prompts, list) or len(faulty_prompts) == len(prompts):
        document.stop()
    if not faulty_fields <= _INDEPENDENT_FIELDS | (unknown - set(SetFields.model_fields)):
        document.stop()
    fields = {name: value for name, value in document.fields.items() if name not in faulty_fields}
    # a faulty prompt is emptied, not removed: the others keep their numbers
    fields["prompts"] = ["" if index in faulty_prompts else prompt for index, prompt in enumerate(prompts)]
    return SetFields.model_validate(fields), frozenset(faulty_prompts)


def _location(detail: ErrorDetails) -> Location:
    return tuple(part for part in detail["loc"] if part != "[key]")


_SENTENCES = {
    "missing": "is missing; it is required",
    "bool_type": "must be true or false, not {shown}",
    "string_type": "must be a text, not {shown}; put it in quotes if it is meant as one",
    "int_type": "must be a whole number, not {shown}",
    "greater_than_equal": f"must be from 1 to {MAX_GENERATIONS:,}, not {{shown}}",
    "less_than_equal": f"must be from 1 to {MAX_GENERATIONS:,}, not {{shown}}",
    "dict_type": "must be a mapping of names to values, not {shown}",
    "model_type": "must be a mapping of names to values, not {shown}",
    "list_type": "must be a list, not {shown}",
}


def _sentence(detail: ErrorDetails, document: Document) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "extra_forbidden":
        at = _location(detail)
        return _unknown_field(str(at[-1]), detail["input"], at)
    if kind == "model_type" and detail["loc"][0] == "prompts":
        return f"must be a text in quotes, or a mapping of a prompt's fields, not {_shown(detail['input'])}"
    if kind == "missing" and document.form == "csv":
        return "the cell is empty; every row needs a prompt"
    return _SENTENCES.get(kind, detail["msg"].replace("{", "{{").replace("}", "}}")).format(
        shown=_shown(detail["input"])
    )


def _unknown_field(name: str, value: Any, at: Location) -> str:
    is_of_prompt = at[0] == "prompts"
    fields = PromptFields if is_of_prompt else Sampling if at[0] == "sampling" else SetFields
    known = list(fields.model_fields)
    owner = "a prompt" if is_of_prompt else "'sampling'" if fields is Sampling else "a prompt set"
    hint = did_you_mean(name, known)
    if is_of_prompt and value is None and not hint:
        hint = " To begin a prompt with a placeholder, put the whole prompt in quotes."
    return f"{name[:100]!r} is not a field of {owner}.{hint} Its fields are: {listed(known)}"


def _shown(value: Any) -> str:
    """A value for a message, in YAML's words rather than Python's."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."  # noqa: PLR2004 - one line of a message
