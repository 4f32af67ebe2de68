"""Says which outputs of the folder may count as owned: theirs is this origin, and their bytes are what was stored.

Bytes are compared with the digest that was recorded of them, beside them or in the warehouse. Where no digest
survived, an output counts if it is whole and names its generation in itself.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from segmind_dagster.errors import RegistryError
from segmind_dagster.recovery.sidecars import Sidecar, read_sidecar
from segmind_dagster.registry import find_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from segmind_dagster.lifecycle.generation import Output
    from segmind_dagster.outputs import OutputStore
    from segmind_dagster.outputs.store import FoundOutput

Verdict = Literal["owned", "undigested", "changed", "missing", "foreign", "nameless"]
"""Its bytes are those recorded; whole, but without a recorded digest; other bytes; a sidecar without an output;
of another API origin; nothing says what it is."""

_HANDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """What the folder holds of one generation.

    Args:
        generation_id: the generation.
        resource: the folder it lies in.
        verdict: what it counts as.
        sidecar: what is said about it; None when nothing can be read.
        stored: the bytes, when they count as owned.
        written_at: when it was written.
    """

    generation_id: str
    resource: str
    verdict: Verdict
    sidecar: Sidecar | None
    stored: Output | None
    written_at: datetime

    @property
    def is_owned(self) -> bool:
        """Whether it need not be fetched or bought again."""
        return self.stored is not None


def judge_outputs(
    outputs: OutputStore, *, api_origin: str, remembered: Mapping[str, Mapping[str, Any]]
) -> Iterator[OnDisk]:
    """Judge everything in the folder.

    Args:
        outputs: the folder.
        api_origin: the origin that outputs must be of.
        remembered: the warehouse's rows of that origin by generation id.
    """
    with ThreadPoolExecutor(_HANDS, thread_name_prefix="segmind-digests") as hands:
        yield from hands.map(
            lambda found: judge(outputs, found, api_origin=api_origin, row=remembered.get(found.generation_id)),
            outputs.found(),
        )


def judge(outputs: OutputStore, found: FoundOutput, *, api_origin: str, row: Mapping[str, Any] | None) -> OnDisk:
    """Judge what bears the name of one generation.

    Args:
        outputs: the folder it is in.
        found: what is there.
        api_origin: the origin it must be of.
        row: what the warehouse remembers of the generation.
    """
    sidecar = read_sidecar(found.sidecar, generation_id=found.generation_id)
    if sidecar is None and found.uri is not None:
        sidecar = read_sidecar(outputs.provenance_inside(found.uri), generation_id=found.generation_id)
    verdict, stored = _judge_bytes(outputs, found, sidecar, row, api_origin)
    return OnDisk(
        generation_id=found.generation_id,
        resource=found.resource,
        verdict=verdict,
        sidecar=sidecar,
        stored=stored,
        written_at=found.written_at,
    )


def _judge_bytes(
    outputs: OutputStore, found: FoundOutput, sidecar: Sidecar | None, row: Mapping[str, Any] | None, api_origin: str
) -> tuple[Verdict, Output | None]:
    if sidecar is not None and sidecar.api_origin != api_origin:
        return "foreign", None
    if sidecar is None and row is None:
        return "nameless", None
    if found.uri is None:
        return "missing", None
    digests = {sidecar.output_sha256 if sidecar else None, row["output_sha256"] if row else None} - {None}
    stored = outputs.examine(found.uri)
    if digests:
        return ("owned", stored) if stored.sha256 in digests else ("changed", None)
    # its provenance is embedded, or its row has no digest: being whole is all that can be asked of it
    return ("undigested", stored) if sidecar is not None and _is_sound(outputs, found) else ("changed", None)


def _is_sound(outputs: OutputStore, found: FoundOutput) -> bool:
    try:
        kind = find_model(found.resource).output
    except RegistryError:  # its entry was removed, and with it the knowledge of what was bought
        return False
    return outputs.is_sound(found.uri or "", kind)
