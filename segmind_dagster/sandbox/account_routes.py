"""The account and the catalogue: credits, models, request history, uploads; and the sandbox's own request counts.

Running models is in `gateway_routes`. Where Segmind does not document a shape, the one chosen here is the
plainest that its official SDK can read.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from aiohttp import web

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox import answers, pages
from segmind_dagster.sandbox.assets import decode_data_url
from segmind_dagster.sandbox.faults import CONTENT_FAULTS, Faults
from segmind_dagster.sandbox.history import HistoryQuery, generations_page, history_page, job_rows, page_number
from segmind_dagster.sandbox.lies import Lies
from segmind_dagster.sandbox.lying_history import NoSuchPageError
from segmind_dagster.sandbox.lying_money import stated_amount
from segmind_dagster.sandbox.models_list import model_rows

if TYPE_CHECKING:
    from segmind_dagster.sandbox.state import SandboxState

_MODELS_ENVELOPE = "Inference Segmind Model Information List With Details"


class AccountRoutes:
    """Handlers of everything that runs no model."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """Where each handler is mounted."""
        history = "/inference-request/request-history"
        return [
            web.get("/v1/get-user-credits", self.credits, allow_head=False),
            web.get("/v1/models", self.models_page, allow_head=False),
            web.get("/v1/models/", self.models_page, allow_head=False),
            web.get("/inference-model-information/list", self.models, allow_head=False),
            web.get(history, self.history, allow_head=False),
            web.get(history + "/{request_id}", self.history_of_one, allow_head=False),
            web.get("/inference-request/generations", self.generations, allow_head=False),
            web.get("/inference-request/recent-generations", self.generations, allow_head=False),
            web.get("/api/auth/authenticate", self.identity, allow_head=False),
            web.post("/upload-asset", self.upload),
            web.get("/health", self.health),
            web.get("/sandbox/account", self.account),
            web.post("/sandbox/settings", self.change_settings),
        ]

    async def credits(self, _: web.Request) -> web.Response:
        """`GET /v1/get-user-credits`."""
        self._state.requests["credits"] += 1
        self._state.book.finish_ended()
        stated = stated_amount(self._state.book.balance_usd, self._state.lies.balance, key="credits")
        return answers.json_answer({**stated, "free-credits": 0.0})

    async def models_page(self, _: web.Request) -> web.Response:
        """`GET /v1/models/`: a page for people."""
        return answers.html_answer(pages.models_page())

    async def models(self, request: web.Request) -> web.Response:
        """`GET /inference-model-information/list`: the machine-readable list."""
        self._state.requests["models"] += 1
        envelope = _MODELS_ENVELOPE if request.query.get("segmind_model") == "True" else "models"
        return answers.json_answer({envelope: model_rows()})

    async def history(self, request: web.Request) -> web.Response:
        """`GET /inference-request/request-history`: one row per output."""
        self._state.requests["history"] += 1
        try:
            query = HistoryQuery.from_query(request.query, now=self._state.now())
        except ValueError as error:
            return answers.error_answer(400, str(error))
        self._state.book.finish_ended()
        as_text = self._is_text()
        try:
            page = history_page(self._state, query, base=f"http://{request.host}", as_text=as_text)
        except NoSuchPageError as error:
            return answers.error_answer(error.status, f"page {query.page} does not exist")
        if page is None:
            return web.Response(text='{"data": [', content_type="application/json")
        return answers.json_answer(page)

    async def history_of_one(self, request: web.Request) -> web.Response:
        """`GET /inference-request/request-history/{id}`: one request of any age, as a bare row."""
        self._state.requests["history"] += 1
        self._state.book.finish_ended()
        request_id = request.match_info["request_id"]
        job = self._state.book.ever(request_id)
        as_text = job is not None and self._is_text()
        rows = job_rows(self._state, job, base=f"http://{request.host}", as_text=as_text) if job else []
        return answers.json_answer(rows[0]) if rows else answers.error_answer(404, f"Request {request_id} not found")

    def _is_text(self) -> bool:
        """Whether the history's bodies are JSON strings in this answer."""
        return (
            self._state.settings.history_body_as_string or self._state.fault_of("history", CONTENT_FAULTS) is not None
        )

    async def generations(self, request: web.Request) -> web.Response:
        """`GET /inference-request/generations` and `.../recent-generations`: outputs only."""
        self._state.requests["history"] += 1
        try:
            page = page_number(request.query)
        except ValueError as error:
            return answers.error_answer(400, str(error))
        self._state.book.finish_ended()
        model_name, base = request.query.get("model_name", ""), f"http://{request.host}"
        return answers.json_answer(generations_page(self._state, page=page, model_name=model_name, base=base))

    async def identity(self, _: web.Request) -> web.Response:
        """`GET /api/auth/authenticate`: whose key this is, as the SDK's `accounts.current` asks."""
        self._state.book.finish_ended()
        balance = float(self._state.book.balance_usd)
        return answers.json_answer({"username": "sandbox", "email": "sandbox@localhost", "credits": balance})

    async def upload(self, request: web.Request) -> web.Response:
        """`POST /upload-asset`: data URLs in, file URLs out."""
        self._state.requests["upload"] += 1
        try:
            data_urls = json.loads(await request.read())["data_urls"]
            files = [decode_data_url(url) for url in data_urls]
        except (ValueError, TypeError, KeyError):
            return answers.error_answer(400, "data_urls is Mandatory and must be a list of data URLs")
        if not files or None in files:
            return answers.error_answer(400, "data_urls must hold base64 data URLs such as data:image/png;base64,...")
        names = [self._state.assets.put(*file) for file in files if file is not None]
        if self._state.journal is not None:
            self._state.journal.append({"type": "upload", "names": names})
        urls = [f"http://{request.host}/assets/{name}" for name in names]
        return answers.json_answer({"file_urls": urls, "message": "Files uploaded successfully"})

    async def health(self, _: web.Request) -> web.Response:
        """`GET /health`."""
        return answers.json_answer({"status": "ok", "sandbox": True})

    async def account(self, request: web.Request) -> web.Response:
        """`GET /sandbox/account`: what was asked and charged, in the sandbox's own words."""
        return answers.json_answer(self._state.account(jobs=request.query.get("jobs") != "false"))

    async def change_settings(self, request: web.Request) -> web.Response:
        """`POST /sandbox/settings`: any of `add_credits`, `requests_per_minute`, `faults`, `lies`."""
        try:
            wanted: dict[str, Any] = json.loads(await request.read())
            unknown = set(wanted) - {"add_credits", "requests_per_minute", "faults", "lies"}
            if unknown:
                return answers.error_answer(400, f"no such setting: {', '.join(sorted(unknown))}")
            limit = wanted.get("requests_per_minute")
            if limit is not None and (not isinstance(limit, int) or limit < 0):
                return answers.error_answer(400, f"requests_per_minute is {limit!r}; it must be a number or null")
            amount_usd = Decimal(str(wanted.get("add_credits", 0)))
            faults = Faults.from_json(wanted["faults"]) if "faults" in wanted else None
            lies = Lies.from_json(wanted["lies"]) if "lies" in wanted else None
        except (ValueError, TypeError, AttributeError, InvalidOperation, SettingsError) as error:
            return answers.error_answer(400, str(error))
        if faults is not None:
            self._state.set_faults(faults)
        if lies is not None:
            self._state.set_lies(lies)
        if amount_usd:
            self._state.book.add_credits(amount_usd)
        if "requests_per_minute" in wanted:
            self._state.rate.limit = limit
        book, rate = self._state.book, self._state.rate
        return answers.json_answer({"balance_usd": str(book.balance_usd), "requests_per_minute": rate.limit})
