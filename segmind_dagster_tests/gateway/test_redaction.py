"""Keys and signed URLs never survive in a text, whatever stands around them."""

from __future__ import annotations

import base64
import html
import json
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway.redaction import Redactor, redact, without_query

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
    assert secret not in Redactor(secret).text(f"{before}{secret}{after}{secret}")


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
    assert redact(text) == text or "sg_" in text.casefold()


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


def test_several_secrets_in_one_message_are_all_redacted() -> None:
    text = f"POST https://a/x?k={KEY} with {KEY} and plain-secret to https://b/y?z=1"
    assert Redactor("plain-secret").text(text) == "POST https://a/x with [hidden] and [hidden] to https://b/y"


ODD_KEYS = [
    "k3y-with/slash+plus=",
    "pa ss word 123",
    "schlüssel-geheim",
    'quo"te<&>\\back',
    "SG_0123456789abcdef",
    "0" * 40,
]


def forms_of(key: str) -> dict[str, str]:
    """The key as it may come back."""
    return {
        "plain": key, "upper": key.upper(), "lower": key.lower(), "padded": f"  {key}\n",
        "percent": quote(key, safe=""), "percent, lower": quote(key, safe="").lower(), "plus": quote_plus(key),
        "twice percent": quote(quote(key, safe=""), safe=""), "json": json.dumps({"k": key}),
        "json in json": json.dumps(json.dumps({"k": key})), "html": html.escape(key), "repr": repr({"k": key}),
        "basic": "Basic " + base64.b64encode(f"{key}:".encode()).decode(),
        "basic, as password": base64.b64encode(f"user:{key}".encode()).decode(),
        "basic, in the middle": base64.b64encode(f"ab:{key}:cd".encode()).decode(),
        "urlsafe": base64.urlsafe_b64encode(f"u:{key}".encode()).decode(),
    }  # fmt: skip


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("form", forms_of("x"))
def test_the_configured_key_never_survives_in_any_form(key: str, form: str) -> None:
    written = forms_of(key)[form]
    shown = Redactor(f" {key}\n").text(f"before {written} after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "[hidden]" in shown
    core = written.strip().removeprefix("Basic ")
    assert not any(
        core[at : at + 9] in shown for at in range(4, max(len(core) - 13, 5)) if "[" not in core[at : at + 9]
    )


@given(key=st.text(alphabet=string.printable.strip() + "äß", min_size=6, max_size=40), noise=st.text(max_size=20))
def test_a_key_of_any_form_is_redacted_from_any_text(key: str, noise: str) -> None:
    redactor = Redactor(key)
    for written in (key, quote(key, safe=""), json.dumps(key)[1:-1], html.escape(key)):
        assert key not in redactor.text(f"{noise} {written} {noise}").replace("[hidden]", "")


@pytest.mark.parametrize("key", ["", " ", "\n", None])
def test_without_a_key_nothing_is_redacted(key: str | None) -> None:
    assert Redactor(key).text("a red pear") == "a red pear"


def test_a_short_key_is_redacted_only_as_a_whole_word() -> None:
    assert Redactor("ab").text("x-tab ab cab AB=1") == "x-tab [hidden] cab [hidden]=1"


@pytest.mark.parametrize("at", range(280, 310))
def test_a_text_is_truncated_only_after_redaction(at: int) -> None:
    shown = Redactor("plain-secret").short("x" * at + " plain-secret " + "y" * 5000)
    assert "plain" not in shown.replace("[hidden]", "")
    assert len(shown) <= 300


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x-api-key: abcdef", "x-api-key: [hidden]"),
        ("{'x-api-key': 'abcdef', 'a': 1}", "{'x-api-key': '[hidden]', 'a': 1}"),
        ("Authorization: Basic dTpw", "Authorization: [hidden]"),
        ('"authorization": "Bearer abc.def"', '"authorization": "[hidden]"'),
        ("(b'X-API-KEY', b'abcdef')", "(b'X-API-KEY', b'[hidden]')"),
        ('"https:\\/\\/h\\/x.png?sig=s"', '"https:\\/\\/h\\/x.png"'),
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("postgresql+psycopg://u:p%40ss@h:5432/db?sslkey=k", "postgresql+psycopg://h:5432/db"),
        ("next=https%3A%2F%2Fu%3Ap%40h%2Fx%3Fsig%3Ds", "next=https%3A%2F%2Fh%2Fx"),
        ("sqlite:///data/ledger.sqlite", "sqlite:///data/ledger.sqlite"),
        ("https://h:x/y?sig=1", "https://h:x/y"),
        ("https://u@v@h/x", "https://h/x"),
    ],
)
def test_headers_and_addresses_of_every_kind_are_shown_without_secrets(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_every_text_in_a_value_is_redacted() -> None:
    value = {"a": ["x plain-secret", {"b": "plain-secret"}], "n": 1, "none": None}
    assert Redactor("plain-secret").values(value) == {"a": ["x [hidden]", {"b": "[hidden]"}], "n": 1, "none": None}
