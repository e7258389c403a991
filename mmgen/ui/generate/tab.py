"""The Generate tab: a picture that is drawn while one types, and sets of pictures on request."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from mmgen.errors import UserError
from mmgen.pipeline import MAX_REFERENCES, MAX_SEED
from mmgen.services.inference import ANY_STYLE, InferenceService, random_seed
from mmgen.services.models import DEFAULT
from mmgen.ui.common import show
from mmgen.ui.common.context import MODEL_QUEUE, Context
from mmgen.ui.common.from_hub import FromHub, names_of
from mmgen.ui.common.theme import COPY_LINK_JS, DOWNLOAD_JS
from mmgen.ui.generate.controls import Controls
from mmgen.ui.generate.describe import Describing
from mmgen.ui.generate.drawn_from import DrawnFrom, list_data
from mmgen.ui.generate.examples import EXAMPLES, Example
from mmgen.ui.generate.vocabulary import Wording
from mmgen.ui.web.files import save_all
from mmgen.ui.web.owner import owner_of

_PROGRESS = gr.Progress()
_PRIVATE = {"api_visibility": "private"}
_INSTANT = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


def build(context: Context) -> None:
    """Fill the tab."""
    controls, from_hub = Controls(context.model, context.models.default), FromHub(context)
    describing, drawn_from = Describing(context, controls), DrawnFrom(context, controls)
    with gr.Row(elem_id="ask"):
        controls.add_prompt()
        draw_set = gr.Button("Generate", variant="primary", scale=0, min_width=140, elem_id="generate")
    wording = Wording(context, controls)
    wording.add()
    controls.add_styles()
    with gr.Row(elem_id="desk"):
        with gr.Column(scale=6, min_width=320, elem_id="easel"):
            canvas = gr.HTML(show.canvas(), elem_id="preview")
            status = gr.HTML(show.status(), elem_id="status")
            with gr.Row(elem_id="actions"):
                die = gr.Button("New seed", size="sm", min_width=90, elem_id="die")
                download = gr.Button("Download PNG", size="sm", min_width=90, elem_id="download")
                reuse = gr.Button("Use as reference", size="sm", min_width=90, elem_id="reuse")
                describe = gr.Button("Describe", size="sm", min_width=90, elem_id="describe")
                link = gr.Button("Copy link", size="sm", min_width=90, elem_id="link")
            describing.add()
            drawn_from.add()
        with gr.Column(scale=5, min_width=320, elem_id="panel"):
            with gr.Row(elem_id="examples"):
                gr.HTML("<p>Try</p>", elem_id="try")
                examples = [gr.Button(one.label, size="sm", min_width=80) for one in EXAMPLES]
            controls.add_references()
            controls.add_settings()
            from_hub.add()
    gallery = gr.Gallery(
        label="Pictures",
        show_label=False,
        format="png",
        type="filepath",
        columns=8,
        height="auto",
        object_fit="contain",
        interactive=False,
        visible=False,
        buttons=["download", "fullscreen"],
        elem_id="gallery",
    )
    describing.add_for_gallery()
    seeds = gr.State([])
    packet = gr.JSON(visible=False)

    listeners = _Listeners(context, controls)
    listeners.add(canvas, status, drawn_from.list, draw_set, gallery, seeds)
    die.click(random_seed, outputs=controls.seed, **_INSTANT)
    for button, example in zip(examples, EXAMPLES, strict=True):
        button.click(_example(example), outputs=[controls.prompt, controls.style, *controls.references], **_INSTANT)
    link.click(None, inputs=[controls.prompt, controls.seed, controls.style], js=COPY_LINK_JS, **_PRIVATE)
    _add_download(listeners, controls, download, packet, status)
    _add_reuse(listeners, controls, reuse, status)
    describing.connect(describe, canvas, status)
    describing.connect_gallery(gallery, status)
    drawn_from.connect()
    wording.connect()
    gallery.select(_seed_of, inputs=seeds, outputs=controls.seed, **_INSTANT)
    context.demo.load(
        _opened(context),
        inputs=[context.chosen, context.fetched],
        outputs=[controls.prompt, controls.seed, controls.style, controls.memory_weight, controls.model],
        **_INSTANT,
    )
    controls.model.change(
        _chosen(context),
        inputs=[controls.model, controls.style],
        outputs=[controls.style, controls.memory_weight, controls.choices, context.chosen],
        preprocess=False,
        **_INSTANT,
    )
    from_hub.connect()


class _Listeners:
    """The live picture, and sets of pictures."""

    def __init__(self, context: Context, controls: Controls):
        self.context, self.controls = context, controls

    def service(self, request: gr.Request, model: object) -> InferenceService:
        """What draws for a visitor who has picked a model."""
        return self.context.models.service(owner_of(request), model)

    def add(self, canvas, status, drawn_from, draw_set, gallery, seeds) -> None:
        # One listener over all controls: separate ones would let a slow old answer overwrite a newer one. Values come
        # as the page sent them (preprocess=False), so that every complaint about them is the studio's own sentence.
        gr.on(
            [self.context.demo.load, *(part.change for part in self.controls.live)],
            self.draw_live,
            inputs=self.controls.all,
            outputs=[canvas, status, drawn_from],
            trigger_mode="always_last",
            show_progress="hidden",
            preprocess=False,
            **MODEL_QUEUE,
            **_PRIVATE,
        )
        gr.on(
            [draw_set.click, self.controls.prompt.submit],
            self.draw_set,
            inputs=[self.controls.keep, *self.controls.all],
            outputs=[gallery, status, self.controls.seed, seeds],
            show_progress="minimal",
            show_progress_on=gallery,
            scroll_to_output=True,
            preprocess=False,
            **MODEL_QUEUE,
            **_PRIVATE,
        )

    def draw_live(self, request: gr.Request, model: object, *values: Any) -> tuple[Any, str, Any]:
        """Draw the first picture; on bad input say why and leave the last picture in place."""
        try:
            service = self.service(request, model)
            drawing = service.draw(self.controls.order(service, *values, count=1))
        except UserError as error:
            return gr.skip(), show.problem(error), gr.skip()
        return show.canvas(drawing), show.status(drawing, service.device), list_data(service, drawing)

    def draw_set(
        self, request: gr.Request, keep: bool, model: object, *values: Any, progress: gr.Progress = _PROGRESS
    ) -> Iterator[tuple[Any, ...]]:
        """Draw a set into the gallery; on bad input say why and leave the gallery as it is."""
        seed = gr.skip() if keep else random_seed()
        try:
            service = self.service(request, model)
            order = self.controls.order(service, *values, **({} if keep else {"seed": seed}))
            service.check(order)
            yield gr.Gallery(visible=True), gr.skip(), gr.skip(), gr.skip()
            drawing = service.draw(order, on_image=lambda done, wanted: progress((done, wanted), unit="pictures"))
            images = [(path, f"seed {one}") for path, one in zip(save_all(drawing), drawing.seeds, strict=True)]
        except UserError as error:
            yield gr.skip(), show.problem(error), gr.skip(), gr.skip()
            return
        yield images, show.status(drawing, service.device), seed, drawing.seeds


def _add_download(listeners: _Listeners, controls: Controls, button, packet, status) -> None:
    def pack(request: gr.Request, model: object, *values: Any) -> tuple[Any, Any]:
        """Draw the shown picture again and hand its PNG to the page."""
        try:
            service = listeners.service(request, model)
            drawing = service.draw(controls.order(service, *values, count=1))
            with tempfile.TemporaryDirectory() as folder:
                path = drawing.save(0, Path(folder))
                content = base64.b64encode(path.read_bytes()).decode("ascii")
        except UserError as error:
            return None, show.problem(error)
        return {"name": path.name, "url": f"data:image/png;base64,{content}"}, gr.skip()

    gr.on(
        button.click,
        pack,
        inputs=controls.all,
        outputs=[packet, status],
        show_progress="hidden",
        preprocess=False,
        **MODEL_QUEUE,
        **_PRIVATE,
    ).success(None, inputs=packet, js=DOWNLOAD_JS, **_PRIVATE)


def _add_reuse(listeners: _Listeners, controls: Controls, button, status) -> None:
    def reuse(request: gr.Request, model: object, *values: Any) -> list[Any]:
        """Put the shown picture into the first free reference."""
        slots: list[Any] = [gr.skip()] * MAX_REFERENCES
        free = controls.first_free(*values)
        if free is None:
            return [*slots, show.problem(UserError("All four references are in use. Remove one first."))]
        try:
            service = listeners.service(request, model)
            drawing = service.draw(controls.order(service, *values, count=1))
        except UserError as error:
            return [*slots, show.problem(error)]
        slots[free] = save_all(drawing)[0]
        return [*slots, gr.skip()]

    gr.on(
        button.click,
        reuse,
        inputs=controls.all,
        outputs=[*controls.references, status],
        show_progress="hidden",
        preprocess=False,
        **MODEL_QUEUE,
        **_PRIVATE,
    )


def _example(example: Example):
    def fill() -> list[Any]:
        reference = example.reference() if example.reference else None
        return [example.prompt, ANY_STYLE, reference, *[None] * (MAX_REFERENCES - 1)]

    return fill


def _seed_of(seeds: list[int], event: gr.SelectData) -> Any:
    return seeds[event.index] if isinstance(event.index, int) and event.index < len(seeds) else gr.skip()


def _opened(context: Context):
    def read(request: gr.Request, chosen: str, fetched: str) -> list[Any]:
        """The model drawn with the last time, and the prompt, seed and style that a shared link names."""
        owner, query = owner_of(request), request.query_params
        context.models.remember(owner, names_of(fetched))
        choices = context.models.choices(owner)
        model = chosen if chosen in dict(map(reversed, choices)) else DEFAULT
        seed, style = query.get("seed", ""), query.get("style", ANY_STYLE)
        whole = seed.isascii() and seed.isdigit() and len(seed) <= 10 and int(seed) <= MAX_SEED
        return [
            query.get("prompt", gr.skip()),
            int(seed) if whole else gr.skip(),
            *_suited(context, owner, model, style),
            gr.Dropdown(choices=choices, value=model, visible=len(choices) > 1),
        ]

    return read


def _chosen(context: Context):
    def choose(request: gr.Request, model: object, style: object) -> tuple[Any, ...]:
        """Show what the model knows, forget what was chosen from another's memory, and remember it in the browser."""
        return *_suited(context, owner_of(request), model, style), {}, model or DEFAULT

    return choose


def _suited(context: Context, owner: str, model: object, style: object) -> tuple[Any, Any]:
    """The style picker and the weight of the memory, as a model has styles and a memory."""
    try:
        service = context.models.service(owner, model)
    except UserError:  # The drawing will say it.
        return gr.skip(), gr.skip()
    styles, chosen = service.styles, style if style in service.styles else ANY_STYLE
    radio = gr.Radio(choices=[ANY_STYLE, *styles], value=chosen, visible=bool(styles))
    return radio, gr.Slider(visible=service.has_memory)
