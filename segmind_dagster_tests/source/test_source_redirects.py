"""A redirect must not carry the key away."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.errors import SegmindDagsterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.source_project import Project


class Elsewhere:
    """Two servers: one that redirects to the other, which remembers the keys it was shown."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        shown = self.keys

        class Target(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shown.append(self.headers.get("x-api-key"))
                self.send_response(200)
                self.end_headers()

        self.target = ThreadingHTTPServer(("127.0.0.1", 0), Target)
        location = f"http://127.0.0.1:{self.target.server_port}/stolen"

        class Redirect(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", location)
                self.end_headers()

        self.redirect = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
        for server in (self.target, self.redirect):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.redirect.server_port}"

    def close(self) -> None:
        for server in (self.target, self.redirect):
            server.shutdown()
            server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    servers = Elsewhere()
    yield servers
    servers.close()


@pytest.mark.parametrize("resource", ["models", "request_history"])
def test_the_key_does_not_follow_a_redirect_of_the_account_endpoints(
    project: Project, elsewhere: Elsewhere, resource: str
) -> None:
    project.environ["SEGMIND_PLATFORM_URL"] = elsewhere.url
    with pytest.raises(SegmindDagsterError, match="answered 302"):
        project.load(resource)
    assert elsewhere.keys == []
    assert project.tables() == set()
