"""`python -m mmgen` many times in one process, which reads commands from its input and answers each with a line.

A line of JSON, {"argv": [...], "code": null, "environment": {...}}, is a command, or instead of it Python code; the
answer is {"status", "output"}.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class LongLived:
    """The process, from `with` to its end.

    Args:
        environment: of the process, beside what this one has.
    """

    def __init__(self, environment: dict[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told: list[str] = []

    def __enter__(self) -> LongLived:
        return self

    def __exit__(self, *error) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)

    def __call__(self, *argv: object, **environment: str) -> tuple[int, str]:
        """Run one command; its exit status and all that it printed, which `told` keeps."""
        return self._ask([str(word) for word in argv], None, environment)

    def python(self, code: str, **environment: str) -> tuple[int, str]:
        """Run Python code there; 0 or, if it raised, 70, and all that it printed."""
        return self._ask([], code, environment)

    def _ask(self, argv: list[str], code: str | None, environment: dict[str, str]) -> tuple[int, str]:
        line = json.dumps({"argv": argv, "code": code, "environment": environment})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.told.append(answer["output"])
        return answer["status"], answer["output"]


def serve() -> None:
    """Answer until the input ends."""
    sys.path.insert(0, str(ROOT))
    from mmgen.cli.main import main

    answers = sys.stdout
    for line in sys.stdin:
        command = json.loads(line)
        before = {name: os.environ.get(name) for name in command["environment"]}
        os.environ.update(command["environment"])
        with io.StringIO() as output, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                status = exec(command["code"], {}) or 0 if command["code"] else main(command["argv"])
            except SystemExit as error:
                status = error.code
            except BaseException:
                status = 70
                traceback.print_exc()
            answer = {"status": status, "output": output.getvalue()}
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
