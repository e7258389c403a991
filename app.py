"""The studio: `python app.py` opens it in the browser; as a Hugging Face Space it serves the same page."""

from __future__ import annotations

import os
import signal
import sys


def _quit(*_: object) -> None:
    os._exit(130)


if __name__ == "__main__":  # Ctrl-C ends it without a word while everything is imported, too.
    signal.signal(signal.SIGINT, _quit)

import argparse  # noqa: E402
from pathlib import Path  # noqa: E402

from mmgen.errors import UserError  # noqa: E402
from mmgen.space import on_space, on_zero_gpu  # noqa: E402

# The page works without the internet; libraries read these when they are imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), "localhost", "127.0.0.1"]))

if on_zero_gpu():  # It must come before torch and gradio.
    import spaces  # noqa: F401


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(description="Open the studio, where pictures are drawn while you type.")
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: $MMGEN_CHECKPOINT or checkpoints/)")
    parser.add_argument("--memory", type=Path, help="draw from this memory instead of the model's; see `mmgen memory`")
    parser.add_argument("--host", help="address to serve on (default: 127.0.0.1; 0.0.0.0 on a Space)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[name for name in os.environ.get("MMGEN_ALLOW_HOST", "").split(",") if name],
        metavar="NAME",
        help="another name that the page is known by, such as that of a server before it; may be given again "
        "(default: those in $MMGEN_ALLOW_HOST, with commas between)",
    )
    parser.add_argument("--port", type=int, help="port to serve on (default: the first free one from 7860)")
    return parser


def has_display() -> bool:
    """Whether a browser window can be opened here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def serve(arguments: argparse.Namespace) -> None:
    """Load the model and serve the page until it is stopped.

    Raises:
        UserError: there is no checkpoint or no memory, or the port is taken.
    """
    from mmgen.checkpoints import default_checkpoint, load_pipeline, open_memory
    from mmgen.devices import prepare_to_draw

    prepare_to_draw()

    def load():
        pipe = load_pipeline(arguments.checkpoint or default_checkpoint())
        if arguments.memory:
            pipe.use_memory(open_memory(arguments.memory))
        return pipe

    pipe = load()

    from mmgen.home import root
    from mmgen.jobs import Scheduler
    from mmgen.quota import keep_seconds
    from mmgen.services.inference import warm_up
    from mmgen.ui.page import build_page, launch_options
    from mmgen.ui.web.tidy import clear_away

    host = arguments.host or ("0.0.0.0" if on_space() else "127.0.0.1")
    if host not in ("127.0.0.1", "localhost", "::1") and not on_space():
        print(f"mmgen: whoever reaches {host} uses your pairs, models, folders and login as you do.", file=sys.stderr)
    # Starts the jobs that wait; they run on when the studio is closed.
    scheduler = Scheduler(root(), keep_seconds(), clear_away if on_space() else None)
    scheduler.start()
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    page = build_page(pipe, load)
    warm_up(pipe)
    try:
        page.launch(
            server_name=host,
            server_port=arguments.port,
            inbrowser=has_display() and not on_space(),
            **launch_options(host, arguments.allow_host),
        )
    except OSError as error:
        raise UserError(
            f"The page cannot be served on {host}, port {arguments.port or 7860} ({error}). Give another --port."
        ) from error
    finally:
        scheduler.close()


def main(argv: list[str] | None = None) -> int:
    """Serve the page.

    Returns:
        0, or 1 after a `UserError`, which is printed as one line.
    """
    arguments = build_parser().parse_args(argv)
    try:
        serve(arguments)
    except UserError as error:
        print(f"mmgen: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
