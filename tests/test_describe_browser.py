"""From pictures back to words in a real browser, with the checkpoint of the repository."""

from __future__ import annotations

import re

import pytest
from conftest import serve
from playwright.sync_api import Page, expect
from test_browser import browser, shown, source, wait_for_another  # noqa: F401

from mmgen.checkpoints import default_checkpoint, load_pipeline

pytestmark = pytest.mark.slow

WAIT = 60_000
PROMPTS = {
    "a red apple": "apple",
    "a blue cat": "cat",
    "a yellow star": "star",
    "a woman firefighter with dark skin": "firefighter",
    "a guitar": "guitar",
    "a red heart": "heart",
    "a butterfly": "butterfly",
    "the flag of Japan": "flag",
    "a house": "house",
    "a man with a beard": "man",
}
"""Prompt -> its noun."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    with serve(default_checkpoint(), tmp_path_factory.mktemp("describe")) as url:
        yield url


@pytest.fixture
def page(browser, studio):
    complaints: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(studio)
    expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
    yield page
    page.close()
    assert not complaints


def captions(page: Page) -> list[str]:
    rows = page.locator("#captions li")
    expect(rows.first).to_be_visible(timeout=WAIT)
    assert all(re.fullmatch(r"(<1|\d{1,3}) %", words) for words in rows.locator("span").all_inner_texts())
    return rows.locator("button").all_inner_texts()


def test_what_is_drawn_is_named(page):
    right = {}
    for prompt, noun in PROMPTS.items():
        old = source(page)
        page.locator("#prompt textarea").fill(prompt)
        wait_for_another(page, old)
        expect(page.locator("#captions li")).to_have_count(0)  # Those of the picture before are gone.
        page.locator("#describe").click()
        right[prompt] = any(noun in re.findall(r"\w+", text.lower()) for text in captions(page))
    assert sum(right.values()) >= 7, right


def test_a_caption_is_drawn_when_it_is_pressed(page):
    page.locator("#describe").click()
    words, old = captions(page)[0], source(page)
    page.locator("#captions li button").first.click()
    named, _, style = words.rpartition(", ")
    expect(page.locator("#prompt textarea")).to_have_value(named)
    expect(page.locator(f"#style label:has-text('{style.removesuffix(' style')}') input").first).to_be_checked()
    wait_for_another(page, old)
    expect(page.locator("#captions li")).to_have_count(0)


def test_a_picture_of_a_set_is_described(page):
    page.get_by_role("button", name="Generate", exact=True).click()
    thumbnails = page.locator("#gallery .grid-wrap img")
    expect(thumbnails).to_have_count(8, timeout=WAIT)
    expect(page.locator("#describe-opened")).to_be_hidden()
    thumbnails.nth(2).click()
    page.locator("#describe-opened").click()
    expect(page.locator("#gallery-captions p")).to_have_text("Picture 3 reads as", timeout=WAIT)
    assert page.locator("#gallery-captions li button").count() == 3


def test_a_dropped_picture_is_described(page, tmp_path):
    file = tmp_path / "guitar.png"
    load_pipeline(default_checkpoint())("a guitar", seed=0).images[0].save(file)
    expect(page.locator("#describe-1")).to_be_hidden()
    old = source(page)
    page.locator("#reference-1 input[type=file]").set_input_files(file)
    wait_for_another(page, old)
    page.locator("#describe-1").click()
    expect(page.locator("#captions p")).to_have_text("Reference 1 reads as", timeout=WAIT)
    assert any("guitar" in text for text in captions(page))


def test_the_captions_that_are_missing_are_written(page, tmp_path):
    pipe = load_pipeline(default_checkpoint())
    files = []
    for number, words in enumerate(("red apple", "a guitar", "red heart", "house")):
        files.append(tmp_path / f"{number}.png")
        pipe(words, seed=0).images[0].save(files[-1])
    (tmp_path / "0.txt").write_text("mine")
    page.get_by_role("tab", name="Train").click()
    page.locator("#drop input[type=file]").set_input_files([*files, tmp_path / "0.txt"])
    fields, marks = page.locator("#pairs textarea"), page.locator("#pairs .machine:visible")
    expect(fields).to_have_count(4, timeout=WAIT)
    page.get_by_role("button", name="Caption the rest for me").click()
    expect(page.locator("#pairs-said .note").first).to_contain_text("3 captions written", timeout=WAIT)
    expect(marks).to_have_count(3)
    written = [field.input_value() for field in fields.all()]
    assert written[0] == "mine" and all(written)
    assert "guitar" in written[1]
    expect(page.get_by_role("button", name="Caption the rest for me")).to_have_count(0)
    fields.nth(2).click()
    fields.nth(2).press_sequentially("!")
    expect(marks).to_have_count(2)
    expect(page.locator("#pairs-said .note").first).to_have_text("Saved.", timeout=WAIT)
    page.reload()
    page.get_by_role("tab", name="Train").click()
    expect(fields).to_have_count(4, timeout=WAIT)
    expect(marks).to_have_count(2)
