"""`python -m mmgen`: the command line."""

import sys

from mmgen.cli.main import main

if __name__ == "__main__":
    if sys.argv[1:2] in (["train"], ["finetune"]) and "--help" not in sys.argv:
        from mmgen.training.run import restart_with_allocator

        restart_with_allocator()
    raise SystemExit(main())
