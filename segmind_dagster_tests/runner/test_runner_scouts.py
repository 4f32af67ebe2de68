"""A model that delivers nothing usable takes three charges, and one that delivers costs one wait, once."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import V1, V2
from lab.proxy import JOBS, Proxy, first_file, serving
from lab.runner_project import Lab

from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import OpenLab

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
TEXT = "llama_v3p1_8b_instruct"


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


def serve(lab: ProxiedLab, served: Any) -> None:
    lab.proxy.outputs = [served]


def quarantined(lab: Lab) -> list[bytes]:
    folder = lab.folder / "data" / "outputs" / "quarantine"
    return [path.read_bytes() for path in folder.glob("*/*") if not path.name.endswith(".facts.json")]


@pytest.mark.parametrize("max_in_flight", ["1", "2", "1000"])
def test_a_model_that_answers_svg_is_charged_three_times_for_300_prompts(lab: ProxiedLab, max_in_flight: str) -> None:
    serve(lab, serving(SVG))
    key = lab.write("fruit", 300)
    report = lab.generate(key, settings=lab.settings(SEGMIND_MAX_IN_FLIGHT=max_in_flight))
    assert report.models[0].endings == {"failed": 3, "held_back": 297}
    assert (lab.posts, lab.charges) == (3, 3)
    assert quarantined(lab) == [SVG] * 3
    lab.check_money()
    assert report.stopped_by == "bad_output"
    for words in (f"${lab.charged_usd:.4f}", "quarantine/fast_flux_schnell", "segmind-dagster collect"):
        assert words in str(report.stop_message)


def test_an_error_page_for_every_output_stops_the_model_too(lab: ProxiedLab) -> None:
    serve(lab, serving(b"<!doctype html><html>come back later</html>"))
    lab.generate(lab.write("fruit", 40))
    assert (lab.charges, len(quarantined(lab))) == (3, 3)


@pytest.mark.parametrize("resource", [V1, V2])
def test_noise_from_either_version_of_the_api_stops_the_model(open_lab: OpenLab, resource: str) -> None:
    lab = open_lab(faults=Faults(rates={"undecodable": 1.0}))
    report = lab.generate(lab.write("fruit", 40, models=[resource]))
    assert report.models[0].endings == {"failed": 3, "held_back": 37}
    assert lab.charges == 3
    assert len(quarantined(lab)) == 3
    lab.check_money()


def test_a_text_model_with_empty_answers_is_stopped(lab: ProxiedLab) -> None:
    lab.proxy.answers[JOBS] = lambda document: {**document, "output": " "} if "output" in document else document
    report = lab.generate(lab.write("talk", 40, models=[TEXT]))
    assert report.models[0].endings == {"failed": 3, "held_back": 37}
    assert quarantined(lab) == [b" "] * 3


def test_each_model_of_a_run_has_its_own_scouts(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(script=[]))
    with Proxy(lab.server.url) as proxy:
        lab = Lab(lab.server, lab.folder.with_name("two"), SEGMIND_API_URL=proxy.url)
        proxy.outputs = [serving(SVG)]
        report = lab.generate(lab.write("fruit", 20, models=[V1, V2]))
    endings = {result.resource: dict(result.endings) for result in report.models}
    assert endings == {V1: {"succeeded": 20}, V2: {"failed": 3, "held_back": 17}}
    lab.check_money()


def test_after_one_good_output_the_rest_is_submitted(lab: ProxiedLab) -> None:
    serve(lab, first_file(SVG))
    report = lab.generate(lab.write("fruit", 50), settings=lab.settings(SEGMIND_MAX_IN_FLIGHT="1"))
    assert report.stopped_by is None
    assert report.models[0].endings == {"failed": 1, "succeeded": 49}
    lab.check_money()


def test_scouts_that_wait_for_the_history_let_at_most_three_others_go(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"accepted_then_503": 1.0}))
    with Proxy(lab.server.url) as proxy:
        proxy.outputs = [serving(SVG)]
        report = lab.generate(lab.write("fruit", 12), settings=lab.settings(SEGMIND_API_URL=proxy.url))
    assert report.models[0].endings == {"failed": lab.charges, "held_back": 12 - lab.charges}
    assert 3 <= lab.charges <= 6


@pytest.mark.parametrize("fault", ["failed", "failed_validation", "invalid", "server_error", "accepted_202"])
def test_free_or_unknown_scout_failures_never_block_the_rest(open_lab: OpenLab, fault: Any) -> None:
    lab = open_lab(faults=Faults(script=[fault] * 3))
    report = lab.generate(lab.write("fruit", 15))
    assert report.stopped_by is None
    assert sum(report.models[0].endings.values()) == 15
    assert report.models[0].endings["succeeded"] >= 12
    assert not report.models[0].endings["held_back"]
    lab.check_money()


def test_no_kind_of_free_failure_hangs_a_run(open_lab: OpenLab) -> None:
    lab = open_lab(faults=Faults(rates={"failed_validation": 1.0}))
    report = lab.generate(lab.write("fruit", 15))
    assert report.models[0].failures == {"invalid_job": 15}


def test_bad_outputs_of_earlier_runs_count_and_stop_a_sensor_run(lab: ProxiedLab) -> None:
    serve(lab, serving(SVG))
    lab.generate(lab.write("one", 1))
    lab.generate(lab.write("two", 1))
    assert lab.generate(lab.write("three", 20)).models[0].endings == {"failed": 1, "held_back": 19}
    assert lab.charges == 3
    report = lab.generate("three", is_by_person=False)
    assert (report.stopped_by, lab.posts) == ("bad_output", 3)
    assert report.models[0].endings["held_back"] == 19


def test_a_persons_run_sends_three_more_scouts_and_all_after_a_good_one(lab: ProxiedLab) -> None:
    serve(lab, serving(SVG))
    key = lab.write("fruit", 20)
    lab.generate(key)
    assert lab.generate(key).models[0].endings == {"failed": 6, "held_back": 14}
    assert (lab.posts, lab.charges, len(quarantined(lab))) == (6, 6, 6)
    serve(lab, None)
    assert lab.generate(key).models[0].endings == {"succeeded": 20}
    lab.check_all_bought_once(20)
    assert len(quarantined(lab)) == 6, "nothing is removed"


def test_a_collected_good_output_lets_a_sensor_run_continue(lab: ProxiedLab) -> None:
    serve(lab, serving(SVG))
    key = lab.write("fruit", 20)
    lab.generate(key)
    serve(lab, None)
    lab.collect()
    assert lab.generate(key, is_by_person=False).models[0].endings == {"reused": 3, "succeeded": 17}
    lab.check_all_bought_once(20)


def test_three_bad_outputs_after_the_last_good_one_stop_a_model(lab: ProxiedLab) -> None:
    lab.generate(lab.write("before", 2))
    serve(lab, serving(SVG))
    one_at_a_time = lab.settings(SEGMIND_MAX_IN_FLIGHT="1")
    report = lab.generate(lab.write("after", 30), settings=one_at_a_time)
    assert report.models[0].endings["failed"] in {3, 4}, "one more may be in progress when the third is refused"
    assert report.models[0].endings["held_back"] >= 26
    assert report.stopped_by == "bad_output"


def test_old_bad_outputs_that_fail_again_do_not_stop_the_model(lab: ProxiedLab) -> None:
    serve(lab, serving(SVG))
    lab.generate(lab.write("old", 3))
    serve(lab, None)
    lab.generate(lab.write("new", 3))
    serve(lab, serving(SVG))
    lab.generate("old")
    serve(lab, None)
    assert lab.generate(lab.write("newer", 10), is_by_person=False).models[0].endings == {"succeeded": 10}


def test_two_concurrent_runs_send_at_most_three_scouts_each(lab: ProxiedLab) -> None:
    serve(lab, serving(SVG))
    keys = [lab.write("one", 30), lab.write("two", 30)]
    runs = [threading.Thread(target=lab.generate, args=(key,)) for key in keys]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert lab.charges <= 6
    lab.check_money()


def test_scouts_that_wait_for_headroom_do_not_block_the_run(open_lab: OpenLab) -> None:
    lab = open_lab()
    key = lab.write("fruit", 20, budget_usd=0.5)
    report = lab.generate(key, settings=lab.settings(SEGMIND_DAILY_BUDGET_USD="0.03", SEGMIND_RUN_BUDGET_USD="1"))
    assert sum(report.models[0].endings.values()) == 20
    assert lab.charged_usd <= Decimal("0.03")
    lab.check_money()
