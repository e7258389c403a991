"""`python -m mmgen complete`: draw the rest of a set in the style of a person's pictures."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "complete",
        help="draw the rest of a set in the style of your pictures",
        description="Draw things in the style of your pictures, what they look like taken from the model's memory. The "
        "set is kept as it grows: stopped and started again, the command goes on.",
    )
    parser.add_argument("--data", required=True, help="your pictures, each with a word: folder, zip or shards")
    parser.add_argument(
        "--labels",
        required=True,
        help="a text file with a label in each line; or, of what the model knows, all; or the name of a style, for "
        "what it has in that; or a word such as face, for what has it in its label",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the set")
    parser.add_argument("--split", default="train", help="of the data (default train)")
    parser.add_argument(
        "--checkpoint",
        help="model folder with a memory, or user/name[@revision] on the Hub (default: the one in checkpoints/)",
    )
    parser.add_argument("--seed", type=int, default=0, help="0 to 4294967295 (default 0)")
    parser.add_argument("--truncation", type=float, default=1.0, help="0 (the mean style) to 1 (all variety; default)")
    parser.add_argument(
        "--memory-weight", type=float, default=1.0, help="0 to 2; of your pictures and the memory (default 1)"
    )
    parser.add_argument(
        "--cut-out", action="store_true", help="make the even ground of pictures without transparency transparent"
    )
    for name in ("source", "licence", "author"):
        parser.add_argument(f"--{name}", default="", help=f"{name} of your pictures that have none of their own")
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, load_pipeline, name_of
    from mmgen.completion import prepared
    from mmgen.data.folder import load_pairs
    from mmgen.data.shards import open_image_at
    from mmgen.errors import UserError
    from mmgen.images import to_pil
    from mmgen.pipeline import MAX_SEED
    from mmgen.services.completed_set import CompletedSet, wanted_labels

    splits = load_pairs(arguments.data)
    if arguments.split not in splits:
        raise UserError(f"There is no split {arguments.split} in {arguments.data}; it has {', '.join(splits)}.")
    rows = list(splits[arguments.split])
    checkpoint = arguments.checkpoint or default_checkpoint()
    pipe = load_pipeline(checkpoint, arguments.device)
    if not pipe.has_memory:
        raise UserError(
            f"The model {checkpoint} has no memory, by which it would know other things. Choose another --checkpoint."
        )
    labels = wanted_labels(arguments.labels, pipe.memory)
    about = {name: [row[name] or getattr(arguments, name) for row in rows] for name in ("source", "licence", "author")}
    images = [open_image_at(row["image"]["path"]) for row in rows]
    digest = hashlib.sha256()
    for row, image in zip(rows, images, strict=True):
        digest.update(f"{row['text']}\0{image.size}".encode() + image.tobytes())
    made = CompletedSet(
        arguments.output,
        {
            "checkpoint": name_of(Path(checkpoint)),
            "pictures": digest.hexdigest()[:16],
            "seed": arguments.seed,
            "truncation": arguments.truncation,
            "memory_weight": arguments.memory_weight,
            "cut_out": arguments.cut_out,
        },
    )
    for number, (row, image) in enumerate(zip(rows, images, strict=True)):
        pixels, _ = prepared(image, pipe.image_size, arguments.cut_out)
        own = to_pil(pixels[None])[0]
        made.add_own(own, row["text"], {name: values[number] for name, values in about.items()})
    missing, left_out = made.labels_to_draw(labels)
    if left_out:
        named = ", ".join(dict.fromkeys(left_out[:5])) + (" ..." if len(left_out) > 5 else "")
        print(f"Note: {len(left_out)} of the labels are your own pictures and are not drawn: {named}.")
    try:
        if not missing:
            print("There is nothing left to draw.")
            return
        seeds = [(arguments.seed + times) % (MAX_SEED + 1) for _, times in missing]
        drawn = pipe.complete(
            images,
            [row["text"] for row in rows],
            [label for label, _ in missing],
            seeds if 0 <= arguments.seed <= MAX_SEED else arguments.seed,
            arguments.truncation,
            arguments.memory_weight,
            cut_out=arguments.cut_out,
            source=about["source"],
            licence=about["licence"],
            author=about["author"],
        )
        for one in drawn:
            path = made.add_drawn(one, len(pipe.looked_up))
            print(f"[{one.number + 1}/{len(missing)}] {path}", flush=True)
            for note in one.notes:
                print(f"Note: {note}")
    finally:  # A set that is stopped is whole too.
        made.finish()
    print(f"{arguments.output}: {len(made.rows)} pictures")
