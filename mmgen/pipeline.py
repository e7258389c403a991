"""The pipeline: a prompt and references become pictures, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image

from mmgen.devices import autocast
from mmgen.errors import UserError
from mmgen.images import open_image, to_pil, to_tensor
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.decoder import Caption, CaptionDecoder
from mmgen.models.encoders import MAX_PROMPT_TOKENS, PyramidCNN, reference_tokens, reference_view, text_tokens
from mmgen.models.fusion import Fused, Fusion
from mmgen.models.generator import Generator

MAX_REFERENCES = 4
MAX_CAPTIONS = 16
DESCRIBED_TOGETHER = 20
MAX_SEED = 2**32 - 1


@dataclass
class GANPipelineOutput(BaseOutput):
    """What a call returns.

    Attributes:
        images: RGBA PIL pictures, or one tensor [N, 4, H, W] in [-1, 1], premultiplied; the pictures of the first
        prompt
            first.
        seeds: the seed of each picture.
        notes: sentences for the person, such as that a prompt was cut.
        captions: of each picture what the decoder says of it, if it was asked for; see `describe`.
    """

    images: list[Image.Image] | torch.Tensor
    seeds: list[int]
    notes: list[str] = field(default_factory=list)
    captions: list[list[Caption]] | None = None


class MultimodalGANPipeline(DiffusionPipeline):
    """Words and reference pictures -> RGBA pictures.

    >>> pipe = MultimodalGANPipeline.from_pretrained("checkpoints/mmgen-emoji")
    >>> pipe("a red apple", seed=1).images[0].save("apple.png")

    Args:
        decoder: what says in words what a picture shows; None in a model that was not taught to.
        decoder_fusion: the fusion that the decoder has learned to read, where `fusion` has learned more since.
        styles: names of drawing styles that the model knows as words, for the page's style picker; of a dict,
            which a published index holds, its keys.
    """

    _optional_components = ["decoder", "decoder_fusion"]

    def __init__(
        self,
        text_encoder,
        tokenizer,
        image_encoder,
        image_processor,
        fusion: Fusion,
        generator: Generator,
        autoencoder: ImageAutoencoder,
        decoder: CaptionDecoder | None = None,
        decoder_fusion: Fusion | None = None,
        styles: list | dict = (),
    ):
        super().__init__()
        self.register_modules(
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            image_processor=image_processor,
            fusion=fusion,
            generator=generator,
            autoencoder=autoencoder,
            decoder=decoder,
            decoder_fusion=decoder_fusion,
        )
        self.register_to_config(styles=list(styles))
        ours = (fusion, generator, autoencoder, decoder, decoder_fusion)
        for part in filter(None, (text_encoder, image_encoder, *ours)):
            part.float().eval().requires_grad_(False)  # Stored in half precision to be small, used in full.

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir=None,
        local_files_only: bool = False,
        **parts,
    ) -> MultimodalGANPipeline:
        """Load a checkpoint: a folder or, where there is none of this name, `user/name` on the Hugging Face Hub.

        Only weights and their descriptions are read, safetensors alone; no code that comes with a model is run.

        Args:
            revision: branch, tag or commit on the Hub; the newest by default.
            token, cache_dir, local_files_only: as huggingface_hub takes them.
            parts: parts to take instead of the checkpoint's, such as `autoencoder`.

        Raises:
            UserError: it is missing, not whole, one of another kind of model, or cannot be fetched.
        """
        from mmgen.hub.load import load  # What a published pipeline does without.

        return load(cls, pretrained_model_name_or_path, revision, token, cache_dir, local_files_only, parts)

    @property
    def image_size(self) -> int:
        """Side of the pictures in pixels."""
        return self.generator.config.latent_size * self.autoencoder.stride

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        references: Sequence[Image.Image] | Image.Image | None = (),
        reference_weights: Sequence[float] | float | None = None,
        text_weight: float = 1.0,
        seed: int = 0,
        truncation: float = 1.0,
        num_images: int = 1,
        output_type: str = "pil",
        describe: bool = False,
    ) -> GANPipelineOutput:
        """Draw.

        Args:
            prompt: one prompt or several; an empty one leaves the words out.
            references: 0 to 4 pictures, shared by all prompts.
            reference_weights: one for each reference, 0 to 2; 1 by default.
            text_weight: 0 to 2.
            seed: 0 to 2**32 - 1. Picture i of each prompt is drawn from seed + i (modulo 2**32), so each can be drawn
                again alone, whatever else was in the batch.
            truncation: 0 (the mean style) to 1 (all variety).
            num_images: pictures of each prompt.
            output_type: `pil` or `pt`.
            describe: whether to read the pictures back into words.

        Raises:
            UserError: a number is out of its range, there are more than 4 references, or the model cannot describe.
        """
        prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
        references = [references] if isinstance(references, Image.Image) else list(references or ())
        if reference_weights is None:
            reference_weights = [1.0] * len(references)
        elif isinstance(reference_weights, (int, float)):
            reference_weights = [reference_weights]
        self._check(prompts, references, reference_weights, text_weight, seed, truncation, num_images, output_type)
        if describe:
            self.check_decoder()
        seed, num_images = int(seed), int(num_images)
        notes: list[str] = []
        pictures = self.encode_references(references)
        seeds = [(seed + i) % (MAX_SEED + 1) for i in range(num_images)]
        drawn = []
        for words in prompts:
            fused = self.fuse(words, pictures, reference_weights, text_weight, notes)
            drawn += [self.draw(fused, one, truncation) for one in seeds]
        pixels = torch.cat(drawn)
        images = to_pil(pixels) if output_type == "pil" else pixels
        captions = self.describe(to_pil(pixels)) if describe else None
        return GANPipelineOutput(images, seeds * len(prompts), list(dict.fromkeys(notes)), captions)

    @torch.inference_mode()
    def describe(
        self, images: Sequence[str | Path | bytes | Image.Image] | Image.Image, num_captions: int = 3
    ) -> list[list[Caption]]:
        """Say what pictures show.

        Args:
            images: one or any number, as `mmgen.images.open_image` takes them; of an animated one the first frame.
            num_captions: of each picture, 1 to 16.

        Returns:
            For each picture its captions with their probabilities, the most probable first. There is none for a picture
            that is transparent all over.

        Raises:
            UserError: there is no picture, one cannot be read, or the model cannot describe.
        """
        self.check_decoder()
        images = list(images) if isinstance(images, (list, tuple)) else [images]
        if not images:
            raise UserError("There is no picture to describe. Give at least one.")
        if not isinstance(num_captions, int) or not 1 <= num_captions <= MAX_CAPTIONS:
            raise UserError(f"The number of captions is {num_captions}; give a whole number from 1 to {MAX_CAPTIONS}.")
        captions = []
        for start in range(0, len(images), DESCRIBED_TOGETHER):
            some = [
                to_tensor(open_image(picture), self.image_size)
                for picture in images[start : start + DESCRIBED_TOGETHER]
            ]
            seen = self._look([pixels for pixels in some if _is_visible(pixels)])
            found = iter(self._describe(seen, num_captions) if len(seen) else ())
            captions += [next(found) if _is_visible(pixels) else [] for pixels in some]
        return captions

    def _describe(self, pictures: torch.Tensor, num_captions: int) -> list[list[Caption]]:
        """Reference tokens [N, grid, channels], a picture each, and no words -> N lists of captions."""
        n, references = len(pictures), pictures[:, None]
        ones = torch.ones(n, 1, device=self.device)
        with autocast(self.device):
            fused = (self.decoder_fusion or self.fusion)(
                text=torch.zeros(n, 1, self.fusion.config.text_channels, device=self.device),
                text_mask=torch.zeros(n, 1, device=self.device),
                text_weight=torch.zeros(n, device=self.device),
                references=references,
                reference_weights=ones,
            )
            return self.decoder.describe(fused, references, ones, num_captions)

    def check_decoder(self) -> None:
        """Raise a `UserError` if this model cannot describe pictures."""
        if self.decoder is None:
            raise UserError(
                "This model cannot describe pictures: it has no decoder. Use one that has, or train one with "
                "`python -m mmgen train decoder`."
            )

    def encode_references(self, references: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures -> reference tokens [R, grid, channels]; transparent parts are seen as white."""
        return self._look([to_tensor(open_image(picture), self.image_size) for picture in references])

    def _look(self, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
        """Premultiplied RGBA pictures [4, S, S] in [-1, 1] -> reference tokens [R, grid, channels]."""
        config = self.fusion.config
        if not pictures:
            return torch.zeros(0, config.reference_grid, config.reference_channels, device=self.device)
        processor = self.image_processor
        cnn = PyramidCNN(self.image_encoder, processor.image_mean, processor.image_std).to(self.device)
        return torch.cat([reference_tokens(cnn(reference_view(one[None].to(self.device)))) for one in pictures])

    def fuse(
        self,
        prompt: str,
        pictures: torch.Tensor,
        reference_weights: Sequence[float],
        text_weight: float = 1.0,
        notes: list[str] | None = None,
        return_attention: bool = False,
    ) -> Fused:
        """One prompt and reference tokens [R, grid, channels] -> condition of batch size 1."""
        notes = [] if notes is None else notes
        words = " ".join(prompt.split()) if text_weight else ""
        pieces = self.tokenizer(words or "", truncation=True, max_length=MAX_PROMPT_TOKENS, return_tensors="pt")
        if words and len(words) > 2 * MAX_PROMPT_TOKENS:
            whole = len(self.tokenizer(words[:20_000], verbose=False)["input_ids"])
            if whole > MAX_PROMPT_TOKENS:
                notes.append(f"The prompt is long: only its first {MAX_PROMPT_TOKENS - 2} word pieces were read.")
        unknown = self.tokenizer.unk_token_id
        inner = pieces["input_ids"][0, 1:-1]
        if len(inner) and bool((inner == unknown).all()):
            notes.append("None of these characters is known to the text encoder; write the prompt in English words.")
        active = float(text_weight) if words else 0.0
        used = [index for index, weight in enumerate(reference_weights) if weight > 0]
        if active == 0 and not used:
            notes.append("There is no prompt and no reference: the picture is drawn from noise alone.")
        text = text_tokens(
            self.text_encoder, pieces["input_ids"].to(self.device), pieces["attention_mask"].to(self.device)
        )
        with autocast(self.device):
            return self.fusion(
                text=text,
                text_mask=pieces["attention_mask"].to(self.device),
                text_weight=torch.tensor([active], device=self.device),
                references=pictures[None, used],
                reference_weights=torch.tensor([[reference_weights[i] for i in used]], device=self.device),
                return_attention=return_attention,
            )

    def draw(self, fused: Fused, seed: int, truncation: float = 1.0) -> torch.Tensor:
        """One picture [1, 4, H, W] in [-1, 1], premultiplied, from a condition of batch size 1.

        Pictures are drawn one by one: a matrix product rounds differently in batches of another size, and the same
        seed is to give the same picture to the bit.
        """
        z = noise(seed, self.generator.config.noise_channels).to(self.device)
        with autocast(self.device):
            latents = self.generator(z, fused, truncation)
            return self.autoencoder.decode(latents.float()).float().clamp(-1, 1)

    @staticmethod
    def _check(prompts, references, reference_weights, text_weight, seed, truncation, num_images, output_type) -> None:
        if not prompts or not all(isinstance(words, str) for words in prompts):
            raise UserError("The prompt must be a text, or a list of texts with at least one in it.")
        if len(references) > MAX_REFERENCES:
            raise UserError(f"There are {len(references)} references; use at most {MAX_REFERENCES}.")
        if len(reference_weights) != len(references):
            raise UserError(
                f"There are {len(reference_weights)} reference weights for {len(references)} references; give as many."
            )
        for name, value, low, high in (
            ("The text weight", text_weight, 0, 2),
            *(("A reference weight", weight, 0, 2) for weight in reference_weights),
            ("The truncation", truncation, 0, 1),
            ("The number of images", num_images, 1, 64),
            ("The seed", seed, 0, MAX_SEED),
        ):
            if not isinstance(value, (int, float, np.integer, np.floating)) or not low <= value <= high:
                raise UserError(f"{name} is {value}; give a number from {low} to {high}.")
        if int(seed) != seed or int(num_images) != num_images:
            raise UserError("The seed and the number of images must be whole numbers.")
        if output_type not in ("pil", "pt"):
            raise UserError(f"The output type is {output_type!r}; give pil or pt.")


def _is_visible(pixels: torch.Tensor) -> bool:
    """Whether a premultiplied RGBA picture [4, H, W] in [-1, 1] shows anything at all."""
    return bool((pixels[3] > -1).any())


def noise(seed: int, channels: int) -> torch.Tensor:
    """Standard normal noise [1, channels] of a seed, the same on every device."""
    return torch.randn(1, channels, generator=torch.Generator("cpu").manual_seed(int(seed)))
