"""Damaged sidecars: what is restored from them is never wrong, and nothing they hold breaks the ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.ledger import open_ledger, reads, restoring
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SPENDING
from segmind_dagster.lifecycle.budget import SCOPES
from segmind_dagster.lifecycle.generation import Output
from segmind_dagster.outputs import OutputStore
from segmind_dagster.prompts import generation_id
from segmind_dagster.recovery.files import OnDisk, judge
from segmind_dagster.recovery.joining import UNKNOWN_SET, Evidence, join
from segmind_dagster.recovery.sidecars import Sidecar, read_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN = "https://api.segmind.com"
BODY = {"prompt": "a pear", "seed": 7}
SAMPLE = 3
ID = generation_id("fast-flux-schnell", BODY, {}, SAMPLE)
WHOLE: Mapping[str, Any] = {
    "generation_id": ID,
    "model": "fast-flux-schnell",
    "parameters": BODY,
    "api_origin": ORIGIN,
    "generator": "segmind-dagster",
    "request_id": "r-1",
    "seed": 7,
    "prompt_set": "fruit",
    "attempt": 2,
    "images": {},
    "stored_at": "2026-02-01T00:00:10+00:00",
    "latency_ms": 10_000,
    "cost_usd": "0.0053",
    "cost_source": "reported",
    "output_sha256": "0" * 64,
}
STORED = Output(
    uri="/data/outputs/fast_flux_schnell/x.jpg", sha256="0" * 64, size_bytes=9, format="jpeg", width=1, height=1
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def decayed(draw: st.DrawFn) -> dict[str, Any]:
    """A sidecar with missing and arbitrary values; its generation and origin are kept."""
    sidecar = dict(WHOLE)
    for name in draw(st.sets(st.sampled_from(sorted(WHOLE)))):
        if name in {"generation_id", "api_origin"}:
            continue
        if draw(st.booleans()):
            del sidecar[name]
        else:
            sidecar[name] = draw(anything)
    return sidecar


def on_disk(sidecar: Sidecar | None, *, is_owned: bool = True) -> OnDisk:
    return OnDisk(
        generation_id=ID,
        resource="fast_flux_schnell",
        verdict="owned" if is_owned else "changed",
        sidecar=sidecar,
        stored=STORED if is_owned else None,
        written_at=NOW - timedelta(days=3),
    )


@pytest.fixture(scope="module")
def ledger_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledgers")


def entered(folder: Path, evidence: Evidence) -> Iterator[tuple[Any, list[Any], dict[str, Decimal]]]:
    """Through a real database and back."""
    restored = join(evidence, now=NOW)
    if restored is None:
        return
    (folder / "ledger.sqlite").unlink(missing_ok=True)
    ledger = open_ledger(
        f"sqlite:///{folder / 'ledger.sqlite'}", api_origin=ORIGIN, holds_outputs=lambda: None, is_rebuilt=True
    )
    try:
        ledger.write(
            restoring.restore,
            doubtful=(),
            api_origin=ORIGIN,
            generations=[restored.generation],
            attempts={ID: restored.attempts},
            memberships=[],
            paid_failures=(),
            now=NOW,
        )
        with ledger.reading() as connection:
            row = connection.execute(GENERATIONS.select()).one()
            attempts = list(connection.execute(ATTEMPTS.select()).all())
            money = {each.scope: each.committed_usd for each in connection.execute(SPENDING.select())}
            assert reads.meta(connection, "api_origin") == ORIGIN
        yield row, attempts, money
    finally:
        ledger.close()


@given(document=decayed(), is_owned=st.booleans())
def test_a_damaged_sidecar_restores_its_generation_without_wrong_values(
    ledger_folder: Path, document: dict[str, Any], *, is_owned: bool
) -> None:
    # as they would be written and read again
    sidecar = read_sidecar(json.loads(json.dumps(document)), generation_id=ID)
    assert sidecar is not None
    evidence = Evidence(generation_id=ID, disk=on_disk(sidecar, is_owned=is_owned), estimate_usd=Decimal("0.009"))
    rows = list(entered(ledger_folder, evidence))
    if not is_owned and sidecar.request_id is None:
        assert rows == []
        return
    ((row, (attempt,), money),) = rows
    assert row.state == ("succeeded" if is_owned else "submitted")
    assert (row.model_slug, row.resource) == ("fast-flux-schnell", "fast_flux_schnell")
    assert row.attempts == attempt.attempt
    if document.get("parameters") == BODY:
        assert (row.body, row.sample, row.prompt) == (BODY, SAMPLE, "a pear")
    whole = attempt.cost_usd if attempt.cost_usd is not None else attempt.reserved_usd
    # what cost nothing adds nothing, and has no row
    assert {money.get(scope, Decimal(0)) for scope in SCOPES} == {whole}
    if document.get("cost_usd") == "0.0053":
        assert whole == Decimal("0.0053")
    elif sidecar.cost_usd is None:
        assert whole == Decimal("0.009")
        assert attempt.cost_source == ("estimated" if is_owned else None)
    if document.get("prompt_set") == "fruit":
        assert row.prompt_set == "fruit"
    elif sidecar.prompt_set is None:
        assert row.prompt_set == UNKNOWN_SET
    if document.get("attempt") == WHOLE["attempt"]:
        assert row.attempts == WHOLE["attempt"]
    assert row.request_id == sidecar.request_id


@given(document=anything)
def test_documents_without_a_generation_read_as_none(document: Any) -> None:
    assert read_sidecar(document, generation_id=ID) is None


@given(document=decayed(), origin=anything.filter(lambda value: not isinstance(value, str) or not value.strip()))
def test_a_sidecar_without_an_origin_is_ignored(document: dict[str, Any], origin: Any) -> None:
    assert read_sidecar({**document, "api_origin": origin}, generation_id=ID) is None


@given(other=st.text().filter(lambda text: text != ID))
def test_a_sidecar_of_another_generation_is_ignored(other: str) -> None:
    assert read_sidecar({**WHOLE, "generation_id": other}, generation_id=ID) is None


def test_a_complete_sidecar_is_read_completely() -> None:
    sidecar = read_sidecar(dict(WHOLE), generation_id=ID)
    assert sidecar == Sidecar(
        api_origin=ORIGIN,
        model_slug="fast-flux-schnell",
        body=BODY,
        images={},
        prompt_set="fruit",
        request_id="r-1",
        attempt=2,
        seed=7,
        cost_usd=Decimal("0.0053"),
        cost_source="reported",
        latency_ms=10_000,
        stored_at=datetime(2026, 2, 1, 0, 0, 10, tzinfo=UTC),
        output_sha256="0" * 64,
    )


def test_the_cost_counts_on_the_day_of_the_post(ledger_folder: Path) -> None:
    sidecar = read_sidecar({**WHOLE, "stored_at": "2026-02-01T00:00:05+00:00"}, generation_id=ID)
    restored = join(Evidence(generation_id=ID, disk=on_disk(sidecar)), now=NOW)
    assert restored is not None
    assert restored.attempts[0]["intent_at"] == datetime(2026, 1, 31, 23, 59, 55, tzinfo=UTC)


@given(content=st.binary(max_size=300), extension=st.sampled_from(["png", "jpg", "mp4", "json"]))
def test_arbitrary_bytes_never_count_as_a_stored_output(ledger_folder: Path, content: bytes, extension: str) -> None:
    store = OutputStore(str(ledger_folder / "outputs"), scratch_dir=ledger_folder)
    folder = ledger_folder / "outputs" / "fast_flux_schnell"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    magic = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff", "mp4": b"\0\0\0\x18ftyp", "json": b"{"}[extension]
    inside = json.dumps({**WHOLE, "output_sha256": None}).encode()
    for middle in (b"", b"iTXtsegmind-dagster\0\0\0\0\0" + inside, b"\xff\xfe\x02\x00segmind-dagster:" + inside):
        (folder / f"{ID}.{extension}").write_bytes(magic + middle + content)
        (found,) = store.found()
        judged = judge(store, found, api_origin=ORIGIN, row=None)
        assert not judged.is_owned
        assert judged.verdict in {"nameless", "changed"}


def test_without_evidence_nothing_is_restored() -> None:
    assert join(Evidence(generation_id=ID), now=NOW) is None
