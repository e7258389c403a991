"""Completing a set on the page, in a real browser: from twenty pictures to a zip of the whole set on the disk."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import serve
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from test_browser import browser, open_page  # noqa: F401
from tiny import STYLES, tiny_pipeline

WAIT = 120_000
ADJECTIVES = ("red", "blue", "green", "old", "pale", "dark")
NOUNS = ("apple", "cat", "dog", "star", "tree", "fish", "sun", "hat")
KNOWN = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
OWN = [f"{adjective} {noun} on {noun}" for adjective in ADJECTIVES for noun in NOUNS][:19]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny model that knows 48 things in three styles."""
    folder = tmp_path_factory.mktemp("checkpoint")
    pipe = tiny_pipeline(folder / "parts", memory=True)
    rng = np.random.default_rng(1)
    rows = [(style, label) for style in STYLES for label in KNOWN]
    pipe.memory.add(
        [Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)) for _ in rows],
        [label for _, label in rows],
        style=[style for style, _ in rows],
        source="the other set",
        licence="CC-BY-4.0",
        author="Ann",
    )
    pipe.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="module")
def page_url(checkpoint, tmp_path_factory) -> Iterator[str]:
    with serve(checkpoint, tmp_path_factory.mktemp("studio")) as url:
        yield url


def draw_pairs(folder: Path, captions: list[str]) -> Path:
    """A zip of round faces, one for each caption."""
    packed = folder / "mine.zip"
    with zipfile.ZipFile(packed, "w") as file:
        rows = io.StringIO()
        table = csv.writer(rows)
        table.writerow(["file_name", "text"])
        for number, caption in enumerate(captions):
            image = Image.new("RGBA", (64, 64))
            pen = ImageDraw.Draw(image)
            pen.ellipse((4, 4, 60, 60), fill=(250, 40 + 10 * number, 80, 255))
            pen.ellipse((20, 20, 26 + number, 30), fill="black")
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            file.writestr(f"{number}.png", buffer.getvalue())
            table.writerow([f"{number}.png", caption])
        file.writestr("metadata.csv", rows.getvalue())
    return packed


def open_train(page: Page, pairs: Path, count: int) -> None:
    page.get_by_role("tab", name="Train").click()
    page.locator("#drop input[type=file]").set_input_files(pairs)
    expect(page.locator("#pairs")).to_contain_text(f"All {count}", timeout=WAIT)


def tiles(page: Page):
    return page.locator("#sheet .tile:not(.waiting) img:not([hidden])")


def test_twenty_pictures_become_a_set_of_48_in_a_zip(open_page, tmp_path):
    page = open_page()
    open_train(page, draw_pairs(tmp_path, [*OWN, "a red apple"]), 20)
    expect(page.locator("#labels-group option").first).to_have_text("Everything (48)", timeout=WAIT)

    page.get_by_label("Search what the model knows").fill("blue")
    expect(page.locator("#labels .options button")).to_have_count(8)
    page.get_by_role("button", name="blue cat", exact=True).press("Space")
    expect(page.get_by_role("button", name="blue cat", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Search what the model knows").fill("")
    page.get_by_role("button", name=re.compile("^Choose all 47")).click()  # One of the 48 is the person's own.
    page.get_by_label("Words of your own").fill("a blue cat\nred apple\nblue star on the square")
    page.get_by_role("button", name="Draw 50", exact=True).click()
    expect(page.locator("#set-said")).to_contain_text('"red apple" is among your own pictures', timeout=WAIT)
    expect(page.locator("#set-said")).to_contain_text('"a blue cat" is in the set already')
    expect(tiles(page)).to_have_count(48, timeout=WAIT)
    expect(page.locator("#set-progress")).to_contain_text("48 of 48 drawn.")
    expect(page.get_by_text("Nothing chosen yet")).to_be_visible()
    page.wait_for_function("() => [...document.querySelectorAll('#sheet .tile img')].every(one => one.naturalWidth)")

    chosen = page.locator("#sheet").get_by_role("button", name="blue cat", exact=True)
    before = chosen.locator("img").get_attribute("src")
    chosen.press("Enter")
    page.get_by_role("button", name="Draw again", exact=True).click()
    expect(chosen.locator("img")).not_to_have_attribute("src", before, timeout=WAIT)
    page.get_by_role("button", name="Bring back").click()
    expect(chosen.locator("img")).to_have_attribute("src", before, timeout=WAIT)
    page.get_by_role("button", name="Keep", exact=True).click()
    kept = page.locator("#sheet").get_by_role("button", name="blue cat, kept")
    expect(kept).to_be_visible(timeout=WAIT)
    kept.click()

    corrected = page.locator("#sheet").get_by_role("button", name="green star", exact=True)
    old = corrected.locator("img").get_attribute("src")
    corrected.click()
    page.get_by_role("button", name="Correct", exact=True).click()
    expect(page.get_by_role("button", name="Draw it by this")).to_be_disabled()
    Image.new("RGB", (300, 200), "red").save(tmp_path / "sketch.png")
    page.locator("#sketch-file").set_input_files(tmp_path / "sketch.png")
    page.locator("#sheet canvas").click(position={"x": 30, "y": 30})
    page.get_by_role("button", name="Draw it by this").click()
    corrected = page.locator("#sheet").get_by_role("button", name="green star, by your reference")
    expect(corrected).to_be_visible(timeout=WAIT)
    expect(corrected.locator("img")).not_to_have_attribute("src", old, timeout=WAIT)
    other = page.locator("#sheet").get_by_role("button", name="red cat", exact=True)
    same = other.locator("img").get_attribute("src")

    page.reload()
    page.get_by_role("tab", name="Train").click()
    expect(tiles(page)).to_have_count(48, timeout=WAIT)
    expect(page.locator("#sheet").get_by_role("button", name="blue cat, kept")).to_be_visible()
    assert other.locator("img").get_attribute("src") == same

    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download zip").click()
    download.value.save_as(tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip") as packed:
        names = packed.namelist()
        rows = [json.loads(line) for line in packed.read("metadata.jsonl").splitlines()]
        card = packed.read("README.md").decode()
        sheet = Image.open(io.BytesIO(packed.read("sheet.png")))
        small = Image.open(io.BytesIO(packed.read("72px/blue cat.png")))
    assert [len([row for row in rows if row["own"] == own]) for own in (True, False)] == [20, 48]
    assert {row["file_name"] for row in rows} == {name for name in names if name.startswith("pictures/")}
    assert {row["text"] for row in rows if not row["own"]} == {*KNOWN, "blue star on the square"} - {"red apple"}
    assert small.size == (72, 72) and sheet.width > 1000 and len([name for name in names if "128px/" in name]) == 68
    assert (
        "20 are the author's own" in card and "48 were drawn" in card and "| the other set | CC-BY-4.0 | Ann |" in card
    )

    page.get_by_role("button", name="Publish it as a data set").click()
    name, publish = page.locator("#set-name").get_by_role("textbox"), page.locator("button#set-send")
    name.fill("ann/my-set")
    expect(publish).to_be_disabled()
    page.locator("button#set-look").click()
    expect(page.locator("#set-files tr", has_text="metadata.jsonl")).to_be_visible(timeout=WAIT)
    expect(page.locator("#set-card h1")).to_have_text("my-set", timeout=WAIT)
    expect(page.locator("#set-sent")).to_contain_text("Nothing was sent yet.")
    expect(publish).to_be_enabled(timeout=WAIT)
    name.fill("ann/other")
    expect(publish).to_be_disabled(timeout=WAIT)


TOO_SMALL = """() => [...document.querySelectorAll(
    "#complete-section :is(button, select, textarea, input:not([type=checkbox]), label:has(> input[type=checkbox]))"
)].filter((one) => one.offsetParent).map((one) => [one.outerHTML.slice(0, 99), one.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44).map(([told]) => told)"""


def test_a_phone_shows_the_set_with_large_targets(open_page, tmp_path):
    page = open_page("?__theme=dark", viewport={"width": 390, "height": 844})
    open_train(page, draw_pairs(tmp_path, ["red sun on sun", "blue hat on hat"]), 2)
    page.get_by_label("Search what the model knows").fill("cat")
    page.get_by_role("button", name="Choose all 6").click(timeout=WAIT)
    page.get_by_role("button", name="Draw 6", exact=True).click()
    expect(tiles(page)).to_have_count(6, timeout=WAIT)
    expect(page.locator("#set-progress")).to_contain_text("2 pictures show little of a style")
    page.locator("#sheet .tile").first.click()
    page.get_by_role("button", name="Correct", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(TOO_SMALL) == []
