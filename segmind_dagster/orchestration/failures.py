"""Turns our errors into Dagster failures that people can read, without a stack trace and without a retry.

Dagster has three retry mechanisms: an op's RetryPolicy, run retries, and a sensor's new run. The first obeys
`allow_retries=False`, set here; run retries are off by default; sensors decide from the ledger. What may be
tried again within a run is written in `lifecycle.failures`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_failure() -> Iterator[None]:
    """Our errors leave as one clear failure that no retry policy repeats."""
    try:
        yield
    except SegmindDagsterError as error:
        # with the notes that were added to it: the money that is outstanding
        description = redact("\n".join([str(error), *getattr(error, "__notes__", ())]))
        raise dg.Failure(description=description, allow_retries=False) from error
