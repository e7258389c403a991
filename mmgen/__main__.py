"""`mmgen`, and `python -m mmgen`: the command line."""

import sys

from mmgen.cli.main import main


def run() -> int:
    """Run one command in this process, which is started anew where training needs another allocator."""
    if sys.argv[1:2] in (["train"], ["finetune"]) and "--help" not in sys.argv:
        from mmgen.training.common.run import restart_with_allocator

        restart_with_allocator()
    return main()


if __name__ == "__main__":
    raise SystemExit(run())
