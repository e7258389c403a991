"""One job, as its folder tells of it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from mmgen.io import is_locked
from mmgen.training.common.control import DISK_FULL, is_alive, pending_command, status
from mmgen.training.finetune.settings import FinetuneSettings

ENDED = ("paused", "stopped", "done", "failed")

_LITTLE_ROOM = 1_000_000  # Bytes; below this not even a status may fit.
_NO_ROOM = "The disk is full. It starts when there is room."
_CUT_OFF = "The training was cut off. Resume goes on from the last saved state."
_ERROR = re.compile(r"mmgen: (?!stopped\.)(.+)|python -m mmgen.*: error: (.+)|((?:\w+\.)*\w*(?:Error|Exception)\b.*)")
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Job:
    """A fine-tuning. What is kept in job.json is that of the moment it was read; all else is read when asked for.

    Attributes:
        created: seconds since 1970.
        base: folder of the checkpoint that it starts from.
        folder: holds job.json, pairs/, output.txt and run/.
        queued_at: orders the queue; None if it does not wait in it.
    """

    id: str
    name: str
    created: float
    base: Path
    settings: FinetuneSettings
    folder: Path
    queued_at: float | None = None

    @property
    def run(self) -> Path:
        """Folder of the training run."""
        return self.folder / "run"

    @property
    def process_lock(self) -> Path:
        """File that is locked from before the job's process starts until it has ended."""
        return self.folder / "process.lock"

    @property
    def is_alive(self) -> bool:
        """Whether a process trains it, or is just starting or ending."""
        return is_locked(self.process_lock) or is_alive(self.run)

    @property
    def state(self) -> str:
        """`queued`, `running`, `paused`, `stopped`, `done`, `failed` or `interrupted`."""
        return self._outcome()[0]

    @property
    def error(self) -> str | None:
        """One sentence about what keeps it from going on, if anything does."""
        return self._outcome()[1]

    @property
    def status(self) -> dict:
        """What the training last reported; see `mmgen.training.common.control`."""
        return status(self.run)

    @property
    def result(self) -> Path | None:
        """Folder of the new checkpoint, if there is one, whole."""
        # The second is there alone if the process was killed while it replaced an older result.
        folders = (self.run / "pipeline", self.run / "pipeline.old")
        return next((folder for folder in folders if (folder / "model_index.json").is_file()), None)

    @property
    def samples(self) -> list[Path]:
        """Sample sheets, oldest first, but for one that is being written."""
        return [path for path in sorted(self.run.glob("samples/*.png")) if _is_whole(path)]

    def log(self, last_time: float | None = None) -> list[dict[str, float]]:
        """Lines of the log: numbers by column name, `step` and `images` whole.

        Args:
            last_time: give only the lines whose `time` is later.
        """
        try:
            text = (self.run / "log.csv").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        lines = text[: text.rfind("\n") + 1].splitlines()  # The last one may be half written.
        rows = []
        for cells in csv.DictReader(lines):
            try:
                row = {name: float(cell) for name, cell in cells.items()}
                row.update(step=int(row["step"]), images=int(row["images"]))
                if last_time is None or row["time"] > last_time:
                    rows.append(row)
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
        return rows

    def _outcome(self) -> tuple[str, str | None]:
        """State and error, told from what is on the disk now."""
        alive = self.is_alive  # Asked first: what a process says last, it says before it ends.
        said = self.status
        state = said.get("state")
        if alive and state not in ENDED:
            return "running", None
        if self.queued_at is not None:
            return "queued", _NO_ROOM if self._is_out_of_room() else None
        asked = pending_command(self.run)
        if state not in ENDED:
            return self._cut_off(asked)
        if state == "failed":
            return "failed", str(said.get("error") or self._last_words() or _CUT_OFF)
        return ("stopped" if (state, asked) == ("paused", "stop") else state), None

    def _cut_off(self, asked: str | None) -> tuple[str, str | None]:
        """State and error of a process that ended without a word, or was never started."""
        words = self._last_words()
        if words:
            return "failed", words
        if asked:
            return {"pause": "paused", "stop": "stopped"}[asked], None
        return "interrupted", DISK_FULL if self._is_out_of_room() else _CUT_OFF

    def _last_words(self) -> str | None:
        """The error in the last line that the process has printed, if it is one."""
        try:
            with open(self.folder / "output.txt", "rb") as output:
                output.seek(max(0, output.seek(0, 2) - 10_000))
                lines = re.split(r"[\r\n]+", output.read().decode("utf-8", "replace"))
        except OSError:
            return None
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        found = _ERROR.fullmatch(last)
        if not found:
            return None
        if "No space left on device" in last:
            return DISK_FULL
        sentence, usage, raised = found.groups()
        return sentence or f"The training failed ({usage or raised})."

    def _is_out_of_room(self) -> bool:
        try:
            return shutil.disk_usage(self.folder).free < _LITTLE_ROOM
        except OSError:
            return False


def read_job(folder: Path) -> Job | None:
    """The job in a folder; None if there is none that can be read."""
    try:
        found = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        queued_at = found["queued_at"]
        return Job(
            id=folder.name,
            name=str(found["name"]),
            created=float(found["created"]),
            base=Path(found["base"]),
            settings=FinetuneSettings.from_kept(found["settings"]),
            folder=folder,
            queued_at=None if queued_at is None else float(queued_at),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_whole(image: Path) -> bool:
    try:
        with open(image, "rb") as file:
            file.seek(-len(_PNG_END), 2)
            return file.read() == _PNG_END
    except OSError:
        return False
