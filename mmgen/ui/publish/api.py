"""The page's endpoints for programs that publish."""

# Annotations stay real objects here: gradio reads the endpoints' types from them.
from typing import Any

import gradio as gr

from mmgen.errors import UserError
from mmgen.hub.publish import Published
from mmgen.services.models import DEFAULT
from mmgen.ui.common.context import Context
from mmgen.ui.web.account import token_of
from mmgen.ui.web.owner import owner_of


def build(context: Context) -> None:
    """Add the endpoints to the page."""
    publisher = context.publisher

    def publish_dry_run(request: gr.Request, name: str, model: str = DEFAULT) -> dict[str, Any]:
        """Show what /publish would send; nothing leaves the machine.

        Args:
            name: on the Hugging Face Hub, as user/name.
            model: the page's own by default, or another of /models that lies here.

        Returns:
            The address it would have, the files with name, size and SHA-256, their size together, and the card.
        """
        try:
            return _told(publisher.look(owner_of(request), model, name))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def publish(
        request: gr.Request, name: str, model: str = DEFAULT, private: bool = True, oauth: gr.OAuthToken | None = None
    ) -> dict[str, Any]:
        """Publish a model by the login of this machine; on a Space, by that of who has signed in there.

        Args:
            name: on the Hugging Face Hub, as user/name.
            model: the page's own by default, or another of /models that lies here.
            private: False to show it to everybody.

        Returns:
            What /publish_dry_run gives, and the commit.
        """
        try:
            published = publisher.send(owner_of(request), model, name, private, token_of(oauth))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return {**_told(published), "commit": published.commit}

    gr.api(publish_dry_run, api_name="publish_dry_run", concurrency_id="prepare", concurrency_limit=1)
    gr.api(publish, api_name="publish", concurrency_id="publish", concurrency_limit=4)


def _told(published: Published) -> dict[str, Any]:
    return {
        "url": published.url,
        "files": [{"name": one.path, "size": one.size, "sha256": one.sha256} for one in published.files],
        "bytes": sum(one.size for one in published.files),
        "card": published.card,
    }
