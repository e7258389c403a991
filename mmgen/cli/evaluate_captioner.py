"""`python -m mmgen evaluate-captioner`: does the captioner name pictures that it never saw?"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgen.errors import UserError


def add_parser(commands) -> None:
    for name, shown in (
        ("evaluate-captioner", {"help": "measure how well a model describes pictures"}),
        ("evaluate-decoder", {}),  # As it was called before; not shown, as it has no help.
    ):
        _add_options(commands, name, shown)


def _add_options(commands, name: str, shown: dict[str, str]) -> None:
    parser = commands.add_parser(
        name,
        **shown,
        description="Ask for the captions of pictures that were held out, and compare them with the right ones, and "
        "with the captions of the nearest training pictures.",
    )
    parser.add_argument("--checkpoint", help="model folder, or user/name (default: the one in checkpoints/)")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="data set (default data/emoji)")
    parser.add_argument("--split", default="unseen_pairs", help="what to ask (default unseen_pairs)")
    parser.add_argument("--pictures", type=int, default=500, help="how many of it (default 500)")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="for decoded pictures and the like")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, load_pipeline
    from mmgen.cli.evaluate import check_writable, note, progress
    from mmgen.cli.sources import Sources
    from mmgen.data.memmap import only_readable, pack_readable
    from mmgen.evaluation.captions import caption_scores, table
    from mmgen.io import write_json
    from mmgen.training.common.cache import cache_references
    from mmgen.training.common.frozen import frozen_cnn

    if arguments.pictures < 1:
        raise UserError(f"--pictures is {arguments.pictures}; give at least 1.")
    check_writable(arguments.json)
    pipe = load_pipeline(arguments.checkpoint or default_checkpoint())
    pipe.check_captioner()
    sources = Sources.read([arguments.data])
    train, asked = (source.split(name) for source in sources for name in ("train", arguments.split))
    cnn = frozen_cnn(pipe.image_encoder, pipe.image_processor)
    train, images = pack_readable(train, pipe.image_size, arguments.cache, sources.withdraw)
    if arguments.split != "train":
        asked = only_readable(asked, sources.withdraw)
    else:
        asked = train
    sources.tell(note)
    plain = cache_references(images, cnn, arguments.cache, pipe.device)
    scores = caption_scores(pipe, train, asked, plain, arguments.pictures, progress)
    print(table(scores, arguments.split))
    if arguments.json:
        write_json(arguments.json, scores, indent=2)
