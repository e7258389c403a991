"""Strangers on a Space: who owns what, how much of it, in whose turn, and for how long."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_jobs import base, draft, jobs, reaches, running, scheduler, start, until  # noqa: F401
from test_train_page import draw_images

import mmgen.jobs.scheduler as scheduler_module
from mmgen import space
from mmgen.data import hub as hub_data
from mmgen.data.draft import Draft
from mmgen.errors import UserError
from mmgen.home import home, root
from mmgen.io import FileLock
from mmgen.jobs import Jobs, Scheduler, store
from mmgen.jobs.store import queue
from mmgen.jobs.sweep import stop_overtime, sweep_visitors
from mmgen.quota import Quota, disk_use, keep_seconds, quota_of
from mmgen.training.common.control import pending_command, write_status
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.ui.web.files import sweep_cache
from mmgen.ui.web.owner import owner_of
from mmgen.ui.web.visitors import COOKIE

NAME = "ann/studio"


def test_what_lies_in_the_cache_for_long_goes_away(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    old, new = tmp_path / "a" / "old.png", tmp_path / "b" / "new.png"
    for path in (old, new):
        path.parent.mkdir()
        path.write_bytes(b"x")
    for path in (old, old.parent):
        os.utime(path, (1, 1))
    sweep_cache(3600)
    assert not old.exists() and new.exists()
    os.utime(old.parent, (1, 1))
    sweep_cache(3600)
    assert not old.parent.exists() and new.exists()


def test_a_job_is_told_no_secret():
    given = {"HF_TOKEN": "1", "OAUTH_CLIENT_SECRET": "2", "HF_HOME": "3", "PATH": "4"}
    assert space.without_secrets(given) == {"HF_HOME": "3", "PATH": "4"}


def test_data_sets_are_not_read_with_the_login_of_the_space(monkeypatch):
    assert hub_data._token() is None  # The client's own choice: that of whoever is signed in on the machine.
    monkeypatch.setenv("SPACE_ID", NAME)
    assert hub_data._token() is False


def test_the_queue_of_strangers_has_an_end(tmp_path, draft, base, monkeypatch):
    monkeypatch.setattr(store, "MAX_WAITING", 2)
    for number in range(2):
        Jobs(tmp_path / f"visitor-{number}", quota_of("visitor-1")).start(draft, base, "x", FinetuneSettings(steps=1))
    with pytest.raises(UserError, match="2 trainings of others wait already"):
        Jobs(tmp_path / "visitor-2", quota_of("visitor-1")).start(draft, base, "x", FinetuneSettings(steps=1))


@pytest.fixture
def on_space(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("SPACE_ID", NAME)
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "homes"))
    return tmp_path / "homes"


def request(cookie: str = "", user: str = "", session: str | None = None, expires: float = 1e12):
    info = {"oauth_info": {"userinfo": {"sub": user}, "expires_at": expires}} if user else {}
    cookies = {COOKIE: (cookie * 43)[:43]} if cookie else {}
    return SimpleNamespace(session_hash=session, cookies=cookies, scope={"session": info})


def test_an_owner_is_known_by_cookie_by_session_or_by_account(on_space):
    ann = owner_of(request("a"))
    assert owner_of(request("a", session="other")) == ann != owner_of(request("b"))
    assert owner_of(request(session="one")) == owner_of(request(session="one")) != owner_of(request(session="two"))
    assert owner_of(request()) != owner_of(request())
    assert "a" * 20 not in ann and ann != owner_of(request("a", user="1"))

    made = home(owner_of(request("c")))
    assert home(owner_of(request("c", user="7"))) == made  # What was made before signing in stays at hand,
    assert home(owner_of(request("d", user="7"))) == made == home(owner_of(request(session="x", user="7")))
    assert home(owner_of(request("c"))) != made  # but not for whoever sits there after signing out,
    assert home(owner_of(request("c", user="8"))) != made
    assert home(owner_of(request("c", user="7", expires=1))) != made
    (on_space / ".key").write_bytes(b"another machine")
    assert owner_of(request("a")) != ann


def test_a_visitors_pairs_are_limited(tmp_path):
    images = draw_images(tmp_path, 4)
    few = Draft(tmp_path / "one/drafts/x", Quota(pairs=2)).add_images(images)
    assert len(few.names) == 2 and "room for 2 pairs" in few.refused[0]
    disk = disk_use(tmp_path / "one")
    full = Draft(tmp_path / "one/drafts/y", Quota(disk=disk + 500)).add_images(images)
    assert len(full.names) < 4 and "are full. Remove pairs, or delete jobs." in full.refused[0]
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as packed:
        for one in images:
            packed.write(one, one.name)
    with pytest.raises(UserError, match="pairs.zip has .* MB unpacked, too much here"):
        Draft(tmp_path / "one/drafts/z", Quota(disk=disk)).add_archive(tmp_path / "pairs.zip")
    assert quota_of("local") == Quota() and quota_of("visitor-1").disk == quota_of("user-1").disk == 2e9


def test_a_visitors_jobs_are_limited(tmp_path, draft, base):
    quota = Quota(busy=1, jobs=2, minutes=15)
    own = Jobs(tmp_path / "root/visitor-1", quota)
    with pytest.raises(UserError, match="may take 15 minutes here, not 60. Give less"):
        own.start(draft, base, "long", FinetuneSettings(minutes=60))
    first = own.start(draft, base, "first", FinetuneSettings())
    with pytest.raises(UserError, match="“first” trains or waits"):
        own.start(draft, base, "second", FinetuneSettings())
    own.pause(first.id)
    second = own.start(draft, base, "second", FinetuneSettings())
    with pytest.raises(UserError, match="“second” trains or waits"):
        own.resume(first.id)
    own.stop(second.id)
    with pytest.raises(UserError, match="You have 2 jobs, .* Delete one first"):
        own.start(draft, base, "third", FinetuneSettings())
    own.delete(second.id)
    with pytest.raises(UserError, match="MB here are full"):
        Jobs(own.home, replace(quota, disk=10)).start(draft, base, "third", FinetuneSettings())
    assert own.start(draft, base, "third", FinetuneSettings()).state == "queued"


def test_visitors_are_served_in_turn(tmp_path, draft, base):
    ann, ben = (Jobs(tmp_path / "root" / owner) for owner in ("visitor-1", "visitor-2"))
    for name in ("a1", "a2", "a3"):
        ann.start(draft, base, name, FinetuneSettings())
    ben.start(draft, base, "b1", FinetuneSettings())
    names = [job.name for job in queue(tmp_path / "root")]
    assert names == ["a1", "b1", "a2", "a3"]
    ann.serve()
    ann.pause(ann.list()[-1].id)
    assert [job.name for job in queue(tmp_path / "root")] == ["b1", "a2", "a3"]


def test_what_nobody_comes_back_for_goes_away(tmp_path, draft, base, monkeypatch):
    root = tmp_path / "root"
    names = ("visitor-old", "user-old", "visitor-new", "visitor-waits", "visitor-trains", "local", ".gone-visitor-x")
    for name in names:
        Draft(root / name / "drafts/x")
    waits, trains = (Jobs(root / name).start(draft, base, "x", FinetuneSettings()) for name in names[3:5])
    Jobs(root / names[4]).pause(trains.id)
    for name in names:
        if name != "visitor-new":
            os.utime(root / name, (time.time() - 90_000,) * 2)
    monkeypatch.setattr(scheduler_module, "queue", lambda root: [])  # Nothing is to be trained.
    with FileLock(trains.process_lock) as lock:
        assert lock.acquire()
        scheduler = Scheduler(root, keep_seconds=86_400)
        scheduler.start()
        until(lambda: not (root / "user-old").exists() and not list(root.glob(".gone-*")))
        scheduler.close()
        assert {path.name for path in root.iterdir()} == {"visitor-new", "visitor-waits", "visitor-trains", "local"}
        write_status(trains.run, {"state": "training", "seconds": 800})
        stop_overtime(root)
        assert pending_command(trains.run) == "pause"
        Jobs(root / names[4]).resume(trains.id)
        stop_overtime(root)
        assert pending_command(trains.run) is None
        write_status(trains.run, {"state": "training", "seconds": 1000})
        stop_overtime(root)
        assert pending_command(trains.run) == "stop"
    assert waits.state == "queued"
    os.utime(root / names[4], (time.time() - 90_000,) * 2)
    sweep_visitors(root, 86_400)
    assert not (root / "visitor-trains").exists()


def test_a_visit_keeps_a_folder(on_space):
    folder = home(owner_of(request("a")))
    os.utime(folder, (1, 1))
    owner_of(request("a"))
    sweep_visitors(root(), 60)
    assert folder.exists()


def test_storage_that_lasts_is_used(monkeypatch, tmp_path, on_space):
    monkeypatch.delenv("MMGEN_HOME")
    monkeypatch.setattr(space, "STORAGE", tmp_path / "data")
    assert root() == Path.home() / ".mmgen" and keep_seconds() == 86_400
    (tmp_path / "data").mkdir()
    assert root() == tmp_path / "data/mmgen" and keep_seconds() == 7 * 86_400
    monkeypatch.delenv("SPACE_ID")
    assert root() == Path.home() / ".mmgen" and keep_seconds() is None


def test_a_training_lent_a_gpu_holds_its_locks_and_gives_them_back(monkeypatch, jobs, start, running, base):
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    first, second = start("deaf"), start()
    until(lambda: f"training {first.id}" in {thread.name for thread in threading.enumerate()})
    until(lambda: first.is_alive)
    assert jobs.get(second.id).state == "queued"
    (first.run / "let-go").touch()
    reaches(jobs, second, "done")
    until(lambda: not first.is_alive and not second.is_alive)
