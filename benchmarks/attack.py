"""Attack a studio of one's own as strangers attack a public Space, and print what other visitors notice.

    python benchmarks/attack.py [--checkpoint FOLDER] [--seconds 20]

It serves a checkpoint on the loopback address as a Space would be, lets visitors draw by turns, alone first and then
beside each attack, and prints how long they waited for a picture: the median, the 95th percentile and the longest. What
it sends is bounded, and it asks nobody but the server that it has started.

Attacks: `queue` posts sets without a cookie from a few addresses as fast as they are refused; `cookies` does so with a
new cookie for every post; `large` has a picture of 49 megapixels described twenty times over; `sessions` opens a new
session with every request; `nonsense` sends what is no request.
"""

from __future__ import annotations

import argparse
import http.client
import io
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
MOST = 2000
"""Requests of one attack."""


class Server:
    """The studio as a Space, on the loopback address."""

    def __init__(self, port: int, pid: int):
        self.port, self.pid = port, pid
        self.numbers: dict[str, int] = {}

    def ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None):
        """Send one request; its status, its text and its headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            kind = {"Content-Type": "application/json"} if body is not None else {}
            connection.request("GET" if body is None else "POST", path, body, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), answer.headers
        finally:
            connection.close()

    def visitor(self, address: str) -> dict[str, str]:
        """The headers of who has opened the page from an address."""
        headers = {"X-Forwarded-For": address}
        cookie = self.ask("/config", headers=headers)[2]["set-cookie"]
        return {**headers, "Cookie": cookie.split(";")[0]}

    def join(self, endpoint: str, data: list, session: str, headers: dict[str, str]) -> int:
        """Ask for something; the status."""
        body = {"data": data, "fn_index": self.numbers[endpoint], "session_hash": session}
        return self.ask("/gradio_api/queue/join", json.dumps(body).encode(), headers)[0]

    def preview(self, seed: int, session: str, headers: dict[str, str]) -> bool:
        """Draw one picture; whether it came."""
        data = ["a red apple", "Any", None, None, 1.0, seed, 1.0, "", 1.0, None, None]
        if self.join("preview", data, session, headers) != 200:
            return False
        said = self.ask(f"/gradio_api/queue/data?session_hash={session}", headers=headers)[1]
        return '"success":true' in said.replace(" ", "").rpartition("process_completed")[2]


@contextmanager
def serve(folder: Path, checkpoint: Path | None, start_seconds: float, space: bool = True) -> Iterator[Server]:
    """Run `app.py`, by default as a Space."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"GRADIO_TEMP_DIR": str(folder / "cache"), "MMGEN_HOME": str(folder / "home")}
    environment = {**os.environ, **places, "PYTHONUNBUFFERED": "1", **({"SPACE_ID": "ann/studio"} if space else {})}
    command = [sys.executable, "app.py", "--port", str(port)]
    command += ["--checkpoint", str(checkpoint.absolute())] if checkpoint else []
    with (folder / "log.txt").open("w") as log:
        studio = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    server, end = Server(port, studio.pid), time.monotonic() + start_seconds
    try:
        while True:
            try:
                config = json.loads(server.ask("/config")[1])
                server.numbers = {one["api_name"]: one["id"] for one in config["dependencies"]}
                break
            except OSError:
                if studio.poll() is not None or time.monotonic() > end:
                    raise SystemExit(
                        f"The studio does not start:\n{(folder / 'log.txt').read_text()[-2000:]}"
                    ) from None
                time.sleep(0.5)
        yield server
    finally:
        studio.terminate()
        studio.wait(30)


def flood(server: Server, again: Callable[[], bool], told: Counter, cookies: bool) -> None:
    """Post sets of 16 pictures."""
    for index in itertools.count():
        if not again():
            return
        address = f"9.0.0.{index % 3}"
        headers = server.visitor(address) if cookies else {"X-Forwarded-For": address}
        data = ["x", "Any", None, None, 1.0, index, 1.0, 16, "", 1.0, None, None]
        told[server.join("generate", data, f"flood{index}", headers)] += 1


def large(server: Server, again: Callable[[], bool], told: Counter) -> None:
    """Name a picture of 49 megapixels twenty times."""
    headers, content = server.visitor("9.0.0.9"), io.BytesIO()
    Image.effect_noise((7000, 7000), 64).save(content, "PNG", compress_level=1)
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + content.getvalue()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    status, said, _ = server.ask("/gradio_api/upload", body + b"\r\n--x--\r\n", {**headers, **kind})
    if status != 200:
        told[status] += 1
        return
    file = {"path": json.loads(said)[0], "meta": {"_type": "gradio.FileData"}}
    while again():
        told[server.join("describe", [[file] * 20, 3, ""], "large", headers)] += 1
        server.ask("/gradio_api/queue/data?session_hash=large", headers=headers)


def sessions(server: Server, again: Callable[[], bool], told: Counter) -> None:
    """A new session with every request, from one address."""
    for index in itertools.count():
        if not again():
            return
        body = {"data": [], "fn_index": server.numbers["models"], "session_hash": f"many{index}"}
        told[server.ask("/gradio_api/run/models", json.dumps(body).encode(), {"X-Forwarded-For": "9.0.0.8"})[0]] += 1


def nonsense(server: Server, again: Callable[[], bool], told: Counter) -> None:
    """What no page sends."""
    bodies = (b"[" * 100_000, b"{", b'{"data": ' + b"9" * 5000 + b"}", b'{"data": [], "session_hash": 7}')
    for body in itertools.cycle(bodies):
        if not again():
            return
        told[server.ask("/gradio_api/queue/join", body, {"X-Forwarded-For": "9.0.0.7"})[0]] += 1


ATTACKS: dict[str, Callable[[Server, Callable[[], bool], Counter], None]] = {
    "queue": lambda *given: flood(*given, cookies=False),
    "cookies": lambda *given: flood(*given, cookies=True),
    "large": large,
    "sessions": sessions,
    "nonsense": nonsense,
}


def measure(server: Server, seconds: float, attack: Callable | None, visitors: int = 2) -> tuple[list[float], Counter]:
    """How long visitors waited for each picture, in seconds, and what the attacker was answered, by status."""
    until, told, waited, lost = time.monotonic() + seconds, Counter[int](), list[float](), [0]
    left = itertools.count()

    def again() -> bool:
        return time.monotonic() < until and next(left) < MOST

    def draw(number: int) -> None:
        headers = server.visitor(f"8.8.8.{number}")
        for index in itertools.count():
            start = time.monotonic()
            if start > until:
                return
            came = server.preview(index, f"visitor{number}-{index}", headers)
            waited.append(time.monotonic() - start)
            lost[0] += not came
            time.sleep(0.2)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(visitors)]
    if attack:
        threads.append(threading.Thread(target=attack, args=(server, again, told)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if lost[0]:
        told["pictures that did not come"] = lost[0]  # type: ignore[index]
    return waited, told


def main() -> int:
    """Print a line for each attack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: that of the page)")
    parser.add_argument("--seconds", type=float, default=20, help="of each attack (default: %(default)g)")
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=[*ATTACKS], help="which (default: all)")
    parser.add_argument("--start-seconds", type=float, default=300, help="to wait for the page (default: %(default)g)")
    asked = parser.parse_args()
    print(f"{'attack':10} {'pictures':>8} {'median':>8} {'p95':>8} {'longest':>8}  answers to the attacker")
    given = (asked.checkpoint, asked.start_seconds)
    with tempfile.TemporaryDirectory() as scratch, serve(Path(scratch), *given) as server:
        server.preview(0, "first", server.visitor("8.8.8.9"))
        for name in ("none", *asked.attacks):
            waited, told = measure(server, asked.seconds, ATTACKS.get(name))
            waited = sorted(waited) or [float("nan")]
            p95 = waited[min(len(waited) - 1, int(0.95 * len(waited)))]
            said = ", ".join(f"{key}: {count}" for key, count in sorted(told.items(), key=str))
            figures = f"{statistics.median(waited):7.2f}s {p95:7.2f}s {waited[-1]:7.2f}s"
            print(f"{name:10} {len(waited):8} {figures}  {said}", flush=True)
        log = (Path(scratch) / "log.txt").read_text()
        print(f"tracebacks in the log: {log.count('Traceback')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
