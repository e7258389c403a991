"""What the commands that send files to the Hugging Face Hub share."""

from __future__ import annotations

import sys


def hush_client() -> None:
    """The Hub's client says nothing but its progress, and that to a person alone.

    What goes wrong for good is told at the end, in one sentence.
    """
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()


def tell_progress(share: float, text: str) -> None:
    print(text, file=sys.stderr)


def print_files(files: list, text: str) -> None:
    """What would be sent: each file's `size` in bytes and `path`, their sum, and the text that goes with them."""
    for file in files:
        print(f"{file.size:>12,}  {file.path}")
    print(f"{sum(file.size for file in files):>12,}  bytes in {len(files)} files\n")
    print(text)
