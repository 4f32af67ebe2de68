"""The server: loopback only, one clear error for a taken port, a foreground that stops, a memory that lasts."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox import Faults, SandboxServer, SandboxSettings, serve
from segmind_dagster.sandbox.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

    from lab.sandbox import Clock, Start


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_an_address_other_machines_can_reach_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        SandboxSettings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_answers_on_loopback(start: Start, host: str) -> None:
    client = start(host=host)
    assert client.server.url.startswith(f"http://{host}:")
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_scale": -1.0},
        {"fixed_latency_s": -1.0},
        {"record_ttl_s": -1.0},
        {"rate_window_s": 0.0},
        {"max_picture_px": 8},
    ],
)
def test_invalid_numbers_are_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(SettingsError) as refused:
        SandboxSettings(**wrong)
    assert refused.value.setting == name


def test_a_port_in_use_is_one_clear_error_in_both_ways_of_running(start: Start) -> None:
    port = int(start().server.url.rpartition(":")[2])
    for run in (SandboxServer(SandboxSettings(port=port)).start, lambda: serve(SandboxSettings(port=port), print)):
        with pytest.raises(SettingsError, match=f"port {port} .* is in use"):
            run()


def test_a_sandbox_that_was_not_started_says_so() -> None:
    server = SandboxServer()
    for ask in (lambda: server.url, server.account):
        with pytest.raises(RuntimeError, match="not been started"):
            ask()


def test_it_stops_while_a_request_is_waiting_and_its_account_can_still_be_read(start: Start) -> None:
    client = start(faults=Faults(script=["accepted_then_hang"]), fixed_latency_s=0.0)
    with pytest.raises(requests.ReadTimeout):
        client.session.post(f"{client.server.url}/v2/fast-flux-schnell", json={"prompt": "a"}, timeout=0.1)
    client.server.stop()
    client.server.stop()
    assert client.server.account()["charges"] == 1
    with pytest.raises(requests.ConnectionError):
        client.get("/health")


def test_importing_it_does_not_load_the_drawing_library() -> None:
    code = "import sys, segmind_dagster.sandbox; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_prints_its_address_and_exits_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from segmind_dagster.sandbox import SandboxSettings, serve\n"
        f"settings = SandboxSettings(state_dir=Path({str(tmp_path)!r}), fixed_latency_s=0.0)\n"
        "serve(settings, lambda url: print(url, flush=True))\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        headers = {"x-api-key": SandboxSettings().api_key}
        response = requests.post(f"{url}/v2/fast-flux-schnell", json={"prompt": "a"}, headers=headers, timeout=10)
        process.send_signal(number)
        assert (process.wait(10), process.stderr.read()) == (0, "")
    kept = [record["type"] for record in Journal(tmp_path / "journal.jsonl").replay()]
    assert (response.status_code, kept) == (200, ["opened", "job", "settled"])


def test_jobs_money_uploads_and_attempts_survive_a_restart(start: Start, clock: Clock, tmp_path: Path) -> None:
    first = start(state_dir=tmp_path)
    first.server.add_credits(Decimal(5))
    done = first.submit({"prompt": "done", "seed": 3})
    failing = first.submit({})
    data_url = f"data:image/png;base64,{base64.b64encode(b'a face').decode()}"
    (uploaded,) = first.post("/upload-asset", json={"data_urls": [data_url]}).json()["file_urls"]
    clock.advance(10)
    picture = first.output(done)
    running = first.submit({"prompt": "running"})
    before = first.server.account()
    first.server.stop()

    second = start(state_dir=tmp_path, initial_credits=Decimal(1))
    after = second.server.account()
    money = ("charged_usd", "balance_usd", "charges", "submissions", "jobs")
    assert [after[name] for name in money] == [before[name] for name in money]
    moved = {name: submitted["request_id"] for name, submitted in (("done", done), ("failing", failing))}
    assert second.get(f"/outputs/{moved['done']}.jpeg").content == picture
    assert second.get(f"/v2/requests/{moved['failing']}/status").status_code == 422
    assert second.get("/assets/" + uploaded.rpartition("/")[2]).content == b"a face"
    clock.advance(10)
    assert second.get(f"/v2/requests/{running['request_id']}/status").json()["status"] == "COMPLETED"
    assert second.server.account()["charges"] == before["charges"] + 1


def test_a_job_that_completed_while_it_was_down_is_charged_at_the_next_start(
    start: Start, clock: Clock, tmp_path: Path
) -> None:
    first = start(state_dir=tmp_path)
    first.submit({"prompt": "a pear"})
    first.server.stop()
    clock.advance(10)
    account = start(state_dir=tmp_path).server.account()
    assert (account["charges"], account["jobs"][0]["status"]) == (1, "COMPLETED")


def test_a_stuck_or_faulty_job_survives_a_restart(start: Start, clock: Clock, tmp_path: Path) -> None:
    first = start(state_dir=tmp_path, faults=Faults(script=["stuck", "undecodable"]))
    stuck, noise = first.submit({"prompt": "a"}), first.submit({"prompt": "b"})
    clock.advance(20)
    first.server.stop()
    second = start(state_dir=tmp_path)
    assert second.get(f"/v2/requests/{stuck['request_id']}/status").json()["status"] == "PROCESSING"
    assert second.get(f"/outputs/{noise['request_id']}.jpeg").content[:2] != b"\xff\xd8"


def test_with_durable_a_submission_is_on_disk_before_its_answer(start: Start, tmp_path: Path) -> None:
    client = start(state_dir=tmp_path, durable=True)
    submitted = client.submit({"prompt": "a pear"})
    assert submitted["request_id"] in (tmp_path / "journal.jsonl").read_text()


@given(cut=st.integers(1, 60), records=st.lists(st.dictionaries(st.text(), st.text()), min_size=1, max_size=5))
def test_a_torn_last_line_is_dropped_and_the_journal_continues(
    tmp_path: Path, records: list[dict[str, str]], cut: int
) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal(path)
    for record in records:
        journal.append(record)
    whole = path.read_bytes()
    start_of_last = whole.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(whole[: max(start_of_last, len(whole) - cut)])
    reopened = Journal(path)
    assert reopened.replay() == records[:-1]
    reopened.append({"and": "on"})
    assert reopened.replay() == [*records[:-1], {"and": "on"}]


def test_a_damaged_line_before_the_last_is_an_error_that_names_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"type": "opened"}\nrubbish\n{}\n')
    with pytest.raises(SettingsError, match="line 2 of"):
        start(state_dir=tmp_path)
