"""The page's endpoints for programs that train: from pairs to a result. Everyone reaches their own things only."""

# Annotations stay real objects here: gradio reads the endpoints' types from them.
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio import FileData

from mmgen.errors import UserError
from mmgen.jobs import Job
from mmgen.services.drafts import DraftService
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.ui.common.context import PAIRS_QUEUE, Context
from mmgen.ui.train.pairs import NOT_UPLOADED
from mmgen.ui.train.start import TrainingRequest, settings_of
from mmgen.ui.train.words import state_words
from mmgen.ui.web.files import hand_out, uploaded_path
from mmgen.ui.web.owner import owner_of

_DEFAULTS = FinetuneSettings()


def build(context: Context) -> None:
    """Add the endpoints to the page."""
    drafts, models = context.drafts, context.models

    def check_pairs(
        request: gr.Request,
        files: list[FileData] | None = None,
        captions: list[str] | None = None,
        draft: str = "",
    ) -> tuple[str, dict[str, Any]]:
        """Add pictures with captions to a draft, and let the model look at all of its pairs.

        Args:
            files: pictures, texts beside them, or zip files; what cannot be read is told, and the rest is taken.
            captions: one for each file, which are then pictures; none by default.
            draft: what to add to, as an earlier call gave it; a new one by default.

        Returns:
            The draft, and a dictionary of its pairs, the findings, a sentence for each reason for which something was
            refused, and the whole report: what was taken, guessed and left out.
        """
        owner = owner_of(request)
        with _told():
            paths = [uploaded_path(one, NOT_UPLOADED) for one in _listed("files", files)]
            texts = None if captions is None else _texts("captions", captions)
            draft = draft or drafts.new_draft(owner)
            pairs = drafts.draft(owner, draft)
            added = pairs.add_files(paths) if texts is None else pairs.add_images(paths, texts)
            checkup = drafts.check(owner, draft, models.default.pipe, None)
            return draft, {
                "pairs": [
                    {"name": one.name, "text": one.text, "problems": checkup.problems(one)} for one in pairs.pairs
                ],
                "findings": [
                    {"kind": one.kind, "names": one.names, "sentence": one.sentence} for one in checkup.findings()
                ],
                "refused": added.refused,
                "report": added.report.as_dict(),
            }

    def start_training(
        request: gr.Request,
        draft: str,
        name: str = TrainingRequest.name,
        preset: str = _DEFAULTS.preset,
        minutes: float | None = _DEFAULTS.minutes,
        steps: int | None = None,
        prior: float = _DEFAULTS.prior,
        decoder: str = "auto",
        watch: list[str] | None = None,
        base: str = TrainingRequest.base,
        seed: int = _DEFAULTS.seed,
    ) -> str:
        """Queue a training on the pairs as they are now.

        Args:
            draft: the pairs, as /check_pairs gave them.
            name: of the job.
            preset: what learns: style, concept, set or everything.
            minutes: how long to train, unless there are steps.
            steps: how long to train, instead.
            prior: share that keeps what the model knows, 0 to 0.9.
            decoder: whether the picture decoder is tuned: auto, yes or no.
            watch: up to 4 prompts to draw while it trains.
            base: a job whose result to start from; the page's own model by default.
            seed: of everything random.

        Returns:
            The job's id.
        """
        with _told():
            settings = settings_of(preset, minutes, steps, prior, decoder, watch or [], seed)
            return TrainingRequest(name, base, settings).start(owner_of(request), drafts, models, draft).id

    def training_state(request: gr.Request, job: str) -> dict[str, Any]:
        """How far a training is.

        Args:
            job: its id.

        Returns:
            Its name, state, place in the queue, whether it has a result, its error, and what it last reported.
        """
        with _told():
            return _state(drafts, owner_of(request), _id(job))

    def training_samples(request: gr.Request, job: str) -> list[FileData]:
        """What a training has drawn so far, the oldest first.

        Args:
            job: its id.

        Returns:
            Sheets of its prompts as PNG files, each named by its step.
        """
        with _told():
            sheets = drafts.jobs(owner_of(request)).get(_id(job)).samples
            return [FileData(path=hand_out(path), orig_name=path.name).model_dump() for path in sheets]  # type: ignore[misc]

    def pause_training(request: gr.Request, job: str) -> dict[str, Any]:
        """Let a training end such that it can go on later.

        Args:
            job: its id.

        Returns:
            What /training_state gives.
        """
        return _steer(request, "pause", job)

    def stop_training(request: gr.Request, job: str) -> dict[str, Any]:
        """Let a training end, and keep what it has learned.

        Args:
            job: its id.

        Returns:
            What /training_state gives.
        """
        return _steer(request, "stop", job)

    def resume_training(request: gr.Request, job: str) -> dict[str, Any]:
        """Let a training go on where it ended.

        Args:
            job: its id.

        Returns:
            What /training_state gives.
        """
        return _steer(request, "resume", job)

    def delete_training(request: gr.Request, job: str) -> str:
        """Delete a training with all it has made.

        Args:
            job: its id.

        Returns:
            Its name.
        """
        with _told():
            jobs = drafts.jobs(owner_of(request))
            name = jobs.get(_id(job)).name
            jobs.delete(job)
            return name

    def list_trainings(request: gr.Request) -> list[dict[str, Any]]:
        """All trainings, the newest first, each as /training_state gives it."""
        owner = owner_of(request)
        with _told():
            return [_state(drafts, owner, job.id) for job in drafts.jobs(owner).list()]

    def _steer(request: gr.Request, act: str, job: str) -> dict[str, Any]:
        owner = owner_of(request)
        with _told():
            getattr(drafts.jobs(owner), act)(_id(job))
            return _state(drafts, owner, job)

    gr.api(check_pairs, api_name="check_pairs", concurrency_id="doctor", concurrency_limit=1)
    gr.api(start_training, api_name="start_training", **PAIRS_QUEUE)
    looking: list[Callable[..., Any]] = [training_state, training_samples, list_trainings]
    steering: list[Callable[..., Any]] = [pause_training, stop_training, resume_training, delete_training]
    for endpoint in (*looking, *steering):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_id="jobs", concurrency_limit=4)


def _state(drafts: DraftService, owner: str, job_id: str) -> dict[str, Any]:
    jobs = drafts.jobs(owner)
    job: Job = jobs.get(job_id)
    state = job.state
    return {
        "job": job.id,
        "name": job.name,
        "state": state,
        "said": state_words(state, job.result is not None),
        "position": jobs.position(job.id),
        "result": job.result is not None,
        "error": job.error,
        "status": job.status,
    }


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _id(job: Any) -> str:
    if not isinstance(job, str):
        raise UserError("The job must be given by its id.")
    return job


def _listed(name: str, values: Any) -> list[Any]:
    if values is not None and not isinstance(values, list):
        raise UserError(f"The {name} must be a list.")
    return values or []


def _texts(name: str, values: Any) -> list[str]:
    if not all(isinstance(one, str) for one in _listed(name, values)):
        raise UserError(f"The {name} must be a list of texts.")
    return values
