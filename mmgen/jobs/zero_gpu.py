"""Training on ZeroGPU, where a Space is lent a GPU only while a decorated function runs.

The function runs in a process that is forked for it and that alone is let at the GPU, for the seconds asked for and on
the daily allowance of whoever asks. So a job's process is started in there and waited for, in a thread of the studio,
which holds the job's locks meanwhile. Where that is refused, the job trains on the CPU. Pictures are drawn on the CPU
all the time. ZeroGPU itself has not been at hand to try this on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import mmgen
from mmgen.jobs.job import Job
from mmgen.space import on_zero_gpu, without_secrets
from mmgen.training.common.control import status

_LOADING = 60  # Seconds around the training itself.
_STEPS_SECONDS = 300  # Asked for where only the number of steps is known.


def _seconds(command: list[str], output: str, seconds: int) -> int:
    return seconds


def _train(command: list[str], output: str, seconds: int) -> None:
    """Run a job's process to its end, with what it says going to a file."""
    # To the process the GPU is like any other, and what stands in for torch in the studio is not there.
    environment = {name: value for name, value in without_secrets(os.environ).items() if name != "SPACES_ZERO_GPU"}
    with open(output, "ab") as told:
        subprocess.run(
            command,
            cwd=Path(mmgen.__file__).resolve().parent.parent,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
        )


_train_on_gpu = _train
if on_zero_gpu():  # It wants to see such a function before the page opens.
    import spaces

    _train_on_gpu = spaces.GPU(duration=_seconds)(_train)


class GpuTraining(threading.Thread):
    """A job that trains in such a function.

    Args:
        locks: numbers of open, locked files, which are unlocked when it has ended.
    """

    def __init__(self, job: Job, command: list[str], locks: tuple[int, ...]):
        super().__init__(name=f"training {job.id}", daemon=True)
        minutes = job.settings.minutes
        seconds = _STEPS_SECONDS if job.settings.steps is not None or minutes is None else round(60 * minutes)
        self._asked = (command, str(job.folder / "output.txt"), seconds + _LOADING)
        self._job, self._locks = job, [os.dup(lock) for lock in locks]
        self.start()

    def poll(self) -> int | None:
        """As that of `subprocess.Popen`: None while it trains."""
        return None if self.is_alive() else 0

    def run(self) -> None:
        """Train, in the thread."""
        try:
            try:
                _train_on_gpu(*self._asked)
            except Exception as error:  # Too long, the allowance used up, or whatever else keeps the GPU away.
                if status(self._job.run).get("state") != "starting":
                    raise  # The time was over: it can be resumed from its last saved state.
                sys.stderr.write(f"mmgen: no GPU for job {self._job.id} ({type(error).__name__}): it takes the CPU\n")
                _train(*self._asked)
        finally:
            import fcntl  # Not on Windows, where there are no jobs.

            for lock in self._locks:
                fcntl.flock(lock, fcntl.LOCK_UN)  # Closing is not enough: the forked process has it open, too.
                os.close(lock)
