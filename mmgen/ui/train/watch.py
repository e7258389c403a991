"""The Train tab's lower half: a job while it trains, and the list of all jobs. Both are looked at again in one go."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from PIL import Image

from mmgen.errors import UserError
from mmgen.jobs import Job, Jobs
from mmgen.ui.common.context import Context
from mmgen.ui.common.from_hub import names_of
from mmgen.ui.common.show import problem
from mmgen.ui.train.plot import RAW, SMOOTHED, curve
from mmgen.ui.train.rows import jobs_data
from mmgen.ui.train.words import card, is_busy, summary, watched_prompts
from mmgen.ui.web.owner import owner_of

SECONDS = 2.0
"""Between two looks, while something trains or waits."""

_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_COLOURS = {RAW: "#a5b4fc", SMOOTHED: "#6366f1"}


class Watch:
    """The section; `add_summary` and `add` place it, `connect` lets it look again."""

    def __init__(self, context: Context):
        self.context, self.drafts = context, context.drafts
        self.timer = gr.Timer(SECONDS, active=False)
        self.seen = gr.State({})

    def add_summary(self) -> None:
        """One line for the top of the tab."""
        self.summary = gr.HTML(elem_id="now")

    def add(self) -> None:
        """Place the section; it shows once there is a job."""
        with gr.Column(visible=False, elem_id="watch", elem_classes="section") as self.panel:
            gr.HTML("<h2>4 Watch</h2>", elem_classes="heading")
            self.card = gr.HTML(elem_id="card")
            with gr.Row(elem_id="steer"):
                self.pause = gr.Button("Pause", size="sm", min_width=80, visible=False)
                self.resume = gr.Button("Resume", size="sm", min_width=80, visible=False)
                self.stop = gr.Button("Stop and keep", size="sm", min_width=80, visible=False)
                self.use = gr.Button(
                    "Use it to draw", size="sm", min_width=80, variant="primary", visible=False, elem_id="use"
                )
            self.said = gr.HTML(elem_id="watch-said", elem_classes="told")
            with gr.Row(elem_id="views"):
                with gr.Column(min_width=280):
                    self.title = gr.HTML(elem_classes="caption")
                    self.plot = gr.LinePlot(
                        x="step",
                        y="loss",
                        color="line",
                        color_map=_COLOURS,
                        color_title=" ",
                        x_title="step",
                        y_title=" ",
                        height=320,
                        elem_id="loss",
                    )
                with gr.Column(min_width=280, visible=False) as self.course:
                    self.caption = gr.HTML(elem_classes="caption")
                    self.image = gr.Image(
                        label="What it draws",
                        show_label=False,
                        format="webp",
                        interactive=False,
                        buttons=["fullscreen"],
                        elem_id="sample",
                    )
                    self.slider = gr.Slider(1, 2, value=1, step=1, label="Sample", buttons=[], elem_id="sample-at")
                    self.prompts = gr.HTML(elem_classes="caption")
                with gr.Column(min_width=280, visible=False) as self.change:
                    gr.HTML("<p>Before, and now</p>", elem_classes="caption")
                    self.compare = gr.ImageSlider(
                        label="Before, and now",
                        show_label=False,
                        format="webp",
                        interactive=False,
                        buttons=[],
                        elem_id="compare",
                    )

    def connect(self, jobs_list: gr.HTML, pickers: Sequence[gr.Dropdown]) -> None:
        """Look when the page opens, and again while something moves.

        Args:
            pickers: of models, to be told of new ones.
        """
        self.jobs_list, self.pickers = jobs_list, pickers
        self.outputs = [
            self.context.watched,
            self.seen,
            self.panel,
            self.card,
            self.pause,
            self.resume,
            self.stop,
            self.use,
            self.title,
            self.plot,
            self.course,
            self.slider,
            self.caption,
            self.image,
            self.prompts,
            self.change,
            self.compare,
            self.summary,
            jobs_list,
            self.timer,
            self.context.model,
            *pickers,
        ]
        self.timer.tick(self.look, inputs=self._inputs, outputs=self.outputs, trigger_mode="once", **_INSTANT)
        self.context.demo.load(self.look, inputs=self._inputs, outputs=self.outputs, **_INSTANT)
        self.slider.input(
            self.show_sample,
            inputs=[self.context.watched, self.slider],
            outputs=[self.caption, self.image],
            trigger_mode="always_last",
            **_INSTANT,
        )
        for button, act in ((self.pause, "pause"), (self.resume, "resume"), (self.stop, "stop")):
            self.look_after(
                button.click(self._steering(act), inputs=self.context.watched, outputs=self.said, **_INSTANT)
            )

    def look_after(self, event):
        """Look again after an event."""
        return event.then(self.look, inputs=self._inputs, outputs=self.outputs, **_INSTANT)

    @property
    def _inputs(self) -> list[Any]:
        return [self.context.watched, self.context.fetched, self.seen, self.slider]

    def look(self, request: gr.Request, watched: str, fetched: str, seen: dict, at: float | None) -> dict[Block, Any]:
        """What has changed since the last look; all else is left as it is."""
        owner, changes = owner_of(request), Changes(seen)
        self.context.models.remember(owner, names_of(fetched))
        try:
            jobs = self.drafts.jobs(owner)
            found = [(job, job.state) for job in jobs.list()]
            known = {job.id: (job, state) for job, state in found}
            if watched not in known:
                watched = next((job.id for job, state in found if state == "running"), found[0][0].id if found else "")
            job, state = known.get(watched, (None, ""))
            if job:
                self._show_job(changes, jobs, job, state, int(at or 1))
            rows = jobs_data(found, watched, jobs.position)
            line = summary(found)
            busy = any(is_busy(state) for _, state in found)
            choices = self.context.models.choices(owner)
        except UserError as error:
            return {self.card: problem(error)}
        except OSError:  # A job was deleted just now; the next look sees it.
            return gr.skip()
        changes.show(self.context.watched, "watched", watched, lambda: watched)
        changes.show(self.panel, "panel", bool(job), lambda: gr.Column(visible=bool(job)))
        changes.show(self.summary, "summary", line, lambda: line)
        changes.show(self.jobs_list, "jobs", json.dumps(rows), lambda: rows)
        changes.show(self.timer, "busy", busy, lambda: gr.Timer(active=busy))
        changes.show(
            self.context.model, "models", choices, lambda: gr.Dropdown(choices=choices, visible=len(choices) > 1)
        )
        for picker in self.pickers:
            changes.show(picker, f"models of {picker.elem_id}", choices, lambda: gr.Dropdown(choices=choices))
        return {**changes.shown, self.seen: changes.now}

    def _show_job(self, changes: Changes, jobs: Jobs, job: Job, state: str, at: int) -> None:
        """All about the job that is watched."""
        card_now = card(job, jobs.position(job.id))
        log, samples = job.log(), job.samples
        title, points = curve(log)
        count = len(samples)
        before = changes.before.get("samples")
        same = before is not None and before[0] == job.id
        # Whoever looks at the newest sample goes on to the next; whoever looks back is left there.
        at = at if same and before is not None and at < before[1] and at <= count else count
        ends, show = (job.id, state), changes.show
        can_go_on = state in ("paused", "stopped", "failed", "interrupted")
        drawn = (job.id, len(log), log[-1]["step"] if log else 0)
        show(self.card, "card", card_now, lambda: card_now)
        show(self.pause, "pause", ends, lambda: gr.Button(visible=is_busy(state)))
        show(self.resume, "resume", ends, lambda: gr.Button(visible=can_go_on))
        show(self.stop, "stop", ends, lambda: gr.Button(visible=is_busy(state) or state == "paused"))
        show(self.use, "use", (*ends, bool(job.result)), lambda: gr.Button(visible=bool(job.result)))
        show(self.title, "title", title, lambda: f"<p>{title}</p>")
        show(self.plot, "plot", drawn, lambda: points if len(points) else None)
        show(self.course, "course", (job.id, count > 0), lambda: gr.Column(visible=count > 0))
        show(self.slider, "slider", (job.id, count), lambda: _slider(count, at))
        show(self.caption, "caption", (job.id, at), lambda: _caption(samples, at))
        show(self.image, "samples", (job.id, count), lambda: _sample(samples, at))
        show(self.prompts, "prompts", job.id, lambda: _prompts(job))
        show(self.change, "change", (job.id, count > 1), lambda: gr.Column(visible=count > 1))
        show(self.compare, "compare", (job.id, count), lambda: _compare(samples))

    def show_sample(self, request: gr.Request, watched: str, at: float | None) -> tuple[Any, Any]:
        """An earlier sample."""
        try:
            samples = self.drafts.jobs(owner_of(request)).get(watched).samples
        except UserError:
            return gr.skip()
        at = int(at or 1)
        return _caption(samples, at), _sample(samples, at)

    def _steering(self, act: str):
        def steer(request: gr.Request, watched: str) -> str:
            try:
                getattr(self.drafts.jobs(owner_of(request)), act)(watched)
            except UserError as error:
                return problem(error)
            return ""

        return steer


class Changes:
    """What the page shows already, so that only what is new is sent."""

    def __init__(self, before: dict[str, Any]):
        self.before = before
        self.now: dict[str, Any] = {}
        self.shown: dict[Block, Any] = {}

    def show(self, component: Block, name: str, key: Any, make: Callable[[], Any]) -> None:
        """Send a component what is made, if its key is another than the last time."""
        self.now[name] = key
        if name not in self.before or self.before[name] != key:
            self.shown[component] = make()


def _slider(count: int, at: int) -> Any:
    return gr.Slider(maximum=max(2, count), value=max(1, at), visible=count > 1)


def _caption(samples: list[Path], at: int) -> str:
    step = int(samples[min(at, len(samples)) - 1].stem) if samples else 0
    return f"<p>What it draws after {step:,} steps</p>"


def _prompts(job: Job) -> str:
    prompts = "; ".join(prompt if len(prompt) <= 60 else f"{prompt[:57]}..." for prompt in watched_prompts(job))
    return f"<p></p><p>{escape(prompts)}</p>"


def _sample(samples: list[Path], at: int) -> Any:
    return _open(samples[min(at, len(samples)) - 1]) if samples else None


def _compare(samples: list[Path]) -> Any:
    return (_open(samples[0]), _open(samples[-1])) if len(samples) > 1 else None


def _open(path: Path) -> Image.Image:
    with Image.open(path) as sheet:
        return sheet.convert("RGB")
