"""The endpoint `/describe`: pictures back into words, for programs."""

# Annotations stay real objects here: gradio reads the endpoint's types from them.
from typing import Any

import gradio as gr
from gradio import FileData

from mmgen.errors import UserError
from mmgen.services.models import DEFAULT
from mmgen.ui.common.context import Context
from mmgen.ui.web.files import uploaded_path
from mmgen.ui.web.owner import owner_of

MAX_IMAGES = 200


def build(context: Context) -> None:
    """Add the endpoint to the page."""

    def describe(
        request: gr.Request, pictures: list[FileData], captions: int = 3, model: str = DEFAULT
    ) -> list[list[dict[str, Any]]]:
        """Say what pictures show.

        Args:
            pictures: 1 to 200 of them.
            captions: of each picture, 1 to 16.
            model: as /generate takes it.

        Returns:
            For each picture its captions, each a `text` with its `probability`, the most probable first; none for a
            picture that is transparent all over.
        """
        try:
            if not isinstance(pictures, list):
                raise UserError("The pictures must be a list.")
            if len(pictures) > MAX_IMAGES:
                raise UserError(f"There are {len(pictures)} pictures; send at most {MAX_IMAGES} at a time.")
            paths = [uploaded_path(one, "A picture must be an uploaded file") for one in pictures]
            found = context.models.asked_for(owner_of(request), model).describe(paths, captions)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return [[{"text": one.text, "probability": one.probability} for one in captions] for captions in found]

    # Large pictures take long to decode, and nobody's drawing waits for that.
    gr.api(describe, api_name="describe", concurrency_id="describe", concurrency_limit=1)
