"""What every tab of the page is given."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from mmgen.ui.drawing import Studio

# Every event that runs the model shares one place in the queue, so drawings never compete for the processor.
MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}


@dataclass(frozen=True)
class Context:
    """Attributes:
    demo: the page being built.
    studio: the model, ready to draw.
    """

    demo: gr.Blocks
    studio: Studio
