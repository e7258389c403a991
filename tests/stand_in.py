"""Stands in for `python -m mmgen finetune`: the same files and manners, but it learns nothing and takes no time.

Words among the prompts to watch make it behave: see `BEHAVIOURS`.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmgen.training.common.control import Control  # noqa: E402

BEHAVIOURS = {
    "endless": "trains until it is told to end",
    "refuse": "ends with a sentence before it takes the lock",
    "broken": "ends with a traceback before it takes the lock",
    "vanish": "is killed before it takes the lock",
    "full": "finds the disk full",
    "linger": "says that it is done, and ends when a file let-go appears in its folder",
    "deaf": "hears no command until a file let-go appears in its folder",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    parser.add_argument("--settings", type=json.loads)
    parser.add_argument("--resume", action="store_true")
    options, _ = parser.parse_known_args()
    words, run = options.settings["watch"], options.output
    options.steps = options.settings["steps"]
    diary = run.parent.parent.parent.parent / "diary.txt"
    with open(diary, "a") as file:
        file.write(f"begin {run.parent.name}\n")
    if "refuse" in words:
        sys.exit("mmgen: There is no checkpoint at /gone. Give a folder that holds model_index.json.")
    if "broken" in words:
        raise ModuleNotFoundError("No module named 'torch'")
    if "vanish" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    with Control(run) as control:
        train(options, words, run, control)
        with open(diary, "a") as file:
            file.write(f"end {run.parent.name}\n")
    while "linger" in words and not (run / "let-go").exists():
        time.sleep(0.02)


def train(options: argparse.Namespace, words: list[str], run: Path, control: Control) -> None:
    if Path("/proc/self/fd").exists():
        links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        (run / "open.txt").write_text("\n".join(links))
    (run / "session.txt").write_text(str(os.getsid(0)))
    states = sorted(run.glob("state-*"))
    step = int(states[-1].name[6:]) if states and options.resume else 0
    control.report(state="running")
    if "full" in words:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    while "endless" in words or step < options.steps:
        step += 1
        new = not (run / "log.csv").exists()
        with open(run / "log.csv", "a") as log:
            log.write("step,images,time,paired\n" * new + f"{step},{4 * step},{time.time():.3f},{1 / step:.6g}\n")
        (run / f"state-{step:08d}").mkdir(exist_ok=True)
        control.report(step=step, steps=options.steps)
        command = None if "deaf" in words and not (run / "let-go").exists() else control.command()
        if command == "pause":
            control.report(state="paused")
            return
        if command == "stop":
            break
        time.sleep(0.02)
    (run / "pipeline").mkdir(exist_ok=True)
    (run / "pipeline" / "model_index.json").write_text("{}")
    control.report(state="stopped" if command == "stop" else "done")


if __name__ == "__main__":
    main()
