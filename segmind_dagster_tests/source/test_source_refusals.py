"""Answers of the account's endpoints that are no answers, and loads at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from dlt.extract.exceptions import ResourceExtractionError
from lab.project import FLUX

from segmind_dagster.source import ACCOUNT_RESOURCES

if TYPE_CHECKING:
    from lab.proxy import Proxy
    from lab.source_project import Project


@pytest.mark.parametrize("resource", ACCOUNT_RESOURCES)
def test_a_refused_key_is_an_error_and_never_a_row(project: Project, resource: str) -> None:
    project.environ["SEGMIND_API_KEY"] = "SG_0123456789abcdef"
    with pytest.raises(ResourceExtractionError, match="answered 401: Unauthorized") as raised:
        project.extract(resource)
    assert "SG_0123456789abcdef" not in str(raised.value)


def test_the_models_page_is_utf_8_though_its_header_does_not_say(proxied: tuple[Project, Proxy]) -> None:
    project, proxy = proxied
    proxy.replace("/v1/models/", "<html><meta charset=utf-8>two models: 1 €</html>")
    project.load("models_page")
    assert project.rows("SELECT html FROM models_page") == [("<html><meta charset=utf-8>two models: 1 €</html>",)]


def test_concurrent_loads_take_turns_and_lose_nothing(project: Project) -> None:
    keys = [project.write(f"set{number}", [f"pear {number}"]) for number in range(3)]
    project.buy(*keys)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda key: project.load(FLUX, "attempts", prompt_sets=[key]), keys))
    assert project.rows(f"SELECT prompt_set FROM {FLUX} ORDER BY 1") == [("set0",), ("set1",), ("set2",)]
    assert project.rows("SELECT count(*), sum(cost_usd) FROM attempts") == [(3, project.charged_usd)]
