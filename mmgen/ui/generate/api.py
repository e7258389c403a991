"""The page's endpoints for programs: `/generate`, `/preview` and `/models`."""

# Annotations stay real objects here: gradio reads the endpoints' types from them.
from typing import Any

import gradio as gr
from gradio import FileData

from mmgen.attribution import attributions, share_facts
from mmgen.errors import UserError
from mmgen.services.inference import ANY_STYLE, GenerationRequest, GenerationResult, InferenceService
from mmgen.services.models import DEFAULT, Models
from mmgen.ui.common.context import PROGRAMS_QUEUE, Context
from mmgen.ui.web.files import save_all, uploaded_path
from mmgen.ui.web.owner import owner_of


def build(context: Context) -> None:
    """Add the endpoints to the page."""
    models = context.models

    def generate(
        request: gr.Request,
        prompt: str = "",
        style: str = ANY_STYLE,
        references: list[FileData] | None = None,
        reference_weights: list[float] | None = None,
        text_weight: float = 1.0,
        seed: int = 0,
        truncation: float = 1.0,
        count: int = 1,
        model: str = DEFAULT,
        memory_weight: float = 1.0,
        memory_dropped: list[int] | None = None,
        memory_pinned: list[int] | None = None,
    ) -> tuple[list[FileData], dict[str, Any]]:
        """Draw a set of pictures; picture i is drawn from seed + i.

        Args:
            prompt: what to draw; empty to leave the words out.
            style: "Any", or one of the model's styles.
            references: up to 4 pictures.
            reference_weights: one for each reference, 0 to 2; 1 by default.
            text_weight: 0 to 2.
            seed: 0 to 4294967295.
            truncation: 0 (the mean style) to 1 (all variety).
            count: 1 to 16 pictures.
            model: one of /models, or `user/name[@revision]` of the Hub, which is fetched first; the page's by default.
            memory_weight: 0 to 2; of what a model with a memory looks up there.
            memory_dropped: numbers of entries of the memory that are never looked up.
            memory_pinned: numbers of entries of the memory that always are, at most as many as one look-up finds.

        Returns:
            The pictures as transparent PNG files, and their seeds, notes, time and device, and as `read_as` the words
            that were read: emoji and other languages as English, where the model has a vocabulary. Of a model with a
            memory also `drawn_from`, for each picture the entries that it leaned on with their sources, the most first;
            the `attributions` that the pictures need where they are published; and the three memory arguments.
        """
        asked = (prompt, style, references, reference_weights, text_weight, seed, truncation, count)
        return _answer(models, request, model, *asked, memory_weight, memory_dropped, memory_pinned)

    def preview(
        request: gr.Request,
        prompt: str = "",
        style: str = ANY_STYLE,
        references: list[FileData] | None = None,
        reference_weights: list[float] | None = None,
        text_weight: float = 1.0,
        seed: int = 0,
        truncation: float = 1.0,
        model: str = DEFAULT,
        memory_weight: float = 1.0,
        memory_dropped: list[int] | None = None,
        memory_pinned: list[int] | None = None,
    ) -> tuple[FileData, dict[str, Any]]:
        """Draw one picture, the first that /generate would draw of the same values.

        Args:
            prompt: what to draw; empty to leave the words out.
            style: "Any", or one of the model's styles.
            references: up to 4 pictures.
            reference_weights: one for each reference, 0 to 2; 1 by default.
            text_weight: 0 to 2.
            seed: 0 to 4294967295.
            truncation: 0 (the mean style) to 1 (all variety).
            model: as /generate takes it.
            memory_weight: 0 to 2; of what a model with a memory looks up there.
            memory_dropped: numbers of entries of the memory that are never looked up.
            memory_pinned: numbers of entries of the memory that always are, at most as many as one look-up finds.

        Returns:
            The picture as a transparent PNG file, and its seed, notes, time and device, `read_as`, and what /generate
            tells of the memory.
        """
        asked = (prompt, style, references, reference_weights, text_weight, seed, truncation, 1)
        files, facts = _answer(models, request, model, *asked, memory_weight, memory_dropped, memory_pinned)
        return files[0], facts

    def list_models(request: gr.Request) -> list[dict[str, str]]:
        """What /generate can draw with.

        Returns:
            The name of each to show, and the `model` that stands for it; the page's own first.
        """
        return [{"name": name, "model": model} for name, model in models.choices(owner_of(request))]

    gr.api(generate, api_name="generate", **PROGRAMS_QUEUE)
    gr.api(preview, api_name="preview", **PROGRAMS_QUEUE)
    gr.api(list_models, api_name="models", concurrency_id="jobs", concurrency_limit=4)


def _answer(
    models: Models, request, model, prompt, style, references, weights, text_weight, seed, truncation, count,
    memory_weight, dropped, pinned,
):  # fmt: skip
    try:
        paths = tuple(uploaded_path(one) for one in _listed("references", references))
        weights = (1.0,) * len(paths) if weights is None else _listed("reference weights", weights)
        service = models.asked_for(owner_of(request), model)
        memory = (memory_weight, _listed("dropped entries", dropped), _listed("pinned entries", pinned))
        drawing = service.draw(
            GenerationRequest(prompt, style, paths, weights, text_weight, seed, truncation, count, *memory)
        )
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    files = [FileData(path=path, orig_name=path.rsplit("/", 1)[-1]).model_dump() for path in save_all(drawing)]
    return files, _facts(drawing, service)


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    if values is not None and not isinstance(values, list):
        raise UserError(f"The {name} must be a list.")
    return tuple(values or ())


def _facts(drawing: GenerationResult, service: InferenceService) -> dict[str, Any]:
    facts = {
        "seeds": drawing.seeds,
        "notes": drawing.notes,
        "milliseconds": drawing.milliseconds,
        "device": service.device,
        "read_as": drawing.read_as,
    }
    if drawing.drawn_from is not None:
        facts |= {
            "drawn_from": [[share_facts(share) for share in shares] for shares in drawing.drawn_from],
            "attributions": attributions(share for shares in drawing.drawn_from for share in shares),
            "memory_weight": drawing.order.memory_weight,
            "memory_dropped": list(drawing.order.dropped),
            "memory_pinned": list(drawing.order.pinned),
        }
    return facts
