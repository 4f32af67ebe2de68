from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from segmind_dagster.prompts import generation_id
from segmind_dagster.prompts.identity import canonical_json, derived_seed

NO_SURROGATES = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NO_SURROGATES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NO_SURROGATES, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(NO_SURROGATES, VALUES, max_size=6)
DIGESTS = st.dictionaries(st.sampled_from(["image", "face_image"]), st.sampled_from(["aa", "bb"]))


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_the_recipe_is_frozen_because_ledgers_hold_its_results() -> None:
    body = {"prompt": "un été", "steps": 4.0, "seed": 7}
    text = '{"body":{"prompt":"un été","seed":7,"steps":4},"images":{"image":"aa"},"sample":2,"slug":"m","v":1}'
    assert generation_id("m", body, {"image": "aa"}, 2) == sha256(text.encode()).hexdigest()[:32]
    seed_text = '{"images":{},"parameters":{"steps":4},"prompt":"a fox","sample":0}'
    assert derived_seed("a fox", {"steps": 4}, {}, 0) == int(sha256(seed_text.encode()).hexdigest(), 16) % 2**31


@given(BODIES, DIGESTS, st.integers(0, 5))
def test_the_order_of_keys_does_not_matter(body: dict[str, Any], digests: dict[str, str], sample: int) -> None:
    assert generation_id("m", body, digests, sample) == generation_id("m", shuffled(body), shuffled(digests), sample)


@given(BODIES, BODIES)
def test_any_difference_in_the_body_is_another_generation(first: dict[str, Any], second: dict[str, Any]) -> None:
    assume(canonical_json(first) != canonical_json(second))
    assert generation_id("m", first, {}, 0) != generation_id("m", second, {}, 0)


@given(BODIES, NO_SURROGATES, VALUES, VALUES)
def test_any_value_that_is_sent_matters(body: dict[str, Any], name: str, one: Any, other: Any) -> None:
    assume(canonical_json(one) != canonical_json(other))
    assert generation_id("m", {**body, name: one}, {}, 0) != generation_id("m", {**body, name: other}, {}, 0)


@given(BODIES)
def test_model_image_and_sample_matter(body: dict[str, Any]) -> None:
    ids = {
        generation_id("m", body, {}, 0),
        generation_id("n", body, {}, 0),
        generation_id("m", body, {"image": "aa"}, 0),
        generation_id("m", body, {"image": "bb"}, 0),
        generation_id("m", body, {"face_image": "aa"}, 0),
        generation_id("m", body, {}, 1),
    }
    assert len(ids) == 6
    assert all(len(identity) == 32 and int(identity, 16) >= 0 for identity in ids)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_the_same_as_a_float_and_as_an_integer(number: int) -> None:
    assert canonical_json({"a": [number]}) == canonical_json({"a": [float(number)]})
    assert generation_id("m", {"a": number}, {}, 0) == generation_id("m", {"a": float(number)}, {}, 0)


def test_true_is_not_one() -> None:
    assert generation_id("m", {"a": True}, {}, 0) != generation_id("m", {"a": 1}, {}, 0)


@given(VALUES)
def test_canonical_json_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(NO_SURROGATES, BODIES, DIGESTS, st.integers(0, 9))
def test_a_derived_seed_fits_every_model_and_depends_on_nothing_else(
    prompt: str, body: dict[str, Any], digests: dict[str, str], sample: int
) -> None:
    seed = derived_seed(prompt, body, digests, sample)
    assert 0 <= seed < 2**31
    assert seed == derived_seed(prompt, shuffled(body), digests, sample)
    assert seed != derived_seed(prompt + "x", body, digests, sample)
    assert seed != derived_seed(prompt, body, digests, sample + 1)
    assert seed != derived_seed(prompt, body, {**digests, "pose_image": "cc"}, sample)
