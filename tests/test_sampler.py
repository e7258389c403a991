"""What one training sample is: shares and roles of captions, references and memory, and what is never looked up."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from test_conditioning import LABELS, STYLES, cache_of

from mmgen.models.memory import SLOTS, Memory
from mmgen.training.gan.batch import MemoryIndex, make_batch
from mmgen.training.gan.sampler import Sampler, Samples, _Groups
from mmgen.training.memory import index_memory

MANY = 4000


@pytest.fixture
def cache():
    return cache_of(LABELS, STYLES)


def draw(cache, seed: int = 0, **options) -> Samples:
    return Sampler(cache, LABELS, STYLES, LABELS, **options).draw(MANY, torch.Generator().manual_seed(seed))


def kinds_of(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    return samples.text_weight > 0, (samples.reference_weights > 0).any(1)


def share(of: torch.Tensor, among: torch.Tensor | None = None) -> float:
    return float((of if among is None else of[among]).float().mean())


def numbers(values: list[str]) -> torch.Tensor:
    return torch.from_numpy(np.unique(values, return_inverse=True)[1])


def test_samples_of_every_kind_are_drawn_and_unspecified_ones_take_the_code(cache):
    samples = draw(cache, 2)
    has_text, has_reference = kinds_of(samples)
    for with_text, with_reference, expected in ((1, 0, 0.5), (1, 1, 0.4), (0, 1, 0.06), (0, 0, 0.04)):
        found = share((has_text == with_text) & (has_reference == with_reference))
        assert found == pytest.approx(expected, abs=0.03)
    batch = make_batch(cache, samples, 16, torch.Generator().manual_seed(2))
    coded = (batch.z[:, :8] == 7.0).all(1)
    assert torch.equal(coded, samples.appearance_unspecified) and 0 < coded.sum() < MANY
    assert torch.equal((batch.z == 7.0).any(1), coded) and not (batch.z[:, 8:] == 7.0).any()
    assert coded[~has_text & ~has_reference].all() and not coded[has_reference].any()
    assert not (coded & has_text & samples.names_style).any()
    # Where the memory shows the style it is given, mostly.
    shown = has_text & ~has_reference & ~samples.names_style & (samples.memory_weight > 0)
    assert share(coded, shown) == pytest.approx(0.25, abs=0.06)
    assert coded[has_text & ~has_reference & ~samples.names_style & (samples.memory_weight == 0)].all()


def test_what_a_caption_says_of_the_style_is_known(cache):
    samples = draw(cache)
    says = torch.tensor(["style" in caption for caption in cache.captions])
    assert torch.equal(samples.names_style, says[samples.caption])
    has_text, has_reference = kinds_of(samples)
    assert share(samples.names_style, has_text & ~has_reference) == pytest.approx(0.5, abs=0.04)


def test_references_have_their_roles_and_captions_leave_to_them_what_they_show(cache):
    samples = draw(cache, 3)
    label, style = numbers(LABELS), numbers(STYLES)
    reference, target = samples.reference[:, 0], samples.image
    same_label, same_style = label[reference] == label[target], style[reference] == style[target]
    has_text, has_reference = kinds_of(samples)
    both, alone = has_text & has_reference, ~has_text & has_reference
    by_style, by_label, itself = same_style & ~same_label, same_label & ~same_style, reference == target
    assert (by_style | by_label | itself)[has_reference].all()
    for role, expected in ((by_style, 0.5), (by_label, 0.25), (itself, 0.25)):
        assert share(role, both) == pytest.approx(expected, abs=0.04)
    # The style is left to a reference that shows it, and named beside one that shows the thing.
    assert not samples.names_style[both & by_style].any() and samples.names_style[both & by_label].all()
    # Without words it is the concept that is shown, or the image itself.
    assert not by_style[alone].any() and 0.2 < share(itself, alone) < 0.4
    # Only what is of the style comes in numbers.
    several = (samples.reference_weights > 0).sum(1) > 1
    assert not (several & ~by_style).any()
    # The image's own latent is never shown: that would be the answer.
    given = samples.reference_weights > 0
    assert torch.equal(samples.reference_latents, given & (samples.reference != target[:, None]))


def test_batches_carry_one_to_four_references_all_in_the_targets_style(cache):
    sampler = Sampler(cache, LABELS, STYLES, LABELS)
    label, style, counts = numbers(LABELS), numbers(STYLES), []
    for seed in range(200):
        samples = sampler.draw(32, torch.Generator().manual_seed(seed))
        counts.append(samples.reference.shape[1])
        rest, weights = samples.reference[:, 1:], samples.reference_weights[:, 1:]
        ours = style[samples.image][:, None].expand_as(rest)
        assert torch.equal(style[rest][weights > 0], ours[weights > 0])
        other = label[rest] != label[samples.image][:, None]
        assert (other | (rest == samples.image[:, None]))[weights > 0].all()
    assert set(counts) == {1, 2, 3, 4} and counts.count(1) > 130


def test_weights_are_one_and_some_are_varied(cache):
    samples = draw(cache)
    for weights in (samples.text_weight, samples.reference_weights, samples.memory_weight):
        some = weights[weights > 0]
        varied = some != 1.0
        assert share(varied) == pytest.approx(0.2, abs=0.04)
        assert some[varied].min() >= 0.4 and some[varied].max() <= 2.0 and some[varied].max() > 1.5


def test_the_memory_is_dropped_hard_and_by_style_in_its_shares(cache):
    samples = draw(cache)
    has_text, has_reference = kinds_of(samples)
    assert (samples.memory_weight[~has_text] == 0).all()
    assert share(samples.memory_weight == 0, has_text) == pytest.approx(0.1, abs=0.02)
    assert share(samples.memory_hard) == pytest.approx(0.8, abs=0.03)
    style = numbers(STYLES)
    same_style = style[samples.reference[:, 0]] == style[samples.image]
    by_references = has_text & has_reference & same_style & (samples.reference[:, 0] != samples.image)
    assert samples.memory_by_style[~by_references & has_text].float().mean() > 0.99
    assert share(samples.memory_by_style, by_references) == pytest.approx(0.5, abs=0.05)


def test_images_of_rare_concepts_are_drawn_more_often_and_only_targets_are_drawn():
    labels = ["person"] * 30 + ["cat", "dog", "star", "moon", "sun"]
    cache = cache_of([f"{label} {n}" for n, label in enumerate(labels)], ["flat"] * 35)
    sampler = Sampler(cache, labels, ["flat"] * 35, labels)
    image = sampler.draw(MANY, torch.Generator().manual_seed(0)).image
    assert share(image < 30) == pytest.approx(30**0.5 / (30**0.5 + 5), abs=0.03)
    only = Sampler(cache, labels, ["flat"] * 35, labels, targets=31)
    samples = only.draw(MANY, torch.Generator().manual_seed(0))
    assert set(samples.image.tolist()) == set(range(31))


def test_an_image_without_words_is_learned_from_itself(cache):
    cache.captions[:] = ["" if "moon" in caption else caption for caption in cache.captions]
    samples = draw(cache)
    mute = samples.image >= 8
    assert (samples.text_weight[mute] == 0).all() and (samples.memory_weight[mute] == 0).all()
    asked = mute & (samples.reference_weights > 0).any(1)
    assert share(asked, mute) > 0.9
    assert share(samples.reference[:, 0] == samples.image, asked) > 0.9


def test_with_one_style_references_show_the_concept():
    cache = cache_of(LABELS, ["flat"] * 10)
    samples = Sampler(cache, LABELS, ["flat"] * 10, LABELS).draw(MANY, torch.Generator().manual_seed(0))
    given = samples.reference_weights[:, 0] > 0
    label = numbers(LABELS)
    assert torch.equal(label[samples.reference[given, 0]], label[samples.image[given]])


def test_the_same_seed_draws_the_same(cache):
    one, same, other = draw(cache, 1), draw(cache, 1), draw(cache, 2)
    assert all(torch.equal(getattr(one, field.name), getattr(same, field.name)) for field in fields(Samples))
    assert not torch.equal(one.image, other.image)


def test_groups_find_others_and_each_alike():
    values = list("abacabadabacaba")
    groups = _Groups(values, torch.device("cpu"))
    image = torch.arange(len(values)).repeat(500)
    other = groups.another(image, torch.rand(len(image), generator=torch.Generator().manual_seed(0)))
    assert all(values[i] == values[o] for i, o in zip(image.tolist(), other.tolist(), strict=True))
    alone = torch.tensor([values.count(value) == 1 for value in values])
    assert torch.equal(other == image, alone[image])
    of_first = torch.bincount(other[image == 0], minlength=len(values))
    assert of_first[0] == 0 and (of_first[[2, 4, 6, 8, 10, 12, 14]] > 40).all()
    assert groups.another(torch.tensor([0]), torch.tensor([1.0 - 1e-8])).item() == 14
    assert groups.any(torch.tensor([0]), torch.tensor([1.0])).item() == 14


# The memory beside the images: 0 to 9 as in the cache, of which 9 is recoloured and no entry of it; besides, 1 shares
# its concept and style with 3.
CONCEPTS = [*LABELS[:2], LABELS[2], LABELS[1], *LABELS[4:]]


@pytest.fixture
def index(cache, monkeypatch) -> MemoryIndex:
    monkeypatch.setattr("mmgen.models.memory.ENOUGH", 0)  # Levels for these nine alone, to know them again.
    kept = np.arange(9)
    texts = [cache.captions[i] for i in cache.first_caption.tolist()]
    known = list(dict.fromkeys(texts[:9]))
    text_of = np.array([known.index(text) for text in texts[:9]])
    first = [texts.index(text) for text in known]
    memory = Memory.build(
        latents=cache.latents[:9].float(),
        keys=cache.keys[cache.first_caption[first]].float(),
        texts=known,
        text=text_of,
        concepts=CONCEPTS[:9],
        styles=STYLES[:9],
        sources=[("set", "CC0", "")] * 9,
        image_encoder_hash="",
        text_encoder_hash="",
    )
    concepts, styles = np.asarray(CONCEPTS, dtype=object), np.asarray(STYLES, dtype=object)
    return index_memory(memory, kept, text_of, concepts, styles, SLOTS)


def samples_of(images: list[int], hard: list[bool]) -> Samples:
    empty = dict.fromkeys(field.name for field in fields(Samples))
    return Samples(**{**empty, "image": torch.tensor(images), "memory_hard": torch.tensor(hard)})


def test_what_must_not_be_found(index):
    def excluded(image: int, hard: bool) -> set[int]:
        return set(index.excluded(samples_of([image], [hard]))[0].nonzero()[:, 0].tolist())

    for image in range(9):
        assert image in excluded(image, False) and image in excluded(image, True)
    assert excluded(0, False) == excluded(0, True) == {0}  # Its concept in the other style may be found.
    assert excluded(1, False) == {1} and excluded(1, True) == {1, 3}  # In its own style only when it is easy.
    assert excluded(3, False) == {3} and excluded(3, True) == {1, 3}
    assert STYLES[9] == "round" and CONCEPTS[9] == CONCEPTS[8] == "moon"
    assert excluded(9, False) == excluded(9, True) == set()  # Its twin is of another style.
    index.styles[9] = index.styles[8]
    assert excluded(9, False) == excluded(9, True) == {8}  # Recoloured from it: always hard.
    both = index.excluded(samples_of([1, 3, 0], [True, False, True]))
    assert both.shape == (3, 9) and both.sum(1).tolist() == [2, 1, 1]


def number_of(latents: torch.Tensor) -> torch.Tensor:
    """The images' numbers, of which their latents are made."""
    return latents.float().mean((-1, -2, -3)).round().long()


def test_a_batch_remembers_neighbours_and_references_never_the_target(cache, index):
    sampler = Sampler(cache, LABELS, STYLES, CONCEPTS)
    style = numbers(STYLES)
    assert torch.equal(number_of(index.memory.latents(torch.arange(9))), torch.arange(9))
    half = SLOTS // 2
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        samples = sampler.draw(64, generator)
        batch = make_batch(cache, samples, 16, generator, index)
        remembered, count = batch.remembered, samples.reference.shape[1]
        assert remembered.latents.shape == (64, SLOTS + count, 2, 2, 2)
        # A dropped memory weighs nothing; the same-style half counts where it is to.
        weights, dropped = remembered.weights[:, :SLOTS], samples.memory_weight == 0
        assert dropped.any() and (weights[dropped] == 0).all()
        assert (weights[:, half:][~samples.memory_by_style] == 0).all()
        assert torch.equal(weights[:, 0][~dropped], samples.memory_weight[~dropped])
        # What is found is in other styles, then in the target's; never the target, nor its concept where it is hard.
        found = number_of(remembered.latents[:, :SLOTS])
        target = samples.image[:, None].expand_as(found)
        counts = weights > 0
        assert (found != target)[counts].all()
        same_style = style[found] == style[target]
        assert not same_style[:, :half][counts[:, :half]].any() and same_style[:, half:][counts[:, half:]].all()
        concept = numbers(CONCEPTS)
        hard = counts & samples.memory_hard[:, None] & same_style
        assert (concept[found] != concept[target])[hard].all()
        assert (remembered.keys[:, :SLOTS].norm(dim=2)[counts] - 1).abs().max() < 1e-3
        # References come last, as they are, without words; the target among them has no weight.
        shown = remembered.latents[:, SLOTS:]
        assert torch.equal(shown, cache.latents[samples.reference].float())
        wanted = samples.reference_weights * (samples.reference != samples.image[:, None])
        assert torch.equal(remembered.weights[:, SLOTS:], wanted)
        assert not remembered.keys[:, SLOTS:].any() and not remembered.likeness[:, SLOTS:].any()
        assert (number_of(shown) != samples.image[:, None])[remembered.weights[:, SLOTS:] > 0].all()


def test_the_same_words_come_first_in_another_style(cache, index):
    """Looked up by the label's words and without noise, the first slot of a half is what they name."""
    sampler = Sampler(cache, LABELS, STYLES, CONCEPTS, kinds=(1.0, 0.0, 0.0, 0.0))
    generator = torch.Generator().manual_seed(0)
    samples = sampler.draw(256, generator)
    samples.caption = cache.first_caption[samples.image]
    batch = make_batch(cache, samples, 16, generator, index)
    label = numbers(LABELS)
    first = number_of(batch.remembered.latents[:, 0])
    known = samples.image < 8
    right = label[first] == label[samples.image]
    assert share(right, known & (batch.remembered.weights[:, 0] > 0)) > 0.5
    assert (batch.remembered.likeness[:, :2].diff(dim=1) <= 1e-6)[batch.remembered.weights[:, 1] > 0].all()


def test_a_batch_can_be_cut_and_moved(cache, index):
    generator = torch.Generator().manual_seed(0)
    batch = make_batch(cache, Sampler(cache, LABELS, STYLES, LABELS).draw(8, generator), 16, generator, index)
    some = batch[2:5].to(torch.device("cpu"))
    assert len(some) == 3 and torch.equal(some.z, batch.z[2:5])
    assert torch.equal(some.remembered.weights, batch.remembered.weights[2:5])
    assert torch.equal(some.condition["text"], batch.condition["text"][2:5])
    without = make_batch(cache, Sampler(cache, LABELS, STYLES, LABELS).draw(8, generator), 16, generator)
    assert without.remembered is None and without[:3].remembered is None
