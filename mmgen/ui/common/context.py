"""What every tab of the page is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from mmgen.services.drafts import DraftService
from mmgen.services.models import DEFAULT, Models
from mmgen.services.publishing import Publisher
from mmgen.services.set_drawing import SetService
from mmgen.services.set_parcel import SetParcels

# Every event of the page that runs the model shares one place in the queue, so that no picture waits for older ones.
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}

# What programs ask for may be fetched from the Hub first, and nobody's live picture waits for that.
PROGRAMS_QUEUE = {"concurrency_id": "programs", "concurrency_limit": 1}

# Captions are kept one after the other, and a training starts on those that were typed before it.
PAIRS_QUEUE: dict[str, Any] = {"concurrency_id": "pairs", "concurrency_limit": 1}


def kept_in_browser(name: str) -> gr.BrowserState:
    """A text that the visitor's browser keeps, across reloads of the page and restarts of the studio."""
    return gr.BrowserState("", storage_key=f"mmgen-{name}", secret="mmgen")  # Ids only: nothing to hide.


@dataclass
class Context:
    """Attributes:
    demo: the page being built.
    models: what it can draw with.
    drafts: everybody's pairs and jobs.
    publisher: sends models to the Hub.
    sets, parcels: draw everybody's sets, and pack and send them.
    tabs: the page's tabs, each with its title in small letters as id; set before they are filled.
    model: which of the models is drawn with; the Generate tab places it.
    chosen, draft, watched: the model drawn with, the pairs being prepared and the job looked at, in the browser.
    fetched: the models of the Hub among the choices, as a JSON list in the browser.
    """

    demo: gr.Blocks
    models: Models
    drafts: DraftService = field(default_factory=DraftService)
    publisher: Publisher = field(init=False)
    sets: SetService = field(init=False)
    parcels: SetParcels = field(init=False)
    tabs: gr.Tabs = field(init=False)
    model: gr.Dropdown = field(init=False)
    chosen: gr.BrowserState = field(init=False)
    draft: gr.BrowserState = field(init=False)
    watched: gr.BrowserState = field(init=False)
    fetched: gr.BrowserState = field(init=False)

    def __post_init__(self) -> None:
        self.publisher = Publisher(self.models)
        self.sets = SetService(self.models, self.drafts)
        self.parcels = SetParcels(self.sets)
        self.model = gr.Dropdown(
            [self.models.default_choice],
            value=DEFAULT,
            label="Model",
            show_label=False,
            container=False,
            filterable=False,
            visible=False,
            scale=0,
            min_width=220,
            elem_id="model",
            render=False,
        )
        kept = map(kept_in_browser, ("model", "draft", "watched", "fetched"))
        self.chosen, self.draft, self.watched, self.fetched = kept
