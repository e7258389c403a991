"""kill -9 at random moments, twenty times, of the training and of the studio: nothing saved is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from creatures import NAMES, write_creatures
from killed import newest

from mmgen.checkpoints import load_pipeline
from mmgen.data.draft import Draft
from mmgen.jobs import Jobs
from mmgen.training.common.control import status
from mmgen.training.finetune.settings import FinetuneSettings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return write_creatures(tmp_path_factory.mktemp("pairs"), NAMES[:4], size=48)


def test_eighteen_kills_of_the_training(tiny_checkpoint, pairs, tmp_path):
    output = tmp_path / "run"
    command = ["finetune", "--data", str(pairs), "--base", str(tiny_checkpoint), "--output", str(output), "--resume"]
    command += ["--steps", "1000000", "--save-minutes", "0.002", "--batch-size", "4", "--no-tune-autoencoder"]
    script = [sys.executable, str(ROOT / "tests" / "killed.py"), "18", "7", *command]
    done = subprocess.run(
        script, capture_output=True, text=True, timeout=300, env={**os.environ, "MALLOC_TOP_PAD_": "0"}
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "killed 18 times" in done.stdout and status(output)["state"] == "done"
    load_pipeline(output / "pipeline")
    steps = [int(line.split(",")[0]) for line in (output / "log.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps)) and steps[-1] >= status(output)["step"] - 2
    json.loads((output / "config.json").read_text())


def test_two_kills_of_the_studio_and_its_job(tiny_checkpoint, pairs, tmp_path):
    """The studio alone is killed: the job trains on. Both are: after a restart the job is there to be resumed."""
    rng = random.Random(3)
    home = tmp_path / "home" / "local"
    home.mkdir(parents=True)
    draft = Draft(home / "drafts" / "one")
    draft.add_folder(pairs)
    jobs = Jobs(home)
    settings = FinetuneSettings(minutes=60, tune_autoencoder=False)
    job = jobs.start(draft, tiny_checkpoint, "creatures", settings).id
    reached = 0
    for number in range(2):
        studio = open_studio(tiny_checkpoint, tmp_path)
        try:
            wait_until_it_moves(jobs, job, studio)
            time.sleep(rng.uniform(0, 1))
        finally:
            studio.send_signal(signal.SIGKILL)
            studio.wait()
        if number % 2:
            wait_until_it_moves(jobs, job)  # It outlives the studio.
        subprocess.run(["pkill", "-KILL", "-f", str(jobs.get(job).run)], check=True)
        wait(lambda: not jobs.get(job).is_alive)
        assert jobs.get(job).state == "interrupted"
        saved = newest(jobs.get(job).run)
        assert saved >= reached
        reached = saved
        jobs.resume(job)
    studio = open_studio(tiny_checkpoint, tmp_path)
    try:
        wait_until_it_moves(jobs, job, studio)
        jobs.stop(job)
        wait(lambda: jobs.get(job).state == "stopped", studio)
    finally:
        studio.kill()
        studio.wait()
        subprocess.run(["pkill", "-KILL", "-f", str(jobs.get(job).run)])
    load_pipeline(jobs.get(job).result)


def wait_until_it_moves(jobs: Jobs, job: str, studio: subprocess.Popen | None = None) -> None:
    wait(lambda: status(jobs.get(job).run).get("state") == "running", studio)
    old = jobs.get(job).status.get("step")
    wait(lambda: jobs.get(job).status.get("step") != old, studio)


def open_studio(checkpoint: Path, folder: Path) -> subprocess.Popen:
    """The real app.py, on any free port."""
    environment = {**os.environ, "MMGEN_HOME": str(folder / "home"), "GRADIO_TEMP_DIR": str(folder / "cache")}
    command = [sys.executable, "app.py", "--checkpoint", str(checkpoint), "--port", str(free_port())]
    with open(folder / "studio.txt", "ab") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait(condition, studio: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline and (studio is None or studio.poll() is None)
        time.sleep(0.05)
