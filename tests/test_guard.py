"""A studio under attack: names and origins, shares of what a Space has, and what is said of nonsense."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from conftest import serve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_jobs import base, draft  # noqa: F401

from mmgen.ui.web.callers import Caller, address_of
from mmgen.ui.web.shares import Ledger, Recent, Sessions, Share
from mmgen.ui.web.visitors import COOKIE

NAME = "ann/studio"


def ask(url: str, path: str, body: object = None, headers: dict[str, str] | None = None, method: str | None = None):
    """Send one request exactly as it is given; its status, its text and its headers."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    sent = {"Host": address.netloc, **({"Content-Type": "application/json"} if body is not None else {})}
    connection.request(method or ("GET" if body is None else "POST"), path, content, {**sent, **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


@pytest.fixture(scope="module")
def space(tiny_checkpoint, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A Space of strangers that is reached at a loopback address, as by the Space's own proxy."""
    folder = tmp_path_factory.mktemp("space")
    with serve(tiny_checkpoint, folder, SPACE_ID=NAME, SPACE_HOST="ann-studio.hf.space", HF_HUB_OFFLINE="1") as url:
        yield SimpleNamespace(url=url, folder=folder, log=folder / "log.txt", fuzzer=visitor(url, "8.8.8.7"))


def visitor(url: str, address: str) -> dict[str, str]:
    """The headers of who has opened the page from an address."""
    headers = {"X-Forwarded-For": address}
    cookie = ask(url, "/config", headers=headers)[2]["set-cookie"]
    assert cookie.startswith(COOKIE)
    return {**headers, "Cookie": cookie.split(";")[0]}


@lru_cache
def dependencies(url: str) -> list[dict]:
    """The page's events that the server answers."""
    found = json.loads(ask(url, "/config")[1])["dependencies"]
    return [one for one in found if one["backend_fn"]]


def events(url: str) -> dict[str, int]:
    """The page's events by name, each with its number."""
    return {one["api_name"]: one["id"] for one in dependencies(url)}


# Names and origins


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/x"])
def test_at_home_another_name_is_answered_nothing(page_url, path):
    """DNS rebinding: a site gives its own name the address of the reader's machine."""
    port = urlsplit(page_url).port
    body = None if path in ("/", "/config") else {"data": [], "session_hash": "a"}
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "[evil]", "127.0.0.1.nip.io"):
        status, said, _ = ask(page_url, path, body, {"Host": host, "Origin": f"http://{host}"})
        assert status == 403, (host, said)
    assert "--allow-host" in ask(page_url, "/", headers={"Host": "evil.example"})[1]


def test_at_home_other_sites_are_answered_nothing(page_url):
    body = {"data": ["x"], "session_hash": "a"}
    port = urlsplit(page_url).port
    for origin in ("https://evil.example", "null", "http://localhost:1", f"https://127.0.0.1:{port}.evil.example", ""):
        for path, sent in (("/gradio_api/queue/join", body), ("/gradio_api/upload", b""), ("/config", None)):
            assert ask(page_url, path, sent, {"Origin": origin})[0] == 403, (origin, path)
    hidden = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"}
    assert ask(page_url, "/gradio_api/queue/join", body, hidden)[0] == 403


def test_at_home_its_own_names_are_answered(page_url):
    port = urlsplit(page_url).port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert ask(page_url, "/config", headers={"Host": host, "Origin": f"http://{host}"})[0] == 200, host
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert ask(page_url, "/", headers=linked)[0] == 200
    status, said, _ = ask(page_url, "/gradio_api/call/models", {"data": []}, {"Origin": page_url.rstrip("/")})
    assert status == 200, said


def test_a_space_goes_by_its_own_names(space):
    for host in ("ann-studio.hf.space", "other.hf.space", "10.1.2.3:7860"):
        assert ask(space.url, "/config", headers={"Host": host, "Origin": "https://ann-studio.hf.space"})[0] == 200
    assert ask(space.url, "/config", headers={"Host": "evil.example"})[0] == 403
    forwarded = {"X-Forwarded-Host": "mine.example", "Origin": "https://mine.example"}
    assert ask(space.url, "/config", headers=forwarded)[0] == 200


def test_names_that_were_allowed():
    import asyncio

    from mmgen.ui.web.same_origin import SameOrigin

    async def fine(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def status(asked: str, origin: str, **options) -> int:
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"host", asked.encode()), (b"origin", origin.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        asyncio.run(SameOrigin(fine, **options)(scope, None, send))
        return sent[0]["status"]

    assert status("studio.example", "https://studio.example") == 403
    assert status("studio.example", "https://studio.example", allowed=["studio.example"]) == 200
    assert status("127.0.0.1:7860", "https://studio.example", allowed=["studio.example"]) == 200
    assert status("studio.example:80", "https://other.example", allowed=["studio.example"]) == 403
    assert status("mine.lan:7860", "http://mine.lan:7860", host="mine.lan") == 200
    assert status("mine.lan:7860", "http://mine.lan:3000", host="mine.lan") == 403
    assert status("localhost", "http://localhost:3000") == 403


# Who asks


def test_an_address_is_that_of_who_asks_and_not_what_they_say(monkeypatch):
    def address(peer: str, *forwarded: str) -> str:
        headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
        return address_of({"type": "http", "client": (peer, 1), "headers": headers})

    assert address("10.0.0.7", "8.8.8.8") == "10.0.0.7"  # At home there is no proxy of ours.
    monkeypatch.setenv("SPACE_ID", NAME)
    assert address("10.0.0.7", "8.8.8.8") == "8.8.8.8"
    assert address("10.0.0.7", "1.1.1.1, 8.8.8.8") == address("10.0.0.7", "1.1.1.1", "8.8.8.8, 10.0.0.9") == "8.8.8.8"
    assert address("9.9.9.9", "8.8.8.8") == "9.9.9.9"  # No proxy of the Space's.
    assert address("10.0.0.7", "nonsense") == address("10.0.0.7") == "10.0.0.7"
    assert address("10.0.0.7", "2001:4860:4860:1:2:3:4:5") == "2001:4860:4860:1::/64"
    assert address("::ffff:8.8.4.4") == "8.8.4.4" and address("testclient") == ""


SHARE = Share(visitor=2, address=3, stranger=1, strangers=2)


def test_shares_are_counted_for_visitors_and_for_addresses():
    ledger = Ledger(SHARE)

    def takes(address: str, visitor: str | None) -> bool:
        caller = Caller(address, visitor)
        if not ledger.fits(caller):
            return False
        ledger.take(caller)
        return True

    assert [takes("1", "ann") for _ in range(3)] == [True, True, False]
    assert [takes("1", "ben"), takes("1", "cat"), takes("2", "ben")] == [True, False, True]
    assert [takes(one, None) for one in ("1", "2", "2", "3", "4")] == [False, True, False, True, False]
    ledger.take(Caller("1", "ann"), -1)
    assert takes("1", "dan") and not takes("1", "ann")


def test_what_counts_for_an_hour_is_forgotten_after_it():
    recent = Recent(SHARE, 0.2)
    assert recent.take(Caller("1", "ann"), 2) and not recent.take(Caller("1", "ann"), 1)
    time.sleep(0.25)
    assert recent.take(Caller("1", "ann"), 1)


def test_sessions_give_way_to_ones_own():
    sessions = Sessions(SHARE, most=4)
    assert sessions.seen("a1", Caller("1", "ann")) == sessions.seen("a2", Caller("1", "ann")) == []
    assert sessions.seen("b1", Caller("2", "ben")) == []
    assert sessions.seen("a1", Caller("1", "ann")) == []
    assert sessions.seen("a3", Caller("1", "ann")) == ["a2"]
    assert sessions.seen("x1", Caller("2", None)) == []
    assert sessions.seen("x2", Caller("2", None)) == ["x1"]
    assert len(sessions) == 4
    assert sessions.seen("c1", Caller("3", "cat"))[0] in ("a1", "b1")  # Of an address that has the most.
    assert len(sessions) == 4


# A Space's places, sessions, uploads and trainings


def join(url: str, headers: dict[str, str], number: int, session: str, data: list | None = None) -> tuple[int, str]:
    body = {"data": data or [], "fn_index": number, "session_hash": session}
    return ask(url, "/gradio_api/queue/join", body, headers)[:2]


def listen(url: str, headers: dict[str, str], session: str) -> list[dict]:
    """What a session is told until nothing of it waits any more."""
    said = ask(url, f"/gradio_api/queue/data?session_hash={session}", headers=headers)[1]
    return [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]


def completed(messages: list[dict]) -> list[dict]:
    return [one for one in messages if one["msg"] == "process_completed"]


def preview(url: str, headers: dict[str, str], session: str, seed: object = 0) -> dict:
    """Draw one picture as a program does; what the last message says."""
    values = ["a red apple", "Any", None, None, 1.0, seed, 1.0, "", 1.0, None, None]
    status, said = join(url, headers, events(url)["preview"], session, values)
    assert status == 200, said
    return completed(listen(url, headers, session))[-1]


def test_who_has_no_cookie_fills_no_queue_of_others(space):
    """257 posts without a cookie, from three addresses, take 12 places of 256 and leave no folder."""
    number, statuses = events(space.url)["generate"], []
    values = ["x", "Any", None, None, 1.0, 0, 1.0, 16, "", 1.0, None, None]
    before = set((space.folder / "home").glob("visitor-*"))
    for index in range(257):
        headers = {"X-Forwarded-For": f"9.0.0.{index % 3}"}
        statuses.append(join(space.url, headers, number, f"flood{index}", values)[0])
    assert set(statuses) <= {200, 429}
    assert json.loads(ask(space.url, "/gradio_api/queue/status")[1])["queue_size"] <= 12
    ann = visitor(space.url, "8.8.8.1")
    told = preview(space.url, ann, "ann")
    assert told["success"], told
    assert json.loads(ask(space.url, "/gradio_api/queue/status")[1])["queue_size"] > 0  # Sets asked for before.
    assert set((space.folder / "home").glob("visitor-*")) == before


def test_a_full_queue_is_ones_own_and_a_sentence(space):
    ben, number = visitor(space.url, "8.8.8.2"), events(space.url)["generate"]
    values = ["x", "Any", None, None, 1.0, 0, 1.0, 16, "", 1.0, None, None]
    for _ in range(30):
        assert join(space.url, ben, number, "ben", values)[0] == 200
    told = completed(listen(space.url, ben, "ben"))
    full = [one for one in told if not one["success"] and "as one visitor may have" in one["output"]["error"]]
    assert 0 < len(full) < 30 and len(told) == 30
    assert preview(space.url, visitor(space.url, "8.8.8.2"), "cat")["success"]  # Of the same address.


def test_uploads_are_counted(space):
    def upload(headers: dict[str, str], size: int, sent: int = 10):
        kind = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(size)}
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = head + bytes(size - len(head) - 9) + b"\r\n--x--\r\n" if sent is None else bytes(sent)
        address = urlsplit(space.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        connection.putrequest("POST", "/gradio_api/upload")
        for name, value in {**headers, **kind}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    nobody = {"X-Forwarded-For": "8.8.8.3"}
    assert upload(nobody, 60_000_000)[0] == 429
    assert upload(nobody, 100_000, sent=None)[0] == 200
    dan = visitor(space.url, "8.8.8.4")
    status, said = upload(dan, 500_000_000)
    assert status == 429 and "as one visitor may in an hour" in said
    assert upload(dan, 100_000, sent=None)[0] == 200


def test_what_is_no_request_is_refused_in_a_sentence(space):
    eva = visitor(space.url, "8.8.8.5")
    for path in ("queue/join", "run/predict", "call/preview", "api/x"):
        for body in (
            b"{", b"", b"[]", b"\xff", b"[" * 100_000, b'{"data": ' + b"9" * 5000 + b"}", b'{"data": "x"}',
            b'{"data": [], "session_hash": 7}', b'{"data": [], "session_hash": "../x"}',
            b'{"data": [], "fn_index": -1, "session_hash": "a"}',
        ):  # fmt: skip
            status, said, _ = ask(space.url, f"/gradio_api/{path}", body, eva, "POST")
            assert status == 400 and "makes no sense" in said, (path, body[:40], said)
    status, said, _ = ask(space.url, "/gradio_api/queue/join", b" " * 4_100_000, eva, "POST")
    assert status == 413
    status, said, _ = ask(space.url, "/gradio_api/queue/join", {"data": [], "fn_index": 9999, "session_hash": "a"}, eva)
    assert status in (400, 422), said


@pytest.mark.parametrize("seed", [10**399, 10**30, -1, 1.5, "x", None, [], float("nan"), float("inf"), True, 2**32])
def test_odd_numbers_are_refused_in_a_sentence(space, seed):
    fay = visitor(space.url, "8.8.8.6")
    told = preview(space.url, fay, "fay", seed)["output"]["error"]
    assert told.startswith("The seed is") and "from 0 to 4294967295" in told and len(told) < 120


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(["", "x", "../../etc/passwd", "0" * 32, "\0", "\ud800", "[" * 3000, 10**30, 10**399, -1, 1e308]),
    st.floats(),
    st.text(max_size=20),
    st.integers(),
)
VALUES = st.recursive(
    ODD, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3), max_leaves=6
)
TOLD = st.fixed_dictionaries(
    {}, optional={name: VALUES for name in ("index", "value", "act", "name", "text", "id", "kind", "entries", "page")}
)
FUZZED = int(os.environ.get("MMGEN_FUZZED", "60"))
"""Requests; more of them take longer and find more."""


@settings(max_examples=FUZZED, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_every_event_answers_nonsense_in_a_sentence(space, data):
    """Every endpoint and every private event of the page, by the queue and past it."""
    event = data.draw(st.sampled_from(dependencies(space.url)))
    count = len(event["inputs"]) + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
    sent = data.draw(st.lists(VALUES, min_size=max(0, count), max_size=max(0, count)))
    body = {"data": sent, "fn_index": event["id"], "session_hash": "fuzz", "event_data": data.draw(TOLD)}
    if data.draw(st.booleans()):
        status, said, _ = ask(space.url, f"/gradio_api/run/{event['api_name']}", body, space.fuzzer)
        told = json.loads(said)
        assert status in (200, 400, 422, 429, 500), said
        error = None if status == 200 else str(told.get("error") or told.get("detail") or "")
    else:
        status, said, _ = ask(space.url, "/gradio_api/queue/join", body, space.fuzzer)
        assert status in (200, 400, 422), said
        last = completed(listen(space.url, space.fuzzer, "fuzz"))[-1] if status == 200 else {"success": True}
        error = None if last["success"] else str(last["output"].get("error"))
    assert error is None or (error.endswith((".", ")", "]")) and len(error) < 600), error
    for word in ("object has no", "Traceback", "Error(", "not subscriptable", str(space.folder), "/site-packages/"):
        assert word not in said, said


def test_no_traceback_is_in_the_log(space):
    """Of all that was asked above."""
    log = space.log.read_text()
    assert "Traceback" not in log and "Exception" not in log, log[-3000:]


def test_trainings_are_counted_for_an_address(tmp_path, draft, base):
    from mmgen.errors import UserError
    from mmgen.jobs import Jobs
    from mmgen.quota import note_address, quota_of
    from mmgen.training.finetune.settings import FinetuneSettings

    def start(owner: str, address: str) -> None:
        home = tmp_path / "root" / owner
        note_address(home, address)
        Jobs(home, quota_of(owner)).start(draft, base, "x", FinetuneSettings(steps=1))

    for number in range(3):
        start(f"visitor-{number}", "one")
    with pytest.raises(UserError, match="3 trainings that were started from your network wait"):
        start("visitor-3", "one")
    start("visitor-4", "two")
    assert not (tmp_path / "root" / "visitor-3").exists()


def test_who_only_looks_leaves_no_folder(tmp_path, monkeypatch):
    from mmgen.errors import UserError
    from mmgen.services.drafts import DraftService
    from mmgen.ui.web.owner import owner_of

    monkeypatch.setenv("SPACE_ID", NAME)
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "homes"))
    request = SimpleNamespace(session_hash="s", cookies={}, scope={"client": ("8.8.8.8", 1), "headers": []})
    owner, drafts = owner_of(request), DraftService()
    assert drafts.jobs(owner).list() == [] and not drafts.has_draft(owner, "0" * 32)
    for act in ("pause", "stop", "resume", "delete"):
        with pytest.raises(UserError, match="not there any more"):
            getattr(drafts.jobs(owner), act)("20260101-000000-00000000")
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [".key"]
    drafts.new_draft(owner)
    assert owner_of(request) == owner and (tmp_path / "homes" / owner / ".address").read_text()
    assert "8.8.8.8" not in (tmp_path / "homes" / owner / ".address").read_text()
