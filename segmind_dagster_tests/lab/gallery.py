"""A ledger with prompt sets filled row by row, small pictures, and the galleries made of them."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image
from sqlalchemy import insert

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SET_GENERATIONS
from segmind_dagster.registry import find_model
from segmind_dagster.reports.gallery import Gallery, write_gallery
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from segmind_dagster.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FLUX, REALITY, WAN, LLAMA = "fast_flux_schnell", "sdxl_newreality", "wan_t2v_fast", "llama_v3p1_8b_instruct"
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


class GalleryWorld:
    """One data folder; use it as a context manager.

    Args:
        folder: an empty folder.
        outputs_url: where outputs lie; in the data folder when omitted.
    """

    def __init__(self, folder: Path, outputs_url: str | None = None) -> None:
        self.data = folder / "data"
        self.settings: Settings = load_settings(
            environ={},
            project_dir=folder,
            api_url="http://127.0.0.1:8473",
            **({"outputs_url": outputs_url} if outputs_url else {}),
        )
        self._count = 0

    def __enter__(self) -> Self:
        self._opening = opened(self.settings)
        self.ledger, _ = self._opening.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._opening.__exit__(None, None, None)

    def add(
        self,
        prompt: str = "a pear",
        *,
        prompt_set: str = "fruit",
        resource: str = FLUX,
        state: str = "succeeded",
        content: bytes | None = None,
        also_in: str | None = None,
        is_current: bool = True,
        cost_usd: str | None = "0.0055",
        attempt: dict[str, Any] | None = None,
        **columns: Any,
    ) -> str:
        """A generation of a set, with one attempt unless it is `planned`; its output is a small picture."""
        number = self._count
        self._count += 1
        generation_id = hashlib.md5(str(number).encode()).hexdigest()
        cost = None if cost_usd is None else Decimal(cost_usd)
        same = {"model_slug": find_model(resource).slug, "resource": resource, "prompt_set": prompt_set, "state": state}
        row = {
            **same, "generation_id": generation_id, "attempts": 1, "prompt": prompt, "body": {"prompt": prompt},
            "images": {}, "variables": {}, "seed": number, "sample": 0, "request_id": f"request-{number}",
            "cost_usd": cost, "cost_source": "reported", "updated_at": NOON,
        }  # fmt: skip
        if state == "succeeded":
            row |= self._output(generation_id, resource, content, number)
        sent = {
            **same, "generation_id": generation_id, "attempt": 1, "owner": "a run", "request_id": f"request-{number}",
            "reserved_usd": Decimal("0.01"), "cost_usd": cost, "cost_source": "reported", "rate_wait_ms": 0,
            "intent_at": NOON, **(attempt or {}),
        }  # fmt: skip
        holders = [(prompt_set, is_current), *([(also_in, True)] if also_in else [])]

        def write(connection: Any) -> None:
            connection.execute(insert(GENERATIONS), row | columns)
            if state != "planned":
                connection.execute(insert(ATTEMPTS), sent)
            for key, current in holders:
                connection.execute(
                    insert(SET_GENERATIONS),
                    {"prompt_set": key, "generation_id": generation_id, "resource": resource, "position": number,
                     "is_current": current},
                )  # fmt: skip

        self.ledger.write(write)
        return generation_id

    def write(self, prompt_set: str = "fruit", *, output: Path | None = None) -> Gallery:
        return write_gallery(self.ledger, self.settings, prompt_set, output=output)

    def _output(self, generation_id: str, resource: str, content: bytes | None, number: int) -> dict[str, Any]:
        kind = find_model(resource).output
        ending = {"image": "png", "video": "mp4", "audio": "mp3", "text": "json"}[kind]
        uri = f"{self.settings.outputs_url}/{resource}/{generation_id}.{ending}"
        if content is None:
            content = picture(number) if kind == "image" else b"bytes"
        put(uri, content)
        return {
            "output_uri": uri, "output_sha256": hashlib.sha256(content).hexdigest(), "output_bytes": len(content),
            "output_format": ending, "latency_ms": 1234, "completed_at": NOON,
            **({"width": 64, "height": 48} if kind == "image" else {}),
        }  # fmt: skip


def picture(number: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG of one colour, another for each number."""
    import io

    buffer = io.BytesIO()
    Image.new("RGB", size, (number * 53 % 256, number * 101 % 256, number * 197 % 256)).save(buffer, "PNG")
    return buffer.getvalue()


def put(uri: str, content: bytes) -> None:
    import fsspec

    with fsspec.open(uri, "wb", auto_mkdir=True) if "://" not in uri else fsspec.open(uri, "wb") as file:
        file.write(content)


def html(gallery: Gallery) -> str:
    """The page as it was written."""
    return Path(gallery.uri).read_text(encoding="utf-8")


def data(page: str) -> dict[str, Any]:
    """What the page's script works with."""
    found = _DATA.search(page)
    assert found is not None
    document: dict[str, Any] = json.loads(found.group(1))
    return document
