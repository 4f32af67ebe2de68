"""Renders the pages from their templates: everything escaped, nothing from elsewhere, only our own script runs.

Script and style stand in the page, so that it is one file; the page's own policy names them by digest, and refuses
whatever else a prompt might smuggle in.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, **values: Any) -> bytes:
    """A page.

    Args:
        name: of the template, stylesheet and script, without their endings.
        values: what the template asks for.
    """
    style = _source("common.css") + _source(f"{name}.css")
    script = _source(f"{name}.js")
    policy = "; ".join([
        "default-src 'none'",
        f"script-src '{_digest(script)}'",
        f"style-src '{_digest(style)}'",
        "img-src 'self' data: file:",
        "media-src 'self' file:",
        "base-uri 'none'",
        "form-action 'none'",
    ])  # fmt: skip
    page = _environment().get_template(f"{name}.html").render(policy=policy, style=style, script=script, **values)
    # halves of surrogate pairs, which JSON can carry into a prompt, have no bytes
    return page.encode(errors="replace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("segmind_dagster.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
