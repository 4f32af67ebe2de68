"""What was paid for and is no output is kept, byte for byte, with why and what it cost; and nothing is bought twice."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab.clocks import QuickClock
from lab.project import V1, V2
from lab.proxy import JOBS, Proxy, serving
from lab.runner_project import Lab

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.client import Gateway
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web
    from conftest import OpenLab

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'


class ProxiedLab(Lab):
    """A lab whose outputs come through a proxy."""

    proxy: Proxy


@pytest.fixture
def lab(open_lab: OpenLab) -> Iterator[ProxiedLab]:
    behind = open_lab()
    with Proxy(behind.server.url) as proxy:
        made = ProxiedLab(behind.server, behind.folder.with_name("proxied"), SEGMIND_API_URL=proxy.url)
        made.proxy = proxy
        yield made


def quarantined(lab: Lab) -> dict[str, bytes]:
    """Content by name below the quarantine."""
    folder = lab.folder / "data" / "outputs" / "quarantine"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(lab: Lab) -> list[bytes]:
    return [content for name, content in quarantined(lab).items() if not name.endswith(".facts.json")]


def sidecars(lab: Lab) -> list[dict[str, Any]]:
    return [json.loads(content) for name, content in quarantined(lab).items() if name.endswith(".facts.json")]


def test_the_quarantine_sidecar_has_kind_reason_and_cost(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [serving(SVG)]
    (result,) = lab.generate(lab.write("fruit", 1)).models
    (row,) = lab.generations()
    (beside,) = sidecars(lab)
    assert {name: beside[name] for name in ("generation_id", "request_id", "model", "prompt_set", "attempt")} == {
        "generation_id": row["generation_id"],
        "request_id": row["request_id"],
        "model": "fast-flux-schnell",
        "prompt_set": "fruit",
        "attempt": 1,
    }
    assert (beside["reason"], beside["expected"], beside["is_cut"]) == ("bytes of no known format", "image", False)
    assert (beside["output_sha256"], beside["output_bytes"]) == (hashlib.sha256(SVG).hexdigest(), len(SVG))
    assert (beside["cost_usd"], beside["cost_source"]) == (str(lab.charged_usd), "reported")
    assert beside["parameters"]["prompt"] == "fruit number 0"
    assert beside["stored_at"]
    (name,) = [name for name in quarantined(lab) if name.endswith(".svg")]
    assert name in result.examples[0], "the message says where it is"


def test_a_key_repeated_by_the_provider_is_in_no_sidecar(lab: ProxiedLab) -> None:
    key = lab.server.api_key
    lab.proxy.outputs = [serving(SVG)]
    lab.generate(lab.write("fruit", [f"a poster that says {key}"]))
    (beside,) = sidecars(lab)
    assert key not in json.dumps(beside)


def test_equal_refused_bytes_are_kept_once_and_a_later_good_fetch_succeeds(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [serving(SVG)]
    key = lab.write("fruit", 1)
    for _ in range(2):
        lab.generate(key)
    lab.collect()
    assert contents(lab) == [SVG]
    before = quarantined(lab)
    lab.proxy.outputs = [None]
    lab.collect()
    lab.check_all_bought_once(1)
    assert quarantined(lab) == before


def test_different_bytes_for_one_request_are_all_kept(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [serving(SVG), serving(b"<html>later</html>"), serving(b"")]
    lab.generate(lab.write("fruit", 1))
    assert sorted(contents(lab)) == sorted([SVG, b"<html>later</html>", b""])
    assert (lab.posts, lab.charges) == (1, 1)


def test_refused_bytes_are_kept_when_the_provider_loses_the_file(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [serving(SVG), serving(b"", status=404)]
    (result,) = lab.generate(lab.write("fruit", 1)).models
    assert result.failures == {"expired": 1}
    assert contents(lab) == [SVG]


def test_refused_bytes_are_kept_when_the_provider_stops_answering(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [serving(SVG), serving(b"", status=500)]
    key = lab.write("fruit", 1)
    assert lab.generate(key).models[0].endings == {"running": 1}
    assert contents(lab) == [SVG]
    lab.proxy.outputs = [None]
    lab.generate(key)
    lab.check_all_bought_once(1)


def test_a_result_without_a_file_is_quarantined_unchanged(lab: ProxiedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"picture": "data:image/png;base64,AAAA"}

    def say(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "output": said, "images": []} if "output" in document else document

    lab.proxy.answers[JOBS] = say

    async def forgotten(*_: object) -> None:
        return None

    monkeypatch.setattr(Gateway, "history_row", forgotten)
    (result,) = lab.generate(lab.write("fruit", 1)).models
    assert result.failures == {"bad_output": 1}
    assert [json.loads(content) for content in contents(lab)] == [said]


def test_an_oversized_body_is_cut_and_marked_in_the_sidecar(lab: ProxiedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Gateway.__init__.__kwdefaults__, "max_output_bytes", 1_000_000)
    body = os.urandom(1 << 20)
    sent = 0

    async def flood(request: web.Request, _: bytes) -> web.StreamResponse:
        from aiohttp import web

        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(200):
                await response.write(body)
                sent += len(body)
        except ConnectionError:
            pass
        return response

    lab.proxy.outputs = [flood]
    (result,) = lab.generate(lab.write("fruit", 1)).models
    assert "larger than 1000000 bytes, and cut there" in result.examples[0]
    assert contents(lab) == [body[:1_000_000]]
    assert sidecars(lab)[0]["is_cut"] is True
    assert lab.proxy.fetches == 1, "fetching it again cannot help"
    assert sent < 50_000_000, "no more than fits into the sockets' buffers"


@pytest.mark.parametrize("kind", ["undecodable", "truncated"])
def test_refused_bytes_of_a_v1_answer_are_kept(open_lab: OpenLab, kind: Any) -> None:
    lab = open_lab(faults=Faults(rates={kind: 1.0}))
    lab.generate(lab.write("fruit", 1, models=[V1]))
    assert len(contents(lab)) >= 1
    assert all(beside["request_id"] in lab.charged_requests() for beside in sidecars(lab))
    assert (lab.posts, lab.charges) == (1, 1)
    lab.check_money()


def test_a_truncated_download_that_succeeds_later_leaves_no_quarantine(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"truncated": 1.0}))
    lab.generate(lab.write("fruit", 2, models=[V2]))
    lab.check_all_bought_once(2)
    assert quarantined(lab) == {}


def test_a_quarantine_that_cannot_be_written_stops_the_run_and_the_job_stays_collectable(lab: ProxiedLab) -> None:
    lab.proxy.outputs = [serving(SVG)]
    in_the_way = lab.folder / "data" / "outputs" / "quarantine"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where the folder should be")
    key = lab.write("fruit", 1)
    with pytest.raises(SegmindDagsterError, match="cannot be stored") as raised:
        lab.generate(key)
    assert "nothing is paid for twice" in str(raised.value)
    assert lab.states() == ["submitted"]
    in_the_way.unlink()
    lab.collect()
    assert contents(lab) == [SVG]
    assert (lab.states(), lab.posts) == (["failed"], 1)


def test_a_full_disk_leaves_no_partial_file_in_quarantine(lab: ProxiedLab) -> None:
    body = b"<svg>" + b" " * 400_000 + b"</svg>"
    lab.proxy.outputs = [serving(body)]
    key = lab.write("fruit", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(SegmindDagsterError, match=r"(?i)make room"):
            lab.generate(key)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(lab) == []
    # the first run could not write that it ended, and its lease lasts for a minute
    lab.generate(key, clock=QuickClock(ahead=timedelta(minutes=5)))
    assert contents(lab) == [body]


def test_outputs_in_a_bucket_have_their_quarantine_there(lab: ProxiedLab) -> None:
    import fsspec

    url = f"memory://{lab.folder.parent.name}/outputs"
    lab.proxy.outputs = [serving(SVG)]
    lab.generate(lab.write("fruit", 1), settings=lab.settings(SEGMIND_OUTPUTS_URL=url))
    fs, path = fsspec.core.url_to_fs(f"{url}/quarantine")
    found = {Path(name).suffix: fs.cat_file(name) for name in fs.find(path)}
    assert found[".svg"] == SVG
    assert json.loads(found[".json"])["reason"]
    fs.rm(fsspec.core.url_to_fs(url)[1], recursive=True)


def test_an_output_without_a_request_id_is_kept_and_its_request_found_in_the_history(lab: ProxiedLab) -> None:
    lab.proxy.withheld.add("x-request-id")
    (result,) = lab.generate(lab.write("fruit", 1, models=[V1])).models
    assert result.endings == {"succeeded": 1}
    (content,), (sidecar,) = contents(lab), sidecars(lab)
    (row,) = lab.generations()
    assert hashlib.sha256(content).hexdigest() == sidecar["output_sha256"] == row["provider_sha256"]
    assert "without an x-request-id" in sidecar["reason"]
    assert (lab.posts, lab.charges) == (1, 1)


def test_the_kept_output_without_a_request_id_replaces_a_deleted_one(
    lab: ProxiedLab,
) -> None:
    lab.proxy.withheld.add("x-request-id")
    lab.proxy.outputs = [serving(b"", status=404)]
    lab.proxy.statuses[JOBS] = 404
    key = lab.write("fruit", 1, models=[V1])
    assert lab.generate(key).models[0].endings == {"succeeded": 1}
    (row,) = lab.generations()
    assert Path(row["output_uri"]).is_file()
    assert (lab.posts, lab.charges) == (1, 1)


def test_without_a_known_request_an_output_stays_in_quarantine(lab: ProxiedLab) -> None:
    lab.proxy.withheld.add("x-request-id")
    lab.proxy.statuses["/inference-request/"] = 503
    key = lab.write("fruit", 1, models=[V1])
    assert lab.generate(key).models[0].endings == {"unknown": 1}
    assert (len(contents(lab)), lab.posts) == (1, 1)
    lab.proxy.statuses.clear()
    assert lab.generate(key).models[0].endings == {"succeeded": 1}
    assert lab.posts == 1
