"""What the lists of the Train tab show, as data that their scripts draw."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from mmgen.data.draft import Draft, Pair
from mmgen.errors import UserError
from mmgen.jobs import Job
from mmgen.services.drafts import Checkup
from mmgen.ui.train.words import facts, place, state_words

PAGE = 20
_ASSETS = Path(__file__).parent.parent / "assets"
_VIEWS = (("all", "All"), ("look", "To look at"), ("empty", "No caption"))


def build_list(script: str, elem_id: str, *classes: str) -> gr.HTML:
    """A list that is drawn by a script of `assets/`; it has the events that the script triggers."""
    return gr.HTML(
        html_template='<div class="list"></div>',
        js_on_load="".join((_ASSETS / name).read_text(encoding="utf-8") for name in ("rows.js", script)),
        elem_id=elem_id,
        elem_classes=["rows", *classes],
    )


def pairs_data(draft_id: str, draft: Draft | None, checkup: Checkup | None, view: dict[str, Any]) -> dict[str, Any]:
    """One page of a draft.

    Args:
        view: `view`, one of `all`, `look`, `empty` or the kind of a finding; and `page`, from 0.
    """
    pairs = draft.pairs if draft else []
    found = {name: [pair for pair in pairs if _filter(name, checkup)(pair)] for name, _ in _VIEWS}
    name = view.get("view", "all")
    shown = found[name] if name in found else [pair for pair in pairs if _filter(name, checkup)(pair)]
    pages = max(1, math.ceil(len(shown) / PAGE))
    page = min(max(0, int(view.get("page", 0))), pages - 1)
    here = shown[page * PAGE : (page + 1) * PAGE]
    return {
        "draft": draft_id,
        "count": len(pairs),
        "empty": len(found["empty"]),
        "shown": len(shown),
        "view": name,
        "views": [
            {"view": key, "words": words, "count": len(found[key])}
            for key, words in _VIEWS
            if key == "all" or found[key] or key == name
        ],
        "page": page,
        "pages": pages,
        "first": page * PAGE + 1,
        "last": page * PAGE + len(here),
        "rows": [_row(draft, pair, checkup) for pair in here] if draft else [],
    }


def findings_data(checkup: Checkup | None, pairs: list[Pair]) -> dict[str, Any]:
    """What the doctor found, and what has changed since."""
    if checkup is None:
        return {"said": "", "findings": []}
    findings = checkup.findings()
    count = len(findings)
    said = "All is well." if count == 0 else f"{count} {'thing' if count == 1 else 'things'} to know."
    changed = checkup.changed(pairs)
    if changed:
        said += f" {changed:,} {'pair is' if changed == 1 else 'pairs are'} new or changed since; check again."
    return {
        "said": said,
        "findings": [
            {"kind": one.kind, "sentence": one.sentence, "remedy": one.remedy, "count": len(one.names)}
            for one in findings
        ],
    }


def jobs_data(jobs: list[tuple[Job, str]], watched: str, position: Callable[[str], int | None]) -> dict[str, Any]:
    """All jobs with their states."""
    return {"jobs": [_job(job, state, watched, position) for job, state in jobs]}


def _job(job: Job, state: str, watched: str, position: Callable[[str], int | None]) -> dict[str, Any]:
    words = place(position(job.id)) if state == "queued" else job.error or facts(job.status, state)
    return {
        "id": job.id,
        "name": job.name,
        "state": state,
        "said": state_words(state, bool(job.result)),
        "facts": words,
        "result": bool(job.result),
        "watched": job.id == watched,
    }


def _filter(name: str, checkup: Checkup | None) -> Callable[[Pair], bool]:
    if name == "all":
        return lambda pair: True
    if name == "empty":
        return lambda pair: not pair.text
    if checkup is None:
        return lambda pair: False
    if name == "look":
        return lambda pair: checkup.worst(pair) != "ok"
    named = {one for finding in checkup.findings() if finding.kind == name for one in finding.names}
    return lambda pair: pair.name in named


def _row(draft: Draft, pair: Pair, checkup: Checkup | None) -> dict[str, Any]:
    remarks = []
    if pair.others:
        remarks.append(f"{len(pair.others)} more {'caption' if len(pair.others) == 1 else 'captions'}")
    return {
        "name": pair.name,
        "text": pair.text,
        "remarks": remarks,
        "machine": pair.machine_written,
        "thumbnail": _thumbnail(draft, pair.name),
        "problems": checkup.problems(pair) if checkup else [],
        "worst": checkup.worst(pair) if checkup else "ok",
    }


def _thumbnail(draft: Draft, name: str) -> str:
    try:
        content = draft.thumbnail(name, 144).read_bytes()
    except (UserError, OSError):
        return ""
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
