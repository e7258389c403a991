"""The Train tab's last section: all jobs, and what can be done with them."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from mmgen.errors import UserError
from mmgen.services.models import DEFAULT
from mmgen.ui.common.context import Context
from mmgen.ui.common.show import note, problem
from mmgen.ui.common.theme import FETCH_JS
from mmgen.ui.web.files import new_file
from mmgen.ui.web.owner import owner_of

_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_TOP_JS = "() => window.scrollTo({top: 0})"
_WATCH_JS = '(went) => went && document.querySelector("#watch")?.scrollIntoView({behavior: "smooth"})'


class JobList:
    """What is done with jobs; the list itself is placed by the tab."""

    def __init__(self, context: Context, jobs_list: gr.HTML, said: gr.HTML):
        self.context, self.drafts, self.list, self.said = context, context.drafts, jobs_list, said

    def connect(self, look_after, use_button: gr.Button) -> None:
        """Connect the list.

        Args:
            look_after: adds a look at the jobs after an event.
            use_button: loads the job that is watched into the Generate tab.
        """
        context = self.context
        packet, went = gr.File(visible=False), gr.JSON(visible=False)
        doing: dict[str, Any] = {
            "concurrency_id": "jobs",
            "concurrency_limit": 4,
            "show_progress": "hidden",
            **_PRIVATE,
        }
        drawing = [self.said, context.tabs, context.model]
        acted = self.list.act(
            self.act,
            inputs=[context.watched, context.model],
            outputs=[*drawing, context.watched, packet, went],
            trigger_mode="multiple",
            preprocess=False,
            **doing,
        )
        acted.then(None, inputs=packet, js=FETCH_JS, **_PRIVATE)
        look_after(acted).then(None, inputs=went, js=_WATCH_JS, **_PRIVATE)
        look_after(self.list.save(self.rename, outputs=self.said, trigger_mode="multiple", **doing))
        use_button.click(self.use, inputs=context.watched, outputs=drawing, **doing).then(None, js=_TOP_JS, **_PRIVATE)

    def act(self, request: gr.Request, event: gr.EventData, watched: str, drawn_with: str) -> tuple[Any, ...]:
        """Do what a button of a job says."""
        owner, asked = owner_of(request), event._data or {}
        said, tabs, model, file, went = "", gr.skip(), gr.skip(), None, None
        try:
            jobs = self.drafts.jobs(owner)
            job = jobs.get(str(asked.get("id")))
            match asked.get("act"):
                case "watch":
                    watched, went = job.id, {"to": job.id}
                case "use":
                    said, tabs, model = self._use(owner, job.id)
                case "delete":
                    jobs.delete(job.id)
                    said = note(f"“{job.name}” is deleted.")
                    if drawn_with == job.id:
                        model = gr.Dropdown(choices=self.context.models.choices(owner), value=DEFAULT)
                case "download":
                    name = re.sub(r"[^\w-]+", "-", job.name).strip("-")[:60] or "model"
                    file = str(jobs.export(job.id, new_file(f"{name}.zip")))
        except UserError as error:
            said = problem(error)
        return said, tabs, model, watched, file, went

    def use(self, request: gr.Request, watched: str) -> tuple[Any, ...]:
        """Draw with the job that is watched."""
        try:
            return self._use(owner_of(request), watched)
        except UserError as error:
            return problem(error), gr.skip(), gr.skip()

    def rename(self, request: gr.Request, event: gr.EventData) -> str:
        """Give a job another name."""
        asked = event._data or {}
        try:
            self.drafts.jobs(owner_of(request)).rename(str(asked.get("id")), str(asked.get("name")))
        except UserError as error:
            return problem(error)
        return note("Saved.")

    def _use(self, owner: str, job_id: str) -> tuple[Any, ...]:
        job = self.drafts.jobs(owner).get(job_id)
        if not job.result:
            raise UserError(f"“{job.name}” has no result yet. Wait until it has ended, or stop it.")
        self.context.models.service(owner, job_id)  # A damaged one says so here.
        choices = self.context.models.choices(owner)
        picker = gr.Dropdown(choices=choices, value=job_id, visible=True)
        return note(f"The Generate tab draws with “{job.name}”."), gr.Tabs(selected="generate"), picker
