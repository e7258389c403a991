"""Words under the prompt in a real browser: how it was read, what completes it, what is new, and the list."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import serve
from playwright.sync_api import Page, expect
from test_browser import WAIT, browser, shown, wait_for_another  # noqa: F401
from test_vocabulary import wordy_checkpoint  # noqa: F401


@pytest.fixture(scope="module")
def wordy_url(wordy_checkpoint, tmp_path_factory) -> Iterator[str]:  # noqa: F811
    with serve(wordy_checkpoint, tmp_path_factory.mktemp("wordy-page")) as url:
        yield url


@pytest.fixture
def open_wordy(browser, wordy_url) -> Iterator:  # noqa: F811
    pages: list[Page] = []
    complaints: list[str] = []

    def open_one(query: str = "?prompt=a+star", **options) -> Page:
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(wordy_url + query)
        expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
        expect(page.locator("#words .line")).to_be_visible(timeout=WAIT)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert not complaints


def field(page: Page):
    return page.locator("#prompt textarea")


def test_the_first_screen_says_what_the_model_is(open_wordy):
    page = open_wordy()
    expect(page.locator("#words .about")).to_have_text("An apple artist, 8 things in 2 styles")
    expect(page.locator("#words .read, #words .far")).to_have_count(2)
    for line in page.locator("#words .read, #words .far").all():
        expect(line).to_be_hidden()


@pytest.mark.parametrize(("typed", "read"), [("\U0001f431", "cat face"), ("ein roter Apfel", "a red apple")])
def test_an_emoji_and_a_german_phrase_are_read_and_drawn(open_wordy, typed, read):
    page = open_wordy(f"?prompt={read.replace(' ', '+')}")
    expect(page.locator("#preview img")).to_have_attribute("alt", read, timeout=WAIT)
    wanted = shown(page)
    field(page).fill("a dog")
    expect(page.locator("#preview img")).to_have_attribute("alt", "a dog", timeout=WAIT)
    assert (shown(page) != wanted).any()
    field(page).fill(typed)
    expect(page.locator("#words .read")).to_have_text(f"Read as: {read}", timeout=WAIT)
    expect(page.locator("#preview img")).to_have_attribute("alt", read, timeout=WAIT)
    assert (shown(page) == wanted).all()
    assert field(page).input_value() == typed


def test_the_keyboard_completes_the_prompt_without_asking_the_server(open_wordy):
    page = open_wordy()
    with page.expect_request(re.compile("queue/join")):
        field(page).click()
        field(page).fill("a ")
    options = page.locator("#prompt-options")
    field(page).press_sequentially("ca")
    expect(options.get_by_role("option")).to_have_text(["cat", "cat face"])  # The list has come.
    page.route("**/queue/join*", lambda route: None)  # From here on nothing is answered.
    field(page).fill("")
    field(page).press_sequentially("a red star, ap")
    expect(options.get_by_role("option")).to_have_text(["apple", "red apple", "green apple"])
    expect(field(page)).to_have_attribute("aria-expanded", "true")
    assert field(page).get_attribute("aria-activedescendant") is None
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        field(page).press(key)
    active = field(page).get_attribute("aria-activedescendant")
    expect(page.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    expect(page.locator(f"#{active}")).to_have_text("red apple")
    field(page).press("Enter")
    expect(field(page)).to_have_value("a red star, red apple")
    expect(options).to_be_hidden()
    expect(field(page)).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Control+z")
    expect(field(page)).to_have_value("a red star, ap")
    field(page).press("End")
    field(page).press_sequentially("p")
    expect(options).to_be_visible()
    field(page).press("Escape")
    expect(options).to_be_hidden()
    field(page).fill("")
    field(page).press_sequentially("kitt")  # By a search word, which is shown beside.
    expect(options.get_by_role("option")).to_have_text("catkitten")
    options.get_by_role("option").click()
    expect(field(page)).to_have_value("cat")


def test_enter_still_generates_where_nothing_is_chosen(open_wordy):
    page = open_wordy()
    field(page).click()
    field(page).fill("")
    field(page).press_sequentially("a ca")
    field(page).press("Enter")
    expect(page.locator("#gallery .grid-wrap img")).to_have_count(8, timeout=WAIT)
    expect(page.locator("#prompt-options")).to_be_hidden()
    assert field(page).input_value() == "a ca"


def test_words_that_are_new_are_marked_and_mended(open_wordy):
    page = open_wordy()
    field(page).fill("a red aple on a star")
    far = page.locator("#words .far")
    expect(far).to_contain_text("aple: did you mean apple", timeout=WAIT)
    far.get_by_role("button", name="apple").click()
    expect(field(page)).to_have_value("a red apple on a star")
    expect(far).to_be_hidden(timeout=WAIT)


@pytest.mark.parametrize("query", ["", "&__theme=dark"])
def test_what_is_known_is_browsed_and_used(open_wordy, query):
    page = open_wordy("?prompt=a+star" + query, viewport={"width": 390, "height": 844})
    page.locator("#words").get_by_role("button", name="Browse").click()
    known = page.get_by_role("region", name="What the model knows")
    expect(known.get_by_role("button", name=re.compile(r"^(animals 3|food 3|shapes 2)$"))).to_have_count(3)
    expect(known.get_by_role("button", name="animals 3")).to_have_attribute("aria-pressed", "true")
    expect(known.locator(".things li")).to_have_text(["cat", "cat face", "dog"])
    expect(known.locator(".things img:visible")).to_have_count(3, timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert known.bounding_box()["x"] + known.bounding_box()["width"] <= 390
    known.get_by_role("button", name="food 3").click()
    known.locator(".things").get_by_role("button", name="green apple").click()
    expect(field(page)).to_have_value("green apple")
    expect(page.locator("#preview img")).to_have_attribute("alt", "green apple", timeout=WAIT)
    page.locator("#words").get_by_role("button", name="Close").click()
    expect(known).to_be_hidden()


def test_a_model_without_a_vocabulary_shows_none_of_it(browser, page_url):  # noqa: F811
    page = browser.new_page()
    page.goto(page_url)
    expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
    expect(page.locator("#words")).to_be_hidden()
    field(page).click()
    field(page).press_sequentially("ca")
    expect(page.locator("#prompt-options:visible")).to_have_count(0)
    assert field(page).get_attribute("role") is None
    page.close()
