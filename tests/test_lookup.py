"""The memory in fine-tuning: looked up for many prompts as for one, grown by a person's pairs, and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from creatures import NAMES, write_creatures
from tiny_memory import LABELS, STYLES, with_tiny_memory

from mmgen.checkpoints import load_pipeline
from mmgen.data.folder import load_pairs
from mmgen.data.memmap import pack_images
from mmgen.models.encoders import PyramidCNN
from mmgen.models.memory import Memory, encoder_fingerprint, quantise
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.captioner.data import draw_own
from mmgen.training.common.cache import build_cache
from mmgen.training.finetune.prior import PriorSampler, mix
from mmgen.training.finetune.projection import NullSpaceProjection
from mmgen.training.gan.batch import make_batch
from mmgen.training.gan.sampler import Sampler
from mmgen.training.lookup import PromptLookup
from mmgen.training.memory import grow_memory, with_entries

PROMPTS = [
    "a red cat",
    "a red cat, flat style",
    "a blue dog and a green star",
    "",
    "round style",
    "apple on a dog, round style",
]


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> MultimodalGANPipeline:
    return with_tiny_memory(load_pipeline(tiny_checkpoint))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Four creatures, one of them without words."""
    folder = write_creatures(tmp_path_factory.mktemp("pairs"), NAMES[:4], size=48)
    data = load_pairs(folder, need_text=False)["train"]
    return data.map(lambda row, number: {"text": "" if number == 3 else row["text"]}, with_indices=True).map(
        lambda row: {"captions": [row["text"]]}
    )


@pytest.fixture(scope="module")
def cache(pipe, pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    images = pack_images(pairs, 32, folder)
    cnn = PyramidCNN(pipe.image_encoder, [0.5] * 3, [0.5] * 3)
    networks = pipe.text_encoder, pipe.tokenizer, cnn, pipe.autoencoder
    made = build_cache(pairs, images, *networks, folder, torch.device("cpu"))
    # The untrained encoder's latents hardly differ; these are as large as a trained one's.
    return replace(made, latents=made.latents / made.latents.float().std())


def rows_of(memory: Memory, start: int = 0) -> list[tuple[str, str]]:
    texts, styles = memory.config.texts, memory.config.styles
    numbers = zip(memory.text.tolist()[start:], memory.style.tolist()[start:], strict=True)
    return [(texts[text], styles[style]) for text, style in numbers]


@torch.no_grad()
def test_many_prompts_are_looked_up_by_what_one_is(pipe, monkeypatch):
    monkeypatch.setattr("mmgen.pipeline.WHOLE", 1.1)  # All texts are alike to an encoder that was never trained.
    lookup = PromptLookup(pipe, PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        query = pipe.memory_query(prompt)
        assert bool(lookup.has_words[row]) == (query is not None)
        if query:
            torch.testing.assert_close(lookup.queries[row], query.keys, atol=1e-5, rtol=1e-5)
            assert lookup.styles[row].item() == (-1 if query.style is None else query.style)
    assert not torch.equal(lookup.queries[2, 0], lookup.queries[2, 1])  # Two things, a slot for each.
    assert torch.equal(lookup.queries[0, 0], lookup.queries[0, 1])


def test_many_look_ups_find_what_one_may(pipe):
    lookup, none = PromptLookup(pipe, PROMPTS), torch.zeros(6, dtype=torch.bool)
    memory, chosen = pipe.memory, set()
    for seed in range(40):
        found = lookup(torch.arange(6), none, torch.Generator().manual_seed(seed))
        entries, style = found.entries, memory.style[found.entries]
        assert found.weights[[3, 4]].sum() == 0 and (found.weights[[0, 1, 2, 5]] == 1).all()
        assert (style[1] == torch.tensor([1, 1, 0, 0])).all()  # Flat was named, and stands first among the styles.
        assert (style[5] == torch.tensor([0, 0, 1, 1])).all()
        assert 2 * LABELS.index("a red cat") not in entries[1].tolist()  # What was asked for itself.
        chosen.add(int(style[0, 2]))
        assert style[0, 2] == style[0, 3] != style[0, 0] == style[0, 1]
        assert 2 * LABELS.index("a red cat") + int(style[0, 2]) not in entries[0].tolist()
        torch.testing.assert_close(found.latents[0], memory.latents(entries[0]))
    assert chosen == {0, 1}  # A seed chooses where no style is named.
    shown = lookup(torch.arange(6), ~none, torch.Generator().manual_seed(0))
    assert (shown.weights[0] == torch.tensor([1, 1, 0, 0])).all()  # A reference says the style.
    assert (shown.weights[1] == 1).all()
    again, other = (lookup(torch.arange(6), none, torch.Generator().manual_seed(seed)) for seed in (39, 3))
    assert torch.equal(again.entries, found.entries) and not torch.equal(other.entries, found.entries)


def test_a_pipeline_without_the_one_or_the_other_has_no_memory(pipe, tiny_checkpoint):
    blind = load_pipeline(tiny_checkpoint)
    assert pipe.has_memory and not blind.has_memory
    assert not MultimodalGANPipeline(**{**blind.components, "memory": pipe.memory}).has_memory
    assert not MultimodalGANPipeline(**{**pipe.components, "memory": None}).has_memory
    assert not MultimodalGANPipeline(**{**pipe.components, "memory": Memory()}).has_memory


def test_the_pairs_become_entries_after_those_that_are_there(pipe, pairs, cache):
    before = {name: value.clone() for name, value in pipe.memory.state_dict().items()}
    memory, index = grow_memory(pipe.memory, pairs, cache, pipe.autoencoder, pipe.text_encoder)
    assert len(memory) == 27 and rows_of(memory, 24) == [(text, "") for text in pairs["text"][:3]]
    assert rows_of(memory)[:24] == rows_of(pipe.memory) and memory.config.styles == [*STYLES, ""]
    torch.testing.assert_close(memory.latents(torch.arange(24)), pipe.memory.latents(torch.arange(24)))
    own = memory.latents(torch.arange(24, 27))
    wanted = cache.latents[:3].float()
    nearest = (wanted[..., None] - memory.levels[:, None, None]).abs().argmin(-1)
    torch.testing.assert_close(own, memory.levels[torch.arange(4)[None, :, None, None], nearest])
    assert all(torch.equal(before[name], value) for name, value in pipe.memory.state_dict().items())
    assert memory.config.image_encoder_hash == encoder_fingerprint(pipe.autoencoder)
    assert index.texts.tolist() == [12, 13, 14, -1] and len(set(memory.concept[24:].tolist())) == 3
    again, _ = grow_memory(memory, pairs, cache, pipe.autoencoder, pipe.text_encoder)
    assert rows_of(again) == rows_of(memory)  # Taught on, it does not remember the same twice.


def test_a_pair_is_never_found_for_itself(pipe, pairs, cache):
    memory, index = grow_memory(pipe.memory, pairs, cache, pipe.autoencoder, pipe.text_encoder)
    sampler = Sampler(cache, [*pairs["text"][:3], "picture 3"], pairs["style"][:], list("abcd"))
    found = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        samples = sampler.draw(32, generator)
        excluded = index.excluded(samples)
        batch = make_batch(cache, samples, 16, generator, index)
        weighed = batch.remembered.weights[:, :4] > 0
        assert (batch.remembered.weights[samples.image == 3, :4] == 0).all()
        for row, image in enumerate(samples.image.tolist()):
            assert image == 3 or excluded[row].nonzero().flatten().tolist() == [24 + image]
            for latent in batch.remembered.latents[row, :4][weighed[row]]:
                same = (memory.latents(torch.arange(27)) == latent).flatten(1).all(1).nonzero().flatten().tolist()
                assert 24 + image not in same
                found.update(same)
    assert found & {24, 25, 26} and found - {24, 25, 26}  # Its neighbours are, and what the base knew.


def test_an_empty_memory_begins_with_the_pairs_and_none_at_all_stays_none(pipe, pairs, cache):
    memory, index = grow_memory(None, pairs, cache, pipe.autoencoder, pipe.text_encoder)
    assert rows_of(memory) == [(text, "") for text in pairs["text"][:3]] and index.memory is memory
    difference = memory.latents(torch.arange(3)) - cache.latents[:3].float()
    assert difference.abs().mean() < 0.1 * cache.latents.float().std()
    mute = pairs.map(lambda row: {"text": ""})
    assert grow_memory(None, mute, cache, pipe.autoencoder, pipe.text_encoder) == (None, None)
    kept, _ = grow_memory(pipe.memory, mute, cache, pipe.autoencoder, pipe.text_encoder)
    assert rows_of(kept) == rows_of(pipe.memory)


def test_words_that_are_there_mean_what_they_meant(pipe):
    memory, latents = pipe.memory, torch.randn(3, 4, 2, 2)
    origin, mine = ("a set", "CC0-1.0", "an author"), ("mine", "", "me")
    pairs = [(LABELS[2], "flat", origin), (LABELS[2], "crayon", mine), ("a zorp", "flat", mine)]
    grown = with_entries(memory, latents, torch.eye(32)[:3], pairs)
    assert rows_of(grown, 24) == [(text, style) for text, style, _ in pairs]
    assert grown.concept[24] == grown.concept[25] == memory.concept[4] and grown.concept[26] == 12
    assert torch.equal(grown.text_keys[:12], memory.text_keys) and torch.equal(grown.text_keys[12], torch.eye(32)[2])
    assert [grown.config.sources[n]["author"] for n in grown.source[24:].tolist()] == ["an author", "me", "me"]
    assert torch.equal(grown.codes[24:], quantise(latents, memory.levels))
    nearly = grown.latents(torch.arange(24, 27)) + 1e-4  # Encoded a little differently: the same picture.
    assert len(with_entries(grown, nearly, torch.eye(32)[:3], pairs)) == 27
    assert len(with_entries(grown, torch.randn(3, 4, 2, 2), torch.eye(32)[:3], pairs)) == 30


def test_the_prior_draws_from_the_memory_and_tells_what_it_looked_at(pipe):
    prior = PriorSampler(pipe, [LABELS], seed=0)
    words, shown, reference, nothing = (prior.draw(8, np.random.default_rng(1), kinds) for kinds in np.eye(4))
    for recalled, by_memory, by_reference in ((words, 1, 0), (shown, 1, 1), (reference, 0, 1), (nothing, 0, 0)):
        weights = recalled.remembered.weights
        assert weights.shape == (8, 5) and (weights[:, :2] == by_memory).all() and (weights[:, 4] == by_reference).all()
    assert (words.remembered.weights[:, 2:4] == 1).all() and (shown.remembered.weights[:, 2:4] == 0).all()
    latents = pipe.memory.latents(torch.arange(24))
    assert all((latents == one).flatten(1).all(1).any() for one in words.remembered.latents[:, :4].flatten(0, 1))
    assert all((prior.reference_latents == one).flatten(1).all(1).any() for one in shown.remembered.latents[:, 4])
    with torch.no_grad():
        for recalled in (words, shown):
            fused = pipe.fusion(**recalled.condition)
            drawn = pipe.generator(recalled.z, fused, remembered=recalled.remembered)
            blind = pipe.generator(recalled.z, fused)
            torch.testing.assert_close(recalled.latents, drawn, atol=0.1, rtol=0.1)
            assert (blind - drawn).abs().mean() > 2 * (recalled.latents - drawn).abs().mean()
    again = prior.draw(8, np.random.default_rng(1), np.eye(4)[0])
    assert torch.equal(again.latents, words.latents)


def test_a_batch_and_what_is_recalled_go_together_with_their_memories(pipe, pairs, cache):
    _, index = grow_memory(pipe.memory, pairs, cache, pipe.autoencoder, pipe.text_encoder)
    prior = PriorSampler(pipe, [LABELS], seed=0)
    sampler = Sampler(cache, [*pairs["text"][:3], "picture 3"], pairs["style"][:], list("abcd"))
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        batch = make_batch(cache, sampler.draw(5, generator), 16, generator, index)
        recalled = prior.draw(3, np.random.default_rng(seed))
        z, condition, remembered = mix(batch, recalled)
        assert len(z) == 8 and all(len(value) == 8 for value in condition.values())
        count = recalled.remembered.weights.shape[1]
        assert torch.equal(remembered.weights[5:, :count], recalled.remembered.weights)
        assert torch.equal(remembered.weights[:5], batch.remembered.weights)
        assert not remembered.weights[5:, count:].any()
        with torch.no_grad():
            theirs = pipe.generator(z, pipe.fusion(**condition), remembered=remembered)[5:]
        torch.testing.assert_close(theirs, recalled.latents, atol=0.1, rtol=0.1)
    alone = make_batch(cache, sampler.draw(5, generator), 16, generator)
    _, _, remembered = mix(alone, recalled)
    assert not remembered.weights[:5].any() and torch.equal(remembered.weights[5:], recalled.remembered.weights)


def test_a_reader_without_a_memory_sees_the_references(pipe):
    bare = MultimodalGANPipeline(**{**pipe.components, "memory": None})
    recalled = PriorSampler(bare, [LABELS], seed=0).draw(4, np.random.default_rng(0), (0.0, 1.0, 0.0, 0.0))
    assert not recalled.remembered.weights[:, :4].any() and (recalled.remembered.weights[:, 4] == 1).all()


def test_what_is_spared_is_what_the_base_uses_while_it_remembers(pipe):
    prior = PriorSampler(pipe, [LABELS], seed=0)
    with_memory = NullSpaceProjection(prior, seed=0).free
    prior.lookup = None
    without = NullSpaceProjection(prior, seed=0).free
    assert with_memory.keys() == without.keys() and not any("memory_reader" in name for name in with_memory)
    assert (with_memory["generator.to_patch"] - without["generator.to_patch"]).abs().max() > 1e-2


def test_the_captioner_reads_what_is_drawn_with_the_memory(pipe, tiny_checkpoint, tmp_path):
    """As when the pipeline is called: nothing of the memory gives other pictures."""
    cnn = PyramidCNN(pipe.image_encoder, [0.5] * 3, [0.5] * 3)
    texts = [f"{label}, {style} style" for label in LABELS[:10] for style in STYLES]
    own = draw_own(pipe, cnn, texts, tmp_path, "one", 0)
    again = draw_own(pipe, cnn, texts, tmp_path / "again", "one", 0)
    blind = MultimodalGANPipeline(**{**pipe.components, "memory": None})
    without = draw_own(blind, cnn, texts, tmp_path, "other", 0)
    assert own.shape == (20, 16, 80) and np.array_equal(own, again)
    assert np.abs(own.astype(np.float32) - without.astype(np.float32)).mean() > 1e-3
