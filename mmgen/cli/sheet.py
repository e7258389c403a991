"""`python -m mmgen sheet`: real pictures beside generated ones, or seeds of a prompt, for a look at a model."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "sheet",
        help="lay real pictures beside generated ones",
        description="Draw the captions of a split and lay each row of generated pictures under the row of real ones, "
        "with what the model looked up between them, if it has a memory. With --prompt or --seeds: a row of seeds for "
        "each prompt.",
    )
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: the one in checkpoints/)")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="data set (default data/emoji)")
    parser.add_argument(
        "--split", default="train", help="any split of the data set, such as unseen_pairs (default train)"
    )
    parser.add_argument("--count", type=int, default=24, help="captions (default 24)")
    parser.add_argument("--prompt", action="append", help="draw this instead, a row of seeds; may be repeated")
    parser.add_argument("--seeds", type=int, help="pictures of each prompt or caption in a row (with --prompt 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the noise (default 0)")
    parser.add_argument(
        "--scale",
        type=float,
        help="1 for pictures as large as they are drawn, 3 for a look at each pixel (default 128 px)",
    )
    parser.add_argument("--output", type=Path, default=Path("sheet.png"), help="picture to write (default sheet.png)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, load_pipeline
    from mmgen.cli.evaluate import note
    from mmgen.data.folder import load_and_tell
    from mmgen.errors import UserError
    from mmgen.evaluation.sheets import caption_of, comparison, seeds_sheet, spread_rows

    for name in ("count", "seeds", "scale"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} is {value}; give a number above 0.")
    captions = arguments.prompt
    if not captions:
        splits = load_and_tell(arguments.data, note)
        if arguments.split not in splits:
            raise UserError(f"There is no split {arguments.split} in {arguments.data}; it has {', '.join(splits)}.")
        data = splits[arguments.split]
    pipe = load_pipeline(arguments.checkpoint or default_checkpoint())
    if captions or arguments.seeds:
        captions = captions or [caption_of(row) for row in spread_rows(data, arguments.count, arguments.seed)]
        sheet = seeds_sheet(pipe, captions, arguments.seeds or 8, arguments.seed, arguments.scale)
        what = "a row of seeds for each"
    else:
        sheet, captions = comparison(pipe, data, arguments.count, arguments.seed, scale=arguments.scale)
        what = "rows of real pictures, each above its generated row"
        if pipe.memory is not None:
            what = "rows of real pictures, each above the memory's best entries and the generated row"
    sheet.save(arguments.output)
    for caption in captions:
        print(caption)
    print(f"{arguments.output}: {what}")
