"""The page: a title, and one tab a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from mmgen.home import root
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.services.models import Models
from mmgen.space import on_space
from mmgen.ui.common.context import Context
from mmgen.ui.common.theme import CSS, JS, build_theme
from mmgen.ui.generate import api, describe_api
from mmgen.ui.generate import tab as generate
from mmgen.ui.publish import api as publish_api
from mmgen.ui.publish import tab as publish
from mmgen.ui.train import api as train_api
from mmgen.ui.train import complete_api
from mmgen.ui.train import tab as train
from mmgen.ui.web.edge import GuardedBlocks
from mmgen.ui.web.fair_queue import FairQueue
from mmgen.ui.web.gate import Gate
from mmgen.ui.web.same_origin import SameOrigin
from mmgen.ui.web.shares import MAX_SESSIONS
from mmgen.ui.web.visitors import VisitorCookie

# Each module has `build(context)`, which fills its tab.
TABS = (("Generate", generate), ("Train", train), ("Publish", publish))

_TITLE = "<h1>mmgen</h1><p>Type, and it draws.</p>"


def build_page(pipe: MultimodalGANPipeline, load: Callable[[], MultimodalGANPipeline] | None = None) -> gr.Blocks:
    """The whole page around a loaded pipeline, ready to launch with `launch_options()`.

    Args:
        load: as `mmgen.services.models.Models` takes it.
    """
    with GuardedBlocks(title="mmgen", analytics_enabled=False, delete_cache=(60, 3600)) as demo:
        context = Context(demo, Models(pipe, load))
        gr.HTML(_TITLE, elem_id="title")
        with gr.Tabs(elem_id="tabs") as context.tabs:
            for name, module in TABS:
                with gr.Tab(name, id=name.lower()):
                    module.build(context)
        api.build(context)
        describe_api.build(context)
        train_api.build(context)
        complete_api.build(context)
        publish_api.build(context)
    demo._queue = FairQueue(demo)
    return demo


def launch_options(host: str = "127.0.0.1", allowed: Sequence[str] = ()) -> dict[str, Any]:
    """What `Blocks.launch` is to be given.

    Args:
        host: the address that it is served on.
        allowed: other names that it is known by, as `mmgen.ui.web.same_origin` takes them.
    """
    middleware = [Middleware(SameOrigin, host, allowed), Middleware(Gate)]
    return {
        "theme": build_theme(),
        "css": CSS,
        "js": JS,
        "footer_links": ["api"],
        "max_file_size": "200mb" if on_space() else "20gb",  # A zip file of many pictures.
        "show_error": True,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "blocked_paths": [str(root())],
        "state_session_capacity": MAX_SESSIONS,
        "app_kwargs": {"middleware": [*middleware, *([Middleware(VisitorCookie)] if on_space() else [])]},
    }
