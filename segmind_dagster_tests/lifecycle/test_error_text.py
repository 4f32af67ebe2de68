"""What an error text is about, in words that the tables may not hold: the tables are rules, not quotations."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.error_text import topic_of
from segmind_dagster.lifecycle.failures import POLICIES, classify_job, classify_submit

MODERATED = (
    "NSFW content detected",
    "NSFW",
    "Potential NSFW content was detected in one or more images. A black image will be returned instead.",
    "nsfw_content_detected",
    "The image was rejected because it contains nudity",
    "Your prompt violates our content policy",
    "This request has been blocked as it may go against our usage guidelines",
    "content_policy_violation",
    "Output breaches OpenAI's usage policies",
    "The prompt violates Google's Responsible AI practices: content policy",
    "Prompt flagged by the safety system",
    "Your request was rejected as a result of our safety system",
    "Request Moderated",
    "Not safe for work",
    "Image generation failed due to content restrictions",
    "Responsible AI policy",
    "Content moderated",
    "The prompt was rejected by moderation",
    "moderation_blocked",
    "Blocked by safety filter",
    "Image blocked due to safety reasons",
    "Generation stopped for safety reasons",
    "finish_reason: SAFETY",
    "finishReason=IMAGE_SAFETY",
    "PROHIBITED_CONTENT",
    "The input image may contain sensitive content",
    "Input contains harmful or offensive material",
    "Sensitive words found in prompt; the prompt was flagged",
    "The prompt is inappropriate",
    "Inappropriate request",
    "Image deemed unsafe",
    "The output did not pass the content filter",
    "Failed the safety check",
    "Safety checker triggered on the generated image",
    "The request was filtered by the content moderation service",
    "The likeness of a celebrity cannot be generated",
    "This prompt contains copyrighted material",
    "Sexual content is not allowed",
    "hate speech detected",
    "[{'loc': ['body', 'prompt'], 'msg': 'Prompt violates the content policy', 'type': 'value_error'}]",
    "{'code': 'content_policy_violation', 'message': \"we can't do that\"}",
    '"NSFW content detected"',
    "Prompt 'CUDA out of memory, a poster' was flagged by moderation",
)
ABOUT_INPUTS = (
    "No face found",
    "No face detected in the source image",
    "no_face_detected",
    "Face not found in image",
    "Multiple faces detected; one is wanted",
    "Prompt exceeds maximum length of 512",
    "height and width have to be divisible by 8",
    "width should be a multiple of 64",
    "The scheduler 'foo' is not supported",
    "File type .heic isn't supported",
    "Prompt is too long",
    "The image is too small: 12x12",
    "seed is out of range",
    "guidance_scale out-of-range",
    "Value outside the permitted range",
    "expected one of: auto, low, high",
    "'steps' expects an integer",
    "prompt cannot be empty",
    "The prompt can't be blank",
    "prompt is empty",
    "minimum is 1",
    "Max allowed: 4",
    "at most 10 images",
    "duration: 3 is less than 5",
    "unknown file format",
    "Audio format mp9",
    "could not decode image",
    "cannot identify image file <_io.BytesIO object at 0x7f>",
    "Unable to download the provided image",
    "Failed to fetch video from URL: 404 Not Found",
    "Image url does not exist",
    "Missing field: prompt",
    "got an unexpected keyword argument 'foo'",
    "Prompt is Mandatory and must be string",
    "'4:3' is not one of ['1:1', '16:9']",
    "safety_tolerance must be between 0 and 6",
    "enable_safety_checker: invalid boolean",
    "moderation_level: expected one of low, auto",
    "Invalid value for parameter 'safety_checker'",
    "Unsupported content type",
    "inappropriate image size",
    "'a worker with a CUDA card, nsfw' is too long",
    "[{'loc': ['body', 'image'], 'msg': 'field required', 'input': 'nsfw cuda worker'}]",
)
OF_THE_MACHINE = (
    "CUDA out of memory",
    "NSFW checker worker crashed: CUDA out of memory",
    "The safety filter timed out and blocked the request",
    "Could not decode image: connection reset by peer",
    "Unable to download image: upstream unavailable",
    "Required worker not available",
    "content moderation service is temporarily unavailable",
    "expected all tensors to be on the same device",
    "illegal memory access was encountered",
    "Request timeout: must finish within 60 s",
    "Rate limit exceeded",
    "Too many requests, please try again later",
    "Internal Server Error: invalid response",
    "upstream time-out",
)
UNKNOWN = (
    "",
    "Something went wrong",
    "Inference failed",
    "Generation failed with code 17",
    "The retry policy gave up",
    "Content delivery failed",
    "Failed to load safety checker",
    "no reason given",
)
FORMS = (str, str.upper, str.lower, str.title, lambda text: f"  {text}!!\n", lambda text: f"Error: {text}.")


def wants(topic: str | None, texts: tuple[str, ...]) -> list[tuple[str, str | None]]:
    return [(text, topic) for text in texts]


CASES = [
    *wants("moderation", MODERATED), *wants("inputs", ABOUT_INPUTS), *wants("machine", OF_THE_MACHINE),
    *wants(None, UNKNOWN),
]  # fmt: skip
KINDS = {"moderation": "refused_content", "inputs": "invalid_job", "machine": "job_failed", None: "job_failed"}


@pytest.mark.parametrize(("text", "topic"), CASES)
def test_case_and_punctuation_do_not_change_the_topic(text: str, topic: str | None) -> None:
    assert {form: topic_of(form(text)) for form in FORMS} == dict.fromkeys(FORMS, topic)


@pytest.mark.parametrize(("text", "topic"), CASES)
def test_the_kind_of_a_failed_job_follows_from_what_its_text_is_about(text: str, topic: str | None) -> None:
    assert classify_job(text) == KINDS[topic]


@pytest.mark.parametrize("status", [400, 403, 406, 422, 451])
@pytest.mark.parametrize("text", MODERATED)
def test_a_moderation_verdict_in_a_post_answer_is_refused_content(status: int, text: str) -> None:
    assert classify_submit(status, text, is_envelope=True) == "refused_content"


@pytest.mark.parametrize("text", [*ABOUT_INPUTS, *UNKNOWN])
def test_a_refusal_of_a_parameter_stays_an_invalid_request(text: str) -> None:
    assert classify_submit(406, text, is_envelope=True) == "invalid_request"


@pytest.mark.parametrize("text", MODERATED)
def test_a_moderation_verdict_in_an_unclear_answer_is_ignored(text: str) -> None:
    for status in (200, 202, 408, 499, 502, 504, 524):
        assert classify_submit(status, text, is_envelope=True) == "unknown_outcome"
    assert classify_submit(403, text, is_envelope=False) == "unknown_outcome"
    assert classify_submit(401, text, is_envelope=True) == "unauthorized"
    assert classify_submit(429, text, is_envelope=True) == "rate_limited"


@given(
    quoted=st.sampled_from([*MODERATED, *OF_THE_MACHINE, *UNKNOWN]).filter(lambda text: not set(text) & set("'\"`“”")),
    marks=st.sampled_from(["''", '""', "``", "“”", "«»", "\u2018\u2019"]),
)
def test_quoted_text_is_ignored(quoted: str, marks: str) -> None:
    message = f"Prompt {marks[0]}{quoted}{marks[1]} must be shorter"
    assert topic_of(message) == "inputs"


@given(text=st.sampled_from(MODERATED), failure=st.sampled_from(["CUDA out of memory", "worker died", "timed out"]))
def test_a_machine_word_outweighs_a_moderation_verdict(text: str, failure: str) -> None:
    assert topic_of(f"{text}; {failure}") == "machine"


@given(st.text(max_size=300))
def test_any_text_has_a_topic_or_none(text: str) -> None:
    assert topic_of(text) in {"machine", "moderation", "inputs", None}


@pytest.mark.parametrize(
    "unit", ["the prompt was ", "content ", "no ", "'", "image is not ", "flagged by ", "unsafe or "]
)
def test_a_very_long_text_is_classified_quickly(unit: str) -> None:
    began = time.perf_counter()
    topic_of(unit * 10_000)
    assert time.perf_counter() - began < 1


def test_refused_content_is_free_permanent_and_about_one_prompt_only() -> None:
    policy = POLICIES["refused_content"]
    assert (policy.attempts, policy.is_permanent, policy.is_paid, policy.stops_run) == (1, True, False, False)
    assert policy.is_of_prompt
    assert not policy.is_of_model
    assert "reword" in policy.advice
