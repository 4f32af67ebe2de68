"""The registry: entries that can be called, values that may be sent, and what models usually cost."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.errors import RegistryError
from segmind_dagster.registry import (
    MODELS,
    ApiVersion,
    Catalogue,
    CatalogueEntry,
    Model,
    OutputKind,
    Parameter,
    bundled_catalogue,
    find_model,
)
from segmind_dagster.registry.model import TRANSPORT_PARAMETERS, ParameterKind

SEED_DOCUMENT_RESOURCES = {
    "fast_flux_schnell": "fast-flux-schnell",
    "face_to_sticker": "face-to-sticker",
    "instantid": "instantid",
    "sdxl_newreality": "sdxl1.0-newreality-lightning",
    "consistent_character_neolemon_v2": "consistent-character-AI-neolemon-v2",
}
every_model = pytest.mark.parametrize("model", MODELS, ids=[model.resource for model in MODELS])


def parameter(kind: str, **fields: Any) -> Parameter:
    return Parameter(name="it", kind=kind, **fields)


@pytest.mark.parametrize("attribute", ["slug", "resource", "title"])
def test_model_names_are_unique(attribute: str) -> None:
    names = [getattr(model, attribute) for model in MODELS]
    assert len(set(names)) == len(names)
    assert all(names)


def test_a_resource_name_is_never_the_slug_of_another_model() -> None:
    resources = {model.resource: model for model in MODELS}
    assert all(resources.get(model.slug, model) is model for model in MODELS)


def test_every_resource_of_the_seed_document_is_there_under_its_slug() -> None:
    assert {model.resource: model.slug for model in MODELS}.items() >= SEED_DOCUMENT_RESOURCES.items()


@every_model
def test_a_model_has_a_slug_and_a_resource_name(model: Model) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", model.slug)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", model.resource)
    assert model.resource.isidentifier()
    assert not model.resource.startswith("_dlt")


@every_model
def test_a_model_is_of_a_known_kind_and_version(model: Model) -> None:
    assert model.output in get_args(OutputKind)
    assert model.api_version in get_args(ApiVersion)
    assert model.modality


@every_model
def test_a_model_says_where_its_prompt_and_its_seed_go(model: Model) -> None:
    names = model.parameter_names
    assert model.prompt_parameter == "messages" or model.prompt_parameter in names
    assert model.seed_parameter is None or model.seed_parameter in names


@every_model
def test_the_parameters_of_a_model_are_named_once_and_none_is_about_transport(model: Model) -> None:
    names = [parameter.name for parameter in model.parameters]
    assert len(names) == len(set(names))
    assert not set(names) & TRANSPORT_PARAMETERS


@every_model
def test_every_parameter_accepts_its_own_default_and_has_its_limits_in_order(model: Model) -> None:
    for each in model.parameters:
        assert each.kind in get_args(ParameterKind)
        assert each.default is None or each.complaint(each.default) is None
        assert each.minimum is None or each.maximum is None or each.minimum <= each.maximum
        assert all(each.complaint(choice) is None for choice in each.choices)
        assert not (each.is_required and each.default is not None)


@every_model
def test_several_images_for_one_charge_cannot_be_requested(model: Model) -> None:
    samples = model.parameter("samples")
    assert samples is None or samples.complaint(2) is not None


@every_model
def test_a_model_can_be_found_by_either_name(model: Model) -> None:
    assert find_model(model.resource) is model
    assert find_model(model.slug) is model


@every_model
def test_parameter_lookups_agree_with_the_registry_entry(model: Model) -> None:
    assert model.parameter("no such parameter") is None
    assert [model.parameter(each.name) for each in model.parameters] == list(model.parameters)
    assert {each.name for each in model.image_parameters} == {p.name for p in model.parameters if p.kind == "image"}


def test_an_unknown_model_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(RegistryError, match="'no-such-model'") as raised:
        find_model("no-such-model")
    assert raised.value.name == "no-such-model"
    assert set(raised.value.known) == {model.resource for model in MODELS}
    assert "fast_flux_schnell" in str(raised.value)


ACCEPTED = [
    (parameter("string"), "text"),
    (parameter("string"), ""),
    (parameter("integer"), 7),
    (parameter("integer"), -1),
    (parameter("integer", minimum=-1, maximum=2**63 - 1), 2**63 - 1),
    (parameter("number"), 7),
    (parameter("number"), 7.5),
    (parameter("number", minimum=0, maximum=1), 0),
    (parameter("number", minimum=0, maximum=1), 1.0),
    (parameter("boolean"), True),
    (parameter("boolean"), False),
    (parameter("image"), "https://example.com/face.jpg"),
    (parameter("string", choices=("1:1", "16:9")), "16:9"),
]
REFUSED = [
    (parameter("string"), 7, "not a value of type string"),
    (parameter("string"), None, "not a value of type string"),
    (parameter("integer"), "7", "not a value of type integer"),
    (parameter("integer"), 7.0, "not a value of type integer"),
    (parameter("integer"), True, "not a value of type integer"),
    (parameter("number"), False, "not a value of type number"),
    (parameter("number"), "0.5", "not a value of type number"),
    (parameter("number"), float("nan"), "not a finite number"),
    (parameter("number"), float("inf"), "not a finite number"),
    (parameter("number"), float("-inf"), "not a finite number"),
    (parameter("number", minimum=0, maximum=1), float("nan"), "not a finite number"),
    (parameter("number", minimum=0, maximum=1), -0.001, "below the minimum of 0"),
    (parameter("number", minimum=0, maximum=1), 1.001, "above the maximum of 1"),
    (parameter("integer", minimum=4, maximum=100), 3, "below the minimum of 4"),
    (parameter("integer", minimum=4, maximum=100), 101, "above the maximum of 100"),
    (parameter("boolean"), 1, "not a value of type boolean"),
    (parameter("boolean"), "true", "not a value of type boolean"),
    (parameter("image"), 5, "not an image URL or file"),
    (parameter("image"), ["https://example.com"], "not an image URL or file"),
    (parameter("string", choices=("1:1", "16:9")), "4:3", "not one of 1:1, 16:9"),
]


@pytest.mark.parametrize(("of", "value"), ACCEPTED)
def test_a_valid_value_has_no_complaint(of: Parameter, value: Any) -> None:
    assert of.complaint(value) is None


@pytest.mark.parametrize(("of", "value", "words"), REFUSED)
def test_an_invalid_value_is_named_with_the_reason(of: Parameter, value: Any, words: str) -> None:
    complaint = of.complaint(value)
    assert complaint is not None
    assert words in complaint
    assert complaint.startswith(repr(value))


@given(value=st.integers(), low=st.integers(-1000, 1000), span=st.integers(0, 1000))
def test_an_integer_is_accepted_exactly_between_its_limits(value: int, low: int, span: int) -> None:
    complaint = parameter("integer", minimum=low, maximum=low + span).complaint(value)
    assert (complaint is None) == (low <= value <= low + span)


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
@pytest.mark.parametrize("kind", get_args(ParameterKind))
def test_any_value_is_accepted_or_refused_by_name(kind: str, value: Any) -> None:
    complaint = parameter(kind, minimum=0).complaint(value)
    assert complaint is None or complaint.startswith(repr(value))
    if isinstance(value, list) or value is None:
        assert complaint is not None


def test_an_unpriced_model_has_an_unknown_price_and_is_not_free() -> None:
    entry = Catalogue({}).get("never-heard-of")
    assert (entry.slug, entry.cost_usd, entry.latency_s) == ("never-heard-of", None, None)


@pytest.mark.parametrize(
    ("slug", "cost_usd"),
    [("fast-flux-schnell", "0.0055"), ("instantid", "0.025"), ("sdxl1.0-newreality-lightning", "0.0063")],
)
def test_the_bundled_catalogue_prices_models_near_what_their_pages_say(slug: str, cost_usd: str) -> None:
    entry = bundled_catalogue().get(slug)
    assert entry.cost_usd is not None
    assert abs(entry.cost_usd / Decimal(cost_usd) - 1) < Decimal("0.1")
    assert entry.latency_s


def test_the_bundled_catalogue_holds_hundreds_of_models_and_no_price_of_zero() -> None:
    entries = bundled_catalogue().entries.values()
    assert len(entries) > 450
    assert all(entry.cost_usd is None or entry.cost_usd > 0 for entry in entries)
    assert all(entry.latency_s is None or entry.latency_s > 0 for entry in entries)
    assert any(entry.cost_usd is None or entry.latency_s is None for entry in entries)


OLD = CatalogueEntry("m", Decimal("0.01"), 5.0)


def test_a_catalogue_cannot_be_changed_in_place() -> None:
    with pytest.raises(TypeError):
        bundled_catalogue().entries["m"] = OLD  # type: ignore[index]
