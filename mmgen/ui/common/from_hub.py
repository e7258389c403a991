"""The Generate tab's way to models of the Hugging Face Hub: a name, a button, and the picker has one more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from mmgen.errors import UserError
from mmgen.services.background import BackgroundTask
from mmgen.space import on_space
from mmgen.ui.common.context import Context
from mmgen.ui.common.show import note, problem, progress
from mmgen.ui.web.owner import owner_of

_PLACEHOLDER = "user/name, or user/name@revision"


def names_of(kept: object) -> list[Any]:
    """What the browser keeps of models of the Hub, as `Models.remember` takes it."""
    try:
        names = json.loads(kept) if isinstance(kept, str) and kept else []
    except ValueError:
        return []
    return names if isinstance(names, list) else []


class FromHub:
    """The section; `add` places it."""

    def __init__(self, context: Context):
        self.context = context

    def add(self) -> None:
        """Place the section, folded away."""
        with gr.Accordion("Model from the Hugging Face Hub", open=False, elem_id="from-hub"):
            with gr.Row(equal_height=True):
                self.name = gr.Textbox(
                    label="Name on the Hub",
                    show_label=False,
                    container=False,
                    placeholder=_PLACEHOLDER,
                    max_lines=1,
                    scale=1,
                    min_width=160,
                    elem_id="hub-name",
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False, autocapitalize="off"),
                )
                self.button = gr.Button("Load", scale=0, min_width=80, elem_id="hub-load")
            which = "Public models made by mmgen" if on_space() else "Models made by mmgen"
            words = f"{which}. Safetensors alone are read, and no code of theirs is run."
            self.said = gr.HTML(note(words), elem_id="hub-said", elem_classes="told")

    def connect(self) -> None:
        """Connect it."""
        gr.on(
            [self.button.click, self.name.submit],
            self.load,
            inputs=[self.name, self.context.fetched],
            outputs=[self.said, self.context.model, self.context.fetched],
            trigger_mode="once",
            show_progress="hidden",
            concurrency_id="fetch",
            concurrency_limit=2,
            api_visibility="private",
        )

    def load(self, request: gr.Request, text: str, kept: str) -> Iterator[tuple[Any, ...]]:
        """Fetch a model and draw with it; if that cannot be, say why, and draw on with the one in use."""
        owner, models = owner_of(request), self.context.models

        def fetch(tell) -> str:
            return models.fetch(
                owner,
                text,
                lambda here, wanted: tell(here / wanted, f"Fetching {here / 1e6:,.1f} of {wanted / 1e6:,.1f} MB"),
            )

        yield progress(None, "Asking the Hub"), gr.skip(), gr.skip()
        work = BackgroundTask(fetch)
        for share, words in work.steps():
            if words:
                yield progress(share, words), gr.skip(), gr.skip()
        try:
            name = work.result()
        except UserError as error:
            yield problem(error), gr.skip(), gr.skip()
            return
        models.remember(owner, [*names_of(kept), name])
        picker = gr.Dropdown(choices=models.choices(owner), value=name, visible=True)
        yield note(f"The page draws with {name}."), picker, json.dumps(models.from_hub(owner))
