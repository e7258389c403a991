"""`python -m mmgen generate`: draw pictures from the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmgen.data.words import decode
from mmgen.errors import UserError


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "generate", help="draw pictures", description="Draw pictures from words and references."
    )
    parser.add_argument(
        "prompt", nargs="?", default="", help="what to draw; without it, from the references or noise alone"
    )
    parser.add_argument("--reference", type=Path, action="append", default=[], help="a picture; up to 4 times")
    parser.add_argument(
        "--reference-weight", type=float, action="append", help="0 to 2, one for each --reference (default 1)"
    )
    parser.add_argument("--text-weight", type=float, default=1.0, help="0 to 2 (default 1)")
    parser.add_argument(
        "--memory-weight", type=float, default=1.0, help="0 to 2; of what the model looks up in its memory (default 1)"
    )
    parser.add_argument(
        "--drop", type=int, action="append", default=[], help="entry of the memory never to look up; repeatable"
    )
    parser.add_argument(
        "--pin", type=int, action="append", default=[], help="entry of the memory always to look up; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 to 4294967295 (default 0)")
    parser.add_argument("--truncation", type=float, default=1.0, help="0 (the mean style) to 1 (all variety; default)")
    parser.add_argument("--count", type=int, default=1, help="pictures, from seed, seed + 1, ... (default 1)")
    parser.add_argument(
        "--output", type=Path, default=Path("out.png"), help="PNG to write; with --count N, out-1.png ..."
    )
    parser.add_argument(
        "--checkpoint",
        help="model folder, or user/name[@revision] on the Hugging Face Hub (default: the one in checkpoints/)",
    )
    parser.add_argument(
        "--memory", type=Path, help="draw from this memory, made by `mmgen memory build`, instead of the checkpoint's"
    )
    parser.add_argument(
        "--no-translation",
        dest="translate",
        action="store_false",
        help="take the prompt letter by letter, without reading emoji and other languages as English words",
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.attribution import memory_text
    from mmgen.checkpoints import default_checkpoint, load_pipeline, open_memory
    from mmgen.images import open_image, save_png

    if arguments.output.suffix.lower() != ".png":
        raise UserError(f"{arguments.output} is no PNG name. Give --output a name that ends in .png.")
    if not arguments.output.parent.is_dir():
        raise UserError(f"There is no folder {arguments.output.parent}. Make it, or choose another --output.")
    references = [open_image(path) for path in arguments.reference]
    pipe = load_pipeline(arguments.checkpoint or default_checkpoint(), arguments.device)
    if arguments.memory:
        pipe.use_memory(open_memory(arguments.memory))
    prompt = _words(arguments.prompt)
    result = pipe(
        prompt,
        references=references,
        reference_weights=arguments.reference_weight,
        text_weight=arguments.text_weight,
        seed=arguments.seed,
        truncation=arguments.truncation,
        num_images=arguments.count,
        memory_weight=arguments.memory_weight,
        memory_dropped=arguments.drop,
        memory_pinned=arguments.pin,
        translate=arguments.translate,
    )
    drawn = zip(result.images, result.seeds, result.drawn_from, strict=True)
    for number, (image, seed, shares) in enumerate(drawn, start=1):
        path = arguments.output
        if arguments.count > 1:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}")
        text = {"prompt": prompt, "seed": seed, "truncation": arguments.truncation}
        if pipe.has_memory:
            text |= memory_text(arguments.memory_weight, arguments.drop, arguments.pin, shares)
        save_png(image, path, text)
        print(path)
        for share in shares:
            style = f", {share.style} style" if share.style else ""
            print(f"  drawn from entry {share.entry}: {share.label}{style}, {share.share:.0%}")
    if result.read_as != [prompt]:
        print(f"Read as: {result.read_as[0]}")
    for note in result.notes:
        print(f"Note: {note}")


def _words(prompt: str) -> str:
    """A prompt as it was typed: what is not UTF-8 comes in as halves of characters, and is read in its own encoding."""
    try:
        prompt.encode()
        return prompt
    except UnicodeEncodeError:
        try:
            return decode(os.fsencode(prompt))[0]
        except UnicodeError:
            return prompt.encode("utf-8", "ignore").decode()
