"""The studio as a Space: deployed by the real client, started from what arrived, and visited by strangers."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import _wait, serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from hub_server import HubServer
from itsdangerous import TimestampSigner
from long_lived import LongLived
from PIL import Image
from playwright.sync_api import expect
from test_browser import browser  # noqa: F401
from test_jobs import until
from test_train_page import draw_images

from mmgen.ui.web.visitors import COOKIE

NAME = "ann/studio"
SECRET = "zorblat unheard of"
WAIT = 60


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def deploy(hub, tmp_path_factory) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run `python -m mmgen deploy`; its status and what it printed."""
    folder = tmp_path_factory.mktemp("deployer")
    environment = {**hub.environment(folder, hub.token("ann")), "MMGEN_HOME": str(folder / "home")}
    with LongLived(environment) as mmgen:
        yield lambda *words: mmgen("deploy", NAME, *words)


@pytest.fixture(scope="module")
def deployed(hub, deploy, tiny_checkpoint) -> dict[str, bytes]:
    """What lies in the Space after a deployment that finds the Hub failing half-way."""
    (tiny_checkpoint / "diary.txt").write_text("dear diary")
    (tiny_checkpoint / "optimizer.pt").write_bytes(b"x")
    hub.fail(1, 503, "/commit/")
    status, said = deploy("--checkpoint", tiny_checkpoint, "--no-oauth")
    assert status == 0 and f"/spaces/{NAME}  " in said, said
    return hub.repositories[f"spaces/{NAME}"].files()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="module")
def url(deployed, place) -> Iterator[str]:
    """Where the deployed files serve the page, with nothing else of ours at hand."""
    for path, content in deployed.items():
        (place / "app" / path).parent.mkdir(parents=True, exist_ok=True)
        (place / "app" / path).write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"HOME": str(place / "user"), "GRADIO_TEMP_DIR": str(place / "cache"), "SPACE_ID": NAME}
    environment = {**os.environ, **places, "SYSTEM": "spaces", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    for name in ("PYTHONPATH", "MMGEN_HOME", "MMGEN_CHECKPOINT"):
        environment.pop(name, None)
    (place / "user").mkdir()
    command = [sys.executable, "app.py", "--port", str(port)]
    with (place / "log.txt").open("w") as log:
        studio = subprocess.Popen(command, cwd=place / "app", env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait(url, studio, place / "log.txt")
        yield url
    finally:
        studio.terminate()
        studio.wait(20)


def visit(url: str, place: Path) -> Client:
    return Client(url, verbose=False, analytics_enabled=False, download_files=str(place / "got"))


@pytest.fixture(scope="module")
def ann(url, place) -> SimpleNamespace:
    """A visitor by gradio_client with a draft and a job that has a result."""
    client = visit(url, place)
    images = draw_images(place, 3)
    given = {"files": [handle_file(one) for one in images], "captions": ["one", "two", SECRET]}
    pairs, _ = client.predict(**given, api_name="/check_pairs")
    with pytest.raises(AppError, match="may take 15 minutes here"):
        client.predict(draft=pairs, minutes=16, api_name="/start_training")
    quick = {"steps": 2, "prior": 0, "decoder": "no", "watch": ["one"]}
    job = client.predict(draft=pairs, name=SECRET, **quick, api_name="/start_training")
    with pytest.raises(AppError, match="trains or waits, and there is no room"):
        client.predict(draft=pairs, steps=2, api_name="/start_training")
    until(lambda: client.predict(job, api_name="/training_state")["state"] not in ("queued", "running"))
    assert client.predict(job, api_name="/training_state")["result"]
    return SimpleNamespace(client=client, draft=pairs, job=job, images=images)


def test_only_what_the_page_needs_is_sent(deployed, hub, deploy, tiny_checkpoint):
    paths = set(deployed)
    assert {"app.py", "requirements.txt", "README.md", "mmgen/ui/page.py", "mmgen/ui/assets/pairs.js"} <= paths
    assert {path.split("/")[0] for path in paths} == {
        "app.py", "requirements.txt", "README.md", "mmgen", "checkpoints", ".gitattributes"
    }  # fmt: skip
    assert "checkpoints/checkpoint/generator/diffusion_pytorch_model.safetensors" in paths
    assert not any("diary" in path or "__pycache__" in path or path.endswith((".pt", ".pyc")) for path in paths)
    head = yaml.safe_load(deployed["README.md"].decode().split("---\n")[1])
    wanted = re.search(rb"^gradio\[oauth\]==(.*)$", deployed["requirements.txt"], re.MULTILINE)[1].decode()
    assert (head["sdk"], head["sdk_version"], head["app_file"]) == ("gradio", wanted, "app.py")
    assert head["python_version"] == "3.11" and "hf_oauth" not in head
    assert hub.repositories[f"spaces/{NAME}"].private and NAME not in hub.repositories

    hub.put(
        f"spaces/{NAME}", {**deployed, "mmgen/old.py": b"", "checkpoints/old/model_index.json": b"", "mine.md": b""}
    )
    hub.requests.clear()
    status, said = deploy("--checkpoint", tiny_checkpoint, "--oauth", "--dry-run")
    assert status == 0 and not hub.requests and "contribute-repos" in said
    assert all(f"  {path}\n" in said for path in paths - {".gitattributes"})
    assert deploy("--checkpoint", tiny_checkpoint, "--no-oauth")[0] == 0
    assert hub.repositories[f"spaces/{NAME}"].files() == {**deployed, "mine.md": b""}


def test_it_starts_by_itself_and_draws(url, place):
    image, facts = visit(url, place).predict(prompt="a red apple", api_name="/preview")
    assert Image.open(image).size == (32, 32) and facts["device"].startswith("CPU")


def test_no_endpoint_reaches_what_is_anothers(ann, url, place):
    ben = visit(url, place)
    assert ben.predict(api_name="/list_trainings") == []
    assert ann.job not in json.dumps(ben.predict(api_name="/models"))
    theirs = {"draft": ann.draft, "job": ann.job, "base": ann.job, "model": ann.job}
    endpoints = ben.view_api(return_format="dict", print_info=False)["named_endpoints"]
    refused = set()
    for endpoint, described in endpoints.items():
        names = {one["parameter_name"] for one in described["parameters"]}
        asked = {name: theirs[name] for name in names & set(theirs)}
        if not asked:
            continue
        rest = {"name": "ben/stolen"} if "publish" in endpoint else {}
        rest |= {"pictures": [handle_file(ann.images[0])]} if endpoint == "/describe" else {}
        with pytest.raises(AppError, match="not there any more|no model|no pairs|Choose another|sign|Nobody"):
            print(endpoint, ben.predict(**asked, **rest, api_name=endpoint))
        refused.add(endpoint)
    assert {"/check_pairs", "/start_training", "/delete_training", "/generate", "/publish_dry_run"} <= refused
    own, _ = ben.predict(files=[handle_file(ann.images[0])], api_name="/check_pairs")
    with pytest.raises(AppError, match="no model|not there any more"):
        print(ben.predict(draft=own, base=ann.job, steps=1, api_name="/start_training"))
    assert ann.client.predict(ann.job, api_name="/training_state")["result"]
    assert ann.client.predict(prompt="one", model=ann.job, api_name="/preview")
    assert len(ann.client.predict(draft=ann.draft, api_name="/check_pairs")[1]["pairs"]) == 3


ACTS = ("export", "delete", "remove", "clear", "stop", "use")


def sweep(client: Client, url: str, ids: tuple[str, ...], acts: tuple[str, ...]) -> str:
    """Send every event of the page, private or not, as a browser would, but with ids in every field; all answers."""
    headers = {"Content-Type": "application/json", "Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}

    def ask(path: str, body: dict | None = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=60) as answer:
            return answer.read().decode()

    config = json.loads(ask("config"))
    components = {one["id"]: one for one in config["components"]}
    said = []
    for event in config["dependencies"]:
        acting = any(target[1] in ("act", "save") for target in event["targets"])
        if not event["backend_fn"] or event["api_name"] in ("generate", "preview") or (acting and not acts):
            continue
        for stolen in ids:
            inputs = [components[one] for one in event["inputs"]]
            open_fields = ("browserstate", "dropdown", "textbox")
            data = [stolen if one["type"] in open_fields else one["props"].get("value") for one in inputs]
            for act in acts if acting else ("",):
                told = {"act": act, "id": ids[1], "name": "shape 2.png", "text": "stolen", "kind": "caption"}
                body = {"data": data, "fn_index": event["id"], "session_hash": f"s{len(said)}", "event_data": told}
                ask("gradio_api/queue/join", body)
                said.append(ask(f"gradio_api/queue/data?session_hash={body['session_hash']}"))
    assert len(said) > 40 and all("process_completed" in one for one in said)
    return "".join(said)


def test_no_event_of_the_page_reaches_what_is_anothers(ann, url, place):
    ids = (ann.draft, ann.job)
    assert SECRET not in sweep(visit(url, place), url, ids, ACTS)
    assert SECRET in sweep(ann.client, url, ids, ())
    assert ann.client.predict(ann.job, api_name="/training_state")["name"] == SECRET
    pairs = ann.client.predict(draft=ann.draft, api_name="/check_pairs")[1]["pairs"]
    assert [pair["text"] for pair in pairs] == ["one", "two", SECRET]


def test_no_path_reaches_what_is_anothers(ann, url, place):
    ben, homes = visit(url, place), place / "user/.mmgen"
    assert (homes / ".key").stat().st_mode & 0o777 == 0o600
    files = [path for path in homes.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files) and any("drafts" in path.parts for path in files)
    other = [place / "app/app.py", place / "app/checkpoints/checkpoint/model_index.json", place / "log.txt"]
    traps = [place / "cache" / ".." / path.relative_to(place) for path in files[:3]]
    for path in [*files, *other, *traps]:
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{url}gradio_api/file={urllib.request.quote(str(path))}")
        assert error.value.code in (403, 404), path
    assert next((place / "cache").rglob("*.png"))
    folders = [place / "cache", next(path for path in (place / "cache").iterdir() if path.is_dir())]
    for path in [next(path for path in files if path.suffix == ".png"), *traps, *folders]:
        # Not as a file of the client's machine, which the client would upload, but as one of the Space's.
        with pytest.raises(AppError, match="must be an uploaded picture"):
            print(ben.predict(files=[{"path": str(path)}], api_name="/check_pairs"))


def test_the_cookie_is_out_of_reach_of_scripts_and_kept_in_frames(url):
    plain = urllib.request.urlopen(url).headers["set-cookie"]
    assert plain.startswith(f"{COOKIE}=") and "HttpOnly" in plain and "SameSite=Lax" in plain
    framed = urllib.request.urlopen(urllib.request.Request(url, headers={"X-Forwarded-Proto": "https"}))
    assert all(word in framed.headers["set-cookie"] for word in ("HttpOnly", "SameSite=None; Secure; Partitioned"))
    again = urllib.request.Request(url, headers={"Cookie": plain.split(";")[0]})
    assert urllib.request.urlopen(again).headers["set-cookie"] == plain


def test_other_cookies_never_hide_it(url):
    plain = urllib.request.urlopen(url).headers["set-cookie"]
    odd = urllib.request.Request(url, headers={"Cookie": f'flag; foo={{"a":1}}; {plain.split(";")[0]}'})
    assert urllib.request.urlopen(odd).headers["set-cookie"] == plain


def test_the_pages_of_other_sites_are_answered_nothing(url):
    def ask(origin: str, method: str = "GET") -> int:
        headers = {"Origin": origin, "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{url}config", headers=headers, method=method)
        try:
            return urllib.request.urlopen(asked).status
        except urllib.error.HTTPError as error:
            return error.code

    assert ask(url.rstrip("/")) == 200
    for origin in ("https://evil.example", "null", url.rstrip("/") + "1"):
        assert ask(origin) == ask(origin, "OPTIONS") == ask(origin, "POST") == 403


def test_two_browsers_and_a_reload(browser, url, place):
    images = draw_images(place, 2)

    def open_train(context):
        page = context.new_page()
        page.goto(url)
        expect(page.locator("#preview img")).to_be_visible(timeout=WAIT * 1000)
        page.get_by_role("tab", name="Train").click()
        return page

    first, second = browser.new_context(), browser.new_context()
    cat, dog = open_train(first), open_train(second)
    cat.locator("#drop input[type=file]").set_input_files(images)
    expect(cat.locator("#pairs .pair")).to_have_count(2, timeout=WAIT * 1000)
    cat.reload()
    cat.get_by_role("tab", name="Train").click()
    expect(cat.locator("#pairs .pair")).to_have_count(2, timeout=WAIT * 1000)
    assert COOKIE not in cat.evaluate("document.cookie")

    kept = cat.evaluate("JSON.stringify(localStorage)")  # All that a page of the other could tell, but for the cookie.
    dog.evaluate("kept => Object.entries(JSON.parse(kept)).forEach(([k, v]) => localStorage.setItem(k, v))", kept)
    assert "mmgen-draft" in kept
    dog.reload()
    expect(dog.locator("#preview img")).to_be_visible(timeout=WAIT * 1000)
    dog.get_by_role("tab", name="Train").click()
    dog.locator("#drop input[type=file]").set_input_files(images[:1])  # In the other's draft they would be three.
    expect(dog.locator("#pairs .pair")).to_have_count(1, timeout=WAIT * 1000)
    cat.reload()
    cat.get_by_role("tab", name="Train").click()
    expect(cat.locator("#pairs .pair")).to_have_count(2, timeout=WAIT * 1000)
    first.close()
    second.close()


@pytest.mark.slow
def test_who_signs_in_has_their_things_on_every_device(tiny_checkpoint, tmp_path):
    secret = "the Space's own"
    oauth = {"OAUTH_CLIENT_ID": "1", "OAUTH_CLIENT_SECRET": secret, "OAUTH_SCOPES": "openid"}
    oauth |= {"OPENID_PROVIDER_URL": "http://127.0.0.1:9", "SPACE_ID": NAME, "SYSTEM": "spaces"}

    def device(url: str, user: str, secret: str = secret) -> Client:
        """A program with the session cookie that gradio signs once somebody has signed in."""
        info = {"access_token": "x", "scope": "", "expires_at": 2**40, "userinfo": {"sub": user, "name": user}}
        key = hashlib.sha256(f"{secret}-v4".encode()).hexdigest()
        cookie = TimestampSigner(key).sign(base64.b64encode(json.dumps({"oauth_info": info}).encode())).decode()
        headers = {"Cookie": f"session={cookie}"}
        return Client(url, verbose=False, analytics_enabled=False, headers=headers)

    with serve(tiny_checkpoint, tmp_path, **oauth) as url:
        assert "sign-in" in urllib.request.urlopen(f"{url}config").read().decode()
        image = handle_file(draw_images(tmp_path, 1)[0])
        pairs, _ = device(url, "ann").predict(files=[image], captions=["mine"], api_name="/check_pairs")
        again = device(url, "ann").predict(draft=pairs, api_name="/check_pairs")[1]["pairs"]
        assert [pair["text"] for pair in again] == ["mine"]
        for stranger in (device(url, "ben"), device(url, "ann", "a guess")):
            with pytest.raises(AppError, match="not there any more"):
                stranger.predict(draft=pairs, api_name="/check_pairs")
