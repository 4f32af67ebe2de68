"""Takes keys and signed URLs out of text before anybody can log, store or show it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_KEY = re.compile(r"SG_[0-9a-zA-Z]{6,}")
_URL = re.compile(r"(?i)https?://[^\s\"'<>]+")
_HIDDEN = "[hidden]"


def without_query(url: str) -> str:
    """A URL without user, query and fragment, where signatures and keys travel."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    netloc = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def is_signed(url: str) -> bool:
    """Whether a URL carries more than an address."""
    parts = urlsplit(url)
    return bool(parts.query or parts.username or parts.fragment)


def redact(text: str, *secrets: str | None) -> str:
    """Text with the given secrets, anything that looks like a key, and every URL's query taken out."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    text = _KEY.sub(_HIDDEN, text)
    return _URL.sub(lambda match: _safely(match.group()), text)


def _safely(url: str) -> str:
    try:
        return without_query(url)
    except ValueError:  # not a URL after all, or one with a malformed port
        return _HIDDEN
