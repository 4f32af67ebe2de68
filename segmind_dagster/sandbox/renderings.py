"""The bytes of a job's outputs, made when they are asked for and the same every time.

Chooses what to make and where (at once, or in a thread); how it is made is in `pictures` and `media`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from segmind_dagster.sandbox import media

if TYPE_CHECKING:
    from segmind_dagster.sandbox.assets import AssetStore
    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.settings import SandboxSettings

_KEPT_DRAWINGS = 256


class Renderings:
    """Makes outputs; keeps the last drawings.

    Args:
        settings: picture mode and size.
        assets: uploads that pictures may show.
    """

    def __init__(self, settings: SandboxSettings, assets: AssetStore) -> None:
        self._settings = settings
        self._assets = assets
        self._drawings: OrderedDict[tuple[str, int], asyncio.Future[bytes]] = OrderedDict()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sandbox-picture")

    async def content(self, job: Job, index: int) -> bytes:
        """The bytes of one output of a completed job, counted from 0."""
        output = job.offer.output
        if output == "video":
            return media.clip_mp4(job.slug, media.prompt_of(job.body), job.seed + index)
        if output == "audio":
            return media.tone_wav(job.seed + index)
        if self._settings.picture_mode == "tiny":
            from segmind_dagster.sandbox.pictures import tiny_picture

            return tiny_picture(job.seed + index, job.extension)
        key = (job.request_id, index)
        drawing = self._drawings.get(key)
        if drawing is None:
            loop = asyncio.get_running_loop()
            drawing = loop.run_in_executor(self._threads, self._draw, job, index)
            self._drawings[key] = drawing
            if len(self._drawings) > _KEPT_DRAWINGS:
                self._drawings.popitem(last=False)
        else:
            self._drawings.move_to_end(key)
        # one caller going away must not cancel the drawing for the others
        return await asyncio.shield(drawing)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _draw(self, job: Job, index: int) -> bytes:
        from segmind_dagster.sandbox.pictures import draw_picture, picture_size

        return draw_picture(
            slug=job.slug,
            prompt=media.prompt_of(job.body),
            seed=job.seed + index,
            size=picture_size(job.body, longest_px=self._settings.max_picture_px),
            shape="sticker" if job.extension == "png" else "scene",
            inset=next(self._assets.inputs_of(job.body), None),
        )
