"""What a prompt set may be called: the rule for keys, which are partition keys and parts of file names.

Nothing about folders or files belongs here.
"""

from __future__ import annotations

import re

MAX_KEY_CHARS = 100

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


def key_complaint(stem: str) -> str | None:
    """What is wrong with a file's stem as a key, or None when it can be one."""
    if len(stem) > MAX_KEY_CHARS:
        return f"the name is longer than {MAX_KEY_CHARS} characters; shorten it"
    if _KEY.fullmatch(stem):
        return None
    suggestion = re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_-")
    example = f", for example to {suggestion!r}" if suggestion else ""
    return (
        f"{stem!r} cannot be the key of a prompt set: use lower-case letters, digits, '_' and '-', and begin with a "
        f"letter or digit; rename the file{example}"
    )
