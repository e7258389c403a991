"""Jobs in processes of their own: queue, pause, stop, resume, and whatever can be killed at whatever moment."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from mmgen.data.draft import Draft
from mmgen.errors import UserError
from mmgen.io import FileLock
from mmgen.jobs import Job, Jobs, Scheduler
from mmgen.jobs import command as command_module
from mmgen.jobs import scheduler as scheduler_module
from mmgen.jobs.store import write_job
from mmgen.training.common.control import (
    is_alive,
    pending_command,
    send,
    status,
    write_status,
)
from mmgen.training.finetune.settings import FinetuneSettings

TESTS = Path(__file__).resolve().parent
PROGRAM = [sys.executable, str(TESTS / "stand_in.py")]


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def draft(tmp_path) -> Draft:
    images = []
    for name in ("one.png", "two.png"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / name)
        images.append(tmp_path / name)
    draft = Draft(tmp_path / "draft")
    draft.add_images(images, ["a red square", "紅色"])
    return draft


@pytest.fixture
def jobs(tmp_path) -> Jobs:
    return Jobs(tmp_path / "root" / "local")


@pytest.fixture
def start(jobs, draft, base) -> Callable[..., Job]:
    """Queue a job that behaves as the words say."""

    def start(*words: str, owner: Jobs = jobs, name: str = "mine", steps: int = 5) -> Job:
        return owner.start(draft, base, name, FinetuneSettings(steps=steps, watch=list(words)))

    return start


@pytest.fixture
def scheduler(tmp_path, jobs, monkeypatch) -> Iterator[Scheduler]:
    """Not started yet. When the test ends it is closed, and so is every job."""
    monkeypatch.setattr(command_module, "PROGRAM", PROGRAM)
    monkeypatch.setattr(scheduler_module, "_POLL_SECONDS", 0.05)
    scheduler = Scheduler(tmp_path / "root")
    yield scheduler
    if scheduler._thread.is_alive():
        scheduler.close()
    for owner in (tmp_path / "root").glob("*/jobs"):
        for job in Jobs(owner.parent).list():
            (job.run / "let-go").touch()
            if job.is_alive:
                send(job.run, "stop")
            until(lambda job=job: not job.is_alive)


@pytest.fixture
def running(scheduler) -> Scheduler:
    scheduler.start()
    return scheduler


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it never came to pass")
        time.sleep(0.02)


def reaches(jobs: Jobs, job: Job, state: str) -> None:
    """Wait for a state; a job that failed instead says why."""
    until(lambda: jobs.get(job.id).state in (state, "failed"))
    found = jobs.get(job.id)
    assert found.state == state, found.error


def trains(jobs: Jobs, job: Job, step: int = 2) -> None:
    """Wait until it has taken a step."""
    until(lambda: jobs.get(job.id).status.get("step", 0) >= step or jobs.get(job.id).state == "failed")
    assert jobs.get(job.id).state == "running", jobs.get(job.id).error


def kill(job: Job) -> None:
    """Kill a job's process as the system would, without a word."""
    os.killpg(int((job.run / "session.txt").read_text()), signal.SIGKILL)
    until(lambda: not job.is_alive)


def diary(jobs: Jobs) -> list[str]:
    return (jobs.home.parent / "diary.txt").read_text().splitlines()


def test_a_job_trains_to_its_end_on_the_pairs_as_they_were(jobs, start, draft, running, tmp_path):
    job = start(name="  my\n 貓  ")
    draft.clear()
    reaches(jobs, job, "done")
    job = jobs.get(job.id)
    assert job.name == "my 貓" and job.error is None and job.queued_at is None
    assert sorted(path.name for path in (job.folder / "pairs" / "pictures").iterdir()) == ["one.png", "two.png"]
    assert "紅色" in (job.folder / "pairs" / "metadata.jsonl").read_text(encoding="utf-8")
    assert [row["step"] for row in job.log()] == [1, 2, 3, 4, 5] and job.log()[0]["images"] == 4
    assert job.log(job.log()[2]["time"]) == job.log()[3:]
    assert job.status["step"] == 5 and job.result == job.run / "pipeline"
    assert jobs.position(job.id) is None
    packed = zipfile.ZipFile(jobs.export(job.id, tmp_path / "cat.zip"))
    assert packed.namelist() == ["cat/model_index.json"]
    with pytest.raises(UserError, match="is done"):
        jobs.resume(job.id)
    with pytest.raises(UserError, match="nothing to pause"):
        jobs.pause(job.id)
    jobs.stop(job.id)
    assert jobs.get(job.id).state == "done"


def test_pause_resume_stop(jobs, start, running, tmp_path):
    job = start("endless")
    trains(jobs, job)
    for refused in (jobs.delete, jobs.resume, lambda job_id: jobs.export(job_id, tmp_path / "x.zip")):
        with pytest.raises(UserError, match="in use|still training"):
            refused(job.id)
    jobs.pause(job.id)
    reaches(jobs, job, "paused")
    assert not (tmp_path / "x.zip").exists()
    with pytest.raises(UserError, match="no result yet"):
        jobs.export(job.id, tmp_path / "x.zip")
    step = status(job.run)["step"]
    jobs.resume(job.id)
    trains(jobs, job, step + 1)
    jobs.stop(job.id)
    reaches(jobs, job, "stopped")
    assert [row["step"] for row in job.log()] == list(range(1, job.log()[-1]["step"] + 1))
    assert job.result
    jobs.rename(job.id, "<b>another</b>")
    assert jobs.get(job.id).name == "<b>another</b>"
    jobs.delete(job.id)
    assert jobs.list() == [] and sorted(path.name for path in jobs.folder.iterdir()) == ["lock"]
    with pytest.raises(UserError, match="not there any more"):
        jobs.get(job.id)


def test_one_at_a_time_over_all_homes_and_studios(jobs, start, scheduler, tmp_path):
    others = Jobs(tmp_path / "root" / "other")
    first, second, third = start(), start(owner=others), start()
    assert [jobs.position(first.id), others.position(second.id), jobs.position(third.id)] == [1, 2, 3]
    assert [job.id for job in jobs.list()] == sorted((first.id, third.id), key=lambda x: jobs.get(x).created)[::-1]
    rival = Scheduler(tmp_path / "root")
    scheduler.start()
    rival.start()
    try:
        for owner, job in ((jobs, first), (others, second), (jobs, third)):
            reaches(owner, job, "done")
    finally:
        rival.close()
    until(lambda: len(diary(jobs)) == 6)
    assert diary(jobs) == [f"{what} {job.id}" for job in (first, second, third) for what in ("begin", "end")]


def test_a_job_outlives_the_studio_and_is_found_again(jobs, start, scheduler, tmp_path):
    code = (
        f"import sys, time; sys.path.insert(0, {str(TESTS.parent)!r})\n"
        "from mmgen.jobs import Scheduler, command\n"
        f"command.PROGRAM = {PROGRAM!r}\n"
        f"Scheduler({str(tmp_path / 'root')!r}).start(); time.sleep(600)"
    )
    job, waiting = start("endless"), start()
    studio = subprocess.Popen([sys.executable, "-c", code])
    try:
        trains(jobs, job)
    finally:
        studio.kill()
        studio.wait()
    step = status(job.run)["step"]
    scheduler.start()
    trains(jobs, job, step + 5)
    assert jobs.get(waiting.id).state == "queued" and jobs.position(waiting.id) == 1
    jobs.stop(job.id)
    reaches(jobs, job, "stopped")
    reaches(jobs, waiting, "done")


def test_a_killed_job_is_interrupted_and_goes_on(jobs, start, running):
    job = start("endless")
    trains(jobs, job)
    kill(job)
    found = jobs.get(job.id)
    assert found.state == "interrupted" and "Resume" in found.error and not is_alive(job.run)
    step = status(job.run)["step"]
    jobs.resume(job.id)
    trains(jobs, job, step + 2)
    kill(job)
    jobs.stop(job.id)
    assert jobs.get(job.id).state == "stopped"
    jobs.delete(job.id)


@pytest.mark.parametrize(
    ("word", "state", "words"),
    [
        ("refuse", "failed", "There is no checkpoint at /gone. Give a folder that holds model_index.json."),
        ("broken", "failed", "No module named 'torch'"),
        ("vanish", "interrupted", "was cut off"),
        ("full", "failed", "The disk is full"),
    ],
)
def test_what_ends_badly_says_so_and_lets_the_next_one_start(jobs, start, running, word, state, words):
    job, following = start(word), start()
    reaches(jobs, following, "done")
    job = jobs.get(job.id)
    assert job.state == state and words in job.error and job.result is None
    jobs.resume(job.id)
    until(lambda: diary(jobs).count(f"begin {job.id}") == 2 and jobs.get(job.id).state == state)


def test_only_the_locks_are_inherited(jobs, start, running):
    job = start("endless")
    trains(jobs, job)
    assert int((job.run / "session.txt").read_text()) != os.getsid(0)
    if Path("/proc/self/fd").exists():
        root_folder = jobs.home.parent
        inherited = {Path(line) for line in (job.run / "open.txt").read_text().splitlines()}
        own = {job.folder / "output.txt", job.run / "lock", Path("/dev/null")}
        inherited = {path for path in inherited - own if "/proc/" not in str(path)}
        assert inherited == {root_folder / "training.lock", job.process_lock}


def test_a_process_that_is_just_ending(jobs, start, running, monkeypatch):
    monkeypatch.setattr("mmgen.jobs.store._ENDING_SECONDS", 0.1)
    job, following = start("linger"), start()
    reaches(jobs, job, "done")
    assert jobs.get(job.id).is_alive and jobs.get(following.id).state == "queued"
    with pytest.raises(UserError, match="in use"):
        jobs.delete(job.id)
    (job.run / "let-go").touch()
    reaches(jobs, following, "done")
    jobs.delete(job.id)


def test_commands_in_quick_succession(jobs, start, running):
    job = start("endless", "deaf")
    trains(jobs, job)
    jobs.pause(job.id)
    jobs.resume(job.id)  # It has not heard, so the pause is taken back.
    assert pending_command(job.run) is None and jobs.get(job.id).queued_at is None
    jobs.pause(job.id)
    jobs.stop(job.id)
    jobs.pause(job.id)
    (job.run / "let-go").touch()
    reaches(jobs, job, "stopped")


def test_a_command_that_comes_too_late_is_kept_in_mind_but_never_obeyed_twice(jobs, start, scheduler):
    job = start()
    write_status(job.run, {"state": "paused"})
    write_job(Job(**{**vars(job), "queued_at": None}))
    send(job.run, "stop")  # As if the process had taken away the pause, and was ending.
    assert jobs.get(job.id).state == "stopped"
    jobs.resume(job.id)
    assert jobs.get(job.id).state == "queued" and pending_command(job.run) is None
    send(job.run, "stop")
    scheduler.start()
    reaches(jobs, job, "done")


def test_what_waits_can_be_paused_stopped_and_deleted(jobs, start, scheduler):
    paused, stopped, deleted = start(), start(), start()
    jobs.pause(paused.id)
    jobs.stop(stopped.id)
    jobs.delete(deleted.id)
    assert {job.id: job.state for job in jobs.list()} == {paused.id: "paused", stopped.id: "stopped"}
    assert jobs.position(paused.id) is None
    jobs.resume(stopped.id)
    jobs.resume(paused.id)
    assert [jobs.position(stopped.id), jobs.position(paused.id)] == [1, 2]
    scheduler.start()
    reaches(jobs, paused, "done")


def test_the_queue_keeps_its_order_when_the_clock_jumps(jobs, start, monkeypatch):
    first = start()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e6)
    second = start()
    assert [jobs.position(first.id), jobs.position(second.id)] == [1, 2]


@pytest.mark.parametrize("line", ["status, then killed", "out of the queue, then killed"])
def test_a_studio_killed_while_it_starts_a_job(jobs, start, scheduler, line):
    job = start()
    write_status(job.run, {"state": "starting"})
    if line.startswith("out"):
        write_job(Job(**{**vars(job), "queued_at": None}))
        assert jobs.get(job.id).state == "interrupted"
        jobs.resume(job.id)
    assert jobs.get(job.id).state == "queued"
    scheduler.start()
    reaches(jobs, job, "done")


def test_what_a_crash_left_is_swept_and_what_is_at_work_is_not(jobs, start, scheduler):
    job = start()
    for name in (".new-a", ".new-b", ".deleted-c"):
        (jobs.folder / name / "pairs").mkdir(parents=True)
    with FileLock(jobs.folder / ".new-b" / "process.lock") as lock:
        assert lock.acquire()
        assert [found.id for found in jobs.list()] == [job.id]
        scheduler.start()
        reaches(jobs, job, "done")
        assert sorted(path.name for path in jobs.folder.iterdir()) == [".new-b", job.id, "lock"]


def test_a_job_that_cannot_be_is_refused_in_a_sentence(jobs, draft, base, tmp_path):
    for settings, words in (
        (FinetuneSettings(preset="all"), "no preset 'all'"),
        (FinetuneSettings(minutes=None), "how long"),
        (FinetuneSettings(minutes=float("nan")), "how long"),
        (FinetuneSettings(steps=0), "at least 1"),
        (FinetuneSettings(prior=1.0), "0 to 0.9"),
        (FinetuneSettings(seed=-1), "Give 0 to"),
    ):
        with pytest.raises(UserError, match=words):
            jobs.start(draft, base, "x", settings)
    with pytest.raises(UserError, match="no name"):
        jobs.start(draft, base, " \n\u200b", FinetuneSettings())
    with pytest.raises(UserError, match="no checkpoint"):
        jobs.start(draft, tmp_path / "gone", "x", FinetuneSettings())
    draft.clear()
    with pytest.raises(UserError, match="no pairs"):
        jobs.start(draft, base, "x", FinetuneSettings())
    assert [path.name for path in jobs.folder.iterdir()] == ["lock"]
    for job_id in ("../../x", "", "20260101-000000-abcdef12"):
        with pytest.raises(UserError, match="not there"):
            jobs.get(job_id)


def test_a_full_disk_is_a_sentence_and_leaves_the_job_as_it_was(jobs, start, monkeypatch):
    job = start()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="disk is full"):
        jobs.rename(job.id, "another")
    with pytest.raises(UserError, match="disk is full"):
        start()
    monkeypatch.undo()
    assert [(found.name, found.state) for found in jobs.list()] == [("mine", "queued")]
    assert not list(jobs.folder.rglob("*.part")) and not list(jobs.folder.glob(".new-*"))
