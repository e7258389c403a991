"""Whose things a visitor may reach: the one place that decides it."""

from __future__ import annotations

import hashlib
import os

import gradio as gr


def on_space() -> bool:
    """Whether this is a Hugging Face Space, where visitors are strangers to each other and to the machine."""
    return bool(os.environ.get("SPACE_ID"))


def owner_of(request: gr.Request | None) -> str:
    """The owner, as `mmgen.home.home` takes it, of whoever sent a request.

    On one's own machine everything belongs to `local`; on a Space, to the visitor's session.
    """
    if not on_space():
        return "local"
    session = getattr(request, "session_hash", None) or ""
    return "visitor-" + hashlib.sha256(session.encode("utf-8", "replace")).hexdigest()[:32]
