"""A person's drafts, what the doctor found in them, and their jobs, whatever the page looks like."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from mmgen.data.draft import Draft, Pair
from mmgen.errors import UserError
from mmgen.evaluation.doctor import Embeddings, Examination, Finding, Progress, apply_fix, examine
from mmgen.home import home
from mmgen.jobs import Jobs
from mmgen.pipeline import DESCRIBED_TOGETHER, MultimodalGANPipeline
from mmgen.quota import quota_of
from mmgen.services.background import KeyedMutex
from mmgen.services.inference import InferenceService

_DRAFT_ID = re.compile(r"[0-9a-f]{32}")
_MAX_KEPT = 64  # Drafts in memory; the others are read from the disk again.
_GONE = "These pairs are not there any more. Add pictures to begin anew."


@dataclass
class Checkup:
    """What the doctor said of a draft, and what has changed since."""

    examination: Examination
    seen: dict[str, str]  # Name -> caption, as the doctor saw them.
    mended: set[str] = field(default_factory=set)

    def problems(self, pair: Pair) -> list[str]:
        """Short sentences about a pair; none once it has changed."""
        return self.examination.problems(pair.name) if self.seen.get(pair.name) == pair.text else []

    def worst(self, pair: Pair) -> str:
        """`error`, `warning` or `ok`."""
        return self.examination.worst(pair.name) if self.seen.get(pair.name) == pair.text else "ok"

    def findings(self) -> list[Finding]:
        """What is still to be looked at."""
        return [finding for finding in self.examination.findings if finding.kind not in self.mended]

    def changed(self, pairs: list[Pair]) -> int:
        """How many pairs are new or have another caption than the doctor saw."""
        return sum(self.seen.get(pair.name) != pair.text for pair in pairs)


class DraftService:
    """Everybody's drafts and jobs; an owner reaches only what is theirs. Threads may share it."""

    def __init__(self) -> None:
        self._drafts: OrderedDict[tuple[str, str], Draft] = OrderedDict()
        self._checkups: OrderedDict[tuple[str, str], Checkup] = OrderedDict()
        self._lock = threading.Lock()
        self._captioning = KeyedMutex()

    def new_draft(self, owner: str) -> str:
        """Make an empty draft, and give its id."""
        draft_id = secrets.token_hex(16)
        self._open(owner, draft_id)
        return draft_id

    def draft(self, owner: str, draft_id: object) -> Draft:
        """A draft by its id.

        Raises:
            UserError: the owner has none of this id.
        """
        if not isinstance(draft_id, str) or not _DRAFT_ID.fullmatch(draft_id):
            raise UserError(_GONE)
        if not (home(owner, make=False) / "drafts" / draft_id / "metadata.jsonl").is_file():
            raise UserError(_GONE)
        return self._open(owner, draft_id)

    def has_draft(self, owner: str, draft_id: object) -> bool:
        """Whether the owner has a draft of this id."""
        try:
            self.draft(owner, draft_id)
        except UserError:
            return False
        return True

    def jobs(self, owner: str) -> Jobs:
        """The owner's jobs."""
        return Jobs(home(owner, make=False), quota_of(owner))

    def check(self, owner: str, draft_id: str, pipe: MultimodalGANPipeline, on_progress: Progress | None) -> Checkup:
        """Let the doctor look at a draft.

        Raises:
            UserError: there is no such draft, or it cannot be read.
        """
        draft = self.draft(owner, draft_id)
        seen = {pair.name: pair.text for pair in draft.pairs}
        found = examine(draft, pipe, on_progress)
        checkup = Checkup(Examination(found.findings, Embeddings()), seen)  # The embeddings are on the disk.
        self._keep(self._checkups, (owner, draft_id), checkup)
        return checkup

    def caption_rest(self, owner: str, draft_id: str, service: InferenceService, tell: Progress) -> tuple[int, int]:
        """Let a model caption the pairs of a draft that have no caption, some at a time.

        Each is kept as it comes, marked as written by a model; what a person types or removes meanwhile stays so.

        Returns:
            How many captions were written, and how many pictures could not be described: transparent all over, or not
            to be read.

        Raises:
            UserError: there is no such draft, it is being captioned already, or the model cannot describe.
        """
        draft = self.draft(owner, draft_id)
        with self._captioning.doing(owner, draft_id, sentence="The captions are being written already. Wait for them."):
            service.check_describes()
            names = [pair.name for pair in draft.pairs if not pair.text]
            written = failed = 0
            for start in range(0, len(names), DESCRIBED_TOGETHER):
                tell(start / len(names), f"{start:,} of {len(names):,} pictures read")
                some = set(names[start : start + DESCRIBED_TOGETHER])
                waiting = [pair for pair in draft.pairs if pair.name in some and not pair.text]
                said = _described(service, waiting)
                written += draft.fill_captions({name: text for name, text in said.items() if text})
                failed += sum(not text for text in said.values())
        return written, failed

    def checkup(self, owner: str, draft_id: str) -> Checkup | None:
        """What the doctor said of a draft the last time, if that is still known."""
        return self._checkups.get((owner, draft_id))

    def apply_fix(self, owner: str, draft_id: str, kind: str) -> None:
        """Do what the button of a finding says.

        Raises:
            UserError: the finding is not known any more, or has no button.
        """
        draft, checkup = self.draft(owner, draft_id), self.checkup(owner, draft_id)
        finding = next((one for one in checkup.findings() if one.kind == kind), None) if checkup else None
        if checkup is None or finding is None:
            raise UserError("This is not known any more. Check the pairs again.")
        before = {pair.name: pair.text for pair in draft.pairs}
        apply_fix(draft, finding)
        checkup.mended.add(kind)
        for pair in draft.pairs:  # What the doctor has changed, the doctor has seen.
            if pair.name in finding.names and checkup.seen.get(pair.name) == before.get(pair.name):
                checkup.seen[pair.name] = pair.text

    def _open(self, owner: str, draft_id: str) -> Draft:
        key = (owner, draft_id)
        with self._lock:
            draft = self._drafts.get(key)
        return self._keep(self._drafts, key, draft or Draft(home(owner) / "drafts" / draft_id, quota_of(owner)))

    def _keep(self, kept: OrderedDict, key: tuple[str, str], value):
        with self._lock:
            kept[key] = value
            kept.move_to_end(key)
            while len(kept) > _MAX_KEPT:
                kept.popitem(last=False)
        return value


def _described(service: InferenceService, pairs: list[Pair]) -> dict[str, str]:
    """Name -> what a model says of each picture, "" where it says nothing; one that cannot be read spoils no other."""
    if not pairs:
        return {}
    try:
        found = service.describe([str(pair.path) for pair in pairs], num_captions=1)
    except UserError:
        if len(pairs) == 1:
            return {pairs[0].name: ""}
        return {name: text for pair in pairs for name, text in _described(service, [pair]).items()}
    return {pair.name: said[0].text if said else "" for pair, said in zip(pairs, found, strict=True)}
