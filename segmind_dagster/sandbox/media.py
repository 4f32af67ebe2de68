"""Outputs that are not pictures: a short clip, a tone, and what a text model answers.

Each depends on its arguments alone, so it can be made again at any time. Pictures are in `pictures`.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import wave
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TONE_HZ = 8000
_PENTATONIC = (262, 294, 330, 392, 440, 523)


def clip_mp4(slug: str, prompt: str, seed: int) -> bytes:
    """Two seconds of a sunrise that play anywhere, and a box that players skip, which tells requests apart."""
    text = f"SANDBOX {slug} {prompt} {seed}".encode()
    return _clip() + _box(b"free", hashlib.sha256(text).digest() + text)


@cache
def _clip() -> bytes:
    # drawn for the sandbox, CC0; H.264 baseline, 320 x 180
    return Path(__file__).with_name("clip.mp4").read_bytes()


def tone_wav(seed: int) -> bytes:
    """A quarter of a second of one note."""
    pitch = _PENTATONIC[seed % len(_PENTATONIC)]
    frames = [int(9000 * math.sin(math.tau * pitch * index / _TONE_HZ)) for index in range(_TONE_HZ // 4)]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_TONE_HZ)
        file.writeframes(struct.pack(f"<{len(frames)}h", *frames))
    return buffer.getvalue()


def chat_completion(slug: str, request_id: str, body: Mapping[str, Any], *, created_at: float) -> dict[str, Any]:
    """What a text model answers, in OpenAI's shape."""
    question = prompt_of(body)
    answer = (
        f"This is the sandbox speaking for {slug}; no model was asked. You wrote: {question!r}. "
        "With a Segmind key in place of the sandbox's, the model's own words would stand here."
    )
    asked, answered = len(question.split()), len(answer.split())
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(created_at),
        "model": slug,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
    }


def prompt_of(body: Mapping[str, Any]) -> str:
    """The prompt, or the last message of a chat; empty when there is neither."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return prompt
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    if isinstance(content, list):
        content = " ".join(part["text"] for part in content if isinstance(part, dict) and "text" in part)
    return content if isinstance(content, str) else ""


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
