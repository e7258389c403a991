"""The memory in the studio: its weight, what a picture was drawn from, and what a published picture must say of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect
from remembering import SOURCES, remembering_pipeline
from test_browser import WAIT, browser, seed_field, shown, source, wait_for_another  # noqa: F401
from test_page import pixels, preview, sun  # noqa: F401

from mmgen.attribution import attributions
from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.pipeline import MemoryShare, MultimodalGANPipeline
from mmgen.services.choices import choices_of, choose
from mmgen.services.inference import GenerationRequest, InferenceService

APPLE = "a red apple"


@pytest.fixture(scope="session")
def remembering(tmp_path_factory) -> Path:
    """The folder of a saved tiny pipeline that has a memory."""
    folder = tmp_path_factory.mktemp("remembering")
    remembering_pipeline(folder / "parts").save_pretrained(folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def service(remembering) -> InferenceService:
    return InferenceService(MultimodalGANPipeline.from_pretrained(remembering))


@pytest.fixture(scope="module")
def memory_url(remembering, tmp_path_factory) -> Iterator[str]:
    with serve(remembering, tmp_path_factory.mktemp("remembering-studio")) as url:
        yield url


@pytest.fixture(scope="module")
def client(memory_url, tmp_path_factory) -> Client:
    got = str(tmp_path_factory.mktemp("got"))
    return Client(memory_url, verbose=False, analytics_enabled=False, download_files=got)


def share(label: str, source: str = "https://example.org", licence: str = "CC-BY-4.0", author: str = "Ann"):
    return MemoryShare(0, 0.1, 1.0, label, "flat", source, licence, author)


def entries(facts: dict, image: int = 0) -> list[int]:
    return [one["entry"] for one in facts["drawn_from"][image]]


def test_attributions_name_title_author_source_and_licence_once_a_source():
    text = attributions(
        [share("red apple"), share("cat", licence="MIT", author="Bob"), share("green apple"), share("red apple")]
    )
    assert text.splitlines() == [
        'This picture is adapted from "red apple" and "green apple" by Ann (https://example.org), used under CC BY 4.0 '
        "(https://creativecommons.org/licenses/by/4.0/).",
        'This picture is adapted from "cat" by Bob (https://example.org), used under the MIT License '
        "(https://opensource.org/license/mit).",
    ]
    assert attributions([share("a"), share("b"), share("c")]).startswith(
        'This picture is adapted from "a", "b" and "c"'
    )
    assert attributions([share("a", "", "", "")]) == (
        'This picture is adapted from "a" by an author who is not recorded, used under a licence that is not recorded.'
    )
    assert "used under Own-1." in attributions([share("a", licence="Own-1")])
    assert attributions([]) == ""


def test_what_was_chosen_belongs_to_its_prompt(service):
    choices = choose({}, APPLE, 3, "drop")
    choices = choose(choices, f" {APPLE} ", 9, "pin")
    choices = choose(choices, "a cat", 1, "pin")
    assert choices_of(choices, APPLE, service) == ((3,), (9,))
    assert choices_of(choices, "a cat", service) == ((), (1,))
    assert choices_of(choices, "a dog", service) == ((), ())
    assert choices_of(choose(choices, APPLE, 9, "drop"), APPLE, service) == ((3, 9), ())
    assert choices_of(choose(choices, APPLE, 3, "pin"), APPLE, service) == ((), (9, 3))
    assert choices_of(choose(choices, APPLE, 9, "pin"), APPLE, service) == ((3,), ())
    assert choices_of(choose(choices, APPLE, None, "reset"), APPLE, service) == ((), ())
    assert choices_of({APPLE: {"dropped": [99, -1, "x", True], "pinned": "much"}}, APPLE, service) == ((), ())
    for number in range(200):
        choices = choose(choices, f"cat {number}", 1, "drop")
    assert len(choices) == 50 and choices_of(choices, "cat 199", service) == ((1,), ())


def test_a_pin_holds_an_entry_and_a_drop_keeps_it_out(service):
    first = service.draw(GenerationRequest(APPLE))
    found = [one.entry for one in first.drawn_from[0]]
    assert len(found) == 4
    for entry in found:  # What is there already stays where it is.
        assert service.draw(GenerationRequest(APPLE, pinned=(entry,))).images[0].tobytes() == first.images[0].tobytes()
        without = service.draw(GenerationRequest(APPLE, dropped=(entry,), count=4))
        assert all(entry != one.entry for shares in without.drawn_from for one in shares)
        assert without.images[0].tobytes() != first.images[0].tobytes()
    absent = [entry for entry in range(12) if entry not in found][:4]
    pinned = service.draw(GenerationRequest(APPLE, pinned=tuple(absent), count=4))
    assert all({one.entry for one in shares} == set(absent) for shares in pinned.drawn_from)
    for order, words in (
        (GenerationRequest(dropped=(12,)), "no entry 12; it has 12"),
        (GenerationRequest(pinned=("x",)), "no entry x"),
        (GenerationRequest(dropped=(1,), pinned=(1,)), "both dropped and pinned"),
        (GenerationRequest(pinned=(1, 2, 3, 4, 5)), "pin at most 4"),
        (GenerationRequest(memory_weight=2.5), "The memory weight is 2.5"),
    ):
        with pytest.raises(UserError, match=words):
            service.draw(order)


def test_the_studio_draws_what_the_pipeline_draws(service, sun):
    order = GenerationRequest(
        APPLE, references=(sun,), reference_weights=(0.5,), memory_weight=0.5, dropped=(0,), pinned=(7,), seed=3
    )
    drawing = service.draw(order)
    direct = service.pipe(
        APPLE,
        references=[Image.open(sun)],
        reference_weights=[0.5],
        memory_weight=0.5,
        memory_dropped=[0],
        memory_pinned=[7],
        seed=3,
    )
    assert drawing.images[0].tobytes() == direct.images[0].tobytes()
    assert drawing.drawn_from == direct.drawn_from


@contextmanager
def changed(values: torch.Tensor, others: torch.Tensor) -> Iterator[None]:
    """Hold other values in a tensor for a while."""
    kept = values.clone()
    values.copy_(others)
    try:
        yield
    finally:
        values.copy_(kept)


def test_words_unlike_the_memory_are_told(service):
    assert service.draw(GenerationRequest(APPLE)).notes == []
    with changed(service.pipe.memory.text_keys, -service.pipe.memory.text_keys):
        for _ in range(2):  # The second time the words are not read again.
            assert "holds nothing like these words" in service.draw(GenerationRequest("a green circle")).notes[0]


def test_a_thumbnail_is_drawn_once_and_anew_when_its_entry_changes(service, monkeypatch):
    first = service.thumbnail(3)
    assert first.startswith("data:image/webp;base64,") and service.thumbnail(4) != first
    monkeypatch.setattr(service.pipe.autoencoder, "decode", None)
    assert service.thumbnail(3) == first
    monkeypatch.undo()
    with changed(service.pipe.memory.codes, service.pipe.memory.codes.flip(0)):
        assert service.thumbnail(8) == first and service.thumbnail(3) != first


def test_a_long_list_is_looked_up_at_once(service):
    assert len(service.draw(GenerationRequest("a red apple, " * 5000)).drawn_from[0]) == 4


def test_the_endpoints_tell_the_sources_and_so_do_the_files(client):
    files, facts = client.predict(
        prompt=APPLE, seed=4, count=2, memory_weight=0.5, memory_dropped=[0], memory_pinned=[7], api_name="/generate"
    )
    assert (facts["memory_weight"], facts["memory_dropped"], facts["memory_pinned"]) == (0.5, [0], [7])
    assert len(facts["drawn_from"]) == 2 and all(len(shares) == 4 for shares in facts["drawn_from"])
    assert all(7 in entries(facts, one) and 0 not in entries(facts, one) for one in (0, 1))
    for path, shares in zip(files, facts["drawn_from"], strict=True):
        with Image.open(path) as image:
            told = dict(image.text)
        assert json.loads(told["drawn_from"]) == shares
        for one in shares:
            assert (one["source"], one["licence"], one["author"]) == SOURCES[one["style"]] and 0 < one["share"] <= 1
        again = {name: json.loads(told[name]) for name in ("memory_weight", "memory_dropped", "memory_pinned")}
        drawn, _ = preview(client, prompt=told["prompt"], seed=int(told["seed"]), **again)
        assert drawn == Path(path).read_bytes()
    assert "by Ann (https://example.org/flat), used under CC BY 4.0" in facts["attributions"]


def test_the_weight_of_the_memory_changes_the_picture_and_at_0_there_is_none(client, service, sun, monkeypatch):
    values = {"prompt": APPLE, "references": [handle_file(sun)], "seed": 2}
    drawings = [preview(client, **values, memory_weight=weight) for weight in (0, 0.25, 1, 2)]
    assert len({pixels(content).tobytes() for content, _ in drawings}) == 4
    assert drawings[0][1]["drawn_from"] == [[]] and drawings[0][1]["attributions"] == ""
    assert (pixels(preview(client, **values)[0]) == pixels(drawings[2][0])).all()  # As old programs ask.
    monkeypatch.setattr(MultimodalGANPipeline, "has_memory", False)
    bare = service.draw(GenerationRequest(APPLE, references=(sun,), reference_weights=(1.0,), seed=2))
    assert bare.drawn_from is None and (pixels(drawings[0][0]) == pixels(_png(bare))).all()


def _png(drawing) -> bytes:
    buffer = io.BytesIO()
    drawing.images[0].save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"memory_weight": -1}, "The memory weight is -1"),
        ({"memory_weight": None}, "The memory weight is empty"),
        ({"memory_dropped": [12]}, "The memory has no entry 12; it has 12, counted from 0"),
        ({"memory_pinned": ["x"]}, "The memory has no entry x"),
        ({"memory_dropped": 3}, "The dropped entries must be a list"),
        ({"memory_dropped": [1], "memory_pinned": [1]}, "both dropped and pinned"),
    ],
)
def test_bad_values_give_a_sentence(client, values, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**values, api_name="/preview")


def test_a_model_without_a_memory_tells_nothing_of_one(tiny_checkpoint, tmp_path):
    plain = InferenceService(MultimodalGANPipeline.from_pretrained(tiny_checkpoint))
    drawing = plain.draw(GenerationRequest(APPLE, memory_weight=0.5))
    with Image.open(drawing.save(0, tmp_path)) as image:
        assert drawing.drawn_from is None and not [key for key in image.text if "memory" in key or "drawn" in key]
    with pytest.raises(UserError, match="This model has no memory"):
        plain.draw(GenerationRequest(APPLE, dropped=(1,)))


def test_the_command_drops_and_pins(remembering, tmp_path, capsys):
    output = tmp_path / "out.png"
    words = ["generate", APPLE, "--checkpoint", str(remembering), "--output", str(output)]
    assert main([*words, "--memory-weight", "0.5", "--drop", "0", "--pin", "7", "--pin", "8"]) == 0
    said = capsys.readouterr().out
    with Image.open(output) as image:
        told = dict(image.text)
    found = [one["entry"] for one in json.loads(told["drawn_from"])]
    assert {7, 8} <= set(found) and 0 not in found
    assert [int(number) for number in re.findall(r"drawn from entry (\d+): ", said)] == found
    assert (told["memory_weight"], told["memory_dropped"], told["memory_pinned"]) == ("0.5", "[0]", "[7, 8]")
    assert main([*words, "--drop", "12"]) == 1
    assert "The memory has no entry 12" in capsys.readouterr().err


@pytest.fixture
def open_page(browser, memory_url) -> Iterator:
    complaints: list[str] = []
    pages: list[Page] = []

    def open_one(query: str = "", **options) -> Page:
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(memory_url + query)
        expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert not complaints


def listed(page: Page, client: Client, **values) -> dict[str, int]:
    """Wait until the list shows what the endpoint tells; names of entries, the most used first, and their numbers."""
    _, facts = preview(client, prompt=APPLE, **values)
    names = {f"{one['label']}, {one['style']}": one["entry"] for one in facts["drawn_from"][0]}
    drops = page.locator("#drawn-from li .drop")
    expect(drops).to_have_count(len(names), timeout=WAIT)
    for drop, name in zip(drops.all(), names, strict=True):
        expect(drop).to_have_attribute("aria-label", f"Drop {name}", timeout=WAIT)
    return names


def shown_as(page: Page, client: Client, **values) -> None:
    """Wait until the page shows what the endpoint draws."""
    wanted = pixels(preview(client, prompt=APPLE, **values)[0]).astype("uint16")
    wanted = wanted[..., :3] * wanted[..., 3:]
    for _ in range(WAIT // 100):
        if (shown(page) == wanted).all():
            return
        page.wait_for_timeout(100)
    pytest.fail("The page shows another picture.")


def test_an_entry_is_dropped_and_pinned_on_the_page(open_page, client):
    page = open_page("?prompt=a+red+apple")
    names = listed(page, client)
    expect(page.locator("#drawn-from img:visible")).to_have_count(4, timeout=WAIT)
    expect(page.get_by_role("button", name="Reset")).to_be_hidden()
    old, (dropped, out) = source(page), next(iter(names.items()))
    button = page.get_by_role("button", name=f"Drop {dropped}")
    button.focus()
    page.keyboard.press("Enter")
    old = wait_for_another(page, old)
    expect(button).to_have_count(0)
    expect(page.locator("#drawn-from .chosen")).to_have_text("1 dropped")
    assert page.evaluate("document.activeElement.closest('#drawn-from') !== null")  # Not lost with the row.
    shown_as(page, client, memory_dropped=[out])

    pinned, number = list(listed(page, client, memory_dropped=[out]).items())[-1]
    pin = page.get_by_role("button", name=f"Pin {pinned}")
    pin.click()
    expect(pin).to_have_attribute("aria-pressed", "true", timeout=WAIT)
    expect(page.locator("#drawn-from .chosen")).to_have_text("1 pinned, 1 dropped")
    for seed in (5, 6):  # It stays, whatever the seed looks up.
        seed_field(page).fill(str(seed))
        chosen = {"seed": seed, "memory_dropped": [out], "memory_pinned": [number]}
        shown_as(page, client, **chosen)
        names = listed(page, client, **chosen)
        assert pinned in names and dropped not in names

    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("a blue cat")
    expect(page.locator("#drawn-from .chosen")).to_have_text("", timeout=WAIT)
    prompt.fill(APPLE)
    expect(page.locator("#drawn-from .chosen")).to_have_text("1 pinned, 1 dropped", timeout=WAIT)
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#drawn-from .chosen")).to_have_text("", timeout=WAIT)
    shown_as(page, client, seed=6)


def test_the_weight_is_a_slider_and_the_sources_are_one_click(open_page, client, memory_url):
    page = open_page("?prompt=a+red+apple", permissions=["clipboard-read", "clipboard-write"])
    listed(page, client)
    flat = page.locator("#drawn-from a").first
    assert flat.get_attribute("href") == "https://example.org/flat" and flat.inner_text() == "example.org/flat"
    page.get_by_role("button", name="Copy attributions").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == preview(client, prompt=APPLE)[1]["attributions"]
    seed_field(page)
    slider = page.get_by_label("range slider for Memory weight")
    slider.focus()
    slider.press("Home")
    shown_as(page, client, memory_weight=0)
    expect(page.locator("#drawn-from section")).to_have_count(0)


@pytest.mark.parametrize("query", ["", "&__theme=dark"])
def test_a_phone_shows_the_list_without_scrolling_sideways(open_page, client, query):
    page = open_page(f"?prompt=a+red+apple{query}", viewport={"width": 390, "height": 844})
    listed(page, client)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator("#drawn-from button:visible").all():
        place = button.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= 390 and place["height"] >= 28


def test_the_page_of_a_model_without_a_memory_shows_none_of_it(browser, page_url):
    page = browser.new_page()
    page.goto(page_url)
    expect(page.locator("#preview img")).to_be_visible(timeout=WAIT)
    seed_field(page)
    expect(page.get_by_label("range slider for Prompt weight")).to_be_visible()
    expect(page.get_by_label("range slider for Memory weight")).to_have_count(0)
    expect(page.locator("#drawn-from")).to_be_hidden()
    page.close()
