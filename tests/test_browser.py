"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mmgen.services.inference import png_name
from mmgen.ui.generate.examples import EXAMPLES, smiling_sun

WAIT = 60_000  # A busy machine draws a page late.
CUT_OFF = ("AbortError: signal is aborted", "Unexpected error Connection errored out")
"""What gradio says of a stream that a reload of the page has cut off."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.fail("There is no chromium. Run tests/install_browser.sh and try again.")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_url) -> Iterator:
    """Open the page; afterwards fail if it complained or asked for anything from elsewhere."""
    complaints: list[str] = []
    pages: list[Page] = []
    loads: list[Page] = []

    def open_one(query: str = "", **options) -> Page:
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("load", lambda loaded: loads.append(loaded))
        page.on("request", lambda request: check(request.url))
        page.goto(page_url + query)
        expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
        return page

    def check(url: str) -> None:
        where = urlsplit(url)
        if where.scheme not in ("data", "blob") and where.hostname != "127.0.0.1":
            complaints.append(f"asked for {url}")

    yield open_one
    for page in pages:
        page.close()
    reloaded = len(loads) > len(pages)
    assert not [text for text in complaints if not (reloaded and text.startswith(CUT_OFF))]


def source(page: Page) -> str:
    return page.locator("#preview img").get_attribute("src")


def wait_for_another(page: Page, old: str) -> str:
    expect(page.locator("#preview img")).not_to_have_attribute("src", old, timeout=WAIT)
    return source(page)


def pixels(content: bytes) -> np.ndarray:
    array = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"), dtype=np.uint16)
    return array[..., :3] * array[..., 3:]


def shown(page: Page) -> np.ndarray:
    return pixels(base64.b64decode(source(page).split(",", 1)[1]))


def drawn(url: str, **values) -> np.ndarray:
    client = Client(url, verbose=False, analytics_enabled=False)
    return pixels(Path(client.predict(**values, api_name="/preview")[0]).read_bytes())


def seed_field(page: Page):
    if not page.locator("#seed input").is_visible():
        page.get_by_role("button", name="Settings").click()
    return page.locator("#seed input")


def test_the_last_prompt_typed_is_the_one_shown(open_page, page_url):
    page = open_page()
    old = source(page)
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.click()  # The first click selects the example, so that typing replaces it.
    prompt.press_sequentially("a blue cat on a star", delay=15)
    expect(prompt).to_have_value("a blue cat on a star")
    wait_for_another(page, old)
    expect(page.locator("#preview img")).to_have_attribute("alt", "a blue cat on a star", timeout=WAIT)
    assert (shown(page) == drawn(page_url, prompt="a blue cat on a star")).all()
    expect(page.locator("#status")).to_contain_text(re.compile(r"Drawn in \d+ ms on CPU"))


def test_a_reference_and_its_weight_change_the_picture(open_page, tmp_path):
    page = open_page("?prompt=a+cat")
    expect(page.locator("#preview img")).to_have_attribute("alt", "a cat", timeout=WAIT)
    old = source(page)
    smiling_sun().save(tmp_path / "sun.png")
    expect(page.locator("#weight-1")).to_be_hidden()
    page.locator("#reference-1 input[type=file]").set_input_files(tmp_path / "sun.png")
    old = wait_for_another(page, old)
    weight = page.get_by_label("range slider for Weight 1")
    weight.focus()
    weight.press("ArrowRight")
    wait_for_another(page, old)


def test_generate_fills_the_gallery(open_page):
    page = open_page()
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.press("Enter")
    images = page.locator("#gallery .grid-wrap img")
    expect(images).to_have_count(8, timeout=WAIT)
    expect(page.locator("#status")).to_contain_text("8 pictures drawn")
    assert seed_field(page).input_value() == "0"
    images.nth(3).click()
    expect(seed_field(page)).to_have_value("3")
    with page.expect_download() as got:
        page.locator("#gallery").get_by_label("Download").first.click()
    assert got.value.suggested_filename == png_name(EXAMPLES[0].prompt, 3)
    with Image.open(got.value.path()) as image:
        assert image.mode == "RGBA" and image.text["seed"] == "3"


def test_generate_takes_a_new_seed_unless_it_is_kept(open_page):
    page = open_page("?seed=5")
    expect(seed_field(page)).to_have_value("5")
    page.get_by_label("Keep the seed").uncheck()
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#gallery .grid-wrap img")).to_have_count(8, timeout=WAIT)
    expect(seed_field(page)).not_to_have_value("5")


def test_a_failed_generate_keeps_the_gallery(open_page):
    page = open_page()
    page.get_by_role("button", name="Generate", exact=True).click()
    images = page.locator("#gallery .grid-wrap img")
    expect(images).to_have_count(8, timeout=WAIT)
    seed_field(page).fill("-3")
    expect(page.locator("#status .problem")).to_contain_text("The seed is -3", timeout=WAIT)
    page.get_by_role("button", name="Generate", exact=True).click()
    page.wait_for_timeout(500)
    expect(page.locator("#status .problem")).to_contain_text("The seed is -3")
    expect(images).to_have_count(8)


def test_new_seed_and_download(open_page):
    page = open_page()
    old = source(page)
    page.get_by_role("button", name="New seed").click()
    wait_for_another(page, old)
    seed = seed_field(page).input_value()
    assert seed != "0"
    expect(page.locator("#status")).to_contain_text(f"seed {seed}", timeout=WAIT)
    with page.expect_download() as got:
        page.get_by_role("button", name="Download PNG").click()
    assert got.value.suggested_filename == png_name(EXAMPLES[0].prompt, seed)
    assert (pixels(Path(got.value.path()).read_bytes()) == shown(page)).all()


def test_a_bad_reference_gives_a_sentence_and_the_picture_stays(open_page, tmp_path):
    page = open_page()
    old = source(page)
    (tmp_path / "renamed.png").write_text("I am no picture.")
    page.locator("#reference-1 input[type=file]").set_input_files(tmp_path / "renamed.png")
    expect(page.locator("#status .problem")).to_contain_text("renamed.png could not be read as a picture", timeout=WAIT)
    assert source(page) == old
    page.locator("#reference-1").get_by_label(re.compile("clear|remove", re.I)).first.click()
    expect(page.locator("#status .problem")).to_have_count(0, timeout=WAIT)
    page.get_by_label("Prompt", exact=True).fill("a dog")
    wait_for_another(page, old)


def test_the_shown_picture_becomes_a_reference(open_page):
    page = open_page()
    old = source(page)
    page.get_by_role("button", name="Use as reference").click()
    expect(page.locator("#reference-1 img")).to_be_visible(timeout=WAIT)
    wait_for_another(page, old)


def test_examples_fill_the_page(open_page):
    page = open_page()
    for example in EXAMPLES:
        page.get_by_role("button", name=example.label).click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(example.prompt)
        expect(page.locator("#reference-1 img")).to_have_count(1 if example.reference else 0)
        expect(page.locator("#preview img")).to_have_attribute("alt", example.prompt, timeout=WAIT)


def test_a_link_shares_a_picture(open_page, page_url):
    page = open_page("?prompt=a+green+star&seed=9&style=flat")
    expect(page.locator("#preview img")).to_have_attribute("alt", "a green star, flat style", timeout=WAIT)
    expect(page.locator("#status")).to_contain_text("seed 9", timeout=WAIT)
    assert (shown(page) == drawn(page_url, prompt="a green star", style="flat", seed=9)).all()
    page.get_by_label("Prompt", exact=True).fill("a cat & a dog")
    page.get_by_role("button", name="Copy link").click()
    expect(page).to_have_url(re.compile(r"\?prompt=a\+cat\+%26\+a\+dog&seed=9&style=flat$"))


@pytest.mark.parametrize("query", ["", "?__theme=dark"])
def test_a_phone_shows_the_picture_without_scrolling_sideways(open_page, query):
    page = open_page(query, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    place = page.locator("#preview img").bounding_box()
    assert place["y"] + place["height"] <= 844 and place["width"] >= 320
    seed_field(page).scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.locator("#preview .canvas").evaluate("one => getComputedStyle(one).getPropertyValue('--check-a')")
    assert ground == ("#2a2a30" if query else "#ffffff")


def test_everything_has_a_name(open_page):
    page = open_page()
    seed_field(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea")].filter((one) => one.offsetParent)
            .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.title
                || [...(one.labels ?? [])].some((label) => label.textContent.trim())))
            .map((one) => one.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
