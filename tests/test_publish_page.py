"""The Publish tab and the model picker, in a browser and by endpoints, against a small Hub of ours."""

from __future__ import annotations

import json
import pickle
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import serve
from gradio_client import Client
from gradio_client.exceptions import AppError
from hub_server import HubServer
from long_lived import LongLived
from PIL import Image
from playwright.sync_api import Page, expect
from test_browser import browser, open_page, source, wait_for_another  # noqa: F401
from tiny import tiny_pipeline

from mmgen.data.draft import Draft
from mmgen.errors import UserError
from mmgen.home import home
from mmgen.hub.publish import Published, PublishedFile
from mmgen.jobs import Jobs
from mmgen.services.background import BackgroundTask, KeyedMutex
from mmgen.training.common.checkpoint import save_checkpoint
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.ui.common.from_hub import names_of
from mmgen.ui.publish.words import card_shown, files_table, megabytes, slug

WAIT = 60_000
CAPTIONS = ["a red apple", "a *blue* <cat> | dog", "a green star"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("publish")


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    """A tiny fine-tuned checkpoint with captions, for its sample sheet."""
    made = folder / "tiny"
    save_checkpoint(made, tiny_pipeline(folder / "parts"), [CAPTIONS], {"base": "mmgen-emoji", "pictures": 3})
    return made


@pytest.fixture(scope="module")
def hub(checkpoint) -> Iterator[HubServer]:
    with HubServer() as server:
        files = {path.relative_to(checkpoint).as_posix(): path for path in checkpoint.rglob("*") if path.is_file()}
        whole = {name: path.read_bytes() for name, path in files.items()}
        server.put("bob/open", whole)
        server.put("bob/secret", whole, private=True)
        named = {name: content for name, content in whole.items() if not name.endswith(".safetensors")}
        server.put("bob/pickles", {**named, "fusion/diffusion_pytorch_model.bin": pickle.dumps({})})
        weights = {name: pickle.dumps({}) for name in whole if name.endswith(".safetensors")}
        server.put("bob/renamed", {**whole, **weights})
        server.put("bob/elsewhere", {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}'})
        yield server


@pytest.fixture(scope="module")
def job(folder, checkpoint) -> str:
    """A job of the machine's own person that was stopped with a result which draws otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMGEN_HOME", str(folder / "home"))
        draft = Draft(home() / "drafts" / ("0" * 32))
        Image.new("RGB", (40, 40), "red").save(folder / "red.png")
        draft.add_images([folder / "red.png"], ["a red star"])
        jobs = Jobs(home())
        made = jobs.start(draft, checkpoint, "My <Stars>", FinetuneSettings())
        jobs.stop(made.id)
        pipe = tiny_pipeline(folder / "other-parts")
        pipe.autoencoder.scale.fill_(3.0)
        save_checkpoint(made.run / "pipeline", pipe, [CAPTIONS], {"base": "tiny", "pictures": 1})
    return made.id


@pytest.fixture(scope="module")
def page_url(hub, folder, checkpoint, job) -> Iterator[str]:
    """The studio of ann, who is signed in on her machine."""
    with serve(checkpoint, folder, **hub.environment(folder / "hf", hub.token("ann"))) as url:
        yield url


@pytest.fixture(scope="module")
def client(page_url, tmp_path_factory) -> Client:
    return Client(page_url, verbose=False, analytics_enabled=False, download_files=str(tmp_path_factory.mktemp("got")))


def preview(client: Client, **values) -> bytes:
    return Path(client.predict(prompt="a cat", **values, api_name="/preview")[0]).read_bytes()


def test_a_dry_run_shows_files_and_card_and_sends_nothing(client, hub, job):
    before = len(hub.requests)
    told = client.predict(name="ann/tiny", api_name="/publish_dry_run")
    assert told["url"] == f"{hub.url}/ann/tiny"
    paths = {one["name"] for one in told["files"]}
    assert {"README.md", "samples.png", "pipeline.py", "fusion/diffusion_pytorch_model.safetensors"} <= paths
    assert told["bytes"] == sum(one["size"] for one in told["files"]) > 10_000
    assert "# tiny" in told["card"] and "Fine-tuned from mmgen-emoji on 3 pictures" in told["card"]
    other = client.predict(name="ann/stars", model=job, api_name="/publish_dry_run")
    assert "Fine-tuned from tiny on 1 pictures" in other["card"]
    assert len(hub.requests) == before and "ann/tiny" not in hub.repositories


def test_programs_publish_and_draw_with_what_they_published(client, hub, job):
    told = client.predict(name="ann/by-program", model=job, api_name="/publish")
    there = hub.repositories["ann/by-program"]
    assert there.private and told["commit"] == there.branches["main"]
    assert {one["name"] for one in told["files"]} <= set(there.files())
    assert preview(client, model=job) == preview(client, model="ann/by-program@main") != preview(client)
    listed = client.predict(api_name="/models")
    assert listed[0] == {"name": "tiny (default)", "model": ""} and {"name": "My <Stars>", "model": job} in listed
    assert {"name": "ann/by-program@main", "model": "ann/by-program@main"} in listed
    assert "mmgen-emoji" in {one["model"] for one in listed}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "tiny"}, "tiny cannot be the name of a model. Name it as user/name"),
        ({"name": ""}, "Nothing cannot be the name"),
        ({"name": 3}, "Nothing cannot be the name"),
        ({"name": "bob/mine"}, "You may not write to bob/mine"),
        ({"name": "ann/x", "model": "../../etc"}, "There is no model '../../etc' of yours"),
        ({"name": "ann/x", "model": "bob/open"}, "There is no model 'bob/open' of yours"),
        ({"name": "ann/x", "private": "no"}, "Say whether it is private by true or false"),
    ],
)
def test_what_cannot_be_published_gives_a_sentence(client, hub, values, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**values, api_name="/publish")
    assert "ann/x" not in hub.repositories and "bob/mine" not in hub.repositories


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("bob/pickles", "pickles, which may run any code and are never opened"),
        ("bob/renamed", "is damaged, or no safetensors in spite of its name"),
        ("bob/elsewhere", "is a StableDiffusionPipeline, not a model of mmgen"),
        ("bob/secret", "There is no model bob/secret on the Hugging Face Hub, or it is private"),
        ("bob/open@v9", "bob/open has no such revision"),
    ],
)
def test_what_cannot_be_loaded_gives_a_sentence_and_nothing_changes(client, model, sentence):
    before = client.predict(api_name="/models")
    with pytest.raises(AppError, match=sentence):
        preview(client, model=model)
    assert client.predict(api_name="/models") == before


ANSWERS: list[bytes] = []
"""Everything that the page was sent."""


def test_a_person_publishes_and_loads_it_back(open_page, hub, job):
    page = open_page("?prompt=a+cat")
    page.on("response", lambda response: _keep_answer(response))
    page.reload()
    page.get_by_role("tab", name="Publish").click()
    expect(page.locator("#account")).to_contain_text("You publish as ann", timeout=WAIT)
    name, publish = page.get_by_label("Name on the Hub").last, page.locator("button#publish")
    expect(name).to_have_value("ann/tiny")
    expect(page.get_by_label("Private")).to_be_checked()
    expect(publish).to_be_disabled()

    page.get_by_label("Model", exact=True).last.click()
    page.get_by_role("option", name="My <Stars>").click()
    expect(name).to_have_value("ann/my-stars")
    name.fill("nonsense")
    page.get_by_role("button", name="Show what would be sent").click()
    expect(page.locator("#publish-said .problem")).to_contain_text("nonsense cannot be the name", timeout=WAIT)
    expect(name).to_have_value("nonsense")
    name.fill("ann/stars")
    page.get_by_role("button", name="Show what would be sent").click()
    expect(page.locator("#files tr", has_text="samples.png")).to_be_visible(timeout=WAIT)
    expect(page.locator("#model-card h1")).to_have_text("stars", timeout=WAIT)
    expect(page.locator("#model-card")).to_contain_text("a *blue* <cat> | dog")
    sheet = page.locator("#model-card img[alt^='Pictures of']")
    sheet.scroll_into_view_if_needed()
    page.wait_for_function("one => one.naturalWidth > 0", arg=sheet.element_handle())
    assert "ann/stars" not in hub.repositories
    expect(publish).to_be_enabled()
    name.fill("ann/other")
    expect(publish).to_be_disabled()
    name.fill("ann/stars")
    publish.click()
    expect(page.locator("#publish-said a")).to_have_attribute("href", f"{hub.url}/ann/stars", timeout=WAIT)
    expect(page.locator("#publish-said")).to_contain_text("the hashes of all that arrived were compared")
    assert hub.repositories["ann/stars"].private

    page.get_by_role("tab", name="Generate").click()
    old = source(page)
    load(page, "bob/pickles")
    expect(page.locator("#hub-said .problem")).to_contain_text("pickles", timeout=WAIT)
    assert source(page) == old
    load(page, f"{hub.url}/ann/stars")
    expect(page.locator("#hub-said")).to_contain_text("The page draws with ann/stars.", timeout=WAIT)
    drawn = wait_for_another(page, old)
    load(page, "bob/renamed")
    expect(page.locator("#hub-said .problem")).to_contain_text("no safetensors", timeout=WAIT)
    expect(page.locator("#model input")).to_have_value("ann/stars")
    page.reload()
    expect(page.locator("#model input")).to_have_value("ann/stars", timeout=WAIT)
    expect(page.locator("#preview img")).to_have_attribute("src", drawn, timeout=WAIT)
    page.locator("#model input").click()
    page.get_by_role("option", name="My <Stars>").click()
    expect(page.locator("#model input")).to_have_value("My <Stars>")
    page.wait_for_timeout(500)
    expect(page.locator("#preview img")).to_have_attribute("src", drawn)  # The same to the bit.


def load(page: Page, name: str) -> None:
    if not page.locator("#hub-load").is_visible():
        page.get_by_role("button", name="Model from the Hugging Face Hub").click()
    page.locator("#hub-name").get_by_role("textbox").fill(name)
    page.locator("#hub-load").click()


def _keep_answer(response) -> None:
    try:
        ANSWERS.append(response.body())
    except Exception:  # A stream that was cut by the reload.
        pass


def test_a_phone_shows_the_tab_without_scrolling_sideways(open_page):
    page = open_page("?__theme=dark", viewport={"width": 390, "height": 844})
    page.get_by_role("tab", name="Publish").click()
    expect(page.locator("#account")).to_contain_text("ann", timeout=WAIT)
    page.get_by_role("button", name="Show what would be sent").click()
    expect(page.locator("#model-card h1")).to_be_visible(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_token_is_nowhere(client, page_url, hub, folder):
    client.predict(name="ann/searched", api_name="/publish")
    assert "ann/searched" in hub.repositories  # So the token was used.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("", "config", "gradio_api/info", "gradio_api/openapi.json"):
        ANSWERS.append(opener.open(page_url + path).read())
    for values in ({"name": "bob/mine"}, {"name": "ann/searched", "model": "x"}):
        with pytest.raises(AppError) as error:
            client.predict(**values, api_name="/publish")
        ANSWERS.append(str(error.value).encode())
    ANSWERS.append(json.dumps(client.predict(name="ann/searched", api_name="/publish_dry_run")).encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"log.txt", "job.json", "samples.png"} <= {path.name for path in files}
    for repository in hub.repositories.values():
        ANSWERS.extend(content for commit in repository.commits for content in repository.files(commit).values())
    token = hub.token("ann").encode()
    assert not [content[:200] for content in ANSWERS if token in content]
    assert not [path for path in files if token in path.read_bytes()]


@pytest.fixture(scope="module")
def space(hub, folder, checkpoint) -> Iterator[tuple[str, LongLived]]:
    """A Space of bob with a token of his in its secrets; a header stands for gradio's cookie of who has signed in."""
    environment = hub.environment(folder / "space-hf", hub.token("bob")) | {
        "SPACE_ID": "bob/space",
        "MMGEN_HOME": str(folder / "space-home"),
        "GRADIO_TEMP_DIR": str(folder / "space-cache"),
    }
    with LongLived(environment) as process:
        status, told = process.python(f"""
import json
from starlette.middleware import Middleware
from mmgen.checkpoints import load_pipeline
from mmgen.ui.page import build_page, launch_options
class Sessions:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        scope["session"] = json.loads(dict(scope.get("headers", ())).get(b"x-session", b"{{}}"))
        await self.app(scope, receive, send)
page = build_page(load_pipeline({str(checkpoint)!r}))
options = launch_options() | {{"quiet": True, "prevent_thread_lock": True}}
options["app_kwargs"] = {{"middleware": [Middleware(Sessions)]}}
print(page.launch(server_name="127.0.0.1", **options)[1])
""")
        assert status == 0, told
        yield told.split()[-1], process


def signed_in(url: str, user: str, token: str) -> Client:
    """A visitor who has signed in."""
    told = {"name": user, "preferred_username": user, "profile": "", "picture": ""}
    session = {"oauth_info": {"access_token": token, "scope": "", "expires_at": 2**40, "userinfo": told}}
    return Client(url, verbose=False, analytics_enabled=False, headers={"X-Session": json.dumps(session)})


def test_strangers_on_a_space_never_get_its_token(space, hub):
    url, process = space
    visitor = Client(url, verbose=False, analytics_enabled=False)
    assert visitor.predict(name="bob/taken", api_name="/publish_dry_run")["files"]
    with pytest.raises(AppError, match="Nobody can sign in on this Space"):
        visitor.predict(name="bob/taken", api_name="/publish")
    with pytest.raises(AppError, match="There is no model bob/secret on the Hugging Face Hub, or it is private"):
        preview(visitor, model="bob/secret")
    assert preview(visitor, model="bob/open") == preview(visitor)
    assert "bob/taken" not in hub.repositories
    assert hub.token("bob") not in "".join(process.told)


def test_visitors_of_a_space_publish_as_themselves(space, hub):
    url, _ = space
    visitor = signed_in(url, "ann", hub.token("ann"))
    with pytest.raises(AppError, match="You may not write to bob/taken"):
        visitor.predict(name="bob/taken", api_name="/publish")
    assert visitor.predict(name="ann/from-space", api_name="/publish")["commit"]
    assert hub.repositories["ann/from-space"].private
    with pytest.raises(AppError, match="There is no model ann/from-space"):  # Private, so not for this Space.
        preview(visitor, model="ann/from-space")


def test_a_large_model_is_refused_on_a_space_before_it_is_fetched(space, hub):
    _, process = space
    before = len(hub.requests)
    status, told = process.python(
        "from mmgen.loading.fetch import fetch\nfetch('bob/open', 'main', False, 'elsewhere', most_bytes=1000)"
    )
    assert status == 70 and "MB are allowed here" in told
    assert not [request for request in hub.requests[before:] if "safetensors" in request]
    assert not (Path(__file__).resolve().parent.parent / "elsewhere").exists()


def test_nobody_signed_in_is_told_how(space, checkpoint):
    _, process = space
    code = f"""
from mmgen.checkpoints import load_pipeline
from mmgen.errors import UserError
from mmgen.ui.web.account import account_of, can_sign_in, token_of
from mmgen.services.models import Models
from mmgen.services.publishing import Publisher
print(account_of(None).words, can_sign_in(), token_of(None))
publisher = Publisher(Models(load_pipeline({str(checkpoint)!r})))
assert publisher.look("local", "", "ann/tiny").files
try:
    publisher.send("local", "", "ann/tiny", True, token_of(None))
except UserError as error:
    print(error)
"""
    status, told = process.python(code, SPACE_ID="", HF_TOKEN="")
    assert status == 0, told
    assert "Run `hf auth login` in a terminal to publish" in told and "False None" in told
    assert "You are not signed in to the Hugging Face Hub. Run `hf auth login`" in told


def test_one_thing_at_a_time():
    once = KeyedMutex()
    with once.doing("ann", "ann/tiny", sentence="busy"):
        with pytest.raises(UserError, match="busy"), once.doing("ann", "ann/tiny", sentence="busy"):
            pass
        with once.doing("ann", "ann/other", sentence="busy"):
            pass
    with once.doing("ann", "ann/tiny", sentence="busy"):
        pass


def test_work_tells_its_steps_and_its_error():
    def fail(tell):
        tell(0.5, "half")
        raise UserError("no")

    work = BackgroundTask(fail)
    assert list(work.steps())[-1] == (0.5, "half")
    with pytest.raises(UserError, match="no"):
        work.result()
    assert BackgroundTask(lambda tell: 3).result() == 3


def test_words():
    assert [megabytes(size) for size in (0, 999, 1500, 2_345_000, 3e9)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.3 MB",
        "3.0 GB",
    ]
    assert slug("My <Stars>!") == "my-stars" and slug("звезда") == "my-model"
    assert names_of("") == names_of("{") == names_of('"x"') == names_of(None) == [] and names_of('["a/b"]') == ["a/b"]
    file = PublishedFile("<b>.json", 12, "", "")
    assert "&lt;b&gt;.json" in files_table([file]) and "1 file, 12 B" in files_table([file])
    shown = card_shown(Published("u", None, [file], "---\na: b\n---\n\n![x](s.png) [l](t.png)\n", {"s.png": b"png"}))
    assert shown.startswith("```yaml\na: b\n```\n") and "](gradio_api/file=" in shown and "[l](t.png)" in shown
