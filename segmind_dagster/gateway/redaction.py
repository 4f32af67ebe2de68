"""Takes keys and signed URLs out of text before anybody can log, store or show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
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


def redact(text: str, *secrets: str | None) -> str:
    """Text with the given secrets, anything that looks like a key, and every URL's query taken out."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    text = _KEY.sub(_HIDDEN, text)
    return _URL.sub(lambda match: _safely(match.group()), text)


def redact_values(value: Any) -> Any:
    """The same value with every text in it redacted; for what leaves the ledger, which keeps the exact one."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_values(inner) for key, inner in value.items()}
    return [redact_values(inner) for inner in value] if isinstance(value, list) else value


def _safely(url: str) -> str:
    try:
        return without_query(url)
    except ValueError:  # not a URL after all, or one with a malformed port
        return _HIDDEN
