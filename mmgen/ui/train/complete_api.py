"""The endpoints `/complete` and `/known_labels`: the rest of a set in the style of a person's pictures."""

# Annotations stay real objects here: gradio reads the endpoints' types from them.
import io
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio import FileData

from mmgen.attribution import attributions, share_facts
from mmgen.completion import Completed
from mmgen.data.intake import safe_name, unique_names
from mmgen.errors import UserError
from mmgen.services.completion import CompletionRequest, completable
from mmgen.services.models import DEFAULT
from mmgen.ui.common.context import PROGRAMS_QUEUE, Context
from mmgen.ui.train.pairs import NOT_UPLOADED
from mmgen.ui.web.files import keep, uploaded_path
from mmgen.ui.web.owner import owner_of


def build(context: Context) -> None:
    """Add the endpoints to the page."""

    def complete(
        request: gr.Request,
        pictures: list[FileData] | None = None,
        captions: list[str] | None = None,
        labels: list[str] | None = None,
        seeds: list[int] | None = None,
        draft: str = "",
        truncation: float = 1.0,
        memory_weight: float = 1.0,
        cut_out: bool = False,
        model: str = DEFAULT,
    ) -> Iterator[dict[str, Any]]:
        """Draw things in the style of some pictures, streamed as they come; cancel it and what was drawn stays.

        Args:
            pictures: of one style, uploaded; none if a draft is given.
            captions: one for each picture, in a word or some.
            labels: what to draw, up to 64, with no style named; one that is asked for again is drawn again.
            seeds: one for all labels, or one for each, 0 to 4294967295; 0 by default.
            draft: the pairs of /check_pairs instead of pictures; those without a caption are left out.
            truncation: 0 (the mean style) to 1 (all variety).
            memory_weight: 0 to 2; of the pictures and the memory.
            cut_out: whether to make the even ground of pictures without transparency transparent.
            model: as /generate takes it; it must have a memory.

        Returns:
            After each drawing all until then: `files`, transparent PNGs named by their labels; of each its `label`,
            `seed` and `drawn_from`, in which the given pictures are `own`, in `drawn`; how many are `done` of how many;
            `notes` for the person; and the `attributions` that the drawings need where they are published.
        """
        try:
            owner = owner_of(request)
            paths = tuple(uploaded_path(one, NOT_UPLOADED) for one in _listed("pictures", pictures))
            texts = _texts("captions", captions)
            wanted = _texts("labels", labels)
            chosen = _listed("seeds", seeds) or (0,)
            service = context.models.asked_for(owner, model)
            order = CompletionRequest(
                paths, texts, draft, wanted, chosen[0] if len(chosen) == 1 else chosen, truncation, memory_weight,
                bool(cut_out),
            )  # fmt: skip
            entries = len(service.pipe.looked_up or ())
            made: list[Completed] = []
            files: list[Any] = []
            for one in order.draw(owner, context.drafts, service):
                made.append(one)
                files.append(_file(one, [file["orig_name"] for file in files]))
                yield _facts(made, files, len(wanted), entries)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def known_labels(request: gr.Request, model: str = DEFAULT) -> list[str]:
        """What a model knows and can draw for any set.

        Args:
            model: as /generate takes it.

        Returns:
            Labels, one a thing; none of a model without a memory.
        """
        try:
            return completable(context.models.asked_for(owner_of(request), model))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    gr.api(complete, api_name="complete", **PROGRAMS_QUEUE)
    gr.api(known_labels, api_name="known_labels", concurrency_id="jobs", concurrency_limit=4)


def _file(one: Completed, taken: list[str]) -> Any:
    name = next(unique_names([safe_name(f"{one.label.replace('.', ' ')}.png")], taken))
    buffer = io.BytesIO()
    one.image.save(buffer, format="PNG")
    return FileData(path=keep(name, buffer.getvalue()), orig_name=name).model_dump()


def _facts(made: list[Completed], files: list[Any], count: int, entries: int) -> dict[str, Any]:
    drawn = [
        {
            "label": one.label,
            "seed": one.seed,
            "drawn_from": [{**share_facts(share), "own": share.entry >= entries} for share in one.drawn_from],
        }
        for one in made
    ]
    known = (share for one in made for share in one.drawn_from if share.entry < entries)
    return {
        "files": list(files),
        "drawn": drawn,
        "done": len(made),
        "of": count,
        "notes": list(dict.fromkeys(note for one in made for note in one.notes)),
        "attributions": attributions(known),
    }


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    if values is not None and not isinstance(values, list):
        raise UserError(f"The {name} must be a list.")
    return tuple(values or ())


def _texts(name: str, values: Any) -> tuple[str, ...]:
    texts = _listed(name, values)
    if not all(isinstance(one, str) for one in texts):
        raise UserError(f"The {name} must be a list of texts.")
    return texts
