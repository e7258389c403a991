"""The models that the page draws with: the default, others in `checkpoints/`, results of jobs, and those of the Hub."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from mmgen.checkpoints import load_pipeline, local_checkpoints
from mmgen.errors import UserError
from mmgen.home import home
from mmgen.jobs import Jobs
from mmgen.loading.fetch import fetch, split_name
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.services.folder_watch import FolderWatch
from mmgen.services.inference import InferenceService
from mmgen.space import on_space

DEFAULT = ""
"""Stands for the model that the page was opened on; others are named by their job's id, their folder's name in
`checkpoints/`, or `user/name[@revision]` on the Hub."""

MAX_LOADED = 3
MAX_FROM_HUB = 12
"""Models of the Hub among one person's choices."""

MAX_MODEL_BYTES = 1_000_000_000
"""Of a model that a stranger may have fetched on a Space."""

_MAX_OWNERS = 1000


class UnknownModel(UserError):
    """There is no such model, or not any more."""


class Models:
    """Finds and loads models; keeps the three that were used last, the default among them. Threads may share it.

    Args:
        pipe: the default, loaded from a folder.
        load: loads the default anew where another checkpoint was put in its folder.
    """

    def __init__(self, pipe: MultimodalGANPipeline, load: Callable[[], MultimodalGANPipeline] | None = None):
        self.default_folder = Path(pipe.name_or_path).absolute()
        self._default, self._watch = InferenceService(pipe), FolderWatch(self.default_folder)
        self._load_default = load or (lambda: load_pipeline(self.default_folder))
        self._loaded: OrderedDict[tuple[Path, int], InferenceService] = OrderedDict()
        self._fetched: dict[str, Path] = {}
        self._from_hub: OrderedDict[str, list[str]] = OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    @property
    def default(self) -> InferenceService:
        """The model that the page was opened on, or what was put in its folder since, if that can be loaded."""
        if self._watch.has_changed() and self._loading.acquire(blocking=False):  # Others draw with the old one.
            try:
                self._watch.take()
                self._default = InferenceService(self._load_default())
                sys.stderr.write(f"mmgen: the model in {self.default_folder} was replaced, and is drawn with now\n")
            except UserError as error:
                sys.stderr.write(
                    f"mmgen: the page draws with the old model, as the new one cannot be loaded: {error}\n"
                )
            finally:
                self._loading.release()
        return self._default

    @property
    def default_choice(self) -> tuple[str, str]:
        """The first of the choices, whoever asks."""
        return f"{self.default_folder.name} (default)", DEFAULT

    def own_choices(self, owner: str) -> list[tuple[str, str]]:
        """The models that lie here: names to show and ids, the default first."""
        try:
            results = [(job.name, job.id) for job in Jobs(home(owner, make=False)).list() if job.result]
        except UserError:  # Whoever has no folder has no results.
            results = []
        folders = [(name, name) for name, path in local_checkpoints().items() if path != self.default_folder]
        return [self.default_choice, *results, *folders]

    def choices(self, owner: str) -> list[tuple[str, str]]:
        """What a person can draw with: names to show and what `service` takes, the default first."""
        return [*self.own_choices(owner), *((name, name) for name in self.from_hub(owner))]

    def from_hub(self, owner: str) -> list[str]:
        """Models of the Hub that a person has fetched, the oldest first."""
        with self._lock:
            return list(self._from_hub.get(owner, ()))

    def remember(self, owner: str, names: Iterable[str]) -> None:
        """Add models of the Hub to a person's choices; what is no name of one is left out."""
        good = [name for name in names if isinstance(name, str) and split_name(name)]
        if not good:
            return
        with self._lock:
            known = self._from_hub.setdefault(owner, [])
            known += [name for name in dict.fromkeys(good) if name not in known]
            del known[:-MAX_FROM_HUB]
            self._from_hub.move_to_end(owner)
            while len(self._from_hub) > _MAX_OWNERS:
                self._from_hub.popitem(last=False)

    def fetch(self, owner: str, text: object, on_progress: Callable[[int, int], None] | None = None) -> str:
        """Fetch a model from the Hub, load it, and add it to a person's choices.

        On a Space it must be public and not too large: no token is sent for a visitor, neither the visitor's own nor
        that of the Space, so nothing private ever lies where other visitors could draw with it.

        Args:
            text: `user/name[@revision]`, or the address of its page.
            on_progress: takes the bytes that are here, and those that are known to be wanted; from any thread.

        Returns:
            Its name among the choices.

        Raises:
            UserError: that is no name, or the model cannot be fetched or loaded.
        """
        name = str(text or "").strip().removeprefix(f"{constants.ENDPOINT}/").rstrip("/")
        found = split_name(name)
        if found is None:
            shown = repr(name[:100]) if name else "Nothing"
            raise UserError(f"{shown} cannot be the name of a model. Name one on the Hub as user/name.")
        limits: dict[str, Any] = {"token": False, "most_bytes": MAX_MODEL_BYTES} if on_space() else {}
        folder = fetch(*found, on_progress=on_progress, **limits)
        self._load(folder, name)
        with self._lock:
            self._fetched[name] = folder
        self.remember(owner, [name])
        return name

    def find(self, owner: str, model: object) -> Path:
        """The checkpoint's folder of one of the `choices`.

        Raises:
            UnknownModel: it is none of them.
            UserError: it is one of the Hub, and does not lie here any more.
        """
        if model == DEFAULT:
            return self.default_folder
        if isinstance(model, str):
            if split_name(model):
                return self._of_hub(model)
            if folder := local_checkpoints().get(model):
                return folder
            try:
                if result := Jobs(home(owner, make=False)).get(model).result:
                    return result
            except UserError:
                pass
        raise UnknownModel(f"There is no model {str(model)[:80]!r} here, or none any more. Choose another.")

    def folder(self, owner: str, model: object) -> Path:
        """As `find`, but that of the default if there is no such model any more."""
        try:
            return self.find(owner, model)
        except UnknownModel:
            return self.default_folder

    def own_folder(self, owner: str, model: object) -> Path:
        """The checkpoint's folder of one of the `own_choices`.

        Raises:
            UnknownModel: it is none of them.
        """
        if model not in [own for _, own in self.own_choices(owner)]:
            raise UnknownModel(f"There is no model {str(model)[:80]!r} of yours here. Choose another.")
        return self.find(owner, model)

    def service(self, owner: str, model: object) -> InferenceService:
        """One of the `choices`, loaded; the default if it is not there any more.

        Raises:
            UserError: it is there and cannot be loaded, or it is one of the Hub, and does not lie here any more.
        """
        try:
            return self._load(self.find(owner, model), str(model))
        except UnknownModel:
            return self.default

    def asked_for(self, owner: str, model: object) -> InferenceService:
        """What a program names, loaded; a model of the Hub is fetched first if need be.

        Raises:
            UserError: there is no such model, or it cannot be fetched or loaded.
        """
        if isinstance(model, str) and split_name(model) and model not in self._fetched:
            model = self.fetch(owner, model)
        return self._load(self.find(owner, model), str(model))

    def _of_hub(self, name: str) -> Path:
        """The folder of a model that was fetched; none is fetched here, where it would keep others waiting."""
        folder, found = self._fetched.get(name), split_name(name)
        if folder is None and found and not on_space():
            try:
                folder = fetch(*found, local_files_only=True)
            except UserError:
                pass
        if folder is None or not folder.is_dir():
            raise UserError(f"{name} is not here any more. Load it from the Hub again, or choose another model.")
        with self._lock:
            self._fetched[name] = folder
        return folder

    def _load(self, folder: Path, name: str) -> InferenceService:
        """Raises UserError if it cannot be loaded, UnknownModel if it was deleted just now."""
        if folder == self.default_folder:
            return self.default
        try:  # A job that goes on replaces its result, which is then another model.
            key = (folder, (folder / "model_index.json").stat().st_mtime_ns)
        except OSError as error:
            raise UnknownModel(f"{name} is not there any more. Choose another model.") from error
        if service := self._kept(key):
            return service
        with self._loading:  # One at a time, to save memory; who draws with what is loaded waits for none.
            if service := self._kept(key):
                return service
            service = InferenceService(load_pipeline(folder))
            with self._lock:
                while len(self._loaded) >= MAX_LOADED - 1:
                    self._loaded.popitem(last=False)
                self._loaded[key] = service
        return service

    def _kept(self, key: tuple[Path, int]) -> InferenceService | None:
        with self._lock:
            service = self._loaded.get(key)
            if service:
                self._loaded.move_to_end(key)
            return service
