"""A gallery as a person uses it: opened from a folder without any network, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab.gallery import FLUX, LLAMA, REALITY, WAN, GalleryWorld, picture
from playwright.sync_api import expect

from segmind_dagster.sandbox.media import clip_mp4

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

DESKTOP, PHONE = {"width": 1300, "height": 900}, {"width": 390, "height": 844}
FRUITS, LIGHTS = ("figs", "pears", "quinces"), ("noon", "dusk")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GalleryWorld]:
    with GalleryWorld(tmp_path) as opened:
        yield opened


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def sized(page: Page, request: pytest.FixtureRequest) -> Page:
    """A page of a size, which ends a test that asks the network for anything or whose script stumbles."""
    page.set_viewport_size(request.param)
    return watched(page)


def watched(page: Page) -> Page:
    page.set_default_timeout(20_000)
    page.on("request", lambda asked: errors.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    errors: list[str] = []
    page.errors = errors  # type: ignore[attr-defined]
    return page


def open_page(page: Page, uri: str) -> None:
    page.goto(Path(uri).as_uri())
    expect(page.locator("#grid .card").first).to_be_visible()


def matrix(world: GalleryWorld) -> str:
    """Three fruits in two lights, by two models; one of them failed."""
    for fruit in FRUITS:
        for light in LIGHTS:
            for resource in (FLUX, REALITY):
                failed = (fruit, light, resource) == ("pears", "dusk", REALITY)
                world.add(
                    f"a painting of {fruit} at {light}",
                    resource=resource,
                    variables={"fruit": fruit, "light": light},
                    seed=7,
                    **(
                        {"state": "failed", "failure_kind": "job_failed", "error": "out of paint", "cost_usd": "0"}
                        if failed
                        else {}
                    ),
                )
    return world.write().uri


def shown_prompt(page: Page) -> str:
    return page.locator("#viewer-title").inner_text()


def is_without_overflow(page: Page) -> bool:
    fits: bool = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    return fits


def test_axes_are_chosen_in_the_page(sized: Page, world: GalleryWorld) -> None:
    open_page(sized, matrix(world))
    sized.get_by_label("Rows").select_option("variable fruit")
    sized.get_by_label("Columns").select_option("variable light")
    rows = sized.get_by_role("row").filter(has=sized.get_by_role("rowheader"))
    expect(rows).to_have_count(3)
    expect(sized.get_by_role("rowheader")).to_have_text(list(FRUITS))
    expect(rows.nth(1).get_by_role("cell")).to_have_count(2)
    # both models stand in the cell, and say which is which
    expect(rows.nth(0).get_by_role("cell").nth(0).locator(".card")).to_have_count(2)
    expect(rows.nth(0).get_by_role("cell").nth(0)).to_contain_text("NewReality")
    sized.get_by_label("Columns").select_option("model")
    expect(rows.nth(0).get_by_role("cell").nth(0).locator(".card")).to_have_count(2)
    sized.get_by_label("Rows").select_option("")
    sized.get_by_label("Columns").select_option("")
    expect(sized.get_by_role("list")).to_be_visible()
    expect(sized.locator("#grid .card")).to_have_count(12)
    assert is_without_overflow(sized)
    assert sized.errors == []  # type: ignore[attr-defined]


def test_statuses_and_words_narrow_what_is_shown(sized: Page, world: GalleryWorld) -> None:
    open_page(sized, matrix(world))
    status = sized.locator("#shown")
    expect(status).to_have_text("All 12 shown.")
    sized.get_by_role("checkbox", name="stored").uncheck()
    expect(status).to_have_text("1 of 12 shown.")
    expect(sized.locator("#grid .card")).to_contain_text("out of paint")
    sized.get_by_role("checkbox", name="failed").uncheck()
    expect(sized.locator("#grid")).to_contain_text("Nothing matches")
    sized.get_by_role("checkbox", name="stored").check()
    sized.get_by_label("Find").fill("quinces DUSK")
    expect(status).to_have_text("2 of 12 shown.")
    assert sized.errors == []  # type: ignore[attr-defined]


def test_a_click_opens_the_full_picture_with_its_figures(sized: Page, world: GalleryWorld, tmp_path: Path) -> None:
    world.add("a wide pear", content=picture(3, (1200, 600)), width=1200, height=600, seed=42)
    open_page(sized, world.write().uri)
    sized.locator(".card").click()
    viewer = sized.get_by_role("dialog", name="a wide pear")
    expect(viewer).to_be_visible()
    image = viewer.get_by_role("img", name="a wide pear")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1200
    box, size = image.bounding_box(), sized.viewport_size
    assert box is not None
    assert size is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size["width"]
    for text in ("$0.0055", "1.23 s", "42", "Fast Flux"):
        expect(viewer.locator("#details")).to_contain_text(text)
    sized.screenshot(path=tmp_path / "viewer.png")
    with sized.expect_popup() as opened:
        viewer.get_by_role("link", name="Open the file").click()
    assert opened.value.url.endswith(".png")
    opened.value.close()
    viewer.get_by_role("button", name="Close").click()
    expect(viewer).to_be_hidden()
    assert sized.errors == []  # type: ignore[attr-defined]


def test_arrow_keys_browse_the_pictures_and_escape_returns_to_the_grid(sized: Page, world: GalleryWorld) -> None:
    for number in range(5):
        world.add(f"pear {number}")
    open_page(sized, world.write().uri)
    sized.locator(".card").first.focus()
    sized.keyboard.press("Enter")
    assert shown_prompt(sized) == "pear 0"
    expect(sized.get_by_role("button", name="Previous")).to_be_disabled()
    for expected in ("pear 1", "pear 2"):
        sized.keyboard.press("ArrowRight")
        assert shown_prompt(sized) == expected
    sized.keyboard.press("End")
    assert shown_prompt(sized) == "pear 4"
    sized.keyboard.press("ArrowRight")
    assert shown_prompt(sized) == "pear 4"
    sized.keyboard.press("ArrowLeft")
    expect(sized.locator("#viewer-place")).to_have_text("4 of 5")
    sized.keyboard.press("Escape")
    expect(sized.get_by_role("dialog")).to_be_hidden()
    expect(sized.locator(".card:focus")).to_have_attribute("aria-label", re.compile("^pear 3; "))
    assert sized.errors == []  # type: ignore[attr-defined]


def test_the_keyboard_alone_moves_over_the_grid_with_a_visible_focus(page: Page, world: GalleryWorld) -> None:
    for number in range(24):
        world.add(f"pear {number}")
    watched(page).set_viewport_size(DESKTOP)
    open_page(page, world.write().uri)

    def focused() -> str:
        name: str = page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id")
        return name.partition(";")[0]

    page.get_by_label("Find").focus()
    page.keyboard.press("Tab")
    assert focused() == "pear 0"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    assert focused() == "pear 1"
    page.keyboard.press("ArrowDown")
    across = page.evaluate("getComputedStyle(document.querySelector('.wall')).gridTemplateColumns.split(' ').length")
    assert focused() == f"pear {1 + across}"
    page.keyboard.press("ArrowUp")
    assert focused() == "pear 1"
    page.keyboard.press("End")
    assert focused() == "pear 23"
    page.keyboard.press("Tab")
    assert not focused().startswith("pear")
    page.keyboard.press("Shift+Tab")
    assert focused() == "pear 23"


def test_a_thousand_cards_are_built_as_they_are_needed(page: Page, world: GalleryWorld, tmp_path: Path) -> None:
    for number in range(1000):
        world.add(f"pear {number}", content=picture(number % 7))
    gallery = world.write()
    watched(page).set_viewport_size(DESKTOP)
    open_page(page, gallery.uri)
    assert 20 <= page.locator(".card").count() < 300
    assert page.locator(".card img").first.get_attribute("loading") == "lazy"
    page.screenshot(path=tmp_path / "thousand.png")
    page.locator(".card").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".card")).to_have_count(1000)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("pear 999;")
    assert page.errors == []  # type: ignore[attr-defined]


def test_scrolling_loads_more_cards(page: Page, world: GalleryWorld) -> None:
    for number in range(300):
        world.add(f"pear {number}", content=picture(number % 7))
    watched(page).set_viewport_size(PHONE)
    open_page(page, world.write().uri)
    before = page.locator(".card").count()
    page.mouse.move(200, 600)
    while page.locator(".card").count() < 300:
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(50)
    assert before < 300


def test_a_missing_file_leaves_its_small_version_and_says_so(page: Page, world: GalleryWorld) -> None:
    world.add()
    uri = world.write().uri
    for output in (world.data / "outputs").rglob("*.png"):
        output.unlink()
    open_page(page, uri)
    page.locator(".card").click()
    expect(page.locator("#stage")).to_contain_text("could not be opened from here")
    image = page.locator("#stage img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64


def test_the_page_without_outputs_still_shows_its_previews(page: Page, world: GalleryWorld, tmp_path: Path) -> None:
    world.add()
    alone = tmp_path / "sent by mail.html"
    alone.write_bytes(Path(world.write().uri).read_bytes())
    open_page(page, str(alone))
    image = page.locator(".card img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64


def test_other_media_have_cells_and_players(sized: Page, world: GalleryWorld, tmp_path: Path) -> None:
    world.add("a boat drifts", resource=WAN)
    answer = {"choices": [{"message": {"content": "A boat, adrift."}}]}
    world.add("a caption", resource=LLAMA, content=json.dumps(answer).encode())
    open_page(sized, world.write().uri)
    sized.screenshot(path=tmp_path / "media.png")
    expect(sized.locator(".card").nth(1)).to_contain_text("A boat, adrift.")
    sized.locator(".card").nth(0).click()
    expect(sized.locator("#stage video")).to_have_attribute("controls", "")
    sized.keyboard.press("ArrowRight")
    expect(sized.locator("#stage")).to_contain_text("A boat, adrift.")


def test_a_hostile_prompt_does_nothing(sized: Page, world: GalleryWorld) -> None:
    hostile = '</script><img src=x onerror="window.harmed=1"><script>window.harmed=1</script>\u202egnp'
    world.add(hostile, variables={hostile: hostile}, body={"prompt": "x", hostile: hostile})
    world.add(hostile, resource=REALITY, state="failed", failure_kind="job_failed", error=hostile, cost_usd="0")
    open_page(sized, world.write().uri)
    for axis in sized.locator("#rows option").evaluate_all("all => all.map(one => one.value)"):
        sized.get_by_label("Rows").select_option(axis)
    sized.locator(".card").first.click()
    expect(sized.locator("#viewer-title")).to_have_text(hostile)
    sized.keyboard.press("ArrowRight")
    assert sized.evaluate("window.harmed") is None
    assert is_without_overflow(sized)
    assert sized.errors == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_light_and_dark(
    browser: Browser, world: GalleryWorld, scheme: Any, tmp_path: Path
) -> None:
    world.add()
    page = browser.new_page(color_scheme=scheme, viewport=DESKTOP)
    open_page(page, world.write().uri)
    contrast = """
      selector => {
        const light = text => {
          const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const style = getComputedStyle(document.querySelector(selector));
        const paper = getComputedStyle(document.querySelector(selector === '.line' ? '.card' : 'body'));
        const [a, b] = [light(style.color), light(paper.backgroundColor)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
      }"""
    for selector in ("h1", ".muted", ".line"):
        assert page.evaluate(contrast, selector) >= 4.5
    page.screenshot(path=tmp_path / f"{scheme}.png")
    page.close()


def test_a_video_of_the_sandbox_plays(world: GalleryWorld, page: Page) -> None:
    world.add("a boat drifts", resource=WAN, content=clip_mp4("wan", "a boat drifts", 7))
    open_page(watched(page), world.write().uri)
    page.locator(".card").first.click()
    video = page.locator("#stage video")
    expect(video).to_have_attribute("controls", "")
    size = video.evaluate(
        """async (video) => {
            video.muted = true;
            await video.play();
            return [video.videoWidth, video.videoHeight, video.duration, video.error];
        }"""
    )
    assert size == [320, 180, 2, None]
