"""Keys and signed URLs never survive in a text, whatever stands around them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway.redaction import redact, without_query

KEY = "SG_0123456789abcdef"
words = st.text(alphabet=string.ascii_letters + string.digits + "-_.~%+=&", min_size=8, max_size=30)
hosts = st.sampled_from(["images.segmind.com", "127.0.0.1", "localhost", "a.example"])
paths = st.text(alphabet=string.ascii_letters + string.digits + "/-_.", max_size=20)
keys = st.text(alphabet="0123456789abcdef", min_size=16, max_size=16).map("SG_{}".format)


@given(before=st.text(), key=keys, after=st.text())
def test_a_key_never_survives(before: str, key: str, after: str) -> None:
    assert key not in redact(f"{before}{key}{after}")


@given(
    before=st.text(alphabet=string.ascii_letters + " :/?&=", max_size=30),
    secret=st.text(alphabet=string.digits, min_size=6, max_size=40),
    after=st.text(alphabet=string.ascii_letters + " :/?&=", max_size=30),
)
def test_a_secret_of_any_shape_never_survives_when_it_is_named(before: str, secret: str, after: str) -> None:
    assert secret not in redact(f"{before}{secret}{after}{secret}", None, secret)


@given(
    scheme=st.sampled_from(["http", "https"]),
    host=hosts,
    port=st.none() | st.integers(1, 65535),
    path=paths,
    signature=words,
    before=st.sampled_from(["", "GET ", "('", '"', "<", "url="]),
    after=st.sampled_from(["", " failed", "')", '"', ">", "\n"]),
)
def test_the_query_of_a_url_never_survives(
    scheme: str, host: str, port: int | None, path: str, signature: str, before: str, after: str
) -> None:
    address = f"{scheme}://{host}" + (f":{port}" if port else "") + f"/{path}"
    shown = redact(f"{before}{address}?sig=!{signature}{after}")
    assert f"!{signature}" not in shown
    assert shown == f"{before}{address}{after}"


@given(text=st.text(alphabet=st.characters(exclude_characters=":"), max_size=40))
def test_text_without_keys_and_urls_stays_as_it_is(text: str) -> None:
    assert redact(text) == text or "SG_" in text


@given(text=st.text(alphabet=st.characters(exclude_categories=["Z", "C"], exclude_characters="\"'<>")))
def test_text_that_only_looks_like_a_url_is_redacted_too(text: str) -> None:
    assert "?" not in redact(f"http://{text}?sig=1")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/x.png?sig=s", "https://h/x.png"),
        ("https://h/x.png#token", "https://h/x.png"),
        ("https://user:password@h/x.png", "https://h/x.png"),
        ("https://user:password@h:8443/x.png?a=b#c", "https://h:8443/x.png"),
        ("http://127.0.0.1:8777/outputs/a.jpg", "http://127.0.0.1:8777/outputs/a.jpg"),
    ],
)
def test_a_url_is_shown_without_user_query_and_fragment(url: str, shown: str) -> None:
    assert without_query(url) == shown
    assert redact(f"fetched {url}.") in {f"fetched {shown}", f"fetched {shown}."}


def test_several_secrets_in_one_message_all_go() -> None:
    text = f"POST https://a/x?k={KEY} with {KEY} and plain-secret to https://b/y?z=1"
    assert redact(text, "plain-secret") == "POST https://a/x with [hidden] and [hidden] to https://b/y"
