"""The Generate tab's way back: what a picture shows in words, each with its probability; a press draws from them."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

from mmgen.errors import UserError
from mmgen.models.decoder import Caption
from mmgen.services.inference import ANY_STYLE, InferenceService, kept_reference
from mmgen.ui.common.context import MODEL_QUEUE, Context
from mmgen.ui.common.show import problem
from mmgen.ui.generate.controls import Controls
from mmgen.ui.train.rows import build_list
from mmgen.ui.web.files import uploaded_path
from mmgen.ui.web.owner import owner_of

_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_TRANSPARENT = "The picture is transparent all over: there is nothing to describe."


class Describing:
    """The captions below the picture, and those below the gallery; `add` and `add_for_gallery` place them.

    Args:
        controls: what the shown picture is drawn from; each of its references has a button to be described, too.
    """

    def __init__(self, context: Context, controls: Controls):
        self.context, self.controls = context, controls

    def add(self) -> None:
        """Place the list, which shows once there is something in it."""
        self.list = build_list("captions.js", "captions", "captions")

    def add_for_gallery(self) -> None:
        """Place a button for the picture that is opened in the gallery, and its captions."""
        self.button = gr.Button("Describe", size="sm", visible=False, elem_id="describe-opened")
        self.gallery_list = build_list("captions.js", "gallery-captions", "captions")
        self.opened = gr.State(None)

    def connect_gallery(self, gallery: gr.Gallery, status: gr.HTML) -> None:
        """Connect them; another set of pictures takes the captions away."""
        shown: dict[str, Any] = {"outputs": [self.opened, self.button, self.gallery_list], **_INSTANT}
        gallery.select(_opened, **shown)
        gallery.change(lambda: (None, gr.Button(visible=False), None), **shown)
        self.button.click(
            self.of_opened,
            inputs=[self.controls.model, gallery, self.opened],
            outputs=[self.gallery_list, status],
            show_progress="hidden",
            preprocess=False,
            **MODEL_QUEUE,
            **_PRIVATE,
        )
        self._connect_list(self.gallery_list)

    def connect(self, button: gr.Button, canvas: gr.HTML, status: gr.HTML) -> None:
        """Connect the buttons; another picture takes the captions of the last one away."""
        asking: dict[str, Any] = {"outputs": [self.list, status], "show_progress": "hidden", "preprocess": False}
        asking |= {**MODEL_QUEUE, **_PRIVATE}
        button.click(self.of_shown, inputs=self.controls.all, **asking)
        pairs = zip(self.controls.describers, self.controls.references, strict=True)
        for number, (describer, reference) in enumerate(pairs, start=1):
            describer.click(self.of_reference(number), inputs=[self.controls.model, reference], **asking)
        canvas.change(None, outputs=self.list, js="() => null", **_PRIVATE)
        self._connect_list(self.list)

    def _connect_list(self, captions: gr.HTML) -> None:
        target = [self.controls.prompt, self.controls.style]
        captions.draw(self.chosen, inputs=self.controls.model, outputs=target, **_INSTANT)

    def of_shown(self, request: gr.Request, model: object, *values: Any) -> tuple[Any, Any]:
        """Describe the picture that is shown, which is drawn again."""
        try:
            service = self.service(request, model)
            drawing = service.draw(self.controls.order(service, *values, count=1))
            return _told("The picture reads as", service, drawing.images[0])
        except UserError as error:
            return None, problem(error)

    def of_reference(self, number: int):
        """What describes the reference of a number, from 1."""

        def read(request: gr.Request, model: object, image: object) -> tuple[Any, Any]:
            try:
                path = kept_reference(uploaded_path(image))
                return _told(f"Reference {number} reads as", self.service(request, model), path)
            except UserError as error:
                return None, problem(error)

        return read

    def of_opened(self, request: gr.Request, model: object, images: Any, index: Any) -> tuple[Any, Any]:
        """Describe the picture of the gallery that is opened."""
        try:
            image = images[index]["image"]
        except (TypeError, LookupError):
            return None, problem("Open a picture of the set first.")
        try:
            path = kept_reference(uploaded_path(image))
            return _told(f"Picture {index + 1} reads as", self.service(request, model), path)
        except UserError as error:
            return None, problem(error)

    def service(self, request: gr.Request, model: object) -> InferenceService:
        """What reads for a visitor who has picked a model."""
        return self.context.models.service(owner_of(request), model)

    def chosen(self, request: gr.Request, event: gr.EventData, model: object) -> tuple[Any, Any]:
        """The caption that was pressed, as prompt and style."""
        text = (event._data or {}).get("text")
        if not isinstance(text, str):
            return gr.skip(), gr.skip()
        for style in self.service(request, model).styles:
            if text.endswith(ending := f", {style} style"):
                return text.removesuffix(ending), style
        return text, ANY_STYLE


def _opened(event: gr.SelectData) -> tuple[Any, Any, None]:
    return event.index, gr.Button(visible=True), None


def _told(title: str, service: InferenceService, image: str | Image.Image) -> tuple[Any, Any]:
    (captions,) = service.describe([image])
    return (_data(title, captions), gr.skip()) if captions else (None, problem(_TRANSPARENT))


def _data(title: str, captions: list[Caption]) -> dict[str, Any]:
    return {"title": title, "captions": [{"text": one.text, "probability": one.probability} for one in captions]}
