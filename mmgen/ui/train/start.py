"""The Train tab's third section: what a training is to be, and its start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from mmgen.errors import UserError, shown
from mmgen.jobs import Job
from mmgen.quota import VISITOR
from mmgen.services.drafts import DraftService
from mmgen.services.models import DEFAULT, Models
from mmgen.space import on_space
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.ui.common.context import PAIRS_QUEUE, Context
from mmgen.ui.common.show import note, problem
from mmgen.ui.train.words import expected, is_busy, presets
from mmgen.ui.web.owner import owner_of

MAX_MINUTES = 60  # Minutes on the slider.
MAX_WATCHED = 4

_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_DEFAULTS = FinetuneSettings()
_IMAGE_DECODER = [("If it is needed", "auto"), ("Yes", "yes"), ("No", "no")]
_TUNED = {"auto": None, "yes": True, "no": False}
_SEE_JS = """() => {
    if (!document.querySelector("#start-said .problem")) {
        setTimeout(() => document.querySelector("#watch")?.scrollIntoView({behavior: "smooth"}), 300);
    }
}"""


@dataclass(frozen=True)
class TrainingRequest:
    """What a person asked for, as the page or a program sent it."""

    name: Any = "My pictures"
    base: Any = DEFAULT
    settings: FinetuneSettings = _DEFAULTS

    def start(self, owner: str, drafts: DraftService, models: Models, draft_id: object) -> Job:
        """Queue the job.

        Raises:
            UserError: there are no pairs, or the request cannot be carried out.
        """
        if not drafts.has_draft(owner, draft_id):
            raise UserError("There are no pairs to train on. Add pictures first.")
        if not isinstance(self.name, str):
            raise UserError("The name must be a text.")
        self.settings.check()
        base = models.folder(owner, self.base)
        if self.base and base == models.default_folder:
            raise UserError("The model to start from is not there any more. Choose another.")
        return drafts.jobs(owner).start(drafts.draft(owner, draft_id), base, self.name, self.settings)


def settings_of(
    preset: Any, minutes: Any, steps: Any, prior: Any, image_decoder: Any, watch: Any, seed: Any
) -> FinetuneSettings:
    """Settings out of what was sent.

    Raises:
        UserError: a value is missing, of another kind, or out of range.
    """
    if not isinstance(image_decoder, str) or image_decoder not in _TUNED:
        raise UserError(f"The decoder is {shown(image_decoder)}; give auto, yes or no.")
    if steps is None and minutes is None:
        raise UserError("The minutes is empty; give a number.")
    settings = FinetuneSettings(preset, minutes if steps is None else None, steps, prior, seed=seed, watch=watch)
    settings.check()
    if len(watch) > MAX_WATCHED:
        raise UserError(f"There are {len(watch)} prompts to watch; give at most {MAX_WATCHED}.")
    return replace(
        settings,
        steps=None if steps is None else int(steps),
        seed=int(seed),
        tune_autoencoder=_TUNED[image_decoder],
        watch=[prompt[:1000] for prompt in watch],
    )


class Start:
    """The section; `add` places it."""

    def __init__(self, context: Context):
        self.context, self.drafts = context, context.drafts

    def add(self) -> None:
        """Place the section."""
        with gr.Column(elem_id="start-section", elem_classes="section"):
            gr.HTML(
                "<h2>3 Train</h2><p>The model learns your pairs, and keeps what it knows.</p>", elem_classes="heading"
            )
            with gr.Row(equal_height=True):
                self.name = gr.Textbox("My pictures", label="Name", max_length=200, min_width=140)
                self.base = gr.Dropdown(
                    [self.context.models.default_choice],
                    value=DEFAULT,
                    label="Start from",
                    filterable=False,
                    min_width=140,
                    elem_id="base",
                )
            self.preset = gr.Radio(presets(), value=_DEFAULTS.preset, label="What learns", elem_id="preset")
            self.kind = gr.Radio(["Minutes", "Steps"], value="Minutes", label="How long", elem_id="length")
            self.minutes = gr.Slider(
                1,
                VISITOR.minutes if on_space() else MAX_MINUTES,
                value=_DEFAULTS.minutes,
                step=1,
                label="Minutes",
                buttons=[],
                elem_id="minutes",
            )
            self.steps = gr.Number(1000, label="Steps", precision=0, minimum=1, visible=False, elem_id="steps")
            with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                self.prior = gr.Slider(
                    0,
                    0.9,
                    value=_DEFAULTS.prior,
                    step=0.05,
                    label="Share kept from the model",
                    info="0: the rest is forgotten; more: the rest stays, and yours are learned slower.",
                    buttons=[],
                )
                self.image_decoder = gr.Radio(
                    _IMAGE_DECODER,
                    value="auto",
                    label="Tune the picture decoder",
                    info="It is needed where pictures are unlike those the model has seen.",
                )
                self.watch = gr.Textbox(
                    label="Prompts to watch",
                    placeholder="One a line, four at most; your first captions if there are none",
                    lines=2,
                    max_lines=4,
                )
                self.seed = gr.Number(_DEFAULTS.seed, label="Seed", precision=0, minimum=0)
            self.time = gr.HTML(note(expected(_DEFAULTS, 0, None)), elem_id="expected", elem_classes="told")
            self.button = gr.Button("Start training", variant="primary", elem_id="start")
            self.said = gr.HTML(elem_id="start-said", elem_classes="told")

    def connect(self, summary: gr.HTML, look_after) -> None:
        """Connect it.

        Args:
            summary: changes with what trains and waits.
            look_after: adds a look at the jobs after an event.
        """
        length: list[Any] = [self.kind, self.minutes, self.steps]
        self.kind.change(
            lambda kind: (gr.Slider(visible=kind == "Minutes"), gr.Number(visible=kind == "Steps")),
            inputs=self.kind,
            outputs=[self.minutes, self.steps],
            **_INSTANT,
        )
        gr.on(
            [summary.change, *(one.change for one in length)],
            self.tell_time,
            inputs=length,
            outputs=self.time,
            trigger_mode="always_last",
            preprocess=False,
            **_INSTANT,
        )
        started = self.button.click(
            self.start,
            inputs=[
                self.context.draft,
                self.name,
                self.base,
                self.preset,
                *length,
                self.prior,
                self.image_decoder,
                self.watch,
                self.seed,
            ],
            outputs=[self.said, self.context.watched],
            preprocess=False,
            show_progress_on=self.said,
            **PAIRS_QUEUE,
            **_PRIVATE,
        )
        look_after(started).then(None, js=_SEE_JS, **_PRIVATE)

    def tell_time(self, request: gr.Request, kind: str, minutes: float, steps: float) -> str:
        """How long it will take."""
        try:
            settings = settings_of("everything", minutes, _steps(kind, steps), 0, "auto", (), 0)
            jobs = self.drafts.jobs(owner_of(request)).list()
            waiting = sum(is_busy(job.state) for job in jobs)
            return note(expected(settings, waiting, _step_seconds(jobs)))
        except UserError as error:
            return problem(error)

    def start(
        self, request: gr.Request, draft_id: str, name, base, preset, kind, minutes, steps, prior, decoder, watch, seed
    ) -> tuple[Any, Any]:
        """Queue the job, and look at it."""
        owner = owner_of(request)
        prompts = [line.strip() for line in (watch or "").splitlines() if line.strip()]
        try:
            settings = settings_of(preset, minutes, _steps(kind, steps), prior, decoder, prompts, seed)
            job = TrainingRequest(name or "", base, settings).start(owner, self.drafts, self.context.models, draft_id)
        except UserError as error:
            return problem(error), gr.skip()
        where = "" if on_space() else " You may close the page: it trains on."
        return note(f"“{job.name}” is started.{where}"), job.id


def _steps(kind: str, steps: Any) -> Any:
    """The number of steps, where they are what is asked for; an empty field is no number of them."""
    if kind != "Steps":
        return None
    return 0 if steps is None else steps


def _step_seconds(jobs: list[Job]) -> float | None:
    """What a step took in the newest job that has made some."""
    for job in jobs:
        status = job.status
        if status.get("step") and status.get("seconds"):
            return status["seconds"] / status["step"]
    return None
