"""Servers and addresses that mean harm: what may be connected to, how long and how much of it is taken."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yarl
from aiohttp import web
from aiohttp.abc import AbstractResolver
from hypothesis import given
from hypothesis import strategies as st
from lab import FOLDER
from lab.gateway import KEY, answering

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway import fetching
from segmind_dagster.gateway.addresses import PublicResolver
from segmind_dagster.gateway.answers import request_id_of
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.gateway.fetching import Fetcher
from segmind_dagster.gateway.redaction import Redactor
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from lab.gateway import Bench

    from segmind_dagster.settings import Settings

CONTENT = bytes(range(256)) * 1000
SEGMIND = {"SEGMIND_OUTPUT_HOSTS": "images.segmind.com,localhost"}


def settings(**environ: str) -> Settings:
    return load_settings(environ={"SEGMIND_API_KEY": KEY, **environ}, project_dir=Path.cwd())


class Names(AbstractResolver):
    """Answers with these addresses in turn, the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0}
            for each in addresses
        ]

    async def close(self) -> None:
        pass


def resolved(*answers: list[str], hosts: str = "cdn.example", times: int = 1, **environ: str) -> list[str]:
    """The addresses that may be connected to, after so many look-ups."""
    resolver = PublicResolver(settings(SEGMIND_OUTPUT_HOSTS=hosts, **environ), inner=Names(*answers))

    async def main() -> list[str]:
        found: list[ResolveResult] = []
        for _ in range(times):
            found = await resolver.resolve("cdn.example", 443)
        return [each["host"] for each in found]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_a_listed_name_that_means_a_private_address_is_refused(address: str) -> None:
    with pytest.raises(OutputError, match="private address") as raised:
        resolved([address])
    assert raised.value.is_permanent
    assert address in str(raised.value)
    assert "SEGMIND_OUTPUT_HOSTS" in str(raised.value)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_a_listed_name_with_a_public_address_is_connected_to(address: str) -> None:
    assert resolved([address]) == [address]


def test_a_host_that_resolves_to_a_private_address_later_is_refused() -> None:
    answers = (["93.184.216.34"], ["169.254.169.254"])
    assert resolved(*answers, times=1) == ["93.184.216.34"]
    with pytest.raises(OutputError, match=r"169\.254\.169\.254"):
        resolved(*answers, times=2)


def test_of_several_addresses_only_the_public_ones_are_connected_to() -> None:
    assert resolved(["10.0.0.1", "93.184.216.34", "::1"]) == ["93.184.216.34"]


@pytest.mark.parametrize("entry", ["10.1.2.3", "10.0.0.0/8", "10.1.2.3:9000"])
def test_a_private_address_is_connected_to_when_it_is_listed_itself(entry: str) -> None:
    assert resolved(["10.1.2.3"], hosts=f"cdn.example,{entry}") == ["10.1.2.3"]
    with pytest.raises(OutputError):
        resolved(["192.168.1.1"], hosts=f"cdn.example,{entry}")


def test_the_api_itself_may_have_any_address() -> None:
    assert resolved(["10.1.2.3"], SEGMIND_API_URL="https://cdn.example") == ["10.1.2.3"]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", socket.gethostname()])
def test_nothing_is_sent_to_a_listed_name_of_this_machine(bench: Bench, name: str) -> None:
    with socket.create_server(("", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        with pytest.raises(OutputError, match="private address") as raised:
            bench.run(
                "http://127.0.0.1:9",
                lambda gateway: gateway.fetch(f"https://{name}:{port}/a.png", bench.sink),
                variables={"SEGMIND_OUTPUT_HOSTS": name.lower()},
            )
        with pytest.raises(TimeoutError):
            listener.accept()
    assert raised.value.is_permanent
    assert not bench.sink.exists()


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "0",
        "①②⑦.⓪.⓪.①",
    ],
)
@pytest.mark.parametrize("is_redirect", [True, False])
def test_a_disguised_private_address_is_refused(bench: Bench, host: str, *, is_redirect: bool) -> None:
    url = f"https://{host}/a.png"
    handler, seen = answering(lambda: web.Response(status=302, headers={"Location": url}))
    with pytest.raises(OutputError) as raised:
        bench.against(
            handler,
            lambda gateway, base: gateway.fetch(f"{base}/a.png" if is_redirect else url, bench.sink),
            variables=SEGMIND,
        )
    assert raised.value.is_permanent
    assert len(seen) == is_redirect


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass@images.segmind.com/a.png",
        "https://user@images.segmind.com/a.png",
        "https://:pass@images.segmind.com/a.png",
        "https://@images.segmind.com/a.png",
        "https://images.segmind.com:0/a.png",
        "https://images.segmind.com:99999/a.png",
        "https://images.segmind.com:abc/a.png",
        "https://images.segmind.com:-1/a.png",
        "https://images.segmind.com/\ud800.png",
        "https://images.segmind.com]/a.png",
        "https://[images.segmind.com/a.png",
    ],
)
@pytest.mark.parametrize("is_redirect", [True, False])
def test_a_malformed_address_is_refused_without_a_crash(bench: Bench, url: str, *, is_redirect: bool) -> None:
    if is_redirect and not url.isascii():
        return  # a header cannot carry it
    handler, seen = answering(lambda: web.Response(status=302, headers={"Location": url}))
    with pytest.raises(OutputError) as raised:
        bench.against(
            handler,
            lambda gateway, base: gateway.fetch(f"{base}/a.png" if is_redirect else url, bench.sink),
            variables=SEGMIND,
        )
    assert raised.value.is_permanent
    assert "pass" not in str(raised.value)
    assert len(seen) == is_redirect


pieces = st.sampled_from(
    ["https://", "//", "/", "\\", "@", ":", "443", "?", "#", ".", "%2e", "%40", "[", "]", "\t", "\n", " ", "\u3002",
     "\uff49",
     "images.segmind.com", "evil.example", "127.0.0.1", "user", "a.png"]
)  # fmt: skip


@given(url=st.lists(pieces, min_size=1, max_size=8).map("".join).map(lambda text: f"https://{text}"))
def test_the_checked_address_is_the_connected_address(url: str) -> None:
    """Two parsers read an address: ours before, the HTTP client's when it connects."""
    fetcher = Fetcher(settings(), Redactor(None), max_output_bytes=1)
    try:
        fetcher._hosts.check(url)
    except OutputError:
        return
    try:
        host = yarl.URL(url).host
    except ValueError:
        return  # the client refuses it
    assert host == urlsplit(url).hostname
    assert host in {"images.segmind.com", "storage.segmind.com", "videos.segmind.com", "api.segmind.com"}


@pytest.mark.parametrize("request_id", ["\ud800", "a\nb", "a\0", "ä", "", 7, None, ["x"], {"a": 1}])
def test_a_request_id_must_fit_a_url_and_the_ledger(request_id: Any) -> None:
    assert request_id_of(json.dumps({"request_id": request_id}).encode()) is None


def bomb(size_mb: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size_mb)) + packer.flush()


def test_a_small_archive_that_unpacks_to_more_than_the_limit_is_refused(bench: Bench) -> None:
    content = bomb(64)
    assert len(content) < 100_000
    handler, seen = answering(lambda: web.Response(body=content, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(OutputError, match="larger than 1000000 bytes") as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a", bench.sink), max_output_bytes=1_000_000)
    assert raised.value.is_permanent
    assert len(seen) == 1
    assert bench.sink.stat().st_size < 2_000_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense"])
def test_a_wrong_content_encoding_never_crashes_the_run(bench: Bench, encoding: str) -> None:
    handler, _ = answering(lambda: web.Response(body=b"no archive " * 100, headers={"Content-Encoding": encoding}))

    async def fetch(gateway: Any, url: str) -> Any:
        return await gateway.fetch(f"{url}/a.png", bench.sink)

    if encoding == "nonsense":
        bench.against(handler, fetch)
        assert bench.sink.stat().st_size == 1100, "what means nothing is left as it is"
    else:
        with pytest.raises((OutputError, GatewayError)):
            bench.against(handler, fetch)


def test_outputs_are_requested_without_compression(bench: Bench) -> None:
    """A gzip stream that breaks off unpacks without a complaint, so that none is asked for."""

    async def handler(request: web.Request) -> web.Response:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=gzip.compress(CONTENT)[:-20], headers={"Content-Encoding": "gzip"})
        return web.Response(body=CONTENT)

    bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert bench.sink.read_bytes() == CONTENT


def test_an_oversized_output_is_read_up_to_the_limit(bench: Bench) -> None:
    written = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 10**12
        await response.prepare(request)
        try:
            while True:
                await response.write(CONTENT)
                written.append(len(CONTENT))
        except ConnectionError:
            pass
        return response

    with pytest.raises(OutputError, match="larger than 1000 bytes, and cut there") as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a", bench.sink), max_output_bytes=1000)
    assert (raised.value.is_permanent, raised.value.is_cut) == (True, True)
    assert bench.sink.read_bytes() == (CONTENT * 1000)[:1000]
    assert sum(written) < 50_000_000, "what fits into the sockets' buffers"


@pytest.mark.parametrize("is_begun", [True, False], ids=["it drips", "it is silent"])
def test_an_endless_connection_ends_after_one_timeout(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, is_begun: bool
) -> None:
    monkeypatch.setattr(fetching, "FETCH_TIMEOUT_S", 0.3)
    gets = []

    async def handler(request: web.Request) -> web.StreamResponse:
        gets.append(request)
        response = web.StreamResponse()
        if not is_begun:
            await asyncio.sleep(5)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        return response

    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png?sig=SECRET", bench.sink))
    assert raised.value.kind == "connect_error", "it stays collectable"
    assert "SECRET" not in str(raised.value)
    assert len(gets) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Disposition": 'attachment; filename="../../../evil.sh"'},
        {"Content-Disposition": "attachment; filename*=UTF-8''%2e%2e%2fevil"},
        {"Content-Location": "file:///etc/passwd"},
        {"Content-Type": "text/html; charset=../../evil"},
        {"Link": "</evil>; rel=canonical", "Set-Cookie": "evil=1; Domain=segmind.com"},
    ],
)
def test_file_names_from_the_server_are_ignored(bench: Bench, headers: dict[str, str]) -> None:
    handler, _ = answering(lambda: web.Response(body=CONTENT, headers=headers))
    sha256 = bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/..%2f..%2fetc%2fevil", bench.sink))
    assert sha256 == hashlib.sha256(bench.sink.read_bytes()).hexdigest()
    assert [path.name for path in bench.folder.iterdir() if path.is_file()] == ["sink"]


def test_endless_headers_fail_the_request(bench: Bench) -> None:
    handler, _ = answering(lambda: web.Response(body=CONTENT, headers={"X-Long": "a" * 100_000}))
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert raised.value.kind == "connect_error"
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("how", ["announced", "chunked", "packed"])
def test_memory_does_not_grow_while_300_megabytes_are_fetched(tmp_path: Path, how: str) -> None:
    program = f"""
import asyncio, sys, threading
from pathlib import Path
sys.path[:0] = {[str(FOLDER), str(Path(__file__).parent)]!r}
from aiohttp import web
from lab.gateway import Bench
from test_hostile_fetch import bomb
bench = Bench(Path({str(tmp_path)!r}))
packed = bomb(300) if {how!r} == "packed" else b""
def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
async def handler(request):
    if packed and request.path == "/big":
        return web.Response(body=packed, headers={{"Content-Encoding": "gzip"}})
    size = 300 if request.path == "/big" else 1
    response = web.StreamResponse()
    if {how!r} == "announced":
        response.content_length = size << 20
    await response.prepare(request)
    for _ in range(size):
        await response.write(bytes(1 << 20))
    return response
async def work(gateway, url):
    await gateway.fetch(url + "/small", bench.sink)
    before = peak_mb()
    await gateway.fetch(url + "/big", bench.sink)
    print(peak_mb() - before, bench.sink.stat().st_size)
bench.against(handler, work)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    grown_mb, size_bytes = map(float, told.stdout.split())
    assert size_bytes == 300 << 20
    assert grown_mb < 40
