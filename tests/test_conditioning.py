"""Bugs that published text-conditional GANs had, each of which a few lines would have caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmgen.training.batches import make_batch
from mmgen.training.losses import LOSSES, discriminator_loss, generator_loss, paired_loss
from mmgen.training.sampling import Sampler, mismatches
from tiny import tiny_encoders

from mmgen.models.discriminator import Discriminator, picture_maps
from mmgen.models.encoders import PyramidCNN, reference_tokens
from mmgen.models.fusion import Fusion
from mmgen.training.augment import augment, augment_pair
from mmgen.training.cache import TrainingCache, appearance_codes


@pytest.fixture(scope="module")
def cnn(tmp_path_factory) -> PyramidCNN:
    _, _, model, processor = tiny_encoders(tmp_path_factory.mktemp("encoders"))
    return PyramidCNN(model, processor.image_mean, processor.image_std)


@pytest.fixture(scope="module")
def judge(cnn) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(cnn.channels(), condition_channels=6, width=8).eval()


def cache_of(labels: list[str], styles: list[str]) -> TrainingCache:
    """A cache in which every array holds the number of its picture or caption."""
    captions = [
        text for label, style in zip(labels, styles, strict=True) for text in (label, f"{label}, {style} style")
    ]
    numbers = list(dict.fromkeys(captions))
    ids = [[numbers.index(f) for f in captions[2 * i : 2 * i + 2]] for i in range(len(labels))]
    n, m = len(labels), len(numbers)
    lengths = np.arange(m) % 3 + 2
    offsets = np.concatenate([[0], lengths.cumsum()])
    return TrainingCache(
        latents=np.arange(n, dtype=np.float16)[:, None, None, None] * np.ones((1, 2, 2, 2), np.float16),
        restored=np.zeros((n, 4, 8, 8), np.uint8),
        references=(np.arange(n, dtype=np.float16)[:, None, None] + 1) * np.eye(4, dtype=np.float16)[None],
        words=np.repeat(np.arange(m), lengths)[:, None].astype(np.float16) + np.arange(3, dtype=np.float16),
        offsets=offsets,
        caption_ids=ids,
        captions=numbers,
        codes=np.full((n, 8), 7.0, np.float32),
    )


LABELS = [label for label in ("apple", "cat", "dog", "star", "moon") for _ in range(2)]
STYLES = ["flat", "round"] * 5


@pytest.fixture
def cache() -> TrainingCache:
    return cache_of(LABELS, STYLES)


def test_a_score_depends_on_its_own_condition_alone(cnn, judge):
    pictures, condition = torch.rand(3, 3, 64, 64) * 2 - 1, torch.randn(3, 6)
    scores = judge(picture_maps(cnn, pictures, 64), condition)
    other = condition.clone()
    other[1] = torch.randn(6)
    changed = judge(picture_maps(cnn, pictures, 64), other)
    torch.testing.assert_close(changed[[0, 2]], scores[[0, 2]])
    assert (changed[1] - scores[1]).abs().max() > 1e-4


def test_a_score_does_not_depend_on_the_other_pictures(cnn, judge):
    pictures, condition = torch.rand(3, 3, 64, 64) * 2 - 1, torch.randn(3, 6)
    together = judge(picture_maps(cnn, pictures, 64), condition)
    alone = torch.cat([judge(picture_maps(cnn, pictures[i : i + 1], 64), condition[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_loss_of_one_sample_leaves_the_scores_of_the_others_alone():
    for kind in LOSSES:
        scores = torch.zeros(3, 4, requires_grad=True)
        generator_loss(kind, torch.zeros(3, 4), scores)[None].sum().backward()
        assert (scores.grad < 0).all()
        real, fake, wrong = (torch.zeros(3, 4, requires_grad=True) for _ in range(3))
        discriminator_loss(kind, real, fake, wrong, torch.tensor([True, False, True])).backward()
        assert (real.grad < 0).all() and (fake.grad > 0).all()
        assert (wrong.grad[[0, 2]] > 0).all() and (wrong.grad[1] == 0).all()


def test_captions_stay_with_their_pictures(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    rng = np.random.default_rng(0)
    samples = sampler.draw(200, rng)
    for picture, caption in zip(samples.picture, samples.caption, strict=True):
        assert caption in cache.caption_ids[picture]
    batch = make_batch(cache, samples, 16, rng)
    assert (batch.latents[:, 0, 0, 0].numpy() == samples.picture).all()
    for row, caption in enumerate(samples.caption):
        length = cache.offsets[caption + 1] - cache.offsets[caption]
        assert batch.condition["text_mask"][row].sum() == length
        assert (batch.condition["text"][row, :length, 0] == caption).all()


def test_a_wrong_caption_never_fits_and_is_never_its_own(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    rng = np.random.default_rng(1)
    for _ in range(20):
        samples = sampler.draw(16, rng)
        wrong = mismatches(samples, rng)
        for row, other in enumerate(wrong):
            assert other >= 0 and LABELS[samples.picture[row]] != LABELS[samples.picture[other]]
            assert samples.caption[row] != samples.caption[other]
    samples.concept[:] = 0
    assert (mismatches(samples, rng) == -1).all()
    assert not make_batch(cache, samples, 16, rng).has_mismatch.any()


def test_a_picture_is_normalised_once(cnn):
    seen = []
    handle = cnn.model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True)
    try:
        white = torch.ones(1, 3, 64, 64)
        picture_maps(cnn, white, 64)
    finally:
        handle.remove()
    torch.testing.assert_close(seen[0], (white - cnn.mean) / cnn.std)


def test_samples_of_every_kind_are_drawn_and_open_ones_take_the_code(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    rng = np.random.default_rng(2)
    samples = sampler.draw(2000, rng)
    has_text, has_reference = samples.text_weight > 0, samples.reference_weights.max(1) > 0
    for with_text, with_reference, share in ((1, 0, 0.5), (1, 1, 0.4), (0, 1, 0.06), (0, 0, 0.04)):
        found = ((has_text == with_text) & (has_reference == with_reference)).mean()
        assert found == pytest.approx(share, abs=0.04)
    batch = make_batch(cache, samples, 16, rng)
    coded = (batch.z[:, :8] == 7.0).all(1).numpy()
    assert (coded == samples.open).all() and 0 < coded.sum() < 2000
    names_style = np.array(["style" in cache.captions[i] for i in samples.caption])
    assert not (samples.open & has_text & names_style).any()


def test_a_reference_is_itself_or_a_neighbour(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    samples = sampler.draw(2000, np.random.default_rng(3))
    roles = set()
    for row in np.flatnonzero(samples.reference_weights[:, 0] > 0):
        target, reference = samples.picture[row], samples.reference[row, 0]
        same_label, same_style = LABELS[target] == LABELS[reference], STYLES[target] == STYLES[reference]
        assert same_label or same_style
        roles.add((same_label, same_style))
    assert roles == {(True, True), (True, False), (False, True)}


def test_weight_zero_is_absence_and_one_changes_nothing():
    torch.manual_seed(0)
    fusion = Fusion(text_channels=8, reference_channels=12, reference_grid=4, width=16, depth=2, heads=2).eval()
    words, references = torch.randn(1, 5, 8), torch.randn(1, 2, 4, 12)
    mask = torch.ones(1, 5)

    def pooled(text_weight: float, weights: list[float], pictures=references, text=words) -> torch.Tensor:
        count = len(weights)
        return fusion(text, mask, torch.tensor([text_weight]), pictures[:, :count], torch.tensor([weights])).pooled

    torch.testing.assert_close(pooled(1.0, [1.0, 0.0]), pooled(1.0, [1.0]))
    torch.testing.assert_close(
        pooled(1.0, [0.0]), fusion(words, mask, torch.ones(1), references[:, :0], torch.zeros(1, 0)).pooled
    )
    torch.testing.assert_close(pooled(0.0, [1.0]), pooled(0.0, [1.0], text=torch.randn(1, 5, 8)))
    torch.testing.assert_close(pooled(1.0, [1.0, 1.0]), pooled(1.0, [1.0, 1.0], pictures=references.flip(1)))
    steps = [pooled(1.0, [weight]) for weight in (0.0, 0.01, 0.5, 1.0, 2.0)]
    distances = [(step - steps[0]).norm().item() for step in steps]
    assert distances == sorted(distances) and distances[1] < 0.1 * distances[3] and distances[4] > distances[3]


def test_padding_changes_nothing_and_attention_is_readable():
    torch.manual_seed(0)
    fusion = Fusion(text_channels=8, reference_channels=12, reference_grid=4, width=16, depth=2, heads=2).eval()
    words, references = torch.randn(1, 3, 8), torch.randn(1, 1, 4, 12)
    padded = torch.cat([words, torch.randn(1, 4, 8)], dim=1)
    weights = torch.ones(1, 1)
    short = fusion(words, torch.ones(1, 3), torch.ones(1), references, weights, return_attention=True)
    long = fusion(
        padded, torch.tensor([[1.0] * 3 + [0.0] * 4]), torch.ones(1), references, weights, return_attention=True
    )
    torch.testing.assert_close(short.pooled, long.pooled)
    assert short.attention.shape == (2, 1, 2, 1 + 3 + 4 + 2)
    torch.testing.assert_close(short.attention.sum(-1), torch.ones(2, 1, 2))
    assert (long.attention[..., 4:8] == 0).all()


def test_augmentation_treats_real_and_generated_alike_and_passes_gradients():
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 32, 32, requires_grad=True)
    real, fake = augment_pair(pictures.detach(), pictures)
    torch.testing.assert_close(real, fake)
    fake.sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert not torch.equal(augment(pictures), augment(pictures))


def test_the_paired_loss_weighs_samples():
    latents, targets = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert paired_loss(latents, targets, torch.tensor([1.0, 0.0])) == 1.0
    assert paired_loss(latents, targets, torch.tensor([1.0, 1.0])) == 2.0


def test_appearance_codes_tell_the_pictures_of_one_concept_apart():
    rng = np.random.default_rng(0)
    concepts = [f"c{i // 2}" for i in range(200)]
    style = np.tile([-1.0, 1.0], 100)
    references = (
        rng.normal(size=(200, 4, 10)).astype(np.float32) * 0.1 + np.repeat(rng.normal(size=100), 2)[:, None, None]
    )
    references[:, :, 0] += style[:, None]
    codes = appearance_codes(references.astype(np.float16), concepts)
    assert codes.shape == (200, 8) and abs(codes.mean()) < 1e-5 and codes.std() == pytest.approx(1.0, abs=0.02)
    assert max(abs(np.corrcoef(codes[:, k], style)[0, 1]) for k in range(8)) > 0.7


def test_a_picture_alone_in_its_concept_has_no_code(cache):
    references = np.random.default_rng(0).normal(size=(6, 4, 10)).astype(np.float16)
    codes = appearance_codes(references, ["a", "a", "b", "b", "alone", "also alone"])
    assert np.isfinite(codes[:4]).all() and np.isnan(codes[4:]).all()
    assert np.isnan(appearance_codes(references, list("abcdef"))).all()
    cache.codes[:] = np.nan
    rng = np.random.default_rng(1)
    samples = Sampler(cache, LABELS, STYLES, LABELS).draw(100, rng)
    assert make_batch(cache, samples, 16, rng).z.isfinite().all()


def test_real_and_generated_go_the_same_way_to_the_judge():
    """Stripes of three pixels must not look different because one of them was scaled twice."""
    from mmgen.training.duel import Duel

    duel = Duel(None, None, None, None, None, "hinge", 0.0, 32)
    stripes = torch.ones(1, 4, 96, 96)
    stripes[..., ::3] = -1.2
    ground = torch.zeros(1, 3, 1, 1)
    cached = torch.nn.functional.interpolate(stripes.clamp(-1, 1), size=(32, 32), mode="area")
    torch.testing.assert_close(duel.scaled(stripes, ground), duel.scaled(cached, ground))


def test_reference_tokens_join_what_lies_in_one_cell(cnn):
    maps = [torch.zeros(1, c, s, s) for c, s in zip(cnn.channels(), (16, 8, 4, 2), strict=True)]
    maps[2][0, 0, 0, 1] = 5.0
    maps[3][0, 0, 0, 0] = 3.0
    tokens = reference_tokens(maps)
    assert tokens.shape == (1, 4, 16 + 4 * 16)
    assert set(tokens[0, 0].unique().tolist()) == {0.0, 3.0, 5.0} and not tokens[0, 1:].any()
