"""Under the prompt: how it was read, what the model does not know, and all that it does, to complete and to browse.

The list of what the model knows goes to the page once; completing it asks nothing more of the server.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from mmgen.errors import UserError
from mmgen.services.inference import InferenceService
from mmgen.services.vocabulary import listing, summary, thumbnails, told_of_prompt
from mmgen.ui.common.context import Context
from mmgen.ui.common.theme import KNOWN_JS
from mmgen.ui.generate.controls import Controls
from mmgen.ui.train.rows import build_list
from mmgen.ui.web.owner import owner_of

# Thumbnails are drawn between pictures, and neither they nor the reading keep a picture waiting in the queue.
_WORDS_QUEUE = {"concurrency_id": "words", "concurrency_limit": 2}
_THUMBNAIL_QUEUE = {"concurrency_id": "thumbnails", "concurrency_limit": 1}
_HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "preprocess": False}


class Wording:
    """The line and the list; `add` places them.

    Args:
        controls: of whose prompt they tell.
    """

    def __init__(self, context: Context, controls: Controls):
        self.context, self.controls = context, controls

    def add(self) -> None:
        """Place them; they show for a model with a vocabulary."""
        self.list = build_list("vocabulary.js", "words")
        self.known = gr.JSON(visible=False)
        self.pictures = gr.JSON(visible=False)

    def connect(self) -> None:
        """Tell of the prompt whenever it changes, and let the page fetch what it lacks."""
        controls = self.controls
        gr.on(
            [self.context.demo.load, controls.prompt.change, controls.style.change, controls.model.change],
            self.tell,
            inputs=[controls.model, controls.prompt, controls.style],
            outputs=self.list,
            trigger_mode="always_last",
            **_WORDS_QUEUE,
            **_HIDDEN,
        )
        self.list.fetch(self.fetch, inputs=controls.model, outputs=self.known, **_WORDS_QUEUE, **_HIDDEN).success(
            None, inputs=self.known, js=KNOWN_JS, api_visibility="private"
        )
        self.list.thumbnails(
            self.draw, inputs=[controls.model, controls.style], outputs=self.pictures, **_THUMBNAIL_QUEUE, **_HIDDEN
        ).success(None, inputs=self.pictures, js=KNOWN_JS, api_visibility="private")

    def tell(self, request: gr.Request, model: object, prompt: object, style: object) -> dict[str, Any] | None:
        """What stands under the prompt; None for a model that does not say what it knows."""
        service = self._service(request, model)
        if service is None:
            return None
        known = summary(service)
        if known is None:
            return None
        return {"model": str(model), "style": str(style), "prompt": prompt, **known, **told_of_prompt(service, prompt)}

    def fetch(self, request: gr.Request, model: object) -> dict[str, Any] | None:
        """All that a model knows."""
        service = self._service(request, model)
        return {"model": str(model), **listing(service)} if service else None

    def draw(self, request: gr.Request, event: gr.EventData, model: object, style: object) -> dict[str, Any]:
        """Small pictures of some of it."""
        service = self._service(request, model)
        asked = (event._data or {}).get("labels")
        pictures = thumbnails(service, asked, style) if service else {}
        return {"model": str(model), "style": str(style), "pictures": pictures}

    def _service(self, request: gr.Request, model: object) -> InferenceService | None:
        try:
            return self.context.models.service(owner_of(request), model)
        except UserError:  # The drawing will say it.
            return None
