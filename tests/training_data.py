"""Twelve pictures with captions, and tiny frozen networks, to train on in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tiny import tiny_encoders

from mmgen.models.autoencoder import ImageAutoencoder

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}


def write_shapes(folder: Path, unseen: str | None = "red") -> None:
    """Circles and squares in three colours, flat and round in style, at 64 pixels; those of one are `unseen_pairs`."""
    rows = []
    for colour, value in COLOURS.items():
        for shape in ("circle", "square"):
            for style in ("flat", "round"):
                image = Image.new("RGBA", (64, 64))
                draw = ImageDraw.Draw(image)
                draw_shape = draw.ellipse if shape == "circle" else draw.rectangle
                draw_shape((8, 8, 55, 55), fill=value, outline=(0, 0, 0) if style == "round" else None, width=5)
                name = f"{colour}-{shape}-{style}.png"
                image.save(folder / name)
                text = f"{colour} {shape}"
                row = {"file_name": name, "text": text, "captions": [text, f"{text}, {style} style"], "label": text}
                row |= {"style": style, "licence": "CC0", "author": "nobody", "source": "tests"}
                row["split"] = "unseen_pairs" if colour == unseen else "train"
                rows.append(row)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_encoders(folder: Path) -> None:
    """The encoders of the tiny pipeline, as `mmgen encoders` lays them out."""
    bert, tokenizer, cnn, processor = tiny_encoders(folder / "parts")
    bert.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    cnn.save_pretrained(folder / "image_encoder")
    processor.save_pretrained(folder / "image_processor")


def write_autoencoder(folder: Path) -> None:
    """A small one, untrained: what it makes of a picture is enough to learn from."""
    torch.manual_seed(0)
    ImageAutoencoder(widths=(16, 16, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)).save_pretrained(folder)
