"""Train the captioner: GPT-2 learns to caption what the frozen fusion makes of images and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from mmgen.data.memmap import pack_readable
from mmgen.errors import UserError
from mmgen.models.decoder import CaptionDecoder
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.captioner.data import (
    CaptionDataset,
    CaptionTokenizer,
    draw_own,
    make_dataset,
    make_sample,
    naming,
    some_captions,
)
from mmgen.training.captioner.views import varied_references
from mmgen.training.common.cache import cache_references, cache_words, digest, weights_digest
from mmgen.training.common.config import CaptionerConfig, CaptionerRunConfig
from mmgen.training.common.ema import Ema
from mmgen.training.common.frozen import frozen_cnn
from mmgen.training.common.optimizers import step_with_rate
from mmgen.training.common.run import Run
from mmgen.training.common.schedules import captioner_rate


def prepare_captioner(
    pipe: MultimodalGANPipeline,
    data: datasets.Dataset,
    config: CaptionerConfig,
    folder: Path,
    device: torch.device,
    gpt2: str | None = None,
    seed: int = 0,
    on_unreadable: Callable[[str, str], object] = lambda place, sentence: None,
) -> tuple[CaptionDecoder, CaptionDataset]:
    """A captioner that has learned nothing yet, and what it is to learn; all that is frozen is computed here, once.

    Args:
        pipe: the base; it must not be saved afterwards, as its image encoder loses its neutral layers.
        data: the training split.
        folder: where the arrays are kept.
        gpt2: a folder or a name on the Hub to take GPT-2 and its tokenizer from; a small new one by default.
        on_unreadable: told of each image that is left out, as `mmgen.data.memmap.pack_readable` takes it.

    Raises:
        UserError: no image has a caption, or there is no such GPT-2.
    """
    data = captioned_rows(data)
    if not len(data):
        raise UserError("None of these pictures has a caption, so there is nothing to learn. Give pairs with words.")
    data, images = pack_readable(data, pipe.image_size, folder, on_unreadable)
    answers = [naming(captions, style) for captions, style in zip(data["captions"], data["style"], strict=True)]
    cnn = frozen_cnn(pipe.image_encoder, pipe.image_processor)
    key = digest(Path(images.filename).stem.encode(), weights_digest(cnn).encode())
    plain = cache_references(images, cnn, folder, device)
    texts, read = some_captions(data, config.captions, seed)
    words, offsets = cache_words(texts, pipe.text_encoder, pipe.tokenizer, folder, device)
    views = varied_references(images, cnn, folder, key, config.views, device)
    own, drawn = None, np.zeros(0, dtype=np.int64)
    if config.drawings and config.drawn_share > 0:
        rng = np.random.default_rng((seed, 5))
        drawn = rng.permutation(np.resize(rng.permutation(len(data)), config.drawings))
        drawable = [answers[row] for row in drawn]
        parts = filter(None, (pipe.fusion, pipe.generator, pipe.autoencoder, pipe.memory))
        base = digest(*(weights_digest(part).encode() for part in parts))
        own = draw_own(pipe.to(device), cnn, drawable, folder, base, seed)
    tokenizer, teacher = (pipe.tokenizer, None) if gpt2 is None else _load_gpt2(gpt2)
    pieces = CaptionTokenizer(tokenizer, [*answers, *(captions[0] for captions in data["captions"])])
    torch.manual_seed(seed)
    sizes = {"fused_channels": pipe.fusion.config.width, "reference_channels": pipe.fusion.config.reference_channels}
    sizes |= {"reference_grid": pipe.fusion.config.reference_grid, "has_glance": True}
    longest = 2 * pieces.longest
    if teacher is None:
        captioner = CaptionDecoder(pieces.vocabulary, **sizes, max_pieces=longest)
    else:
        captioner = from_gpt2(teacher, tokenizer, pieces, longest, **sizes)
    captioner.set_normalisation(torch.from_numpy(plain[:: max(1, len(plain) // 2000)].copy()))
    return captioner, make_dataset(data, pieces, plain, views, own, drawn, words, offsets, read)


def captioned_rows(data: datasets.Dataset) -> datasets.Dataset:
    """The rows of a split that have a caption."""
    kept = [row for row, text in enumerate(data["text"]) if text.strip()]
    return data.select(kept) if len(kept) < len(data) else data


def from_gpt2(
    teacher: GPT2LMHeadModel, tokenizer, pieces: CaptionTokenizer, longest: int, **sizes: int
) -> CaptionDecoder:
    """A captioner around a trained GPT-2.

    Its blocks and places are taken as they are, and of its vocabulary the pieces that the captions need.

    Raises:
        UserError: it reads less than a prefix and a caption.
    """
    old = teacher.config
    shape = {"width": old.n_embd, "depth": old.n_layer, "heads": old.n_head}
    captioner = CaptionDecoder(pieces.vocabulary, **sizes, **shape, max_pieces=longest)
    body, wanted = teacher.transformer, captioner.gpt2.config.n_positions
    if wanted > old.n_positions:
        raise UserError(f"This GPT-2 reads {old.n_positions} tokens, and the captions need {wanted}. Name another.")
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    own = [[tokens] for tokens in ends]
    own += [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces.vocabulary[2:]]
    embeddings = torch.stack([body.wte.weight[tokens].mean(0) for tokens in own])
    state = {f"transformer.{name}": value for name, value in body.state_dict().items()}
    state |= {"transformer.wte.weight": embeddings, "lm_head.weight": embeddings.clone()}
    state["transformer.wpe.weight"] = body.wpe.weight[:wanted]
    captioner.gpt2.load_state_dict(state)
    return captioner


def _load_gpt2(name: str):
    try:
        teacher = GPT2LMHeadModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"GPT-2 could not be loaded from {name} ({first}). Give a folder with config.json, model.safetensors and "
            "its tokenizer, or a Hub name while the network is there."
        ) from error
    return tokenizer, teacher


def train_captioner(
    run_config: CaptionerRunConfig,
    config: CaptionerConfig,
    pipe: MultimodalGANPipeline,
    captioner: CaptionDecoder,
    dataset: CaptionDataset,
    on_sample: Callable[[Run, CaptionDecoder], None] | None = None,
    recipe: dict[str, object] | None = None,
) -> CaptionDecoder:
    """Train and return the averaged captioner.

    Args:
        on_sample: called with the averaged captioner at every sample.
        recipe: what else was asked for, kept in the run's config.json.
    """
    run = Run(run_config, {**asdict(config), **(recipe or {})})
    fusion = pipe.fusion.to(run.device)
    captioner.to(run.device).train()
    ema = Ema(captioner, half_life=config.ema_images)
    optimizer = torch.optim.AdamW(
        captioner.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    trained, optimizer = run.accelerator.prepare(captioner, optimizer)
    run.register_for_checkpointing("ema", ema)
    run.resume()
    for step in run.steps():
        rng = np.random.default_rng((run_config.seed, step, run.accelerator.process_index))
        sample = make_sample(dataset, run_config.batch_size, config.drawn_share, rng)
        condition = {name: value.to(run.device) for name, value in sample.condition.items()}
        with run.accelerator.autocast():
            with torch.no_grad():
                fused = fusion(**condition)
            logits = trained(
                fused, condition["references"], condition["reference_weights"], sample.pieces.to(run.device)
            )
        loss = captioner.loss(logits, sample.pieces.to(run.device), sample.lengths.to(run.device))
        run.accelerator.backward(loss)
        norm = run.accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        step_with_rate([optimizer], captioner_rate(config.learning_rate, run.progress))
        ema.update(captioner, run_config.batch_size * run.accelerator.num_processes)
        run.log({"loss": loss, "norm": norm})
        if on_sample and run.is_main and run.due(run_config.sample_every):
            on_sample(run, ema.model.eval())
    return ema.model.eval()
