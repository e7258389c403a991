"""Let 1, 8 and 32 people draw at once with the real client, and print how many pictures come and how long each takes.

    python benchmarks/load.py [--checkpoint FOLDER] [--people 1 8 32] [--seconds 60]

It serves a checkpoint on the loopback address, as at home; every person is a `gradio_client` that changes the seed as a
slider does, waits for the picture, and changes it again. Beside the pictures a second and the waiting times stand the
server's memory, its files in the cache and their bytes at the end of each round: they should not grow from the second
round on.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attack import Server, serve  # noqa: E402
from gradio_client import Client  # noqa: E402


def people_draw(server: Server, people: int, seconds: float) -> tuple[list[float], int]:
    """How long each picture took, in seconds, and how many did not come."""
    address = f"http://127.0.0.1:{server.port}/"
    clients = [Client(address, verbose=False, analytics_enabled=False, download_files=False) for _ in range(people)]
    waited: list[float] = []
    lost, until = [0], time.monotonic() + seconds

    def draw(number: int, client: Client) -> None:
        for step in itertools.count():
            start = time.monotonic()
            if start > until:
                return
            try:
                client.predict(prompt=f"a red apple {number}", seed=step, api_name="/preview")
                waited.append(time.monotonic() - start)
            except Exception as error:  # Whatever the client makes of an answer.
                lost[0] += 1
                sys.stderr.write(f"{type(error).__name__}: {error}\n")

    threads = [threading.Thread(target=draw, args=one) for one in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    return sorted(waited) or [float("nan")], lost[0]


def memory(pid: int) -> float:
    """Resident memory of a process in MB, where the system tells it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return float("nan")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def main() -> int:
    """Print a line for each number of people."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: that of the page)")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 8, 32], help="a round each (default: 1 8 32)")
    parser.add_argument("--seconds", type=float, default=60, help="of each round (default: %(default)g)")
    parser.add_argument("--start-seconds", type=float, default=300, help="to wait for the page (default: %(default)g)")
    asked = parser.parse_args()
    print("people  pictures/s     p50     p95     p99    lost  memory MB   files  their MB")
    given = (asked.checkpoint, asked.start_seconds)
    with tempfile.TemporaryDirectory() as scratch, serve(Path(scratch), *given, space=False) as server:
        for people in asked.people:
            waited, lost = people_draw(server, people, asked.seconds)
            files = [file.stat().st_size for file in (Path(scratch) / "cache").rglob("*") if file.is_file()]
            p50, p95, p99 = (waited[min(len(waited) - 1, int(share * len(waited)))] for share in (0.5, 0.95, 0.99))
            print(
                f"{people:6} {len(waited) / asked.seconds:11.2f} {p50:6.2f}s {p95:6.2f}s {p99:6.2f}s {lost:7} "
                f"{memory(server.pid):10.0f} {len(files):7} {sum(files) / 1e6:9.1f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
