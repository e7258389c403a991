"""`python -m mmgen encoders`: put a text encoder and an image encoder into a folder, to train on."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "encoders",
        help="collect the frozen encoders",
        description="Write text_encoder/, tokenizer/, image_encoder/ and image_processor/ into a folder. By default "
        "all-MiniLM-L6-v2 and EfficientNet-Lite0, from the Python packages that carry them.",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/encoders"), help="folder (default runs/encoders)")
    parser.add_argument("--text-encoder", help="another BERT: a folder or a Hub name such as bert-base-uncased")
    parser.add_argument("--image-encoder", help="another CNN: a folder or a Hub name such as microsoft/resnet-18")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.models import default_encoders
    from mmgen.models.encoders import load_image_encoder, load_text_encoder

    text = arguments.text_encoder
    image = arguments.image_encoder
    bert, tokenizer = load_text_encoder(text) if text else default_encoders.minilm()
    cnn, processor = load_image_encoder(image) if image else default_encoders.efficientnet_lite0()
    bert.save_pretrained(arguments.output / "text_encoder")
    tokenizer.save_pretrained(arguments.output / "tokenizer")
    cnn.save_pretrained(arguments.output / "image_encoder")
    processor.save_pretrained(arguments.output / "image_processor")
    print(f"{type(bert).__name__} and {type(cnn).__name__} in {arguments.output}")
