"""The controls of the Generate tab, and how their values become an order."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mmgen.pipeline import MAX_REFERENCES
from mmgen.services.choices import choices_of
from mmgen.services.inference import ANY_STYLE, MAX_COUNT, MAX_WEIGHT, GenerationRequest, InferenceService
from mmgen.ui.generate.examples import EXAMPLES
from mmgen.ui.web.files import uploaded_path


class Controls:
    """Everything a person sets. The `add_` methods place the controls where they are called."""

    def __init__(self, model: gr.Dropdown, service: InferenceService):
        self.model = model
        self._styles, self._has_memory = service.styles, service.has_memory
        self.references: list[gr.Image] = []
        self.weights: list[gr.Slider] = []
        self.describers: list[gr.Button] = []

    def add_prompt(self) -> None:
        """The prompt; Enter submits it."""
        self.prompt = gr.Textbox(
            EXAMPLES[0].prompt,
            label="Prompt",
            show_label=False,
            placeholder=f"Describe a picture, such as: {EXAMPLES[0].prompt}",
            lines=1,
            max_lines=4,
            autofocus=True,
            container=False,
            scale=1,
            elem_id="prompt",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False, enterkeyhint="go"),
        )

    def add_styles(self) -> None:
        """The style picker, hidden where the model knows no styles, and the model picker, shown once there are two."""
        with gr.Row(elem_id="kinds"):
            self.style = gr.Radio(
                [ANY_STYLE, *self._styles],
                value=ANY_STYLE,
                label="Style",
                show_label=False,
                container=False,
                visible=bool(self._styles),
                elem_id="style",
            )
            self.model.render()

    def add_references(self) -> None:
        """Four references, each with a weight and a button that the style sheet shows once there is a picture."""
        with gr.Accordion("Reference pictures", open=True, elem_id="references"):
            with gr.Row(elem_id="slots"):
                for number in range(1, MAX_REFERENCES + 1):
                    with gr.Column(min_width=100, elem_classes="reference"):
                        self.references.append(
                            gr.Image(
                                label=f"Reference {number}",
                                show_label=False,
                                format="png",
                                image_mode=None,
                                type="filepath",
                                sources=["upload", "clipboard"],
                                height=112,
                                placeholder="Add picture",
                                buttons=[],
                                elem_id=f"reference-{number}",
                            )
                        )
                        self.weights.append(
                            gr.Slider(
                                0,
                                MAX_WEIGHT,
                                value=1.0,
                                step=0.05,
                                label=f"Weight {number}",
                                min_width=80,
                                buttons=[],
                                elem_id=f"weight-{number}",
                                elem_classes="weight",
                            )
                        )
                        self.describers.append(
                            gr.Button("Describe", size="sm", min_width=60, elem_id=f"describe-{number}")
                        )

    def add_settings(self) -> None:
        """Everything else, folded away."""
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            with gr.Row(equal_height=True):
                self.count = gr.Slider(1, MAX_COUNT, value=8, step=1, label="Pictures", buttons=[], elem_id="count")
                self.seed = gr.Number(0, label="Seed", precision=0, min_width=120, elem_id="seed")
                self.keep = gr.Checkbox(
                    True,
                    label="Keep the seed",
                    info="Off: each Generate draws from a new one.",
                    min_width=120,
                    elem_id="keep",
                )
            with gr.Row():
                self.text_weight = gr.Slider(
                    0, MAX_WEIGHT, value=1.0, step=0.05, label="Prompt weight", buttons=[], elem_id="text-weight"
                )
                self.memory_weight = gr.Slider(
                    0,
                    MAX_WEIGHT,
                    value=1.0,
                    step=0.05,
                    label="Memory weight",
                    visible=self._has_memory,
                    buttons=[],
                    elem_id="memory-weight",
                )
                self.truncation = gr.Slider(
                    0,
                    1,
                    value=1.0,
                    step=0.05,
                    label="Truncation",
                    info="0: the average look; 1: all variety.",
                    buttons=[],
                    elem_id="truncation",
                )
            self.choices = gr.JSON({}, visible="hidden", elem_id="choices")

    @property
    def live(self) -> list[gr.components.Component]:
        """The controls that change the shown picture."""
        return [*self._first, *self.references, *self.weights]

    @property
    def all(self) -> list[gr.components.Component]:
        """The model, then the other controls in the order that `order` takes their values in."""
        return [*self._first, self.count, *self.references, *self.weights]

    @property
    def _first(self) -> list[gr.components.Component]:
        words = [self.model, self.prompt, self.style, self.text_weight]
        return [*words, self.memory_weight, self.choices, self.seed, self.truncation]

    @staticmethod
    def order(service: InferenceService, *values: Any, **changes: Any) -> GenerationRequest:
        """What the values of `all`, but for the model, ask for, as the page sent them.

        Args:
            service: what is to draw it; a style that it does not know is left out, and so are entries of a memory.
            changes: fields of the order to set otherwise.

        Raises:
            UserError: a reference is no uploaded file.
        """
        prompt, style, text_weight, memory_weight, choices, seed, truncation, count, *rest = values
        dropped, pinned = choices_of(choices, prompt, service)
        pairs = [pair for pair in zip(rest[:MAX_REFERENCES], rest[MAX_REFERENCES:], strict=True) if pair[0]]
        fields = {
            "prompt": prompt or "",
            "style": style if style in service.styles else ANY_STYLE,
            "references": tuple(uploaded_path(image) for image, _ in pairs),
            "reference_weights": tuple(weight for _, weight in pairs),
            "text_weight": text_weight,
            "seed": seed,
            "truncation": truncation,
            "count": count,
            "memory_weight": memory_weight,
            "dropped": dropped,
            "pinned": pinned,
        }
        return GenerationRequest(**{**fields, **changes})

    @staticmethod
    def first_free(*values: Any) -> int | None:
        """Which reference, counted from 0, has no picture yet."""
        images = values[-2 * MAX_REFERENCES : -MAX_REFERENCES]
        return next((index for index, image in enumerate(images) if not image), None)
