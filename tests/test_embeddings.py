"""What encoders made is kept: drawings are the same to the bit with and without, and nothing stale is ever taken."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from mmgen.models.embeddings import EmbeddingCache, image_hash
from mmgen.pipeline import things_of
from mmgen.services.inference import GenerationRequest, InferenceService
from tests.tiny import tiny_pipeline

APPLE = "a red apple on a blue star, flat style"


def image(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (16, 16, 4), dtype=np.uint8))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"), memory=True)


@pytest.fixture
def pipe(whole):
    return copy.deepcopy(whole)


@pytest.fixture
def passes(pipe):
    """How often each encoder and the fusion ran."""
    counts = {"text_encoder": 0, "image_encoder": 0, "fusion": 0, "generator": 0}

    def count(name):
        def ran(*_):
            counts[name] += 1

        return ran

    for name in counts:
        getattr(pipe, name).register_forward_hook(count(name))
    return counts


def drawn(pipe, **options) -> list[bytes]:
    return [one.tobytes() for one in pipe(**{"prompt": APPLE, "references": [image(1)], **options}).images]


def test_a_drawing_is_the_same_to_the_bit_with_and_without_what_was_kept(pipe):
    asked = [
        dict(seed=seed, truncation=truncation, memory_weight=weight)
        for seed in (0, 1)
        for truncation in (1.0, 0.3)
        for weight in (1.0, 0.0)
    ]
    fresh = []
    for options in asked:
        pipe.embeddings.clear()
        fresh.append(drawn(pipe, **options))
    pipe.embeddings.clear()
    assert [drawn(pipe, **options) for options in asked] == fresh
    assert [drawn(pipe, **options) for options in reversed(asked)] == fresh[::-1]


def test_another_seed_or_truncation_runs_no_encoder(pipe, passes):
    drawn(pipe)
    assert passes == {"text_encoder": 1, "image_encoder": 1, "fusion": 1, "generator": 1}
    drawn(pipe, seed=5)
    drawn(pipe, truncation=0.5)
    drawn(pipe, references=[image(1).copy()])  # The same pixels, given anew.
    assert passes == {"text_encoder": 1, "image_encoder": 1, "fusion": 1, "generator": 4}
    drawn(pipe, reference_weights=[0.5])
    assert passes["fusion"] == 2 and passes["text_encoder"] == 1
    drawn(pipe, prompt="a green cat", references=[image(2)])
    assert passes["text_encoder"] == 2 and passes["image_encoder"] == 2


def test_the_page_reads_words_and_references_once(pipe, passes, tmp_path):
    service, path = InferenceService(pipe), tmp_path / "one.png"
    image(1).save(path)
    asked = dict(prompt=APPLE, references=(str(path),), reference_weights=(1.0,))
    first = service.draw(GenerationRequest(**asked, seed=1))
    again = service.draw(GenerationRequest(**asked, seed=1, truncation=1))
    assert passes == {"text_encoder": 1, "image_encoder": 1, "fusion": 1, "generator": 2}
    assert first.images[0].tobytes() == again.images[0].tobytes() and first.notes == again.notes
    image(2).save(path)
    other = service.draw(GenerationRequest(**asked, seed=1))
    assert passes["image_encoder"] == 2 and other.images[0].tobytes() != first.images[0].tobytes()


def test_a_prompt_and_its_things_are_read_in_one_pass(pipe, passes):
    query = pipe.memory_query(APPLE)  # Outside of inference nothing is kept.
    assert passes["text_encoder"] == 1
    with torch.no_grad():
        content = pipe.content_of(APPLE)
        fused = pipe.fuse(APPLE, pipe.encode_references(()), (), content=content)
        assert content == "a red apple on a blue star" and torch.equal(pipe.memory_query(APPLE).keys, query.keys)
        assert passes["text_encoder"] == 2
        alone = pipe.fuse(APPLE, pipe.encode_references(()), ())
        assert passes["text_encoder"] == 3 and torch.allclose(fused.tokens, alone.tokens, atol=1e-5)
        whole, bare, *things = pipe.encode_keys(things_of(content))
        assert torch.allclose(pipe.encode_prompt(APPLE, content).keys, torch.stack([whole, bare, *things]), atol=1e-5)
        same = pipe.encode_prompt("red apple", "red apple").keys  # All its things are the prompt itself.
        assert same.shape == (2, 32) and torch.equal(same[0], same[1])


def change_weights(pipe):
    with torch.no_grad():
        pipe.text_encoder.embeddings.word_embeddings.weight.mul_(-1)


def load_weights(pipe):
    pipe.text_encoder.load_state_dict({name: value * 0.5 for name, value in pipe.text_encoder.state_dict().items()})


def replace_encoder(pipe):
    pipe.text_encoder = copy.deepcopy(pipe.text_encoder)
    change_weights(pipe)


def change_fusion(pipe):
    with torch.no_grad():
        pipe.fusion.summary.add_(3)


def train_step(pipe):
    weights = pipe.fusion.requires_grad_(True).parameters()
    optimizer = torch.optim.AdamW(weights, lr=0.3)
    with torch.enable_grad():
        pipe.fuse(APPLE, pipe.encode_references([image(1)]), [1.0]).tokens.square().sum().backward()
    optimizer.step()
    pipe.fusion.requires_grad_(False)


def change_image_encoder(pipe):
    with torch.no_grad():
        for weight in pipe.image_encoder.parameters():
            weight.mul_(1.5)


def change_autoencoder(pipe):
    with torch.no_grad():
        pipe.autoencoder.shift.add_(1)


def round_trip(pipe):
    for part in (pipe.text_encoder, pipe.fusion):
        part.to(torch.float16)
        part.to(torch.float32)


CHANGES = [
    *(change_weights, load_weights, replace_encoder, change_fusion, train_step, change_image_encoder),
    *(change_autoencoder, round_trip),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_kept_is_not_taken_once_weights_have_changed(pipe, change):
    before = pipe(APPLE, references=[image(1)], output_type="pt").images
    change(pipe)
    after = pipe(APPLE, references=[image(1)], output_type="pt").images
    pipe.embeddings.clear()
    assert torch.equal(after, pipe(APPLE, references=[image(1)], output_type="pt").images)
    assert not torch.equal(after, before)


def test_what_was_kept_is_not_taken_once_the_memory_has_changed(pipe):
    before = pipe(APPLE)
    pipe.memory.add([image(7)], ["red apple"], style="flat")
    grown = pipe(APPLE)
    pipe.memory.remove(style="flat")
    shrunk = pipe(APPLE)
    assert len({one.images[0].tobytes() for one in (before, grown, shrunk)}) == 3
    pipe.embeddings.clear()
    assert pipe(APPLE).images[0].tobytes() == shrunk.images[0].tobytes()


def test_nothing_is_kept_of_a_network_in_training(pipe):
    pipe(APPLE)
    pipe.text_encoder.train()
    one, other = (pipe(APPLE, output_type="pt").images for _ in range(2))
    assert not torch.equal(one, other)  # Dropout.


def test_a_copy_keeps_nothing_of_the_original(pipe):
    pipe(APPLE)
    assert len(pipe.embeddings.words) == 1 and len(copy.deepcopy(pipe).embeddings.words) == 0


def test_the_oldest_goes_first_and_threads_agree():
    cache, made = EmbeddingCache(3), []

    def ask(key: int) -> int:
        with torch.no_grad():
            return cache.get((), key, lambda: made.append(key) or key * 2)

    for key in (1, 2, 3, 1, 4):
        ask(key)
    assert made == [1, 2, 3, 4] and len(cache) == 3
    assert [ask(key) for key in (1, 3, 4, 2)] == [2, 6, 8, 4] and made[4:] == [2]
    wrong: list[int] = []

    def ask_often(first: int) -> None:
        wrong.extend(key for key in range(first, 300) if ask(key % 5) != key % 5 * 2)

    threads = [threading.Thread(target=ask_often, args=[first]) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(cache) == 3


def test_images_are_told_apart_by_what_they_show():
    wide, high = Image.new("RGBA", (2, 8)), Image.new("RGBA", (8, 2))
    assert image_hash(wide) == image_hash(wide.copy()) and image_hash(wide) != image_hash(high)
    assert image_hash(image(1)) != image_hash(image(2))
