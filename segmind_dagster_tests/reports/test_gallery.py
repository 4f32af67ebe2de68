"""Galleries say what the ledger says, show what is stored, and stay harmless whatever a prompt holds."""

from __future__ import annotations

import base64
import io
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.gallery import FLUX, LLAMA, REALITY, WAN, GalleryWorld, data, html, picture, put
from PIL import Image

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.reports.gallery import gallery_keys, page, sheet, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "\"'`&lt;&amp;",
    "{{ 7 * 7 }} {% for x in y %}",
    "right to left \u202e gnp.exe \u2066 and \u2028 lines \u2029",
    "\x00\x07 control",
    "half a pair \ud800",
    "x" * 10_000,
    "",
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GalleryWorld]:
    with GalleryWorld(tmp_path) as opened:
        yield opened


def thumbnail(card: dict[str, str]) -> Image.Image:
    """The picture that stands in the page itself."""
    head, _, body = card["thumbnail"].partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body, validate=True)))


def details(card: dict[str, list[list[str]]]) -> dict[str, str]:
    return dict(card["details"])


def test_a_card_has_a_thumbnail_a_relative_link_and_its_figures(world: GalleryWorld) -> None:
    generation = world.add("a pear on a plate", seed=7, body={"prompt": "x", "steps": 4}, variables={"light": "dusk"})
    gallery = world.write()
    (card,) = data(html(gallery))["cards"]
    assert thumbnail(card).size == (64, 48)
    assert card["link"] == f"../../outputs/{FLUX}/{generation}.png"
    assert (Path(gallery.uri).parent / card["link"]).is_file()
    assert card["opens"] is True
    assert (card["prompt"], card["status"], card["line"]) == ("a pear on a plate", "stored", "$0.0055 · 1.2 s")
    assert {
        "Seed": "7",
        "Cost": "$0.0055",
        "Latency": "1.23 s",
        "Parameter steps": "4",
        "Variable light": "dusk",
    }.items() <= details(card).items()
    assert (gallery.generations, dict(gallery.by_status)) == (1, {"stored": 1})


def test_the_page_and_its_previews_are_beside_the_outputs_without_partial_files(world: GalleryWorld) -> None:
    world.add()
    gallery = world.write()
    assert gallery.uri == str(world.data / "galleries/fruit/index.html")
    assert gallery.sheet_uri == str(world.data / "galleries/fruit/contact_sheet.jpg")
    files = {path.name for path in (world.data / "galleries").rglob("*") if path.is_file()}
    assert len(files) == 3
    assert not [name for name in files if name.endswith(".partial")]


def test_a_second_page_is_made_of_the_previews_of_the_first(world: GalleryWorld) -> None:
    world.add()
    first = data(html(world.write()))
    for output in (world.data / "outputs").rglob("*.png"):
        output.unlink()
    assert data(html(world.write()))["cards"][0]["thumbnail"] == first["cards"][0]["thumbnail"]


def test_an_unmeasured_latency_is_shown_as_unknown(world: GalleryWorld) -> None:
    world.add(latency_ms=None)
    world.add(state="failed", failure_kind="job_failed", error="no", cost_usd="0")
    found, failed = data(html(world.write()))["cards"]
    assert found["line"] == "$0.0055 · latency not known"
    assert details(found)["Latency"] == "not known"
    assert "atency" not in failed["line"]
    assert "Latency" not in details(failed)


def test_a_failed_generation_shows_its_reason_instead_of_a_picture(world: GalleryWorld) -> None:
    world.add(state="failed", failure_kind="invalid_request", error="steps: 99 is too many", cost_usd="0")
    gallery = world.write()
    (card,) = data(html(gallery))["cards"]
    assert card["failure"] == ["invalid_request", "steps: 99 is too many"]
    assert "thumbnail" not in card
    assert "link" not in card
    assert gallery.sheet_uri is None
    assert gallery.pictures == ()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("planned", "not bought yet"),
        ("submitting", "under way"),
        ("submitted", "under way"),
        ("unknown", "unknown outcome"),
    ],
)
def test_an_unfinished_generation_shows_its_state_and_its_reservation(
    world: GalleryWorld, state: str, shown: str
) -> None:
    world.add(state=state, cost_usd=None)
    gallery = world.write()
    (card,) = data(html(gallery))["cards"]
    assert card["status"] == shown
    expected = "nothing" if state == "planned" else "up to $0.01 reserved"
    assert details(card)["Cost"] == expected
    assert gallery.charges.in_words() == expected


def test_an_unknown_price_is_shown_as_unknown(world: GalleryWorld) -> None:
    world.add(cost_usd=None)
    world.add(cost_usd="0.002")
    gallery = world.write()
    first, second = data(html(gallery))["cards"]
    assert details(first)["Cost"] == "a charge of unknown price"
    assert details(second)["Cost"] == "$0.002"
    assert gallery.charges.in_words() == "$0.002, and a charge of unknown price"
    assert "this set has paid $0.002, and a charge of unknown price" in html(gallery)


def test_an_output_paid_by_another_set_costs_nothing_and_names_the_payer(world: GalleryWorld) -> None:
    world.add(prompt_set="first", also_in="second")
    paid, reused = world.write("first"), world.write("second")
    assert (paid.charges.cost_usd, reused.charges.cost_usd) == (Decimal("0.0055"), 0)
    (card,) = data(html(reused))["cards"]
    assert details(card)["Cost"] == "nothing: 'first' paid $0.0055"
    assert card["line"].startswith("reused")


def test_an_estimate_is_marked_as_one(world: GalleryWorld) -> None:
    world.add(attempt={"cost_source": "estimated"})
    assert world.write().charges.in_words() == "$0.0055 (estimated)"


def test_prompts_no_longer_in_the_set_are_shown_separately(world: GalleryWorld) -> None:
    world.add("an old pear", is_current=False)
    world.add("a new pear")
    gallery = world.write()
    cards = data(html(gallery))["cards"]
    assert [(card["prompt"], card.get("former", False)) for card in cards] == [
        ("a new pear", False),
        ("an old pear", True),
    ]
    assert dict(gallery.by_status) == {"stored": 1}
    assert "1 no longer asked for" in html(gallery)


def test_a_set_without_rows_says_so(world: GalleryWorld) -> None:
    gallery = world.write()
    assert gallery.generations == 0
    assert "Nothing has been asked for" in html(gallery)
    assert "<script" not in html(gallery)


@pytest.mark.parametrize("key", ["../elsewhere", "a/b", "", "Fruit", "x" * 101, "index.html"])
def test_a_key_that_no_set_can_have_writes_nothing(world: GalleryWorld, key: str) -> None:
    with pytest.raises(SegmindDagsterError, match="No gallery was written"):
        world.write(key)
    assert not (world.data / "galleries").exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_escaped(world: GalleryWorld, text: str) -> None:
    storable = text.replace("\ud800", "\ufffd")
    world.add(
        storable, variables={storable: storable}, body={"prompt": storable, "style": storable}, negative_prompt=storable
    )
    world.add(storable, state="failed", failure_kind="job_failed", error=storable)
    written = html(world.write())
    assert len(re.findall(r"<script", written)) == 2
    assert len(re.findall(r"</script", written)) == 2
    assert data(written)["cards"][0]["prompt"] == storable
    assert data(written)["cards"][1]["failure"][1] == storable


@given(text=st.text(max_size=60))
def test_any_text_comes_back_from_the_page_as_it_went_in(text: str) -> None:
    from segmind_dagster.reports.rendering import _environment

    written = (
        _environment()
        .from_string('<script type="application/json" id="data">{{ data|tojson }}</script>')
        .render(data={"cards": text})
    )
    assert data(written)["cards"] == text


def test_keys_and_signed_addresses_are_nowhere_in_the_page(world: GalleryWorld) -> None:
    secret = "SG_abcdef0123456789"
    signed = "https://storage.segmind.com/in.png?X-Amz-Signature=0123abcd"
    world.add(f"like {signed}", body={"prompt": "x", "image": signed, "note": secret}, negative_prompt=secret)
    world.add(state="failed", failure_kind="job_failed", error=f"could not fetch {signed} with {secret}")
    written = html(world.write())
    assert secret not in written
    assert "Signature" not in written
    assert "https://storage.segmind.com/in.png" in written


def test_only_the_pages_own_script_may_run_and_nothing_comes_from_elsewhere(world: GalleryWorld) -> None:
    world.add()
    written = html(world.write())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy.group(1)
    assert "unsafe" not in policy.group(1)
    assert not re.findall(r'(?:src|href)="https?:', written)
    assert " style=" not in written


def test_a_text_model_shows_its_text(world: GalleryWorld) -> None:
    answer = {"choices": [{"message": {"content": "A pear is a <b>fruit</b>."}}]}
    world.add(resource=LLAMA, content=json.dumps(answer).encode())
    world.add(resource=LLAMA, content=b"plain words")
    world.add(resource=LLAMA, content=json.dumps({"choices": [1]}).encode())
    world.add(resource=LLAMA, content=("y" * 5000).encode())
    texts = [card["text"] for card in data(html(world.write()))["cards"]]
    assert texts[:3] == ["A pear is a <b>fruit</b>.", "plain words", '{"choices": [1]}']
    assert len(texts[3]) == 1501


def test_a_video_is_linked_and_has_no_thumbnail(world: GalleryWorld) -> None:
    world.add(resource=WAN)
    (card,) = data(html(world.write()))["cards"]
    assert (card["kind"], card["opens"]) == ("video", True)
    assert card["link"].endswith(".mp4")
    assert "thumbnail" not in card


@pytest.mark.parametrize("content", [b"", b"<html>", picture()[:60]])
def test_a_picture_that_cannot_be_read_leaves_its_card_without_one(world: GalleryWorld, content: bytes) -> None:
    world.add(content=content)
    world.add()
    gallery = world.write()
    broken, sound = data(html(gallery))["cards"]
    assert "thumbnail" not in broken
    assert "thumbnail" in sound
    assert len(gallery.pictures) == 1


def test_transparency_is_kept(world: GalleryWorld) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(buffer, "PNG")
    world.add(content=buffer.getvalue())
    (card,) = data(html(world.write()))["cards"]
    assert thumbnail(card).convert("RGBA").getpixel((5, 5))[3] == 0


def test_beyond_the_limit_thumbnails_lie_beside_the_page(world: GalleryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "INLINE_BYTES", 150)
    for _ in range(4):
        world.add()
    gallery = world.write()
    places = [card["thumbnail"] for card in data(html(gallery))["cards"]]
    assert places[0].startswith("data:")
    assert places[-1].startswith("previews/")
    assert (Path(gallery.uri).parent / places[-1]).is_file()


def test_a_set_too_large_for_one_page_says_how_much_is_not_shown(
    world: GalleryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_CARDS", 3)
    world.add("old", is_current=False)
    for number in range(4):
        world.add(f"pear {number}")
    gallery = world.write()
    assert [card["prompt"] for card in data(html(gallery))["cards"]] == ["pear 0", "pear 1", "pear 2"]
    assert "2 further generations are not shown" in html(gallery)
    assert (gallery.generations, sum(gallery.by_status.values())) == (5, 4)


def test_in_a_bucket_page_and_previews_lie_beside_the_outputs(tmp_path: Path) -> None:
    with GalleryWorld(tmp_path, "memory://bucket/media/outputs") as world:
        generation = world.add()
        gallery = world.write()
    assert gallery.uri == "memory://bucket/media/galleries/fruit/index.html"
    with fsspec.open(gallery.uri, "rb") as file:
        (card,) = data(file.read().decode())["cards"]
    assert card["link"] == f"../../outputs/{FLUX}/{generation}.png"
    assert card["thumbnail"].startswith("data:")
    fs = fsspec.filesystem("memory")
    assert len(fs.ls("/bucket/media/galleries/fruit/previews")) == 1
    assert fs.exists("/bucket/media/galleries/fruit/contact_sheet.jpg")


def test_galleries_of_a_bucket_root_are_in_the_data_folder(tmp_path: Path) -> None:
    with GalleryWorld(tmp_path, "memory://alone") as world:
        generation = world.add()
        gallery = world.write()
        assert gallery.uri == str(world.data / "galleries/fruit/index.html")
    (card,) = data(html(gallery))["cards"]
    assert (card["link"], card["opens"]) == (f"memory://alone/{FLUX}/{generation}.png", False)
    assert card["thumbnail"].startswith("data:")


def test_elsewhere_a_page_links_to_local_outputs_by_their_address(world: GalleryWorld, tmp_path: Path) -> None:
    world.add()
    gallery = world.write(output=tmp_path / "with space")
    assert gallery.uri == str(tmp_path / "with space/fruit/index.html")
    (card,) = data(html(gallery))["cards"]
    assert card["link"].startswith("file:///")
    assert card["opens"] is True


@pytest.mark.parametrize(
    "uri", ["s3://user:secret@bucket/a.png", "gs://bucket/a.png?X-Goog-Signature=secret", "s3://bucket/a.png#secret"]
)
def test_the_address_of_an_output_elsewhere_is_shown_without_user_and_query(world: GalleryWorld, uri: str) -> None:
    world.add(output_uri=uri, output_sha256="0")
    assert "secret" not in html(world.write())


def test_the_ledger_lists_its_sets(world: GalleryWorld) -> None:
    assert gallery_keys(world.ledger) == []
    world.add(prompt_set="pear", also_in="fig")
    assert gallery_keys(world.ledger) == ["fig", "pear"]


def test_the_contact_sheet_is_bounded_however_much_there_is(
    world: GalleryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "MAX_PIXELS", 700_000)
    for number in range(60):
        world.add(f"pear {number}", resource=(FLUX, REALITY)[number % 2])
    gallery = world.write()
    with Image.open(gallery.sheet_uri or "") as drawn:
        assert drawn.width * drawn.height <= 700_000
        assert drawn.format == "JPEG"


def test_the_contact_sheet_shows_pictures_where_their_axes_cross(world: GalleryWorld) -> None:
    colours = {"red": (250, 0, 0), "blue": (0, 0, 250)}
    for colour, rgb in colours.items():
        for resource in (FLUX, REALITY):
            buffer = io.BytesIO()
            Image.new("RGB", (64, 64), rgb).save(buffer, "PNG")
            world.add(f"a {colour} pear", resource=resource, content=buffer.getvalue())
    with Image.open(world.write().sheet_uri or "") as drawn:
        first_row = [drawn.getpixel((x, 188)) for x in (336, 552)]
        second_row = [drawn.getpixel((x, 404)) for x in (336, 552)]
    assert all(red > 200 and blue < 60 for red, _, blue in first_row)
    assert all(blue > 200 and red < 60 for red, _, blue in second_row)


def test_an_unwritable_folder_is_one_clear_error(world: GalleryWorld) -> None:
    world.add()
    put(str(world.data / "galleries"), b"a file")
    with pytest.raises(SegmindDagsterError, match=r"galleries/fruit.*untouched"):
        world.write()
