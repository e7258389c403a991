"""Publishing of a person's own models, whatever the page looks like."""

from __future__ import annotations

from collections.abc import Callable

from mmgen.errors import UserError
from mmgen.hub.publish import Published, publish
from mmgen.services.background import KeyedMutex
from mmgen.services.models import Models

Progress = Callable[[float, str], None]


class Publisher:
    """Shows what would be sent, and sends it. Threads may share it.

    Args:
        models: whose own ones are published.
    """

    def __init__(self, models: Models):
        self.models = models
        self._busy = KeyedMutex()

    def stamp(self, owner: str, model: object, name: object) -> str:
        """Stands for a model as it is now under a name; another one once its training has gone on.

        Raises:
            UserError: there is no such model.
        """
        folder = self.models.own_folder(owner, model)
        try:
            changed = (folder / "model_index.json").stat().st_mtime_ns
        except OSError as error:
            raise UserError("This model is not there any more. Choose another.") from error
        return f"{folder}\n{changed}\n{_text(name)}"

    def look(self, owner: str, model: object, name: object, on_progress: Progress | None = None) -> Published:
        """What would be sent; nothing is.

        Raises:
            UserError: there is no such model, it is not whole, or the name cannot be used.
        """
        return publish(self.models.own_folder(owner, model), _text(name), dry_run=True, on_progress=on_progress)

    def send(
        self,
        owner: str,
        model: object,
        name: object,
        private: object,
        token: str | None,
        on_progress: Progress | None = None,
    ) -> Published:
        """Publish, and compare what arrived.

        Args:
            private: False to show it to everybody.
            token: as `mmgen.ui.web.account.token_of` gives it.

        Raises:
            UserError: as for `look`; it is being published already; nobody is signed in; or the Hub refuses.
        """
        private = checked_private(private)
        name = _text(name)
        folder = self.models.own_folder(owner, model)
        sentence = f"{name} is being published already. Wait until that has ended."
        with self._busy.doing(owner, name, sentence=sentence):
            return publish(folder, name, private=private, on_progress=on_progress, token=token)


def checked_private(private: object) -> bool:
    """Whether it is private; a `UserError` for anything but True or False."""
    if not isinstance(private, bool):
        raise UserError("Say whether it is private by true or false.")
    return private


def _text(name: object) -> str:
    return name.strip() if isinstance(name, str) else ""
