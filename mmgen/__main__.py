"""`mmgen`, and `python -m mmgen`: the command line."""

import os
import signal
import sys


def run() -> int:
    """Run one command in this process, which is started anew where training needs another allocator."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Ctrl-C while all that is imported ends without a word.
    from mmgen.cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1:2] in (["train"], ["finetune"]) and "--help" not in sys.argv:
        from mmgen.training.common.run import restart_with_allocator

        restart_with_allocator()
    return main()


if __name__ == "__main__":
    raise SystemExit(run())
