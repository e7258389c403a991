"""Bugs that published text-conditional GANs had, each of which a few lines would have caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_encoders, tiny_pipeline

from mmgen.models.autoencoder import PreviewDecoder
from mmgen.models.discriminator import Discriminator, image_maps
from mmgen.models.encoders import PyramidCNN, reference_tokens
from mmgen.models.fusion import Fusion
from mmgen.training.common.augment import augment, augment_pair
from mmgen.training.common.cache import TrainingCache, appearance_codes, caption_keys
from mmgen.training.common.config import LOSSES, RunConfig
from mmgen.training.common.run import Run
from mmgen.training.gan.adversarial import VIEWS, AdversarialStep
from mmgen.training.gan.batch import Batch, make_batch
from mmgen.training.gan.losses import discriminator_loss, generator_loss, latent_l1_loss
from mmgen.training.gan.sampler import Sampler, mismatches


@pytest.fixture(scope="module")
def cnn(tmp_path_factory) -> PyramidCNN:
    _, _, model, processor = tiny_encoders(tmp_path_factory.mktemp("encoders"))
    return PyramidCNN(model, processor.image_mean, processor.image_std)


@pytest.fixture(scope="module")
def discriminator(cnn) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(cnn.channels(), condition_channels=6, width=8, views=VIEWS).eval()


def cache_of(labels: list[str], styles: list[str]) -> TrainingCache:
    """A cache in which every array holds the number of its picture or caption."""
    captions = [
        text for label, style in zip(labels, styles, strict=True) for text in (label, f"{label}, {style} style")
    ]
    numbers = list(dict.fromkeys(captions))
    ids = [[numbers.index(f) for f in captions[2 * i : 2 * i + 2]] for i in range(len(labels))]
    n, m = len(labels), len(numbers)
    lengths = torch.arange(m) % 3 + 2
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    words = torch.arange(m).repeat_interleave(lengths)[:, None] + torch.arange(3)
    return TrainingCache(
        latents=torch.arange(n).half()[:, None, None, None].repeat(1, 2, 2, 2),
        references=(torch.arange(n).half() + 1)[:, None, None] * torch.eye(4).half(),
        words=words.half(),
        offsets=offsets,
        keys=caption_keys(words.half(), offsets),
        codes=torch.full((n, 8), 7.0),
        first_caption=torch.tensor([first for first, _ in ids]),
        caption_ids=ids,
        captions=numbers,
    )


LABELS = [label for label in ("apple", "cat", "dog", "star", "moon") for _ in range(2)]
STYLES = ["flat", "round"] * 5


@pytest.fixture
def cache() -> TrainingCache:
    return cache_of(LABELS, STYLES)


def views(cnn: PyramidCNN, images: torch.Tensor) -> list[list[torch.Tensor]]:
    """Maps of the whole images and of a quarter of each, as a discriminator with two views takes them."""
    return [image_maps(cnn, images, 64), image_maps(cnn, images[..., :32, :32], 64)]


def test_a_score_depends_on_its_own_condition_alone(cnn, discriminator):
    images, condition = torch.rand(3, 3, 64, 64) * 2 - 1, torch.randn(3, 6)
    scores = torch.cat(discriminator(views(cnn, images), [condition, condition]), dim=1)
    other = condition.clone()
    other[1] = torch.randn(6)
    changed = torch.cat(discriminator(views(cnn, images), [other, other]), dim=1)
    torch.testing.assert_close(changed[[0, 2]], scores[[0, 2]])
    assert scores.shape == (3, 8) and ((changed[1] - scores[1]).abs() > 1e-5).all()


def test_a_score_does_not_depend_on_the_other_pictures(cnn, discriminator):
    images, condition = torch.rand(3, 3, 64, 64) * 2 - 1, torch.randn(3, 6)
    whole, crop = views(cnn, images)
    together = discriminator([whole, [x[:2] for x in crop]], [condition, condition[:2]])  # Views of fewer images too.
    alone = [discriminator(views(cnn, images[i : i + 1]), [condition[i : i + 1]] * 2) for i in range(3)]
    assert [len(scores) for scores in together] == [3, 2]
    torch.testing.assert_close(together[0], torch.cat([scores[0] for scores in alone]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1], torch.cat([scores[1] for scores in alone[:2]]), atol=1e-5, rtol=1e-4)


def test_the_loss_of_one_sample_leaves_the_scores_of_the_others_alone():
    for kind in LOSSES:
        scores = torch.zeros(3, 4, requires_grad=True)
        generator_loss(kind, torch.zeros(3, 4), scores)[None].sum().backward()
        assert (scores.grad < 0).all()
        real, fake, wrong = (torch.zeros(3, 4, requires_grad=True) for _ in range(3))
        discriminator_loss(kind, real, fake, wrong, torch.tensor([True, False, True])).backward()
        assert (real.grad < 0).all() and (fake.grad > 0).all()
        assert (wrong.grad[[0, 2]] > 0).all() and (wrong.grad[1] == 0).all()


def test_captions_stay_with_their_images(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    generator = torch.Generator().manual_seed(0)
    samples = sampler.draw(200, generator)
    for image, caption in zip(samples.image.tolist(), samples.caption.tolist(), strict=True):
        assert caption in cache.caption_ids[image]
    batch = make_batch(cache, samples, 16, generator)
    assert torch.equal(batch.latents[:, 0, 0, 0].long(), samples.image)
    for row, caption in enumerate(samples.caption.tolist()):
        length = cache.offsets[caption + 1] - cache.offsets[caption]
        assert batch.condition["text_mask"][row].sum() == length
        assert (batch.condition["text"][row, :length, 0] == caption).all()
        assert (batch.condition["text"][row, length:] == 0).all()


def test_a_wrong_caption_never_fits_and_is_never_its_own(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        samples = sampler.draw(16, generator)
        wrong = mismatches(samples, generator)
        for row, other in enumerate(wrong.tolist()):
            assert other >= 0 and LABELS[samples.image[row]] != LABELS[samples.image[other]]
            assert samples.caption[row] != samples.caption[other]
    samples.caption[:] = 3  # Of different concepts, but called the same.
    assert (mismatches(samples, generator) == -1).all()
    samples = sampler.draw(16, generator)
    samples.concept[:] = 0
    assert (mismatches(samples, generator) == -1).all()
    in_style = samples.mismatched_caption >= 0
    assert torch.equal(make_batch(cache, samples, 16, generator).has_mismatch, in_style)


def test_a_wrong_style_is_asked_for_in_the_words_of_the_same_thing(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    generator = torch.Generator().manual_seed(3)
    samples = sampler.draw(400, generator)
    batch = make_batch(cache, samples, 16, generator)
    wrong = samples.mismatched_caption
    assert 0.3 < (wrong >= 0)[samples.names_style & (samples.text_weight > 0)].float().mean() < 0.7
    assert (wrong[~samples.names_style] == -1).all() and batch.has_mismatch[wrong >= 0].all()
    for row in (wrong >= 0).nonzero()[:, 0].tolist():
        image = int(samples.image[row])
        other = {"flat": "round", "round": "flat"}[STYLES[image]]
        assert cache.captions[wrong[row]] == f"{LABELS[image]}, {other} style"
        own, told = batch.discriminator_condition[row], batch.mismatched_condition[row]
        mean = cache.words[cache.offsets[wrong[row]]].float()  # All tokens of a caption are alike here.
        torch.testing.assert_close(told[:3], mean / mean.norm() * 3**0.5)
        assert torch.equal(told[3:], own[3:]) and not torch.equal(told[:3], own[:3])


def test_what_has_no_condition_has_no_wrong_one(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS, kinds=(0.5, 0.0, 0.0, 0.5))
    generator = torch.Generator().manual_seed(4)
    samples = sampler.draw(64, generator)
    batch = make_batch(cache, samples, 16, generator)
    has_text = samples.text_weight > 0
    assert not batch.has_mismatch[~has_text].any() and batch.mismatched_condition[batch.has_mismatch].any(1).all()
    assert 0 < batch.has_mismatch.sum() < has_text.sum() < 64
    told = batch.discriminator_condition.norm(dim=1) > 0
    assert torch.equal(told, has_text)
    assert torch.equal(batch.latent_weight, torch.where(has_text, 1.0, 0.25))


def test_a_picture_is_normalised_once(cnn):
    seen = []
    handle = cnn.model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True)
    try:
        white = torch.ones(1, 3, 64, 64)
        image_maps(cnn, white, 64)
    finally:
        handle.remove()
    torch.testing.assert_close(seen[0], (white - cnn.mean) / cnn.std)


def test_weight_zero_is_absence_and_one_changes_nothing():
    torch.manual_seed(0)
    fusion = Fusion(text_channels=8, reference_channels=12, reference_grid=4, width=16, depth=2, heads=2).eval()
    words, references = torch.randn(1, 5, 8), torch.randn(1, 2, 4, 12)
    mask = torch.ones(1, 5)

    def pooled(text_weight: float, weights: list[float], images=references, text=words) -> torch.Tensor:
        count = len(weights)
        return fusion(text, mask, torch.tensor([text_weight]), images[:, :count], torch.tensor([weights])).pooled

    torch.testing.assert_close(pooled(1.0, [1.0, 0.0]), pooled(1.0, [1.0]))
    torch.testing.assert_close(
        pooled(1.0, [0.0]), fusion(words, mask, torch.ones(1), references[:, :0], torch.zeros(1, 0)).pooled
    )
    torch.testing.assert_close(pooled(0.0, [1.0]), pooled(0.0, [1.0], text=torch.randn(1, 5, 8)))
    torch.testing.assert_close(pooled(1.0, [1.0, 1.0]), pooled(1.0, [1.0, 1.0], images=references.flip(1)))
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
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    real, fake = augment_pair(images.detach(), images)
    torch.testing.assert_close(real, fake)
    fake.sum().backward()
    assert images.grad.abs().sum() > 0
    assert not torch.equal(augment(images), augment(images))


def test_the_latents_loss_weighs_samples():
    latents, targets = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert latent_l1_loss(latents, targets, torch.tensor([1.0, 0.0])) == 1.0
    assert latent_l1_loss(latents, targets, torch.tensor([1.0, 1.0])) == 2.0


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
    cache.codes[:] = torch.nan
    generator = torch.Generator().manual_seed(1)
    samples = Sampler(cache, LABELS, STYLES, LABELS).draw(100, generator)
    assert make_batch(cache, samples, 16, generator).z.isfinite().all()


@pytest.fixture
def against(tmp_path) -> AdversarialStep:
    """An adversarial step on the tiny pipeline, whose images have 32 pixels and are looked at with 64."""
    pipe = tiny_pipeline(tmp_path / "parts")
    run = Run(RunConfig(str(tmp_path / "run"), 1, 4, log_with="none", precision="no"))
    cnn = PyramidCNN(pipe.image_encoder, [0.5] * 3, [0.5] * 3)
    discriminator = Discriminator(cnn.channels(), condition_channels=6, width=8, views=VIEWS)
    preview = PreviewDecoder(latent_channels=4, width=8)
    optimizers = (torch.optim.SGD(module.parameters()) for module in (discriminator, preview))
    optimizer, preview_optimizer = optimizers
    return AdversarialStep(
        run, discriminator, optimizer, preview, preview_optimizer, cnn, pipe.autoencoder, "hinge", 1e-3, 64
    )


def adversarial_batch(count: int) -> Batch:
    """Real latents and conditions for the tiny pipeline; each sample's wrong condition is its neighbour's."""
    ones = torch.ones(count)
    latents, condition = torch.randn(count, 4, 2, 2), torch.randn(count, 6)
    return Batch(torch.randn(count, 16), {}, None, latents, condition, condition.roll(1, 0), ones.bool(), ones)


def test_real_and_generated_go_the_same_way_to_the_discriminator(against):
    """What is drawn exactly as it should be cannot be told from the real: not in its features, not by its score."""
    torch.manual_seed(0)
    batch = adversarial_batch(4)
    adversarial, features, values = against(batch.latents.clone().requires_grad_(True), batch)
    torch.testing.assert_close(features, torch.zeros(()), atol=1e-6, rtol=0)
    torch.testing.assert_close(values["real"], values["fake"])
    assert (values["mismatched"] - values["real"]).abs() > 1e-6
    other, further, _ = against(torch.randn(4, 4, 2, 2), batch)
    assert further > 1e-3 and other != adversarial


def test_the_generator_is_taught_by_the_discriminator_and_does_not_teach_it(against):
    torch.manual_seed(0)
    batch = adversarial_batch(4)
    latents = torch.randn(4, 4, 2, 2, requires_grad=True)
    before = [value.detach().clone() for value in against.discriminator.parameters()]
    learning = [value.requires_grad for value in against.discriminator.parameters()]
    adversarial, features, _ = against(latents, batch)
    learned = [value.detach().clone() for value in against.discriminator.parameters()]
    assert any(not torch.equal(one, other) for one, other in zip(before, learned, strict=True))
    assert all(value.grad is None or not value.grad.any() for value in against.discriminator.parameters())
    (adversarial + features).backward()
    assert latents.grad.abs().sum() > 0
    assert all(value.grad is None or not value.grad.any() for value in against.discriminator.parameters())
    assert all(value.grad is None for value in against.autoencoder.parameters())
    assert [value.requires_grad for value in against.discriminator.parameters()] == learning


def test_images_are_clipped_before_they_are_made_smaller(against):
    """Stripes of three pixels must not look different because what is drawn lies beyond white and black."""
    stripes = torch.ones(1, 4, 192, 192)
    stripes[..., ::3] = -1.2
    assert torch.equal(against.decode(torch.zeros(1, 4, 2, 2), image_decoder=lambda raw: stripes), stripes.clamp(-1, 1))


def test_the_whole_and_a_native_crop_are_seen(against):
    latents = torch.randn(6, 4, 8, 8)
    whole, crop = against.views(latents, (3, 2, 4))
    assert whole.shape == (6, 4, 64, 64) and crop.shape == (2, 4, 64, 64)
    torch.testing.assert_close(whole, against.preview(latents).clamp(-1, 1))
    torch.testing.assert_close(crop, against.decode(latents[:2, :, 3:7, 2:6]))
    top, left, side = against.corner(latents)
    assert side == 4 and 0 <= top <= 4 and 0 <= left <= 4
    assert against.corner(torch.randn(1, 4, 2, 2)) == (0, 0, 2)  # An image smaller than the crop is seen whole.


def test_the_preview_decoder_learns_what_the_image_decoder_draws(against, monkeypatch):
    monkeypatch.setattr("mmgen.training.gan.adversarial.PREVIEW_STEPS", 200)
    torch.manual_seed(0)
    against.preview_optimizer = torch.optim.Adam(against.preview.parameters())
    latents = torch.randn(32, 4, 2, 2)

    @torch.no_grad()
    def off() -> float:
        halved = torch.nn.functional.avg_pool2d(against.decode(latents), 2)
        return float((against.preview(latents) - halved).abs().mean())

    before = off()
    against.prepare(latents)
    assert off() < 0.8 * before and against.preview.steps == 200
    weights = [value.clone() for value in against.preview.parameters()]
    against.prepare(latents)  # It has learned.
    assert all(map(torch.equal, weights, against.preview.parameters()))


def test_reference_tokens_join_what_lies_in_one_cell(cnn):
    maps = [torch.zeros(1, c, s, s) for c, s in zip(cnn.channels(), (16, 8, 4, 2), strict=True)]
    maps[2][0, 0, 0, 1] = 5.0
    maps[3][0, 0, 0, 0] = 3.0
    tokens = reference_tokens(maps)
    assert tokens.shape == (1, 4, 16 + 4 * 16)
    assert set(tokens[0, 0].unique().tolist()) == {0.0, 3.0, 5.0} and not tokens[0, 1:].any()
