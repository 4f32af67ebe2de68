"""Takes keys and signed URLs out of text before anybody can log, store or show it.

A `Redactor` is made once from the settings and passed on to whatever writes what others have said: it knows the
configured key in every form in which it may come back. Text that no account's key can be in needs only `redact`.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.settings import Settings

_HIDDEN: Final = "[hidden]"
# Segmind's own form, any account's
_KEY = re.compile(r"(?i)SG_[0-9a-z]{6,}")
_HEADER = re.compile(
    r"""(?i)\b(x-api-key|authorization)(["']?\s*[:=,]\s*(?:b(?=["']))?["']?)(?:(?:basic|bearer)\s+)?[^\s"',;&]+"""
)
# also with the slashes that JSON escapes
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*:(?:\\?/){2})([^\s\"'<>]*)")
_USER = re.compile(r"^[^/?#\\]*@")
_AFTER_PATH = re.compile(r"[?#].*$", re.DOTALL)
# a whole address within another one
_ENCODED_URL = re.compile(r"(?i)(https?%3A%2F%2F)([^\s\"'<>&]*)")
_ENCODED_REST = re.compile(r"(?i)(?:%3F|%23|[?#]).*$")
_ENCODED_USER = re.compile(r"(?i)^(?:(?!%2F|%3F).)*%40")
# a key that is shorter than this is looked for as a word of its own, or it would take letters out of every sentence
_SHORT: Final = 6


class Redactor:
    """Takes a key out of text, in whatever form it stands there; and every other key, signature and password.

    Args:
        key: the configured key, if there is one.
    """

    def __init__(self, key: str | None) -> None:
        forms = sorted(set(_forms(key or "")), key=len, reverse=True)
        self._key = re.compile("|".join(forms), re.IGNORECASE) if forms else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._key is not None:
            text = self._key.sub(_HIDDEN, text)
        text = _HEADER.sub(rf"\1\2{_HIDDEN}", _KEY.sub(_HIDDEN, text))
        return _ENCODED_URL.sub(_bare_encoded, _URL.sub(_bare, text))

    def short(self, text: str, *, limit: int = 300) -> str:
        """The beginning of a text, cut only after what is secret is gone: half a key is one, too."""
        return self.text(text[: 20 * limit])[:limit]

    def values(self, value: Any) -> Any:
        """The same value with every text in it redacted; for what leaves the ledger, which keeps the exact one."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.values(inner) for key, inner in value.items()}
        return [self.values(inner) for inner in value] if isinstance(value, list) else value


def redactor_of(settings: Settings) -> Redactor:
    """The redactor that knows the configured key; made once."""
    return _made(settings.api_key)


@lru_cache(maxsize=8)
def _made(key: str | None) -> Redactor:
    return Redactor(key)


def redact(text: str) -> str:
    """A text without anything that looks like a key, and without what is signed or secret in a URL."""
    return _KEYLESS.text(text)


def without_query(url: str) -> str:
    """A URL without user, query and fragment, where signatures and keys travel."""
    return _URL.sub(_bare, url)


def _bare(match: re.Match[str]) -> str:
    return match.group(1) + _USER.sub("", _AFTER_PATH.sub("", match.group(2)))


def _bare_encoded(match: re.Match[str]) -> str:
    return match.group(1) + _ENCODED_USER.sub("", _ENCODED_REST.sub("", match.group(2)))


def _forms(key: str) -> Iterator[str]:
    """Patterns for a key as it stands in text, URLs, JSON, HTML, Python and Basic credentials."""
    key = key.strip()
    if not key:
        return
    plain = {
        key, quote(key, safe=""), quote_plus(key), quote(key), html.escape(key), json.dumps(key)[1:-1],
        json.dumps(key, ensure_ascii=False)[1:-1], repr(key)[1:-1], key.replace("/", "\\/"),
    }  # fmt: skip
    # an escape within an escape, as of a URL within a URL or JSON within JSON
    plain |= {quote(form, safe="") for form in plain} | {json.dumps(form)[1:-1] for form in plain}
    for form in plain:
        pattern = re.escape(form)
        yield pattern if len(key) >= _SHORT else rf"(?<![0-9A-Za-z]){pattern}(?![0-9A-Za-z])"
    for form in _in_base64(key):
        yield re.escape(form)


def _in_base64(key: str) -> Iterator[str]:
    """The key's own letters of base64, wherever it begins within what was encoded."""
    content = key.encode(errors="replace")
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            letters = encode(b"\0" * before + content).decode().rstrip("=")
            # letters that hold bits of what stands before or after the key
            first, bits = -(-before * 8 // 6), (before + len(content)) * 8
            own = letters[first : bits // 6]
            if len(own) >= _SHORT:
                yield own


_KEYLESS: Final = Redactor(None)
