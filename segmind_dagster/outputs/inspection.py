"""Looks whether outputs are still what was stored: there, of the same size, and of the same digest.

Reads only. What a fault means is decided in `checks.outcomes`.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.lifecycle.generation import Output

MAX_READ: Final = 5000
MAX_READ_BYTES: Final = 256 * 1024 * 1024
MAX_ASKED: Final = 1000
MAX_FETCHED: Final = 1
MAX_FETCHED_BYTES: Final = 16 * 1024 * 1024
_LOOKS_AT_ONCE = 16

Fault = Literal["missing", "other size", "other content", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a look at the files found.

    Args:
        files: outputs that should be there.
        looked_for: of these, whose existence and size were looked at.
        digested: of these, whose content was read.
        seed: of the sample, when not everything was looked at or read; None when everything was.
        faults: address and fault of each one that is not what was stored, in the order given.
    """

    files: int
    looked_for: int
    digested: int
    seed: str | None = None
    faults: tuple[tuple[str, Fault], ...] = field(default=())

    @property
    def counts(self) -> Counter[Fault]:
        """How many have which fault."""
        return Counter(fault for _, fault in self.faults)


def inspect(
    expected: Sequence[Output],
    *,
    seed: str,
    max_read: int = MAX_READ,
    max_read_bytes: int = MAX_READ_BYTES,
    max_asked: int = MAX_ASKED,
    max_fetched: int = MAX_FETCHED,
    max_fetched_bytes: int = MAX_FETCHED_BYTES,
) -> Inspection:
    """Compare outputs with what was stored.

    All local files are looked for; as many are read as the limits allow, else a sample of them. Of remote ones
    existence and size are asked, of a sample if there are more than `max_asked`, and of these very few are read, others
    with each seed: reading them costs money.

    Args:
        expected: the outputs.
        seed: draws the same sample for the same text.
        max_read: most local files that are read.
        max_read_bytes: most bytes of them.
        max_asked: most remote ones that are asked for.
        max_fetched: most remote ones that are read.
        max_fetched_bytes: the largest of them.
    """
    local = [each for each in expected if "://" not in each.uri]
    remote = [each for each in expected if "://" in each.uri]
    to_read = _sample(local, seed=seed, most=max_read, most_bytes=max_read_bytes)
    asked = _sample(remote, seed=seed, most=max_asked, most_bytes=None)
    small = [each for each in remote if each.uri in asked and each.size_bytes <= max_fetched_bytes]
    fetched = _sample(small, seed=seed, most=max_fetched, most_bytes=None)
    faults: dict[str, Fault] = {}
    for each in local:
        if fault := _look(each, is_read=each.uri in to_read):
            faults[each.uri] = fault
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        wanted = [each for each in remote if each.uri in asked]
        looks = pool.map(lambda each: _ask(each, is_read=each.uri in fetched), wanted)
        for each, fault in zip(wanted, looks, strict=True):
            if fault:
                faults[each.uri] = fault
    digested = len(to_read) + len(fetched)
    return Inspection(
        files=len(expected),
        looked_for=len(local) + len(asked),
        digested=digested,
        seed=seed if digested < len(expected) else None,
        faults=tuple((each.uri, faults[each.uri]) for each in expected if each.uri in faults),
    )


def _sample(expected: Sequence[Output], *, seed: str, most: int, most_bytes: int | None) -> set[str]:
    """Addresses of all of them, or of as many as the limits allow, drawn at random; at least one."""
    total = sum(each.size_bytes for each in expected)
    if len(expected) <= most and (most_bytes is None or total <= most_bytes):
        return {each.uri for each in expected}
    drawn: set[str] = set()
    drawn_bytes = 0
    for each in random.Random(seed).sample(expected, len(expected)):  # noqa: S311  a sample, not a secret
        drawn_bytes += each.size_bytes
        if drawn and (len(drawn) >= most or (most_bytes is not None and drawn_bytes > most_bytes)):
            break
        drawn.add(each.uri)
    return drawn


def _look(each: Output, *, is_read: bool) -> Fault | None:
    try:
        if os.stat(each.uri).st_size != each.size_bytes:  # noqa: PTH116  a Path for each would double the time
            return "other size"
        if is_read:
            with open(each.uri, "rb") as file:  # noqa: PTH123  the same
                if hashlib.file_digest(file, "sha256").hexdigest() != each.sha256:
                    return "other content"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return None


def _ask(each: Output, *, is_read: bool) -> Fault | None:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(each.uri)
        info: dict[str, Any] = fs.info(path)
        if info.get("size") not in {None, each.size_bytes}:
            return "other size"
        if is_read and hashlib.sha256(fs.cat_file(path)).hexdigest() != each.sha256:
            return "other content"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return None
