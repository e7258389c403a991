"""The Train tab in a real browser, from pictures to drawing with what was learned."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from test_browser import browser, open_page, source, wait_for_another  # noqa: F401
from test_train_page import draw_images

WAIT = 120_000
TYPED = "a red <i>star</i> {{x}}"


def step(page: Page) -> int:
    words = page.locator("#card .facts")
    expect(words).to_contain_text(re.compile(r"step [\d,]+ of"), timeout=WAIT)
    return int(re.search(r"step ([\d,]+)", words.inner_text())[1].replace(",", ""))


def expect_to_move(page: Page) -> None:
    old = step(page)
    expect(page.locator("#card .facts")).not_to_contain_text(f"step {old:,} of", timeout=WAIT)
    assert step(page) > old


@pytest.mark.slow
def test_pictures_become_a_model_that_draws(open_page, tmp_path):
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    (tmp_path / "renamed.png").write_text("I am no picture.")
    files = [*draw_images(tmp_path, 4), tmp_path / "renamed.png"]
    page.locator("#drop input[type=file]").set_input_files(files)
    captions = page.locator("#pairs textarea")
    expect(captions).to_have_count(4, timeout=WAIT)
    expect(page.locator("#pairs-said .problem")).to_contain_text("renamed.png could not be read as a picture")

    captions.nth(1).click()
    captions.nth(1).press_sequentially(TYPED)  # It is saved without being left.
    expect(page.locator("#pairs-said .note").first).to_have_text("Saved.", timeout=WAIT)
    page.get_by_role("button", name="Check my pairs").click()
    expect(page.locator("#findings")).to_contain_text("3 pictures have no caption", timeout=WAIT)
    expect(page.locator("#pairs .problems li", has_text="No caption")).to_have_count(3)
    page.get_by_role("button", name="Remove shape 3.png").click()
    expect(captions).to_have_count(3)

    page.get_by_label("Steps", exact=True).check()
    page.locator("#steps input").fill("20000")
    page.get_by_role("button", name="Start training").click()
    expect_to_move(page)
    expect(page.locator("#loss svg, #loss canvas").first).to_be_visible(timeout=WAIT)
    expect(page.locator("#sample img")).to_be_visible(timeout=WAIT)

    page.reload()
    expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
    page.get_by_role("tab", name="Train").click()
    expect(captions).to_have_count(3, timeout=WAIT)
    expect(captions.nth(1)).to_have_value(TYPED)
    expect(page.locator("#now")).to_contain_text("“My pictures” trains")
    expect_to_move(page)

    page.get_by_role("button", name="Stop and keep").click()
    expect(page.locator("#card .badge")).to_have_text("Stopped and kept", timeout=WAIT)
    name = page.get_by_label("Name of the job").first
    name.fill("Shapes")
    name.blur()
    expect(page.locator("#card h3")).to_have_text("Shapes", timeout=WAIT)

    page.get_by_role("tab", name="Generate").click()
    old = source(page)
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="Use it to draw").click()
    expect(page.locator("#model input")).to_have_value("Shapes", timeout=WAIT)
    drawn = wait_for_another(page, old)
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#gallery .grid-wrap img")).to_have_count(8, timeout=WAIT)
    page.reload()
    expect(page.locator("#model input")).to_have_value("Shapes", timeout=WAIT)
    expect(page.locator("#preview img")).to_have_attribute("src", drawn, timeout=WAIT)

    page.get_by_role("tab", name="Train").click()
    delete = page.locator("#jobs .watched").get_by_role("button", name="Delete")
    delete.click()
    page.get_by_role("button", name="Delete it for good?").click()
    expect(page.locator("#jobs-said")).to_contain_text("“Shapes” is deleted", timeout=WAIT)
    page.get_by_role("tab", name="Generate").click()
    expect(page.locator("#preview img")).to_have_attribute("src", old, timeout=WAIT)


def test_a_phone_shows_the_tab_without_scrolling_sideways(open_page, tmp_path):
    page = open_page("?__theme=dark", viewport={"width": 390, "height": 844})
    page.get_by_role("tab", name="Train").click()
    page.locator("#drop input[type=file]").set_input_files(draw_images(tmp_path, 2))
    expect(page.locator("#pairs .pair")).to_have_count(2, timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("button", name="Remove all pairs?").click()
    expect(page.locator("#pairs .pair")).to_have_count(0, timeout=WAIT)
