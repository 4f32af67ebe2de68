"""The pages a sandbox answers in HTML: the table of models, and the error pages a proxy would send."""

from __future__ import annotations

from functools import cache
from html import escape

from segmind_dagster.sandbox.offers import offers

METHOD_NOT_ALLOWED = """<!doctype html>
<html lang=en>
<title>405 Method Not Allowed</title>
<h1>Method Not Allowed</h1>
<p>The method is not allowed for the requested URL.</p>
"""


def proxy_error(status: int, reason: str) -> str:
    """What a proxy in front of the gateway says when the gateway does not."""
    return (
        f"<html>\n<head><title>{status} {reason}</title></head>\n"
        f"<body>\n<center><h1>{status} {reason}</h1></center>\n"
        "<hr><center>segmind-dagster sandbox</center>\n</body>\n</html>\n"
    )


@cache
def models_page() -> str:
    """Every model with its price and latency, for people."""
    rows = "\n".join(
        f"<tr><td><code>{escape(offer.slug)}</code></td><td>{escape(offer.title)}</td>"
        f"<td>{escape(offer.modality)}</td><td>${offer.price_usd:f}</td><td>{offer.latency_s:.2f} s</td></tr>"
        for offer in offers().values()
    )
    return (
        "<!doctype html>\n<html lang=en>\n<head><meta charset=utf-8><title>Models of the sandbox</title></head>\n"
        f"<body>\n<h1>Models</h1>\n<p>{len(offers())} models answer here; none of them is real.</p>\n"
        "<table id=models>\n<thead><tr><th>Slug</th><th>Title</th><th>Modality</th><th>Price</th>"
        f"<th>Latency</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</body>\n</html>\n"
    )
