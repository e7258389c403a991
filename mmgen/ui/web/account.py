"""Who is signed in to the Hugging Face Hub, and whose token a model is published with. No token reaches the page."""

from __future__ import annotations

import os
from dataclasses import dataclass

import gradio as gr
from gradio.utils import get_space
from huggingface_hub import HfApi, get_token

from mmgen.errors import UserError
from mmgen.loading.explain import is_network
from mmgen.space import on_space

_SIGN_IN = "Sign in with Hugging Face to publish. What would be sent can be looked at without."
_NO_SIGN_IN = (
    "Nobody can sign in on this Space, so nothing can be published from it. Export your model in the Train tab and "
    "publish it from a machine of yours."
)
_RUN_LOGIN = (
    "Nobody is signed in to the Hugging Face Hub on this machine. Run `hf auth login` in a terminal to publish. What "
    "would be sent can be looked at without."
)


@dataclass(frozen=True)
class Account:
    """Attributes:
    user: name on the Hub; "" if nobody is signed in, or it is not known who.
    words: one or two sentences about it.
    """

    user: str
    words: str


def can_sign_in() -> bool:
    """Whether visitors can sign in by OAuth, as a Space with `hf_oauth: true` lets them."""
    # Elsewhere gradio's button hands everybody the login of the machine.
    return on_space() and get_space() is not None and bool(os.environ.get("OAUTH_CLIENT_ID"))


def account_of(profile: gr.OAuthProfile | None) -> Account:
    """Who publishes; on one's own machine the Hub is asked.

    Args:
        profile: who has signed in by OAuth, which counts on a Space alone.
    """
    if on_space():
        if profile is not None:
            return Account(profile.username, f"You publish as {profile.username}.")
        return Account("", _SIGN_IN if can_sign_in() else _NO_SIGN_IN)
    token = get_token()
    if not token:
        return Account("", _RUN_LOGIN)
    try:
        user = str(HfApi().whoami(token, cache=True)["name"])
    except Exception as error:  # whatever the client or the network raises
        if is_network(error):
            return Account("", "The Hugging Face Hub cannot be reached to ask who is signed in. Check the network.")
        return Account("", "The Hugging Face Hub does not take this machine's token. Run `hf auth login` anew.")
    return Account(user, f"You publish as {user}, by the login of this machine.")


def token_of(oauth: gr.OAuthToken | None) -> str | None:
    """The token to publish with; None for that of one's own machine, which a stranger on a Space never gets.

    Args:
        oauth: of who has signed in, as gradio hands it to events.

    Raises:
        UserError: a visitor of a Space has not signed in.
    """
    if not on_space():
        return None
    if oauth is None or not oauth.token:
        raise UserError(_SIGN_IN if can_sign_in() else _NO_SIGN_IN)
    return oauth.token
