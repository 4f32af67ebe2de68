"""A plain client for a sandbox, and a clock that only moves when told to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import requests

if TYPE_CHECKING:
    from segmind_dagster.sandbox import SandboxServer

MIDDAY = 1_767_355_445.678  # 2026-01-02T12:04:05.678Z


class Clock:
    def __init__(self) -> None:
        self.now = MIDDAY

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Client:
    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.session = requests.Session()
        self.session.headers["x-api-key"] = server.api_key

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(path if path.startswith("http") else self.server.url + path, timeout=10, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.server.url + path, timeout=10, **options)

    def submit(self, body: dict[str, Any], slug: str = "fast-flux-schnell") -> dict[str, Any]:
        response = self.post(f"/v2/{slug}", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def output(self, submitted: dict[str, Any]) -> bytes:
        return self.get(self.get(submitted["response_url"]).json()["output"]).content


class Start(Protocol):
    """The fixture `start`: a sandbox with these settings, and a client for it."""

    def __call__(self, **settings: Any) -> Client: ...
