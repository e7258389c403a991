"""What `run.sh` runs there: make the data, train by `mmgen train default`, and write the result again and again.

    python -m mmgen.bundle.remote WORK OUTPUT SECONDS BEGUN

The training is a process of its own; whatever happens to it, what it has made so far and its log are written.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from mmgen.bundle.pack import OPTIONS, unpack_encoders
from mmgen.bundle.result import collect, deliver
from mmgen.datasets.emoji import build_emoji

EVERY = 120.0
"""Seconds between results."""

RESERVE = 40.0
"""Seconds at the end for the last checkpoint, sheet and result; of a short time a quarter."""

SHOWN = 48


def main(work: Path, output: Path, seconds: float, begun: float) -> int:
    """Train until `seconds` after `begun` (seconds since 1970), and return the training's exit status."""

    def say(words: str) -> None:
        print(f"[{time.time() - begun:5.0f} s] {words}", flush=True)

    end = begun + seconds
    reserve = min(RESERVE, seconds / 4)
    say("unpacked; making the data")
    unpack_encoders(work / "encoders")
    sources = sorted((work / "data").iterdir())
    for source in sources:
        if (source / "packages").is_dir():
            counts = build_emoji(source)
            say(f"{counts.total()} pictures in {source}")

    run = work / "train" / "gan"
    options = ["--output", work / "train", "--cache", work / "cache", "--captioner-share", 0]
    options += ["--encoders", work / "encoders", "--autoencoder", work / "autoencoder"]
    options += [word for source in sources for word in ("--data", source)]
    options += ["--base", work / "base"] if (work / "base").is_dir() else []
    options += ["--minutes", f"{seconds / 60:.4f}", "--deadline", f"{end - reserve:.0f}", "--save-minutes", 1000]
    options += ["--log-with", "none", "--sample-minutes", 2, *json.loads((work / OPTIONS).read_text())]
    command = [sys.executable, "-m", "mmgen", "train", "default", *(str(word) for word in options)]
    say(shlex.join(command))
    log = work / "train.log"
    training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    echo = threading.Thread(target=_echo, args=(training.stdout, log), daemon=True)
    echo.start()

    number, next_time = 0, begun + EVERY

    def write(*more: Path) -> None:
        nonlocal number
        number += 1
        with tempfile.TemporaryDirectory() as place:
            try:
                has_weights = collect(run, work / "autoencoder", [log, *more], Path(place))
            except OSError as error:  # The checkpoint was just being replaced.
                say(f"no result this time: {error}")
                return
            parts = deliver(Path(place), output, number)
        size = sum(part.stat().st_size for part in parts) / 2**20
        say(f"result {number}: {len(parts)} parts, {size:.1f} MiB{'' if has_weights else ', no weights yet'}")

    while training.poll() is None and time.time() < end - reserve / 3:
        time.sleep(0.5)
        if time.time() >= next_time:
            write()
            next_time += EVERY
    if training.poll() is None:
        say("the time is up: the training is told to stop")
        training.send_signal(signal.SIGTERM)
        try:
            training.wait(max(2.0, end - time.time() - 5))
        except subprocess.TimeoutExpired:
            training.kill()
    echo.join(5)
    write()
    sheet = work / "unseen_pairs.png"
    left = end - time.time()
    if (run / "pipeline").is_dir() and left > 5:
        draw = [sys.executable, "-m", "mmgen", "sheet", "--checkpoint", run / "pipeline", "--data", sources[0]]
        draw += ["--split", "unseen_pairs", "--count", SHOWN, "--output", sheet]
        try:
            subprocess.run([str(word) for word in draw], timeout=left, capture_output=True)
        except subprocess.TimeoutExpired:
            say("there was no time for the sheet of unseen pairs")
        if sheet.is_file():
            write(sheet)
    say(f"over; the training's exit status is {training.returncode}")
    return training.returncode


def _echo(lines: Iterable[str], log: Path) -> None:
    """Pass on what a process says, and keep it."""
    with log.open("w") as file:
        for line in lines:
            print(line, end="", flush=True)
            file.write(line)
            file.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
