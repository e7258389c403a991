"""`python -m mmgen`: the command line."""

from mmgen.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
