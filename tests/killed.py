"""Start fine-tuning, kill it at a random moment, resume, again and again: `killed.py ROUNDS SEED COMMAND...`.

Everything is imported once and each process forked from here, so that a round costs a second and not ten.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mmgen.training.finetune.train  # noqa: E402, F401
from mmgen.cli.main import main  # noqa: E402
from mmgen.training.common.run import CLOCK  # noqa: E402


def start(command: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        code = main(command)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 3
    os._exit(code)


def newest(output: Path) -> int:
    states = sorted(path for path in output.glob("state-*") if (path / CLOCK).is_file())
    return int(states[-1].name.rpartition("-")[2]) if states else 0


if __name__ == "__main__":
    rounds, rng, command = int(sys.argv[1]), random.Random(sys.argv[2]), sys.argv[3:]
    output = Path(command[command.index("--output") + 1])
    reached, cut = 0, 0
    for number in range(rounds):
        child = start(command)
        time.sleep(rng.uniform(0.2, 2.0))
        try:
            os.kill(child, signal.SIGKILL)
        finally:
            _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"round {number}: it ended by itself with {status}")
        cut += 1
        step = newest(output)
        if step < reached:
            sys.exit(f"round {number}: step {reached} was saved and now it is {step}")
        reached = step
    print(f"killed {cut} times, saved step {reached}")
    _, status = os.waitpid(start([word if word != "1000000" else str(reached + 20) for word in command]), 0)
    sys.exit(os.waitstatus_to_exitcode(status))
