"""The models this project calls, one entry each. Adding a model is adding an entry; nothing else.

Parameter tables come from each model's API page on segmind.com unless a comment says otherwise.
A limit that Segmind does not publish is left out: a wrong limit would refuse what works.
"""

from __future__ import annotations

from functools import cache

from segmind_dagster.errors import RegistryError
from segmind_dagster.registry.model import Model, Parameter

_ASPECT_RATIOS = ("1:1", "16:9", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21")


def _text(name: str, *, is_required: bool = False, choices: tuple[str, ...] = ()) -> Parameter:
    return Parameter(name=name, kind="string", is_required=is_required, choices=choices)


def _image(name: str, *, is_required: bool = False) -> Parameter:
    return Parameter(name=name, kind="image", is_required=is_required)


def _integer(name: str, default: int | None = None, *, between: tuple[int, int] | None = None) -> Parameter:
    low, high = between or (None, None)
    return Parameter(name=name, kind="integer", default=default, minimum=low, maximum=high)


def _number(name: str, default: float | None = None, *, between: tuple[float, float] | None = None) -> Parameter:
    low, high = between or (None, None)
    return Parameter(name=name, kind="number", default=default, minimum=low, maximum=high)


def _boolean(name: str, *, default: bool) -> Parameter:
    return Parameter(name=name, kind="boolean", default=default)


# -1 asks Segmind for a random seed; seeds are 64-bit in practice
_SEED = Parameter(name="seed", kind="integer", minimum=-1, maximum=2**63 - 1)

FAST_FLUX_SCHNELL = Model(
    slug="fast-flux-schnell",
    resource="fast_flux_schnell",
    title="Fast Flux.1 Schnell",
    modality="Text-to-Image Generation",
    output="image",
    parameters=(
        _text("prompt", is_required=True),
        Parameter(name="aspect_ratio", kind="string", default="1:1", choices=_ASPECT_RATIOS),
        # the page's own range is not readable; 1 to 8 is that of its sibling flux-schnell
        _integer("steps", 4, between=(1, 8)),
        _SEED,
    ),
)

FACE_TO_STICKER = Model(
    slug="face-to-sticker",
    resource="face_to_sticker",
    title="Face to Sticker",
    modality="Image-to-Image Transformation",
    output="image",
    parameters=(
        # Segmind falls back to a sample picture without one: never what a paying user wants
        _image("image", is_required=True),
        _text("prompt"),
        _text("negative_prompt"),
        _number("prompt_strength", 7),
        _integer("steps", 20, between=(1, 1000)),
        _integer("width", 1024, between=(64, 4096)),
        _integer("height", 1024, between=(64, 4096)),
        _number("instant_id_strength", 1, between=(0, 1)),
        _number("ip_adapter_weight", 0.2, between=(0, 1)),
        _number("ip_adapter_noise", 0.5, between=(0, 1)),
        _boolean("upscale", default=False),
        _integer("upscale_steps", 10, between=(1, 1000)),
        _SEED,
    ),
)

INSTANTID = Model(
    slug="instantid",
    resource="instantid",
    title="InstantID",
    modality="Image-to-Image Transformation",
    output="image",
    parameters=(
        _text("prompt", is_required=True),
        _image("face_image", is_required=True),
        _image("pose_image"),
        _text("negative_prompt"),
        _text("style"),
        # more than one image a request would be one charge for several rows: use `samples` of the prompt set
        _integer("samples", 1, between=(1, 1)),
        _integer("num_inference_steps", 10, between=(4, 100)),
        _number("guidance_scale", 5, between=(1, 25)),
        _number("identity_strength", 0.8, between=(0, 1)),
        _number("adapter_strength", 0.8, between=(0, 1)),
        _boolean("enhance_face_region", default=True),
        _SEED,
    ),
)

SDXL_NEWREALITY = Model(
    slug="sdxl1.0-newreality-lightning",
    resource="sdxl_newreality",
    title="NewReality Lightning SDXL",
    modality="Text-to-Image Generation",
    output="image",
    api_version="v1",
    # the page's table is not readable: names from its samples, ranges of sdxl1.0-samaritan-lightning
    parameters=(
        _text("prompt", is_required=True),
        _text("negative_prompt"),
        _integer("samples", 1, between=(1, 1)),
        _text("scheduler"),
        _integer("num_inference_steps", 8, between=(1, 100)),
        _number("guidance_scale", 1.4, between=(1, 25)),
        _integer("img_width", 1024, between=(256, 2048)),
        _integer("img_height", 1024, between=(256, 2048)),
        _SEED,
    ),
)

CONSISTENT_CHARACTER_NEOLEMON_V2 = Model(
    slug="consistent-character-AI-neolemon-v2",
    resource="consistent_character_neolemon_v2",
    title="Consistent Character AI Neolemon v2",
    modality="Image-to-Image Transformation",
    output="image",
    # nothing is published about v2: the names are those of v3, and any other parameter passes unchecked
    parameters=(
        _text("prompt", is_required=True),
        _text("negative_prompt"),
        _image("ip_image"),
        _image("input_image"),
        _SEED,
    ),
    is_schema_published=False,
)

WAN_T2V_FAST = Model(
    slug="wan-2.2-t2v-fast",
    resource="wan_t2v_fast",
    title="Wan 2.2 Text to Video Fast",
    modality="Text-to-Video Generation",
    output="video",
    parameters=(_text("prompt", is_required=True), _text("negative_prompt"), _SEED),
    is_schema_published=False,
)

LLAMA_V3P1_8B_INSTRUCT = Model(
    slug="llama-v3p1-8b-instruct",
    resource="llama_v3p1_8b_instruct",
    title="Llama 3.1 8B Instruct",
    modality="Text Generation (LLM)",
    output="text",
    # `messages` is what the official SDK 1.3.0 sends to text models
    parameters=(_integer("max_tokens", between=(1, 131072)), _number("temperature", between=(0, 2))),
    prompt_parameter="messages",
    seed_parameter=None,
    is_schema_published=False,
)

MODELS: tuple[Model, ...] = (
    FAST_FLUX_SCHNELL,
    FACE_TO_STICKER,
    INSTANTID,
    SDXL_NEWREALITY,
    CONSISTENT_CHARACTER_NEOLEMON_V2,
    WAN_T2V_FAST,
    LLAMA_V3P1_8B_INSTRUCT,
)


def find_model(name: str) -> Model:
    """The registry entry with that resource name or slug.

    Raises:
        RegistryError: no entry has that name.
    """
    for model in MODELS:
        if name in {model.resource, model.slug}:
            return model
    raise RegistryError(name, [model.resource for model in MODELS])


@cache
def recorded_model(slug: str, resource: str) -> Model:
    """The model that the ledger names; a stand-in where its entry was removed."""
    listed = next((model for model in MODELS if model.slug == slug), None)
    return listed or Model(
        slug=slug, resource=resource, title=slug, modality="", output="image", parameters=(), is_listed=False
    )
