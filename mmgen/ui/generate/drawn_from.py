"""Under the live picture, what it was drawn from: entries of the memory that can be dropped, pinned and attributed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mmgen.attribution import attributions, share_facts
from mmgen.errors import UserError
from mmgen.services.choices import choose, known_entries
from mmgen.services.inference import GenerationResult, InferenceService
from mmgen.ui.common.context import Context
from mmgen.ui.common.theme import THUMBNAILS_JS
from mmgen.ui.generate.controls import Controls
from mmgen.ui.train.rows import build_list
from mmgen.ui.web.owner import owner_of

# Thumbnails are drawn between pictures, one at a time, and never keep one of them waiting in the queue.
_THUMBNAIL_QUEUE = {"concurrency_id": "thumbnails", "concurrency_limit": 1}
_PRIVATE = {"api_visibility": "private"}
_INSTANT = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_MAX_THUMBNAILS = 16


class DrawnFrom:
    """The list; `add` places it.

    Args:
        controls: what the shown picture is drawn from; they hold the choices of dropped and pinned entries.
    """

    def __init__(self, context: Context, controls: Controls):
        self.context, self.controls = context, controls

    def add(self) -> None:
        """Place the list, which shows for a model with a memory."""
        self.list = build_list("drawn_from.js", "drawn-from")
        self.packet = gr.JSON(visible=False)

    def connect(self) -> None:
        """Connect its buttons, and let it ask for the thumbnails that it lacks."""
        self.list.choose(
            _chosen, inputs=[self.controls.choices, self.controls.prompt], outputs=self.controls.choices, **_INSTANT
        )
        self.list.thumbnails(
            self.thumbnails,
            inputs=self.controls.model,
            outputs=self.packet,
            show_progress="hidden",
            preprocess=False,
            **_THUMBNAIL_QUEUE,
            **_PRIVATE,
        ).success(None, inputs=self.packet, js=THUMBNAILS_JS, **_PRIVATE)

    def thumbnails(self, request: gr.Request, event: gr.EventData, model: object) -> dict[str, str]:
        """Thumbnails of entries of a model's memory; of those that it does not have, none."""
        try:
            service = self.context.models.service(owner_of(request), model)
        except UserError:  # The drawing will say it.
            return {}
        asked = (event._data or {}).get("entries")
        entries = known_entries(service, asked if isinstance(asked, list) else [])
        return {service.image_key(entry): service.thumbnail(entry) for entry in entries[:_MAX_THUMBNAILS]}


def list_data(service: InferenceService, drawing: GenerationResult) -> dict[str, Any] | None:
    """What the list shows below a drawing's first picture; None where there is nothing to show."""
    order = drawing.order
    if drawing.drawn_from is None or not (drawing.drawn_from[0] or order.dropped or order.pinned):
        return None
    entries = [
        {**share_facts(share), "picture": service.image_key(share.entry), "pinned": share.entry in order.pinned}
        for share in drawing.drawn_from[0]
    ]
    return {
        "entries": entries,
        "dropped": len(order.dropped),
        "pinned": len(order.pinned),
        "attributions": attributions(drawing.drawn_from[0]),
    }


def _chosen(event: gr.EventData, choices: object, prompt: object) -> dict[str, Any]:
    told = event._data or {}
    return choose(choices, prompt, told.get("entry"), told.get("choice"))
