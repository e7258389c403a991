"""The models that the page draws with: the one it was opened on, and the results of a person's jobs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from mmgen.checkpoints import load_pipeline
from mmgen.errors import UserError
from mmgen.home import home
from mmgen.jobs import Jobs
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.ui.drawing import Studio

DEFAULT = ""
"""Stands for the model that the page was opened on, where others are named by their job's id."""

MOST_LOADED = 3


class Models:
    """Finds and loads models; keeps the three that were used last, the default among them. Threads may share it.

    Args:
        pipe: the default, loaded from a folder.
    """

    def __init__(self, pipe: MultimodalGANPipeline):
        self.default = Studio(pipe)
        self.default_folder = Path(pipe.name_or_path).absolute()
        self._loaded: OrderedDict[tuple[Path, int], Studio] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def default_choice(self) -> tuple[str, str]:
        """The first of the choices, whoever asks."""
        return f"{self.default_folder.name} (default)", DEFAULT

    def choices(self, owner: str) -> list[tuple[str, str]]:
        """What a person can draw with: names to show and what `studio` takes, the default first."""
        try:
            results = [(job.name, job.id) for job in Jobs(home(owner)).list() if job.result]
        except UserError:  # Whoever has no folder has no results.
            results = []
        return [self.default_choice, *results]

    def folder(self, owner: str, model: object) -> Path:
        """The checkpoint's folder of one of the `choices`; of the default if it is not there any more."""
        if isinstance(model, str) and model != DEFAULT:
            try:
                return Jobs(home(owner)).get(model).result or self.default_folder
            except UserError:
                pass
        return self.default_folder

    def studio(self, owner: str, model: object) -> Studio:
        """One of the `choices`, loaded; the default if it is not there any more.

        Raises:
            UserError: it is there and cannot be loaded.
        """
        folder = self.folder(owner, model)
        if folder == self.default_folder:
            return self.default
        try:  # A job that goes on replaces its result, which is then another model.
            key = (folder, (folder / "model_index.json").stat().st_mtime_ns)
        except OSError:
            return self.default
        with self._lock:
            if key not in self._loaded:
                while len(self._loaded) >= MOST_LOADED - 1:
                    self._loaded.popitem(last=False)
                self._loaded[key] = Studio(load_pipeline(folder))
            self._loaded.move_to_end(key)
            return self._loaded[key]
