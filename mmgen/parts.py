"""What a checkpoint consists of: its parts, their classes and files, and what lies beside them. Nothing else is loaded,
published or fetched.

A new part is one line in `PARTS`, and an argument of `mmgen.pipeline.MultimodalGANPipeline`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_DIFFUSERS = ("config.json", "diffusion_pytorch_model.safetensors")
_TRANSFORMERS = ("config.json", "model.safetensors")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt")


@dataclass(frozen=True)
class Part:
    """A part of a checkpoint.

    Attributes:
        name: of its folder, its entry in the index and the pipeline's argument.
        module: where its class is; those of `transformers` itself run no code of a checkpoint.
        kind: name of its class, as a pattern.
        files: that it may have; its weights, if it has any, are the last.
        is_optional: whether a checkpoint may lack it.
        is_halved: whether its weights are stored in float16.
        former: its name in checkpoints of before, which are still read.
    """

    name: str
    module: str
    kind: str
    files: tuple[str, ...] = _DIFFUSERS
    is_optional: bool = False
    is_halved: bool = True
    former: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether its class is one of mmgen."""
        return self.module != "transformers"

    @property
    def weights(self) -> str:
        """The file that holds them; "" for a part without."""
        return self.files[-1] if self.files[-1].endswith(".safetensors") else ""

    def fits(self, module: str, kind: str) -> bool:
        """Whether it may be of this class."""
        return module == self.module and re.fullmatch(self.kind, kind) is not None

    def folder(self, checkpoint: Path) -> Path:
        """Where it lies in a checkpoint, or would lie if that had it."""
        for name in filter(None, (self.name, self.former)):
            if (checkpoint / name / "config.json").is_file():
                return checkpoint / name
        return checkpoint / self.name


PARTS = {
    part.name: part
    for part in (
        Part("fusion", "mmgen.models.fusion", "Fusion"),
        Part("generator", "mmgen.models.generator", "Generator"),
        Part("autoencoder", "mmgen.models.autoencoder", "ImageAutoencoder"),
        Part("captioner", "mmgen.models.decoder", "CaptionDecoder", is_optional=True, former="decoder"),
        Part("captioner_fusion", "mmgen.models.fusion", "Fusion", is_optional=True, former="decoder_fusion"),
        Part("memory", "mmgen.models.memory", "Memory", is_optional=True),
        Part("vocabulary", "mmgen.models.vocabulary", "Vocabulary", is_optional=True, is_halved=False),
        Part("text_encoder", "transformers", "BertModel", _TRANSFORMERS),
        Part("tokenizer", "transformers", r"[A-Za-z0-9]+Tokenizer(Fast)?|TokenizersBackend", _TOKENIZER),
        # Its batch norms hold variances that float16 cannot.
        Part("image_encoder", "transformers", r"[A-Za-z0-9]+Model", _TRANSFORMERS, is_halved=False),
        Part(
            "image_processor",
            "transformers",
            r"[A-Za-z0-9]+ImageProcessor(Fast|Pil)?",
            files=("preprocessor_config.json",),
        ),
    )
}
"""Name -> part."""

INDEX = "model_index.json"
CAPTIONS_FILE = "captions.txt"
TRAINING = "training.json"
TRAINING_LOG = "training.csv"
EVALUATION = "evaluation.json"
SAMPLES = "samples.png"
DESCRIPTIONS = (CAPTIONS_FILE, TRAINING, TRAINING_LOG, EVALUATION, "README.md")
"""Files beside the parts."""

FILES = (
    *(INDEX, *DESCRIPTIONS),
    *(f"{name}/{file}" for part in PARTS.values() for name in (part.name, part.former) if name for file in part.files),
)
"""All that a checkpoint may hold, of before too, as paths in it."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""How the names of weights end that are never opened."""


def current_name(name: str) -> str:
    """Of a part what it is called now, whatever it was called before; of anything else its name."""
    return next((part.name for part in PARTS.values() if name and name == part.former), name)


def read_captions(checkpoint: Path) -> list[list[str]]:
    """The captions that a checkpoint brings, in groups, that of the last training first; none without such a file."""
    file = checkpoint / CAPTIONS_FILE
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return [group.splitlines() for group in text.strip("\n").split("\n\n") if group]
