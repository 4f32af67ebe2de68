"""Outputs that are not what was bought: what a whole run makes of each, and that none is paid for twice."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import V2, png
from lab.proxy import JOBS, Proxy, once_each, sending_to, serving
from lab.runner_project import Lab
from PIL import Image

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway import fetching
from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

VIDEO, TEXT = "wan_t2v_fast", "llama_v3p1_8b_instruct"
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"


class ProxiedLab(Lab):
    """A lab whose outputs come through a proxy."""

    proxy: Proxy

    def kept(self) -> list[str]:
        """Names of outputs, and of files left in progress."""
        outputs, partial = self.folder / "data" / "outputs", self.folder / "data" / ".partial"
        return sorted(path.name for path in (*outputs.glob("*/*"), *partial.glob("*")) if path.is_file())

    def quarantined(self) -> list[bytes]:
        """What was put aside."""
        folder = self.folder / "data" / "outputs" / "quarantine"
        return [path.read_bytes() for path in sorted(folder.glob("*/*")) if not path.name.endswith(".facts.json")]

    def check_refused(self, key: str, words: str) -> None:
        """The generation was charged once, is recorded as unusable with the reason, and stands under no name."""
        (row,) = self.generations()
        assert (row["state"], row["failure_kind"]) == ("failed", "bad_output")
        assert words in row["error"]
        assert (self.posts, self.charges) == (1, 1)
        assert row["output_uri"] is None
        assert self.kept() == []
        self.check_money()

    def check_collected_once_mended(self, key: str) -> None:
        """With a provider that has come to its senses, the next run fetches what was paid for."""
        self.proxy.tell_the_truth()
        assert self.generate(key).models[0].endings == {"succeeded": 1}
        assert self.posts == 1
        self.check_all_bought_once(1)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxiedLab]:
    server = SandboxServer(SandboxSettings(picture_mode="tiny", fixed_latency_s=0.02)).start()
    with Proxy(server.url) as proxy:
        made = ProxiedLab(server, tmp_path / "project", SEGMIND_API_URL=proxy.url)
        made.proxy = proxy
        yield made
    server.stop()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_lie() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 9999, 9999)
    return bytes(content)


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "a page for a picture": (V2, HTML, "an HTML page"),
    "an error for a picture": (V2, b'{"error": "internal"}', "a JSON answer"),
    "a text for a picture": (V2, b"Here is your picture: ...", "no known format"),
    "a drawing with a script for a picture": (V2, b"<svg><script>alert(1)</script></svg>", "no known format"),
    "nothing for a picture": (V2, b"", "no bytes at all"),
    "half a picture": (V2, png()[:60], "does not decode"),
    "a decompression bomb": (V2, png_bomb(), "decompression bomb"),
    "more pixels than accepted": (V2, png_bomb(10_001, 10_000), "at most"),
    "a jpeg that claims to be huge": (V2, jpeg_lie(), "too small"),
    "a picture for a video": (VIDEO, png(), "png bytes where video was bought"),
    "a page for a video": (VIDEO, HTML, "an HTML page"),
    "the head of a video": (VIDEO, b"\0\0\0\x0cftypisom", "index"),
    "a video that breaks off": (VIDEO, b"\0\0\0\x0cftypisom\0\0\xff\xffmoov", "breaks off"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_unexpected_output_is_refused_and_fetched_by_the_next_run(lab: ProxiedLab, what: str) -> None:
    resource, content, words = HOSTILE[what]
    lab.proxy.outputs = [serving(content)]
    key = lab.write("fruit", 1, models=[resource])
    (result,) = lab.generate(key).models
    assert (result.endings, result.failures) == ({"failed": 1}, {"bad_output": 1})
    assert words in result.examples[0]
    lab.check_refused(key, words)
    assert lab.quarantined() == [content]
    lab.check_collected_once_mended(key)
    assert lab.quarantined() == [content], "what was put aside stays"


@pytest.mark.parametrize(
    "what", [name for name in HOSTILE if HOSTILE[name][2] not in {"decompression bomb", "at most"}]
)
def test_a_possibly_transient_fault_is_fetched_again_at_once(lab: ProxiedLab, what: str) -> None:
    resource, content, _ = HOSTILE[what]
    lab.proxy.outputs = [serving(content), None]
    assert lab.generate(lab.write("fruit", 1, models=[resource])).models[0].endings == {"succeeded": 1}
    assert (lab.proxy.fetches, lab.posts) == (2, 1)
    lab.check_all_bought_once(1)
    assert lab.quarantined() == [], "the same file came whole: nothing was lost"


def test_deeply_nested_json_is_one_failure_and_no_crash(lab: ProxiedLab) -> None:
    lab.proxy.answers[JOBS] = lambda document: {**document, "output": "[" * 50_000}
    key = lab.write("talk", 1, models=[TEXT])
    assert lab.generate(key).models[0].endings == {"failed": 1}
    lab.check_refused(key, "nested")
    lab.check_collected_once_mended(key)


@pytest.mark.parametrize("text", ["half \ud83d a pair", "\ud800", "a\0b"])
def test_a_text_with_a_lone_surrogate_is_stored_with_a_question_mark(lab: ProxiedLab, text: str) -> None:
    lab.proxy.answers[JOBS] = lambda document: {**document, "output": text}
    assert lab.generate(lab.write("talk", 1, models=[TEXT])).models[0].endings == {"succeeded": 1}
    (row,) = lab.generations()
    assert Path(row["output_uri"]).read_text(encoding="utf-8") == text.encode(errors="replace").decode()


def test_an_error_with_a_lone_surrogate_is_recorded(lab: ProxiedLab) -> None:
    lab.proxy.answers[JOBS] = lambda document: {"status": "FAILED", "error": "prompt must be shorter: \ud83d\0"}
    assert lab.generate(lab.write("fruit", 1)).models[0].failures == {"invalid_job": 1}
    assert "shorter: ?\N{REPLACEMENT CHARACTER}" in lab.generations()[0]["error"]


REDIRECTS = {
    "a host that is not listed": ("https://evil.example/a.png?sig=SECRET", "not among the allowed"),
    "the cloud's own metadata": ("http://169.254.169.254/latest/meta-data", "not among the allowed"),
    "another port of this machine": ("http://127.0.0.1:1/a.png", "not among the allowed"),
    "this machine in disguise": ("https://2130706433/a.png", "not among the allowed"),
    "a file": ("file:///etc/passwd", "not among the allowed"),
    "a listed name that is this machine": ("https://localhost/a.png", "private address"),
    "a listed host with a password": ("https://me:SECRET@images.segmind.com/a.png", "user name"),
    "a port that is none": ("https://images.segmind.com:99999/a.png", "not a URL"),
    "itself": ("", "more than 3 redirects"),
}


@pytest.mark.parametrize(
    ("what", "is_redirect"),
    [(what, True) for what in REDIRECTS] + [(what, False) for what in REDIRECTS if REDIRECTS[what][0][:4] == "http"],
)
def test_an_output_on_another_host_is_not_fetched_and_not_bought_again(
    lab: ProxiedLab, what: str, *, is_redirect: bool
) -> None:
    location, words = REDIRECTS[what]
    if is_redirect:
        lab.proxy.outputs = [sending_to(location or "/outputs/again.png")]
    else:
        lab.proxy.answers[JOBS] = lambda document: {**document, "output": location}
    settings = lab.settings(SEGMIND_OUTPUT_HOSTS="images.segmind.com,localhost")
    key = lab.write("fruit", 1)
    assert lab.generate(key, settings=settings).models[0].endings == {"failed": 1}
    lab.check_refused(key, words)
    assert "SECRET" not in lab.generations()[0]["error"]
    lab.check_collected_once_mended(key)


@pytest.mark.parametrize(
    "name", ["../../../evil.sh", "/etc/cron.d/evil", "evil\0.png", "a" * 5000, "CON", "%2e%2e%2fevil"]
)
def test_names_from_the_network_never_become_file_names(lab: ProxiedLab, name: str) -> None:
    disposition = f'attachment; filename="{name}"'.replace("\0", "")[:4000]
    lab.proxy.outputs = [serving(png(), headers={"Content-Disposition": disposition, "Content-Type": "text/html"})]
    original = lab.proxy.url

    def say(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "output": f"{original}/outputs/{name[:900]}", "request_id": name, "filename": name}

    lab.proxy.answers[JOBS] = lambda document: say(document) if document.get("output") else document
    key = lab.write("fruit", 1)
    report = lab.generate(key)
    (row,) = lab.generations()
    if report.models[0].endings == {"succeeded": 1}:
        assert lab.kept() == [f"{row['generation_id']}.facts.json", f"{row['generation_id']}.png"]
    else:
        assert lab.kept() == []
    assert not list(lab.folder.rglob("*evil*"))
    assert (lab.posts, lab.charges) == (1, 1)


def test_a_dripping_download_is_left_to_the_next_run(lab: ProxiedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(request: web.Request, content: bytes) -> web.StreamResponse:
        from aiohttp import web

        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for byte in content:
                await response.write(bytes([byte]))
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        return response

    key = lab.write("fruit", 1)
    lab.proxy.outputs = [drip]
    with monkeypatch.context() as patched:
        patched.setattr(fetching, "FETCH_TIMEOUT_S", 0.3)
        (result,) = lab.generate(key).models
    assert (result.endings, result.is_complete) == ({"running": 1}, False)
    assert (lab.states(), lab.kept(), lab.proxy.fetches) == (["submitted"], [], 1)
    lab.check_collected_once_mended(key)


def test_one_hostile_output_does_not_affect_the_others(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [once_each(content for _, content, _ in HOSTILE.values())]
    (result,) = lab.generate(lab.write("fruit", 30)).models
    # fetching a decompression bomb or too many pixels again cannot help
    assert result.endings == {"succeeded": 28, "failed": 2}
    assert (lab.posts, lab.charges, len(lab.quarantined())) == (30, 30, 2)
    lab.check_money()


def test_a_folder_that_cannot_be_written_to_stops_the_run_before_anything_is_bought(lab: ProxiedLab) -> None:
    in_the_way = lab.folder / "data" / "outputs"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where the folder should be")
    key = lab.write("fruit", 3)
    with pytest.raises(SegmindDagsterError, match="Outputs cannot be kept in") as raised:
        lab.generate(key)
    assert str(in_the_way) in str(raised.value)
    assert lab.posts == 0
    in_the_way.unlink()
    lab.generate(key)
    lab.check_all_bought_once(3)


def test_additional_outputs_are_reported(lab: ProxiedLab) -> None:
    def two(document: Any) -> Any:
        urls = [document["output"], f"{document['output']}?second"] if "output" in document else []
        return {**document, "output": urls}

    lab.proxy.answers[JOBS] = two
    report = lab.generate(lab.write("fruit", 1))
    assert report.models[0].endings == {"succeeded": 1}
    (warning,) = report.warnings
    assert "brought 2 outputs, and one was asked for" in warning


def test_a_cost_given_only_in_the_status_is_recorded(lab: ProxiedLab) -> None:
    lab.proxy.answers[JOBS] = lambda document: {
        **document,
        "metrics": None if "output" in document else {"cost": 0.0055},
    }
    assert lab.generate(lab.write("fruit", 1)).models[0].endings == {"succeeded": 1}
    (row,) = lab.generations()
    assert (row["cost_usd"], row["cost_source"]) == (Decimal("0.0055"), "reported")
