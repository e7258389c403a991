"""What the Train tab says of jobs, in words and small pieces of HTML."""

from __future__ import annotations

import json
from html import escape

from mmgen.jobs import Job
from mmgen.training.finetune.presets import PRESETS
from mmgen.training.finetune.settings import FinetuneSettings

STATES = {
    "queued": "Waiting",
    "running": "Training",
    "paused": "Paused",
    "stopped": "Stopped and kept",
    "done": "Done",
    "failed": "Failed",
    "interrupted": "Cut off",
}

STOPPED_AT_ONCE = "Stopped before anything was learned"

_BUSY = ("queued", "running")


def is_busy(state: str) -> bool:
    """Whether a job moves by itself, so that it is worth looking again."""
    return state in _BUSY


def state_words(state: str, has_result: bool) -> str:
    """A job's state in words; of one that was stopped, whether anything of it is there."""
    return STOPPED_AT_ONCE if state == "stopped" and not has_result else STATES[state]


def duration(seconds: float) -> str:
    """Such as `40 s`, `2 min 10 s` or `1 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def share_done(status: dict) -> float:
    """How much of the training is done, 0 to 1."""
    done, whole = status.get("step"), status.get("steps")
    if not whole:
        done, whole = status.get("seconds"), status.get("budget_seconds")
    return min(1.0, max(0.0, done / whole)) if done and whole else 0.0


def facts(status: dict, state: str) -> str:
    """How far a training is, such as `step 412 · 85 images/s · 1,240 MB · about 1 min left`."""
    parts = []
    if status.get("step") is not None:
        of = f" of {status['steps']:,}" if status.get("steps") else ""
        parts.append(f"step {status['step']:,}{of}")
    if status.get("seconds"):
        parts.append(f"{duration(status['seconds'])} trained")
    if state == "running":
        if status.get("images_per_second"):
            parts.append(f"{status['images_per_second']:,.0f} images/s")
        if status.get("memory_mb"):
            parts.append(f"{status['memory_mb']:,} MB")
        if status.get("eta_seconds"):
            parts.append(f"about {duration(status['eta_seconds'])} left")
    return " · ".join(parts)


def place(position: int | None) -> str:
    """Where in the queue a job waits."""
    if position is None:
        return ""
    before = position - 1
    return "It is next." if before == 0 else f"{before} {'job waits' if before == 1 else 'jobs wait'} before it."


def told(job: Job, state: str, position: int | None) -> str:
    """A sentence about a job that is not plain from its state."""
    if state == "queued":
        return " ".join(filter(None, ["It begins as soon as the machine is free.", place(position), job.error]))
    if state == "running":
        return "" if share_done(job.status) else job.status.get("message") or "Getting ready"
    if state in ("failed", "interrupted"):
        return job.error or ""
    if state == "paused":
        return "Resume goes on where it stopped."
    return "The result is ready: use it, or download it." if job.result else ""


def card(job: Job, position: int | None) -> str:
    """A job's name, state and progress as HTML."""
    state, status = job.state, job.status
    done = 1.0 if state == "done" else share_done(status)
    kind = "problem" if state in ("failed", "interrupted") else "note"
    return (
        f'<div class="head"><h3>{escape(job.name)}</h3>{badge(state, bool(job.result))}</div>'
        f'<div class="bar {state}" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{round(100 * done)}"><i style="width:{100 * done:.1f}%"></i></div>'
        f'<p class="facts">{escape(facts(status, state))}</p>'
        f'<p class="{kind}" role="status" aria-live="polite">{escape(told(job, state, position))}</p>'
    )


def badge(state: str, has_result: bool) -> str:
    """A state as HTML."""
    return f'<span class="badge {state}">{state_words(state, has_result)}</span>'


def summary(jobs: list[tuple[Job, str]]) -> str:
    """One line about what trains and waits, as HTML; empty if nothing does."""
    running = [job for job, state in jobs if state == "running"]
    waiting = sum(state == "queued" for _, state in jobs)
    if not running and not waiting:
        return ""
    words = f"{waiting} {'job waits' if waiting == 1 else 'jobs wait'}"
    if running:
        done = f"{round(100 * share_done(running[0].status))} %"
        words = f"“{running[0].name}” trains: {done}" + (f" · {words}" if waiting else "")
    return f'<p><span>{escape(words)}</span> <a href="#watch">Watch</a></p>'


def expected(settings: FinetuneSettings, waiting: int, step_seconds: float | None) -> str:
    """How long a job will take, before it is started.

    Args:
        waiting: jobs that train or wait already.
        step_seconds: what a step took the last time, if there was one.
    """
    if settings.steps is None:
        words = f"About {duration(60 * (settings.minutes or 0))} of training, and a little before and after it."
    elif step_seconds:
        words = f"About {duration(settings.steps * step_seconds)}, as fast as the last time."
    else:
        words = f"{settings.steps:,} steps; how long they take shows once it trains."
    if waiting:
        words += f" {waiting} {'job is' if waiting == 1 else 'jobs are'} before it."
    return words


def watched_prompts(job: Job) -> list[str]:
    """What the samples of a job show: the prompts that were asked for, or else the first four captions."""
    found = dict.fromkeys(job.settings.watch)
    try:
        with open(job.folder / "pairs" / "metadata.jsonl", encoding="utf-8") as lines:
            while not job.settings.watch and len(found) < 4 and (line := lines.readline()):
                found.setdefault(json.loads(line)["text"])
                found.pop("", None)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return list(found)


def presets() -> list[tuple[str, str]]:
    """The presets as choices: what each is for, and its name."""
    return [(f"{name.capitalize()}: {what}", name) for name, what in PRESETS.items()]
