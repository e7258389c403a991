"""The generator and what it remembers: weight zero is absence, and it learns to look from where it stood."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mmgen.models.fusion import Fused
from mmgen.models.generator import Generator, Remembered

SIZES = {"latent_channels": 4, "latent_size": 4, "noise_channels": 8, "width": 32, "depth": 3, "heads": 2}


@pytest.fixture
def generator() -> Generator:
    """One that has learned to look: every gate is open."""
    torch.manual_seed(0)
    made = Generator(**SIZES, memory_slots=4, memory_channels=6, head_channels=8).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
        made.memory_reader.gate.bias.zero_()
    return made


def inputs(n: int = 3) -> tuple[torch.Tensor, Fused]:
    torch.manual_seed(1)
    return torch.randn(n, 8), Fused(torch.randn(n, 5, 32), torch.zeros(n, 5), torch.randn(n, 32))


def remembered(n: int = 3, slots: int = 6, weight: float = 1.0) -> Remembered:
    """Four entries and two references."""
    torch.manual_seed(2)
    latents, keys = torch.randn(n, slots, 4, 4, 4), torch.randn(n, slots, 6)
    return Remembered(latents, keys, torch.rand(n, slots), torch.full((n, slots), weight))


@torch.no_grad()
def test_weight_zero_of_every_slot_is_exactly_absence(generator):
    z, fused = inputs()
    nothing = generator(z, fused)
    assert torch.equal(generator(z, fused, remembered=remembered(weight=0.0)), nothing)
    assert torch.equal(generator(z, fused, remembered=remembered(slots=0)), nothing)
    mixed = remembered()
    mixed.weights[1] = 0.0
    drawn = generator(z, fused, remembered=mixed)
    assert torch.equal(drawn[1], nothing[1])
    assert all((drawn[row] - nothing[row]).abs().max() > 0.01 for row in (0, 2))


@torch.no_grad()
def test_a_slot_of_weight_zero_may_hold_anything(generator):
    z, fused = inputs()
    one = remembered()
    one.weights[:, [1, 4]] = 0.0
    other = replace(one, latents=one.latents.clone(), keys=one.keys.clone())
    other.latents[:, [1, 4]] = 7.0
    other.keys[:, [1, 4]] = -3.0
    assert torch.equal(generator(z, fused, remembered=one), generator(z, fused, remembered=other))


@torch.no_grad()
def test_the_weight_leads_without_a_jump(generator):
    z, fused = inputs()
    drawn = [generator(z, fused, remembered=remembered(weight=weight)) for weight in (0.0, 0.001, 0.1, 1.0, 2.0)]
    moved = [(one - drawn[0]).abs().mean().item() for one in drawn]
    assert moved[0] == 0 < moved[1] < 0.05 * moved[3] and moved[1] < moved[2] < moved[3]
    assert (drawn[4] - drawn[3]).abs().max() > 0.01


@torch.no_grad()
def test_every_way_in_matters_and_slots_are_told_apart(generator):
    z, fused = inputs()
    whole = generator(z, fused, remembered=remembered())
    swapped = remembered()
    order = [1, 0, 2, 3, 4, 5]
    swapped = Remembered(**{name: value[:, order] for name, value in vars(swapped).items()})
    assert (generator(z, fused, remembered=swapped) - whole).abs().max() > 1e-3
    order = [0, 1, 2, 3, 5, 4]  # References share a slot: their order means nothing.
    swapped = Remembered(**{name: value[:, order] for name, value in vars(remembered()).items()})
    torch.testing.assert_close(generator(z, fused, remembered=swapped), whole, atol=1e-4, rtol=1e-4)
    reader = generator.memory_reader
    for part in (reader.aligned, reader.aligned_key.weight, *(block.to_out.weight for block in reader.blocks)):
        kept = part.clone()
        part.zero_()
        assert (generator(z, fused, remembered=remembered()) - whole).abs().max() > 1e-3
        part.copy_(kept)


@torch.no_grad()
def test_what_is_copied_is_told(generator):
    z, fused = inputs()
    told: list[torch.Tensor] = []
    generator(z, fused, remembered=remembered(), copied=told)
    assert told[0].shape == (3, 4, 6 * 4)
    shares = told[0].sum(-1)
    assert (shares > 0).all() and (shares < 1).all()
    generator.memory_reader.gate.bias.fill_(50.0)
    generator.memory_reader.gate.weight.zero_()
    generator.head = None
    told.clear()
    one = remembered(slots=1)
    drawn = generator(z, fused, remembered=one, copied=told)
    torch.testing.assert_close(told[0].sum(-1), torch.ones(3, 4))
    assert drawn.min() >= one.latents.min() - 1e-5 and drawn.max() <= one.latents.max() + 1e-5  # Nothing but copies.


@torch.no_grad()
def test_copies_come_from_their_own_place_at_first():
    """Sixteen places of four slots: the same place in each has more than all others together."""
    torch.manual_seed(0)
    sizes = {**SIZES, "latent_size": 8}
    generator = Generator(**sizes, memory_slots=4, memory_channels=6).eval()
    told: list[torch.Tensor] = []
    latents, keys = torch.randn(3, 4, 4, 8, 8), torch.randn(3, 4, 6)
    z, fused = inputs()
    generator(z, fused, remembered=Remembered(latents, keys, torch.rand(3, 4), torch.ones(3, 4)), copied=told)
    shares = told[0].unflatten(-1, (4, 16))
    own = shares.sum(2).diagonal(dim1=1, dim2=2)
    assert (own > 0.6 * told[0].sum(-1)).all()
    assert (shares.diagonal(dim1=1, dim2=3) > 0.05 * told[0].sum(-1)[:, None]).all()  # In every slot.


@torch.no_grad()
def test_a_generator_that_gets_a_memory_draws_as_before_without_it_and_copies_at_once():
    torch.manual_seed(0)
    old = Generator(**SIZES).eval()
    for parameter in old.parameters():
        if not parameter.any():
            parameter.normal_(std=0.3)
    new = old.with_memory(4, 6, head_channels=8).eval()
    z, fused = inputs()
    before = old(z, fused)
    assert torch.equal(new(z, fused), before)
    looked = new(z, fused, remembered=remembered())
    copied = remembered().latents.abs().mean() + before.abs().mean()
    assert 0.1 * copied < (looked - before).abs().mean() < 0.4 * copied  # Copies pass by about a quarter.
    assert new.config.memory_slots == 4 and new.with_memory(4, 6, head_channels=8).config == new.config
    assert torch.equal(new.with_memory(4, 6, head_channels=8)(z, fused, remembered=remembered()), looked)


@torch.no_grad()
def test_a_generator_from_before_there_was_a_memory_loads_and_draws_as_then(tmp_path):
    torch.manual_seed(0)
    old = Generator(**SIZES).eval()
    old.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = {name: value for name, value in json.loads(file.read_text()).items() if "memory" not in name}
    del config["head_channels"]
    file.write_text(json.dumps(config))
    loaded = Generator.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    z, fused = inputs()
    assert loaded.memory_reader is None and loaded.head is None
    assert torch.equal(loaded(z, fused), old(z, fused))
    assert torch.equal(loaded(z, fused, remembered=remembered()), old(z, fused))  # It has no eyes for it.
    assert set(loaded.state_dict()) == set(old.state_dict())


def test_gradients_reach_the_reader_at_once():
    """Each way starts at nothing, and can leave it: the first step moves its last weights."""
    torch.manual_seed(0)
    generator = Generator(**SIZES, memory_slots=4, memory_channels=6, head_channels=8)
    z, fused = inputs()
    (generator(z, fused, remembered=remembered()) - 1).square().mean().backward()
    reader = generator.memory_reader
    last = (reader.aligned, reader.aligned_key.weight, reader.gate.weight, reader.gate.bias, generator.head[2].weight)
    assert all(parameter.grad.abs().sum() > 0 for parameter in (*last, *(b.to_out.weight for b in reader.blocks)))
