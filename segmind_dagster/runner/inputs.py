"""Local input images in a body: uploaded once per content, remembered before first use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.ledger import entries, reads

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import ImageInput
    from segmind_dagster.runner.ports import ClockPort, GatewayPort, OutputsPort

# how long Segmind keeps uploads is undocumented; uploading again is free
_GOOD_FOR = timedelta(days=1)
_MIME_BY_SUFFIX = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


async def digest_at(gateway: GatewayPort, outputs: OutputsPort, address: str) -> str | None:
    """The content digest of a picture that a request was made with; None when it cannot be read."""
    path = outputs.scratch_file("input")
    try:
        return await gateway.fetch(address, path)
    except (GatewayError, OutputError):
        return None
    finally:
        outputs.discard(path)


class InputUploader:
    """Uploads local images and puts their URLs into bodies."""

    def __init__(self, gateway: GatewayPort, ledger: Ledger, clock: ClockPort) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._clock = clock
        self._addresses: dict[str, str] = {}
        self._refused: dict[str, GatewayError] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def complete(self, body: Mapping[str, Any], images: Mapping[str, ImageInput]) -> Mapping[str, Any]:
        """The body to send, with every local image uploaded."""
        if not images:
            return body
        return {**body, **{name: await self._address(image) for name, image in images.items()}}

    async def recall(self, body: Mapping[str, Any], images: Mapping[str, ImageInput]) -> Mapping[str, Any]:
        """The body as it was sent earlier; an image whose upload is not recorded is left out."""
        known: dict[str, str] = {}
        for name, image in images.items():
            url = await asyncio.to_thread(self._ledger.read, reads.upload_url, image.sha256 or "")
            if url is not None:
                known[name] = url
        return {**body, **known}

    async def _address(self, image: ImageInput) -> str:
        if image.path is None or image.sha256 is None:
            return image.url or ""
        async with self._turns[image.sha256]:
            if image.sha256 in self._addresses:
                return self._addresses[image.sha256]
            if (refused := self._refused.get(image.sha256)) is not None:
                raise refused
            since = self._clock.now() - _GOOD_FOR
            url = await asyncio.to_thread(self._ledger.read, reads.upload_url, image.sha256, since=since)
            if url is None:
                content = await self._read(image.path, image.sha256)
                mime = _MIME_BY_SUFFIX.get(image.path.suffix.lower(), "image/png")
                try:
                    url = await self._gateway.upload(f"data:{mime};base64,{base64.b64encode(content).decode()}")
                except GatewayError as error:
                    # the gateway has retried already: this run does not try the same picture again
                    self._refused[image.sha256] = error
                    raise
                await self._ledger.awrite(entries.record_upload, sha256=image.sha256, url=url, now=self._clock.now())
            self._addresses[image.sha256] = url
            return url

    async def _read(self, path: Path, sha256: str) -> bytes:
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise GatewayError("invalid_request", f"Read the input image {path.name}: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            # the generation id contains the digest: a changed picture would be bought under the wrong id
            raise GatewayError(
                "invalid_request",
                f"The input image {path.name} has changed since its prompt set was read; nothing was sent. Materialize "
                "again: the new picture makes a generation of its own.",
            )
        return content
