"""The memory: what is looked up, what never is, and what is done with it; adding, removing, saving, and bad ones."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import COLOURS, STYLES, THINGS, tiny_pipeline

from mmgen import MultimodalGANPipeline
from mmgen.checkpoints import open_memory
from mmgen.errors import UserError
from mmgen.models.memory import (
    CANDIDATES,
    SAME,
    WINDOW,
    Memory,
    dequantise,
    encoder_fingerprint,
    fingerprint,
    quantisation_levels,
    quantise,
    without_style,
)
from mmgen.phrases import phrases
from mmgen.pipeline import WHOLE, things_of
from mmgen.training.common.checkpoint import save_checkpoint


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def build(
    entries: int = 60,
    labels: int = 20,
    styles: int = 3,
    keys: torch.Tensor | None = None,
    latents: torch.Tensor | None = None,
) -> Memory:
    """Entry e has label e % labels and style e // labels."""
    keys = unit(labels, 16) if keys is None else keys
    return Memory.build(
        latents=torch.randn(entries, 4, 2, 2, generator=seeded(1)) if latents is None else latents,
        keys=keys,
        texts=[f"label {n}" for n in range(labels)],
        text=[e % labels for e in range(entries)],
        concepts=[f"concept {e % labels}" for e in range(entries)],
        styles=[f"style {e // labels}" for e in range(entries)],
        sources=[("here", "MIT", "Ann")] * entries,
        image_encoder_hash="i",
        text_encoder_hash="t",
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sixteen_levels_lose_little():
    latents = torch.randn(100, 4, 8, 8) * torch.tensor([0.3, 1, 2, 5])[None, :, None, None] + 1
    levels = quantisation_levels(latents)
    codes = quantise(latents, levels)
    assert codes.dtype == torch.uint8 and codes.shape == (100, 4 * 8 * 8 // 2)
    error = (dequantise(codes, levels, 8) - latents).square().mean((0, 2, 3)) / latents.var((0, 2, 3))
    assert error.max() < 0.015  # Lloyd-Max at 4 bits of a normal distribution: 0.0095.
    few = quantisation_levels(torch.zeros(1, 4, 8, 8))
    assert (few.amax(1) > 1.5).all() and (few.amin(1) < -1.5).all()  # What comes later must fit too.


def test_half_by_content_half_by_style():
    memory = build()
    found = memory.lookup(memory.text_keys[[4, 7]], torch.tensor([0, 2]), temperature=0.0)
    assert found.latents.shape == (2, 4, 4, 2, 2) and found.keys.shape == (2, 4, 16)
    assert torch.equal(found.latents, memory.latents(found.entries)) and (found.weights == 1).all()
    for row, (label, style) in enumerate(((4, 0), (7, 2))):
        assert (memory.style[found.entries[row, :2]] != style).all()
        assert (memory.text[found.entries[row, :2]] == label).all()
        assert (memory.style[found.entries[row, 2:]] == style).all()
        assert int(memory.text[found.entries[row, 2]]) == label  # Nearest first.
        scores = memory.text_keys @ memory.text_keys[label]
        second = int(scores.argsort(descending=True)[1])
        assert int(memory.text[found.entries[row, 3]]) == second
        assert found.likeness[row].tolist() == pytest.approx([1, 1, 1, float(scores[second])], abs=1e-5)


def test_what_is_excluded_or_asked_for_is_never_found():
    memory = build()
    excluded = torch.zeros(1, 60, dtype=torch.bool)
    excluded[0, [24, 44]] = True
    for seed in range(20):
        found = memory.lookup(memory.text_keys[[4]], torch.tensor([0]), excluded, 0.5, seeded(seed), never_same=True)
        assert not {4, 24, 44} & set(found.entries[0].tolist())
        assert len(set(found.entries[0].tolist())) == 4
    assert 4 in memory.lookup(memory.text_keys[[4]], torch.tensor([0]), excluded, 0.0).entries[0]


def of_near_styles() -> Memory:
    """Whose third style draws nearly as the first does, and the second otherwise."""
    first, second, noise = torch.randn(3, 20, 4, 2, 2, generator=seeded(2))
    return build(latents=torch.cat([first, second, first + 0.05 * noise]))


def test_of_equal_words_the_style_that_differs_least_comes_first():
    memory = of_near_styles()
    affinity = memory.affinity()
    assert affinity.shape == (4, 3) and torch.equal(affinity[:3], affinity[:3].T) and not affinity[3].any()
    assert affinity[0, 2] > 0.3 > 0 > affinity[0, 1] and abs(float(affinity[1, 0] - affinity[1, 2])) < 0.05
    found = memory.lookup(memory.text_keys[[4, 4]], torch.tensor([0, 2]), temperature=0.0)
    assert found.entries[:, :2].tolist() == [[44, 24], [4, 24]]
    assert found.likeness[:, :2].tolist() == [pytest.approx([1, 1], abs=1e-5)] * 2  # It is told as it is.
    memory.remove(style="style 2")
    assert memory.affinity().shape == (3, 2)
    assert not build(entries=20).affinity().any()  # Of one style nothing can be told.


def test_seeds_choose_among_what_is_near_enough():
    angles = torch.linspace(0, 1.2, 20)
    memory = build(keys=torch.stack([angles.cos(), angles.sin()], 1))
    query, style = torch.tensor([[1.0, 0.0]]), torch.tensor([1])

    def chosen(seed: int, temperature: float) -> list[int]:
        return memory.lookup(query, style, None, temperature, seeded(seed)).entries[0].tolist()

    assert chosen(1, 0.0) == chosen(2, 0.0) and chosen(3, 0.1) == chosen(3, 0.1)
    several = [chosen(seed, 0.1) for seed in range(40)]
    assert len({tuple(entries) for entries in several}) > 10
    own = {entry for entries in several for entry in entries[2:]}
    near = {20 + n for n in range(20) if float(angles[n].cos()) >= 1 - WINDOW}
    assert len(near) < CANDIDATES and 4 < len(own) and own <= near


def test_fewer_entries_than_slots_leave_slots_empty():
    memory = build(entries=3, labels=3, styles=1)
    found = memory.lookup(memory.text_keys[[0]], torch.tensor([0]))
    assert found.weights[0].tolist() == [0, 0, 1, 1] and not found.latents[0, :2].any() and not found.keys[0, :2].any()
    found = memory.lookup(memory.text_keys[[0]], torch.tensor([0]), never_same=True, slots=8)
    assert found.weights[0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]


def test_words_without_their_style_and_things():
    assert without_style("a red apple, Fluent 3D style", ["fluent", "fluent 3d"]) == ("a red apple", "fluent 3d")
    assert phrases("a cat on a red mat") == ["cat", "red mat"] and phrases("the") == ["the"]


def test_the_nearest_of_each_style_and_of_all():
    memory = build()
    key = unit(1, 16, seed=3)
    scores = (memory.text_keys @ key[0])[memory.text.long()]
    assert memory.nearest(key).item() == pytest.approx(scores.max().item())
    by_style = memory.likeness_by_style(key, torch.arange(60) < 20)
    assert by_style[0] == -1 and by_style[1:].tolist() == pytest.approx([scores.max().item()] * 2)
    assert torch.allclose(memory.likeness(key, torch.tensor([5, 45])), scores[[5, 45]])


# In the pipeline.


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> MultimodalGANPipeline:
    return tiny_pipeline(tmp_path_factory.mktemp("memory"), memory=True)


@pytest.fixture
def mine(pipe) -> MultimodalGANPipeline:
    """A copy that may change."""
    return copy.deepcopy(pipe)


def image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 7, 4), dtype=np.uint8))


def entries_of(result) -> list[frozenset[int]]:
    return [frozenset(one.entry for one in shares) for shares in result.drawn_from]


def test_a_seed_draws_the_same_and_another_draws_from_other_entries(pipe):
    prompt = "a red apple, flat style"
    first, again = (pipe(prompt, seed=5, num_images=3) for _ in range(2))
    assert [a.tobytes() for a in first.images] == [b.tobytes() for b in again.images]
    assert first.drawn_from == again.drawn_from
    alone = pipe(["a blue cat", prompt], seed=6)
    assert alone.images[1].tobytes() == first.images[1].tobytes() and alone.drawn_from[1] == first.drawn_from[1]
    several = pipe(prompt, seed=0, num_images=12)
    assert len(set(entries_of(several))) > 6
    for shares in several.drawn_from:
        assert len(shares) == 4 and sum(one.style == "flat" for one in shares) == 2
        assert not [one for one in shares if one.style == "flat" and one.label == "red apple"]
        assert [one.share for one in shares] == sorted((one.share for one in shares), reverse=True)
        for one in shares:
            assert (one.licence, one.author) == (("CC-BY-4.0", "Ann") if one.style == "flat" else ("MIT", "Bob"))
    still = pipe(prompt, seed=0, num_images=4, truncation=0.0)
    assert len(set(entries_of(still))) == 1


def test_dropped_and_pinned_entries(pipe):
    prompt = "a red apple, flat style"
    before = pipe(prompt, seed=3)
    dropped = sorted(entries_of(before)[0])[:2]
    after = pipe(prompt, seed=3, memory_dropped=dropped)
    assert not set(dropped) & entries_of(after)[0]
    assert after.images[0].tobytes() != before.images[0].tobytes()
    pinned = pipe(prompt, seed=3, memory_pinned=[35, 0])
    assert {35, 0} < entries_of(pinned)[0]
    for wrong in ([36], [-1], ["x"]):
        with pytest.raises(UserError, match=f"no entry {wrong[0]}; it has 36"):
            pipe(prompt, memory_pinned=wrong)


def test_a_weight_of_zero_is_no_memory_to_the_bit(pipe):
    without = MultimodalGANPipeline(**{**pipe.components, "memory": None})
    assert len(without.memory) == 0
    prompt = "a red apple, flat style"
    plain = without(prompt, seed=2).images[0].tobytes()
    zero = pipe(prompt, seed=2, memory_weight=0)
    assert zero.images[0].tobytes() == plain and zero.drawn_from == [[]]
    assert pipe(prompt, seed=2).images[0].tobytes() != plain
    assert pipe(prompt, seed=2, memory_weight=0.5).images[0].tobytes() != pipe(prompt, seed=2).images[0].tobytes()
    for weight in (-0.1, 2.1, float("nan"), "x"):
        with pytest.raises(UserError, match="memory weight is"):
            pipe(prompt, memory_weight=weight)


def test_a_generator_without_slots_has_no_memory(tmp_path):
    plain = tiny_pipeline(tmp_path)
    assert plain.memory is None and plain("a cat", seed=1).drawn_from == [[]]
    assert plain("a cat", memory_weight=0).images[0].tobytes() == plain("a cat", memory_weight=2).images[0].tobytes()
    with pytest.raises(UserError, match="looks nothing up"):
        plain.use_memory(build())


def test_each_thing_of_a_prompt_is_looked_up_where_nothing_is_like_all_of_them(pipe, monkeypatch):
    monkeypatch.setattr("mmgen.pipeline.WHOLE", 1.01)
    query = pipe.memory_query("a red apple on a blue star, flat style")
    *both, apple, star = pipe.encode_keys(things_of("a red apple on a blue star"))
    assert torch.allclose(query.keys, torch.stack([apple, star] * 2), atol=1e-5)
    assert any(torch.allclose(query.whole, whole[None], atol=1e-5) for whole in both)
    assert pipe.memory.config.styles[query.style] == "flat"
    one = pipe.memory_query("red apple")
    assert torch.equal(one.keys, one.whole.expand(4, -1)) and one.style is None
    found = pipe.retrieve(query, 0, truncation=0.0)
    labels = [pipe.memory.about(int(entry)) for entry in found.entries[0]]
    assert [about["label"] for about in labels] == ["red apple", "blue star"] * 2
    assert [about["style"] == "flat" for about in labels] == [False, False, True, True]
    # How alike they are is said of all the words.
    assert torch.allclose(found.likeness, pipe.memory.likeness(query.whole, found.entries), atol=1e-5)
    assert found.likeness.max() < SAME


def test_several_things_are_looked_up_together_where_something_is_like_all_of_them(pipe):
    query = pipe.memory_query("a red apple on a blue star, flat style")
    assert pipe.memory.nearest(query.whole) >= WHOLE
    assert torch.equal(query.keys, query.whole.expand(4, -1))


@pytest.mark.parametrize("label", ["cat on a mat", "a cat on a mat"])
def test_what_was_asked_for_is_not_found_whether_its_label_has_an_article(mine, label):
    (entry,) = mine.memory.add([image(1)], label, style="flat")
    for prompt, never in (("a cat on a mat, flat style", True), ("a cat on a mat, round style", False)):
        query = mine.memory_query(prompt)
        assert mine.memory.nearest(query.whole) > SAME
        assert (entry in mine.retrieve(query, 0, truncation=0.0).entries) != never


def test_words_that_are_like_nothing_give_a_note(mine):
    assert mine("a red apple").notes == []
    mine.memory.text_keys = F.normalize(mine.memory.text_keys - mine.memory.text_keys.mean(0), dim=1)
    assert "The memory holds nothing like these words" in " ".join(mine("7 7 7").notes)


def test_what_is_added_is_found_and_goes_when_it_is_removed(mine):
    before, drawn = mine.memory.levels.clone(), mine("a green circle", seed=1).images[0].tobytes()
    added = mine.memory.add([image(1), image(2)], ["a green circle, on style", "red apple"], style="on", author="Cy")
    assert added == [36, 37] and len(mine.memory) == 38
    assert mine.memory.about(36) == {
        **{"label": "a green circle", "style": "on"},
        **{"source": "", "licence": "", "author": "Cy"},
    }
    assert torch.equal(mine.memory.levels, before) and len(mine.memory.config.texts) == 13
    assert mine.memory.concept[37] == mine.memory.concept[0] and mine.memory.concept[36] not in mine.memory.concept[:36]
    latent = mine.encode_images([image(1)])
    assert (mine.memory.latents(torch.tensor([36])) - latent).abs().mean() < 0.25 * latent.std()
    found = mine("a green circle, round style", seed=1, truncation=0.0)
    assert "a green circle" in [one.label for one in found.drawn_from[0]]
    assert (
        found.images[0].tobytes()
        != mine("a green circle, round style", seed=1, memory_dropped=[36]).images[0].tobytes()
    )
    assert mine.memory.remove(style="on") == 2
    assert mine("a green circle", seed=1).images[0].tobytes() == drawn
    assert mine.memory.config.styles == list(STYLES) and len(mine.memory.config.sources) == 2


def test_the_same_picture_with_the_same_words_is_one_entry(mine):
    first = mine.memory.add([image(5)], "a star", style="flat")
    again = mine.memory.add([image(5), image(5), image(6)], ["a star"] * 3, style="round", licence="MIT")
    assert first == [36] and again == [36, 36, 37] and len(mine.memory) == 38
    assert mine.memory.about(36)["style"] == "round" and mine.memory.about(36)["licence"] == "MIT"
    assert mine.memory.add([image(5)], "another star") == [38]


def test_removing_by_number_style_and_source(mine):
    kept = [mine.memory.about(entry) for entry in range(36) if entry not in (0, 35)]
    assert mine.memory.remove([0, 35, 35]) == 2
    assert [mine.memory.about(entry) for entry in range(34)] == kept
    assert mine.memory.remove([0, 1, 20], style="flat") == 2
    assert mine.memory.remove(source="the other set", style="round") == 12
    assert mine.memory.config.styles == ["flat", "left"] and mine.memory.config.entries == len(mine.memory) == 20
    for wrong, words in (
        ({}, "Nothing says"),
        ({"entries": [20]}, "no entry 20; it has 20"),
        ({"style": "round"}, "no style 'round'; it has flat, left"),
        ({"source": "x"}, "no source 'x'"),
    ):
        with pytest.raises(UserError, match=words):
            mine.memory.remove(**wrong)
    mine.memory.check()
    assert mine.memory.remove(range(20)) == 20 and mine("a red apple, flat style").drawn_from == [[]]


def test_an_empty_memory_takes_its_levels_from_what_is_added_first(pipe):
    empty = MultimodalGANPipeline(**{**pipe.components, "memory": None})
    empty.memory.add([image(1)], "a cat")
    levels = empty.memory.levels.clone()
    empty.memory.add([image(2)], "a dog")
    assert torch.equal(empty.memory.levels, levels) and levels.any()
    assert [one.label for one in empty("a cat").drawn_from[0]] == ["a dog"]


def test_what_cannot_be_added_changes_nothing(mine):
    before = copy.deepcopy(mine.memory.state_dict()), dict(mine.memory.config)
    for wrong, words in (
        (([], []), "no pictures"),
        (([image(1)], ["a", "b"]), "2 captions for 1 pictures"),
        (([image(1), image(2)], ["a", " "]), "Picture 2 has no caption"),
        (([image(1), b"no picture"], ["a", "b"]), "could not be read"),
        (([image(1)], ["a"], ["x", "y"]), "The style must be"),
    ):
        with pytest.raises(UserError, match=words):
            mine.memory.add(*wrong)
    assert dict(mine.memory.config) == before[1]
    assert all(torch.equal(value, mine.memory.state_dict()[name]) for name, value in before[0].items())
    with pytest.raises(UserError, match="belongs to no model"):
        copy.deepcopy(mine.memory).add([image(1)], "a")
    mine.memory.freeze()
    for change in (lambda: mine.memory.add([image(1)], "a"), lambda: mine.memory.remove([0])):
        with pytest.raises(UserError, match="shared by everybody"):
            change()
    copy.deepcopy(mine).memory.remove([0])
    assert len(mine.memory) == 36


def test_a_memory_does_not_keep_its_pipeline_alive(pipe):
    mine = copy.deepcopy(pipe)
    memory, gone = mine.memory, weakref.ref(mine)
    del mine
    gc.collect()
    assert gone() is None
    with pytest.raises(UserError, match="belongs to no model"):
        memory.add([image(1)], "a")
    MultimodalGANPipeline(**{**pipe.components, "memory": memory}).memory.remove([0])


def test_the_encoders_are_known_by_their_weights(pipe, mine):
    assert pipe.memory.config.image_encoder_hash == encoder_fingerprint(copy.deepcopy(mine.autoencoder).half().float())
    next(mine.autoencoder.decoder.parameters()).data.add_(1)
    assert pipe.memory.config.image_encoder_hash == encoder_fingerprint(mine.autoencoder)
    mine.autoencoder.scale.mul_(2)
    assert pipe.memory.config.image_encoder_hash != encoder_fingerprint(mine.autoencoder)
    with pytest.raises(UserError, match="made by another autoencoder"):
        mine.memory.add([image(1)], "a")
    assert pipe.memory.config.text_encoder_hash == fingerprint(mine.text_encoder)


# On disk.


@pytest.fixture(scope="module")
def saved(pipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    changed = copy.deepcopy(pipe)
    changed.memory.add([image(1)], "a green circle", style="on", source="mine", licence="CC0-1.0", author="Cy")
    changed.memory.remove([3, 30])
    changed.save_pretrained(folder / "whole")
    save_checkpoint(folder / "half", changed, [["a red apple"]])
    changed.memory.save(folder / "alone")
    return folder


def test_saving_and_loading_draws_the_same(saved):
    whole, half = (MultimodalGANPipeline.from_pretrained(saved / name) for name in ("whole", "half"))
    assert len(whole.memory) == len(half.memory) == 35
    assert whole.memory.about(34) == half.memory.about(34)
    assert whole.memory.about(34)["label"] == "a green circle" and whole.memory.about(34)["source"] == "mine"
    again = copy.deepcopy(whole)
    drawn = whole("a red apple, flat style", seed=4)
    assert again("a red apple, flat style", seed=4).images[0].tobytes() == drawn.images[0].tobytes()
    assert again.memory.add([image(9)], "a dog") == [35] and len(whole.memory) == 35  # Bound to the copy alone.
    assert half("a red apple, flat style", seed=4).drawn_from[0][0].entry == drawn.drawn_from[0][0].entry


def test_a_memory_by_itself(saved, pipe, mine, tmp_path):
    alone = open_memory(saved / "alone")
    assert len(alone) == 35 and len(open_memory(saved / "half")) == 35
    mine.use_memory(alone)
    other = MultimodalGANPipeline.from_pretrained(saved / "half")
    drawn = [one("a red apple, flat style", seed=4).drawn_from[0] for one in (mine, other)]
    assert [[one.entry for one in shares] for shares in drawn][0] == [one.entry for one in drawn[1]]
    alone.save(tmp_path / "again")
    mine.memory.add([image(3)], "a")
    mine.memory.save(tmp_path / "again")
    assert len(open_memory(tmp_path / "again")) == 36 and [path.name for path in tmp_path.iterdir()] == ["again"]
    (tmp_path / "again" / "config.json").write_text("{}")
    for place in (tmp_path / "again", saved / "whole", tmp_path / "again/config.json/x"):
        with pytest.raises(UserError, match="holds something else|cannot be written"):
            mine.memory.save(place)


def config_of(memory: Path, **changes) -> None:
    file = memory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def weights_of(memory: Path, **changes) -> None:
    file = memory / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), **changes}, file, {"format": "pt"})


def cut_short(memory: Path) -> None:
    file = memory / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def emptied(memory: Path) -> None:
    (memory / "diffusion_pytorch_model.safetensors").write_bytes(b"")


def of_pickles(memory: Path) -> None:
    (memory / "diffusion_pytorch_model.safetensors").unlink()
    (memory / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({"codes": 1}))


BAD = {
    "autoencoder": (lambda m: config_of(m, image_encoder_hash="0" * 16), "made by another autoencoder"),
    "words": (lambda m: config_of(m, text_encoder_hash="0" * 16), "made by another text encoder"),
    "short": (cut_short, "damaged"),
    "empty": (emptied, "damaged"),
    "pickles": (of_pickles, "pickles, which may run any code"),
    "missing": (lambda m: (m / "diffusion_pytorch_model.safetensors").unlink(), "has no diffusion_pytorch_model"),
    "config": (lambda m: (m / "config.json").unlink(), "no config.json"),
    "entries": (lambda m: config_of(m, entries=9), "do not fit the model"),
    "texts": (lambda m: config_of(m, texts=["a"]), "do not fit the model"),
    "number": (lambda m: config_of(m, texts=7), "not whole"),
    "sources": (lambda m: config_of(m, sources=[]), "names a source that it does not hold"),
    "origin": (lambda m: config_of(m, sources=[{"source": "x"}] * 9), "not exactly source, licence and author"),
    "style": (lambda m: weights_of(m, style=torch.full((35,), 99, dtype=torch.int32)), "names a style"),
    "text": (lambda m: weights_of(m, text=torch.full((35,), -1, dtype=torch.int32)), "names a text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_memory_is_told_in_a_sentence(saved, pipe, tmp_path, name):
    spoil, words = BAD[name]
    folder = shutil.copytree(saved / "half", tmp_path / "bad")
    spoil(folder / "memory")
    with pytest.raises(UserError, match=words) as told:
        MultimodalGANPipeline.from_pretrained(folder)
    assert str(told.value).endswith(".")
    before = pipe("a red apple", seed=1).images[0].tobytes()
    with pytest.raises(UserError, match="no memory|" + words if name != "number" else "not a whole one"):
        pipe.use_memory(open_memory(folder))
    assert pipe("a red apple", seed=1).images[0].tobytes() == before and len(pipe.memory) == 36


def test_a_memory_of_another_model_is_told(saved, pipe, tmp_path):
    for changes, words in (
        ({"latent_channels": 8}, "latent channels are 8 and this model's 4"),
        ({"latent_size": 4}, "latent size are 4"),
        ({"key_channels": 16}, "key channels are 16"),
    ):
        config = {**pipe.memory.config, "entries": 1, "texts": ["a"], "styles": [""], **changes}
        other = Memory(**{name: value for name, value in config.items() if not name.startswith("_")})
        with pytest.raises(UserError, match=words):
            pipe.use_memory(other)
        folder = shutil.copytree(saved / "half", tmp_path / words)
        shutil.rmtree(folder / "memory")
        other.save(folder / "memory")
        with pytest.raises(UserError, match="memory has"):
            MultimodalGANPipeline.from_pretrained(folder)
    with pytest.raises(UserError, match="The memory is empty"):
        pipe.use_memory(Memory())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="There is no memory in"):
        open_memory(tmp_path / "nothing")


def test_a_memory_that_no_generator_reads_is_refused(saved, tmp_path_factory, tmp_path):
    plain = tiny_pipeline(tmp_path)
    save_checkpoint(tmp_path / "plain", plain, [[]])
    assert not (tmp_path / "plain/memory").exists()
    drawn = MultimodalGANPipeline.from_pretrained(tmp_path / "plain")("a cat", seed=1)
    shutil.copytree(saved / "half/memory", tmp_path / "plain/memory")
    index = tmp_path / "plain/model_index.json"
    content = json.loads(index.read_text())
    again = MultimodalGANPipeline.from_pretrained(tmp_path / "plain")("a cat", seed=1)
    assert again.images[0].tobytes() == drawn.images[0].tobytes()
    index.write_text(json.dumps({**content, "memory": ["mmgen.models.memory", "Memory"]}))
    with pytest.raises(UserError, match="the generator has no slots"):
        MultimodalGANPipeline.from_pretrained(tmp_path / "plain")


def test_the_page_leaves_the_shared_memory_alone(mine):
    from mmgen.services.inference import GenerationRequest, InferenceService

    service = InferenceService(mine)
    before = copy.deepcopy(mine.memory.state_dict())
    service.draw(GenerationRequest("a red apple", seed=1))
    assert all(torch.equal(value, mine.memory.state_dict()[name]) for name, value in before.items())
    with pytest.raises(UserError, match="shared by everybody"):
        service.pipe.memory.add([image(1)], "a")


def test_the_tiny_memory_is_what_its_tests_say(pipe):
    assert len(pipe.memory) == len(STYLES) * len(COLOURS) * len(THINGS) == 36
    assert pipe.memory.counts("style") == [12, 12, 12] and pipe.memory.counts("source") == [12, 24]
