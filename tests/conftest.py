"""Fixtures that several test files share: a tiny checkpoint, and the studio served from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Before anything imports torch: tiny networks gain nothing by threads, and two processes' threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports gradio or its client.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1"

_LEFT_OUT = ("DISPLAY", "WAYLAND_DISPLAY", "SPACE_ID")  # Of this process's environment.


LONGEST = ("checks", "kills", "ranks", "training", "finetune", "bench", "space", "default", "drawn_from", "bundle")
"""Files that take longest, so begun first: the last file runs alone, while the other worker has nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; else everything stays in its order."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """The folder of a saved tiny pipeline."""
    from tiny import tiny_pipeline

    folder = tmp_path_factory.mktemp("tiny-checkpoint")
    tiny_pipeline(folder / "parts").save_pretrained(folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="session")
def page_url(tiny_checkpoint, tmp_path_factory) -> Iterator[str]:
    """Where `python app.py` serves the tiny checkpoint."""
    with serve(tiny_checkpoint, tmp_path_factory.mktemp("studio")) as url:
        yield url


@contextmanager
def serve(checkpoint: Path, folder: Path, **environment: str) -> Iterator[str]:
    """Run `python app.py` on a checkpoint, and give its address.

    Args:
        folder: where it has its `home`, its `cache`, and its `log.txt`.
        environment: of the process, beside what this one has.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    places = {"GRADIO_TEMP_DIR": str(folder / "cache"), "MMGEN_HOME": str(folder / "home")}
    inherited = {key: value for key, value in os.environ.items() if key not in _LEFT_OUT}
    command = [sys.executable, "app.py", "--checkpoint", str(checkpoint), "--port", str(port)]
    with log.open("w") as output:
        studio = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, **places, "PYTHONUNBUFFERED": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait(url, studio, log)
        yield url
    finally:
        studio.terminate()
        try:
            studio.wait(10)
        except subprocess.TimeoutExpired:
            studio.kill()


def _wait(url: str, studio: subprocess.Popen, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and studio.poll() is None:
        try:
            opener.open(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"app.py does not serve {url}:\n{log.read_text()[-3000:]}")
